"""The compiler: a training step, captured once, compiled whole into one readable Numba program."""

from collections.abc import Callable
from typing import Any

from microgradx.codegen.passes import lowerings  # noqa: F401 - the rules that `lower` follows
from microgradx.codegen import cuda_operations  # noqa: F401 - operations on a GPU's arrays
from microgradx.compiler.run.step import Step, compile_step

__all__ = ["Step", "jit"]


def jit(
    function: Callable[..., Any] | None = None,
    *,
    audit: int | None = None,
    interpret: bool | None = None,
    fallback: str | None = None,
) -> Any:
    """The same function as compiled code: `step = mg.jit(step)`, or as a decorator.

    The first call runs it line by line, to write down what it does, and takes that back; then it, and all
    later calls with the same shapes, dtypes and Python values, run one compiled program.
    `step.scan(x, y, batch_size=128)` makes a whole pass over the data. `step.source` is the compiled file,
    `step.program` what was captured. Raises CaptureError where the function does what cannot be compiled,
    such as branching on a tensor's value, or drawing from another library's random numbers.

    What the function reads, attributes, globals, closures, items, is looked at before every call; a change
    means a new capture. What it prints is printed at a capture, and at a second look (see audit).

    Results are copies; parameters and buffers change in their own memory. Steps that would leave two tensors
    in the same memory, or work on tensors that share a part of it, are refused.

    audit: how often the function is recorded again and compared, for changes that escape that: True at every
        call, n every n calls, False never; calls 2, 3, 5, 10, 100, 1000 ... without a choice. A
        CompileWarning names what differs, and the new program takes the place of the old one.
    interpret: let Python run the compiled file instead of machine code: slow, for a debugger to step through,
        and with every access to memory checked. Without a choice, MICROGRADX_INTERPRET=1 asks for it.
    fallback: "eager" goes on line by line, with one CompileWarning, where a step cannot be compiled.

    >>> norm = mg.jit(lambda x: (x * x).sum(), interpret=True)  # without, it takes a second to compile
    >>> norm(np.array([3.0, 4.0]))
    tensor(25., dtype=float64)
    """
    return compile_step(function, audit=audit, interpret=interpret, fallback=fallback)
