"""Tensor: an array, its gradient, and operators that record what they do; no calculus in here.

Every operation on Tensors passes through `apply`: it runs the operation on the arrays inside, and
writes a node on the tape if any input wants a gradient.
"""

from functools import partial
from inspect import signature
from operator import attrgetter
from typing import Any, NoReturn
from weakref import WeakValueDictionary

import numpy as np

from microgradx import cuda, primitives, scalars
from microgradx.cuda import Array
from microgradx.cuda.dlpack import from_interface
from microgradx.eager.mode import mode
from microgradx.eager.tape import Node, backward, inspect_values
from microgradx.errors import (
    ArgumentError,
    DeviceError,
    DTypeError,
    GradientError,
    KernelError,
    ShapeError,
    undefined,
)  # fmt: skip
from microgradx.familiar import absent, unexpected
from microgradx.primitives import Primitive, lift
from microgradx.primitives.core import SIZES
from microgradx.primitives.indexing import Slot, fill, getitem
from microgradx.primitives.products import matmul
from microgradx.primitives.shapes import cast, permute
from microgradx.scalars import Elementwise


class Tensor:
    """An array, NumPy's or a GPU's, that remembers how it was computed.

    `data` is the array, `grad` the gradient that `backward()` left (a Tensor, or None). Made with
    `mg.tensor(values)`. Float32 by default for Python's numbers and lists; NumPy arrays keep their dtype.
    """

    __slots__ = (
        "_data", "_grad", "_home", "_node", "_trained", "_version", "requires_grad", "name", "__weakref__",
    )  # fmt: skip
    number = -1  # on the tape, a leaf is older than any node

    def __init__(self, values, dtype=None, device=None, requires_grad: bool = False):
        self._data: Any = placed(as_array(values, dtype), device)
        if requires_grad:
            check_differentiable(self._data.dtype)
        self._grad: Tensor | None = None
        self._home: Any = None  # where an optimizer wants the gradient written
        self._node: Node | None = None
        self._version = [0]  # how often the data was changed in place; views share it
        self.requires_grad = bool(requires_grad)
        self._trained = False  # whether it is a module's parameter, which it is while it is frozen, too
        self.name: str | None = None
        if mode.recorder is not None:
            mode.recorder.created(self)

    def __init_subclass__(cls) -> None:
        raise DTypeError("Tensor has no subclasses; put Tensors into an nn.Module, or write functions.")

    # What it is

    @property
    def data(self) -> Any:
        """The array inside, not a copy. Assigning (`t.data -= step` too) counts as a change in place."""
        return look(self, "data; `t -= ...` within no_grad() changes it unseen")

    @data.setter
    def data(self, values) -> None:
        array = placed(as_array(values, self._data.dtype), self.device)
        if id(array.base) in lent and array is not self._data:
            array = wrap(array).clone()._data
        if array.shape != self.shape and self._node is not None:
            raise ShapeError(f"data of shape {array.shape} does not fit a computed tensor of {self.shape}.")
        if mode.recorder is not None:
            mode.recorder.replace(self, wrap(array))
        self._data = array
        self._version[0] += 1

    @property
    def grad(self) -> "Tensor | None":
        """The gradient that backward() added up, in this tensor's shape and dtype, or None."""
        if mode.recorder is not None:
            mode.recorder.gradient(self)
        return self._grad

    @grad.setter
    def grad(self, value) -> None:
        if value is not None:
            value = value if isinstance(value, Tensor) else Tensor(value, self.dtype, self.device)
            value = value.to(self.dtype)
            if value.device != self.device:
                raise DeviceError(f"a gradient on {value.device} does not fit a tensor on {self.device}.")
            if value.shape != self.shape:
                raise ShapeError(f"a gradient of shape {value.shape} does not fit a tensor of {self.shape}.")
        if mode.recorder is not None:
            mode.recorder.gradient(self, reset=True)
        self._grad = value

    def __getattr__(self, name: str) -> NoReturn:
        raise absent("tensor", name, "a tensor", self)

    shape = property(attrgetter("_data.shape"), doc="The size of each axis.")
    ndim = property(attrgetter("_data.ndim"), doc="The number of axes.")
    size = property(attrgetter("_data.size"), doc="The number of elements.")
    dtype = property(attrgetter("_data.dtype"), doc="The number type, a NumPy dtype.")
    T = property(lambda self: permute(self), doc="All axes reversed.")
    is_leaf = property(lambda self: self._node is None, doc="Whether it was made, not computed.")

    @property
    def device(self) -> str:
        """Where it is: "cpu" or "cuda"."""
        recorded = mode.recorder is not None and mode.recorder.device == "cuda"
        return "cuda" if recorded or type(self._data) is Array else "cpu"

    def numpy(self) -> np.ndarray:
        """The array inside, not a copy; of a tensor on a GPU a copy, which waits for it."""
        return on_host(look(self, "numpy()"))

    def item(self) -> Any:
        """The one element as a Python number."""
        if self.size != 1:
            raise ShapeError(f"item() needs one element, this tensor of shape {self.shape} has {self.size}.")
        return on_host(look(self, "item()")).item()

    def tolist(self) -> Any:
        """Nested lists of Python numbers."""
        return on_host(look(self, "tolist()")).tolist()

    def __array__(self, dtype=None, copy=None):
        return np.array(look(self, "conversion to an array"), dtype=dtype, copy=copy)

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        """np.exp(t), array + t: the function of this library of that name; `array -= t` takes the values."""
        ours = UFUNCS.get(ufunc.__name__)
        called = method == "__call__"
        if called and ours is not None and out is None and not options:
            return ours(*inputs)
        if not called or out is None or any(isinstance(x, Tensor) for x in out):
            given = [*options, *["out"] * (out is not None)]
            call = f"np.{ufunc.__name__}" + f".{method}" * (not called)
            call += f" with {', '.join(given)}" if given else ""
            advice = "Write it with functions of mg, or take the array: t.detach().numpy()"
            raise ArgumentError(f"{call} is not for tensors, whose gradients it would drop. {advice}.")
        tensors = [x for x in inputs if isinstance(x, Tensor)]
        if mode.record and any(x.requires_grad for x in tensors):
            advice = "Use detach(), or do it inside `with mg.no_grad():`"
            raise GradientError(f"a change of an array would lose the gradient of what is put in. {advice}.")
        arrays = [on_host(look(x, "a change of an array")) if isinstance(x, Tensor) else x for x in inputs]
        return ufunc(*arrays, out=out, **options)

    def __array_function__(self, function, types, args, kwargs):
        """NumPy's other functions compute arrays; they are refused where they would drop a gradient."""
        name = function.__name__
        if name in SIZES:
            return function(*(one._data if isinstance(one, Tensor) else one for one in args), **kwargs)
        if mode.record and name not in WITHOUT_GRADIENT and any_requires_grad((args, kwargs)):
            known = primitives.operations.keys() | scalars.functions.keys()
            same = COUNTERPARTS.get(name, name if name in known else "")
            advice = f"write mg.{same}, or " * bool(same) + "take the array: t.detach().numpy()"
            call = f"{function.__module__}.{name}".replace("numpy", "np", 1)
            raise GradientError(f"{call} would drop the gradient of a tensor that requires it: {advice}.")
        return function(*as_arrays(args), **as_arrays(kwargs))

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return self.lent("__cuda_array_interface__").__cuda_array_interface__

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.lent("__dlpack_device__").__dlpack_device__()

    def __dlpack__(self, **options: Any) -> Any:
        return self.lent("__dlpack__").__dlpack__(**options)

    def lent(self, what: str) -> Any:
        """The array inside, for another library, which would not know about gradients."""
        if what == "__cuda_array_interface__" and type(self._data) is not Array:
            raise AttributeError("a tensor on the CPU has no __cuda_array_interface__")
        if self.requires_grad:
            raise GradientError(
                "a tensor that requires gradients is not lent to another library; use detach()."
            )
        return look(self, what)

    def __repr__(self) -> str:
        text = np.array2string(on_host(look(self, "printing")), separator=", ", prefix="tensor(")
        kind = "" if self.dtype == np.float32 else f", dtype={self.dtype}"
        kind += ', device="cuda"' * (self.device == "cuda")
        made = f", from={self._node.op.name}" if self._node else ", requires_grad=True" * self.requires_grad
        return f"tensor({text}{kind}{made})"

    def __len__(self) -> int:
        if not self.ndim:
            raise ShapeError("a tensor without axes has no length.")
        return len(self._data)

    __iter__ = lambda self: (self[i] for i in range(len(self)))
    __float__ = lambda self: float(self.item())
    __int__ = lambda self: int(self.item())

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ShapeError(
                f"a tensor of shape {self.shape} is neither true nor false: write t.any() or t.all(). To "
                "find a tensor in a list, compare with `is`: any(t is one for one in tensors)."
            )
        return bool(self.item())

    def __index__(self) -> int:
        if self.dtype.kind not in "iu":
            raise DTypeError(f"only an integer tensor can be an index, this one is {self.dtype}.")
        return int(self.item())

    def __format__(self, spec: str) -> str:
        if spec and self.size != 1:
            advice = f'Format one element, f"{{t.mean().item():{spec}}}", or write f"{{t}}" for all of them'
            raise ShapeError(f"{spec!r} formats one number, this tensor has shape {self.shape}. {advice}.")
        return format(self.item() if spec else str(self), spec)

    __hash__ = object.__hash__

    # Where it goes

    def to(self, target) -> "Tensor":
        """Another dtype, or device "cpu" or "cuda"; itself where nothing changes. Gradients flow through."""
        if isinstance(target, str) and target.split(":")[0] in DEVICES:
            check_device(target)
            return self if target == self.device else move(self, target)
        dtype = as_dtype(target)
        return self if dtype == self.dtype else cast(self, dtype=dtype)

    def detach(self) -> "Tensor":
        """The same data without history; changes in place are seen by both."""
        return wrap(shared(self), version=self._version)

    def clone(self) -> "Tensor":
        """A copy; gradients flow through."""
        return cast(self, dtype=self.dtype)

    def __reduce__(self):
        if self._node is not None:
            advice = "use clone(), or detach() to leave the history behind"
            raise GradientError(f"a computed tensor cannot be copied or pickled with its history; {advice}.")
        state = {"_grad": self._grad, "_trained": self._trained, "name": self.name}
        array = on_host(look(self, "copying or pickling"))
        return Tensor, (array, None, self.device, self.requires_grad), (None, state)

    # Gradients

    def backward(self, gradient=None, retain_graph: bool = False, create_graph: bool = False) -> None:
        """Add the gradient of this tensor to the `.grad` of every leaf that it was computed from.

        `gradient`, of this tensor's shape, is the gradient of what follows; a single number needs none.
        `create_graph` records the backward pass, so that gradients can be differentiated again.
        """
        differentiate(self, gradient, retain_graph=retain_graph, create_graph=create_graph)

    def requires_grad_(self, requires_grad: bool = True) -> "Tensor":
        """Want gradients from now on, or (False) no more: then optimizers leave it as it is."""
        if self._node is not None and not requires_grad:
            advice = "Use detach() for one without history, or freeze what it was computed from"
            raise GradientError(f"a computed tensor requires gradients if its inputs do. {advice}.")
        if requires_grad:
            check_differentiable(self.dtype)
        self.requires_grad = bool(requires_grad)
        return self

    def accumulate(self, g) -> None:
        """Add a gradient to `.grad`: written into the optimizer's buffer where there is one."""
        old = self._grad
        if mode.recorder is not None:
            mode.recorder.gradient(self)
        if isinstance(g, Tensor) and g.requires_grad:  # to be differentiated again
            self._grad = g.clone() if old is None else old + g  # g may be the gradient of others, too
        elif old is None:
            place = room_for(self._data) if self._home is None else self._home
            write(place, g)
            self._grad = wrap(place)
        elif old._node is not None or (type(old._data) is Array and not old._data.dense):
            self._grad = old + g
        elif self._home is not None and old._data is not self._home:  # set by somebody, who may keep it
            write(self._home, old + g)
            self._grad = wrap(self._home)
        else:
            if isinstance(g, Tensor):
                write(old._data, old + g)
            else:
                old._data += g
            old._version[0] += 1

    # Operators

    __add__ = lambda a, b: scalars.add(a, b)
    __radd__ = lambda a, b: scalars.add(b, a)
    __sub__ = lambda a, b: scalars.subtract(a, b)
    __rsub__ = lambda a, b: scalars.subtract(b, a)
    __mul__ = lambda a, b: scalars.multiply(a, b)
    __rmul__ = lambda a, b: scalars.multiply(b, a)
    __truediv__ = lambda a, b: scalars.divide(a, b)
    __rtruediv__ = lambda a, b: scalars.divide(b, a)
    __rpow__ = lambda a, b: scalars.power(b, a)
    __matmul__ = lambda a, b: matmul(a, as_operand(b))
    __rmatmul__ = lambda a, b: matmul(as_operand(b), a)
    __neg__ = lambda a: scalars.negative(a)
    __abs__ = lambda a: scalars.absolute(a)
    __lt__ = lambda a, b: scalars.less(a, b)
    __le__ = lambda a, b: scalars.less_equal(a, b)
    __gt__ = lambda a, b: scalars.greater(a, b)
    __ge__ = lambda a, b: scalars.greater_equal(a, b)
    __eq__ = lambda a, b: scalars.equal(a, b)
    __ne__ = lambda a, b: scalars.not_equal(a, b)
    __and__ = __rand__ = lambda a, b: scalars.logical_and(a, b)
    __or__ = __ror__ = lambda a, b: scalars.logical_or(a, b)
    __invert__ = lambda a: scalars.logical_not(a)
    __iadd__ = lambda a, b: in_place(a, a + b)
    __isub__ = lambda a, b: in_place(a, a - b)
    __imul__ = lambda a, b: in_place(a, a * b)
    __itruediv__ = lambda a, b: in_place(a, a / b)

    def __pow__(self, exponent):
        square = type(exponent) is int and exponent == 2
        return scalars.square(self) if square else scalars.power(self, exponent)

    def __getitem__(self, index) -> "Tensor":
        index, arrays = take_apart(index)
        return getitem(self, *arrays, index=index)

    def __setitem__(self, index, values) -> None:
        if self.requires_grad and mode.record:
            advice = "Use where(mask, new, old), or assign inside `with mg.no_grad():`."
            raise GradientError(f"cannot assign to elements of a tensor that requires gradients. {advice}")
        array = look(self, "assignment to elements")
        new = look(values, "assignment to elements") if isinstance(values, Tensor) else values
        try:
            index, arrays = take_apart(index)
            host = on_host(array)
            host[fill(index, [np.asarray(a) for a in arrays])] = np.asarray(new)
            if host is not array:
                array[...] = host
        except (ValueError, IndexError) as error:
            raise ShapeError(f"cannot assign shape {np.shape(values)} into {self.shape}: {error}.") from None
        self._version[0] += 1


def in_place(t: Tensor, new: Tensor) -> Tensor:
    """What `t += ...` leaves: a parameter with new values, where nothing is recorded; else another Tensor."""
    if not t.is_leaf or not (t.requires_grad or t._trained):
        return new
    if mode.record and new.requires_grad:
        advice = "Do it inside `with mg.no_grad():`, or write t = t + ... for another tensor"
        raise GradientError(f"a tensor that requires gradients cannot change in place here. {advice}.")
    if new.shape != t.shape:
        raise ShapeError(f"in place, a tensor of shape {t.shape} cannot become one of {new.shape}.")
    new = new.to(t.dtype)
    if mode.recorder is not None:
        mode.recorder.keep(t._data)
    copy_into(t._data, new._data)
    if mode.recorder is not None:
        mode.recorder.overwrite(t, new)
    t._version[0] += 1
    return t


# Making tensors from arrays, and arrays from what users give


def wrap(array, version: list[int] | None = None) -> Tensor:
    """A Tensor around an array, without checks and without a copy."""
    t = Tensor.__new__(Tensor)
    t._data = array if type(array) is np.ndarray or type(array) is Array else np.asarray(array)
    t._grad = t._home = t._node = t.name = None
    t._version = [0] if version is None else version
    t.requires_grad = t._trained = False
    return t


def check_differentiable(dtype: np.dtype) -> None:
    """DTypeError for numbers that have no gradient."""
    if dtype.kind != "f":
        what = f"this one is {dtype}. Give it dtype=np.float32 first"
        raise DTypeError(f"only floating-point tensors can require gradients, {what}.")


def as_dtype(dtype) -> np.dtype:
    """A NumPy dtype of numbers or booleans, from a dtype or its name, in this machine's order of bytes."""
    try:
        found = np.dtype(dtype)
    except TypeError:
        raise DTypeError(f"{dtype!r} is not a dtype; float32, float64, int64 and bool are.") from None
    if found.kind not in "fiub" or found == np.float16:
        raise DTypeError(f"tensors hold float32, float64, integers or booleans, not {found}.")
    return found.newbyteorder("=")


def as_array(values, dtype=None) -> Any:
    """The array of what a user gave: float32 for Python's numbers, else the dtype it has."""
    if isinstance(values, Tensor):
        values = shared(values if dtype is None else values.to(as_dtype(dtype)))
    if not isinstance(values, KNOWN) and hasattr(values, "__cuda_array_interface__"):
        values = from_interface(values, cuda.device())
    if type(values) is Array:
        return values if dtype is None else values.astype(as_dtype(dtype), copy=False)
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ShapeError(f"these values do not form an array: {str(error).rstrip('.')}.") from None
    if dtype is None:
        given = isinstance(values, np.ndarray | np.generic)  # keeps its dtype
        dtype = array.dtype if given or array.dtype.kind != "f" else mode.number
    return array.astype(as_dtype(dtype), copy=False)


def native(array: np.ndarray) -> np.ndarray:
    """The same numbers with their bytes in this machine's order: files, and other machines, know another."""
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


KNOWN = np.ndarray, list, tuple, int, float, Array
"""What is no other library's array."""


def as_operand(value):
    """What a binary array operation takes beside a Tensor: a Tensor or an array."""
    return value if isinstance(value, Tensor) else as_array(value)


def take_apart(index) -> tuple[Any, list]:
    """An index with slots for its Tensors, arrays and lists; and these, as Tensors and arrays."""
    parts, arrays = [], []
    for part in index if isinstance(index, tuple) else (index,):
        if isinstance(part, ARRAYS):
            arrays.append(kept(part))
            part = Slot(len(arrays) - 1)
        parts.append(part)
    return tuple(parts) if arrays or isinstance(index, tuple) else index, arrays


def kept(part):
    """A copy of what stands for an array within an index: backward needs it as it is now."""
    given = isinstance(part, Tensor)
    if given and type(part._data) is Array:
        return part if mode.recorder is not None else part.detach().clone()
    array = native(np.array(part._data if given else part))
    array = array if array.size or array.dtype.kind == "b" else array.astype(np.intp)
    if not given:
        return array
    if array.dtype.kind == "b":
        look(part, "a boolean mask as an index")  # it decides on the shape
    tell(array, part)
    return wrap(array)


ARRAYS = (Tensor, np.ndarray, list, tuple)
"""What stands for an array within an index."""


# NumPy's functions

UFUNCS: dict[str, Any] = scalars.functions | {
    "matmul": lambda a, b: matmul(as_operand(a), as_operand(b)),
    "bitwise_and": scalars.logical_and,
    "bitwise_or": scalars.logical_or,
    "invert": scalars.logical_not,
}
"""What computes the ufunc of a name."""

COUNTERPARTS = {"concatenate": "cat", "expand_dims": "unsqueeze", "broadcast_to": "expand", "amax": "max"}
COUNTERPARTS |= {"amin": "min", "ravel": "flatten", "take_along_axis": "gather"}
COUNTERPARTS |= {"vstack": "cat", "hstack": "cat", "dot": "matmul"}
"""What stands for a NumPy function of another name."""

# fmt: off
WITHOUT_GRADIENT = frozenset({
    "result_type", "can_cast", "allclose", "isclose", "array_equal", "array_equiv", "argmax", "argmin",
    "argsort", "any", "all", "count_nonzero", "nonzero", "zeros_like", "ones_like", "empty_like",
    "full_like", "array2string", "array_repr", "array_str", "save", "savez", "savetxt", "shares_memory",
    "may_share_memory", "copyto",
})
# fmt: on
"""NumPy functions whose results have no gradient to drop, or that hand values on as told."""


def any_requires_grad(given) -> bool:
    """Whether a Tensor among arguments, however nested, requires a gradient."""
    if isinstance(given, list | tuple | dict):
        return any(map(any_requires_grad, given.values() if isinstance(given, dict) else given))
    return isinstance(given, Tensor) and given.requires_grad


def as_arrays(given):
    """What NumPy's functions take, with the array inside for each Tensor."""
    if isinstance(given, Tensor):
        return given.numpy()
    if isinstance(given, dict):
        return {name: as_arrays(one) for name, one in given.items()}
    return type(given)(map(as_arrays, given)) if type(given) in (list, tuple) else given


# Devices


DEVICES = "cpu", "cuda"


def check_device(device) -> None:
    """DeviceError for what is no device."""
    if device not in (None, *DEVICES):
        raise DeviceError(f'device {device!r}: the devices are "cpu" and "cuda".')


def placed(array, device: str | None):
    """An array where it is wanted: itself, or a copy on the other device."""
    check_device(device)
    if device == "cuda" and type(array) is np.ndarray:
        if mode.recorder is not None:  # which works with shapes, on the host
            mode.recorder.device = "cuda"
            return array
        return cuda.device().array(array)
    return array.numpy() if device == "cpu" and type(array) is Array else array


def on_host(array) -> np.ndarray:
    """The array, or a copy of it if it is on a GPU."""
    return array.numpy() if type(array) is Array else array


def room_for(array):
    """A new array like another, of any values; while a recorder listens, one that stands for it."""
    if type(array) is Array and mode.recorder is None:
        return array.device.empty(array.shape, array.dtype)
    return np.empty(array.shape, array.dtype)


def on_device(op: Primitive, args: tuple, arrays: list) -> tuple[Any, list]:
    """How to run an operation on a GPU's arrays, and the arrays to run it on."""
    if mode.recorder is not None:  # it needs shapes; what the arrays hold stays on the GPU
        return op.forward, [mode.recorder.stand_in(a) if type(a) is Array else a for a in arrays]
    for a in args:
        if type(a) is Tensor and a.ndim and type(a._data) is not Array:
            where = ", ".join(f"{x.shape} on {x.device}" for x in args if type(x) is Tensor)
            advice = 'Move them together, for example with x.to("cuda") or model.to("cuda")'
            raise DeviceError(f"{op.name}: the tensors are on two devices: {where}. {advice}.")
    arrays = [placed(a, "cuda") if isinstance(a, np.ndarray) else a for a in arrays]
    return partial(primitives.executors[Array], op), arrays


def move(t: Tensor, device: str) -> Tensor:
    """A copy on another device."""
    out = wrap(placed(t._data, device))
    if t.requires_grad and mode.record:
        record(moved, [t], [t._data], [t._node or t], {"device": t.device}, out)
    return out


@primitives.primitive
def moved(x, *, device):
    """The same values on another device; `device` is where they come from."""
    return x


@moved.vjp
def _(g, out, x, device):
    return g.to(device)


lent: WeakValueDictionary[int, Any] = WeakValueDictionary()
"""Memory that optimizers work in, by its id. It stays theirs: as another tensor's data it is copied."""


# Recording: on the tape for derivatives, and for a compiler that listens


def look(t: Tensor, what: str) -> np.ndarray:
    """The array inside, for somebody outside; refused where a recording would take its values for fixed."""
    if mode.recorder is not None:
        mode.recorder.look(t, what)
    return t._data


def shared(t: Tensor) -> Any:
    """The array inside, for another Tensor to hold."""
    if mode.recorder is not None:
        mode.recorder.shared(t)
    return t._data


def write(array: np.ndarray, new) -> None:
    """Copy an array, or what a Tensor holds, into an array."""
    if isinstance(new, Tensor):
        if mode.recorder is not None:
            mode.recorder.keep(array)
        copy_into(array, new._data)
        tell(array, new)
    else:
        copy_into(array, new)


def copy_into(array, values) -> None:
    """array[...] = values; while a recorder listens, what is on a GPU stays as it is."""
    if type(array) is not Array:
        np.copyto(array, values)
    elif mode.recorder is None:
        array[...] = values


def tell(array: np.ndarray, held: Tensor) -> None:
    """Let a recorder know that an array now holds what a Tensor does."""
    if mode.recorder is not None:
        mode.recorder.alias(array, held)


def constant(array: np.ndarray) -> Tensor:
    """A Tensor around an array of the library's own that is the same in every call."""
    t = wrap(array)
    if mode.recorder is not None:
        mode.recorder.remember(t._data)
    return t


def settled(t: Tensor) -> np.ndarray | None:
    """The array inside; None while its values are those of one call of many, or on a GPU."""
    unsettled = type(t._data) is Array or (mode.recorder is not None and mode.recorder.traced(t))
    return None if unsettled else t._data


def apply(op: Primitive, *args, **params) -> Tensor:
    """Run an operation on the arrays inside the Tensors; record it if any of them wants a gradient."""
    arrays, edges, wanted, forward, away = [], [], False, op.forward, False
    for a in args:
        edge = None
        if type(a) is Tensor:
            if a.requires_grad:
                edge, wanted = a._node or a, True
            a = a._data
            away = away or type(a) is Array
        elif isinstance(a, np.generic):
            a = a.item()  # NumPy's single numbers count as Python's: they promote nothing
        elif isinstance(a, list | tuple):
            a = as_array(a)
        arrays.append(a)
        edges.append(edge)
    if away:
        forward, arrays = on_device(op, args, arrays)
    try:
        value = mode.calm.copy().run(forward, *arrays, **params)
    except NameError as error:
        raise KernelError(f"{op.name}: {undefined(str(error.name), [*op.inputs, *op.parameters])}") from error
    except (ValueError, IndexError) as error:
        if "truth value" in str(error):
            advice = "write where(condition, a, b) instead of if, and & | instead of and, or."
            raise ArgumentError(f"{op.name}: its definition branches on an array; {advice}") from error
        if isinstance(error, ArgumentError | ShapeError) or not op.__module__.startswith("microgradx."):
            raise
        shapes, why = ", ".join(str(np.shape(a)) for a in arrays), str(error).rstrip(" .")
        kind = ShapeError if isinstance(error, ValueError) else ArgumentError
        raise kind(f"{op.name} does not fit the shape{'s' * (len(arrays) > 1)} {shapes}: {why}.") from None
    out = wrap(value)
    data = out._data
    if data.dtype.char == "e":  # of small integers NumPy would compute in 16 bits
        arrays = [a.astype(mode.number) if isinstance(a, np.ndarray) else a for a in arrays]
        data = out._data = np.asarray(mode.calm.copy().run(op.forward, *arrays, **params), mode.number)
    wide = type(data) is np.ndarray and data.dtype.char == "d" != mode.number.char and "dtype" not in params
    if wide and not any(isinstance(a, np.ndarray) and a.dtype.char == "d" for a in arrays):
        data = out._data = data.astype(mode.number)  # integers with fractions give float32
    base = data if data.base is None else data.base
    for a in args:  # the output may be a view, or the input itself: changing one changes the other
        if type(a) is Tensor and (base is a._data or base is a._data.base):
            out._version = a._version
    if wanted and mode.record and data.dtype.kind == "f":
        record(op, args, arrays, edges, params, out)
    if mode.detect:
        inspect_values(op, list(map(np.asarray, arrays)), np.asarray(data))
    if mode.recorder is not None:
        mode.recorder.record(op, args, params, out)
    return out


def record(op: Primitive, args, arrays, edges, params, out: Tensor) -> None:
    """Write a node that keeps what the derivative reads, and nothing else."""
    reads = op.reads
    saved, guards = list(arrays), []
    for i, edge in enumerate(edges):
        if i in reads:
            if type(args[i]) is Tensor:
                guards.append(guard(i, args[i]))
        elif edge is not None:
            saved[i] = edge  # knows its shape and dtype, which is all that the rule asks for
    kept = out._data if "out" in reads else None
    if kept is not None:
        guards.append(guard("out", out))
    out._node = Node(op, params, edges, saved, kept, guards, out._data)
    out.requires_grad = True


def guard(which: int | str, t: Tensor) -> tuple:
    """What to compare before backward reads a value: its version, while debugging its bytes too."""
    return which, t._version, t._version[0], (t._data, np.asarray(t._data).tobytes()) if mode.detect else None


# Differentiating


def differentiate(y: Tensor, gradient=None, *, retain_graph=False, create_graph=False, watch=None) -> None:
    """Run the tape backward from y; see `tape.backward`."""
    if not y.requires_grad:
        why = "it depends on no tensor with requires_grad=True, or was computed under no_grad()"
        raise GradientError(f"there is nothing to differentiate in this tensor: {why}.")
    if gradient is None and y.size != 1:
        advice = "use backward(gradient), or reduce it first, for example y.sum().backward()"
        raise GradientError(f"a tensor of shape {y.shape} needs the gradient of what follows: {advice}.")
    g: Any = np.ones(y.shape, y.dtype) if gradient is None else as_array(gradient, y.dtype)
    if g.shape != y.shape:
        raise ShapeError(f"backward: the gradient has shape {g.shape}, the tensor {y.shape}.")
    run, start = mode.calm.copy().run, y._node or y
    options: dict[str, Any] = {"watch": watch, "check": mode.detect}
    g = placed(g, y.device)
    if create_graph or mode.recorder is not None or cuda.device.cache_info().currsize:
        given = create_graph and isinstance(gradient, Tensor)
        g = gradient if given else constant(g) if gradient is None else wrap(g)
        retain_graph = retain_graph or create_graph
        # constants in slopes take the gradients' dtype; what a slope computes and does not use is no anomaly
        with mode.having(record=create_graph and mode.record, number=y.dtype, detect=False):
            run(backward, start, g, retain_graph=retain_graph, graph=revive, **options)
    else:
        run(backward, start, g, retain_graph=retain_graph, **options)


def revive(value, edge):
    """A saved array as the Tensor that it was, attached to the tape."""
    if isinstance(edge, Tensor):
        return edge
    if type(value) is not np.ndarray and type(value) is not Array:
        return value
    t = wrap(value)
    if edge is not None:
        t._node, t.requires_grad = edge, True
    return t


# Tensors join the executors, and every operation of the tables becomes a method


def apply_elementwise(function: Elementwise, *args, **constants) -> Tensor:
    """Run and record an elementwise function."""
    if constants or len(args) != len(function.inputs):
        args, constants = function.bind(args, constants)
    return apply(lift(function), *args, **constants)


scalars.recorders[Tensor] = apply_elementwise
primitives.executors[Tensor] = apply
primitives.readers[Tensor] = settled


def method(function):
    """An operation as a method: t.exp() is exp(t)."""

    def call(self, *args, **kwargs):
        try:
            return function(self, *args, **kwargs)
        except TypeError as error:
            raise unexpected(error, kwargs, signature(function).parameters) from None

    call.__doc__ = function.__doc__
    return call


for _name, _function in (scalars.functions | primitives.operations | {"abs": scalars.absolute}).items():
    takes_one = not any(case.first or case.as_list for case in primitives.cases.get(_name, ()))
    if takes_one and not hasattr(Tensor, _name):
        setattr(Tensor, _name, method(_function))
