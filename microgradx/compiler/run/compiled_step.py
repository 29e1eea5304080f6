"""A step compiled for some shapes, dtypes and values: program, machine code, and memory."""

import sys
import threading
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np

from microgradx.codegen.ir.loops import View
from microgradx.codegen.ir.ops import Gather, Host, Matmul
from microgradx.codegen.passes.fuse import sink
from microgradx.codegen.passes.lower import lower
from microgradx.codegen.passes.schedule import Schedule, schedule
from microgradx.codegen.passes.validate import validate_items, validate_schedule
from microgradx.codegen.printers.cpu_file import RUN, Emitted, Emitter
from microgradx.compiler.capture.aliasing import borrowed, still_tied
from microgradx.compiler.capture.guards import Guards
from microgradx.compiler.capture.recorder import Recorder
from microgradx.compiler.report.shown import show, title_of
from microgradx.compiler.run.binding import Bound
from microgradx.compiler.run.hosted import call, notice
from microgradx.compiler.run.ledger_outputs import readable, written_down
from microgradx.errors import CaptureError
from microgradx.kernels import blas, thread_pool
from microgradx.kernels import jit as machine
from microgradx.kernels.addresses import Addresses, address
from microgradx.kernels.random import generator


class Turn(type(threading.RLock())):  # type: ignore[misc]
    """A lock for one thread at a time, as often as it likes; a copy is another lock, for another step."""

    def __reduce__(self) -> Any:
        return Turn, ()


class Variant(Bound):
    """A step compiled for some shapes, dtypes and values."""

    worthwhile = False  # whether even a single step is faster compiled than line by line
    positions: Any = ()  # where ledgers look: an array for each of their pages
    pages: Any = ()  # which are being written
    most = sys.maxsize  # steps at a time
    moved: str | None = None  # what the step itself changes of what it reads
    calls, next = 0, 1  # steps so far, and when the step is recorded again

    def __init__(self, function: Callable[..., Any], guards: Guards, result: Any, recorder: Recorder):
        super().__init__(recorder)
        self.guards, self.result, self.lock = guards, result, Turn()
        self.blocks, self.ties = recorder.blocks, [*recorder.ties.values()]
        self.optimizers = {event[1]: len(event[1].flats) for event in self.events if event[0] == "sweep"}
        self.title = title_of(function, self.program)
        self.compiled: Emitted | None = None
        self.housed = self.at_home()
        # whether it leaves gradients where it found some, and none where it found none: fit for many steps
        self.steady = not self.before and all(self.final[leaf] == had for leaf, had in self.gradients)
        self.steady &= self.housed == self.at_home(after=True)
        self.readable = readable(self)  # for an optimizer's ledger
        self.twins: dict[Any, Variant] = {}  # with results for ledgers, by what these watch

    # Whether it still fits

    def fits(self) -> bool:
        """Whether the world is as it was at the capture, as far as the program depends on it."""
        return (
            self.moved is None  # else the function must run, to change what it changes
            and self.finds_gradients()
            and self.guards.hold()
            and self.follows()
            and still_tied(self)
            and self.at_home() == self.housed
        )

    def at_home(self, after: bool = False) -> list[bool]:
        """Which parameters are where their optimizers work, or `after` the step: else views see no steps."""
        parts = [part for flat in self.buffers for part in flat.parts]
        if after:
            return [not any(part.parameter is tensor for tensor in self.replaced) for part in parts]
        return [part.parameter._data is part.value for part in parts]

    def follows(self) -> bool:
        """Whether the optimizers still step by the same loops, over parameters at the same step together."""
        if any(one.check_finite or len(one.flats) != count for one, count in self.optimizers.items()):
            return False  # it is to look at gradients, or there are more parameters
        for event in self.events:
            if event[0] == "sweep":
                _, optimizer, flat, run, update = event
                if not flat.current():
                    optimizer.bind(flat)
                if flat.update is not update:
                    return False
                if any(part.clock is not run[0].clock and part.clock != run[0].clock for part in run):
                    return False  # some have rested, frozen, in another variant
        return True

    def adopt(self, other: "Variant") -> None:
        """Go by what another capture of the same program took for fixed."""
        self.guards, self.moved, self.ties = other.guards, other.moved, other.ties
        self.housed, self.steady = other.housed, other.steady
        pairs = zip(self.program.bound.values(), other.program.bound.values(), strict=True)
        places = [(a, b) for a, b in pairs if a.kind in ("constant", "data")]
        changed = [(a, b) for a, b in places if a.array() is not b.array()]
        for a, b in changed:
            a.owner, a.then = b.owner, b.then
        if changed:
            self.twins.clear()
            self.apart = False

    # Compiling

    def compile(self) -> Emitted:
        """The machine code, made when it is first needed: by one thread, for others may wait for it."""
        with self.lock:
            if self.compiled is None:
                self.make()
            return self.compiled  # type: ignore[return-value]

    def make(self) -> None:
        """The same, made now."""
        items = validate_items(lower(self.program), "lowering")
        notice(items)
        rows = {v.shape[:1] for v in self.program.arguments}
        self.gathers = len(rows) == 1 and rows != {()}
        if self.gathers:
            read = {v.buffer.source: v.buffer for item in items for v, _ in item.reads() if v.buffer.source}
            buffers = [(read[source], source[1]) for source in read if source[0] == "argument"]
            buffers = [(buffer, k) for buffer, k in buffers if buffer.size]
            items = [Gather(None, [(b.view(), k) for b, k in buffers]), *items] if buffers else items
        items = validate_items(sink(items), "sinking")
        self.plan: Schedule = validate_schedule(schedule(items), "scheduling")
        show(program=self.program, stages=self.plan)
        self.load(self.plan)

    def load(self, plan: Schedule, apart: bool = False) -> None:
        """Emit and compile a schedule, and lay out its memory; `apart`: every item is a function."""
        self.compiled = Emitter(plan, self.title, self.blocks).emit(apart)
        show(source=self.compiled.text)
        names = [s for s in self.compiled.segments if isinstance(s, str)]
        label = "".join(c if c.isalnum() else "_" for c in self.program.name)
        loaded = self.functions(self.compiled, names, label)
        self.parts = [loaded[s] if isinstance(s, str) else s for s in self.compiled.segments]
        self.table = self.addresses(len(self.compiled.addresses))
        arena = np.zeros(self.plan.arena + 64, np.uint8)
        self.arena = arena[-address(arena) % 64 :][: self.plan.arena]
        self.status = np.zeros(2, np.int64)
        self.random = np.zeros(3, np.int64)
        self.table[0], self.table[3] = self.arena, self.random
        places = {source: k for k, source in enumerate(self.compiled.addresses)}
        self.places = places
        self.argument_at = [places.get(("argument", k)) for k in range(len(self.program.arguments))]
        self.data_at = [places.get(("data", k)) for k in range(len(self.program.arguments))]
        self.output_at = [places.get(("output", k)) for k in range(len(self.program.outputs))]
        found = {v: places.get(("bound", v)) for v in self.program.bound}
        self.bound = [  # what is left behind has a home even where nothing is to be done, as it is empty
            (found[v], b, v) for v, b in self.program.bound.items() if found[v] or v in self.program.writes
        ]
        self.written = [self.program.bound[home].owner for home in self.program.writes
                        if self.program.bound[home].kind == "data"]  # fmt: skip
        self.products = any(isinstance(item, Matmul) for item in self.plan.items)
        self.hosted = any(isinstance(item, Host) for item in self.plan.items)
        self.checks = any(item.checks for item in self.plan.items)
        most = max((sum(c.pieces for c in stage) for stage in self.plan.stages), default=1)
        self.helpers = 0 if self.plan.serial else most - 1
        self.apart = False

    def functions(self, made: Emitted, names: list[str], label: str) -> dict[str, Callable[..., None]]:
        """The entries of an emitted file as machine code."""
        return machine.load(made.text, dict.fromkeys(names, RUN), label, exact=made.exact)

    def addresses(self, size: int) -> Any:
        """A table of addresses for that many arrays."""
        return Addresses(size)

    # Running

    def home(self, data: list[Any]) -> list[Any]:
        """Data for a scan, where the steps run."""
        return data

    def numbers(self, steps: int) -> np.ndarray:
        """(steps, columns) what the rules need of every step; schedules and step counts go on."""
        assert self.compiled is not None
        table = np.zeros((steps, max(1, self.compiled.width)))
        columns = self.compiled.columns
        self.starts: list[list[tuple]] = []  # for ledgers: hyperparameters and clocks before every step
        for row in table:
            starts: list[tuple] = []
            for k, (kind, *event) in enumerate(self.events):
                if kind == "schedule":
                    event[0].step()
                elif kind == "number":
                    if k in columns:
                        row[columns[k]] = event[0]()
                else:
                    optimizer, flat, run, update = event
                    if not flat.current():
                        optimizer.bind(flat)
                        if flat.update is not update:
                            raise CaptureError(
                                "a schedule changed which rule an optimizer follows, in a scan."
                            )
                    if self.pages:
                        starts.append((flat.hyperparameters, run[0].clock))
                    t, *carried = run[0].clock.values()
                    found, carried = update.numbers(t + 1, carried, flat.hyperparameters)
                    clock = dict(zip(run[0].clock, (t + 1, *carried), strict=True))
                    for part in run:
                        part.clock = clock
                    if k in columns:
                        row[columns[k] : columns[k] + len(found)] = found
            if self.pages:
                self.starts.append(starts)
        return table

    def run(self, arrays: list[Any], steps: int = 1, order: Any = None) -> tuple[list, int]:
        """So many steps: the outputs, each (steps, *shape), and how many steps were done."""
        with self.lock:  # the memory that it works in is one
            if self.positions:
                return written_down(self, arrays, steps, order)
            return self.steps(arrays, steps, order)

    def steps(self, arrays: list[np.ndarray], steps: int, order: np.ndarray | None) -> tuple[list, int]:
        """The same, by one Python thread at a time."""
        self.compile()
        self.ready()
        self.pull()
        if order is None and borrowed(self, arrays):
            return [], 0
        self.inputs = arrays
        shots = self.snapshot() if self.checks or self.hosted else None
        numbers = self.numbers(steps)
        own = self.program.outputs[: len(self.program.outputs) - len(self.pages)]
        outs = [np.empty((steps, *value.shape), value.dtype) for value in own]
        outs += [page.room(steps) for page in self.pages]
        self.table[1] = numbers
        state = generator.state_dict()
        self.random[:] = state["block"], state["seed"] & 0xFFFFFFFF, state["seed"] >> 32
        if order is None:
            for place, array in zip(self.argument_at, arrays, strict=True):
                if place is not None:
                    self.table[place] = array
        else:
            self.table[2] = order
            for k, array in enumerate(arrays):
                if self.data_at[k] is not None:
                    self.table[self.data_at[k]] = array
                    self.table[self.argument_at[k]] = self.batch(k)
        for place, out in zip(self.output_at, outs, strict=True):
            if place is not None:
                self.table[place] = out
        if self.hosted:
            try:
                finished = self.run_hosted(steps, order, outs, numbers)
            except BaseException:  # of the user's own operation
                self.undo(shots)
                raise
        else:
            self.execute(self.parts[0], steps, order is not None)
            finished = steps if not self.status[0] else int(self.status[1])
        if self.status[0]:
            self.status[:] = 0
            self.undo(shots)
            if self.plan.late and finished:  # memory is as it was, too: once more, the steps that went well
                return self.steps(arrays, finished, order)
            self.numbers(finished)
        if self.blocks:
            generator._block += self.blocks * finished
        if finished:
            self.leave()
        return outs, finished

    def batch(self, k: int) -> np.ndarray:
        """Where a scan gathers the rows of an argument."""
        if not hasattr(self, "batches"):
            self.batches: dict[int, np.ndarray] = {}
        if k not in self.batches:
            value = self.program.arguments[k]
            self.batches[k] = np.zeros(value.shape, value.dtype)
        return self.batches[k]

    def execute(self, function: Callable[..., None], steps: int, gathering: bool) -> None:
        """Call compiled code, on as many threads as there is work for."""
        gate = np.zeros(16, np.int64)  # the tickets of this call alone: a helper that comes late finds none
        arguments = steps, int(gathering), address(gate), address(self.status), address(self.table.words)

        def run(memory: tuple = (gate, self)) -> None:  # which lives as long as the latest helper
            function(*arguments)

        helpers = min(self.helpers, thread_pool.threads() - 1)
        with blas.one_thread() if self.products else nullcontext():
            if helpers:
                thread_pool.together(run, helpers)
            else:
                run()

    def run_hosted(self, steps: int, order: Any, outs: list, numbers: np.ndarray) -> int:
        """Steps with parts that are NumPy's or the user's: compiled code before, between and behind them."""
        block = generator._block
        for step in range(steps):
            if step:
                for place, out in zip(self.output_at, outs, strict=True):
                    if place is not None:
                        self.table[place] = out[step:]
                self.table[1] = numbers[step:]
                self.random[0] += self.blocks
                if order is not None:
                    self.table[2] = order[step * self.program.arguments[0].shape[0] :]
            for part in self.parts:
                if not isinstance(part, Host):
                    self.execute(part, 1, order is not None)
                    if self.status[0]:
                        return step
                    continue
                if part.draw is not None:
                    generator._block = block + self.blocks * step + part.draw
                call(self, part)
                generator._block = block
        return steps

    def seen(self, view: View, written: bool = False) -> np.ndarray:
        """A view as NumPy's array, to be read or `written`."""
        if view.size == 0:
            return np.empty(view.shape, view.dtype)
        buffer = view.buffer
        if buffer.source is None:
            flat = self.arena[buffer.place : buffer.place + buffer.bytes].view(buffer.dtype)
        elif buffer.source not in self.places:  # read by no compiled part
            kind, which = buffer.source
            array = self.inputs[which] if kind == "argument" else self.program.bound[which].array()
            flat = np.ascontiguousarray(array).reshape(-1)
        else:
            flat = self.table.array(self.places[buffer.source], buffer.size, buffer.dtype)
        strides = [s * buffer.dtype.itemsize for s in view.strides]
        return np.lib.stride_tricks.as_strided(flat[view.offset :], view.shape, strides)

    def leave(self) -> None:
        """Tell Tensors what the step has done to them."""
        self.push()
        for tensor in self.written:
            tensor._version[0] += 1
        self.hand_over()

    def snapshot(self) -> Any:
        """Step counts and schedules, to go back to where an index was out of range."""
        parts = [(part, part.clock) for event in self.events if event[0] == "sweep" for part in event[3]]
        schedules = [(e[1], e[1].state_dict()) for e in self.events if e[0] == "schedule"]
        kept = [a.copy() for a in self.kept] if self.plan.late else []
        return parts, schedules, kept

    def undo(self, shots: Any) -> None:
        """Step counts, schedules and, where an index is checked late, memory as they were at the snapshot."""
        parts, schedules, kept = shots
        for part, clock in parts:
            part.clock = clock
        for one, state in schedules:
            one.load_state_dict(state)
        for array, before in zip(self.kept, kept, strict=False):
            array[...] = before
