"""The memory that a compiled step works in: found before it runs, and again where it has been replaced."""

import sys
from typing import Any

import numpy as np

from microgradx.codegen.ir.binding import GRADIENTS
from microgradx.codegen.ir.program import Program, Value
from microgradx.codegen.passes.simplify import simplify
from microgradx.compiler.capture.aliasing import dense, keep_apart, root_of
from microgradx.eager.tensor import Tensor, wrap
from microgradx.errors import CaptureError


class Changed(Exception):
    """What a step is bound to has another shape or dtype now, or shares memory."""


def references(tensor: Tensor) -> int:
    """How many hold a tensor's array, views of it among them; 0 where nobody can tell, as on a GPU."""
    return sys.getrefcount(tensor._data) if type(tensor._data) is np.ndarray else 0


class Bound:
    """A program, and where the memory is that it reads and writes outside of itself."""

    table: Any  # of addresses
    bound: list[tuple[int | None, Any, Value]]  # place in the table, Binding, Value

    def __init__(self, recorder: Any):
        self.program: Program = simplify(recorder.program)
        self.events, self.buffers = recorder.events, [*recorder.flats.values()]
        self.replaced: list[Tensor] = recorder.replaced
        self.before = [b for b in self.program.bound.values() if b.kind == "before"]
        self.final: dict[Tensor, bool] = recorder.final  # which gradients are left
        self.gradients = [(leaf, before) for leaf, before in recorder.before.items() if before is not None]
        self.accumulated = {leaf: before for leaf, before in self.gradients if before}  # of identity, not ==
        self.apart = False  # whether it is bound, to memory in which nothing is there twice
        self.owned: dict[Tensor, int] = {}  # references to arrays that nobody outside may hold

    def finds_gradients(self) -> bool:
        """Whether leaves have gradients, and none with a history, where they had them at the capture."""
        return all(
            leaf._grad is not None and leaf._grad._node is None if before else leaf._grad is None
            for leaf, before in self.gradients
        )

    def adopted(self) -> list[tuple[Any, Any]]:
        """The flat buffers of the optimizers, with all parameters that stay in them, and their arrays."""
        for flat in self.buffers:
            for part in flat.parts:
                if not any(part.parameter is tensor for tensor in self.replaced):
                    flat.adopt(part)
        return [(flat, flat.arrays) for flat in self.buffers]

    def bind(self) -> None:
        """Find the memory that the program works in."""
        self.begin()
        for place, binding, value in self.bound:
            array = self.found(binding, value)
            self.kept.append(array)
            if place is not None:
                self.table[place] = array
        self.end()

    def begin(self) -> None:
        """Nothing is found yet."""
        self.flats = self.adopted()
        self.watched: list[tuple[Tensor, Any]] = []
        self.homes: dict[Tensor, tuple[Any, bool]] = {}  # of gradients, and whether nobody else knows them
        self.kept: list[Any] = []
        self.strided: list[tuple[Any, Any, bool]] = []  # a view, its copy, and whether the step changes it
        self.rooms: set[int] = set()  # whose memory the step changes

    def found(self, binding: Any, value: Value) -> Any:
        """The memory of what is bound, one element after the other: a copy of a view, for every call."""
        array = self.located(binding.array())
        if array.shape != value.shape or array.dtype != value.dtype:
            raise Changed(f"{value.name} is {array.dtype}{list(array.shape)} now")
        writes = value in self.program.writes
        if writes:
            self.rooms.add(id(root_of(array)))
        if binding.kind == "data":
            self.watched.append((binding.owner, array))
        elif binding.kind in GRADIENTS:
            private = binding.kind == "new" and array is not binding.owner._home
            self.homes[binding.owner] = array, private
        if dense(array):
            return array
        copy = array.copy()
        self.strided.append((array, copy, writes))
        return copy

    def located(self, array: Any) -> Any:
        """An array where the step runs."""
        return array

    def end(self) -> None:
        """All is found: what Tensors must be told after a step."""
        self.after = {
            leaf: self.homes[leaf] if has else None
            for leaf, has in self.final.items()
            if not has or leaf in self.homes
        }

    def ready(self) -> None:
        """Bind again where memory has been replaced."""
        for binding in self.before:
            binding.then = binding.owner._data
        for tensor in self.replaced:  # by the step itself: whoever shares its array keeps what is in there
            if self.before or references(tensor) != self.owned.get(tensor):
                tensor._data = tensor._data.copy()
        there = self.apart and all(t._data is array for t, array in self.watched)
        there = there and all(leaf._grad._data is self.homes[leaf][0] for leaf in self.accumulated)
        if there and all(flat.arrays is arrays for flat, arrays in self.flats):
            return
        for leaf in self.accumulated:
            home = leaf._home
            if home is not None and leaf._grad is not None and leaf._grad._data is not home:
                home[...] = leaf._grad._data
                leaf._grad = wrap(home)
        self.bind()
        if not there:
            self.check()
        self.owned = {tensor: n for tensor in self.replaced if (n := references(tensor))}

    def check(self) -> None:
        """Raise CaptureError where memory is shared; Changed where it was not so far: it is recorded anew."""
        was, self.apart = self.apart, False
        try:
            keep_apart(self.program)
        except CaptureError as error:
            raise (Changed(str(error)) if was else error) from None
        self.apart = True

    def pull(self) -> None:
        """Bring the elements of views together."""
        for view, copy, _ in self.strided:
            copy[...] = view

    def hand_over(self) -> None:
        """Give leaves their gradients: in an optimizer's memory, where they were, or in new memory."""
        for leaf, home in self.after.items():
            if home is None:
                leaf._grad = None
            elif leaf in self.accumulated and leaf._grad is not None and not home[1]:
                leaf._grad._version[0] += 1
            else:
                array, private = home
                leaf._grad = wrap(array.copy() if private else array)

    def push(self) -> None:
        """Put what the step has changed back into views."""
        for view, copy, changes in self.strided:
            if changes:
                view[...] = copy
