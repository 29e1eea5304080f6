"""Every operation, layer and loss beside PyTorch's: values, gradients, and what happens at ties and kinks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import microgradx as mg
from microgradx import primitives, scalars
from microgradx.primitives import operations

torch = pytest.importorskip("torch", reason="PyTorch is in the extra 'bench'")
F = torch.nn.functional

SCALARS = {
    "absolute": torch.abs, "negative": torch.neg, "subtract": torch.sub, "multiply": torch.mul,
    "divide": torch.div, "power": torch.pow, "clip": lambda x: torch.clamp(x, -np.inf), "add": torch.add,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "where": lambda c, a, b: torch.where(c != 0, a, b),
    **{name: getattr(torch, name) for name in (
        "square", "sqrt", "rsqrt", "exp", "expm1", "log", "log1p", "sin", "cos", "erf", "sign", "maximum",
        "minimum", "tanh", "sigmoid",
    )},
    **{name: getattr(F, name) for name in (
        "relu", "leaky_relu", "elu", "silu", "gelu", "softplus", "softsign",
    )},
}  # fmt: skip
"""PyTorch's function for each elementwise function that has a slope."""


def over(reduce, amount=None):
    """A PyTorch reduction that takes NumPy's axis and keepdims."""

    def run(x, axis=None, keepdims=False, **rest):
        axis = tuple(range(x.ndim)) if axis is None else axis
        return reduce(x, axis, keepdim=keepdims, **rest)

    return run


def product(x, axis=None, keepdims=False):
    axes = range(x.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    for a in sorted((a % x.ndim for a in axes), reverse=True):
        x = torch.prod(x, a, keepdim=keepdims)
    return x


def split(x, sections, axis=0):
    return list(torch.tensor_split(x, sections, axis))


def pad(x, pad_width, value=0.0):
    sides = np.broadcast_to(pad_width, (x.ndim, 2))[::-1].reshape(-1).tolist()
    return F.pad(x, sides, value=value)


def flatten(x, start_dim=0, end_dim=-1):
    return torch.flatten(x, start_dim, end_dim)


ARRAYS = {
    "sum": over(torch.sum), "mean": over(torch.mean), "max": over(torch.amax), "min": over(torch.amin),
    "prod": product, "logsumexp": over(torch.logsumexp),
    "norm": lambda x, axis=None, keepdims=False: torch.linalg.vector_norm(x, 2, axis, keepdim=keepdims),
    "var": lambda x, axis=None, ddof=0, keepdims=False: torch.var(x, axis, correction=ddof, keepdim=keepdims),
    "std": lambda x, axis=None, ddof=0, keepdims=False: torch.std(x, axis, correction=ddof, keepdim=keepdims),
    "softmax": lambda x, axis=-1: torch.softmax(x, axis),
    "log_softmax": lambda x, axis=-1: torch.log_softmax(x, axis),
    "cumsum": lambda x, axis=None: x.flatten().cumsum(0) if axis is None else torch.cumsum(x, axis),
    "cross_entropy_rows": lambda x, labels: F.cross_entropy(x, torch.as_tensor(labels), reduction="none"),
    "matmul": torch.matmul, "affine": lambda x, w, b: torch.addmm(b, x, w), "einsum": torch.einsum,
    "reshape": torch.reshape, "expand": lambda x, shape: x.expand(shape), "flatten": flatten,
    "squeeze": lambda x, axis=None: torch.squeeze(x) if axis is None else torch.squeeze(x, axis),
    "unsqueeze": lambda x, axis: torch.unsqueeze(x, axis),
    "permute": lambda x, axes=None: torch.permute(x, axes or tuple(range(x.ndim))[::-1]),
    "transpose": lambda x, axis0=-2, axis1=-1: torch.transpose(x, axis0, axis1),
    "gather": lambda x, index, axis: torch.gather(x, axis, torch.as_tensor(index)),
    "cat": lambda xs, axis=0: torch.cat(xs, axis), "stack": lambda xs, axis=0: torch.stack(xs, axis),
    "split": split, "pad": pad,
}  # fmt: skip
"""PyTorch's function for each operation that has cases."""


def as_list(result):
    return list(result) if isinstance(result, list | tuple) else [result]


def compare(ours, theirs, arrays, rtol=2e-5, atol=2e-6):
    """Values and gradients of a weighted sum, in float32."""
    xs = [mg.Tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
    ts = [torch.tensor(np.array(a), requires_grad=a.dtype.kind == "f") for a in arrays]
    ys, zs = as_list(ours(*xs)), as_list(theirs(*ts))
    for k, (y, z) in enumerate(zip(ys, zs, strict=True)):
        assert y.dtype == np.float32 or arrays[0].dtype != np.float32
        assert y.shape == tuple(z.shape)
        np.testing.assert_allclose(y.data, z.detach().numpy(), rtol=rtol, atol=atol)
        weights = np.linspace(0.5 + k, 1.5, y.size, dtype=y.dtype).reshape(y.shape)
        if y.requires_grad:
            y.backward(weights, retain_graph=True)
            z.backward(torch.tensor(weights), retain_graph=True)
    for x, t in zip(xs, ts, strict=True):
        ours_, theirs_ = (None if v.grad is None else np.asarray(v.grad) for v in (x, t))
        zero = np.zeros(x.shape, x.dtype)  # no gradient and a gradient of zeros are the same
        np.testing.assert_allclose(
            zero if ours_ is None else ours_, zero if theirs_ is None else theirs_, rtol=rtol, atol=atol
        )


def single(values):
    return np.array(values, np.float32)


def test_every_function_and_operation_has_a_counterpart():
    assert SCALARS.keys() == {f.name for f in scalars.differentiable()}
    assert ARRAYS.keys() == {name for name in operations if primitives.cases[name]}


@pytest.mark.parametrize("name", SCALARS)
def test_functions(name):
    op = scalars.functions[name]
    compare(op, SCALARS[name], [single(column) for column in op.domain.sample(200, seed=3)], 1e-4, 1e-5)


@pytest.mark.parametrize(
    ("name", "case"), [(n, c) for n in operations for c in primitives.cases[n]], ids=lambda x: str(x)[:60]
)
def test_operations(name, case):
    rng = np.random.default_rng(4)
    theirs = lambda *xs: case.call(ARRAYS[name], list(xs))
    ours = lambda *xs: case.call(operations[name], list(xs))
    compare(ours, theirs, [single(rng.normal(size=shape)) for shape in case.shapes])


# Kinks, ties and edges

inf, nan = np.inf, np.nan
POINTS = {
    "relu": [0.0, -0.0, 1, -1, inf, -inf], "absolute": [0.0, -0.0, 2, -2], "sign": [0.0, -0.0, 2, -2],
    "leaky_relu": [0.0, -0.0, 3, -3], "elu": [0.0, -0.0, 3, -3, -100, 100],
    "sqrt": [0.0, 4, 1e-30, inf], "rsqrt": [4, 1e-30, inf], "log": [0.0, 1e-30, 1, inf], "log1p": [0.0, 1e-9],
    "expm1": [0.0, 1e-9, -100], "exp": [-200, 0, 88], "tanh": [0.0, 50, -50, inf],
    "sigmoid": [0.0, 100, -100, -88, inf, -inf], "softplus": [0.0, 15, 50, 500, -15, -50, -500],
    "softsign": [0.0, -0.0, 1e-30, 1e10, -1e10, 1e38],
    "silu": [0.0, 80, -80], "gelu": [0.0, 20, -20], "gelu_tanh": [0.0, 20, -20], "erf": [0.0, 10, -10],
    "square": [0.0], "sin": [0.0], "cos": [0.0], "negative": [0.0],
}  # fmt: skip


def test_every_function_of_one_input_has_points():
    assert POINTS.keys() | {"clip"} == {f.name for f in scalars.differentiable() if len(f.inputs) == 1}


@pytest.mark.parametrize("name", POINTS)
def test_kinks_and_edges(name):
    compare(scalars.functions[name], SCALARS[name], [single(POINTS[name])], rtol=3e-5, atol=1e-9)


def test_clip_at_and_beyond_its_bounds():
    x = single([-2, -1, 0, 1, 2])
    compare(lambda x: mg.clip(x, -1, 1), lambda x: torch.clamp(x, -1, 1), [x])
    compare(lambda x: mg.clip(x, min=0), lambda x: torch.clamp(x, min=0), [x])
    compare(lambda x: mg.clip(x, max=0), lambda x: torch.clamp(x, max=0), [x])


@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_ties_of_two(name):
    a, b = single([1, 1, 2, 0, -0.0, inf]), single([1, 2, 1, -0.0, 0, inf])
    compare(scalars.functions[name], SCALARS[name], [a, b])


def test_powers_of_zero_and_of_negative_numbers():
    a = single([0, 0, 0, 0, 2, 0.5, 1])
    b = single([0, 1, 2, 0.5, 0, -1, 3])
    compare(scalars.power, torch.pow, [a, b])
    for exponent in (0, 1, 2, 3, 0.5, -1, 2.5):
        x = single([0, 1.5]) if exponent >= 0 else single([0.5, 1.5])
        compare(lambda x, e=exponent: x**e, lambda x, e=exponent: x**e, [x])
    for exponent in (0, 1, 2, 3, -1, -2):
        compare(lambda x, e=exponent: x**e, lambda x, e=exponent: x**e, [single([-2, -0.5, 1])])
    for base in (0, 0.0, 1.0, 2.0, -2.0):
        compare(lambda x, b=base: b**x, lambda x, b=base: b**x, [single([0, 1, 2.5])])


def test_division_by_zero():
    compare(lambda x: x / 0, lambda x: x / 0, [single([1, -1, 2])])
    compare(scalars.divide, torch.div, [single([1, -1, 2]), single([0, 0, 4])])


def test_where_keeps_each_side_to_itself():
    c = np.array([True, False, True])
    compare(scalars.where, torch.where, [c, single([1, 2, 3]), single([4, 5, 6])])
    compare(lambda x: mg.where(x > 0, x, 0.0), lambda x: torch.where(x > 0, x, 0.0), [single([-1, 0, 1])])


TIED = single([[1, 3, 3], [3, 2, 2], [3, 3, 3]])


@pytest.mark.parametrize("name", ["max", "min"])
@pytest.mark.parametrize("axis", [None, 0, 1, (0, 1)], ids=str)
def test_ties_of_many_share(name, axis):
    compare(lambda x: operations[name](x, axis=axis), lambda x: ARRAYS[name](x, axis=axis), [TIED])


@pytest.mark.parametrize("axis", [None, 0, 1], ids=str)
def test_products_with_zeros(axis):
    for x in ([[1, 2, 3], [4, 0, 6]], [[0, 2, 0], [4, 5, 6]], [[0, 2, 3], [0, 0, 0]]):
        compare(lambda x: mg.prod(x, axis=axis), lambda x: product(x, axis), [single(x)])


def test_spread_of_constants():
    compare(lambda x: x.std(axis=0), lambda x: x.std(0, correction=0), [single([[2, 1], [2, 3]])])
    compare(lambda x: x.std(ddof=1), lambda x: x.std(), [single([5, 5, 5])])
    compare(lambda x: x.var(axis=0), lambda x: x.var(0, correction=0), [single([[2, 1], [2, 3]])])


def test_log_sums_of_infinities():
    x = np.array([[0, -inf], [-1000, -1001], [1000, 1000]])  # in float32 its slope of logsumexp is 3e-5 off
    for name in ("logsumexp", "softmax", "log_softmax"):
        compare(lambda x, n=name: operations[n](x, axis=1), lambda x, n=name: ARRAYS[n](x, axis=1), [x])


@pytest.mark.parametrize(
    "index",
    [
        0, -1, slice(1, None), (slice(None), 1), (..., None, 0), [0, 0, 1], np.array([[1], [1]]),
        (np.array([0, 1, 1]), np.array([2, 0, 0])), (slice(None), [2, 2, 0]), (np.array([1, 0]), slice(1, 3)),
        np.array([True, False]), (slice(None), np.array([True, False, True])),
    ],
    ids=repr,
)  # fmt: skip
def test_indexing(index):

    if isinstance(index, tuple):
        theirs = tuple(torch.tensor(i) if isinstance(i, np.ndarray) else i for i in index)
    else:
        theirs = torch.tensor(index) if isinstance(index, np.ndarray) else index
    compare(lambda x: x[index], lambda x: x[theirs], [single([[1, 2, 3], [4, 5, 6]])])


def test_hessians():
    x = np.random.default_rng(5).normal(size=4)
    ours = lambda x: mg.tanh(x).prod() + mg.softmax(x)[1] * mg.logsumexp(x**2)
    theirs = lambda x: torch.tanh(x).prod() + torch.softmax(x, 0)[1] * torch.logsumexp(x**2, 0)
    expected = torch.autograd.functional.hessian(theirs, torch.tensor(x)).numpy()
    np.testing.assert_allclose(mg.hessian(ours)(x).data, expected, rtol=1e-10, atol=1e-14)
    v = np.arange(4.0)
    np.testing.assert_allclose(mg.hvp(ours, x, v).data, expected @ v, rtol=1e-10)


# Random programs, in float64: each step takes two earlier values and gives one of the same shape

PAIRS = [
    (lambda m, a, b: a + b, None),
    (lambda m, a, b: a * b - a, None),
    (lambda m, a, b: a / (2 + m.tanh(b)), None),
    (lambda m, a, b: m.maximum(a, b), None),
    (lambda m, a, b: m.where(a > b, m.sigmoid(a), m.sin(b)), None),
    (lambda m, a, b: m.exp(-a * a) + m.sqrt(1 + b * b), None),
    (lambda m, a, b: a @ b.T @ b, None),
    (lambda a, b: mg.softmax(a, axis=0) * b, lambda a, b: torch.softmax(a, 0) * b),
    (lambda a, b: a - b.mean(axis=1, keepdims=True), lambda a, b: a - b.mean(1, keepdim=True)),
    (lambda a, b: a / (1 + b.std(axis=0)), lambda a, b: a / (1 + b.std(0, correction=0))),
    (lambda a, b: a.logsumexp(axis=1, keepdims=True) * b, lambda a, b: a.logsumexp(1, keepdim=True) * b),
    (
        lambda a, b: a.max(axis=0) + b.prod(axis=1, keepdims=True),
        lambda a, b: a.amax(0) + product(b, 1, True),
    ),
    (lambda a, b: mg.gelu(a) + mg.elu(b), lambda a, b: F.gelu(a) + F.elu(b)),
    (lambda a, b: mg.cat([a[1:], b[:1]]), lambda a, b: torch.cat([a[1:], b[:1]])),
    (lambda a, b: a[[0, 0, 2]] * b.cumsum(1), lambda a, b: a[[0, 0, 2]] * b.cumsum(1)),
    (lambda a, b: mg.einsum("ij,kj,kl->il", a, b, a), lambda a, b: torch.einsum("ij,kj,kl->il", a, b, a)),
]


def run(program, inputs, library, column):
    """Compute a program with one of the two libraries, as a single number."""
    values = list(inputs)
    for which, i, j in program:
        step = PAIRS[which % len(PAIRS)]
        a, b = values[i % len(values)], values[j % len(values)]
        y = step[0](library, a, b) if step[1] is None else step[column](a, b)
        values.append(library.tanh(y))  # kept in range
    return sum(values[1:], start=values[0]).sum()


@settings(max_examples=150)
@given(
    st.lists(st.tuples(st.integers(0, 99), st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12),
    st.integers(0, 2**16),
)
def test_random_programs(program, seed):
    arrays = np.random.default_rng(seed).normal(size=(2, 3, 4))
    xs = [mg.Tensor(a, requires_grad=True) for a in arrays]
    ts = [torch.tensor(a, requires_grad=True) for a in arrays]
    y, z = run(program, xs, mg, 0), run(program, ts, torch, 1)
    assert y.item() == pytest.approx(z.item(), rel=1e-10, abs=1e-12)
    y.backward()
    z.backward()
    for x, t in zip(xs, ts, strict=True):
        np.testing.assert_allclose(x.grad.data, t.grad.numpy(), rtol=1e-8, atol=1e-10)
