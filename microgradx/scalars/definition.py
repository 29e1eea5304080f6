"""What an elementwise function is: its definition and slope on plain numbers, and who runs it on arrays."""

import inspect
import math
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pickle import PicklingError
from types import FunctionType, MethodType
from typing import Any, overload

from microgradx.errors import FOREIGN, ArgumentError, MicrogradxError, refusal

inf = math.inf

Operand = Any
"""What arithmetic takes and gives: numbers, arrays of NumPy or of a device, Tensors. Their operators have no
type in common that checks: NumPy's are overloads of its own arrays.
"""

Interval = tuple[float, float]

declarations = [0]
"""How many derivatives have been declared so far: who depends on one looks again when this moves."""

functions: dict[str, "Elementwise"] = {}
"""Every elementwise function by its name: tests, executors and layers are made from this table."""

executors: dict[type, Callable[..., Operand]] = {}
"""How to run an elementwise function on a type of array: `executors[ndarray](function, *args)`; and by
`object` on what is neither an array of these types nor one of Python's numbers."""

NUMBERS = frozenset([int, float, bool])

recorders: dict[type, Callable[..., Operand]] = {}
"""The same for types that record what they compute; they come first, arrays beside them are constants."""


def signature_of(function: Callable[..., object]) -> inspect.Signature:
    """A function's signature as messages show it: names and defaults, without types."""
    found = inspect.signature(function)
    plain = [p.replace(annotation=p.empty) for p in found.parameters.values()]
    return found.replace(parameters=plain, return_annotation=found.empty)


def check_definition(what: str, function: object) -> None:
    """ArgumentError unless it is a Python function with named parameters: of others there is no text."""
    if not isinstance(function, FunctionType | MethodType):
        name = type(function).__name__
        advice = "Write one, `def name(...):`, that computes the same; numbers can be its defaults."
        raise ArgumentError(f"{what} takes a definition of Python's, not a {name}. {advice}")
    if inspect.isgeneratorfunction(function) or inspect.iscoroutinefunction(function):
        raise ArgumentError(
            f"{what} {function.__name__}: write return where yield is, and def without async."
        )
    for p in signature_of(function).parameters.values():
        if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
            raise ArgumentError(f"{what} {function.__name__}: instead of `{p}`, name its parameters.")


class Named:
    """What is copied and pickled by its name in its module, as Python's functions are."""

    __name__: str

    def __copy__(self) -> "Named":
        return self

    def __deepcopy__(self, memo: object) -> "Named":
        return self

    def __reduce__(self) -> str:
        if getattr(sys.modules.get(self.__module__), self.__name__, None) is not self:
            advice = "Give it a name of its own at the top of a module (a file that can be imported)"
            raise PicklingError(
                f"{self!r} is not what {self.__module__}.{self.__name__} stands for. {advice}."
            )
        return self.__name__


@dataclass(frozen=True)
class Domain:
    """Where a function is defined and smooth: one interval per input, and the kinks between."""

    intervals: tuple[Interval, ...]
    kinks: tuple[float, ...] = ()

    def sample(self, count: int, seed: int = 0, margin: float = 0.05) -> list[list[float]]:
        """`count` numbers per input, `margin` away from the kinks and, for two inputs, from a tie."""
        draw = random.Random(seed)
        points: list[list[float]] = []
        while len(points) < count:
            point = [draw.uniform(low, high) for low, high in self.intervals]
            gaps = [abs(x - kink) for x in point for kink in self.kinks]
            gaps += [abs(a - b) for a, b in pairwise(point[-2:])]
            if min(gaps, default=inf) >= margin:
                points.append(point)
        return [list(column) for column in zip(*points, strict=True)]


class Elementwise(Named):
    """A function of numbers that also works on arrays and tensors, element by element.

    Parameters without a default are inputs; parameters with one are constants (`negative_slope=0.01`).
    """

    def __init__(
        self, function: Callable[..., Operand], domain: Interval | tuple[Interval, ...] = (-3.0, 3.0),
        kinks: tuple[float, ...] = (), activation: bool = False,
    ):  # fmt: skip
        self.function = function
        self.name = self.__name__ = function.__name__
        self.__module__ = function.__module__ or "__main__"  # exec knows no module
        self.__doc__ = function.__doc__
        self.__signature__ = signature_of(function)
        parameters = self.__signature__.parameters.values()
        self.inputs = [p.name for p in parameters if p.default is p.empty]
        self.constants = {p.name: p.default for p in parameters if p.default is not p.empty}
        if not isinstance(domain, tuple) or not domain:
            raise ArgumentError(f"{self.name}: domain is (low, high), or one such per input, not {domain!r}.")
        each = domain if isinstance(domain[0], tuple) else (domain,) * len(self.inputs)
        self.domain = Domain(each, kinks)  # an interval per input
        self.activation = activation
        self.slopes: Callable[..., Operand] | None = None

    def __repr__(self) -> str:
        return f"<elementwise {self.name}{self.__signature__}>"

    def slope(self, function: Callable[..., Operand]) -> Callable[..., Operand]:
        """Declare the derivative: `(*inputs, output)` to one number per input; None where there is none.

        What it does not need is best given a name with `_` in front: that is then not kept for backward.
        """
        try:
            inspect.signature(function).bind(*self.inputs, "output", **self.constants)
        except TypeError as error:
            takes = ", ".join([*self.inputs, "output", *self.constants])
            raise ArgumentError(f"{self.name}: a slope takes ({takes}), not this one: {error}.") from None
        self.slopes = function
        declarations[0] += 1
        return function

    def bind(
        self, args: tuple[Operand, ...], constants: dict[str, Operand]
    ) -> tuple[tuple[Operand, ...], dict[str, Operand]]:
        """Inputs apart from constants; constants may also come by position, and None means default."""
        count = len(self.inputs)
        if not constants and len(args) == count:
            return args, constants
        named = dict(zip(self.constants, args[count:], strict=False)) | constants
        if not count <= len(args) <= count + len(self.constants) or not named.keys() <= self.constants.keys():
            given = ", ".join(["…"] * len(args) + [f"{name}=…" for name in constants])
            raise ArgumentError(f"{self.name}{self.__signature__} was called as {self.name}({given}).")
        for name, value in named.items():
            if type(value) in recorders:
                raise ArgumentError(f"{self.name}: {name} must be a number or an array, not a tensor.")
        return args[:count], {name: value for name, value in named.items() if value is not None}

    def __call__(self, *args: Operand, **constants: Operand) -> Operand:
        """Numbers give a number; an array or a tensor among the inputs gives its like."""
        for table in (recorders, executors):
            for arg in args:
                if run := table.get(type(arg)):
                    return run(self, *args, **constants)
        if not NUMBERS.issuperset(map(type, args)) and (run := executors.get(object)):
            return run(self, *args, **constants)
        return self.of_numbers(*args, **constants)

    def of_numbers(self, *args: Operand, **constants: Operand) -> Operand:
        """What the definition says of plain numbers; ArgumentError outside of where it has a value."""
        args, constants = self.bind(args, constants)
        try:
            return self.function(*args, **constants)
        except FOREIGN as error:
            if isinstance(error, MicrogradxError) or not self.__module__.startswith("microgradx."):
                raise
            raise refusal(self.name, [*args, *constants.values()], error) from error


@overload
def elementwise(function: Callable[..., Operand]) -> Elementwise: ...


@overload
def elementwise(
    *, domain: Interval | tuple[Interval, ...] = (-3.0, 3.0), kinks: tuple[float, ...] = (),
    activation: bool = False,
) -> Callable[[Callable[..., Operand]], Elementwise]: ...  # fmt: skip


def elementwise(
    function: Callable[..., Operand] | None = None, *,
    domain: Interval | tuple[Interval, ...] = (-3.0, 3.0), kinks: tuple[float, ...] = (),
    activation: bool = False,
) -> Elementwise | Callable[[Callable[..., Operand]], Elementwise]:  # fmt: skip
    """Declare an elementwise function from its definition on plain numbers; its slope follows.

    The body is arithmetic over its arguments, numbers, functions of math and other elementwise functions,
    with `where(condition, a, b)` instead of `if`. Conditions are joined by `&` and `|`; to compute with
    nothing but conditions, write where(condition, 1, 0).
    `domain` is the interval (or one per input) where it is tested, `kinks` where it has no derivative;
    `activation` lists it among a network's choices.
    Globals and a closure's numbers may change: the next call sees them, and a compiled step is made anew.
    A model keeps the function that it was given: declared anew, it is for new models.
    ArgumentError for what is no definition, such as a functools.partial.

    >>> @mg.elementwise
    ... def cube(x):
    ...     return x * x * x
    >>> @cube.slope
    ... def _(x, _y):
    ...     return 3 * x * x
    >>> cube(2), cube(np.array([1.0, 2.0])), mg.grad(cube)(2.0)
    (8, array([1., 8.]), tensor(12.))
    """

    def declare(function: Callable[..., Operand]) -> Elementwise:
        if isinstance(function, Elementwise):
            return function
        check_definition("elementwise", function)
        op = functions[function.__name__] = Elementwise(function, domain, kinks, activation)
        return op

    return declare if function is None else declare(function)


def differentiable() -> Iterator[Elementwise]:
    """The functions that have a slope."""
    return (f for f in functions.values() if f.slopes is not None)
