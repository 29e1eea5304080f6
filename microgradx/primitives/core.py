"""What an array operation is: NumPy code, and the rule of its vector-Jacobian product.

A rule `(g, out, *inputs, **parameters)` returns one gradient per input: the gradient `g` of the output
times the derivative. It is generic array arithmetic: on NumPy arrays it is fast, on Tensors it records
itself and can be differentiated again. Broadcasting is undone by the tape, never here. A rule may return
a function instead of an array for what is costly and not always wanted. Names with `_` in front stand for
inputs whose values it does not need, at most their shapes: nobody keeps those for it.
"""

import inspect
from collections.abc import Callable, Sequence
from functools import cache, cached_property, partial, update_wrapper
from typing import Any, TypeVar

import numpy as np

from microgradx.errors import (
    FOREIGN,
    ArgumentError,
    KernelError,
    MicrogradxError,
    checked,
    refusal,
    shown,
    undefined,
    unexpected,
)
from microgradx.kernels.array_math import for_arrays
from microgradx.kernels.cpu import body, operand
from microgradx.kernels.free_variables import FreeVariables
from microgradx.scalars import Elementwise, Named, Operand, declarations, signature_of

Shape = tuple[int, ...]

F = TypeVar("F", bound=Callable[..., object])

operations: dict[str, Callable[..., Operand]] = {}
"""Every array operation by its name: tests, methods of Tensor and public names are made from this."""

cases: dict[str, tuple["Case", ...]] = {}
"""For every operation, calls that span its domain; each is checked against finite differences."""

executors: dict[type, Callable[..., Operand]] = {}
"""How to run a primitive on types other than NumPy's arrays."""

readers: dict[type, Callable[[Operand], np.ndarray | None]] = {}
"""How to read the values of such types; None where they are not settled, as while a compiler listens."""

SIZES = ("shape", "ndim", "size", "dtype")


def values(x: Operand) -> np.ndarray | None:
    """The array of what a user gave; None where nothing may depend on its values, only on its shape.

    >>> values([1, 2])
    array([1, 2])
    """
    read = readers.get(type(x))
    return np.asarray(operand("an index or a target", x)) if read is None else read(x)


class Case:
    """A call of an operation: `Case((3, 4), axis=0)` draws an input of shape (3, 4) and passes axis=0.

    `first` comes before the inputs (einsum's equation), `last` after them (labels, which are no floats);
    `as_list` passes the inputs as one list.

    >>> mg.Case((2, 3), axis=0).call(np.sum, [np.ones((2, 3))])
    array([2., 2., 2.])
    """

    def __init__(
        self,
        *shapes: Shape,
        first: tuple[object, ...] = (),
        last: tuple[object, ...] = (),
        as_list: bool = False,
        **parameters: object,
    ):
        self.shapes, self.first, self.last = shapes, first, last
        self.as_list, self.parameters = as_list, parameters

    def call(self, operation: Callable[..., Operand], arrays: list[Operand]) -> Operand:
        """The operation's value at these arrays."""
        inputs = [arrays] if self.as_list else arrays
        return operation(*self.first, *inputs, *self.last, **self.parameters)

    def __repr__(self) -> str:
        rest = [f"{name}={value!r}" for name, value in self.parameters.items()]
        return "-".join(map(str, (*self.first, *self.shapes, *self.last, *rest))).replace(" ", "")


class Primitive(Named):
    """A differentiable array operation, from its NumPy code; its rule follows with `.vjp`.

    Arguments without a default are arrays (or Tensors); those with one, and those after `*`, are
    parameters without gradient.

    >>> @mg.primitive
    ... def outer(a, b):
    ...     return np.multiply.outer(a, b)
    >>> @outer.vjp
    ... def _(g, _out, a, b):
    ...     return g @ b, a @ g
    >>> mg.grad(lambda a: outer(a, mg.ones(3)).sum())(np.array([1.0, 2.0]))
    tensor([3., 3.], dtype=float64)
    """

    declares = "vjp"

    def __init__(self, forward: Callable[..., Operand]):
        if isinstance(forward, type) or not hasattr(forward, "__name__"):
            raise ArgumentError(f"primitive declares a function, not {shown(forward)}.")
        update_wrapper(self, forward, updated=())
        self.forward = forward
        self.__name__ = self.name = forward.__name__  # the name in messages may be set apart
        self.__signature__ = signature_of(forward)
        declared = self.__signature__.parameters.values()
        inputs = [p for p in declared if p.default is p.empty and p.kind != p.KEYWORD_ONLY]
        self.arity = 1000 if any(p.kind == p.VAR_POSITIONAL for p in inputs) else len(inputs)
        self.inputs = [p.name for p in inputs]
        self.parameters = [p.name for p in declared if p not in inputs]
        self.defaults = {p.name: p.default for p in declared if p.default is not p.empty}
        self.rule: Any = None  # a function once it is declared, which takes what its parameters say
        self.places: tuple[int | str, ...] = (
            "g",
            "out",
            *range(len(inputs)),
        )  # what the rule's arguments are

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}{self.__signature__}>"

    def vjp(self, rule: F) -> F:
        """Declare the rule `(g, out, *inputs, **parameters)`: one gradient (or None) per input.

        Of what it names with `_` in front, `_out` or `_x`, it takes at most shape and dtype: then the values
        are not kept for backward. ArgumentError where its arguments are others.
        """
        try:
            inspect.signature(rule).bind("g", "out", *self.inputs, **dict.fromkeys(self.parameters))
        except TypeError as error:
            takes = ", ".join(["g", "out", *self.inputs, *self.parameters])
            raise ArgumentError(f"{self.name}: a rule takes ({takes}), not this one: {error}.") from None
        self.rule = rule
        declarations[0] += 1
        self.__dict__.pop("reads", None)
        return rule

    @property
    def derivative(self) -> Callable[..., Operand] | None:
        """What has been declared as such, by now."""
        return self.rule

    def pull(self, g: Operand, out: Operand, *inputs: Operand, **parameters: object) -> Operand:
        """The gradients of the inputs, given the gradient `g` of the output."""
        return self.rule(g, out, *inputs, **parameters)

    @cached_property
    def reads(self) -> frozenset[int | str]:
        """The inputs (by position) and the output ("out") whose values the rule uses, as its names say.

        What it calls `_x`, or `_`, is not kept for backward, and may change in the meantime.
        """
        everything = frozenset([*range(self.arity), "out"])
        if self.rule is None:
            return everything
        parameters = inspect.signature(self.rule).parameters.values()
        rest = [p.name for p in parameters if p.kind is p.VAR_POSITIONAL]
        named = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        places = dict(zip(self.places, named, strict=False))
        spare = {place for place, name in places.items() if name.startswith("_")}
        if rest and rest[0].startswith("_"):
            spare |= everything - places.keys()
        return everything - spare

    def __call__(self, *arrays: Operand, **parameters: object) -> Operand:
        """Arrays give an array; a Tensor among them gives a Tensor."""
        if len(arrays) > self.arity:
            given = dict(zip(self.parameters, arrays[self.arity :], strict=False))
            if len(given) < len(arrays) - self.arity or given.keys() & parameters:
                raise ArgumentError(
                    f"{self.name}: more arguments than {self.name}{self.__signature__} takes."
                )
            arrays, parameters = arrays[: self.arity], given | parameters
        for array in arrays:
            if run := executors.get(type(array)):
                break
        else:
            run = None
        try:
            if run is None:
                arrays = tuple([a if type(a) is np.ndarray else as_array(self.name, a) for a in arrays])
                return self.forward(*arrays, **parameters)
            return run(self, *arrays, **(self.defaults | parameters if self.defaults else parameters))
        except Exception as error:
            told = self.explained(arrays, parameters, error)
            if told is error:
                raise
            raise told from error

    def explained(
        self, arrays: Sequence[object], parameters: dict[str, object], error: Exception
    ) -> Exception:
        """The error that says which operation went wrong, and what to do; a user's own stays as it is."""
        if isinstance(error, MicrogradxError):
            return error
        if isinstance(error, NameError) and not isinstance(error, UnboundLocalError):
            return KernelError(f"{self.name}: {undefined(str(error.name), [*self.inputs, *self.parameters])}")
        ours = self.__module__.startswith("microgradx.")
        if "truth value" in str(error) and not ours:
            advice = "write where(condition, a, b) instead of if, and & | instead of and, or."
            return ArgumentError(f"{self.name}: its definition branches on an array; {advice}")
        if isinstance(error, TypeError):
            try:
                self.__signature__.bind(*arrays, **parameters)
            except TypeError:
                return unexpected(error, parameters, self.parameters)
        told = [v for k, v in parameters.items() if k not in self.defaults or v is not self.defaults[k]]
        return refusal(self.name, [*arrays, *told], error) if ours and isinstance(error, FOREIGN) else error


class ElementwisePrimitive(Primitive):
    """The array operation of an elementwise function: its rule multiplies by the slope."""

    declares = "slope"

    def __init__(self, function: Elementwise):
        super().__init__(function)
        self.elementwise, self.forward, self.rule = function, body(function), function.slopes
        self.places = (*range(self.arity), "out")
        self.outside = FreeVariables(function.function)

    @property
    def derivative(self) -> Callable[..., Operand] | None:
        """The slope that has been declared last; this operation's own is its rule."""
        return self.elementwise.slopes

    def pull(self, g: Operand, out: Operand, *inputs: Operand, **constants: object) -> tuple[Operand, ...]:
        """g times each slope; the numbers 1 and -1 cost nothing and next to nothing."""
        constants, rule = self.defaults | constants, self.rule
        if not self.__module__.startswith("microgradx."):
            rule = for_arrays(rule)
        try:
            slopes = rule(*inputs, out, **constants)
        except (ZeroDivisionError, ValueError):  # a plain number, where NumPy's give an infinity or a NaN
            numbers = [g.dtype.type(x) if isinstance(x, int | float) else x for x in inputs]
            slopes = rule(*numbers, out, **constants)
        slopes = slopes if isinstance(slopes, tuple) else (slopes,)
        return tuple(s if s is None else partial(scale, g, s) for s in slopes)  # not all may be wanted


def scale(g: Operand, slope: Operand) -> Operand:
    """g · slope, where a slope may also be a plain number."""
    if type(slope) is int and abs(slope) == 1:
        return g if slope == 1 else -g
    return g * slope


lifted: dict[Elementwise, ElementwisePrimitive] = {}


@cache
def made(
    function: Elementwise, slopes: Callable[..., Operand] | None, outside: FreeVariables
) -> ElementwisePrimitive:
    """One for a function, its slope, and the numbers outside of it."""
    return ElementwisePrimitive(function)


def lift(function: Elementwise) -> ElementwisePrimitive:
    """The array operation of an elementwise function: another one for another slope, and for other numbers
    outside of the definition, which kernels that are made of it have inside.

    >>> lift(mg.tanh)
    <ElementwisePrimitive tanh(x)>
    """
    op = lifted.get(function)
    if op is None or op.rule is not function.slopes or not op.outside.holds():
        op = lifted[function] = made(function, function.slopes, FreeVariables(function.function))
    return op


def as_array(name: str, x: Operand) -> Operand:
    """What has a shape, made of what a user gave in the place of an array."""
    return x if type(x) in executors else np.asarray(operand(name, x))


def operation(*examples: Case) -> Callable[[F], F]:
    """Enter a function into the table of operations, with the cases that it is checked on.

    What is made of other operations takes arrays for its operands, and what goes wrong in it is said of its
    arguments, as of a primitive's.

    >>> @mg.operation(mg.Case((2, 3)), mg.Case((4,), power=2))
    ... def power_sum(x, power=3):
    ...     return mg.sum(x**power)
    >>> operations["power_sum"](mg.tensor([1.0, 2.0]))
    tensor(9.)
    """

    def enter(function: F) -> F:
        found = function if isinstance(function, Primitive) else composed(function)
        operations[function.__name__] = found
        cases[function.__name__] = examples
        return found  # type: ignore[return-value]

    return enter


def composed(function: Callable[..., Operand]) -> Callable[..., Operand]:
    """An operation made of others: it too takes lists and numbers for arrays."""
    takes = list(inspect.signature(function).parameters.values())[:2]
    places = [i for i, p in enumerate(takes) if p.annotation is Operand and p.default is p.empty]
    name = function.__name__

    def prepare(args: tuple[object, ...]) -> tuple[object, ...]:
        for i in places:
            if i < len(args) and type(args[i]) is not np.ndarray and type(args[i]) not in executors:
                args = (*args[:i], as_array(name, args[i]), *args[i + 1 :])
        return args

    return checked(function, prepare)


primitive = Primitive
"""The decorator that declares an array operation: `@primitive def outer(a, b): ...`."""
