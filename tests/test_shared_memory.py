"""Tensors that share memory: compiled steps leave what eager ones do, or say that they cannot."""

from functools import partial

import numpy as np
import pytest
from test_cuda import needs_cuda

import microgradx as mg
from microgradx import optim
from microgradx.errors import CaptureError, GradientError
from microgradx.kernels.addresses import address

pytestmark = pytest.mark.interpreted(but=["test_the_same_on_a_gpu"])

DEVICE = "cpu"


def leaf(numbers):
    return mg.tensor(np.array(numbers, float), device=DEVICE, requires_grad=True)


class World:
    """Two tensors that a step works on, and another one that is looked at."""

    def __init__(self, held=""):
        self.a, self.b = leaf([1.0, 2.0]), leaf([3.0, 4.0])
        self.a.name, self.b.name = "a", "b"
        held = [(name, getattr(self, name)) for name in held]
        self.optimizer = optim.SGD(held, lr=0.1) if held else None
        self.seen = None

    def descend(self):
        """A step of the optimizer."""
        self.optimizer.zero_grad()
        (self.a * self.a * self.b).sum().backward()
        self.optimizer.step()

    def arrays(self):
        """All that can be looked at."""
        grads = [t.grad for t in (self.a, self.b)]
        return [None if t is None else np.array(t.numpy()) for t in (self.a, self.b, self.seen, *grads)]


def add(t, step=1.0):
    """A change in place."""
    with mg.no_grad():
        t += step


def tie(w):
    w.b.data = w.a.data


def swap(w):
    w.a.data, w.b.data = w.b.data, w.a.data


def see(w):
    w.seen = w.a.detach()


def turned(w):
    w.seen = mg.Tensor(np.arange(6.0).reshape(2, 3))
    w.a = mg.Tensor(w.seen.data.T, requires_grad=True)


def turned_gradient(w):
    w.seen = mg.Tensor(np.arange(4.0).reshape(2, 2))
    w.a = mg.Tensor(np.ones((2, 2)), requires_grad=True)
    w.a.grad = mg.Tensor(w.seen.data.T)


def new_data(w):
    w.a.data = w.a * 2


def add_then_new(w):
    add(w.a)
    w.a.data = w.a * 2


def descend(w):
    w.descend()


def descend_then_clip(w):
    w.descend()
    w.a.data = mg.clip(w.a, -0.9, 1.5)


def add_then_descend(w):
    add(w.a)
    w.descend()


def view_then_descend(w):
    v = w.a.detach()[::-1]
    w.descend()
    w.a.data = v * 2


def descend_then_add(w):
    w.descend()
    add(w.b)


def new_beside_add(w):
    before = w.b * 1
    add(w.a)
    w.b.data = w.b * before


def beside_add(w):
    add(w.a)
    return w.a * w.b


def add_up(w):
    (w.a * w.a).sum().backward()


def clip_gradient(w):
    optim.clip_grad_norm_([w.a], 0.5)


def lend_gradient(w):
    w.a.grad = w.b.detach()


def product_then_clip(w):
    """The gradient of each is the other, where an update has been."""
    w.optimizer.zero_grad()
    (w.a * w.b).sum().backward()
    w.optimizer.step()
    w.a.data, w.b.data = mg.clip(w.a, -1, 1), mg.clip(w.b, -1, 1)


def set_gradient(w):
    w.a.grad = w.seen = mg.Tensor(np.full(2, 7.0))


def see_gradient(w):
    w.seen = w.a.grad


def renew_gradient(w):
    w.a.grad = None
    (w.a * w.a).sum().backward()


def renew_and_go(w):
    renew_gradient(w)
    add(w.a, -0.1 * w.a.grad)


def new_shape(w):
    w.a.data = np.arange(3.0)


def accumulate_and_step(w):
    (w.a * w.b).sum().backward()
    w.optimizer.step()


def nothing(w):
    """Nothing happens."""


@pytest.mark.parametrize(
    "held, before, step, between",
    [
        ("", see, add_then_new, nothing),
        ("", see, add_then_new, see),
        ("", see, new_data, add_up),
        ("a", see, descend_then_clip, nothing),
        ("a", new_data, add_then_descend, nothing),
        ("a", lambda w: (new_data(w), see(w)), add_then_descend, nothing),
        ("a", nothing, view_then_descend, nothing),
        ("a", nothing, descend, swap),
        ("a", nothing, descend, tie),
        ("ab", tie, descend, nothing),
        ("ab", nothing, descend, tie),
        ("ab", nothing, descend, swap),
        ("ab", nothing, add_then_descend, swap),
        ("ab", nothing, product_then_clip, tie),
        ("b", tie, descend, nothing),
        ("b", nothing, descend, tie),
        ("", tie, new_beside_add, nothing),
        ("", tie, beside_add, nothing),
        ("", nothing, beside_add, tie),
        ("", turned, add_then_new, nothing),
        ("", turned, lambda w: add(w.a), lambda w: add(w.seen.requires_grad_())),
        ("", turned, add_up, lambda w: add(w.seen.requires_grad_())),
        ("", turned_gradient, add_up, nothing),
        ("", lend_gradient, add_up, nothing),
        ("", lend_gradient, clip_gradient, lend_gradient),
        ("", set_gradient, renew_gradient, nothing),
        ("", renew_gradient, renew_and_go, see_gradient),
        ("", renew_gradient, add_up, see_gradient),
        ("", nothing, renew_gradient, new_shape),
        ("ab", nothing, accumulate_and_step, set_gradient),
        ("ab", nothing, accumulate_and_step, see_gradient),
    ],
)  # fmt: skip
def test_compiled_steps_leave_what_eager_ones_do(held, before, step, between):
    results = []
    for way in (lambda step: step, lambda step: mg.jit(step, audit=False)):
        world = World(held)
        before(world)
        call, found = way(partial(step, world)), []
        for k in range(4):
            result = call()
            found += [*world.arrays(), None if result is None else np.array(result.numpy())]
            if k % 2:
                between(world)
                found += world.arrays()
        results.append(found)
    for one, other in zip(*results, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            np.testing.assert_allclose(one, other, rtol=1e-12)


def its_own(w):
    w.a.grad = w.a.detach()


def one_of_two(w):
    w.a.grad = w.b.grad = mg.Tensor(np.ones(2))


def with_history(w):
    (w.a * w.a * w.a).sum().backward(create_graph=True)


@pytest.mark.parametrize(
    "before, step, message",
    [
        (its_own, lambda w: w.optimizer.step(), "the gradient of a is in the memory of an optimizer"),
        (one_of_two, accumulate_and_step, "the gradient of b is in the memory of g_a"),
        (with_history, add_up, "the gradient of a has a history"),
    ],
)
def test_gradients_that_are_something_else_are_refused(before, step, message):
    world = World("ab")
    before(world)
    with pytest.raises(CaptureError, match=message):
        mg.jit(partial(step, world))()


@pytest.mark.parametrize(
    "share, message", [(one_of_two, "gradient of b is in"), (lend_gradient, "of a is in")]
)
def test_gradients_shared_between_calls_are_refused(share, message):
    world = World()
    step = mg.jit(lambda: (world.a * world.b).sum().backward(), audit=False)
    step()
    step()
    share(world)
    with pytest.raises(CaptureError, match=message):
        step()


def test_the_version_of_a_gradient_counts():
    a, b = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    step = mg.jit(lambda: (a * a).sum().backward(), audit=False)
    step()
    y = (b * a.grad).sum()
    step()
    with pytest.raises(GradientError, match="changed in place"):
        y.backward()


@pytest.mark.cuda
@needs_cuda
@pytest.mark.parametrize(
    "held, before, step, between",
    [
        ("", see, add_then_new, see),
        ("a", nothing, view_then_descend, nothing),
        ("ab", nothing, descend, swap),
        ("", lend_gradient, add_up, nothing),
    ],
)
def test_the_same_on_a_gpu(held, before, step, between, monkeypatch):
    monkeypatch.setitem(globals(), "DEVICE", "cuda")
    test_compiled_steps_leave_what_eager_ones_do(held, before, step, between)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=[pytest.mark.cuda, needs_cuda])])
@pytest.mark.parametrize("create_graph", [False, True])
def test_gradients_of_two_leaves_are_not_one_array(create_graph, device, monkeypatch):
    monkeypatch.setitem(globals(), "DEVICE", device)
    a, b = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    (3 * (a + b)).sum().backward(create_graph=create_graph)
    optim.clip_grad_norm_([a, b], 1.0)
    np.testing.assert_allclose(a.grad.numpy(), [0.5, 0.5], rtol=1e-6)
    np.testing.assert_allclose(b.grad.numpy(), [0.5, 0.5], rtol=1e-6)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=[pytest.mark.cuda, needs_cuda])])
def test_a_clone_has_memory_of_its_own(device, monkeypatch):
    monkeypatch.setitem(globals(), "DEVICE", device)
    a = leaf([1.0, 2.0])
    copies = a.clone(), a.detach().clone()
    add(a)
    assert [c.tolist() for c in copies] == [[1, 2]] * 2


def lend(w):
    w.b.data = w.a


def exchange(w):
    kept = w.a.detach()
    w.a.data = w.b
    w.b.data = kept


def share_new(w):
    w.a.data = w.b.data = w.a * w.b


def share_gradient(w):
    (w.a * w.a).sum().backward()
    w.b.grad = w.a.grad


def gradient_as_data(w):
    (w.a * w.a).sum().backward()
    w.a.data = w.a.grad


def outside(w):
    w.a.data = FIVE


def turn(w):
    w.a.data = w.a[::-1]


FIVE = mg.Tensor(np.full(2, 5.0))


@pytest.mark.parametrize(
    "step, message",
    [
        (lend, "leaves b in the memory of a"),
        (exchange, "leaves . in the memory of"),
        (turn, "leaves a in the memory of a"),
        (share_new, "leaves . in the memory of"),
        (lend_gradient, "leaves the gradient of a in the memory of b"),
        (share_gradient, "leaves the gradient of b in the memory of the gradient of a"),
        (gradient_as_data, "in the memory of"),
        (outside, "leaves a in the memory of FIVE"),
    ],
)
def test_what_would_be_shared_after_a_step_is_refused(step, message):
    world = World()
    with pytest.raises(CaptureError, match=message + r".*Give it a clone\(\) of its own"):
        mg.jit(lambda: step(world))()
    assert world.a.tolist() == [1, 2] and world.b.tolist() == [3, 4]


@pytest.mark.parametrize("given", [lambda t: t, lambda t: [t], lambda t: {"t": t}])
def test_an_argument_that_the_step_changes_is_refused_where_a_clone_of_it_is_not(given):
    total = mg.tensor(np.array([1.0, 2.0]))

    @mg.jit
    def step(x):
        (x,) = x if isinstance(x, list) else x.values() if isinstance(x, dict) else [x]
        total.data = total + x
        return x * 1

    assert step(given(total.clone())).tolist() == [1, 2] and total.tolist() == [2, 4]
    with pytest.raises(CaptureError, match=r"an argument is total, which it changes. Pass a clone\(\) of it"):
        step(given(total))
    assert total.tolist() == [2, 4]


def test_new_data_may_be_given_more_than_once():
    ends = []
    for compiled in (False, True):
        mean = mg.tensor(np.array([1.0, 2.0]))

        def step(x, mean=mean):
            mean.data = 0.5 * mean + x
            between = mean * 2
            mean.data = 0.5 * mean + between
            return between

        function = mg.jit(lambda x, step=step: step(x)) if compiled else step
        between = [function(mg.tensor(np.array([float(k), 1.0]))).tolist() for k in range(3)]
        ends.append((between, mean.tolist()))
    assert ends[0] == ends[1]


def test_what_is_shared_only_later_is_refused_or_goes_on_line_by_line():
    for fallback in (None, "eager"):
        world = World()
        step = mg.jit(partial(beside_add, world), fallback=fallback, audit=False)
        step()
        world.b.data = world.a.data[::-1]
        if fallback is None:
            with pytest.raises(CaptureError, match="a and b share memory, and it changes a there|b and a"):
                step()
        else:
            with pytest.warns(mg.errors.CompileWarning, match="goes on line by line"):
                assert step().tolist() == [12, 12]


def test_the_memory_of_an_optimizer_stays_its_own():
    world = World("ab")
    swap(world)
    assert (world.a.tolist(), world.b.tolist()) == ([3, 4], [1, 2])
    world.optimizer.zero_grad()
    (world.a * world.b).sum().backward()
    world.optimizer.step()
    np.testing.assert_allclose(world.a.numpy(), [2.9, 3.8])
    np.testing.assert_allclose(world.b.numpy(), [0.7, 1.6])
    tie(world)
    add(world.a)
    np.testing.assert_allclose(world.b.numpy(), [2.9, 3.8])


def test_parameters_of_an_optimizer_do_not_share_memory():
    whole = np.ones((3, 4))
    tensor = partial(mg.Tensor, requires_grad=True)
    optim.SGD([tensor(whole[:, :2]), tensor(whole[:, 2:])])  # columns that lie between one another
    message = r"SGD: parameters a and b share memory.*Pass one tensor for both, or give each a clone\(\)"
    with pytest.raises(mg.errors.ArgumentError, match=message):
        optim.SGD({"a": tensor(whole), "b": tensor(whole[2:])}.items())


def test_new_data_goes_where_nobody_looks():
    world = World()
    step = mg.jit(lambda: setattr(world.a, "data", world.a + world.b), audit=False)
    for call in range(1, 6):
        before = world.a.numpy() if call in (2, 4) else None
        part = world.a.detach()[1:] if call == 3 else None
        step()
        assert world.a.tolist() == [1 + 3 * call, 2 + 4 * call]
        assert before is None or before.tolist() == [3 * call - 2, 4 * call - 2]
        assert part is None or part.tolist() == [4 * call - 2]
    before = part = None  # now in memory that nobody else holds, where it stays
    step()
    places = [step() or address(world.a.data) for _ in range(3)]
    assert len({*places}) == 1
