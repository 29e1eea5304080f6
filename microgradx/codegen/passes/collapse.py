"""Loops over fewer axes: neighbouring ones become one where all views allow it; fewer indices to find."""

import math

from microgradx.codegen.ir.loops import Compute, Nest, Read, Reduce, Statement, View


def collapsed(nest: Nest) -> Nest:
    """A nest with neighbouring axes as one where all views allow it: fewer indices to find."""
    if any(not isinstance(arg, Read) and not isinstance(arg, int | float) for arg in nest.args()):
        return nest  # it uses loop variables
    sums = [s for s in nest.statements if isinstance(s, Reduce)]
    axes = sums[0].axes if sums else ()
    if any(s.kind.startswith("arg") for s in sums):
        return nest
    ndim = len(nest.domain)
    kept = [a for a in range(ndim) if a not in axes]
    views = [arg.view for arg in nest.args() if isinstance(arg, Read)]
    strides = [view.strides for view in views]
    for s in nest.statements:
        if isinstance(s, Reduce):
            along = dict(zip(kept, s.out.strides, strict=True))
            strides.append(tuple(along.get(a, 0) for a in range(ndim)))
        else:
            strides.append(s.out.strides)
    size = lambda group: math.prod(nest.domain[a] for a in group)
    inner = lambda group: next((a for a in reversed(group) if nest.domain[a] > 1), group[-1])
    groups: list[list[int]] = []
    for a, n in enumerate(nest.domain):
        before = inner(groups[-1]) if groups else None
        if (
            before is not None
            and (before in axes) == (a in axes)
            and (nest.domain[before] == 1 or n == 1 or all(s[before] == s[a] * n for s in strides))
        ):
            groups[-1].append(a)
        else:
            groups.append([a])
    if len(groups) == ndim:
        return nest
    merge = lambda view: View(view.buffer, view.offset, tuple(view.strides[inner(g)] for g in groups),
                              tuple(map(size, groups)))  # fmt: skip
    new: list[Statement] = []
    for s in nest.statements:
        if isinstance(s, Compute):
            args = tuple(Read(merge(arg.view)) if isinstance(arg, Read) else arg for arg in s.args)
            new.append(Compute(merge(s.out), s.function, args, s.constants))
        else:
            left = [g for g in groups if g[0] not in axes]
            at = {a: k for k, a in enumerate(kept)}
            out = View(s.out.buffer, s.out.offset, tuple(s.out.strides[at[inner(g)]] for g in left),
                       tuple(map(size, left)))  # fmt: skip
            over = tuple(k for k, g in enumerate(groups) if g[0] in axes)
            new.append(Reduce(out, s.kind, Read(merge(s.arg.view)), over))
    return Nest(nest.line, tuple(map(size, groups)), new)
