"""What each primitive is made of: views of memory, loops, products."""

import math
from functools import partial
from operator import itemgetter
from types import EllipsisType

import numpy as np

from microgradx.codegen.ir.loops import Bounded, Index, Pick, Read, View
from microgradx.codegen.ir.ops import Matmul, Running, Scatter
from microgradx.codegen.passes.lower import Axes, Lowering, Shape, lowers
from microgradx.primitives import indexing, products, reductions, shapes

Subscript = indexing.Slot | int | np.integer | slice | EllipsisType | None
"""A part of an index."""

Subscripts = Subscript | tuple[Subscript, ...]

# Other shapes and dtypes


@lowers(shapes.reshape_to)
def _(low: Lowering, x: View, shape: Shape) -> View:
    try:
        return x.through(lambda a: np.reshape(a, shape, copy=False))
    except ValueError:
        return low.copy(x).through(lambda a: np.reshape(a, shape))


@lowers(shapes.permute_axes)
def _(low: Lowering, x: View, axes: Shape) -> View:
    return x.through(lambda a: np.transpose(a, axes))


@lowers(shapes.expand_to)
def _(low: Lowering, x: View | float, shape: Shape) -> View:
    if not isinstance(x, View):
        return low.compute("", None, x, dtype=low.out.dtype, shape=shape)
    return x.spread(tuple(shape))


@lowers(shapes.cast)
def _(low: Lowering, x: View, dtype: np.dtype) -> View:
    return x if x.dtype == dtype else low.copy(x, "", dtype)


# Indices


def places(
    low: Lowering, shape: Shape, x: View, indices: tuple[View, ...], index: Subscripts, wrap: bool = True
) -> tuple[View, tuple[Bounded | Index, ...]]:
    """How x[index] picks its elements: a view of x, and for each of its axes where in a domain of `shape`."""
    template = expanded(index, x.ndim)
    counted = {  # by axis, what is neither a slice nor a new axis
        k: indices[part.number] if isinstance(part, indexing.Slot) else part
        for k, part in enumerate(template)
        if isinstance(part, indexing.Slot | int)
    }
    free = tuple(slice(None) if k in counted else part for k, part in enumerate(template))
    base = x.through(itemgetter((*free, ...)))
    common = np.broadcast_shapes(*(a.shape for a in counted.values() if isinstance(a, View)))
    begin, *_, end = [*counted, *counted]
    adjacent = list(counted) == list(range(begin, end + 1))
    first = begin if adjacent else 0
    behind = len(shape) - first - len(common)
    at: list[Bounded | Index] = []
    axis = 0  # of the domain
    for k in range(base.ndim):
        if axis == first and (k in counted or not adjacent):
            axis += len(common) if k == begin or not adjacent else 0
        if k not in counted:
            at.append(Index(axis))
            axis += 1
            continue
        place = counted[k]
        if isinstance(place, View):
            whole = place.spread(common).through(lambda a: a[(..., *(None,) * behind)])
            at.append(Bounded(Read(whole.spread(shape)), base.shape[k], wrap))
        else:
            at.append(Bounded(place, base.shape[k], wrap))
    return base, tuple(at)


def expanded(index: Subscripts, ndim: int) -> tuple[Subscript, ...]:
    """An index with a part for every axis."""
    given = index if isinstance(index, tuple) else (index,)
    parts = tuple(int(p) if isinstance(p, np.integer) else p for p in given)
    used = sum(part is not None and part is not Ellipsis for part in parts)
    rest = (slice(None),) * (ndim - used)
    if Ellipsis in [p for p in parts if not isinstance(p, indexing.Slot)]:
        k = next(k for k, p in enumerate(parts) if p is Ellipsis)
        return (*parts[:k], *rest, *parts[k + 1 :])
    return (*parts, *rest)


NO_AXIS = "index with None in the place of a boolean that has no axis"


@lowers(indexing.getitem)
def _(low: Lowering, x: View, *indices: View, index: Subscripts, strict: bool = False) -> View:
    if not indices:
        return x.through(itemgetter((*expanded(index, x.ndim), ...)))  # `...`: a view even of one element
    if any(array.dtype == bool for array in indices):  # no fixed mask, see `simplify.positions`
        return low.host("getitem", partial(indexing.getitem.forward, index=index), [x, *indices], NO_AXIS)
    shape = low.out.shape
    base, at = places(low, shape, x, indices, index, not strict)
    return low.compute("", None, Pick(base, at), dtype=x.dtype, shape=shape)


@lowers(indexing.put)
def _(low: Lowering, g: View, *indices: View, index: Subscripts, shape: Shape) -> View:
    if any(array.dtype == bool for array in indices):
        return low.host(
            "put", partial(indexing.put.forward, index=index, shape=shape), [g, *indices], NO_AXIS
        )
    out = low.compute("", None, 0, dtype=g.dtype, shape=shape)
    if indices and g.size:
        base, at = places(low, g.shape, out, indices, index)
        low.add(Scatter(None, base, g.shape, Read(g), at))
    elif not indices:
        target = out.through(itemgetter((*expanded(index, out.ndim), ...)))
        low.nest(target, None, Read(g.spread(target.shape)))
    return out


@lowers(indexing.pick)
def _(low: Lowering, x: View, index: View) -> View:
    return low.compute("", None, Pick(x, (Index(0), Bounded(Read(index), x.shape[1], False))), dtype=x.dtype,
                       shape=index.shape)  # fmt: skip


@lowers(indexing.concatenate)
def _(low: Lowering, *xs: View | float, axis: int, ends: list[int]) -> View:
    out = low.new(low.out.shape, low.out.dtype)
    for x, start, stop in zip(xs, ends, ends[1:], strict=False):
        target = out.through(itemgetter((*(slice(None),) * axis, slice(start, stop))))
        low.nest(target, None, Read(x) if isinstance(x, View) else x)
    return out


@lowers(indexing.pad_by)
def _(low: Lowering, x: View, width: list[tuple[int, int]], value: float) -> View:
    out = low.compute("", None, value, dtype=x.dtype, shape=low.out.shape)
    inner = tuple(slice(before, before + n) for (before, _), n in zip(width, x.shape, strict=True))
    low.nest(out.through(lambda a: a[inner]), None, Read(x))
    return out


@lowers(indexing.encode)
def _(low: Lowering, labels: View, num_classes: int, dtype: np.dtype) -> View:
    shape = low.out.shape
    label = Bounded(Read(labels.through(lambda a: a[..., None]).spread(shape)), shape[-1], False)
    return low.compute("", "equal", label, Index(len(shape) - 1), dtype=dtype, shape=shape)


# Sums and their like


@lowers(reductions.sum)
def _(low: Lowering, x: View, axis: Axes = None, keepdims: bool = False) -> View:
    return low.reduce("", "sum", x, axis, keepdims, low.out.dtype)


@lowers(reductions.mean)
def _(low: Lowering, x: View, axis: Axes = None, keepdims: bool = False) -> View:
    out = low.out
    total = low.reduce("total", "sum", x, axis, keepdims, out.dtype)
    return low.compute("", "divide", total, float(x.size // (total.size or 1) or math.nan))


@lowers(reductions.prod)
def _(low: Lowering, x: View, axis: Axes = None, keepdims: bool = False) -> View:
    return low.reduce("", "prod", x, axis, keepdims, low.out.dtype)


@lowers(reductions.max)
def _(low: Lowering, x: View, axis: Axes = None, keepdims: bool = False) -> View:
    return low.reduce("", "max", x, axis, keepdims)


@lowers(reductions.min)
def _(low: Lowering, x: View, axis: Axes = None, keepdims: bool = False) -> View:
    return low.reduce("", "min", x, axis, keepdims)


def flat_if_all(low: Lowering, x: View, axis: int | None) -> tuple[View, int]:
    """For an axis of None: all elements in a row."""
    if axis is None:
        return low.tight(x).through(lambda a: np.reshape(a, -1)), 0
    return x, axis % x.ndim


@lowers(reductions.argmax)
def _(low: Lowering, x: View, axis: int | None = None, keepdims: bool = False) -> View:
    x, a = flat_if_all(low, x, axis)
    return low.reduce("", "argmax", x, a, keepdims, np.int64)


@lowers(reductions.argmin)
def _(low: Lowering, x: View, axis: int | None = None, keepdims: bool = False) -> View:
    x, a = flat_if_all(low, x, axis)
    return low.reduce("", "argmin", x, a, keepdims, np.int64)


@lowers(reductions.cumsum)
def _(low: Lowering, x: View, axis: int | None = None) -> View:
    x, a = flat_if_all(low, x, axis)
    out = low.new(x.shape, low.out.dtype)
    last = lambda v: v.through(lambda m: np.moveaxis(m, a, -1))  # noqa: E731
    low.add(Running(None, last(out), last(x)))
    return out


def exponentials(low: Lowering, x: View, axis: Axes, finite: bool = False) -> tuple[View, ...]:
    """x minus its maximum along an axis, exp of that, and their sum: made once for a loss and its gradient.

    `finite`: a maximum that cannot be subtracted counts as 0.
    """
    axes = shapes.axes_of(axis, x.ndim) if x.ndim else ()
    key = "exponentials", low.now.inputs[0], axes, finite
    if key not in low.shared:
        top = low.reduce("top", "max", x, axis, True)
        if finite:
            known = low.compute("finite", "less", low.compute("size", "absolute", top), math.inf, dtype=bool)
            top = low.compute("top", "where", known, top, 0.0, dtype=x.dtype)
        below = low.compute("shifted", "subtract", x, top)
        e = low.compute("exp_shifted", "exp", below)
        low.shared[key] = top, below, e, low.reduce("total", "sum", e, axis, True)
    return low.shared[key]


@lowers(reductions.logsumexp)
def _(low: Lowering, x: View, axis: Axes = None, keepdims: bool = False) -> View:
    top, _, _, total = exponentials(low, x, axis, finite=True)
    return low.compute("", "add", low.compute("log_total", "log", total), top)


@lowers(reductions.softmax)
def _(low: Lowering, x: View, axis: int = -1) -> View:
    _, _, e, total = exponentials(low, x, axis)
    return low.compute("", "divide", e, total)


@lowers(reductions.log_softmax)
def _(low: Lowering, x: View, axis: int = -1) -> View:
    _, below, _, total = exponentials(low, x, axis)
    return low.compute("", "subtract", below, low.compute("log_total", "log", total))


@lowers(reductions.cross_entropy_rows)
def _(low: Lowering, logits: View, labels: View) -> View:
    top, _, _, total = (view.through(lambda a: np.reshape(a, -1)) for view in exponentials(low, logits, 1))
    right = Pick(logits, (Index(0), Bounded(Read(labels), logits.shape[1], False)))
    below = low.compute("labelled", "subtract", right, top)
    return low.compute("", "subtract", low.compute("log_total", "log", total), below)


# Products


def matrix(low: Lowering, view: View, dtype: np.dtype) -> tuple[View, bool]:
    """A view that BLAS can read, and whether it is given transposed."""
    if view.dtype != dtype:
        return low.copy(view, dtype=dtype), False
    if view.dense:
        return view, False
    turned = view.through(np.transpose)
    return (turned, True) if turned.dense else (low.copy(view), False)


def product(low: Lowering, a: View, b: View, name: str = "") -> View:
    """(n, k) @ (k, m)"""
    dtype = low.out.dtype
    if not a.size or not b.size:
        return low.compute(name, None, 0, dtype=dtype, shape=(a.shape[0], b.shape[1]))
    out = low.new((a.shape[0], b.shape[1]), dtype, name)
    (a, a_turned), (b, b_turned) = matrix(low, a, dtype), matrix(low, b, dtype)
    if a_turned and b_turned:
        b, b_turned = low.copy(b.through(np.transpose)), False
    low.add(Matmul(None, out, a, b, "tn" if a_turned else "nt" if b_turned else "nn"))
    return out


@lowers(products.multiply_matrices)
def _(low: Lowering, a: View, b: View) -> View:
    if a.ndim == b.ndim == 2 and low.out.dtype.kind == "f":
        return product(low, a, b)
    letters = "abcdefgh"[: max(a.ndim, b.ndim) - 2]
    terms = [letters[len(letters) - (x.ndim - 2) :] for x in (a, b)]
    sizes = [dict(zip(term, x.shape, strict=False)) for term, x in zip(terms, (a, b), strict=True)]
    kept = [[c for c in term if size[c] != 1 or c not in other] for term, size, other in
            zip(terms, sizes, sizes[::-1], strict=True)]  # fmt: skip
    trimmed = []
    for x, term, keep in zip((a, b), terms, kept, strict=True):
        index = tuple(slice(None) if c in keep else 0 for c in term)
        trimmed.append(x.through(itemgetter(index)))
    left, right = ("".join(k) for k in kept)
    batch = [c for c in letters if c in left or c in right]
    return contraction(low, trimmed, [left + "nk", right + "km"], "".join(batch) + "nm")


@lowers(products.affine)
def _(low: Lowering, x: View, weight: View, bias: View) -> View:
    return low.compute(
        "", "add", product(low, x, weight, f"{low.out.name}_product"), bias, dtype=low.out.dtype
    )


@lowers(products.contract)
def _(low: Lowering, *operands: View, equation: str) -> View:
    left, result = equation.split("->")
    terms, views = left.split(","), list(operands)
    while len(views) > 2:  # in NumPy's order, two at a time
        empty = [np.empty(x.shape, bool) for x in views]
        pair = np.einsum_path(f"{','.join(terms)}->{result}", *empty, optimize="greedy")[0][1]
        taken = sorted(pair, reverse=True)
        some, given = [terms.pop(k) for k in taken], [views.pop(k) for k in taken]
        kept = {c for c in "".join(some) if c in result or any(c in term for term in terms)}
        terms.append("".join(sorted(kept)))
        views.append(contraction(low, given, some, terms[-1], "pair"))
    return contraction(low, views, terms, result)


def contraction(low: Lowering, operands: list[View], terms: list[str], result: str, name: str = "") -> View:
    """Einstein summation as loops: the last letter of the result runs innermost."""
    summed = sorted({c for term in terms for c in term} - set(result))
    order = [*result[:-1], *summed, *result[-1:]]
    sizes = {
        c: n for term, x in zip(terms, operands, strict=True) for c, n in zip(term, x.shape, strict=True)
    }
    domain = tuple(sizes[c] for c in order)
    args = []
    for term, x in zip(terms, operands, strict=True):
        turned = x.through(partial(np.transpose, axes=[term.index(c) for c in order if c in term]))
        gaps = tuple(slice(None) if c in term else None for c in order)
        args.append(turned.through(itemgetter((*gaps, ...))).spread(domain))
    dtype = low.out.dtype
    whole = args[0]
    for x in args[1:]:
        whole = low.compute("product", "multiply", whole, x, dtype=dtype, shape=domain)
    along = tuple(order.index(c) for c in summed)
    return low.reduce(name, "sum", whole, along, dtype=dtype) if along else low.copy(whole, name)
