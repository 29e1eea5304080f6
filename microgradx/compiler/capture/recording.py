"""What is known of a step while it is recorded: of every array and Tensor that it meets, and of its program.

An array of the eager run stands for the value that it holds. It is known by `id(array)`, so what is known of
it keeps it alive.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar
from weakref import ref

import numpy as np

from microgradx.codegen.ir.binding import Binding, Constant, Data
from microgradx.codegen.ir.program import Instruction, Line, Program, Value
from microgradx.codegen.passes.arithmetic import plain
from microgradx.compiler.capture.captured import Tie
from microgradx.compiler.capture.events import Event
from microgradx.compiler.capture.namespace import Namespace, local_name
from microgradx.compiler.capture.refusal import refuse
from microgradx.compiler.capture.user_code import line_of, user_frame
from microgradx.cuda import Array as OnDevice
from microgradx.eager.devices import Array, on_host
from microgradx.eager.tape import Node
from microgradx.eager.tensor import Tensor
from microgradx.kernels.random import drawn
from microgradx.optim import Optimizer
from microgradx.optim.flat import Flat, Part
from microgradx.optim.options import Options


@dataclass(eq=False)
class KnownArray:
    """What is known of an array."""

    array: Array
    value: Value | None = None  # that it holds
    home: Value | None = None  # the bound Value whose memory it is, whatever it holds now
    fixed: bool = False  # whether it is the same in every step
    number: float | None = None  # and if it is the same everywhere, that
    stand_in: np.ndarray | None = None  # on the host, of an array on a GPU: shapes and views count


@dataclass(eq=False)
class KnownTensor:
    """What is known of a Tensor."""

    tensor: Tensor
    home: Value | None = None  # the bound Value that is its data
    created: bool = False  # by the step, of an array


X = TypeVar("X")
K = TypeVar("K", KnownArray, KnownTensor)


class Known(Generic[X, K]):
    """What is known of some objects, by their identity."""

    def __init__(self, make: Callable[[X], K]):
        self.make: Callable[[X], K] = make
        self.found: dict[int, K] = {}

    def of(self, x: X) -> K:
        """What is known of an object, to read: nothing, perhaps."""
        return self.found.get(id(x)) or self.make(x)

    def note(self, x: X) -> K:
        """The same, to write."""
        return self.found.setdefault(id(x), self.make(x))


def root_of(array: Array) -> object:
    """What an array has in common with all views of the same memory."""
    return array if array.base is None else array.base


class KnownArrays(Known[Array, KnownArray]):
    """What is known of arrays, which are found by their memory, too."""

    def __init__(self) -> None:
        super().__init__(KnownArray)
        self.near: dict[int, list[KnownArray]] = defaultdict(list)  # by the id of what they are views of

    def note(self, x: Array) -> KnownArray:
        """The same, to write."""
        count, known = len(self.found), super().note(x)
        if len(self.found) > count:
            self.near[id(root_of(x))].append(known)
        return known


class Recording:
    """A program that grows, and what is known of the arrays and Tensors that it works on."""

    def __init__(self, name: str, names: dict[int, str], again: bool = False):
        self.again = again  # whether it is a second look: what is written down counts, no number does
        self.program, self.names = Program(name), Namespace(names)
        self.device = "cpu"  # "cuda" from when it meets something there
        self.arrays = KnownArrays()
        self.tensors: Known[Tensor, KnownTensor] = Known(KnownTensor)
        self.nodes: dict[Node, Instruction] = {}  # of the tape
        self.ties: dict[int, Tie] = {}  # Tensors that share an array with one that is bound, by their ids
        self.given: list[Tensor] = []  # the arguments
        self.changed: list[Array] = []  # those that change in place
        self.replaced: list[Tensor] = []  # Tensors that hold another array after the step
        self.before: dict[Tensor, bool | None] = {}  # had a leaf a gradient? None where nobody looked
        self.events: list[Event] = []  # what happens beside the program, in order
        self.optimizers: dict[Flat, Optimizer | None] = {}  # of flat buffers; None until it steps
        self.options: list[tuple[Flat, Options]] = []  # their groups, at every sweep
        self.seen: list[tuple[np.ndarray, np.ndarray]] = []  # states that were read, and what was in them
        self.start, self.block, self.seeds = drawn.blocks, drawn.blocks, drawn.seeds
        self.forward: Line | None = None  # of the operation whose gradient is under way
        self.backward = False  # whether any is
        self.undo: list[Callable[[], None]] = []  # what takes back the eager run

    @property
    def parts(self) -> list[Part]:
        """The parameters of optimizers at work, and their places."""
        return [part for flat in self.optimizers for part in flat.parts]

    def fresh(self, base: str, array: Array, known: bool = False) -> Value:
        """A new Value for an array, with a name that is free; `known`: it is the user's own."""
        check_type(array.dtype, base if known else f"a result of {base}")
        value = Value(self.names.free(base), array.shape, array.dtype)
        if not known:
            self.names.invented.add(value)
        self.arrays.note(array).value = value
        return value

    def bind(self, base: str, binding: Binding) -> Value:
        """A Value that is read from, or left in, memory outside."""
        value = self.fresh(base, binding.then, known=True)
        self.program.bound[value] = binding
        self.arrays.note(binding.then).home = value
        if isinstance(binding, Data):
            self.undo.append(partial(setattr, binding.owner, "_data", binding.then))
            self.tensors.note(binding.owner).home = value
        return value

    def binding(self, array: Array) -> Binding | None:
        """The memory outside that an array is."""
        home = self.arrays.of(array).home
        return None if home is None else self.program.bound[home]

    def value(self, x: Tensor | Array) -> Value:
        """The Value of a Tensor or array: a constant, or bound to the Tensor, where it has none yet."""
        array: Array = x._data if isinstance(x, Tensor) else x
        known = self.arrays.of(array)
        if known.value is not None:
            held = self.binding(array)
            if isinstance(x, Tensor) and isinstance(held, Data) and held.owner is not x:
                self.ties[id(x)] = ref(x), held.owner
            return known.value
        if isinstance(x, Tensor) and not known.fixed and not self.tensors.of(x).created:
            return self.bind(self.names.of(x) or local_name(x) or "tensor", Data(x, array))
        counts = (
            array.ndim == 1 and array.dtype.kind == "i" and np.array_equal(on_host(array), range(len(array)))
        )
        return self.bind(local_name(x) or ("positions" if counts else "constant"), Constant(None, array))

    def operand(self, x: object) -> Value | float:
        """The Value of an input of an operation; numbers are themselves."""
        if isinstance(x, Tensor | np.ndarray | OnDevice):
            return self.value(x)
        if not plain(x):
            what = f"an operation is given a {type(x).__name__}"
            refuse(what, "Give it tensors, arrays and numbers; options stand after a * in its signature.")
        return x

    def add(self, instruction: Instruction) -> None:
        """Write an instruction down, with the user's line that it belongs to."""
        instruction.line, instruction.back = self.forward or line_of(user_frame()), self.backward
        self.program.instructions.append(instruction)

    def traced(self, tensor: Tensor) -> bool:
        """Whether a Tensor can differ from step to step."""
        return not self.arrays.of(tensor._data).fixed

    def makes(self, tensor: Tensor) -> bool:
        """Whether a Tensor is a result or an argument of this one step, not memory that stays."""
        known = self.arrays.of(tensor._data)
        return known.value is not None and known.home is None and self.tensors.of(tensor).home is None


def check_type(dtype: np.dtype, name: str) -> None:
    """Raise CaptureError where machine code has no type for some numbers."""
    if dtype.kind in "fiub" and not (dtype.itemsize <= 8 and dtype.isnative):
        what = dtype.name if dtype.itemsize > 8 else f"{dtype.name} in another machine's order of bytes"
        instead = "float64" if dtype.itemsize > 8 else dtype.name
        refuse(f"{name} is {what}", f"Convert it: x.astype(np.{instead}).")
