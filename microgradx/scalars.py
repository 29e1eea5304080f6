"""Elementwise functions and their slopes, as arithmetic on plain numbers.

Each function here is the only definition of its kind. Called with numbers it computes numbers; called
with arrays or tensors it is handed to their executor. The very same text becomes a Numba loop and a CUDA
device function, and, since a slope is only arithmetic, it also runs on Tensors: second derivatives come
for free. A new activation is one definition and one slope.
"""

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


# Arithmetic


@elementwise
def add(a, b):
    """a + b"""
    return a + b


@add.slope
def _(_a, _b, _y):
    return 1, 1


@elementwise
def subtract(a, b):
    """a - b"""
    return a - b


@subtract.slope
def _(_a, _b, _y):
    return 1, -1


@elementwise
def multiply(a, b):
    """a · b"""
    return a * b


@multiply.slope
def _(a, b, _y):
    return b, a


@elementwise(domain=((-3.0, 3.0), (0.5, 3.0)))
def divide(a, b):
    """a / b"""
    return a / b


@divide.slope
def _(_a, b, y):
    return 1 / b, -y / b


@elementwise(domain=((0.5, 3.0), (-2.0, 2.0)))
def power(a, b):
    """aᵇ"""
    return a**b


@power.slope
def _(a, b, y):
    # where b = 0, a does not matter, at a = 0 either; where a = 0 < b, b does not
    return where(b == 0, 0, b * a ** (b - 1)), where((a == 0) & (b >= 0), 0, y * log(a))


@elementwise
def negative(x):
    """-x"""
    return -x


@negative.slope
def _(_x, _y):
    return -1


@elementwise(kinks=(0,))
def absolute(x):
    """|x|, slope 0 at 0"""
    return abs(x)


@absolute.slope
def _(x, _y):
    return sign(x)


@elementwise
def square(x):
    """x²"""
    return x * x


@square.slope
def _(x, _y):
    return 2 * x


# Roots, exponentials, logarithms


@elementwise(domain=(0.2, 4.0))
def sqrt(x):
    """√x"""
    return math.sqrt(x)


@sqrt.slope
def _(_x, y):
    return 0.5 / y


@elementwise(domain=(0.2, 4.0))
def rsqrt(x):
    """1 / √x"""
    return 1 / sqrt(x)


@rsqrt.slope
def _(x, y):
    return -0.5 * y / x


@elementwise
def exp(x):
    """eˣ"""
    return math.exp(x)


@exp.slope
def _(_x, y):
    return y


@elementwise
def expm1(x):
    """eˣ - 1, exact near 0"""
    return math.expm1(x)


@expm1.slope
def _(x, _y):
    return exp(x)  # y + 1 would lose what is left of it where x is negative


@elementwise(domain=(0.2, 4.0))
def log(x):
    """The natural logarithm"""
    return math.log(x)


@log.slope
def _(x, _y):
    return 1 / x


@elementwise(domain=(-0.8, 4.0))
def log1p(x):
    """log(1 + x), exact near 0"""
    return math.log1p(x)


@log1p.slope
def _(x, _y):
    return 1 / (1 + x)


# Waves and the error function


@elementwise
def sin(x):
    """The sine of x radians"""
    return math.sin(x)


@sin.slope
def _(x, _y):
    return cos(x)


@elementwise
def cos(x):
    """The cosine of x radians"""
    return math.cos(x)


@cos.slope
def _(x, _y):
    return -sin(x)


@elementwise
def erf(x):
    """The error function, 2/√π ∫₀ˣ exp(-t²) dt"""
    return math.erf(x)


@erf.slope
def _(x, _y):
    return 2 / math.sqrt(math.pi) * exp(-x * x)


# Choices. At a tie or a kink the slope follows PyTorch.


@elementwise
def where(condition, a, b):
    """a where the condition holds, else b"""
    return a if condition else b


@where.slope
def _(condition, _a, _b, _y):
    return None, condition != 0, condition == 0


@elementwise(kinks=(0,))
def sign(x):
    """-1, 0 or 1"""
    return where(x > 0, 1, where(x < 0, -1, 0 * x))


@sign.slope
def _(_x, _y):
    return 0


@elementwise
def maximum(a, b):
    """The larger of two; NaN if either is; a tie gives each half of the slope"""
    return a if a > b or a != a else b


@maximum.slope
def _(a, b, _y):
    # a NaN passes both slopes on
    return where(a == b, 0.5, where(a < b, 0, 1)), where(a == b, 0.5, where(a > b, 0, 1))


@elementwise
def minimum(a, b):
    """The smaller of two; NaN if either is; a tie gives each half of the slope"""
    return a if a < b or a != a else b


@minimum.slope
def _(a, b, _y):
    return where(a == b, 0.5, where(a > b, 0, 1)), where(a == b, 0.5, where(a < b, 0, 1))


@elementwise
def clip(x, min=-inf, max=inf):  # noqa: A002 - NumPy's names
    """x, no smaller than min and no larger than max; slope 1 on both bounds"""
    return minimum(maximum(x, min), max)


@clip.slope
def _(x, _y, min, max):  # noqa: A002
    return (x >= min) & (x <= max)


# Activations


@elementwise(activation=True)
def tanh(x):
    """The hyperbolic tangent"""
    return math.tanh(x)


@tanh.slope
def _(_x, y):
    return 1 - y * y


@elementwise(activation=True)
def sigmoid(x):
    """1 / (1 + e⁻ˣ)"""
    return exp(minimum(x, 0)) / (1 + exp(-abs(x)))  # no exponential overflows


@sigmoid.slope
def _(_x, y):
    return y * (1 - y)  # in terms of y = sigmoid(x): no second exp


@elementwise(kinks=(0,), activation=True)
def relu(x):
    """max(x, 0), slope 0 at 0"""
    return maximum(x, 0)


@relu.slope
def _(_x, y):
    return y > 0  # True and False count as 1 and 0


@elementwise(kinks=(0,), activation=True)
def leaky_relu(x, negative_slope=0.01):
    """x where positive, else negative_slope · x, which is also the side that 0 belongs to"""
    return where(x > 0, x, negative_slope * x)


@leaky_relu.slope
def _(x, _y, negative_slope):
    return where(x > 0, 1, negative_slope)


@elementwise(kinks=(0,), activation=True)
def elu(x, alpha=1.0):
    """x where positive, else α(eˣ - 1)"""
    return where(x > 0, x, alpha * expm1(minimum(x, 0)))


@elu.slope
def _(x, _y, alpha):
    return where(x > 0, 1, alpha * exp(minimum(x, 0)))


@elementwise(activation=True)
def silu(x):
    """x · sigmoid(x), also called swish"""
    return x * sigmoid(x)


@silu.slope
def _(x, _y):
    s = sigmoid(x)
    return s * (1 + x * (1 - s))


@elementwise(activation=True)
def gelu(x):
    """x · Φ(x), Φ the normal distribution: arXiv 1606.08415, section 2"""
    return 0.5 * x * (1 + erf(x / math.sqrt(2)))


@gelu.slope
def _(x, _y):
    density = exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
    return 0.5 * (1 + erf(x / math.sqrt(2))) + x * density


@elementwise(activation=True)
def gelu_tanh(x):
    """The approximation of gelu by tanh: arXiv 1606.08415, section 2"""
    b = clip(x, -30, 30)  # farther out σ is 0 or 1
    return x * sigmoid(2 * math.sqrt(2 / math.pi) * (b + 0.044715 * b * b * b))  # ½(1 + tanh u) is σ(2u)


@gelu_tanh.slope
def _(x, _y):
    b = clip(x, -30, 30)
    s = sigmoid(2 * math.sqrt(2 / math.pi) * (b + 0.044715 * b * b * b))
    return s + b * s * (1 - s) * (2 * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * b * b))


@elementwise(activation=True)
def softplus(x):
    """log(1 + eˣ), without overflow"""
    return maximum(x, 0) + log1p(exp(-abs(x)))


@softplus.slope
def _(x, _y):
    return sigmoid(x)


@elementwise(kinks=(0,), activation=True)
def softsign(x):
    """x / (1 + |x|)"""
    return x / (1 + abs(x))


@softsign.slope
def _(x, _y):
    part = 1 / (1 + abs(x))
    return part * part


# Comparisons and logic: they give booleans and have no slope


@elementwise
def less(a, b):
    """a < b"""
    return a < b


@elementwise
def less_equal(a, b):
    """a <= b"""
    return a <= b


@elementwise
def greater(a, b):
    """a > b"""
    return a > b


@elementwise
def greater_equal(a, b):
    """a >= b"""
    return a >= b


@elementwise
def equal(a, b):
    """a == b"""
    return a == b


@elementwise
def not_equal(a, b):
    """a != b"""
    return a != b


@elementwise
def logical_and(a, b):
    """Both of two conditions"""
    return a & b


@elementwise
def logical_or(a, b):
    """Either of two conditions"""
    return a | b


@elementwise
def logical_not(a):
    """The opposite of a condition"""
    return a == False  # noqa: E712 - works on arrays and compiles to a comparison


EXAMPLES = {
    absolute: "mg.abs(-2) → 2", square: "mg.square(3) → 9", sqrt: "mg.sqrt(9) → 3.0",
    rsqrt: "mg.rsqrt(4) → 0.5", exp: "mg.exp(1) → 2.718281828459045", expm1: "mg.expm1(1e-20) → 1e-20",
    log: "mg.log(8) → 2.0794415416798357", log1p: "mg.log1p(1e-20) → 1e-20",
    sin: "mg.sin(math.pi / 2) → 1.0", cos: "mg.cos(math.pi) → -1.0", erf: "mg.erf(1) → 0.842700792949714...",
    where: "mg.where(2 > 1, 3, 4) → 3", sign: "mg.sign(-3) → -1", maximum: "mg.maximum(2, 5) → 5",
    minimum: "mg.minimum(2, 5) → 2", clip: "mg.clip(7, max=5) → 5", tanh: "mg.tanh(1) → 0.761594155955764...",
    sigmoid: "mg.sigmoid(0) → 0.5", relu: "mg.relu(-2) → 0", leaky_relu: "mg.leaky_relu(-2, 0.5) → -1.0",
    elu: "mg.elu(-1) → -0.632120558828557...", silu: "mg.silu(1) → 0.731058578630004...",
    gelu: "mg.gelu(1) → 0.841344746068542...", gelu_tanh: "mg.gelu_tanh(1) → 0.841191990608276...",
    softplus: "mg.softplus(1000) → 1000.0", softsign: "mg.softsign(1) → 0.5",
}  # fmt: skip
"""A call of each function that has a public name: the end of its docstring."""

for _function, _example in EXAMPLES.items():
    _call, _value = _example.split(" → ")
    _function.__doc__ = f"{_function.__doc__}\n\n>>> {_call}\n{_value}"
