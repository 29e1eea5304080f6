"""The tape: depth, memory, repeated backward, changes in place, anomalies, threads."""

import gc
import re
import threading
import tracemalloc
import weakref

import numpy as np
import pytest

import microgradx as mg
from microgradx import nn
from microgradx.errors import GradientError, NonFiniteError, ShapeError


def leaf(*values, dtype=np.float32):
    return mg.tensor(np.array(values, dtype), requires_grad=True)


@pytest.fixture(scope="module")
def step():
    """One step of plain gradient descent on a small network."""
    rng = np.random.default_rng(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    x, y = rng.normal(size=(16, 4)).astype(np.float32), rng.integers(0, 3, 16)

    def step():
        model.zero_grad()
        loss = nn.cross_entropy(model(x), y)
        loss.backward()
        for p in model.parameters():
            p.data -= 0.1 * p.grad.data
        return loss.item()

    step()
    return step


# Depth and memory


def test_a_chain_of_30000_operations():
    x = leaf(1.0)
    y = x
    for _ in range(30_000):
        y = -y
    y.backward()
    assert x.grad.item() == 1
    for _ in range(30_000):
        y = y * 1.0
    del y  # letting go of a long chain that backward has not freed


def test_a_wide_and_deep_diamond_is_walked_once():
    x = y = leaf(1.0, dtype=np.float64)
    for _ in range(60):
        y = y + y  # 2⁶⁰ paths
    y.backward()
    assert x.grad.item() == 2.0**60


def test_memory_is_freed_as_backward_passes():
    x = leaf(*range(1000))
    a = x * 2
    b = mg.exp(-a)
    c = b * b
    kept = [weakref.ref(t.data) for t in (a, b)]
    del a, b
    assert kept[1]() is not None  # saved for backward
    c.sum().backward()
    assert [r() for r in kept] == [None, None]


def test_what_no_rule_reads_is_let_go_at_once():
    x = leaf(1.0, 2.0)
    a = x + 1
    freed = weakref.ref(a.data)
    y = (a + 1).sum()
    del a
    assert freed() is None
    y.backward()


def test_backward_holds_little_more_than_the_saved_values():
    size = 1 << 16
    x = mg.Tensor(np.ones(size, np.float32), requires_grad=True)
    y = x
    for _ in range(50):
        y = mg.exp(y * 1e-3)
    loss = y.sum()
    del y
    tracemalloc.start()
    loss.backward()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * 4 * size


def test_no_cycles(step):
    step()  # what compiles its kernel leaves some
    gc.collect()
    gc.disable()
    try:
        found = []
        for _ in range(3):  # cycles of a step come every time; those of another thread may come once
            step()
            found.append(gc.collect())
        assert found.count(0) >= 2, found
    finally:
        gc.enable()


def test_no_growth_over_many_steps(step):
    for _ in range(100):
        step()
    gc.collect()
    tracemalloc.start()
    step()
    before = tracemalloc.take_snapshot()
    for _ in range(500):
        step()
    gc.collect()  # Python keeps up to 2,000 freed tuples of a size for later
    after = tracemalloc.take_snapshot()
    tracemalloc.stop()
    grown = sum(s.size_diff for s in after.compare_to(before, "filename") if s.size_diff > 0)
    assert grown < 20_000


# Backward, again


def test_a_second_backward_says_what_to_do():
    x = leaf(1.0, 2.0)
    y = (x * x).sum()
    y.backward()
    message = r"freed what it needed \(sum\).*Run the forward pass again, or .*backward\(retain_graph=True\)"
    with pytest.raises(GradientError, match=message):
        y.backward()
    z = x * x
    a, b = z.sum(), (z * 3).sum()
    a.backward()
    with pytest.raises(GradientError, match=r"freed what it needed \(multiply\)"):
        b.backward()


def test_retain_graph_accumulates():
    x = leaf(1.0, 2.0)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    np.testing.assert_array_equal(x.grad.data, [4, 8])
    x.grad = None
    assert x.grad is None


def test_backward_needs_something_to_do():
    with pytest.raises(GradientError, match=r"requires_grad=True, or was computed under no_grad\(\)"):
        mg.tensor([1.0]).backward()
    with pytest.raises(GradientError, match=r"tensor of shape \(2,\) needs the gradient .*y.sum\(\)"):
        (leaf(1.0, 2.0) * 2).backward()
    with pytest.raises(ShapeError, match=r"the gradient has shape \(3,\), the tensor \(2,\)"):
        (leaf(1.0, 2.0) * 2).backward(np.ones(3))


def test_backward_with_a_gradient():
    x = leaf(1.0, 2.0)
    (x * 3).backward([1, 10])
    np.testing.assert_array_equal(x.grad.data, [3, 30])
    x.backward([1.0, 1.0])  # a leaf is its own graph
    np.testing.assert_array_equal(x.grad.data, [4, 31])
    assert x.grad.dtype == np.float32


def test_gradients_are_summed_over_what_was_repeated():
    x, w = mg.ones(3, 1, requires_grad=True), leaf(2.0)
    (x * np.ones((2, 3, 4), np.float32) * w).sum().backward()
    np.testing.assert_array_equal(x.grad.data, np.full((3, 1), 16))
    assert w.grad.shape == (1,) and w.grad.item() == 24


def test_mixed_dtypes_give_each_leaf_its_own():
    x, y = leaf(1.0, 2.0), leaf(3.0, 4.0, dtype=np.float64)
    z = x * y
    assert z.dtype == np.float64
    z.sum().backward()
    assert x.grad.dtype == np.float32 and y.grad.dtype == np.float64


def test_the_gradient_is_the_tensors_own():
    x = leaf(1.0, 2.0)
    g = np.ones(2, np.float32)
    (x + 0).backward(g)
    (x + 0).backward(g)
    np.testing.assert_array_equal(g, [1, 1])
    np.testing.assert_array_equal(x.grad.data, [2, 2])
    y, z = leaf(1.0), leaf(1.0)
    (y + z).backward()
    assert not np.shares_memory(y.grad.data, z.grad.data)


def test_a_gradient_in_the_optimizers_buffer():
    buffer = np.full(5, 9.0, np.float32)
    x = leaf(1.0, 2.0)
    x._home = buffer[1:3]
    for times in (1, 2):
        (x * x).sum().backward()
        assert x.grad.data is x._home
        np.testing.assert_array_equal(buffer, [9, 2 * times, 4 * times, 9, 9])
    x.grad = None
    (x * 3 + x.detach()).sum().backward()
    np.testing.assert_array_equal(buffer, [9, 3, 3, 9, 9])


def test_create_graph():
    x = leaf(2.0)
    (x**3).backward(create_graph=True)
    first = x.grad
    assert first.requires_grad and first.item() == 12
    x.grad = None
    first.backward(create_graph=True)
    assert x.grad.item() == 12
    second, x.grad = x.grad, None
    second.backward()
    assert x.grad.item() == 6
    x.grad = None


def test_no_grad():
    x = leaf(1.0)
    with mg.no_grad():
        assert not (x * 2).requires_grad
    assert (x * 2).requires_grad

    @mg.no_grad()
    def double(x):
        return x * 2

    assert not double(x).requires_grad
    with pytest.raises(ZeroDivisionError), mg.no_grad():
        raise ZeroDivisionError
    assert (x * 2).requires_grad and not (x * 2).detach().requires_grad


# Changes in place


def by_setitem(t):
    with mg.no_grad():
        t[0] = 7.0


def by_data(t):
    t.data = np.zeros_like(t.data)


def by_subtraction(t):
    t.data -= 1


def by_view(t):
    t.reshape(-1, 1).data += 1


def by_detached(t):
    t.detach()[0] = 5.0


CHANGES = [by_setitem, by_data, by_subtraction, by_view, by_detached]


@pytest.mark.parametrize("change", CHANGES, ids=lambda f: f.__name__)
def test_a_changed_input_is_noticed(change):
    x = leaf(1.0, 2.0)
    y = mg.sin(x)
    change(x)
    message = r"sin: backward needs its input 0, but it was changed in place.* Change a copy, or make the"
    with pytest.raises(GradientError, match=message):
        y.sum().backward()


@pytest.mark.parametrize("change", CHANGES, ids=lambda f: f.__name__)
def test_a_changed_output_is_noticed(change):
    y = mg.exp(leaf(1.0, 2.0))
    z = y.sum()
    change(y)
    with pytest.raises(GradientError, match=r"exp: backward needs its output, but it was changed"):
        z.backward()


def test_a_change_through_the_base_of_a_view_is_noticed():
    x = leaf(1.0, 2.0, 3.0)
    a = x * 1
    y = mg.sin(a[1:])
    by_setitem(a)
    with pytest.raises(GradientError, match=r"sin: backward needs its input 0"):
        y.sum().backward()


@pytest.mark.parametrize("change", CHANGES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("name", ["exp", "sum", "mean", "negative", "softmax", "cat", "T", "getitem"])
def test_a_change_of_what_backward_does_not_read_is_allowed(change, name):
    x = mg.ones(3, 2, requires_grad=True)
    a = x * 1
    if name == "negative":
        y = -a
    elif name == "cat":
        y = mg.cat([a, a])
    elif name == "T":
        y = -a.T
    elif name == "getitem":
        y = a[1] + 2
    else:
        y = getattr(a, name)()
    change(a)
    y.sum().backward()
    assert x.grad.shape == (3, 2)


def test_an_index_may_be_changed_afterwards():
    x, index = leaf(1.0, 2.0, 3.0), np.array([0, 0])
    y = x[index] * 2
    index[:] = 2
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.data, [4, 0, 0])


def test_a_gradient_that_is_added_to_has_changed():
    x, w = leaf(1.0, 2.0), leaf(1.0, 1.0)
    (x * x).sum().backward()
    y = (w * x.grad).sum()
    (x * x).sum().backward()
    with pytest.raises(GradientError, match=r"multiply: backward needs its input 1"):
        y.backward()


def test_setitem_needs_no_grad():
    x = leaf(1.0, 2.0)
    with pytest.raises(
        GradientError, match=r"Use where\(mask, new, old\), or assign inside `with mg.no_grad"
    ):
        x[0] = 1.0
    t = mg.zeros(3)
    t[1:] = mg.ones(2)
    t[mg.tensor([True, False, False])] = 5
    assert t.tolist() == [5, 1, 1]


# Anomalies


def here(error):
    """The line of this file that an error names."""
    found = re.search(r"test_tape.py:(\d+) +(.*)", str(error.value))
    assert found, error.value
    return found[2]


def test_a_nan_of_forward_is_located():
    x = leaf(1.0, -1.0)
    with mg.detect_anomaly(), pytest.raises(NonFiniteError, match=r"log produced nan from .* 1 of 2") as e:
        mg.log(x)  # here
    assert here(e) == "mg.log(x)  # here" and "first at index (1,)" in str(e.value)


def test_an_infinity_of_forward_is_located():
    with mg.detect_anomaly(), pytest.raises(NonFiniteError, match=r"divide produced inf") as e:
        leaf(1.0) / 0  # there
    assert here(e) == "leaf(1.0) / 0  # there"


def test_a_nan_inside_a_layer_is_located_where_the_user_called_it():
    model = nn.Sequential(nn.Linear(2, 2), nn.Tanh())
    model[0].weight.data *= 1e38
    with (
        np.errstate(over="ignore"),
        mg.detect_anomaly(),
        pytest.raises(NonFiniteError, match=r"affine produced") as e,
    ):
        model(np.full((1, 2), 1e38, np.float32))  # model
    assert here(e).endswith("# model")


def test_an_infinity_that_came_in_is_not_blamed():
    with mg.detect_anomaly():
        assert np.isinf((leaf(np.inf) * 2).item())


def test_an_infinite_gradient_is_located():
    x = leaf(0.0, 1.0)
    with mg.detect_anomaly():
        y = mg.sqrt(x)  # root
        with pytest.raises(NonFiniteError, match=r"sqrt: its derivative produced a NaN or an infinity") as e:
            y.sum().backward()
    assert here(e) == "y = mg.sqrt(x)  # root" and "input of shape (2,)" in str(e.value)


def test_changes_behind_the_back_are_noticed():
    x = leaf(1.0, 2.0)
    with mg.detect_anomaly():
        y = mg.sin(x)  # behind
        x.data[0] = 5
        with pytest.raises(GradientError, match=r"sin: backward needs its input 0.*changed in place") as e:
            y.sum().backward()
    assert here(e) == "y = mg.sin(x)  # behind"


def test_finite_second_derivatives_pass_the_detector():
    x = leaf(-1.0, 2.0)
    with mg.detect_anomaly():
        g = mg.grad(lambda x: (x**3).sum(), create_graph=True)(x)
        g.sum().backward()
    np.testing.assert_array_equal(x.grad.data, [-6, 12])


# Threads


def test_modes_belong_to_a_thread():
    x, inside, leave, seen = leaf(1.0), threading.Event(), threading.Event(), []

    def other():
        with mg.no_grad(), mg.detect_anomaly():
            inside.set()
            leave.wait(10)
            seen.append((x * 2).requires_grad)

    thread = threading.Thread(target=other)
    thread.start()
    inside.wait(10)
    y = x * np.float32(3)
    assert y.requires_grad
    assert np.isinf((x / 0).item())
    leave.set()
    thread.join()
    assert seen == [False]


def test_threads_train_side_by_side():
    results = {}

    def train(seed):
        rng = np.random.default_rng(seed)
        x = mg.Tensor(rng.normal(size=5), requires_grad=True)
        for _ in range(200):
            x.grad = None
            (x * x * mg.exp(-x)).sum().backward()
        results[seed] = x.data, x.grad.data

    threads = [threading.Thread(target=train, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for x, g in results.values():
        np.testing.assert_allclose(g, (2 * x - x * x) * np.exp(-x), rtol=1e-12)


def test_a_change_of_an_input_that_was_handed_on_is_noticed():
    @mg.primitive
    def same(x):
        return x

    @same.vjp
    def _(g, out, x):
        return g

    x = mg.tensor([1.0, 2.0], requires_grad=True)
    y = mg.exp(same(x)) * same(x)
    x.data += 1
    with pytest.raises(mg.MicrogradxError, match="changed in place"):
        y.sum().backward()
