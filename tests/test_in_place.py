"""Changes in place: `p -= ...` updates a parameter where nothing is recorded, else it is an error."""

import numpy as np
import pytest

import microgradx as mg
from microgradx import nn, optim
from microgradx.errors import ArgumentError, CaptureError, GradientError, ShapeError

pytestmark = pytest.mark.interpreted

X = np.linspace(-1, 1, 24, dtype=np.float32).reshape(6, 4)
Y = np.array([0, 1, 2, 2, 1, 0])


def minus(p, step):
    p -= step


def minus_elements(p, step):
    p[...] = p - step


def plus(p, step):
    p += -1 * step


def times(p, step):
    p *= 1 - step


def divided(p, step):
    p /= 1 + step


def data(p, step):
    p.data = p - step


def data_minus(p, step):
    p.data -= step


UPDATES = {
    "p -= step": (minus, lambda p, s: p - s),
    "p += step": (plus, lambda p, s: p - s),
    "p *= step": (times, lambda p, s: p * (1 - s)),
    "p /= step": (divided, lambda p, s: p / (1 + s)),
    "p.data = new": (data, lambda p, s: p - s),
    "p.data -= step": (data_minus, lambda p, s: p - s),
    "p[...] = new": (minus_elements, lambda p, s: p - s),
}


def step_of(model, update):
    """Gradient descent by hand."""

    def step(x, y):
        model.zero_grad()
        loss = nn.cross_entropy(model(x), y)
        loss.backward()
        with mg.no_grad():
            for p in model.parameters():
                update(p, 0.5 * p.grad)
        return loss

    return step


@pytest.mark.parametrize("name", UPDATES)
def test_a_loop_over_parameters_trains(name):
    update, formula = UPDATES[name]
    mg.seed(3)
    model, arrays = nn.MLP([4, 5, 3]), []
    step = step_of(model, update)
    for _ in range(3):
        before = model.state_dict()
        step(mg.Tensor(X), Y)
        for key, p in model.named_parameters():
            np.testing.assert_allclose(p.numpy(), formula(before[key], 0.5 * p.grad.numpy()), rtol=1e-6)
            assert p.requires_grad and p.is_leaf
        arrays.append([id(p.data) for p in model.parameters()])
    if "data =" not in name:
        assert arrays[0] == arrays[2]  # in the same memory, which an optimizer may share


@pytest.mark.parametrize("name", UPDATES)
def test_the_compiled_step_does_the_same_or_says_that_it_cannot(name):
    update, _ = UPDATES[name]
    results = []
    for compiled in (False, True):
        mg.seed(3)
        model = nn.MLP([4, 5, 3])
        step = mg.jit(step_of(model, update)) if compiled else step_of(model, update)
        if compiled and name in ("p.data -= step", "p[...] = new"):
            with pytest.raises(CaptureError, match=r"looks at a tensor's value"):
                step(X, Y)
            return
        losses = [step(X if compiled else mg.Tensor(X), Y).item() for _ in range(4)]
        results.append((losses, model.state_dict()))
    (a, before), (b, after) = results
    assert a == pytest.approx(b, rel=1e-6)
    for key, value in before.items():
        np.testing.assert_allclose(after[key], value, rtol=1e-5, atol=1e-7)


def test_in_a_scan_each_step_sees_what_the_last_one_left():
    results = []
    for compiled in (False, True):
        mg.seed(3)
        model = nn.MLP([4, 5, 3])
        step = step_of(model, minus)
        if compiled:
            losses = mg.jit(step).scan(X, Y, batch_size=2).tolist()
        else:
            losses = [step(mg.Tensor(X[i : i + 2]), Y[i : i + 2]).item() for i in (0, 2, 4)]
        results.append([*losses, *model[0].weight.numpy().ravel()])
    np.testing.assert_allclose(*results, rtol=1e-5)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_a_change_beside_an_optimizer(compiled):
    """Weights shrink by hand between the optimizer's own steps."""
    weight = mg.tensor([1.0, 2.0], requires_grad=True)
    optimizer = optim.SGD([("weight", weight)], lr=0.1)

    def step(x):
        optimizer.zero_grad()
        (weight * x).sum().backward()
        optimizer.step()
        with mg.no_grad():
            weight.__imul__(0.5)

    call = mg.jit(step) if compiled else step
    expected = np.array([1.0, 2.0])
    for _ in range(3):
        call(mg.tensor([1.0, 1.0]))
        expected = (expected - 0.1) * 0.5
        np.testing.assert_allclose(weight.numpy(), expected, rtol=1e-6)


def test_a_view_sees_the_change_and_backward_notices_it():
    w = mg.tensor([1.0, 2.0], requires_grad=True)
    seen, y = w.detach(), (w * w).sum()
    with mg.no_grad():
        w -= mg.tensor([0.5, 0.5])
    np.testing.assert_array_equal(seen, [0.5, 1.5])
    with pytest.raises(GradientError, match="changed in place"):
        y.backward()


def test_a_frozen_parameter_changes_too():
    layer = nn.Linear(2, 2).requires_grad_(False)
    before = layer.weight.numpy().copy()
    for p in layer.parameters():
        p *= 2
    np.testing.assert_array_equal(layer.weight, 2 * before)


def test_where_gradients_are_recorded_it_is_an_error_that_says_what_to_write():
    w = mg.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(
        GradientError, match=r"cannot change in place here. Do it inside `with mg.no_grad\(\):`"
    ):
        w -= 0.1
    with pytest.raises(GradientError, match=r"would lose the gradient of what is put in. Use detach\(\)"):
        w.data -= w * 2
    np.testing.assert_array_equal(w, [1.0, 2.0])


def test_shapes_must_stay():
    w = mg.ones(2, requires_grad=True)
    with mg.no_grad(), pytest.raises(ShapeError, match=r"of shape \(2,\) cannot become one of \(3, 2\)"):
        w += np.ones((3, 2), np.float32)


def test_other_tensors_become_others():
    total = start = mg.tensor(0.0)
    w = mg.tensor([1.0, 2.0], requires_grad=True)
    for part in w:
        total += part * part
    total.backward()
    assert start.item() == 0
    np.testing.assert_array_equal(w.grad, [2.0, 4.0])


def test_numpys_functions_that_would_drop_gradients_are_refused():
    t = mg.ones(2)
    for call, words in [
        (lambda: np.arctan(t), r"np.arctan is not for tensors, whose gradients it would drop"),
        (lambda: np.add.reduce(t), r"np.add.reduce is not for tensors"),
        (lambda: np.add(t, t.numpy(), out=mg.ones(2)), r"np.add with out is not for tensors"),
    ]:
        with pytest.raises(ArgumentError, match=words):
            call()


# Memory that is shared


def leaf(*numbers):
    return mg.tensor(np.array(numbers), requires_grad=True)


def within(a):
    """Changed through a view."""
    v = a[:1].detach().requires_grad_()
    with mg.no_grad():
        v += 1


def alias(a):
    """New data for what is the same tensor."""
    v = a.detach()
    v.data = a * 2


@pytest.mark.parametrize(
    "step, message",
    [
        (within, "changes a tensor in place that shares memory with"),
        (alias, "gives new data to a tensor that shares the memory of a"),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_what_no_program_can_tell_of_shared_memory_is_refused(step, message):
    a = leaf(1.0, 2.0)
    with pytest.raises(CaptureError, match=message):
        mg.jit(lambda: step(a))()
    np.testing.assert_array_equal(a.numpy(), [1, 2])


def test_an_argument_keeps_its_data():
    def step(x):
        x.data = x * 2

    with pytest.raises(CaptureError, match="changes the data of an argument"):
        mg.jit(step)(X)


def test_data_of_another_shape_are_refused():
    a = leaf(1.0, 2.0)

    def step(x):
        a.data = x

    with pytest.raises(CaptureError, match=r"gives data of shape \(3,\) to one of \(2,\)"):
        mg.jit(step)(np.ones(3))
    assert a.tolist() == [1, 2]


@pytest.mark.parametrize("part", [slice(1), slice(None, None, -1)], ids=["a part", "reversed"])
def test_parameters_in_the_same_memory_are_refused(part):
    a = leaf(1.0, 2.0)
    b = mg.Tensor(a.numpy()[part], requires_grad=True)

    def step():
        with mg.no_grad():
            a.__iadd__(1)
        return b * 1

    with pytest.raises(CaptureError, match="a and b share memory|shares memory with"):
        mg.jit(step)()


def test_a_change_of_one_is_a_change_of_the_other():
    """Where two tensors hold the same array, and once they do not."""
    results = []
    for way in (lambda step: step, lambda step: mg.jit(step, audit=False)):
        a = leaf(1.0, 2.0)
        b = a.detach().requires_grad_()

        @way
        def step(a=a, b=b):
            with mg.no_grad():
                a += 1
            return b * 1

        results.append([step().tolist(), step().tolist()])
        b.data = np.array([9.0, 9.0])
        results[-1] += [step().tolist(), a.tolist()]
    assert results[0] == results[1] == [[2, 3], [3, 4], [9, 9], [4, 5]]


def test_arguments_are_not_each_other_nor_a_parameter():
    """The first call may give the same array twice, or a parameter's."""
    a = leaf(1.0, 2.0)
    step = mg.jit(lambda x, y: (a * x - y).sum(), audit=False)
    assert step(a.detach(), a.detach()).item() == 5 - 3
    assert step(np.ones(2), np.array([4.0, 4.0])).item() == 3 - 8


@pytest.mark.parametrize("way", [lambda step: step, mg.jit], ids=["eager", "compiled"])
def test_an_argument_in_memory_that_changes(way):
    a = leaf(1.0, 2.0)

    @way
    def step(x):
        with mg.no_grad():
            a.__iadd__(1)
        return x * 1

    assert [step(a.detach()).tolist() for _ in range(2)] == [[2, 3], [3, 4]]


def constant(a):
    """What never changes."""
    a.grad = mg.ones(2)


def begun(a):
    """What never changes, and then adds up."""
    a.grad = mg.ones(2)
    (a * a).sum().backward()


def renewed(a):
    """New data in what is there."""
    (a * a).sum().backward()
    a.grad.data = mg.clip(a.grad, -3, 3)


@pytest.mark.parametrize("way", [lambda step: step, mg.jit], ids=["eager", "compiled"])
@pytest.mark.parametrize(
    "change, forgotten, expected",
    [(constant, True, [[1, 1]] * 2), (begun, False, [[3, 5]] * 3), (renewed, False, [[2, 3], [3, 3]])],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_a_gradient_set_by_hand(change, forgotten, expected, way):
    a = leaf(1.0, 2.0)
    step = way(lambda: change(a))
    for numbers in expected:
        if forgotten:  # between the calls
            a.grad = None
        step()
        np.testing.assert_array_equal(a.grad.numpy(), numbers)
