"""Machine code for the CPU: what a captured step is compiled to, and runs of it.

An `Executable` is the schedule, the text and the entry points of a step, with the memory of its own that they
work in. A `Run` is one call of it: some steps, from arguments to outputs.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np

from microgradx.codegen.ir.loops import Item, Place, Source, View
from microgradx.codegen.ir.ops import Gather, Host, Matmul
from microgradx.codegen.ir.program import Program, Value
from microgradx.codegen.passes.fuse import sink
from microgradx.codegen.passes.lower import lower
from microgradx.codegen.passes.schedule import Schedule, schedule
from microgradx.codegen.passes.validate import validate_items, validate_schedule
from microgradx.codegen.printers.cpu_file import Emitter
from microgradx.compiler.capture.captured import Captured
from microgradx.compiler.capture.pytree import Given
from microgradx.compiler.run.dump import dump
from microgradx.compiler.run.hosted import notice
from microgradx.compiler.run.memory import Memory
from microgradx.eager.devices import Array
from microgradx.kernels import blas, jit, thread_pool
from microgradx.kernels.addresses import Addresses, address
from microgradx.kernels.random import generator

Local = Any
"""An array of NumPy: what a step meets as `Array` is one here, and no call takes the time to look."""

Part = Callable[..., None] | Host
"""A compiled part of a step, or one that is NumPy's or the user's."""

SMALL = 2 * 65536
"""FLOP of a product up to which OpenBLAS computes on one thread by itself (its interface/gemm.c)."""


def with_rows(program: Program, items: list[Item]) -> list[Item]:
    """The work of a step, in a scan after the rows of its arguments, where all have as many."""
    buffers = dict.fromkeys(view.buffer for item in items for view, _ in item.reads() if view.buffer.size)
    read = [(buffer.view(), k) for buffer in buffers if (k := buffer.number("argument")) is not None]
    rows = {value.shape[:1] for value in program.arguments}
    return [Gather(None, read), *items] if read and len(rows) == 1 and rows != {()} else items


def scheduled(program: Program) -> Schedule:
    """What the CPU does together, and in what order."""
    items = validate_items(lower(program), "lowering")
    notice(items)
    items = validate_items(sink(with_rows(program, items)), "sinking")
    return validate_schedule(schedule(items), "scheduling")


class Executable:
    """A step in machine code; `apart` has a function for every item, to measure it."""

    in_place = True  # whether arguments are read where they are
    uploads = False  # whether what is constant is copied to where the code runs
    worthwhile = False  # whether even a single step is faster than line by line

    def __init__(self, captured: Captured, plan: Schedule | None = None, apart: bool = False):
        self.captured, program = captured, captured.program
        self.plan = plan or scheduled(program)
        self.emitted = Emitter(self.plan, captured.title, captured.blocks).emit(apart)
        dump(program=program, stages=self.plan, source=self.emitted.text)  # stages have names now
        segments, sources = self.emitted.segments, self.emitted.addresses
        loaded = self.load([s for s in segments if isinstance(s, str)], jit_label(program))
        self.compiled = [*loaded.values()]
        self.parts: list[Part] = [loaded[s] if isinstance(s, str) else s for s in segments]
        self.places: dict[Source, int] = {source: k for k, source in enumerate(sources)}
        self.arguments_at = self.entries("argument", len(program.arguments))
        self.data_at = self.entries("data", len(program.arguments))
        self.outputs_at = self.entries("output", len(program.outputs))
        items = self.plan.items
        self.hosted = any(isinstance(item, Host) for item in items)
        self.late = self.plan.late
        self.undone = self.hosted or any(item.checks for item in items)  # whether it may stop half-way
        self.products = any(isinstance(item, Matmul) and item.flop > SMALL for item in items)
        self.helpers = 0 if self.plan.serial else most_pieces(self.plan) - 1
        self.allocate(len(sources))

    def entries(self, kind: str, count: int) -> list[tuple[int, int]]:
        """Which of its arguments, data or outputs the table has an entry for, and where."""
        found = ((k, self.places.get(Place(kind, k))) for k in range(count))
        return [(k, entry) for k, entry in found if entry is not None]

    def allocate(self, size: int) -> None:
        """The memory of its own: the arena for values, and what the entries of the table point to."""
        arena = np.zeros(self.plan.arena + 64, np.uint8)
        self.arena = arena[-address(arena) % 64 :][: self.plan.arena]
        self.status, self.random = np.zeros(2, np.int64), np.zeros(3, np.int64)
        self.batches = [np.zeros(value.shape, value.dtype) for value in self.captured.program.arguments]
        self.given: Sequence[Local] = self.batches  # the arguments of the last step
        self.table = self.addresses(size)
        self.table[0], self.table[3] = self.arena, self.random
        self.status_at = address(self.status)

    def load(self, names: list[str], label: str) -> dict[str, Callable[..., None]]:
        """The entries of the file as machine code."""
        types = dict.fromkeys(names, self.emitted.types)
        return jit.load(self.emitted.text, types, label, exact=self.emitted.exact)

    def addresses(self, size: int) -> Addresses:
        """A table of addresses for that many arrays."""
        return Addresses(size)

    def memory(self) -> Memory:
        """What it works on outside of itself; what is left behind has a home even where it is empty."""
        program = self.captured.program
        used = [v for v in program.bound if v in self.places or v in program.writes]
        return Memory(self.captured, used, lambda array: array)

    def attach(self, memory: Memory) -> None:
        """The arrays outside are elsewhere now."""
        local: dict[Value, Local] = memory.arrays
        for value, array in local.items():
            if place := self.places.get(value):
                self.table[place] = array

    def carry(self, data: Sequence[Given]) -> Sequence[Given]:
        """Data for a scan, where the steps run."""
        return data

    def run(
        self,
        arrays: Sequence[Array],
        steps: int,
        order: np.ndarray | None,
        numbers: np.ndarray,
        rooms: Sequence[np.ndarray] = (),
    ) -> tuple[list[np.ndarray], int]:
        """So many steps: outputs, and how many were done before an index was out of range."""
        outputs = self.captured.program.outputs
        own = outputs[: len(outputs) - len(rooms)]
        outs = [*(np.empty((steps, *value.shape), value.dtype) for value in own), *rooms]
        return outs, Run(self, arrays, order, numbers, outs).go(steps)

    def execute(self, function: Callable[..., None], steps: int, gathering: bool) -> None:
        """Call compiled code, on as many threads as there is work for."""
        given = {
            "steps": steps, "gathering": int(gathering), "status": self.status_at, "table": self.table.start,
        }  # fmt: skip
        gate = None if self.plan.serial else thread_pool.gate()
        if gate is not None:  # of this call alone: a helper that comes late finds no ticket there
            given["gate"] = address(gate)
        arguments = [given[name] for name in self.emitted.entry if name in given]

        def run(helping: int, memory: tuple[object, ...] = (gate, self)) -> None:  # alive for that helper
            function(*arguments, helping)  # which is the last of the entry

        with blas.one_thread() if self.products else nullcontext():
            if gate is None:
                function(*arguments)
            else:
                thread_pool.together(run, min(self.helpers, thread_pool.threads() - 1))

    def written(self, view: View) -> None:
        """A view is about to be written by what is not in the file."""


class Run:
    """One call of an executable: the arrays that its table points to meanwhile."""

    def __init__(
        self,
        executable: Executable,
        arrays: Sequence[Local],
        order: np.ndarray | None,
        numbers: np.ndarray,
        outs: list[np.ndarray],
    ):
        self.executable, self.arrays, self.order = executable, arrays, order
        self.numbers, self.outs = numbers, outs
        table = executable.table
        if order is not None:
            for k, entry in executable.data_at:
                table[entry] = arrays[k]
            self.arrays = executable.batches
        executable.given = self.arrays
        for k, entry in executable.arguments_at:
            table[entry] = self.arrays[k]
        self.point(0)
        if executable.captured.blocks:
            state = generator.state_dict()
            executable.random[:] = state["block"], state["seed"] & 0xFFFFFFFF, state["seed"] >> 32

    def point(self, step: int) -> None:
        """Let the table point to what belongs to a step and those after it."""
        executable, table = self.executable, self.executable.table
        table[1] = self.numbers[step:] if step else self.numbers
        if self.order is not None:
            table[2] = self.order[step * self.arrays[0].shape[0] :]
        for k, entry in executable.outputs_at:
            table[entry] = self.outs[k][step:] if step else self.outs[k]

    def go(self, steps: int) -> int:
        """All steps: how many were done."""
        executable, gathering = self.executable, self.order is not None
        if executable.hosted:
            done = next((step for step in range(steps) if not self.step(step)), steps)
        else:
            executable.execute(executable.compiled[0], steps, gathering)
            done = int(executable.status[1]) if executable.status[0] else steps
        if done < steps:
            executable.status[:] = 0
        return done

    def step(self, step: int) -> bool:
        """A step with parts that are NumPy's or the user's, between compiled ones; whether it was done."""
        executable, blocks = self.executable, self.executable.captured.blocks
        if step:
            self.point(step)
            executable.random[0] += blocks
        for part in executable.parts:
            if isinstance(part, Host):
                self.host(part, blocks * step)
            else:
                executable.execute(part, 1, self.order is not None)
                if executable.status[0]:
                    return False
        return True

    def host(self, part: Host, drawn: int = 0) -> None:
        """Run a part that is NumPy's or the user's; so many blocks of random numbers were drawn before."""
        block = generator._block
        if part.draw is not None:
            generator._block += drawn + part.draw
        result = part.call(*(self.array(x) if isinstance(x, View) else x for x in part.inputs))
        for out in part.outs:
            self.executable.written(out)
            self.array(out)[...] = result
        generator._block = block

    def array(self, view: View) -> np.ndarray:
        """A view as NumPy's array."""
        if view.size == 0:
            return np.empty(view.shape, view.dtype)
        buffer, executable = view.buffer, self.executable
        if buffer.source is None:
            flat = executable.arena[buffer.place : buffer.place + buffer.bytes].view(buffer.dtype)
        elif place := executable.places.get(buffer.source):
            flat = executable.table.array(place, buffer.size, buffer.dtype)
        else:  # read by no compiled part
            source, bound = buffer.source, executable.captured.program.bound
            there: Local = bound[source].array() if isinstance(source, Value) else self.arrays[source.number]
            flat = np.ascontiguousarray(there)
        strides = [s * buffer.dtype.itemsize for s in view.strides]
        return np.lib.stride_tricks.as_strided(flat.reshape(-1)[view.offset :], view.shape, strides)


def jit_label(program: Program) -> str:
    """The name of a step as the beginning of a file's."""
    return "".join(c if c.isalnum() else "_" for c in program.name)


def most_pieces(plan: Schedule) -> int:
    """The pieces of the stage that has most."""
    return max((sum(chain.pieces for chain in stage) for stage in plan.stages), default=1)
