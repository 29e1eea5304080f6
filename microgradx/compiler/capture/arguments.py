"""The arguments of a step: which are arrays, also inside lists, tuples and dicts, and which are values."""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np

from microgradx.compiler.capture.plain_values import fingerprint, told
from microgradx.compiler.capture.pytree import Given, like
from microgradx.cuda import Array as OnDevice
from microgradx.eager.arrays import native
from microgradx.eager.tensor import Tensor, wrap
from microgradx.errors import ArgumentError

Key = list[object]
"""What calls that run the same program have in common, as it is found."""


class Slot:
    """The place of an array in a list, tuple or dict."""

    def __init__(self, at: int):
        self.at = at


class Call:
    """One call of a step: values, of which some are arrays."""

    __slots__ = ("values", "arrays", "places", "words", "count", "names", "inner", "given")

    def __init__(self, args: Sequence[object], words: dict[str, object], names: Callable[[int], str]):
        self.values = [*args, *words.values()] if words else list(args)
        self.words, self.count, self.names = tuple(words), len(self.values), names
        self.arrays: list[Given] = []  # among the values
        self.places: list[int] = []  # where
        self.inner: dict[int, Callable[[], str]] = {}  # the names of those inside of arguments
        self.given: list[Tensor] = []  # the Tensors that have some of the arrays

    def read(self) -> Key:
        """Make arrays fit to be worked on; what a variant must have in common with the arguments."""
        key: Key = [self.words] if self.words else []
        values = self.values
        for i in range(self.count):
            x = values[i]
            if type(x) is Tensor and not x.requires_grad:
                self.given.append(x)
                x = x._data
            array = x if type(x) is np.ndarray and is_tidy(x) else array_of(x)
            if array is not None:
                values[i] = array
                self.arrays.append(array)
                self.places.append(i)
                key += (array.shape, array.dtype.char, type(array))
            elif isinstance(x, list | tuple | dict):
                values[i] = self.take(x, partial(self.name, i), key)
            else:
                key.append((fingerprint(x), getattr(x, "requires_grad", None)))
        return key

    def name(self, i: int) -> str:
        """What an argument is called."""
        if i in self.inner:
            return self.inner[i]()
        k = i - (self.count - len(self.words))
        return self.words[k] if k >= 0 else self.names(i)

    def take(self, x: object, name: Callable[[], str], key: Key) -> object:
        """A list, tuple or dict with slots in place of arrays."""
        if (array := array_of(x)) is not None:
            self.given += [x] if isinstance(x, Tensor) else []
            self.inner[len(self.values)] = name
            self.arrays.append(array)
            self.places.append(len(self.values))
            self.values.append(array)
            key += [array.shape, array.dtype.char, type(array)]
            return Slot(len(self.values) - 1)
        if isinstance(x, dict):
            key.append((type(x), tuple(map(fingerprint, x))))
            return like(x, [self.take(v, partial(longer, name, k), key) for k, v in x.items()])
        if isinstance(x, list | tuple):
            key.append((type(x), len(x)))
            return like(x, [self.take(v, partial(longer, name, i), key) for i, v in enumerate(x)])
        key.append((fingerprint(x), getattr(x, "requires_grad", None)))
        return x

    def with_arrays(self, make: Callable[[str, Given], object]) -> list[object]:
        """The values with something made of each array in its place."""
        values = list(self.values)
        for i, array in zip(self.places, self.arrays, strict=True):
            values[i] = make(self.name(i), array)
        return values

    def spread(self, values: list[object]) -> tuple[list[object], dict[str, object]]:
        """What to call the function with: arguments by position and by name."""
        top = values[: self.count]
        if self.inner:
            top = [fill(x, values) for x in top]
        at = self.count - len(self.words)
        return top[:at], dict(zip(self.words, top[at:], strict=True))

    def blame(self, step: str, error: Exception) -> None:
        """Raise ArgumentError where Python speaks of the type of an argument that is no array, as of None."""
        for i in range(self.count):
            for name, x in parts(self.name(i), self.values[i]):
                kind = type(x).__name__
                if type(x).__module__ == "builtins" and re.search(rf"\b{kind}\b", str(error)):
                    advice = "Where a tensor is meant, pass an array or mg.tensor(...)."
                    raise ArgumentError(
                        f"{step}: {error}. Its argument {name} is {told(x)}. {advice}"
                    ) from error

    def tensors(self) -> tuple[list[object], dict[str, object]]:
        """The same for the step line by line."""
        return self.spread(self.with_arrays(lambda _, array: wrap(array)))


def parts(name: str, x: object) -> Iterator[tuple[str, object]]:
    """An argument and what is in it, with names for each."""
    yield name, x
    if isinstance(x, list | tuple | dict):
        for key, value in x.items() if isinstance(x, dict) else enumerate(x):
            yield from parts(f"{name}[{key!r}]", value)


def longer(name: Callable[[], str], key: object) -> str:
    """The name of an item."""
    return f"{name()}_{key}"


def array_of(x: object) -> Given | None:
    """The array in an argument, as compiled code wants it; None where it is something else."""
    found = data_of(x)
    return tidy(found) if isinstance(found, np.ndarray) else found


def data_of(x: object) -> Given | None:
    """The same as it lies there, which need not fit into memory as a copy."""
    if isinstance(x, Tensor) and not x.requires_grad:
        x = x._data
    if isinstance(x, np.ma.MaskedArray):
        raise ArgumentError("a step takes no masked arrays: write x.filled(0), and pass the mask beside it.")
    return x if isinstance(x, np.ndarray) else x.tight() if isinstance(x, OnDevice) else None


def is_tidy(x: np.ndarray) -> bool:
    """Whether compiled code can read an array where it is: element after element, in this machine's bytes."""
    return x.flags.c_contiguous and x.dtype.isnative


def tidy(x: np.ndarray) -> np.ndarray:
    """An array that compiled code can read: itself, or a copy."""
    return x if is_tidy(x) else native(np.ascontiguousarray(x))


def fill(x: object, values: list[object]) -> object:
    """A list, tuple or dict with values in place of slots."""
    if isinstance(x, Slot):
        return values[x.at]
    if isinstance(x, dict):
        return like(x, [fill(v, values) for v in x.values()])
    if isinstance(x, list | tuple):
        return like(x, [fill(v, values) for v in x])
    return x
