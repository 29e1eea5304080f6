"""How long every kernel of a step takes: the same loops, each behind a function of its own."""

import math
import time

import numpy as np

from microgradx.codegen.ir.loops import Compute, Item, Nest, Rows
from microgradx.codegen.ir.ops import Gather, Host, Look, Matmul, Sweep, Uniform
from microgradx.codegen.passes.schedule import Chain, Schedule
from microgradx.compiler.report.machine_limits import limits
from microgradx.compiler.report.report import Measured, Report
from microgradx.compiler.run.compiled_step import CompiledStep
from microgradx.compiler.run.executable import Executable, Part, Run
from microgradx.errors import DeviceError
from microgradx.kernels.random import generator

LEAST, MOST, ROUNDS = 30, 2000, 7
ENOUGH = 0.01  # seconds that a round should take, so that calling compiled code does not count


def report(step: CompiledStep) -> Report:
    """Run each kernel by itself, on the data of the last step, and leave everything as it was.

    What is NumPy's or the user's own within the step is called again, too.
    """
    whole, memory = step.compile(), step.memory
    if not isinstance(whole, Executable):
        advice = "`microgradx kernels` lists the kernels of a GPU; a profiler, such as Nsight, times them."
        raise DeviceError(
            f"report measures the kernels of steps on the CPU, {step.program.name} is on a GPU. {advice}"
        )
    assert memory is not None
    apart = [
        Chain(chain.rows, [item], chain.piece)
        for chain in whole.plan.chains
        for item in chain.items
        if not isinstance(item, Gather)
    ]
    old = whole.plan
    plan = Schedule([[chain] for chain in apart], old.serial, old.arena, stored=old.stored)
    kernels = type(whole)(step.captured, plan, apart=True)
    kernels.given = whole.given
    memory.ready()
    whole.attach(memory)
    kernels.attach(memory)
    memory.count()
    kept = [(array, array.copy()) for array in memory.arrays.values()]
    undo = step.undo()
    try:
        (seconds,) = times(step, whole, [whole.parts], LEAST)
        repeats = min(MOST, max(LEAST, math.ceil(ENOUGH / max(seconds, 1e-9))))
        each = times(step, kernels, [[part] for part in kernels.parts], repeats)
        (seconds,) = times(step, whole, [whole.parts], repeats)
    finally:
        for back in undo:
            back()
        for array, before in kept:
            array[...] = before
    found: dict[tuple[str, str], Measured] = {}
    for chain, took in zip(apart, each, strict=True):
        (item,) = chain.items
        names, hosted = (name_of(item), what(item)), isinstance(item, Host)
        row = found.get(names, Measured(*names, 0, 0, 0, hosted))
        sums = row.seconds + took, row.flop + item.flop, row.bytes + traffic(item)
        found[names] = Measured(*names, *sums, hosted)
    return Report([*found.values()], limits(), seconds)


def times(step: CompiledStep, executable: Executable, runs: list[list[Part]], repeats: int) -> list[float]:
    """Seconds of some parts of a step one after the other, for each list of parts; the best of rounds."""
    numbers = np.repeat(step.numbers(executable.emitted, 1), repeats, axis=0)
    outs = [np.empty((repeats, *value.shape), value.dtype) for value in step.program.outputs]
    run = Run(executable, executable.given, None, numbers, outs)
    best = [float("inf")] * len(runs)
    for _ in range(ROUNDS):
        for k, parts in enumerate(runs):
            start = time.perf_counter()
            repeat(run, parts, repeats)
            best[k] = min(best[k], (time.perf_counter() - start) / repeats)
    executable.status[:] = 0
    return best


def repeat(run: Run, parts: list[Part], repeats: int) -> None:
    """Run parts so often: compiled code by itself at once, what stands beside NumPy's code in turn."""
    execute = run.executable.execute
    compiled = [part for part in parts if not isinstance(part, Host)]
    if len(compiled) == len(parts):
        for function in compiled:
            execute(function, repeats, False)
        return
    block = generator.state_dict()
    for _ in range(repeats):
        for part in parts:
            if isinstance(part, Host):
                run.host(part)
            else:
                execute(part, 1, False)
    generator.load_state_dict(block)


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
        case Host(name=name, advice=advice):
            return f"{name}, {'NumPy' if advice else 'your own'}"
        case Nest() | Rows():
            nests = item.nests if isinstance(item, Rows) else [item]
            names = [
                getattr(s.function, "name", "copy") if isinstance(s, Compute) else s.kind
                for nest in nests for s in nest.statements
            ]  # fmt: skip
            return ", ".join(dict.fromkeys(names))
    return type(item).__name__.lower()


def traffic(item: Item) -> float:
    """Bytes read and written, each element of memory once."""
    total = 0
    if isinstance(item, Look):
        count = sum(len(rows) * (columns.stop - columns.start) for columns, rows in item.parts)
        return 2.0 * count * item.out.dtype.itemsize
    for views in ({v.buffer: v for v, _ in item.reads()}, {v.buffer: v for v, _ in item.writes()}):
        total += sum(min(v.size, v.buffer.size) * v.dtype.itemsize for v in views.values())
    return float(total)
