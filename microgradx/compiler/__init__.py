"""The compiler: a training step, captured once, compiled whole into one readable Numba program."""

from collections.abc import Callable
from typing import Any

from microgradx.compiler import lowerings  # noqa: F401 - the rules that `lower` follows
from microgradx.compiler.cuda import eager  # noqa: F401 - operations on a GPU's arrays
from microgradx.compiler.step import Step, compile_step

__all__ = ["Step", "jit"]


def jit(function: Callable[..., Any], *, audit: Any = None) -> Step:
    """The same function as compiled code: `step = mg.jit(step)`, or as a decorator.

    The first call runs it line by line, to write down what it does, and takes that back; then it, and all
    later calls with the same shapes, dtypes and Python values, run one compiled program.
    `step.scan(x, y, batch_size=128)` makes a whole pass over the data. `step.source` is the compiled file,
    `step.program` what was captured. Raises CaptureError where the function does what cannot be compiled,
    such as branching on a tensor's value, or drawing from another library's random numbers.

    What the function reads, attributes, globals, closures, items, is looked at before every call; a change
    means a new capture. For what escapes that, calls 2, 3, 5, 10, 100, 1000 ... record the function again
    and compare: a CompileWarning names what differs. `audit` is how often: True at every call, n every n
    calls, False never.
    """
    return compile_step(function, audit)
