"""Arrays on the CPU: elementwise functions through NumPy, update rules as compiled sweeps."""

import ctypes
from collections.abc import Callable
from functools import cached_property, partial

import numpy as np

from microgradx import scalars
from microgradx.errors import FOREIGN, ArgumentError, DTypeError, MicrogradxError, ShapeError, refusal, shown
from microgradx.kernels import jit, thread_pool
from microgradx.kernels.addresses import nothing
from microgradx.kernels.array_math import on_arrays
from microgradx.kernels.free_variables import FreeVariables
from microgradx.kernels.loop_source import RuleLoop
from microgradx.rules import Rule
from microgradx.scalars import Elementwise, Operand, functions

# Elementwise functions on NumPy arrays and scalars. Where NumPy has the function, its ufunc runs; any
# other definition runs its own body on whole arrays.


def erf(x: Operand) -> Operand:
    """The error function, from SciPy at the first call: the import takes a tenth of a second."""
    from scipy.special import erf

    ufuncs[functions["erf"]] = erf
    return erf(x)


def where(condition: Operand, a: Operand, b: Operand) -> Operand:
    """np.where, in which a single condition picks one of two plain numbers as it is: it has no dtype."""
    if not any(isinstance(x, np.ndarray) for x in (condition, a, b)):  # a picked array would not be a copy
        return a if condition else b
    return np.where(condition, a, b)


same_name = (
    "add subtract multiply divide power negative absolute square sqrt exp expm1 log log1p sin cos tanh sign "
    "maximum minimum less less_equal greater greater_equal equal not_equal logical_and logical_or logical_not"
)
ufuncs = {functions[name]: getattr(np, name) for name in same_name.split()}
ufuncs |= {functions["erf"]: erf, functions["where"]: where}


def body(function: Elementwise) -> Callable[..., object]:
    """What computes a function on whole arrays."""
    own = function.__module__.startswith("microgradx.")
    return ufuncs.get(function) or (function.function if own else partial(on_arrays, function))


def run(function: Elementwise, *args: Operand, **constants: float) -> Operand:
    """Run an elementwise function on arrays, with the warnings that NumPy has for its own functions."""
    if constants or len(args) != len(function.inputs):
        args, constants = function.bind(args, constants)
    try:
        if function in ufuncs:
            return ufuncs[function](*args, **constants)
        with np.errstate(all="ignore"):  # such as e⁻ˣ inside sigmoid, which overflows to a right result
            return body(function)(*args, **constants)
    except FOREIGN as error:
        if isinstance(error, MicrogradxError) or not function.__module__.startswith("microgradx."):
            raise
        raise refusal(function.name, [*args, *constants.values()], error) from error


def run_others(function: Elementwise, *args: Operand, **constants: float) -> Operand:
    """Run an elementwise function on lists and other libraries' arrays as NumPy's, and on unusual numbers."""
    if all(hasattr(x, "__float__") and not hasattr(x, "__array__") for x in args):
        return function.of_numbers(*args, **constants)
    return run(function, *[operand(function.name, x) for x in args], **constants)


def operand(name: str, x: Operand) -> Operand:
    """What a user gave as an array of numbers; DTypeError, with the operation's name, where it is none."""
    if type(x) in plain:
        return x
    if isinstance(x, list | tuple) or hasattr(x, "__array__"):
        try:
            array = np.asarray(x)
        except Exception as error:  # of ragged lists, or of the other library's
            raise ShapeError(
                f"{name}: {shown(x)} does not form an array: {str(error).rstrip('.')}."
            ) from None
        if array.dtype.kind in "fiubc":
            return array
    elif hasattr(x, "__float__"):
        return x
    how = ": write x.toarray()" if hasattr(x, "toarray") else ""
    raise DTypeError(f"{name} takes numbers, arrays and tensors, not the {type(x).__name__} {shown(x)}{how}.")


plain = frozenset([np.ndarray, int, float, bool, *(np.dtype(code).type for code in "?bhilqBHILQefd")])
"""What NumPy's functions take as it is."""

scalars.executors |= dict.fromkeys(plain - scalars.NUMBERS, run) | {object: run_others}


# Update rules

Numbers = tuple[float, ...]

alone = 1 << 21
"""With fewer numbers in all its arrays a sweep runs on the calling thread: waking others takes longer."""


def piece(size: int) -> int:
    """How many elements a thread takes at a time: enough to pay for the call, few enough to share evenly."""
    return max(64, min(size // (8 * thread_pool.threads()), 1 << 18) // 64 * 64)


class Sweep:
    """An update rule over whole arrays, in place: `update(p, g, *state, t=3, lr=1e-3, ...)`.

    `source` is the text of its loop. The same bits come out of every number of threads.
    """

    def __init__(self, rule: Rule, dtype: str, options: tuple[str, ...] = ()):
        self.outside, lifted = FreeVariables(rule.function), RuleLoop(rule, dtype, options)
        self.rule, self.dtype, self.names = rule, np.dtype(dtype), ("p", "g", *rule.state)
        self.options, self.lifted, self.once = options, lifted, lifted.once_function()
        self.source = self.written(lifted)

    def written(self, lifted: RuleLoop) -> str:
        """The text of the loop."""
        return lifted.source()

    @cached_property
    def run(self) -> Callable[..., None]:
        """The loop as machine code, since it is first needed: a compiled step has a loop of its own."""
        return self.load("int64 int64", jit.load)

    def load(self, bounds: str, load: Callable[..., dict[str, Callable[..., None]]]) -> Callable[..., None]:
        """What an executor makes of the text."""
        dtype, arrays, numbers = self.lifted.dtype, self.lifted.arrays, self.lifted.numbers
        types = " ".join([bounds, *[f"{dtype}*"] * len(arrays), *[dtype] * len(numbers)])
        return load(self.source, {"sweep": types}, f"{self.rule.name}_{dtype}")["sweep"]

    def __repr__(self) -> str:
        return f"<sweep of {self.rule.name} over {self.dtype} arrays>"

    def __call__(
        self, *arrays: np.ndarray, t: int, carried: Numbers = (), **hyperparameters: float
    ) -> Numbers:
        """Update 1-D arrays p, g and state; the rule's carried numbers come back."""
        return self.bind(*arrays)(t=t, carried=carried, **hyperparameters)

    def bind(self, *arrays: np.ndarray) -> Callable[..., Numbers]:
        """The update of these arrays: for many steps over the same memory, checked once."""
        size = self.check(arrays)
        addresses = [self.address(name, array) for name, array in zip(self.names, arrays, strict=True)]

        def update(t: int, carried: Numbers = (), **hyperparameters: float) -> Numbers:
            [numbers], carried = self.numbers(t, carried, hyperparameters)
            if size * len(arrays) < alone or thread_pool.threads() == 1:
                self.run(0, size, *addresses, *numbers)
            else:
                thread_pool.split(lambda i, end: self.run(i, end, *addresses, *numbers), size, piece(size))
            return carried

        return update  # which keeps `arrays` alive

    def address(self, name: str, array: np.ndarray) -> int:
        """Where an array begins: through the buffer protocol, five times as fast as NumPy's `ctypes.data`."""
        try:
            return ctypes.addressof(nothing.from_buffer(array))  # type: ignore[arg-type]  # NumPy has buffers
        except (TypeError, ValueError, BufferError):
            what = f"{self.rule.name}: {name}"
            raise ArgumentError(f"{what} must be contiguous and writeable; copy it first.") from None

    def numbers(
        self, t: float, carried: Numbers, hyperparameters: dict[str, float], steps: int = 1
    ) -> tuple[list[list[float]], Numbers]:
        """What the loop needs beside the arrays, at t and some steps after it; the new carried numbers."""
        carried, once, rows = carried or (0.0,) * len(self.rule.carried), self.once, list[list[float]]()
        try:
            for step in range(steps):
                found, carried = once(t + step, *carried, **hyperparameters)
                rows.append([0.0 + x for x in found])
            return rows, carried
        except FOREIGN as error:
            if isinstance(error, MicrogradxError):
                raise
            raise ArgumentError(f"{self.rule!r}: no step with t={t}, {hyperparameters}: {error}.") from None

    def check(self, arrays: tuple[Operand, ...]) -> int:  # of the host, or of a device
        """The common size of the arrays, which must be what the loop takes them for."""
        rule, names = self.rule.name, self.names
        if len(arrays) != len(names):
            raise ArgumentError(f"{rule}: takes the arrays {', '.join(names)}; {len(arrays)} were given.")
        for name, array in zip(names, arrays, strict=True):
            if array.dtype != self.dtype:
                raise DTypeError(f"{rule}: {name} is {array.dtype}; this sweep is for {self.dtype}.")
        if {array.shape for array in arrays} != {(arrays[0].size,)}:
            shapes = ", ".join(f"{name} {array.shape}" for name, array in zip(names, arrays, strict=True))
            raise ShapeError(f"{rule}: a sweep takes 1-D arrays of one size, not {shapes}.")
        return arrays[0].size
