"""Every function at extreme inputs: errors in ulp within the bound, and special values as PyTorch has them.

`python -m bench accuracy` does the same on a finer grid and keeps the table.
"""

import math

import numpy as np
import pytest

import microgradx as mg
from microgradx import primitives, scalars
from microgradx.kernels import vector_math

mpmath = pytest.importorskip("mpmath", reason="mpmath is in the extra 'test'")
from bench import accuracy  # noqa: E402 - it imports mpmath


@pytest.fixture(scope="module")
def subjects():
    """All functions on a coarse grid, with their exact results."""
    found = [*accuracy.functions("float32", coarse=True), *accuracy.rows("float32")]
    return [(subject, accuracy.truths(subject, "float32")) for subject in found]


@pytest.mark.parametrize(
    "compiled", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["eager", "compiled"]
)
def test_no_error_is_above_the_bound(subjects, compiled):
    if compiled:  # what has code of its own there; the others are made of these
        subjects = [one for one in subjects if hasattr(vector_math, one[0].name)]
        assert len(subjects) > 5
    found = accuracy.run_all([subject for subject, _ in subjects], "float32", compiled)
    for (subject, exact), results in zip(subjects, found, strict=True):
        assert sum(e is not None for e in exact) >= len(exact) // 4, f"{subject.name} is hardly measured"
        for order, (size, point) in zip(
            accuracy.ORDERS, accuracy.errors(subject, results, exact, "float32"), strict=True
        ):
            assert size <= accuracy.BOUND, f"{subject.name}, {order}: {size:.3g} ulp off at {point}"


def test_plain_numbers_have_the_accuracy_of_float64():
    for subject in accuracy.functions("float64", coarse=True):
        for point in subject.points:
            with mpmath.workdps(500):
                try:
                    exact = subject.exact(tuple(map(mpmath.mpf, point)))
                except (ZeroDivisionError, ValueError):
                    continue
            if not isinstance(exact[0], mpmath.mpf) or not abs(exact[0]) < 1e300:
                continue
            floor = accuracy.floor_of(subject, 0, point, exact)
            error = accuracy.ulps([float(subject.run(*point))], exact, "float64", floor)
            assert error <= accuracy.BOUND, f"{subject.name}{point} is {error:.3g} ulp off"


def test_every_function_and_reduction_is_measured():
    assert {s.name for s in accuracy.functions("float32", True)} == {f.name for f in scalars.differentiable()}
    along = {
        n for n, f in primitives.operations.items() if f.__module__ == "microgradx.primitives.reductions"
    }
    unmeasured = {"all", "any", "argmax", "argmin", "cross_entropy_rows"}  # no gradient, or as cross_entropy
    assert along - unmeasured <= accuracy.ROWS.keys()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("shift", [0, 1e3, 1e4, 1e5])
def test_the_slope_of_a_loss_does_not_depend_on_a_shift(dtype, compiled, shift):
    x = (np.random.default_rng(0).normal(size=(8, 5)) + shift).astype(dtype)
    labels = np.arange(8) % 5
    below = x.astype(np.float64) - x.max(1, keepdims=True)
    p = np.exp(below) / np.exp(below).sum(1, keepdims=True)
    f = mg.value_and_grad(lambda x: mg.nn.cross_entropy(x, labels, reduction="sum"))
    loss, slope = (mg.jit(f) if compiled else f)(x)
    eps = 4 * np.finfo(dtype).eps
    np.testing.assert_allclose(loss.item(), -np.log(p[range(8), labels]).sum(), rtol=2 * eps)
    np.testing.assert_allclose(slope.data, p - np.eye(5)[labels], atol=eps)


SPECIAL = [-math.inf, -1e30, -100.0, -1.0, -1e-40, -0.0, 0.0, 1e-40, 1.0, 100.0, 1e30, math.inf, math.nan]
THEIRS = {
    "absolute": "abs", "divide": "div", "power": "pow", "negative": "neg", "subtract": "sub",
    "multiply": "mul", "leaky_relu": "nn.functional.leaky_relu", "elu": "nn.functional.elu",
    "silu": "nn.functional.silu", "gelu": "nn.functional.gelu", "softplus": "nn.functional.softplus",
}  # fmt: skip
OURS = {  # what PyTorch has otherwise: (order, input)
    "sign": {(0, math.nan)}, "absolute": {(1, math.nan)}, "relu": {(1, math.nan)}, "elu": {(1, math.nan)},
    "gelu": {(0, math.inf), (1, -math.inf), (1, math.inf)}, "rsqrt": {(1, 0.0)},
}  # fmt: skip
"""NaN stays NaN here, and gelu(inf) is inf; the slope of relu at NaN is 0, times a gradient that is NaN."""


def named(torch, name):
    """PyTorch's function of that name, or None."""
    found = torch
    for part in THEIRS.get(name, name).split("."):
        found = getattr(found, part, None)
    return found


@pytest.mark.parametrize("op", list(scalars.differentiable()), ids=lambda op: op.name)
def test_special_values_are_pytorchs(torch, op):
    theirs = named(torch, op.name)
    if theirs is None or op.name in ("where", "clip"):
        pytest.skip("PyTorch has no function of one or two arrays of that name")
    columns = [c.ravel() for c in np.meshgrid(*[np.array(SPECIAL, np.float32)] * len(op.inputs))]
    ours = [mg.Tensor(c, requires_grad=True) for c in columns]
    tensors = [torch.tensor(c, requires_grad=True) for c in columns]
    with np.errstate(all="ignore"):
        y = op(*ours)
        y.sum().backward()
    z = theirs(*tensors)
    z.sum().backward()
    for order, pair in enumerate([(y, z), *((a.grad, b.grad) for a, b in zip(ours, tensors, strict=True))]):
        one, other = pair[0].numpy(), pair[1].detach().numpy()
        left_out = {x for o, x in OURS.get(op.name, ()) if o == min(order, 1)}
        seen = np.array([not any(x == v or x != x and v != v for v in left_out) for x in columns[0]])
        np.testing.assert_allclose(one[seen], other[seen], rtol=1e-5, atol=1e-37)  # it flushes some denormals
        zeros = seen & (other == 0) & (one == 0)
        if order == 0 and op.name not in ("relu", "elu", "gelu"):  # theirs have no -0, gelu on some machines
            np.testing.assert_array_equal(np.signbit(one[zeros]), np.signbit(other[zeros]))
