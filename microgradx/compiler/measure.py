"""How long every kernel of a step takes: the same loops, each behind a function of its own."""

import copy
import time
from typing import Any

import numpy as np

from microgradx.compiler.items import Gather, Host, Look, Matmul, Sweep, Uniform
from microgradx.compiler.limits import limits
from microgradx.compiler.loops import Compute, Item, Nest, Rows, View
from microgradx.compiler.report import Measured, Report
from microgradx.compiler.schedule import Chain, Schedule
from microgradx.compiler.variant import Variant

REPEATS, ROUNDS = 30, 7


def report(variant: Variant) -> Report:
    """Run each kernel by itself, on the data of the last step, and leave everything as it was."""
    variant.compile()
    chains = [c for c in variant.plan.chains if not isinstance(c.items[0], Host)]
    apart = [
        Chain(c.rows, [item], c.piece) for c in chains for item in c.items if not isinstance(item, Gather)
    ]
    plan = Schedule(
        [[chain] for chain in apart], variant.plan.serial, variant.plan.arena, stored=variant.plan.stored
    )
    kernels = copy.copy(variant)
    kernels.plan = plan
    kernels.load(plan, apart=True)
    kept = [array.copy() for array in variant.kept]
    counts = variant.snapshot()
    try:
        seconds = times(kernels)
        whole = times(variant)
    finally:
        variant.undo(counts)
        for array, before in zip(variant.kept, kept, strict=True):
            array[...] = before
    found: dict[tuple[str, str], list[float]] = {}
    for chain, took in zip(apart, seconds, strict=True):
        (item,) = chain.items
        sums = found.setdefault((name_of(item), what(item)), [0.0, 0.0, 0.0])
        for k, x in enumerate((took, item.flop, traffic(item))):
            sums[k] += x
    return Report([Measured(*names, *sums) for names, sums in found.items()], limits(), sum(whole))


def times(variant: Variant) -> list[float]:
    """Seconds of each function of a variant, the best of several rounds."""
    numbers = variant.numbers(REPEATS)
    outs = [np.empty((REPEATS, *value.shape), value.dtype) for value in variant.program.outputs]
    samples = [variant.batch(k) for k in range(len(variant.program.arguments))]
    variant.table[1] = numbers
    for places, arrays in ((variant.output_at, outs), (variant.argument_at, samples)):
        for place, array in zip(places, arrays, strict=True):
            if place is not None:
                variant.table[place] = array
    functions = [part for part in variant.parts if not isinstance(part, Host)]
    best = [float("inf")] * len(functions)
    for _ in range(ROUNDS):
        for k, function in enumerate(functions):
            start = time.perf_counter()
            variant.execute(function, REPEATS, False)
            best[k] = min(best[k], (time.perf_counter() - start) / REPEATS)
    variant.status[:] = 0
    return best


def name_of(item: Item) -> str:
    """What a kernel makes."""
    if isinstance(item, Sweep):
        return item.arrays[0].buffer.name
    stored = [view.buffer.name for view, _ in item.writes()]
    return stored[-1] if stored else "nothing"


def what(item: Item) -> str:
    """How it makes that."""
    match item:
        case Matmul(a=a, b=b, form=form):
            return f"{a.buffer.name}{'.T' * (form == 'tn')} @ {b.buffer.name}{'.T' * (form == 'nt')}"
        case Sweep(update=update):
            return update.name
        case Uniform():
            return "random numbers"
        case Nest() | Rows():
            nests: list[Any] = item.nests if isinstance(item, Rows) else [item]
            names = [
                getattr(s.function, "name", "copy") if isinstance(s, Compute) else s.kind
                for nest in nests for s in nest.statements
            ]  # fmt: skip
            return ", ".join(dict.fromkeys(names))
    return type(item).__name__.lower()


def traffic(item: Item) -> float:
    """Bytes read and written, each element of memory once."""
    views: dict[Any, View] = {}
    total = 0
    if isinstance(item, Look):
        count = sum(len(rows) * (columns.stop - columns.start) for columns, rows in item.parts)
        return 2.0 * count * item.out.dtype.itemsize
    for views in ({v.buffer: v for v, _ in item.reads()}, {v.buffer: v for v, _ in item.writes()}):
        total += sum(min(v.size, v.buffer.size) * v.dtype.itemsize for v in views.values())
    return float(total)
