"""Box: an array with its gradient and its place on the tape, and how others may see and change the array.

The word is that of HIPS autograd: operations take the arrays out of their boxes, compute, and put the result
into a new one. A Tensor is a Box with operators and methods; the files up to `tensor` need the Box alone.
"""

from operator import attrgetter
from typing import NoReturn, Self, TypeVar
from weakref import WeakValueDictionary

import numpy as np

from microgradx.eager.devices import Array, copy_into, device_of, kinds, room_for
from microgradx.eager.mode import mode
from microgradx.eager.tape import Node
from microgradx.errors import ArgumentError, DTypeError
from microgradx.primitives import Operand
from microgradx.primitives.shapes import cast
from microgradx.scalars import add


class Count(int):
    """How many elements there are, a number as NumPy has it; `t.size(0)` is told what to write.

    Only a number that can be called can answer PyTorch's habit; int's own says no more than that it cannot.
    """

    __slots__ = ()

    def __call__(self, dim: int | None = None) -> NoReturn:
        """ArgumentError: the sizes of axes are in `shape`."""
        if dim is None:
            raise ArgumentError("t.size is the number of elements here, as in NumPy: write t.shape.")
        raise ArgumentError(f"t.size is the number of elements here, as in NumPy: write t.shape[{dim}].")


class Box:
    """An array, NumPy's or another device's, that remembers how it was computed."""

    __slots__ = (
        "_data", "_grad", "_home", "_node", "_trained", "_version", "requires_grad", "name", "__weakref__",
    )  # fmt: skip
    number = -1  # on the tape, a leaf is older than any node
    _data: Operand  # an Array; of which of its kinds is looked at where that matters
    _grad: "Box | None"
    _home: Array | None  # where an optimizer wants the gradient written
    _node: Node | None  # that made it; None for a leaf
    _version: list[int]  # how often the data was changed in place; views share it
    _trained: bool  # whether it is a module's parameter, which it is while it is frozen, too
    requires_grad: bool
    name: str | None

    shape = property(attrgetter("_data.shape"), doc="The size of each axis.")
    ndim = property(attrgetter("_data.ndim"), doc="The number of axes.")
    size = property(lambda self: Count(self._data.size), doc="The number of elements.")
    dtype = property(attrgetter("_data.dtype"), doc="The number type, a NumPy dtype.")
    is_leaf = property(lambda self: self._node is None, doc="Whether it was made, not computed.")

    @property
    def device(self) -> str:
        """The name of the device that it is on, such as "cpu"."""
        if mode.recorder is not None and mode.recorder.device != "cpu":
            return mode.recorder.device
        return device_of(self._data)

    @classmethod
    def around(cls, array: Operand, version: list[int] | None = None) -> Self:
        """A box around an array, without checks and without a copy."""
        t = cls.__new__(cls)
        t._data = array if type(array) is np.ndarray or type(array) in kinds else np.asarray(array)
        t._grad = t._home = t._node = t.name = None
        t._version = [0] if version is None else version
        t.requires_grad = t._trained = False
        return t

    def accumulate(self, g: Operand) -> None:
        """Add a gradient to `.grad`: written into the optimizer's buffer where there is one."""
        old = self._grad
        if mode.recorder is not None:
            mode.recorder.gradient(self)
        if isinstance(g, Box) and g.requires_grad:  # to be differentiated again
            # a copy, for g may be the gradient of others, too
            self._grad = cast(g, dtype=g.dtype) if old is None else add(old, g)
        elif old is None:
            place = room_for(self._data) if self._home is None else self._home
            write(place, g)
            self._grad = self.around(place)
        elif old._node is not None or (type(old._data) is not np.ndarray and not old._data.dense):
            self._grad = add(old, g)
        elif self._home is not None and old._data is not self._home:  # set by somebody, who may keep it
            write(self._home, add(old, g))
            self._grad = self.around(self._home)
        else:
            if isinstance(g, Box):
                write(old._data, add(old, g))
            else:
                old._data += g
            old._version[0] += 1


B = TypeVar("B", bound=Box)

lent: WeakValueDictionary[int, object] = WeakValueDictionary()
"""Memory that optimizers work in, by its id. It stays theirs: as another tensor's data it is copied."""


def check_differentiable(dtype: np.dtype) -> None:
    """DTypeError for numbers that have no gradient."""
    if dtype.kind != "f":
        what = f"this one is {dtype}. Give it dtype=np.float32 first"
        raise DTypeError(f"only floating-point tensors can require gradients, {what}.")


# Looking at the array, and changing it, with word to whoever listens


def look(t: Box, what: str) -> Operand:
    """The array inside, for somebody outside; refused where a listener could not allow that."""
    if mode.recorder is not None:
        mode.recorder.look(t, what)
    return t._data


def shared(t: Box) -> Operand:
    """The array inside, for another box to hold."""
    if mode.recorder is not None:
        mode.recorder.shared(t)
    return t._data


def settled(t: Box) -> np.ndarray | None:
    """The array inside; None while its values are those of one call of many, or on another device."""
    unsettled = type(t._data) is not np.ndarray or (mode.recorder is not None and mode.recorder.traced(t))
    return None if unsettled else t._data


def remembered(t: B) -> B:
    """A box around an array of the library's own that is the same in every call."""
    if mode.recorder is not None:
        mode.recorder.remember(t._data)
    return t


def write(array: Array, new: Operand) -> None:
    """Copy an array, or what a box holds, into an array."""
    if not isinstance(new, Box):
        copy_into(array, new)
        return
    if mode.recorder is None or mode.recorder.keep(array):
        copy_into(array, new._data)
    tell(array, new)


def tell(array: Array, held: Box) -> None:
    """Let a listener know that an array now holds what a box does."""
    if mode.recorder is not None:
        mode.recorder.alias(array, held)


def overwrite(t: Box, new: Box) -> None:
    """Copy what one box holds, of the same shape and dtype, into the array of another."""
    if mode.recorder is None or mode.recorder.keep(t._data):
        copy_into(t._data, new._data)
    if mode.recorder is not None:
        mode.recorder.overwrite(t, new)
