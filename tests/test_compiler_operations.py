"""Compiled steps: every operation, view, dtype and gradient as in the eager run, and random programs."""

from functools import cache

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import microgradx as mg
from microgradx import primitives, scalars
from microgradx.primitives import operations

TOGETHER = 8  # rows in one step: a compilation each would take too long, a long step as well
EXAMPLES = 3  # random programs, of about a second each; raise it to search for longer

# Rows: a function of Tensors, and what it is called with


class Row:
    """A function, and its inputs: shapes to draw floats for, or functions of a generator."""

    def __init__(self, f, *inputs, gradients=True):
        self.f, self.inputs, self.gradients = f, inputs, gradients

    def draw(self, seed, dtype):
        """An array per input: floats of the dtype, away from 0 and without ties, or what a function draws."""
        rng = np.random.default_rng(seed)
        return [x(rng) if callable(x) else floats(x)(rng).astype(dtype) for x in self.inputs]

    def __call__(self, *xs):
        """The results, and the gradients of a weighted sum of those that are floats."""
        free = tuple(i for i, x in enumerate(xs) if x.dtype.kind == "f") if self.gradients else ()
        found = []

        def total(*xs):
            y = self.f(*xs)
            found.extend(y if isinstance(y, list | tuple) else [y])
            return sum(((y * weights(y)).sum() for y in found if y.dtype.kind == "f"), start=mg.zeros(()))

        if not free:
            total(*xs)
            return found
        _, slopes = mg.value_and_grad(total, argnums=free)(*xs)
        return [*found, *slopes]


def floats(shape, dtype=np.float64):
    """Draws numbers of both signs."""
    return lambda rng: np.asarray(rng.uniform(0.3, 2.0, shape) * rng.choice([-1, 1], shape)).astype(dtype)


def integers(*shape, low=0, high=3, dtype=np.int64):
    """Draws integers from low to high - 1."""
    return lambda rng: np.asarray(rng.integers(low, high, shape)).astype(dtype)


def booleans(*shape):
    """Draws True and False."""
    return lambda rng: np.asarray(rng.uniform(size=shape) > 0.5)


def weights(y):
    """Numbers from 1 to 2, in y's shape and dtype."""
    return np.linspace(1, 2, y.size).reshape(y.shape).astype(y.dtype)


def samples(op, dtype):
    """Draws the inputs of an elementwise function, from its domain."""
    kind = bool if op.name.startswith("logical") else dtype
    column = lambda k: (
        lambda rng: (np.array(op.domain.sample(6, int(rng.integers(2**31)))[k]) - 0).astype(kind)
    )
    return [column(k) for k in range(len(op.inputs))]


# Tables, by name: dtype -> rows


def every_primitive(dtype):
    some = 1 if dtype == np.float32 else None  # as machine code: one of each
    return {
        f"{name}-{case!r}": Row(lambda *xs, n=name, c=case: c.call(operations[n], list(xs)), *case.shapes)
        for name in operations
        for case in list(primitives.cases[name])[:some]
    }


def every_function(dtype):
    smooth = set(scalars.differentiable())
    return {
        name: Row(op, *samples(op, dtype), gradients=op in smooth) for name, op in scalars.functions.items()
    }


PAIRS = [
    ((2, 1), (1, 3)), ((3,), (2, 3)), ((2, 2), ()), ((), (1, 3)), ((), ()), ((0, 2), (1, 2)), ((1,), (1, 1)),
    ((4, 1, 2), (3, 1)), ((2, 0), ()),
]  # fmt: skip


def broadcasting(dtype):
    ops = [scalars.multiply, scalars.maximum, scalars.less]
    rows = {f"{op.name}{a}{b}": Row(op, a, b) for op in ops for a, b in PAIRS}
    three = lambda c, a, b: mg.where(c > 0, a, b)
    return rows | {
        f"where{a}{b}": Row(three, (2, 1), a, b) for a, b in [((1, 3), (3,)), ((), (2, 3)), ((), ())]
    }


LAYOUTS = {
    "transposed": lambda a: a.T, "sliced": lambda a: a[1::2, ::3], "reversed": lambda a: a[::-1, ::-1],
    "column": lambda a: a[:, 2], "new axis": lambda a: a[:, None, 1:],
    "repeated": lambda a: mg.expand(a[0], 3, 6), "none": lambda a: a[2:2],
    "steps back": lambda a: a[3:0:-2, ::-2], "corner": lambda a: a[1, 2],
    "turned twice": lambda a: a[::-1].T[1:, ::2], "rows again": lambda a: a.T.reshape(3, 8)[:, ::-1],
}  # fmt: skip


def used(a):
    """What reads a view in different orders: elementwise, by rows, with itself, in a row, as a matrix."""
    found = [mg.exp(a), a.cumsum(), a * mg.flatten(a)[:1] if a.size else a]
    if a.ndim and a.size:
        found.append(mg.softmax(a))
    return [*found, a @ a.T] if a.ndim == 2 else found


def views(dtype):
    return {name: Row(lambda a, layout=layout: used(layout(a)), (4, 6)) for name, layout in LAYOUTS.items()}


def sizes(dtype):
    shapes = [(), (1,), (0,), (1, 1), (3, 0), (0, 3), (1, 4), (4, 1), (2, 1, 3)]
    rows = {}
    for name in ("sum", "max", "prod", "var"):
        for shape in shapes:
            if np.prod(shape) or name == "sum" or name == "prod":
                rows[f"{name}{shape}"] = Row(operations[name], shape)
    for name in ("mean", "max", "logsumexp", "softmax", "cumsum", "argmax"):
        for shape, axis in [((1, 4), 0), ((4, 1), 0), ((2, 1, 3), -1), ((3, 0), 0)]:
            rows[f"{name}{shape}{axis}"] = Row(lambda x, n=name, a=axis: operations[n](x, axis=a), shape)
    for a, b in [((0, 3), (3, 2)), ((2, 0), (0, 3)), ((1, 1), (1, 1)), ((2, 3), (3, 0)), ((1, 3), (3, 1))]:
        rows[f"matmul{a}{b}"] = Row(operations["matmul"], a, b)
    return rows


KINDS = {
    "f4": floats((3,), np.float32), "f8": floats((3,)), "i8": integers(3, low=1, high=9), "?": booleans(3),
    "u1": integers(3, low=1, high=9, dtype=np.uint8), "i4": integers(3, low=-9, high=-1, dtype=np.int32),
}  # fmt: skip


def dtypes(dtype):
    rows = {}
    for a in KINDS:
        for b in [b for b in KINDS if a <= b]:
            for name in ("multiply", "divide", "less"):
                rows[f"{name} {a} {b}"] = Row(getattr(scalars, name), KINDS[a], KINDS[b])
            rows[f"where {a} {b}"] = Row(scalars.where, booleans(3), KINDS[a], KINDS[b])
        for name in ("absolute", "exp", "sign", "relu", "square", "logical_not", "sigmoid"):
            if a == "?" and name in ("sign", "sigmoid"):  # NumPy has no such loops
                continue
            rows[f"{name} {a}"] = Row(getattr(scalars, name), KINDS[a])
        for name in ("sum", "mean", "max", "min", "prod", "cumsum", "argmax"):
            rows[f"{name} {a}"] = Row(operations[name], KINDS[a])
        for to in (np.float32, np.float64, np.int64, np.bool_):
            rows[f"{a} to {np.dtype(to)}"] = Row(lambda x, to=to: x.to(to), KINDS[a])
    rows["matmul i8"] = Row(operations["matmul"], integers(2, 3), integers(3, 2))
    rows["matmul f4 f8"] = Row(operations["matmul"], floats((2, 3), np.float32), floats((3, 2)))
    rows["cat f4 f8"] = Row(lambda a, b: mg.cat([a, b]), KINDS["f4"], KINDS["f8"])
    return rows


NUMBERS = {
    "x + 2": lambda x: x + 2, "2 - x": lambda x: 2 - x, "x / 3": lambda x: x / 3, "1 / x": lambda x: 1 / x,
    "0.5 * x": lambda x: 0.5 * x, "x ** 2": lambda x: x**2, "x ** 3": lambda x: x**3,
    "2 ** x": lambda x: 2.0**x,
    "x ** -1": lambda x: x**-1.0, "x > 1": lambda x: x > 1, "0 <= x": lambda x: x >= 0,
    "x == 1": lambda x: x == 1,
    "True * x": lambda x: True * x, "x - np.float64": lambda x: x - np.float64(0.1),
    "np.float32 * x": lambda x: np.float32(0.1) * x, "where(x, 1, 0)": lambda x: mg.where(x > 0, 1, 0),
    "where(x, 1.5, x)": lambda x: mg.where(x > 0, 1.5, x), "maximum(x, 0)": lambda x: mg.maximum(x, 0),
    "x + inf": lambda x: x + np.inf, "where nan": lambda x: mg.where(x > 0, x, np.nan),
    "clip": lambda x: mg.clip(x, -1, 1), "clip above": lambda x: mg.clip(x, None, 1.0),
    "x + x": lambda x: x + x,
    "x + array": lambda x: x + np.arange(3.0, dtype=np.float32), "0 * x": lambda x: 0 * x,
    "elu": lambda x: mg.elu(x, alpha=2.0), "leaky": lambda x: mg.leaky_relu(x, 0.5), "itself": lambda x: x,
    "constant": lambda x: x * 0 + mg.ones(3), "x - x": lambda x: x - x, "twice": lambda x: [x, x * 1, x],
}  # fmt: skip


def numbers(dtype):
    return {f"{name} {k}": Row(f, KINDS[k]) for k in ("f4", "i8") for name, f in NUMBERS.items()}


def indexing(dtype):
    one, two = integers(4), integers(2, 2)
    return {
        "rows": Row(lambda x, i: x[i], (3, 2), one), "pairs": Row(lambda x, i, j: x[i, j], (3, 3), one, one),
        "columns": Row(lambda x, i: x[:, i], (2, 3), one), "grid": Row(lambda x, i: x[i], (3, 2), two),
        "apart": Row(lambda x, i, j: x[i, :, j], (3, 2, 3), one, one),
        "inside": Row(lambda x, i: x[1:, i], (3, 3), two),
        "with a number": Row(lambda x, i: x[i, 1], (3, 2), one),
        "from behind": Row(lambda x, i: x[i - 3], (3, 2), one),
        "number apart": Row(lambda x, i: x[0, :, i], (2, 3, 3), one),
        "broadcast": Row(lambda x, i, j: x[i, j], (3, 3), two, integers(2)),
        "reversed": Row(lambda x, i: x[::-1, i], (3, 3), one),
        "of a view": Row(lambda x, i: x.T[i], (2, 3), one),
        "after a new axis": Row(lambda x, i: x[None, i], (3, 2), one),
        "before an ellipsis": Row(lambda x, i: x[i, ..., 1], (3, 2, 2), one),
        "a fixed list": Row(lambda x: x[[2, 0, 2]], (3, 2)),
        "a fixed mask": Row(lambda x: x[np.array([True, False, True])] * 1, (3, 2)),
        "a fixed array": Row(lambda x: x[:, np.array([[1, 1]])], (3, 2)),
        "a number's": Row(lambda x, i: x[i], (3, 2), integers()),
        "small integers": Row(lambda x, i: x[i], (3, 2), integers(4, dtype=np.uint8)),
        "by argmax": Row(lambda x: x[x.argmax(0)], (3, 3)),
        "integers' own": Row(lambda x, i: x[i], integers(3, 2), one),
        "of none": Row(lambda x, i: x[i], (3, 2), integers(0)),
        "arange": Row(lambda x, i: x[np.arange(4), i], (4, 3), one),
        "twice": Row(lambda x, i: x[i][3 - i], (3, 2), one),
        "gather": Row(lambda x, i: mg.gather(x, i, 1), (3, 4), integers(3, 2)),
        "gather 0": Row(lambda x, i: mg.gather(x, i, 0), (3, 4), integers(5, 4)),
        "one_hot": Row(lambda i: mg.one_hot(i, 3), one),
        "one_hot grid": Row(lambda i: mg.one_hot(i, 5, dtype=np.float64), two),
        "cross_entropy": Row(operations["cross_entropy_rows"], (4, 3), one),
        "argmin": Row(lambda x: x.argmin(1, keepdims=True), (3, 4)),
    }  # fmt: skip


def beside(f):
    """A function of a value that is a result, too."""

    def both(x):
        y = mg.tanh(x)
        return [y, f(y)]

    return both


def joining(dtype):
    return {
        "cat of views": Row(lambda a, b: mg.cat([a.T, b[::-1], a.T]), (2, 3), (2, 2)),
        "cat of one": Row(lambda a: mg.cat([a]), (2, 3)),
        "cat with itself": Row(lambda a: mg.cat([a, a], 1), (2, 3)),
        "cat with none": Row(lambda a, b: mg.cat([a, b]), (2, 3), (0, 3)),
        "cat with an array": Row(lambda a: mg.cat([a, np.ones((1, 3), a.dtype)]), (2, 3)),
        "stack of numbers": Row(lambda a, b: mg.stack([a, b]), (), ()),
        "stack last": Row(lambda a, b: mg.stack([a, b], -1), (2, 3), (2, 3)),
        "split uneven": Row(lambda a: mg.split(a, [1, 1, 3]), (4, 3)),
        "split and add": Row(lambda a: sum(mg.split(a, 3, 1)), (2, 6)),
        "pad with numbers": Row(lambda a: mg.pad(a, 2, 0.5), (2, 2)),
        "pad integers": Row(lambda a: mg.pad(a, 1, 7), integers(2, 2)),
        "pad none": Row(lambda a: mg.pad(a, 0), (2, 2)),
        "pad a view": Row(lambda a: mg.pad(a.T[::-1], ((1, 0), (0, 2))), (2, 3)),
        "prod with a zero": Row(lambda a: (a * np.array([1, 0, 1])).prod(-1), (2, 3)),
        "prod with zeros": Row(lambda a: (a * np.array([0, 0, 1])).prod(), (2, 3)),
        "prod keeps": Row(lambda a: (a * (a > 0)).prod(0, keepdims=True), (2, 3)),
        "max of ties": Row(lambda a: (a > 0).to(a.dtype).max(1) * mg.abs(a).max(), (3, 4)),
        "ties in a gradient": Row(lambda a: mg.maximum(a, 0.7).min(0), (5, 3)),
        "cumsum back": Row(lambda a: a[::-1].cumsum(0)[::-1], (4, 2)),
        "cumsum of a result": Row(beside(lambda y: y.cumsum(0)), (3, 3)),
        "slice of a result": Row(beside(lambda y: mg.cat([y[:, ::2], y[::-1, :2]])), (3, 3)),
        "turned results": Row(beside(lambda y: y.T * y + y[::-1]), (3, 3)),
        "indices of a result": Row(beside(lambda y: y.T[[0, 2, 0]]), (3, 3)),
        "cumsum of integers": Row(lambda a: a.cumsum(1), integers(2, 5)),
        "mean of rows": Row(lambda a: a - a.mean(1, keepdims=True), (3, 4)),
        "norm": Row(lambda a: (a - a.mean(0)) / mg.sqrt(a.var(0) + 1e-5), (6, 3)),
        "std of equals": Row(lambda a: (a * 0 + 1).std(0), (3, 2)),
        "expand": Row(lambda a: mg.expand(a, 4, 2, 3) * 2, (2, 1)),
        "swap": Row(lambda a: a.transpose(0, 2)[1], (2, 3, 4)),
        "batches": Row(lambda a, b: a @ b.transpose(), (2, 3, 4), (5, 1, 2, 4)),
        "turned": Row(lambda a, b: a.T @ b.T, (3, 2), (4, 3)),
        "sliced product": Row(lambda a, b: a[:, ::2] @ b[::-1], (3, 4), (2, 3)),
        "three": Row(lambda a, b: a @ b @ a, (2, 3), (3, 2)),
        "trace": Row(lambda a: mg.einsum("ii", a @ a.T), (3, 2)),
        "bilinear": Row(lambda a, b: mg.einsum("i,ij,j", a, b, a), (3,), (3, 3)),
        "einsum of a view": Row(lambda a, b: mg.einsum("ij,kj->ik", a.T, b[::-1]), (3, 2), (4, 3)),
        "einsum to a batch": Row(lambda a, b: mg.einsum("bij,bjk->bki", a, b), (2, 3, 4), (2, 4, 2)),
        "einsum sums": Row(lambda a: mg.einsum("ijk->k", a), (2, 3, 4)),
        "log_softmax far": Row(lambda a: mg.log_softmax(a * 500), (2, 3)),
        "logsumexp far": Row(lambda a: mg.logsumexp(a * 500, 0), (2, 3)),
        "logsumexp of nothing": Row(lambda a: mg.logsumexp(a - np.inf, 1), (2, 3), gradients=False),
        "negative zero": Row(lambda a: mg.sign(a * 0) + (0 * a == 0), (3,)),
        "nan passes": Row(lambda a: (a * np.array([1, np.nan])).max(0), (3, 2), gradients=False),
        "argmax of nan": Row(lambda a: (a * np.array([1, np.nan, 1])).argmax(1), (2, 3)),
        "argmax of ties": Row(lambda a: (a > 0).argmax(1), (3, 5)),
    }  # fmt: skip


def again(f, *others):
    """The gradient of a sum of squared gradients."""
    inner = mg.grad(lambda x, *rest: f(x, *rest).sum())
    return mg.grad(lambda x, *rest: (inner(x, *rest) ** 2).sum())


TWICE = {
    "cube": lambda x: x**3, "gelu": mg.gelu, "softmax": mg.softmax,
    "product": lambda x: x @ x.T @ x, "prod": lambda x: x.prod(0), "logsumexp": lambda x: mg.logsumexp(x, 1),
    "indices": lambda x: x[[0, 1, 1]] ** 3,
    "sliced": lambda x: x[::-1, 1:] ** 3,
    "max": lambda x: x.max(1) ** 3, "einsum": lambda x: mg.einsum("ij,kj->ik", x, x) ** 2,
    "cumsum": lambda x: x.cumsum(0) ** 3,
    "normalised": lambda x: (x - x.mean(0)) / mg.sqrt(x.var(0) + 0.1),
    "reshaped": lambda x: mg.cat([x, x**2]).T.reshape(3, 4) ** 3,
    "cross entropy": lambda x: operations["cross_entropy_rows"](x, np.array([2, 0])),
    "of a sum": lambda x: mg.pad(mg.where(x > 0, mg.sigmoid(x.sum(1, keepdims=True) * x), x), 1) ** 3,
}  # fmt: skip


def second_gradients(dtype):
    rows = {name: Row(again(f), (2, 3), gradients=False) for name, f in TWICE.items()}
    hvp = lambda x: mg.hvp(lambda x: (mg.exp(x) * x).sum(), x, np.ones(3, x.dtype))
    third = mg.grad(lambda x: again(mg.sin)(x).sum())
    return rows | {"hvp": Row(hvp, (3,), gradients=False), "third": Row(third, (3,), gradients=False)}


@mg.elementwise(domain=(-2.0, 2.0))
def bent(x, bend=0.5):
    """x on the right, tanh on the left"""
    return mg.where(x > 0, x, bend * mg.tanh(x))


@bent.slope
def _(x, y, bend):
    return mg.where(x > 0, 1, bend - y * y / bend)


@mg.elementwise(domain=((-2.0, 2.0), (-2.0, 2.0)))
def hypotenuse(a, b):
    """√(a² + b²)"""
    return mg.sqrt(a * a + b * b)


hypotenuse.slope(lambda a, b, y: (a / y, b / y))
for op in (bent, hypotenuse):
    del scalars.functions[op.name]  # the table stays as it was, for other tests


@mg.primitive
def outer(a, b, *, scale=1.0):
    """(n,), (m,) -> (n, m)"""
    return scale * np.outer(a, b)


@outer.vjp
def _(g, out, a, b, scale):
    return scale * (g @ b), scale * (g.T @ a)


@mg.primitive
def ordered(x, axis=-1):
    """np.sort"""
    return np.sort(x, axis)


@mg.primitive
def unordered(g, x, *, axis):
    """g back where the elements of x came from"""
    out = np.empty_like(g)
    np.put_along_axis(out, np.argsort(x, axis), g, axis)
    return out


ordered.vjp(lambda g, out, x, axis: unordered(g, x, axis=axis))


def own(dtype):
    return {
        "bent": Row(bent, (2, 3)), "bent more": Row(lambda x: bent(x * 2, bend=2.0) + bent(x), (2, 3)),
        "hypotenuse": Row(hypotenuse, (2, 1), (3,)), "outer": Row(outer, (2,), (3,)),
        "outer of views": Row(lambda a, b: outer(a[::-1] * 2, b.T[0], scale=3.0) ** 2, (2,), (3, 2)),
        "ordered": Row(ordered, (2, 5)),
        "ordered by columns": Row(lambda x: mg.exp(ordered(x.T, axis=1)), (5, 2)),
        "ordered of a row": Row(lambda x: ordered(x[1:, ::-1]).cumsum(1), (3, 4)),
        "outer of itself": Row(lambda a: outer(a, a), (3,)),
    }  # fmt: skip


TABLES = [
    every_primitive, every_function, broadcasting, views, sizes, dtypes, numbers, indexing, joining,
    second_gradients, own,
]  # fmt: skip


def both(rows, dtype):
    """By name the eager and the compiled results of some rows, all in one step."""
    places, arrays, second = {}, [], []
    for name, row in rows.items():
        drawn = row.draw(1, dtype)
        places[name] = slice(len(arrays), len(arrays) + len(drawn))
        arrays += drawn
        second += row.draw(2, dtype)
    function = lambda *xs: {name: row(*xs[places[name]]) for name, row in rows.items()}
    step = mg.jit(function)
    step(*arrays)
    found = step(*second)
    assert "1 variants" in repr(step)
    expected = function(*map(mg.Tensor, second))
    return {name: (expected[name], found[name]) for name in rows}


@cache
def results(table, dtype, piece):
    """What `both` gives for some rows of a table, or the error of their step."""
    try:
        return both(dict(list(table(dtype).items())[piece * TOGETHER : (piece + 1) * TOGETHER]), dtype)
    except Exception as error:
        return error


def agree(expected, found, rtol=None):
    """Compare lists of Tensors."""
    assert len(expected) == len(found)
    for one, other in zip(expected, found, strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        single = one.dtype == np.float32
        rtol, atol = (1e-5, 1e-6) if single else (rtol or 1e-12, 1e-12)
        np.testing.assert_allclose(other.data, one.data, rtol=rtol, atol=atol)


IN_BOTH = every_primitive, every_function  # the others draw float64, or name their dtypes
KINDS_OF = {t: (np.float64, np.float32) if t in IN_BOTH else (np.float64,) for t in TABLES}
ROWS = [(table, dtype, name) for table in TABLES for dtype in KINDS_OF[table] for name in table(dtype)]


def row(table, dtype, rest):
    """A row as machine code where the compiler of it could err: every operation once, and every dtype."""
    compiled = table in (dtypes, numbers) or dtype == np.float32
    return pytest.param(table, dtype, rest, marks=() if compiled else pytest.mark.interpreted)


@pytest.mark.parametrize(
    ("table", "dtype", "name"),
    [row(*one) for one in ROWS],
    ids=lambda x: x if isinstance(x, str) else x.__name__,
)
def test_compiled_is_eager(table, dtype, name):
    together = results(table, dtype, list(table(dtype)).index(name) // TOGETHER)
    if isinstance(together, Exception):  # one of the rows cannot be compiled: each on its own
        together = both({name: table(dtype)[name]}, dtype)
    agree(*together[name])


PIECES = dict.fromkeys((t, d, list(t(d)).index(name) // TOGETHER) for t, d, name in ROWS)


@pytest.mark.parametrize(
    ("table", "dtype", "piece"),
    [row(*one) for one in PIECES],
    ids=lambda x: x if isinstance(x, int) else x.__name__,
)
def test_rows_compile_together(table, dtype, piece):
    found = results(table, dtype, piece)
    if isinstance(found, Exception):
        raise found


# Random programs

UNARY = [
    mg.tanh,
    mg.sin,
    mg.exp,
    mg.abs,
    mg.relu,
    mg.sigmoid,
    mg.square,
    mg.softplus,
    lambda x: 1 - x,
    lambda x: x / 2,
]
BINARY = [
    lambda a, b: a + b, lambda a, b: a - b, lambda a, b: a * b, lambda a, b: a / (1 + b * b), mg.maximum,
    mg.minimum,
    lambda a, b: mg.where(a > b, a, b * 2), lambda a, b: mg.where(b > 0, a, 0.5), lambda a, b: (a < b) * a,
]  # fmt: skip
REDUCING = [mg.sum, mg.mean, mg.max, mg.min, mg.prod, mg.logsumexp, mg.var]
ALONG = [mg.softmax, mg.log_softmax, mg.cumsum]
SHAPES = [(2, 3), (3, 2), (3,), (3, 1), (1, 3), (2, 1), (), (2, 3, 2), (4, 3)]


@st.composite
def instructions(draw):
    """Steps of a program: a kind, and numbers that choose among what there is."""
    kinds = ["unary", "binary", "binary", "reduce", "along", "view", "matmul", "join", "pick"]
    numbers = st.integers(0, 1000)
    return [
        (draw(st.sampled_from(kinds)), *(draw(numbers) for _ in range(4)))
        for _ in range(draw(st.integers(6, 12)))
    ]


def do(kind, a, b, k, n, flag):
    """One operation on a, or on a and b, chosen by k; its axis by n. None where it does not fit."""
    axis = n % a.ndim if a.ndim else None
    match kind:
        case "unary":
            return UNARY[k % len(UNARY)](a)
        case "binary":
            fits = all(x == y or 1 in (x, y) for x, y in zip(a.shape[::-1], b.shape[::-1], strict=False))
            return BINARY[k % len(BINARY)](a, b) if fits else None
        case "reduce":
            axes = (None, axis, axis, tuple(range(a.ndim))[n % 2 :])[n % 4]
            return REDUCING[k % len(REDUCING)](a, axis=axes, keepdims=flag)
        case "along":
            return ALONG[k % len(ALONG)](a, axis) if a.ndim else None
        case "matmul":
            fits = 0 < a.ndim < 3 and 0 < b.ndim < 3 and a.shape[-1] == b.shape[0]
            return a @ b if fits else a @ a.T if a.ndim == 2 else None
        case "join":
            return mg.cat([a, b, a], axis) if a.ndim and a.shape == b.shape else mg.stack([a, a * 2], -1)
        case "pick":
            return a[np.array([0, a.shape[0] - 1, 0])] if a.ndim else None
    views = [lambda: a.T, lambda: a[::-1], lambda: a.reshape(-1), lambda: a[..., None], lambda: a[:1],
             lambda: mg.pad(a, 1),
             lambda: a[..., ::2], lambda: mg.expand(a, 2, *a.shape), lambda: a.reshape(1, -1)]  # fmt: skip
    return views[k % len(views)]() if a.ndim else a.reshape(1)


def program(steps, *xs):
    """Run the steps; the last value, all others and the gradients of a number made of several."""

    def run(*xs):
        found = list(xs)
        for kind, i, j, k, n in steps:
            # recent values more often than old ones
            a, b = (found[-1 - m % min(len(found), 4)] for m in (i, j))
            y = do(kind, a, b, k, n, bool(i % 2))
            if y is not None and y.size < 200:
                found.append(y)
        outs.extend(found[len(xs) :])
        return sum(((mg.tanh(y) * weights(y)).sum() for y in found[-3:]), start=mg.zeros(()))

    outs = []
    value, slopes = mg.value_and_grad(run, argnums=tuple(range(len(xs))))(*xs)
    return [value, *slopes, *outs]


def close(expected, found):
    """Whether the finite numbers agree to 1e-9 of the largest; the others are the business of other tests."""
    for one, other in zip(expected, found, strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        finite = np.isfinite(one.data) & (abs(one.data) < 1e100)
        size = np.abs(one.data[finite]).max(initial=1e-3)
        np.testing.assert_allclose(other.data[finite], one.data[finite], rtol=1e-9, atol=1e-9 * size)


@pytest.mark.slow
@settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
@given(instructions(), st.lists(st.sampled_from(SHAPES), min_size=2, max_size=3), st.integers(0, 1000))
def test_random_programs(steps, shapes, seed):
    first, second = (Row(None, *shapes).draw(seed + k, np.float64) for k in (0, 1))
    step = mg.jit(lambda *xs: program(steps, *xs))
    with np.errstate(all="ignore"):
        step(*first)
        found = step(*second)
        expected = program(steps, *map(mg.Tensor, second))
    if all(np.isfinite(y.data).all() for y in expected):
        close(expected, found)
