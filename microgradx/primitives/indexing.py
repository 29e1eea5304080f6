"""Picking elements, and joining arrays."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from microgradx.errors import ArgumentError, ShapeError
from microgradx.kernels.strided import Index
from microgradx.primitives.core import Case, Operand, Shape, operation, primitive, values
from microgradx.primitives.shapes import axes_of, unsqueeze

Widths = tuple[tuple[int, int], ...]
"""How much stands before and after, per axis."""


@dataclass(frozen=True)
class Slot:
    """In an index, the place of the array of this number."""

    number: int


def fill(index: Index, arrays: Sequence[Operand]) -> Index:
    """An index with the arrays in their slots, as NumPy takes it."""
    if not arrays or len(arrays) == len(index):
        return tuple(arrays) or index
    return tuple([arrays[part.number] if type(part) is Slot else part for part in index])


def ends(index: np.ndarray | None) -> tuple[int, int]:
    """The smallest and the largest of integers of any dtype; 0 and -1 where there are none, or unknown."""
    return (0, -1) if index is None or not index.size else (int(index.min()), int(index.max()))


@primitive
def getitem(x: Operand, *indices: Operand, index: Index, strict: bool = False) -> Operand:
    """x[index]: basic slices; in its slots integer arrays and boolean masks.

    Where `strict`, negative numbers have been refused before: compiled code must refuse them, too.
    """
    return x[fill(index, indices)]


@getitem.vjp
def _(
    g: Operand, _out: Operand, _x: Operand, *indices: Operand, index: Index, strict: bool
) -> tuple[Operand, ...]:
    return put(g, *indices, index=index, shape=_x.shape), *(None for _ in indices)


@primitive
def put(g: Operand, *indices: Operand, index: Index, shape: Shape) -> Operand:
    """Zeros of `shape` with g added at `index`: the transpose of getitem."""
    out = np.zeros(shape, g.dtype)
    if any(array.dtype != bool for array in indices):
        np.add.at(out, fill(index, indices), g)  # integer arrays may meet an element more than once
    else:
        out[fill(index, indices)] = g
    return out


@put.vjp
def _(
    h: Operand, _out: Operand, _g: Operand, *indices: Operand, index: Index, shape: Shape
) -> tuple[Operand, ...]:
    return getitem(h, *indices, index=index), *(None for _ in indices)


@primitive
def pick(x: Operand, index: Operand) -> Operand:
    """One element of each row, x[i, index[i]]: (n, m), integers (n,) -> (n,)."""
    return x[np.arange(len(x)), index]


@pick.vjp
def _(g: Operand, _out: Operand, _x: Operand, index: Operand) -> tuple[Operand, None]:
    rows = np.arange(_x.shape[0])
    return put(g, rows, index, index=(Slot(0), Slot(1)), shape=_x.shape), None


@operation(Case((3, 4), index=[[0, 1], [3, 3], [2, 0]], axis=1), Case((3, 2), index=[[2, 2]], axis=0))
def gather(x: Operand, index: Operand, axis: int) -> Operand:
    """Pick along one axis, out[i, j] = x[i, index[i, j]] for axis=1: PyTorch's gather.

    `index`: integers of x's number of axes. ShapeError where the shapes differ beside the axis, ArgumentError
    for indices out of range.

    >>> mg.gather(mg.tensor([[1.0, 2.0], [3.0, 4.0]]), [[1], [0]], axis=1)
    tensor([[2.],
           [3.]])
    """
    settled = values(index)
    index = index if settled is None else settled
    if not index.ndim and x.ndim:
        raise ArgumentError(f"gather takes the index before the axis: write gather(x, index, {index}).")
    (a,) = axes_of(axis, x.ndim)
    fits = zip(index.shape, x.shape, range(x.ndim), strict=False)
    if index.ndim != x.ndim or any(n > m for n, m, i in fits if i != a):
        raise ShapeError(f"gather: the index of shape {index.shape} does not fit {x.shape} beside axis {a}.")
    low, high = ends(settled)
    if low < 0 or high >= x.shape[a]:
        raise ArgumentError(f"gather: axis {a} has size {x.shape[a]}, the indices run from {low} to {high}.")
    grid = np.ix_(*map(np.arange, index.shape))
    index_of = tuple(map(Slot, range(x.ndim)))
    return getitem(x, *grid[:a], index, *grid[a + 1 :], index=index_of, strict=True)


@primitive
def concatenate(*xs: Operand, axis: int, ends: list[int]) -> Operand:
    """np.concatenate, with the positions where the pieces meet"""
    return np.concatenate(xs, axis)


@concatenate.vjp
def _(g: Operand, _out: Operand, *_xs: Operand, axis: int, ends: list[int]) -> tuple[Operand, ...]:
    before = (slice(None),) * axis
    return tuple(getitem(g, index=(*before, slice(i, j))) for i, j in pairwise(ends))


@operation(Case((2, 3), (1, 3), as_list=True), Case((2, 1), (2, 2), (2, 3), as_list=True, axis=-1))
def cat(tensors: Sequence[Operand], axis: int = 0) -> Operand:
    """Join a list of arrays along an axis that they have.

    ShapeError where shapes differ beside `axis`, ArgumentError for an empty list.

    >>> mg.cat([mg.ones(2, 1), mg.zeros(2, 2)], axis=1)
    tensor([[1., 0., 0.],
           [1., 0., 0.]])
    """
    shapes = [tuple(np.shape(x)) for x in tensors]
    if not shapes:
        raise ArgumentError("cat: the list is empty; give at least one array.")
    (a,) = axes_of(axis, len(shapes[0]))
    if len({(len(s), s[:a], s[a + 1 :]) for s in shapes}) > 1:
        raise ShapeError(f"cat: the shapes {', '.join(map(str, shapes))} differ beside axis {a}.")
    ends = np.cumsum([0, *(s[a] for s in shapes)]).tolist()
    return concatenate(*tensors, axis=a, ends=ends)


@operation(Case((2, 3), (2, 3), as_list=True), Case((2,), (2,), as_list=True, axis=-1))
def stack(tensors: Sequence[Operand], axis: int = 0) -> Operand:
    """Join a list of arrays of one shape along a new axis.

    (n, m) of k arrays -> (k, n, m). ShapeError where shapes differ.

    >>> mg.stack([mg.ones(2), mg.zeros(2)])
    tensor([[1., 1.],
           [0., 0.]])
    """
    return cat([unsqueeze(x, axis) for x in tensors], axis)


@operation(Case((4, 3), sections=2), Case((3, 5), sections=[1, 4], axis=1))
def split(x: Operand, sections: int | Sequence[int], axis: int = 0) -> list[Operand]:
    """A list of pieces along an axis: so many equal ones, or cut at these positions, as np.split does.

    PyTorch's split counts elements instead of pieces: its split(x, 2) is split(x, range(2, len(x), 2)) here.

    ShapeError where x does not divide so.

    >>> mg.split(mg.arange(6), 2), mg.split(mg.arange(6), [1, 3])[1]
    ([tensor([0, 1, 2], dtype=int64), tensor([3, 4, 5], dtype=int64)], tensor([1, 2], dtype=int64))
    """
    (a,) = axes_of(axis, x.ndim)
    n = x.shape[a]
    if isinstance(sections, int):
        if sections < 1 or n % sections:
            raise ShapeError(
                f"split: axis {a} of {x.shape} does not divide into {sections} equal parts. For pieces of "
                f"{sections} elements, as PyTorch counts, write split(x, range({sections}, {n}, {sections}))."
            )
        sections = range(n // sections, n, n // sections) if n else [0] * (sections - 1)
    before = (slice(None),) * a
    return [getitem(x, index=(*before, slice(i, j))) for i, j in pairwise([0, *sections, n])]


@primitive
def pad_by(x: Operand, *, width: Widths, value: float) -> Operand:
    """np.pad with a constant"""
    return np.pad(x, width, constant_values=value)


@pad_by.vjp
def _(g: Operand, _out: Operand, _x: Operand, width: Widths, value: float) -> Operand:
    sides = zip(width, _x.shape, strict=True)
    return getitem(g, index=tuple(slice(before, before + n) for (before, _), n in sides))


@operation(Case((2, 3), pad_width=1), Case((2, 3), pad_width=((1, 0), (0, 2)), value=2.0))
def pad(x: Operand, pad_width: "ArrayLike", value: float = 0.0) -> Operand:
    """Surround with a constant: one width for all sides, or (before, after) per axis.

    ArgumentError for a negative width.

    >>> mg.pad(mg.ones(2), ((1, 2),))
    tensor([0., 1., 1., 0., 0.])
    """
    width = np.broadcast_to(pad_width, (x.ndim, 2)).tolist()
    if any(n < 0 for sides in width for n in sides):
        raise ArgumentError(f"pad: widths must not be negative, here they are {width}.")
    return pad_by(x, width=tuple(map(tuple, width)), value=value)


@primitive
def encode(labels: Operand, *, num_classes: int, dtype: "DTypeLike") -> Operand:
    """(...) -> (..., num_classes)"""
    return np.eye(num_classes, dtype=dtype)[labels]


@operation()
def one_hot(labels: Operand, num_classes: int | None = None, dtype: "DTypeLike" = np.float32) -> Operand:
    """Integer labels of any shape to (..., num_classes): 1 at the label, 0 elsewhere.

    Without `num_classes` as many as the largest label asks for. ArgumentError for labels that are no
    integers, or name no class.

    >>> mg.one_hot(mg.tensor([2, 0]), 3)
    tensor([[0., 0., 1.],
           [1., 0., 0.]])
    """
    labels = labels if hasattr(labels, "dtype") else np.asarray(labels)
    if labels.dtype.kind not in "iu":
        raise ArgumentError(f"one_hot: labels must be integers, these are {labels.dtype}.")
    known = np.asarray(labels) if num_classes is None else values(labels)
    low, high = ends(known)
    n = high + 1 if num_classes is None else num_classes
    if low < 0 or high >= n:
        raise ArgumentError(f"one_hot: {n} classes allow labels 0 to {n - 1}, here {low} to {high}.")
    return encode(labels, num_classes=n, dtype=dtype)


encode.name = "one_hot"  # as users call it
