"""Tensor: an array, its gradient, and operators that record what they do; no calculus in here.

Operators and methods call the functions of `scalars` and `primitives`; these find, for Tensors, `apply`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from microgradx import scalars
from microgradx.eager.arrays import as_array, as_dtype, as_operand
from microgradx.eager.box import Box, check_differentiable, lent, look, overwrite, remembered, shared
from microgradx.eager.devices import check_device, device_of, devices, on_host, placed
from microgradx.eager.gradients import differentiate
from microgradx.eager.indexing import assign, take_apart
from microgradx.eager.mode import mode
from microgradx.eager.numpy_functions import array_function, array_ufunc
from microgradx.eager.recording import move
from microgradx.errors import (
    ArgumentError,
    DeviceError,
    DTypeError,
    GradientError,
    ShapeError,
    checked,
    switch,
)
from microgradx.familiar import absent
from microgradx.kernels.strided import Index
from microgradx.primitives import Operand
from microgradx.primitives.indexing import getitem
from microgradx.primitives.products import matmul
from microgradx.primitives.shapes import cast, permute

Operator = Callable[["Tensor", Operand], "Tensor"]


class Tensor(Box):
    """An array, NumPy's or a GPU's, that remembers how it was computed.

    `data` is the array, `grad` the gradient that `backward()` left (a Tensor, or None). Made with
    `mg.tensor(values)`. Float32 by default for Python's numbers and lists; NumPy arrays keep their dtype.

    >>> w = mg.tensor([1.0, 2.0], requires_grad=True)
    >>> loss = (w * w).sum()
    >>> loss.backward()
    >>> loss, w.grad
    (tensor(5., from=sum), tensor([2., 4.]))
    """

    __slots__ = ()
    _grad: Tensor | None

    @checked
    def __init__(
        self, values: ArrayLike, dtype: DTypeLike | None = None, device: str | None = None,
        requires_grad: bool = False,
    ):  # fmt: skip
        self._data = placed(as_array(values, dtype), device)
        self.requires_grad = switch("requires_grad", requires_grad)
        if self.requires_grad:
            check_differentiable(self._data.dtype)
        self._grad = self._home = self._node = self.name = None
        self._version = [0]
        self._trained = False
        if mode.recorder is not None:
            mode.recorder.created(self)

    def __init_subclass__(cls) -> None:
        raise DTypeError("Tensor has no subclasses; put Tensors into an nn.Module, or write functions.")

    # What it is

    T = property(lambda self: permute(self), doc="All axes reversed.")

    @property
    def data(self) -> Operand:
        """The array inside, not a copy. Assigning (`t.data -= step` too) counts as a change in place."""
        return look(self, "data; `t -= ...` within no_grad() changes it unseen")

    @data.setter
    def data(self, values: Operand) -> None:
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
    def grad(self) -> Tensor | None:
        """The gradient that backward() added up, in this tensor's shape and dtype, or None."""
        if mode.recorder is not None:
            mode.recorder.gradient(self)
        return self._grad

    @grad.setter
    def grad(self, value: ArrayLike | None) -> None:
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

    def __getattr__(self, name: str) -> Callable[..., Tensor]:  # operations of the tables
        if device_of(self._data) != "cpu" and name == devices[device_of(self._data)].interface:
            return getattr(self.lent(name), name)
        raise absent("tensor", name, "a tensor", self)

    # For NumPy, other libraries and Python

    def numpy(self) -> np.ndarray:
        """The array inside, not a copy; of a tensor on a GPU a copy, which waits for it."""
        return on_host(look(self, "numpy()"))

    def item(self) -> float:
        """The one element as a Python number.

        ShapeError where there are more, or none.
        """
        if self.size != 1:
            what = f"item() needs one element, this tensor of shape {self.shape} has {self.size}"
            raise ShapeError(f"{what}: tolist() gives them all.")
        return on_host(look(self, "item()")).item()

    def tolist(self) -> Any:  # lists in as many lists as there are axes
        """Nested lists of Python numbers."""
        return on_host(look(self, "tolist()")).tolist()

    __array_ufunc__ = array_ufunc
    __array_priority__ = 1000.0  # for arrays of others that look at it alone, where both have an operator
    __array_function__ = array_function

    @checked
    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        return np.array(look(self, "conversion to an array"), dtype=dtype, copy=copy)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.lent("__dlpack_device__").__dlpack_device__()

    def __dlpack__(self, **options: object) -> object:
        return self.lent("__dlpack__").__dlpack__(**options)

    def lent(self, what: str) -> Operand:
        """The array inside, for another library, which would not know about gradients."""
        if self.requires_grad:
            raise GradientError(
                "a tensor that requires gradients is not lent to another library; use detach()."
            )
        return look(self, what)

    def __repr__(self) -> str:
        text = np.array2string(on_host(look(self, "printing")), separator=", ", prefix="tensor(")
        kind = "" if self.dtype == np.float32 else f", dtype={self.dtype}"
        kind += f', device="{self.device}"' * (self.device != "cpu")
        if self.size > np.get_printoptions()["threshold"] or not self.size and self.ndim > 1:
            kind += f", shape={self.shape}"  # which the numbers do not show
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

    @checked
    def __format__(self, spec: str) -> str:
        if spec and self.size != 1:
            advice = f'Format one element, f"{{t.mean().item():{spec}}}", or write f"{{t}}" for all of them'
            raise ShapeError(f"{spec!r} formats one number, this tensor has shape {self.shape}. {advice}.")
        return format(self.item() if spec else str(self), spec)

    __hash__ = object.__hash__

    def __reduce__(self) -> tuple[object, ...]:
        if self._node is not None:
            advice = "use clone(), or detach() to leave the history behind"
            raise GradientError(f"a computed tensor cannot be copied or pickled with its history; {advice}.")
        state = {"_grad": self._grad, "_trained": self._trained, "name": self.name}
        array = on_host(look(self, "copying or pickling"))
        return Tensor, (array, None, self.device, self.requires_grad), (None, state)

    # Where it goes

    @checked
    def to(self, target: DTypeLike) -> Tensor:
        """Another dtype, or device "cpu" or "cuda"; itself where nothing changes. Gradients flow through.

        DTypeError for what is neither, DeviceError for a device that is not there.

        >>> mg.tensor([1, 2]).to(np.float32)
        tensor([1., 2.])
        """
        if isinstance(target, str) and target.split(":")[0] in ("cpu", *devices):
            check_device(target)
            return self if target == self.device else move(self, target)
        dtype = as_dtype(target)
        return self if dtype == self.dtype else cast(self, dtype=dtype)

    def detach(self) -> Tensor:
        """The same data without history; changes in place are seen by both."""
        return wrap(shared(self), version=self._version)

    def clone(self) -> Tensor:
        """A copy; gradients flow through."""
        return cast(self, dtype=self.dtype)

    # Gradients

    def backward(
        self, gradient: ArrayLike | None = None, retain_graph: bool = False, create_graph: bool = False
    ) -> None:
        """Add the gradient of this tensor to the `.grad` of every leaf that it was computed from.

        `gradient`, of this tensor's shape, is the gradient of what follows; a single number needs none.
        `create_graph` records the backward pass, so that gradients can be differentiated again; that and
        `retain_graph` keep what was saved for another pass. GradientError where there is nothing to
        differentiate, or what a rule reads was freed or changed in place.

        >>> x = mg.tensor([3.0], requires_grad=True)
        >>> (x**2).backward()
        >>> x.grad
        tensor([6.])
        """
        retain_graph = switch("retain_graph", retain_graph)
        create_graph = switch("create_graph", create_graph)
        differentiate(self, gradient, retain_graph=retain_graph, create_graph=create_graph)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Want gradients from now on, or (False) no more: then optimizers leave it as it is.

        DTypeError for integers and booleans; GradientError where (False) it was computed from what requires
        them.
        """
        requires_grad = switch("requires_grad", requires_grad)
        if self._node is not None and not requires_grad:
            advice = "Use detach() for one without history, or freeze what it was computed from"
            raise GradientError(f"a computed tensor requires gradients if its inputs do. {advice}.")
        if requires_grad:
            check_differentiable(self.dtype)
        self.requires_grad = requires_grad
        return self

    # Operators

    __add__: Operator = lambda a, b: scalars.add(a, b)
    __radd__: Operator = lambda a, b: scalars.add(b, a)
    __sub__: Operator = lambda a, b: scalars.subtract(a, b)
    __rsub__: Operator = lambda a, b: scalars.subtract(b, a)
    __mul__: Operator = lambda a, b: scalars.multiply(a, b)
    __rmul__: Operator = lambda a, b: scalars.multiply(b, a)
    __truediv__: Operator = lambda a, b: scalars.divide(a, b)
    __rtruediv__: Operator = lambda a, b: scalars.divide(b, a)
    __rpow__: Operator = lambda a, b: scalars.power(b, a)
    __matmul__: Operator = lambda a, b: matmul(a, as_operand(b))
    __rmatmul__: Operator = lambda a, b: matmul(as_operand(b), a)
    __floordiv__ = __rfloordiv__ = lambda a, b: without_slope("//", "np.floor(t.numpy() / 2)")
    __mod__ = __rmod__ = lambda a, b: without_slope("%", "np.mod(t.numpy(), 2)")
    __round__ = lambda a, digits=0: without_slope("round", "np.round(t.numpy())")
    __neg__: Callable[[Tensor], Tensor] = lambda a: scalars.negative(a)
    __abs__: Callable[[Tensor], Tensor] = lambda a: scalars.absolute(a)
    __lt__: Operator = lambda a, b: scalars.less(a, b)
    __le__: Operator = lambda a, b: scalars.less_equal(a, b)
    __gt__: Operator = lambda a, b: scalars.greater(a, b)
    __ge__: Operator = lambda a, b: scalars.greater_equal(a, b)
    __eq__ = lambda a, b: NotImplemented if b is None else scalars.equal(a, b)
    __ne__ = lambda a, b: NotImplemented if b is None else scalars.not_equal(a, b)
    __and__: Operator = lambda a, b: scalars.logical_and(a, b)
    __or__: Operator = lambda a, b: scalars.logical_or(a, b)
    __rand__, __ror__ = __and__, __or__
    __invert__: Callable[[Tensor], Tensor] = lambda a: scalars.logical_not(a)
    __iadd__: Operator = lambda a, b: in_place(a, a + b)
    __isub__: Operator = lambda a, b: in_place(a, a - b)
    __imul__: Operator = lambda a, b: in_place(a, a * b)
    __itruediv__: Operator = lambda a, b: in_place(a, a / b)

    def __pow__(self, exponent: Operand) -> Tensor:
        square = type(exponent) is int and exponent == 2
        return scalars.square(self) if square else scalars.power(self, exponent)

    def __getitem__(self, index: Index) -> Tensor:
        index, arrays = take_apart(index)
        return getitem(self, *arrays, index=index)

    __setitem__ = assign


wrap = Tensor.around
"""`wrap(array)`: a Tensor around an array, without checks and without a copy."""


def constant(array: Operand) -> Tensor:
    """A Tensor around an array of the library's own that is the same in every call."""
    return remembered(wrap(array))


def without_slope(operator: str, how: str) -> NoReturn:
    """What an operator that has no derivative says."""
    raise ArgumentError(f"tensors have no {operator}, which has no gradient. Write {how} for the array.")


def in_place(t: Tensor, new: Tensor) -> Tensor:
    """What `t += ...` leaves: a parameter with new values, where nothing is recorded; else another Tensor."""
    if not t.is_leaf or not (t.requires_grad or t._trained):
        return new
    if mode.record and new.requires_grad:
        advice = "Do it inside `with mg.no_grad():`, or write t = t + ... for another tensor"
        raise GradientError(f"a tensor that requires gradients cannot change in place here. {advice}.")
    if new.shape != t.shape:
        raise ShapeError(f"in place, a tensor of shape {t.shape} cannot become one of {new.shape}.")
    overwrite(t, new.to(t.dtype))
    t._version[0] += 1
    return t
