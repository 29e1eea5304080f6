"""Running a step once, eagerly, to find out what it does: the user's function becomes a Program."""

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from inspect import signature
from types import FrameType
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from microgradx.codegen.ir.binding import Constant, Data
from microgradx.codegen.ir.program import Program
from microgradx.codegen.passes.simplify import simplify
from microgradx.compiler.capture.arguments import Call
from microgradx.compiler.capture.captured import Captured
from microgradx.compiler.capture.dependencies import OTHERS, USERS, Dependencies
from microgradx.compiler.capture.guards import Guards, needed
from microgradx.compiler.capture.recorder import Recorder
from microgradx.compiler.capture.refusals import (
    changes,
    refuse_hidden_results,
    refuse_memory_that_changes,
    refuse_new_options,
    refuse_tensors_left_outside,
    refuse_what_no_guard_can_watch,
    tensors_left_outside,
)
from microgradx.eager.mode import mode
from microgradx.kernels.random import drawn, generator
from microgradx.primitives import Primitive

What = Literal["call", "return", "c_call", "c_return", "c_exception"]
Watch = Callable[[FrameType, What, object], object]
"""Who is told of calls: the frame, what happens, and what is called or returned."""


@runtime_checkable
class Profiler(Protocol):
    """cProfile's, which is no function, and waits when told to."""

    def enable(self) -> None:
        """Go on."""

    def disable(self) -> None:
        """Wait."""


SMALL = 4096
"""Bytes of an array that is watched even where the program reads it, too."""


def capture(function: Callable[..., object], name: str, call: Call, again: bool = False) -> Captured:
    """Run a function once, eagerly, and take back what it did; `again`: only the program is asked for.

    Raises CaptureError where no program could do the same.
    """
    recorder, result, guards, moved = record(function, name, call, again)
    program = simplify(recorder.program)
    return Captured(
        title_of(function, program),
        program,
        result,
        recorder.device,
        recorder.blocks,
        recorder.events,
        [*recorder.optimizers],
        recorder.replaced,
        {leaf: had for leaf, had in recorder.before.items() if had is not None},
        recorder.final,
        [*recorder.ties.values()],
        guards,
        moved,
    )


def record(
    function: Callable[..., object], name: str, call: Call, again: bool = False
) -> tuple[Recorder, object, Guards | None, str | None]:
    """The same as it is written down: the Recorder, the result in Values, guards, and which of them fails."""
    names: dict[int, str] = {}
    recorder = Recorder(name, names, again)
    values = call.with_arrays(recorder.argument)
    trace = Dependencies(function, names)
    args, words = call.spread(values)
    kinds, root = trace.kinds.get, trace.root

    def look(frame: FrameType, event: str, arg: object) -> None:
        kind, caller = kinds(frame.f_code), frame.f_back
        if kind == OTHERS and (event != "call" or caller is None or kinds(caller.f_code) != USERS):
            return  # most of what happens
        if event == "return" and frame.f_code is root:
            recorder.read_names(frame.f_locals)
        trace.event(frame, event, arg)

    start, before = generator.state_dict(), (drawn.blocks, drawn.seeds)
    try:
        with mode.having(recorder=recorder), told_by(None if again else look):
            result = function(*args, **words)
        refuse_hidden_results(trace, recorder, result)
        found = recorder.finish(result)
        del result  # what nobody else holds the step has made
        guards = None if again else guards_of(trace, recorder)
        return recorder, found, guards, guards.failing() if guards else None
    finally:
        seeded = drawn.seeds != before[1]
        if seeded or generator._block == start["block"] + drawn.blocks - before[0]:
            generator.load_state_dict(start)  # unless another thread has drawn, too
        for undo in reversed(recorder.undo):
            undo()


def guards_of(trace: Dependencies, recorder: Recorder) -> Guards:
    """What the step took for fixed. Raises CaptureError where nobody could watch that."""
    trace.find()
    trace.settle()
    if any(next(changes(record), None) for record in trace.records.values()):
        gc.collect(1)  # what the step has made may live on for a while, in cycles
        trace.settle()
    if any(tensors_left_outside(trace, recorder)):
        gc.collect()
        trace.settle()
    refuse_what_no_guard_can_watch(trace)
    refuse_memory_that_changes(trace, recorder)
    refuse_new_options(recorder)
    kept = [r for r in trace.records.values() if r.slots or r.items is not None or r.look is not None]
    constants = (b.then for b in recorder.program.bound.values() if isinstance(b, Constant))
    read = {id(array) for array in constants} if recorder.device == "cpu" else set()
    for record in kept:
        if isinstance(record.it, np.ndarray) and id(record.it) in read and record.it.nbytes > SMALL:
            record.look = None  # the program reads it anew in every step
    owners = [b.owner for b in recorder.program.bound.values() if isinstance(b, Data)]
    leaves = list({id(t): t for t in [*owners, *recorder.before]}.values())
    ops = dict.fromkeys(one.op for one in recorder.program.instructions if isinstance(one.op, Primitive))
    guards = Guards(kept, needed(trace.modules, trace.untouched), leaves, list(ops))
    refuse_tensors_left_outside(trace, recorder)
    return guards


def program_of(function: Callable[..., object], *args: object) -> Program:
    """What a function does with such arguments, operation by operation, before anything is simplified."""
    call = Call(args, {}, list(signature(function).parameters).__getitem__)
    call.read()
    return record(function, function.__name__, call)[0].program


def title_of(function: Callable[..., object], program: Program) -> str:
    """The first lines of the emitted file."""
    code = getattr(function, "__code__", None)
    where = f", line {code.co_firstlineno} of {code.co_filename.rpartition('/')[2]}" if code else ""
    arguments = ", ".join(f"{v.name} {v.dtype}{list(v.shape)}" for v in program.arguments)
    return f"The step `{program.name}`{where}, for {arguments or 'no arguments'}.\n"


@contextmanager
def told_by(watch: Callable[..., None] | None) -> Iterator[None]:
    """Within, Python's profiler tells a function of every call; one at work goes on or waits."""
    if watch is None:
        yield
        return
    before = sys.getprofile()
    if isinstance(before, Profiler):
        before.disable()
        sys.setprofile(watch)
    else:
        sys.setprofile(partial(both, watch, before) if before else watch)
    try:
        yield
    finally:
        sys.setprofile(None if isinstance(before, Profiler) else before)
        if isinstance(before, Profiler):
            before.enable()


def both(first: Watch, second: Watch, frame: FrameType, event: What, arg: object) -> None:
    """Tell two of a call."""
    first(frame, event, arg)
    second(frame, event, arg)
