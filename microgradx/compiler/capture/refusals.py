"""What a recording shows that no guard can watch, and what it leaves behind: errors with the user's line."""

import collections
import collections.abc
import gc
import linecache
import re
import types
from collections.abc import Iterator
from typing import NoReturn

import numpy as np

from microgradx.codegen.ir.binding import Constant
from microgradx.codegen.ir.program import Line
from microgradx.compiler.capture.dependencies import Dependencies
from microgradx.compiler.capture.events import ScheduleEvent
from microgradx.compiler.capture.guards import Record, items_of
from microgradx.compiler.capture.impure import RANDOM, state_of
from microgradx.compiler.capture.plain_values import CONTAINERS, DICTS, PLAIN, space_of
from microgradx.compiler.capture.recording import Recording
from microgradx.compiler.capture.refusal import refusal, refuse
from microgradx.eager.tensor import Tensor
from microgradx.errors import CaptureError
from microgradx.kernels.addresses import overlaps, span
from microgradx.kernels.free_variables import MISSING
from microgradx.kernels.random import drawn
from microgradx.optim import LBFGS, Optimizer, ReduceLROnPlateau, Schedule

LATER = "where no later call would renew it"
GOING_ON = collections.abc.Iterator, collections.abc.Coroutine, collections.abc.AsyncIterator
"""What a function returns before it has run to its end, or what others go on with."""
ENDS = (*PLAIN, Tensor, type, types.ModuleType, types.CodeType, types.FrameType)
"""Where a walk through objects ends."""


def refuse_what_no_guard_can_watch(trace: Dependencies) -> None:
    """Raise where a step read clocks, files, the environment, iterators or foreign random numbers."""
    if trace.problem is not None:
        what, advice, line = trace.problem
        raise refusal(what, advice, line)
    same = "whose numbers would be the same in every step"
    if state_of(np.random.mtrand._rand) != trace.before:
        stop(trace, f"it draws from np.random, {same}", RANDOM, "random")
    for source, path, state in trace.sources:
        if state_of(source) != state:
            stop(trace, f"it draws from {path}, {same}", RANDOM, path.rpartition(".")[2])
    for record in trace.records.values():
        if isinstance(record.it, collections.abc.Iterator) and not hasattr(record.it, "closed"):
            what = f"it reads from an iterator, {record.path}, that goes on at each call"
            stop(trace, what, "Pass what comes next as an argument.", record.path)


def tensors_left_outside(trace: Dependencies, recording: Recording) -> Iterator[str]:
    """Where tensors that a step computes can be found afterwards."""
    for record in trace.records.values():
        for path, value in changes(record):
            if isinstance(value, Tensor) and recording.makes(value):
                yield path


def refuse_tensors_left_outside(trace: Dependencies, recording: Recording) -> None:
    """Raise where a tensor that the step computes is left where no later call would renew it."""
    for path in tensors_left_outside(trace, recording):
        what = f"it leaves a tensor that it computes in {path}, {LATER}"
        advice = "Return the tensor and keep what the step returns, or write into one: kept.data = tensor."
        stop(trace, what, advice, path.rpartition(".")[2].partition("[")[0])


def refuse_memory_that_changes(trace: Dependencies, recording: Recording) -> None:
    """Raise CaptureError for an array that NumPy may read in the step, in memory that the step changes.

    A recording only notes what changes, or takes it back: NumPy sees there what no eager step would see.
    """
    program = recording.program
    known = {id(b.then) for b in program.bound.values() if isinstance(b, Constant)}  # operations read them
    known |= {id(array) for array, _ in recording.seen}  # of optimizers that have yet to step
    seen = [(r.it, r.path) for r in trace.records.values() if isinstance(r.it, np.ndarray)]
    spans = [span(array, path, True) for array, path in seen if array.size and id(array) not in known]
    written = [(program.bound[v].array(), v.name) for v in program.writes] if spans else []
    spans += [span(array, name, False) for array, name in written if array.size]
    for array, home in overlaps(spans):
        if not home.counts:
            what = f"{array.name} is an array in the memory of {home.name}, which the step changes"
            stop(trace, what, "Use the tensor itself, or look at the array outside of the step.", array.name)


def refuse_new_options(recording: Recording) -> None:
    """Raise where a step changes what an optimizer has stepped by: all steps go by the options in the end.

    Schedules may: their steps are events of their own.
    """
    scheduled = any(isinstance(event, ScheduleEvent) for event in recording.events)
    free = {"lr", "momentum", "betas"} if scheduled else set()
    for flat, then in recording.options:
        key = next((k for k, v in then.items() if flat.group.get(k) != v and k not in free), None)
        if key is not None:
            what = (
                f"it changes {key} of an optimizer after a step by it, {then[key]} to {flat.group.get(key)}"
            )
            advice = "Change it before the step, outside, or by a schedule."
            raise refusal(what, advice, name=recording.program.name)


def refuse_hidden_results(trace: Dependencies, recording: Recording, result: object) -> None:
    """Raise where a step returns what no later call would make anew: tensors inside an object, iterators."""
    for x in leaves(result):
        if isinstance(x, GOING_ON):
            if isinstance(x, collections.abc.Coroutine):
                x.close()  # or Python warns that nobody has awaited it
            what = f"it returns a {type(x).__name__}, which goes on once and in no later call"
            stop(trace, what, "Return a list of all that it gives.", "yield")
        if not isinstance(x, Tensor) and any(isinstance(y, Tensor) and recording.makes(y) for y in inside(x)):
            what = f"it leaves a tensor that it computes in a {type(x).__name__} that it returns, {LATER}"
            stop(trace, what, "Return it in a tuple, list or dict.", "return")


def leaves(x: object) -> Iterator[object]:
    """What a result consists of, as later calls give it: see `pytree.tree_map`."""
    if isinstance(x, dict):
        yield [*x]  # keys stay as they are
    if isinstance(x, list | tuple | dict):
        for y in x.values() if isinstance(x, dict) else x:
            yield from leaves(y)
    else:
        yield x


def inside(x: object, most: int = 10_000) -> Iterator[object]:
    """What can be reached from an object, the nearest first; not through Tensors, classes and modules."""
    seen = {id(x): x}
    near = collections.deque([x])
    while near and len(seen) < most:
        x = near.popleft()
        yield x
        if isinstance(x, ENDS):
            continue
        if isinstance(x, types.FunctionType):
            found = [x.__closure__, x.__defaults__, x.__kwdefaults__, vars(x)]
        elif isinstance(x, np.ndarray):
            found = list(x.flat) if x.dtype.hasobject else []
        else:
            found = gc.get_referents(x)
        fresh = {id(y): y for y in found if id(y) not in seen}
        seen |= fresh
        near += fresh.values()


def refuse_optimizer(optimizer: Optimizer | Schedule) -> None:
    """Raise where an optimizer or a schedule must see numbers before it goes on."""
    if isinstance(optimizer, LBFGS):
        what = "the loss decides how far LBFGS goes, and how often it evaluates it"
        advice = "Compile the closure alone: closure = mg.jit(closure), then optimizer.step(closure)."
    elif isinstance(optimizer, ReduceLROnPlateau):
        what = "it steps by a metric"
        advice = "Step ReduceLROnPlateau outside, with the loss that the step returns."
    elif isinstance(optimizer, Optimizer) and optimizer.check_finite:
        what = f"{optimizer.name} with check_finite=True looks at gradients before it uses them"
        advice = "Leave that out and look at the loss that the step returns, or run the step without jit."
    else:
        return
    refuse(what, advice)


def show_state(
    recording: Recording, owner: Optimizer | Schedule, load: bool
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The arrays of an optimizer's state, and copies of them, to see what the step writes there.

    Raises where the optimizer has stepped, which a recording only notes, or where a state is to be loaded.
    """
    name, what, advice = type(owner).__name__, "", ""
    if load:
        what = f"it loads a state of {name}, which no later call would"
        advice = "Load it outside of the step."
    elif any(one is owner for one in recording.optimizers.values()):
        what = f"it reads the state of {name} after its step, when it is still as before"
        advice = "Read it before optimizer.step(), or outside of the step."
    if what:
        refuse(what, advice)
    if isinstance(owner, Schedule):
        return []
    arrays = [a for flat in owner.flats for part in flat.parts for a in part.state.values()]
    return [(a, a.copy()) for a in arrays if isinstance(a, np.ndarray)]


def refuse_what_is_lost(recording: Recording) -> None:
    """Raise where a recording did to random numbers or optimizers what the program would not do again."""
    what = advice = ""
    if drawn.seeds != recording.seeds:
        what, advice = "seeds random numbers, which no later call would", "Seed outside of the step."
    elif drawn.blocks != recording.block:
        what = "draws random numbers that are not in a tensor"
        advice = "Draw with mg.rand or mg.randn, or outside of the step."
    stepped = {id(array) for array in recording.changed}  # by rules that are no sweeps
    for array, before in recording.seen:
        if id(array) not in stepped and not np.array_equal(array, before, equal_nan=True):
            np.copyto(array, before)
            what = "writes into the state of an optimizer, which no later call would"
            advice = "Write there outside of the step."
    if what:
        raise CaptureError(f"this step {what}. {advice}")


def changes(record: Record) -> Iterator[tuple[str, object]]:
    """What an object holds now that it did not hold before: (path, value)."""
    for get, key, value, path in record.slots.values():
        now = get(key, MISSING)
        if now is not value:
            yield path, now
    it = record.it
    space = it if isinstance(it, DICTS) and record.items is None else space_of(it)
    for name, path in record.wanted.items():
        if name in space:
            yield path, space[name]
    if record.items is not None and isinstance(it, CONTAINERS):
        then = {id(x) for x in record.items.values}
        for x in items_of(it).values:
            if id(x) not in then:
                yield record.path, x


def stop(trace: Dependencies, what: str, advice: str, word: str) -> NoReturn:
    """Raise for the first line, of the code that ran, in which a word stands."""
    there = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)").search
    lines = [line for code in trace.ran for line in lines_of(code)] or [Line("?", 0, "")]
    raise refusal(what, advice, next((line for line in lines if there(line.text)), lines[0]))


def lines_of(code: types.CodeType) -> Iterator[Line]:
    """The lines of a function."""
    file, first = code.co_filename, code.co_firstlineno
    for number in range(first, max((n for *_, n in code.co_lines() if n), default=first) + 1):
        yield Line(file, number, linecache.getline(file, number).strip())
