"""A step compiled for some shapes, dtypes and values: a capture, its code, and the memory it works in."""

import os
import sys
import threading
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from operator import setitem
from typing import TYPE_CHECKING
from weakref import WeakSet

import numpy as np

from microgradx.codegen.ir.program import Program
from microgradx.codegen.printers.cpu_file import Emitted
from microgradx.compiler.capture.captured import Captured
from microgradx.compiler.capture.pytree import Given
from microgradx.compiler.run.executable import Executable
from microgradx.compiler.run.memory import Memory
from microgradx.kernels.random import generator

if TYPE_CHECKING:  # for steps on a GPU
    from microgradx.codegen.printers.cuda_file import Emitted as CudaFile
    from microgradx.compiler.run.cuda_executable import CudaExecutable

Kind = type["Executable | CudaExecutable"]
"""What runs a step."""


class Turn(type(threading.RLock())):  # type: ignore[misc]
    """A lock for one thread at a time, as often as it likes; a copy is another lock, for another step.

    A forked child finds all of them free: the threads that were inside are not there.
    """

    def __init__(self) -> None:
        turns.add(self)

    def __reduce__(self) -> tuple[type["Turn"], tuple[()]]:
        return Turn, ()


turns: WeakSet[Turn] = WeakSet()


def free() -> None:
    """What a forked child begins with."""
    for turn in turns:
        turn._at_fork_reinit()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=free)


class CompiledStep:
    """A step compiled for some shapes, dtypes and values."""

    most = sys.maxsize  # steps at a time
    calls, next = 0, 1  # steps so far, and when the step is recorded again
    used = 0  # when it was last chosen, among the variants of its step

    def __init__(self, captured: Captured, kind: Kind):
        self.captured, self.kind, self.lock = captured, kind, Turn()
        self.executable: Executable | CudaExecutable | None = None
        self.memory: Memory | None = None
        self.twins: dict[Hashable, CompiledStep | None] = {}  # with results for ledgers, by what these watch

    @property
    def program(self) -> Program:
        """The captured program."""
        return self.captured.program

    def compile(self) -> "Executable | CudaExecutable":
        """Its code, made when it is first needed: by one thread, for others may wait for it."""
        if self.executable is None:
            with self.lock:
                if self.executable is None:
                    made = self.kind(self.captured)
                    self.executable, self.memory = made, made.memory()
        return self.executable

    @property
    def apart(self) -> bool:
        """Whether it has found memory in which nothing is there twice."""
        return self.memory is not None and self.memory.apart

    def adopt(self, other: Captured) -> None:
        """Go by what another capture of the same program took for fixed."""
        before, self.captured = self.captured, self.captured.adopt(other)
        pairs = zip(before.program.bound.values(), self.program.bound.values(), strict=True)
        if self.kind.uploads or any(a.array() is not b.array() for a, b in pairs):
            self.twins.clear()
            if self.executable is not None:
                self.executable.captured = self.captured
                self.memory = self.executable.memory()
        for twin in self.twins.values():
            if twin is not None:
                twin.captured = replace(twin.captured, moved=other.moved)

    def run(
        self, arrays: Sequence[Given], steps: int = 1, order: np.ndarray | None = None
    ) -> tuple[Sequence[Given], int]:
        """So many steps: the outputs, each (steps, *shape), and how many steps were done.

        Fewer than asked for where an index is out of range, which the function itself has the words for; none
        where arguments lie in memory that the step changes. `order` names the rows that a scan gathers.
        """
        with self.lock:  # the memory that it works in is one
            return self.go(arrays, steps, order)

    def go(
        self, arrays: Sequence[Given], steps: int, order: np.ndarray | None, rooms: Sequence[np.ndarray] = ()
    ) -> tuple[Sequence[Given], int]:
        """The same, by one Python thread at a time; the last outputs on the CPU go into `rooms`."""
        executable, memory = self.compile(), self.memory
        assert memory is not None
        if memory.ready():
            executable.attach(memory)
            memory.count()
        if order is None and executable.in_place and any(map(memory.holds, arrays)):
            return [], 0
        undo = self.undo() if executable.undone else []
        numbers = self.numbers(executable.emitted, steps)
        try:
            outs, finished = executable.run(arrays, steps, order, numbers, rooms)
        except BaseException:  # of the user's own operation
            with suppress(Exception):
                for back in undo if executable.hosted else ():
                    back()
            raise
        if finished < steps:
            for back in undo:
                back()
            if executable.late and finished:  # memory is as it was, too: once more, the steps that went well
                return self.go(arrays, finished, order, [room[:finished] for room in rooms])
            self.numbers(executable.emitted, finished)
        generator._block += self.captured.blocks * finished
        if finished:
            memory.leave()
        return outs, finished

    def numbers(self, emitted: "Emitted | CudaFile", steps: int) -> np.ndarray:
        """(steps, width) float64, what a file needs of every step; schedules and step counts go on."""
        table = np.zeros((steps, max(1, emitted.width)))
        stride = 1 if self.captured.in_turns else max(steps, 1)
        found: list[list[Sequence[float]]] = [[] for _ in self.captured.events]
        for _ in range(0, steps, stride):
            for event, rows in zip(self.captured.events, found, strict=True):
                rows += event.happen(stride)
        for k, column in emitted.columns.items():
            if found[k]:
                table[:, column : column + len(found[k][0])] = found[k]
        return table

    def undo(self) -> list[Callable[[], None]]:
        """What brings step counts and schedules back to now, and memory, where an index is checked late."""
        undo = [event.undo() for event in self.captured.events]
        if self.compile().late and self.memory is not None:
            undo += [partial(setitem, array, ..., array.copy()) for array in self.memory.arrays.values()]
        return undo
