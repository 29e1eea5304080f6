"""The memory that a compiled step is bound to: found before it runs, and again where it has been replaced."""

import sys
from collections.abc import Callable, Iterable

import numpy as np

from microgradx.codegen.ir.binding import GRADIENTS, Binding, Data, New, Number
from microgradx.codegen.ir.program import Value
from microgradx.compiler.capture.aliasing import dense, keep_apart
from microgradx.compiler.capture.captured import Captured
from microgradx.compiler.capture.recording import root_of
from microgradx.eager.devices import Array
from microgradx.eager.tensor import Tensor, wrap
from microgradx.errors import CaptureError


class Changed(Exception):
    """What a step is bound to has another shape or dtype now, or shares memory."""


def references(tensor: Tensor) -> int:
    """How many hold a tensor's array, views of it among them; 0 where nobody can tell, as on a GPU."""
    return sys.getrefcount(tensor._data) if type(tensor._data) is np.ndarray else 0


class Memory:
    """Where the arrays are that a program reads and writes outside of itself.

    `used` are the Values whose arrays its code works on; `locate` gives an array where that code runs.
    """

    def __init__(self, captured: Captured, used: Iterable[Value], locate: Callable[[Array], Array]):
        self.captured, self.locate = captured, locate
        bound = captured.program.bound
        self.used = [(v, bound[v]) for v in used if not isinstance(bound[v], Number)]
        self.written = [b.owner for home in captured.program.writes if isinstance(b := bound[home], Data)]
        self.accumulated = [leaf for leaf, had in captured.found.items() if had]
        self.before = captured.before
        self.apart = False  # whether it is bound, to memory in which nothing is there twice
        self.owned: dict[Tensor, int] = {}  # references to arrays that nobody outside may hold

    def bind(self) -> None:
        """Find all arrays."""
        for flat in self.captured.buffers:
            for part in flat.parts:
                if not self.captured.replaces(part.parameter):
                    flat.adopt(part)
        self.flats = [(flat, flat.arrays) for flat in self.captured.buffers]
        self.arrays: dict[Value, Array] = {}
        self.watched: list[tuple[Tensor, Array]] = []
        self.homes: dict[Tensor, tuple[Array, bool]] = {}  # of gradients; whether nobody else knows them
        self.strided: list[tuple[Array, Array, bool]] = []  # a view, its copy, if the step changes it
        self.changed: set[int] = set()  # the ids of arrays whose memory the step changes
        for value, binding in self.used:
            self.arrays[value] = self.find(value, binding)
        self.after = [  # what leaves must be told after a step
            (leaf, self.homes[leaf] if has else None)
            for leaf, has in self.captured.final.items()
            if not has or leaf in self.homes
        ]

    def find(self, value: Value, binding: Binding) -> Array:
        """The array of a Value, one element after the other: a copy of a view, for every call."""
        array = self.locate(binding.array())
        if array.shape != value.shape or array.dtype != value.dtype:
            raise Changed(f"{value.name} is {array.dtype}{list(array.shape)} now")
        writes = value in self.captured.program.writes
        if writes:
            self.changed.add(id(root_of(array)))
        if isinstance(binding, Data):
            self.watched.append((binding.owner, array))
        elif isinstance(binding, GRADIENTS):
            private = isinstance(binding, New) and array is not binding.owner._home
            self.homes[binding.owner] = array, private
        if dense(array):
            return array
        copy = array.copy()
        self.strided.append((array, copy, writes))
        return copy

    def ready(self) -> bool:
        """Bind again where arrays have been replaced, and bring views together; whether it has."""
        for binding in self.before:
            binding.then = binding.owner._data
        for tensor in self.captured.replaced:  # by the step: whoever shares its array keeps what is in there
            if self.before or references(tensor) != self.owned.get(tensor):
                tensor._data = tensor._data.copy()
        if again := not self.bound():
            self.bind_again()
        for view, copy, _ in self.strided:
            copy[...] = view
        return again

    def bound(self) -> bool:
        """Whether all arrays are where they were found."""
        return self.in_place() and all([flat.arrays is arrays for flat, arrays in self.flats])

    def in_place(self) -> bool:
        """Whether those of Tensors and gradients are, and nothing is there twice."""
        return (
            self.apart
            and all([tensor._data is array for tensor, array in self.watched])
            and all([leaf._grad._data is self.homes[leaf][0] for leaf in self.accumulated])  # type: ignore[union-attr]
        )

    def bind_again(self) -> None:
        """Find what has been replaced. Raises as `check` does."""
        there = self.in_place()
        for leaf in self.accumulated:
            home, grad = leaf._home, leaf._grad
            if home is not None and grad is not None and grad._data is not home:
                home[...] = grad._data
                leaf._grad = wrap(home)
        self.bind()
        if not there:
            self.check()

    def count(self) -> None:
        """All who are to hold new arrays hold them: one more is somebody outside."""
        self.owned = {tensor: n for tensor in self.captured.replaced if (n := references(tensor))}

    def check(self) -> None:
        """Raise CaptureError where memory is shared; Changed where it was not so far: it is recorded anew."""
        was, self.apart = self.apart, False
        try:
            keep_apart(self.captured.program)
        except CaptureError as error:
            raise (Changed(str(error)) if was else error) from None
        self.apart = True

    def holds(self, array: Array) -> bool:
        """Whether an array lies in memory that the step changes, as that of step(p.detach()) does."""
        return id(root_of(array)) in self.changed

    def leave(self) -> None:
        """Tell Tensors what the step has done to them, and leaves which gradients they have now."""
        for view, copy, changes in self.strided:
            if changes:
                view[...] = copy
        for tensor in self.written:
            tensor._version[0] += 1
        for leaf, home in self.after:
            if home is None:
                leaf._grad = None
                continue
            (array, private), gradient = home, leaf._grad
            if private:
                leaf._grad = wrap(array.copy())
            elif gradient is not None and gradient._data is array and not gradient.requires_grad:
                gradient._version[0] += 1
            else:
                leaf._grad = wrap(array)
