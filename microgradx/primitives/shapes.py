"""The same elements under other shapes and dtypes."""

import math

import numpy as np
from numpy.typing import DTypeLike

from microgradx.errors import ShapeError
from microgradx.kernels.strided import Size
from microgradx.primitives.core import Case, Operand, Shape, operation, primitive

Axis = int | tuple[int, ...] | None
"""NumPy's `axis`: one, several, or all."""


def axes_of(axis: Axis, ndim: int) -> tuple[int, ...]:
    """The axes meant by NumPy's `axis`, all counted from 0."""
    if axis is None:
        return tuple(range(ndim))
    axes = axis if isinstance(axis, tuple | list) else (axis,)
    if any(not -ndim <= a < ndim for a in axes):
        raise ShapeError(f"axis {axis} is out of range for an array of {ndim} axes.")
    return tuple(a % ndim for a in axes)


def one_shape(sizes: tuple[Size, ...]) -> Shape:
    """(2, 3) from f(2, 3) and from f((2, 3))."""
    return tuple(sizes[0]) if len(sizes) == 1 and isinstance(sizes[0], tuple | list) else tuple(sizes)


def spread(g: Operand, shape: Shape, axis: Axis, keepdims: bool) -> Operand:
    """A reduced array in a shape that broadcasts against the `shape` that it was reduced from."""
    if keepdims or axis is None and g.ndim == 0:
        return g
    axes = axes_of(axis, len(shape))
    return reshape_to(g, shape=tuple(1 if a in axes else n for a, n in enumerate(shape)))


@primitive
def cast(x: Operand, *, dtype: DTypeLike) -> Operand:
    """The same values in another dtype."""
    return np.asarray(x).astype(dtype)


@cast.vjp
def _(g: Operand, _out: Operand, _x: Operand, dtype: DTypeLike) -> Operand:
    return cast(g, dtype=_x.dtype)


@primitive
def reshape_to(x: Operand, *, shape: Shape) -> Operand:
    """The same elements, in the same order, in another shape: a view where possible."""
    return np.reshape(x, shape)


@reshape_to.vjp
def _(g: Operand, _out: Operand, _x: Operand, shape: Shape) -> Operand:
    return reshape_to(g, shape=_x.shape)


@operation(
    Case((2, 6), shape=(3, 4)), Case((2, 3), shape=(-1,)), Case((), shape=(1,)), Case((0, 2), shape=(0,))
)
def reshape(x: Operand, *sizes: int | Shape, shape: int | Shape | None = None) -> Operand:
    """The same elements in another shape: `reshape(x, 3, -1)`, `reshape(x, (3, -1))`; one size may be -1.

    A view where possible. ShapeError where the sizes do not multiply to x.size.

    >>> mg.reshape(mg.arange(6), 2, -1)
    tensor([[0, 1, 2],
           [3, 4, 5]], dtype=int64)
    """
    return reshape_to(x, shape=one_shape(sizes if shape is None else (shape,)))


@operation(Case((1, 3, 1)), Case((1, 3, 1), axis=0), Case((2, 3)))
def squeeze(x: Operand, axis: Axis = None) -> Operand:
    """Drop axes of size 1: all, or those named; an axis of another size stays, as in PyTorch.

    ShapeError for an axis that x has not.

    >>> mg.squeeze(mg.ones(1, 3, 1), axis=0).shape
    (3, 1)
    """
    drop = [a for a in axes_of(axis, x.ndim) if x.shape[a] == 1]
    return reshape_to(x, shape=tuple(n for a, n in enumerate(x.shape) if a not in drop))


@operation(Case((2, 3), axis=0), Case((2, 3), axis=-1), Case((), axis=0))
def unsqueeze(x: Operand, axis: int) -> Operand:
    """Insert an axis of size 1 at `axis`.

    (n, m) -> (n, m, 1) for -1. ShapeError where `axis` is not between -ndim - 1 and ndim.

    >>> mg.unsqueeze(mg.ones(3), -1).shape
    (3, 1)
    """
    (a,) = axes_of(axis, x.ndim + 1)
    return reshape_to(x, shape=(*x.shape[:a], 1, *x.shape[a:]))


@operation(Case((2, 3, 4)), Case((2, 3, 4), start_dim=1), Case((2, 3, 4), start_dim=0, end_dim=1), Case(()))
def flatten(x: Operand, start_dim: int = 0, end_dim: int = -1) -> Operand:
    """Merge the axes from `start_dim` to `end_dim`, both included, into one.

    ShapeError for axes that x has not; a single number becomes (1,).

    >>> mg.flatten(mg.ones(2, 3, 4), start_dim=1).shape
    (2, 12)
    """
    if x.ndim == 0:
        return reshape_to(x, shape=(1,))
    a, b = axes_of((start_dim, end_dim), x.ndim)
    return reshape_to(x, shape=(*x.shape[:a], math.prod(x.shape[a : b + 1]), *x.shape[b + 1 :]))


@primitive
def permute_axes(x: Operand, *, axes: tuple[int, ...]) -> Operand:
    """The axes in the order given: a view."""
    return np.transpose(x, axes)


@permute_axes.vjp
def _(g: Operand, _out: Operand, _x: Operand, axes: tuple[int, ...]) -> Operand:
    return permute_axes(g, axes=tuple(np.argsort(axes)))


@operation(Case((2, 3, 4)), Case((2, 3, 4), axes=(1, 2, 0)), Case((3,), axes=(0,)))
def permute(x: Operand, *order: int | Shape, axes: Shape | None = None) -> Operand:
    """Reorder the axes, `permute(x, 2, 0, 1)`; without axes, reverse them.

    A view. ShapeError where an axis is named twice, or is none of x.

    >>> mg.permute(mg.ones(2, 3, 4), 2, 0, 1).shape
    (4, 2, 3)
    """
    named = one_shape(order if axes is None else (axes,)) or tuple(range(x.ndim))[::-1]
    return permute_axes(x, axes=axes_of(named, x.ndim))


@operation(Case((2, 3)), Case((2, 3, 4), axis0=0, axis1=-1))
def transpose(x: Operand, axis0: int = -2, axis1: int = -1) -> Operand:
    """Swap two axes, the last two unless told otherwise.

    A view. ShapeError for an axis that x has not.

    >>> mg.transpose(mg.ones(2, 3, 4)).shape
    (2, 4, 3)
    """
    axes = list(range(x.ndim))
    a, b = axes_of((axis0, axis1), x.ndim)
    axes[a], axes[b] = b, a
    return permute_axes(x, axes=tuple(axes))


@primitive
def expand_to(x: Operand, *, shape: Shape) -> Operand:
    """Repeat along axes of size 1 and new leading axes: a view."""
    if np.ndim(x) == 0:  # the gradient of every sum and mean: ten times as quick as broadcast_to
        return np.ndarray(shape, x.dtype, x.tobytes(), 0, (0,) * len(shape))
    return np.broadcast_to(x, shape)


@expand_to.vjp
def _(g: Operand, _out: Operand, _x: Operand, shape: Shape) -> Operand:
    return g  # the tape sums over what was repeated


@operation(
    Case((1, 3), shape=(2, 3)), Case((3,), shape=(2, 3)), Case((2, 1), shape=(-1, 4)), Case((), shape=(2,))
)
def expand(x: Operand, *sizes: int | Shape, shape: int | Shape | None = None) -> Operand:
    """Repeat axes of size 1 up to the given sizes; -1 keeps a size.

    A view. ShapeError where another size than 1 would change.

    >>> mg.expand(mg.tensor([[1.0], [2.0]]), -1, 3)
    tensor([[1., 1., 1.],
           [2., 2., 2.]])
    """
    shape = one_shape(sizes if shape is None else (shape,))
    old = (1,) * (len(shape) - x.ndim) + tuple(x.shape)
    return expand_to(x, shape=tuple(o if n == -1 else n for o, n in zip(old, shape, strict=False)))


reshape_to.name, permute_axes.name, expand_to.name = "reshape", "permute", "expand"  # as users call them
