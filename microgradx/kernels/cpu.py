"""Arrays on the CPU: elementwise functions through NumPy, update rules as compiled sweeps."""

from typing import Any

import numpy as np

from microgradx import scalars
from microgradx.scalars import Elementwise, functions

# Elementwise functions on NumPy arrays and scalars. Where NumPy has the function, its ufunc runs; any
# other definition runs its own body on whole arrays.


def erf(x):
    """The error function, from SciPy at the first call: the import takes a tenth of a second."""
    from scipy.special import erf

    ufuncs[functions["erf"]] = erf
    return erf(x)


def where(condition, a, b):
    """np.where that promotes as little as it can when a and b are both plain numbers.

    1 and 0 give booleans, and other numbers float32 if that holds them exactly: a slope made of such
    choices does not widen the gradient that it multiplies.
    """
    if type(a) in plain and type(b) in plain:
        if (a, b) == (1, 0):
            return condition if type(condition) is np.ndarray else np.bool_(condition)
        if (a, b) == (0, 1):
            return np.logical_not(condition)
        if float(np.float32(a)) == a and float(np.float32(b)) == b:
            a, b = np.float32(a), np.float32(b)
    chosen = np.where(condition, a, b)
    return chosen if chosen.ndim else chosen[()]


plain = frozenset({int, float, bool})

same_name = (
    "add subtract multiply divide power negative absolute square sqrt exp expm1 log log1p sin cos tanh sign "
    "maximum minimum less less_equal greater greater_equal equal not_equal logical_and logical_or logical_not"
)
ufuncs = {functions[name]: getattr(np, name) for name in same_name.split()}
ufuncs |= {functions["erf"]: erf, functions["where"]: where}


def run(function: Elementwise, *args: Any, **constants: Any) -> Any:
    """Run an elementwise function on arrays."""
    if ufunc := ufuncs.get(function):
        return ufunc(*args, **constants)
    if constants or len(args) != len(function.inputs):
        args, constants = function.bind(args, constants)
    with np.errstate(over="ignore"):  # such as e⁻ˣ inside sigmoid: the result is finite
        return function.function(*args, **constants)


scalars.executors |= dict.fromkeys(
    (np.ndarray, np.bool_, *(np.dtype(code).type for code in "bhilqBHILQefd")), run
)
