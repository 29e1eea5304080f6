"""The arguments of a step: which are arrays, also inside lists, tuples and dicts, and which are values."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from microgradx.compiler.capture.plain_values import fingerprint
from microgradx.cuda import Array
from microgradx.eager.arrays import native
from microgradx.eager.tensor import Tensor, wrap

ARRAYS = np.ndarray, Array


class Slot:
    """The place of an array in a list, tuple or dict."""

    def __init__(self, at: int):
        self.at = at


class Call:
    """One call of a step: values, of which some are arrays."""

    __slots__ = ("values", "arrays", "words", "count", "names", "inner")

    def __init__(self, args: Sequence[Any], words: dict[str, Any], names: Callable[[int], str]):
        self.values = [*args, *words.values()] if words else list(args)
        self.words, self.count, self.names = tuple(words), len(self.values), names
        self.arrays: list[int] = []  # the positions of those that are arrays
        self.inner: dict[int, Callable[[], str]] = {}  # the names of those inside of arguments

    def read(self) -> list[Any]:
        """Make arrays fit to be worked on; what a variant must have in common with the arguments."""
        key: list[Any] = [self.words] if self.words else []
        values = self.values
        for i in range(self.count):
            x = values[i]
            if type(x) is Tensor and not x.requires_grad:
                x = x._data
            if type(x) is np.ndarray:
                values[i] = x = x if x.flags.c_contiguous and x.dtype.isnative else tidy(x)
                self.arrays.append(i)
                key += (x.shape, x.dtype.char, np.ndarray)
            elif (array := array_of(x)) is not None:
                values[i] = array
                self.arrays.append(i)
                key += (array.shape, array.dtype.char, type(array))
            elif type(x) in (list, tuple, dict) or (isinstance(x, tuple) and hasattr(x, "_fields")):
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

    def take(self, x: Any, name: Callable[[], str], key: list[Any]) -> Any:
        """A list, tuple or dict with slots in place of arrays."""
        if (array := array_of(x)) is not None:
            self.inner[len(self.values)] = name
            self.arrays.append(len(self.values))
            self.values.append(array)
            key += [array.shape, array.dtype.char, type(array)]
            return Slot(len(self.values) - 1)
        if isinstance(x, dict):
            key.append((type(x), tuple(map(fingerprint, x))))
            return type(x)((k, self.take(v, partial(longer, name, k), key)) for k, v in x.items())
        if isinstance(x, list | tuple):
            key.append((type(x), len(x)))
            inner = [self.take(v, partial(longer, name, i), key) for i, v in enumerate(x)]
            return type(x)(*inner) if hasattr(x, "_fields") else type(x)(inner)
        key.append((fingerprint(x), getattr(x, "requires_grad", None)))
        return x

    def given(self) -> list[Any]:
        """The arrays."""
        return [self.values[i] for i in self.arrays]

    def with_arrays(self, make: Callable[[str, Any], Any]) -> list[Any]:
        """The values with something made of each array in its place."""
        values = list(self.values)
        for i in self.arrays:
            values[i] = make(self.name(i), values[i])
        return values

    def spread(self, values: list[Any]) -> tuple[list[Any], dict[str, Any]]:
        """What to call the function with: arguments by position and by name."""
        top = values[: self.count]
        if self.inner:
            top = [fill(x, values) for x in top]
        at = self.count - len(self.words)
        return top[:at], dict(zip(self.words, top[at:], strict=True))

    def tensors(self) -> tuple[list[Any], dict[str, Any]]:
        """The same for the step line by line."""
        return self.spread(self.with_arrays(lambda _, array: wrap(array)))


def longer(name: Callable[[], str], key: Any) -> str:
    """The name of an item."""
    return f"{name()}_{key}"


def array_of(x: Any) -> Any:
    """The array in an argument, as compiled code wants it; None where it is something else."""
    if isinstance(x, Tensor) and not x.requires_grad:
        x = x._data
    if isinstance(x, np.ndarray):
        return tidy(x)
    return x.tight() if isinstance(x, Array) else None


def tidy(x: Any) -> np.ndarray:
    """An array whose elements lie one after the other, in this machine's order of bytes."""
    return native(np.ascontiguousarray(x) if not x.flags.c_contiguous else x)


def fill(x: Any, values: list[Any]) -> Any:
    """A list, tuple or dict with values in place of slots."""
    if isinstance(x, Slot):
        return values[x.at]
    if isinstance(x, dict):
        return type(x)((k, fill(v, values)) for k, v in x.items())
    if isinstance(x, list | tuple):
        inner = [fill(v, values) for v in x]
        return type(x)(*inner) if hasattr(x, "_fields") else type(x)(inner)
    return x
