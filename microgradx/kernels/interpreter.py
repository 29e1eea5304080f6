"""The words of compiled steps in plain Python: an emitted file runs line by line, every access checked.

`load(source, names)` gives the functions of a file as they stand there, for a debugger to step through. Their
blocks of memory know how long they are, who wrote what, and which pieces of work may run at the same time: an
access that machine code would make in silence, past the end, of what another value has overwritten, or while
another thread writes, is a CompileError that names the line of the file and the user's own.
"""

import builtins
import hashlib
import linecache
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import NoReturn

import numpy as np
from numpy.typing import DTypeLike

from microgradx.errors import CompileError
from microgradx.kernels.addresses import Addresses
from microgradx.kernels.array_math import FUNCTIONS
from microgradx.kernels.cache import folder
from microgradx.kernels.source import Names

Index = int | tuple[int, ...]

BEFORE = -1  # the ticket of what was in memory from the beginning


class Gate:
    """The tickets of a run on one thread: which piece runs, and up to which all others are waited for."""

    def __init__(self) -> None:
        self.ticket = self.waited = self.finished = 0
        self.next = 0


class Table(Addresses):
    """What the entries of a step's table of addresses point to, as arrays."""

    def __init__(self, size: int):
        self.arrays: list[np.ndarray | None] = [None] * size
        self.forget()

    def forget(self) -> None:
        """Begin to watch anew: what is in the arena has been written by nobody."""
        self.memories: dict[int, Memory] = {}
        self.begin()

    def begin(self) -> Gate:
        """Tickets from 0 on: everything before is finished."""
        self.gate = Gate()
        for memory in self.memories.values():
            memory.written[:] = memory.read[:] = BEFORE
        return self.gate

    def __setitem__(self, entry: int, array: np.ndarray) -> None:
        self.arrays[entry] = array
        self.memories.pop(entry, None)

    def array(self, entry: int, size: int, dtype: np.dtype) -> np.ndarray:
        """(size,) the array behind an entry."""
        array = self.arrays[entry]
        assert array is not None
        return array.reshape(-1)[:size]

    def memory(self, entry: int, dtype: DTypeLike = np.uint8) -> "Memory":
        """The memory behind an entry, none where there is no array.

        Entry 0 is the arena, where values must be written before they are read.
        """
        if entry not in self.memories:
            array = self.arrays[entry]
            flat = np.empty(0, dtype) if array is None else array.reshape(-1)
            self.memories[entry] = Memory(flat, self, owned=entry == 0)
        return self.memories[entry]


class Memory:
    """One array, and for each of its elements (bytes, in the arena) who wrote it, and who touched it when."""

    def __init__(self, array: np.ndarray, table: Table, owned: bool):
        self.array, self.table = array, table
        self.owners = np.zeros(array.size, np.int32) if owned else None  # numbers of `names`
        self.names: list[str] = ["nobody"]
        self.written = np.full(array.size, BEFORE)
        self.read = np.full(array.size, BEFORE)

    def give(self, name: str, part: slice) -> None:
        """Some bytes of the arena are those of a value now, written by other means than its block."""
        assert self.owners is not None
        self.owners[part] = self.number(name)

    def number(self, name: str) -> int:
        """The number of the value of a name."""
        if name not in self.names:
            self.names.append(name)
        return self.names.index(name)


class Block:
    """Elements of a memory from `start` on, in C order; only the first axis may go on beyond the shape."""

    def __init__(
        self, name: str, memory: Memory, data: np.ndarray, start: int, shape: tuple[int, ...], unit: int
    ):
        self.name, self.memory, self.data, self.shape = name, memory, data, shape
        self.start, self.unit = start, unit  # in the units of the memory; how many of them an element takes
        self.owner = 0 if memory.owners is None else memory.number(name)
        row = math.prod(shape[1:])
        self.limits = (data.size // row if row else shape[0], *shape[1:])

    @property
    def dtype(self) -> np.dtype:
        """That of its elements."""
        return self.data.dtype

    def place(self, index: Index) -> int:
        """Where an element lies; refused where an index is outside of its axis."""
        axes, at = index if isinstance(index, tuple) else (index,), 0
        for i, n in zip(axes, self.limits, strict=True):
            if not 0 <= i < n:
                where = ", ".join(map(str, axes))
                fault(f"{self.name}[{where}] is outside of its {self.data.size} elements, {self.shape}")
            at = at * n + int(i)
        return at

    def __getitem__(self, index: Index) -> object:
        at = self.place(index)
        self.look(at, at + 1)
        return self.data[at]

    def __setitem__(self, index: Index, value: object) -> None:
        at = self.place(index)
        self.touch(at, at + 1)
        self.data[at] = value

    def look(self, start: int, stop: int) -> np.ndarray:
        """Elements that are read: they must be this value's, and no concurrent piece may write them."""
        memory, gate = self.memory, self.memory.table.gate
        part = slice(self.start + start * self.unit, self.start + stop * self.unit)
        if memory.owners is not None and (memory.owners[part] != self.owner).any():
            other = memory.names[memory.owners[part].max()]
            fault(f"{self.name} is read where {other} has written")
        self.alone(memory.written[part], gate, "reads what another piece writes")
        memory.read[part] = gate.ticket
        return self.data[start:stop]

    def touch(self, start: int, stop: int) -> np.ndarray:
        """Elements that are written: no concurrent piece may read or write them."""
        memory, gate = self.memory, self.memory.table.gate
        part = slice(self.start + start * self.unit, self.start + stop * self.unit)
        self.alone(memory.written[part], gate, "writes what another piece writes")
        self.alone(memory.read[part], gate, "writes what another piece reads")
        memory.written[part] = gate.ticket
        if memory.owners is not None:
            memory.owners[part] = self.owner
        return self.data[start:stop]

    def alone(self, tickets: np.ndarray, gate: Gate, what: str) -> None:
        """Refuse what pieces did that may still be running."""
        if gate.ticket and ((tickets >= gate.waited) & (tickets != gate.ticket)).any():
            fault(f"piece {gate.ticket} {what} in {self.name} at the same time")

    def matrix(self, start: int, stop: int, written: bool = False) -> np.ndarray:
        """Rows of a matrix, to be read or `written`."""
        height, width = self.shape
        if not 0 <= start <= stop <= height:
            fault(f"{self.name} has {height} rows, a product works on {start} to {stop}")
        access = self.touch if written else self.look
        return access(start * width, stop * width).reshape(stop - start, width)


def fault(what: str) -> NoReturn:
    """Raise the error of emitted code that does what it must not, with its line and the user's."""
    frame = sys._getframe(1)
    while frame.f_code.co_filename == __file__ and frame.f_back:
        frame = frame.f_back
    file, number = frame.f_code.co_filename, frame.f_lineno
    place = f"    {file}:{number}    {linecache.getline(file, number).strip()}"
    raise CompileError(
        f"the compiled step is broken: {what}, in `{frame.f_code.co_name}`.\n{place}\n"
        f"It computes: {user_line(frame)}\n"
        "Please report this, and use mg.jit(step, fallback='eager') until it is mended."
    )


def user_line(frame: FrameType | None) -> str:
    """The user's line above the one that an emitted function is at, or above the call of that function."""
    file = frame.f_code.co_filename if frame else ""
    while frame and frame.f_code.co_filename == file:
        for number in range(frame.f_lineno, frame.f_code.co_firstlineno, -1):
            line = linecache.getline(file, number).strip()
            if line.startswith("# "):
                return line[2:]
        frame = frame.f_back
    return "a part without a line of yours"


# The words of microgradx.kernels.runtime


def called() -> str:
    """The name that a line gives to its block."""
    frame = sys._getframe(2)
    return linecache.getline(frame.f_code.co_filename, frame.f_lineno).partition(" = ")[0].strip()


def block_at(table: Table, entry: int, shape: tuple[int, ...], dtype: DTypeLike) -> Block:
    """The block that an entry of the table points to."""
    memory = table.memory(entry, dtype)
    if memory.array.dtype != dtype:
        fault(f"entry {entry} is {memory.array.dtype}[{memory.array.size}], not {np.dtype(dtype)}{shape}")
    return Block(called(), memory, memory.array, 0, shape, 1)


def block(base: Block, offset: int, shape: tuple[int, ...], dtype: DTypeLike | None = None) -> Block:
    """A part of a block: bytes of the arena where a dtype is given, else elements under another shape."""
    size, unit = math.prod(shape), base.unit
    if dtype is not None:
        unit = np.dtype(dtype).itemsize
        data, start = base.data[offset : offset + size * unit].view(dtype), offset
    else:
        data, start = base.data[offset : offset + size], base.start + offset * unit
    if data.size < size:
        fault(f"{size} elements from {offset} on do not fit into the {base.data.size} of {base.name}")
    name = called() if dtype is not None else base.name
    return Block(name, base.memory, data, start, shape, unit)


def flat(base: Block) -> Block:
    """The same elements in a row."""
    return Block(base.name, base.memory, base.data, base.start, (base.data.size,), base.unit)


def plus(total: float, x: float) -> float:
    """A sum, in whose order nobody is interested."""
    return total + x


def product(turned: str) -> Callable[..., None]:
    """A matrix product of rows start to stop; "T" for an operand that is given transposed."""

    def multiply(out: Block, a: Block, b: Block, start: int, stop: int, adding: bool = False) -> None:
        (n, k), (inner, m) = (
            a.shape[:: -1 if turned[0] == "T" else 1],
            b.shape[:: -1 if turned[1] == "T" else 1],
        )
        if out.shape != (n, m) or inner != k:
            fault(f"a matrix product makes {out.name} {out.shape} of {(n, k)} and {(inner, m)}")
        left = a.matrix(0, k)[:, start:stop].T if turned[0] == "T" else a.matrix(start, stop)
        right = b.matrix(0, m).T if turned[1] == "T" else b.matrix(0, k)
        if adding:
            out.matrix(start, stop)
        target = out.matrix(start, stop, written=True)
        target[...] = (target if adding else 0) + left @ right

    return multiply


def claim(gate: Gate) -> int:
    """The next ticket."""
    gate.ticket, gate.next = gate.next, gate.next + 1
    return gate.ticket


def wait(gate: Gate, count: int) -> None:
    """Some pieces must be finished; alone, a thread would wait for ever if they were not."""
    if gate.finished < count:
        fault(f"piece {gate.ticket} waits for piece {count}, of which {gate.finished} are finished")
    gate.waited = count


def join(gate: Gate, helping: int) -> int:
    """The first ticket."""
    return claim(gate)


def leave(gate: Gate, count: int, helping: int) -> None:
    """All pieces must be finished."""
    wait(gate, count)


def ready(gate: Gate, count: int, status: np.ndarray) -> bool:
    """The same, and whether no index has been out of range."""
    wait(gate, count)
    return bool(status[0] == 0)


def done(gate: Gate) -> None:
    """One more piece is finished."""
    gate.finished += 1


def within(index: int, size: int, status: np.ndarray) -> int:
    """The index itself; 0 and a failure if it is out of range."""
    if 0 <= index < size:
        return int(index)
    status[0] = 1
    return 0


def inside(index: int, size: int, status: np.ndarray) -> int:
    """The same, where negative indices count from the end."""
    return within(index + size if index < 0 else index, size, status)


WORDS = SimpleNamespace(
    block_at=block_at, block=block, flat=flat, plus=plus, claim=claim, wait=wait, ready=ready, done=done,
    join=join, leave=leave,
    within=within, inside=inside, matmul=product("NN"), matmul_nt=product("NT"), matmul_tn=product("TN"),
)  # fmt: skip
"""What `microgradx.kernels.runtime` has for machine code."""


STANDS_FOR = {
    "microgradx.kernels.runtime": WORDS, "microgradx.kernels.vector_math": FUNCTIONS, "math": FUNCTIONS,
}  # fmt: skip


def bring(
    name: str, space: Mapping[str, object] | None = None, inside: Mapping[str, object] | None = None,
    members: Sequence[str] | None = (), level: int = 0,
) -> object:  # fmt: skip
    """`import` in an emitted file."""
    return (
        STANDS_FOR[name] if name in STANDS_FOR else builtins.__import__(name, space, inside, members, level)
    )


def load(source: str, names: list[str], label: str = "step") -> dict[str, Callable[..., None]]:
    """The functions of a file, as Python runs them; the file is kept, so that a debugger finds it."""
    name = f"{label}_{hashlib.sha256(source.encode()).hexdigest()[:16]}"
    place = folder()
    path = str(place / f"{name}.py") if place else f"<{name}>"
    if place and not Path(path).exists():
        Path(path).write_text(source, encoding="utf-8")
    linecache.cache[path] = len(source), None, source.splitlines(keepends=True), path
    space: Names = {  # functions and whatever else a file names
        "__name__": name,
        "__builtins__": vars(builtins) | {"__import__": bring},
    }
    exec(compile(source, path, "exec"), space)
    return {name: space[name] for name in names}
