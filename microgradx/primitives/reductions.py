"""Sums, means, extremes, products and normalisations along axes. Names and arguments are NumPy's."""

import math
from collections.abc import Callable

import numpy as np

from microgradx.primitives.core import Case, Operand, operation, primitive
from microgradx.primitives.shapes import Axis, axes_of, expand_to, permute_axes, reshape_to, spread
from microgradx.scalars import exp, sqrt, where

# NumPy's own, whose types know `keepdims` as a literal True or False alone
add_up: Callable[..., Operand] = np.add.reduce
multiply_all: Callable[..., Operand] = np.multiply.reduce
largest: Callable[..., Operand] = np.maximum.reduce
smallest: Callable[..., Operand] = np.minimum.reduce

REDUCTIONS = (
    Case((2, 3)), Case((2, 3), axis=0), Case((2, 3), axis=-1), Case((2, 3, 4), axis=(0, -1), keepdims=True),
)  # fmt: skip


@operation(*REDUCTIONS, Case(()), Case((0, 3), axis=0))
@primitive
def sum(x: Operand, axis: Axis = None, keepdims: bool = False) -> Operand:  # noqa: A001 - NumPy's name
    """The sum over `axis`, over all axes without.

    `axis`: one, several as a tuple, or None for all; `keepdims` leaves them with size 1. ShapeError for an
    axis that x has not.

    >>> mg.sum(mg.ones(2, 3), axis=0)
    tensor([2., 2., 2.])
    """
    return add_up(x, axis, keepdims=keepdims)


@sum.vjp
def _(g: Operand, _out: Operand, _x: Operand, axis: Axis, keepdims: bool) -> Operand:
    return expand_to(spread(g, _x.shape, axis, keepdims), shape=_x.shape)


@operation(*REDUCTIONS)
@primitive
def mean(x: Operand, axis: Axis = None, keepdims: bool = False) -> Operand:
    """The mean over `axis`, over all axes without.

    `axis` and `keepdims` are those of `sum`.

    >>> mg.mean(mg.tensor([[1.0, 3.0], [5.0, 7.0]]), axis=1, keepdims=True)
    tensor([[2.],
           [6.]])
    """
    total = add_up(x, axis, keepdims=keepdims)
    return total / (x.size // (total.size or 1) or math.nan)  # each by the number of its elements


@mean.vjp
def _(g: Operand, _out: Operand, _x: Operand, axis: Axis, keepdims: bool) -> Operand:
    return expand_to(spread(g, _x.shape, axis, keepdims) / (_x.size // (g.size or 1)), shape=_x.shape)


@operation(*REDUCTIONS, Case((4, 3), axis=0, ddof=1))
def var(x: Operand, axis: Axis = None, ddof: int = 0, keepdims: bool = False) -> Operand:
    """The mean squared distance from the mean, Σ(x - mean)² / (n - ddof).

    `axis` and `keepdims` are those of `sum`; NaN where there are no more than `ddof` elements.

    >>> mg.var(mg.tensor([1.0, 3.0])), mg.var(mg.tensor([1.0, 3.0]), ddof=1)
    (tensor(1.), tensor(2.))
    """
    centred = x - mean(x, axis, True)
    squares = sum(centred * centred, axis, keepdims)
    n = x.size // (squares.size or 1) - ddof
    return squares / (n if n > 0 else math.nan)


@operation(*REDUCTIONS, Case((4, 3), axis=0, ddof=1))
def std(x: Operand, axis: Axis = None, ddof: int = 0, keepdims: bool = False) -> Operand:
    """√var; where all elements are equal its gradient is 0, as in PyTorch.

    Arguments are those of `var`.

    >>> mg.std(mg.tensor([1.0, 5.0]))
    tensor(2.)
    """
    v = var(x, axis, ddof, keepdims)
    return where(v == 0, v, sqrt(where(v == 0, v + 1, v)))


@operation(*REDUCTIONS, Case(()))
@primitive
def max(x: Operand, axis: Axis = None, keepdims: bool = False) -> Operand:  # noqa: A001
    """The maximum over `axis`; elements that tie share the gradient, as in PyTorch's amax.

    `axis` and `keepdims` are those of `sum`. ShapeError where there is no element.

    >>> mg.max(mg.tensor([[1.0, 3.0], [7.0, 5.0]]), axis=1)
    tensor([3., 7.])
    """
    return largest(x, axis, keepdims=keepdims)


@operation(*REDUCTIONS, Case(()))
@primitive
def min(x: Operand, axis: Axis = None, keepdims: bool = False) -> Operand:  # noqa: A001
    """The minimum over `axis`; elements that tie share the gradient, as in PyTorch's amin.

    `axis` and `keepdims` are those of `sum`. ShapeError where there is no element.

    >>> mg.min(mg.tensor([[1.0, 3.0], [7.0, 5.0]]), axis=1)
    tensor([1., 5.])
    """
    return smallest(x, axis, keepdims=keepdims)


@max.vjp
@min.vjp
def _(g: Operand, out: Operand, x: Operand, axis: Axis, keepdims: bool) -> Operand:
    hit = x == spread(out, x.shape, axis, keepdims)
    return spread(g, x.shape, axis, keepdims) * hit / sum(hit, axis, True)


@operation(*REDUCTIONS)
@primitive
def prod(x: Operand, axis: Axis = None, keepdims: bool = False) -> Operand:
    """The product over `axis`, over all axes without.

    `axis` and `keepdims` are those of `sum`.

    >>> mg.prod(mg.tensor([2.0, 3.0, 4.0]))
    tensor(24.)
    """
    return multiply_all(x, axis, keepdims=keepdims)


@prod.vjp
def _(g: Operand, out: Operand, x: Operand, axis: Axis, keepdims: bool) -> Operand:
    known = out if isinstance(out, np.ndarray) else None  # to be differentiated again, a quotient cancels
    if known is not None and np.all(np.isfinite(known) & (abs(known) >= np.finfo(known.dtype).tiny)):
        return spread(g, x.shape, axis, keepdims) * (spread(out, x.shape, axis, keepdims) / x)
    # Beside a zero, or where the product leaves its range, multiply the others: one row per element left out,
    # with a one in its place.
    axes = axes_of(axis, x.ndim)
    rest = tuple(a for a in range(x.ndim) if a not in axes)
    order, n = rest + axes, math.prod(x.shape[a] for a in axes)
    rows = reshape_to(permute_axes(x, axes=order), shape=(*(x.shape[a] for a in rest), 1, n))
    others = prod(where(np.eye(n, dtype=bool), 1 + 0 * rows, rows), axis=-1)
    others = reshape_to(others, shape=tuple(x.shape[a] for a in order))
    return spread(g, x.shape, axis, keepdims) * permute_axes(others, axes=tuple(np.argsort(order)))


@operation(Case((2, 3), axis=0), Case((2, 3), axis=-1), Case((2, 3)))
@primitive
def cumsum(x: Operand, axis: int | None = None) -> Operand:
    """The running sum along `axis`, over all elements in order without.

    (...) -> (...), or (size,) without `axis`; ShapeError for an axis that x has not.

    >>> mg.cumsum(mg.tensor([1.0, 2.0, 3.0]))
    tensor([1., 3., 6.])
    """
    return np.cumsum(x, axis)


@cumsum.vjp
def _(g: Operand, _out: Operand, _x: Operand, axis: int | None) -> Operand:
    before = (slice(None),) * (0 if axis is None else axis % _x.ndim)
    backwards = (*before, slice(None, None, -1))
    return reshape_to(cumsum(g[backwards], axis)[backwards], shape=_x.shape)


@operation(*REDUCTIONS)
def norm(x: Operand, axis: Axis = None, keepdims: bool = False) -> Operand:
    """The Euclidean length √Σx² over `axis`; where it is 0 its gradient is 0, as in PyTorch.

    `axis` and `keepdims` are those of `sum`.

    >>> mg.norm(mg.tensor([3.0, 4.0]))
    tensor(5.)
    """
    squares = sum(x * x, axis, keepdims)
    return where(squares == 0, squares, sqrt(where(squares == 0, squares + 1, squares)))


@operation()
def any(x: Operand, axis: Axis = None, keepdims: bool = False) -> Operand:  # noqa: A001
    """Whether an element along `axis`, or any at all, is not 0.

    `axis` and `keepdims` are those of `sum`.

    >>> mg.any(mg.tensor([[True, False], [False, False]]), axis=1)
    tensor([ True, False], dtype=bool)
    """
    return sum(x != 0, axis, keepdims) > 0


@operation()
def all(x: Operand, axis: Axis = None, keepdims: bool = False) -> Operand:  # noqa: A001
    """Whether no element along `axis`, or none at all, is 0.

    `axis` and `keepdims` are those of `sum`.

    >>> mg.all(mg.tensor([[True, True], [True, False]]), axis=1)
    tensor([ True, False], dtype=bool)
    """
    return sum(x == 0, axis, keepdims) == 0


@operation()
@primitive
def argmax(x: Operand, axis: int | None = None, keepdims: bool = False) -> Operand:
    """The position of the maximum, int64, the first where several tie; it has no gradient.

    Along `axis`, or in all elements in order without; ShapeError where there are none.

    >>> mg.argmax(mg.tensor([[1.0, 3.0], [7.0, 5.0]]), axis=1)
    tensor([1, 0], dtype=int64)
    """
    return np.argmax(x, axis, keepdims=keepdims)


@operation()
@primitive
def argmin(x: Operand, axis: int | None = None, keepdims: bool = False) -> Operand:
    """The position of the minimum, int64, the first where several tie; it has no gradient.

    Along `axis`, or in all elements in order without; ShapeError where there are none.

    >>> mg.argmin(mg.tensor([[1.0, 3.0], [7.0, 5.0]]), axis=1)
    tensor([0, 1], dtype=int64)
    """
    return np.argmin(x, axis, keepdims=keepdims)


@operation(*REDUCTIONS)
@primitive
def logsumexp(x: Operand, axis: Axis = None, keepdims: bool = False) -> Operand:
    """log Σ exp(x) over `axis`, without overflow.

    `axis` and `keepdims` are those of `sum`.

    >>> mg.logsumexp(mg.tensor([1000.0, 1000.0]))
    tensor(1000.6932)
    """
    top = np.max(x, axis, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, 0)  # so that it can be subtracted
    with np.errstate(divide="ignore"):  # log 0 = -∞ where nothing but -∞ is summed
        out = np.log(np.sum(np.exp(x - top), axis, keepdims=True)) + top
    return out if keepdims else np.squeeze(out, axes_of(axis, x.ndim))


@logsumexp.vjp
def _(g: Operand, _out: Operand, x: Operand, axis: Axis, keepdims: bool) -> Operand:
    return spread(g, x.shape, axis, keepdims) * softmax(x, axes_of(axis, x.ndim))


@operation(Case((2, 3)), Case((2, 3), axis=0))
@primitive
def softmax(x: Operand, axis: Axis = -1) -> Operand:
    """exp(x) / Σ exp(x) along `axis`, without overflow.

    (...) -> (...). `axis`: one, several as a tuple, or None for all; ShapeError for one that x has not.

    >>> mg.softmax(mg.tensor([0.0, 0.0]))
    tensor([0.5, 0.5])
    """
    y = x.copy("F") if x.ndim == 2 and axis in (1, -1, (1,)) else x  # NumPy is quickest across its rows
    y = np.exp(y - np.maximum.reduce(y, axis, keepdims=True, initial=-np.inf))
    return np.divide(y, np.add.reduce(y, axis, keepdims=True), order="C")


@softmax.vjp
def _(g: Operand, out: Operand, _x: Operand, axis: Axis) -> Operand:
    return out * (g - sum(g * out, axis, True))


@operation(Case((2, 3)), Case((2, 3), axis=0))
@primitive
def log_softmax(x: Operand, axis: Axis = -1) -> Operand:
    """log softmax(x) along `axis`, without overflow.

    `axis` is as for softmax.

    >>> mg.log_softmax(mg.tensor([0.0, 0.0]))
    tensor([-0.6931472, -0.6931472])
    """
    shifted = x - np.max(x, axis, keepdims=True, initial=-np.inf)
    return shifted - np.log(np.sum(np.exp(shifted), axis, keepdims=True))


@log_softmax.vjp
def _(g: Operand, out: Operand, _x: Operand, axis: Axis) -> Operand:
    return g - exp(out) * sum(g, axis, True)


@operation(Case((3, 4), last=(np.array([0, 3, 0]),)))
@primitive
def cross_entropy_rows(logits: Operand, labels: Operand) -> Operand:
    """-log softmax of the labelled class: logits (n, classes), integers (n,) -> (n,)."""
    z = np.array(logits.T, order="C")  # classes first: NumPy is quickest along the first axis
    z -= np.maximum.reduce(z, 0, initial=-np.inf)
    return np.log(np.add.reduce(np.exp(z), 0)) - z[labels, np.arange(len(labels))]


@cross_entropy_rows.vjp
def _(g: Operand, _out: Operand, logits: Operand, labels: Operand) -> tuple[Operand, None]:
    hit = labels[:, None] == np.arange(logits.shape[1])
    return (softmax(logits, 1) - hit) * g[:, None], None
