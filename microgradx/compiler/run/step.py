"""`jit(step)`: the user's own function, captured on its first call, compiled whole, called like before.

A `Step` keeps a `CompiledStep` for every combination of shapes, dtypes and Python values that it meets. State
stays the user's: compiled code works in the memory of parameters, gradients and optimizers.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from functools import partial, update_wrapper
from typing import TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike

from microgradx.codegen.ir.program import Program
from microgradx.codegen.passes.schedule import Schedule
from microgradx.compiler.capture.arguments import data_of
from microgradx.compiler.capture.pytree import Returned
from microgradx.compiler.report.measure import report
from microgradx.compiler.report.report import Report
from microgradx.compiler.run.compiled_step import CompiledStep
from microgradx.compiler.run.descriptor import global_name, step_of
from microgradx.compiler.run.scan import Scan
from microgradx.compiler.run.variants import Options, R_co, Variants
from microgradx.cuda import Array
from microgradx.eager.arrays import as_array
from microgradx.eager.tensor import Tensor
from microgradx.errors import ArgumentError, CaptureError, ShapeError

R = TypeVar("R")


def order_of(order: object, rows: int) -> np.ndarray:
    """Which rows a scan takes, as integers that all name one."""
    picked = as_array(order)
    if not isinstance(picked, np.ndarray):
        picked = picked.numpy()
    if picked.size == 0:
        return np.zeros(0, np.int64)
    if picked.dtype.kind not in "iu" or picked.ndim != 1:
        what = f"{picked.dtype} of shape {picked.shape}"
        raise ArgumentError(f"scan: order must be integers in a row, (rows,), not {what}.")
    if picked.min() < 0 or picked.max() >= rows:
        ends = f"{picked.min()} to {picked.max()}"
        raise ArgumentError(f"scan: order must be integers from 0 to {rows - 1}; it has {ends}.")
    return np.ascontiguousarray(picked, np.int64)


class Step(Variants[R_co]):
    """A step that runs as compiled code: what `mg.jit` makes of a function, called like it.

    What ran last can be looked at: `step.program`, `step.source`, `step.stages`, `step.report()`. These are
    CaptureErrors before the first call. A step works as a method, and is copied and pickled as its function.
    ArgumentError names an argument that is no array where the function stops at it.

    >>> def scaled(x, by=2.0):
    ...     return x * by
    >>> step = mg.jit(scaled)
    >>> step(np.ones(2, np.float32)), step(np.ones(2, np.float32), by=3.0)
    (tensor([2., 2.]), tensor([3., 3.]))
    >>> step
    <compiled step scaled, 2 variants>
    >>> step(None)
    Traceback (most recent call last):
    microgradx.errors.ArgumentError: scaled: unsupported operand type(s) for *: 'NoneType' and 'float'. ...
    """

    def __init__(self, function: Callable[..., R_co], options: Options):
        super().__init__(function, options)
        self.others: dict[int | str, object] = {}  # steps of objects that have no place for them
        if isinstance(function, types.FunctionType | types.MethodType):
            update_wrapper(self, function)
        else:
            self.__doc__, self.__wrapped__ = function.__doc__, function

    def __repr__(self) -> str:
        return f"<compiled step {self.name}, {sum(map(len, self.variants.values()))} variants>"

    def __get__(self, instance: object, owner: type | None = None) -> Step[R_co]:
        """Works as a method, too."""
        bind = getattr(self.function, "__get__", None)
        if instance is None or bind is None:
            return self
        return step_of(self, instance, lambda: Step(bind(instance, owner), self.options), self.others)

    def __reduce__(self) -> str | tuple[object, ...]:
        """A copy is a step of the copied function; one that a decorator made is copied as functions are."""
        return global_name(self) or (Step, (self.function, self.options))

    def scan(
        self, *data: ArrayLike | Tensor | Array, batch_size: int, order: ArrayLike | None = None
    ) -> Returned:
        """A pass over all rows of the data, batch by batch, without returning to Python in between.

        data: arrays (rows, ...), as many as the function takes; every step gets `batch_size` rows of each,
            the last step what is left. Rows are read as steps need them, so arrays that are mapped from files
            (`np.load(path, mmap_mode="r")`, `data.read_idx(path, mapped=True)`) may be larger than memory; a
            GPU gets a copy of all.
        order: (n,) integers, which rows in which order; as they are without.

        Returns what the steps returned, stacked along a new first axis (a list where shapes differ from step
        to step); None for no rows. ShapeError where the data have not as many rows, ArgumentError for another
        batch size or order; what else a step raises ends the scan, after the steps before it.

        >>> step = mg.jit(lambda x, y: (x * y).sum())
        >>> x = np.arange(6, dtype=np.float32)
        >>> step.scan(x, np.ones(6, np.float32), batch_size=2, order=[5, 4, 3, 2])
        tensor([9., 5.])
        """
        given = [x if isinstance(x, np.ndarray) else as_array(x) for x in data]
        arrays = [array for x in given if (array := data_of(x)) is not None]
        if not arrays or any(a.ndim == 0 or len(a) != len(arrays[0]) for a in arrays):
            shapes = ", ".join(str(a.shape) for a in arrays)
            raise ShapeError(f"scan: the data must be arrays of as many rows, not {shapes or 'none'}.")
        rows = len(arrays[0])
        if type(batch_size) is bool or not isinstance(batch_size, int | np.integer) or batch_size < 1:
            raise ArgumentError(f"scan: batch_size must be a positive whole number, not {batch_size!r}.")
        picked = np.arange(rows) if order is None else order_of(order, rows)
        return Scan(self, arrays, picked, int(batch_size)).run()

    # Looking inside

    @property
    def variant(self) -> CompiledStep:
        """The variant that ran last, with all that was compiled for it."""
        if self.last is None:
            raise CaptureError(f"{self.name} has not run yet; call it once, then look at it.")
        return self.last

    @property
    def source(self) -> str:
        """The text of the file that the step was compiled from.

        >>> step = mg.jit(lambda x: x * 2)
        >>> _ = step(np.ones(3, np.float32))
        >>> "for i in range(3):" in step.source
        True
        """
        return self.variant.compile().emitted.text

    @property
    def program(self) -> Program:
        """What was captured: operations on values, in order, and what they are bound to.

        >>> @mg.jit
        ... def twice(x):
        ...     return x * 2
        >>> _ = twice(np.ones(3, np.float32))
        >>> print(twice.program)
        def twice(x: float32[3]):
            # ...:3  return x * 2
            multiply_1: float32[3] = multiply(x, 2)
            return multiply_1
        """
        return self.variant.program

    def report(self) -> Report:
        """Every kernel of the step that ran last, measured against what this machine can do.

        What it measures runs many times, operations of your own too; state is put back afterwards. It prints
        as a table, and `step.report().picture("roofline.png")` draws it. DeviceError for a step on a GPU.
        """
        with self.turn:
            return report(self.variant)

    @property
    def stages(self) -> Schedule:
        """What threads do together, and in what order."""
        return self.variant.compile().plan


@overload
def jit(
    function: Callable[..., R],
    *,
    audit: bool | int | None = None,
    interpret: bool | None = None,
    fallback: str | None = None,
) -> Step[R]: ...


@overload
def jit(
    function: None = None,
    *,
    audit: bool | int | None = None,
    interpret: bool | None = None,
    fallback: str | None = None,
) -> Callable[[Callable[..., R]], Step[R]]: ...


def jit(
    function: Callable[..., R] | None = None,
    *,
    audit: bool | int | None = None,
    interpret: bool | None = None,
    fallback: str | None = None,
) -> Step[R] | Callable[[Callable[..., R]], Step[R]]:
    """The same function as compiled code: `step = mg.jit(step)`, or as a decorator.

    The first call runs it line by line, to write down what it does, and takes that back; then it, and all
    later calls with the same shapes, dtypes and Python values, run one compiled program.
    `step.scan(x, y, batch_size=128)` makes a whole pass over the data. `step.source` is the compiled file,
    `step.program` what was captured. CaptureError where the function does what cannot be compiled, such as
    branching on a tensor's value, or drawing from another library's random numbers; ArgumentError for what
    is no function.

    What the function reads, attributes, globals, closures, items, is looked at before every call; a change
    means a new capture. What it prints is printed at a capture, and at a second look (see audit).

    Results are copies; parameters and buffers change in their own memory. Steps that would leave two tensors
    in the same memory, or work on tensors that share a part of it, are refused.

    function: of arrays and tensors, alone or in lists, tuples and dicts, and of any other values: for each of
        these there is a program of its own. A module, too. It may change parameters, buffers and optimizers.
    audit: how often the function is recorded again and compared, for changes that escape that: True at every
        call, n every n calls, False never; calls 2, 3, 5, 10, 100, 1000 ... without a choice. A
        CompileWarning names what differs, and the new program takes the place of the old one.
    interpret: let Python run the compiled file instead of machine code: slow, for a debugger to step through,
        and with every access to memory checked. Without a choice, MICROGRADX_INTERPRET=1 asks for it.
    fallback: "eager" goes on line by line, with one CompileWarning, where a step cannot be compiled.

    >>> w = mg.tensor([1.0, 2.0], requires_grad=True)
    >>> optimizer = optim.SGD([w], lr=0.1)
    >>> @mg.jit
    ... def step(x):
    ...     optimizer.zero_grad()
    ...     loss = ((x * w) ** 2).sum()
    ...     loss.backward()
    ...     optimizer.step()
    ...     return loss
    >>> x = np.array([1.0, 0.5], np.float32)
    >>> step(x), step(x), w
    (tensor(2.), tensor(1.5425), tensor([0.64 , 1.805], requires_grad=True))
    """
    options = Options(audit, interpret, fallback)
    return partial(step_for, options=options) if function is None else step_for(function, options)


def step_for(function: Callable[..., R], options: Options) -> Step[R]:
    """The step of what can be one: itself, if it is one already."""
    if isinstance(function, Step):
        return function
    if isinstance(function, type):
        kind = f"jit takes a function or a module, {function.__name__} is a class"
        raise ArgumentError(f"{kind}. Make one first: mg.jit({function.__name__}(...)).")
    if not callable(function):
        raise ArgumentError(f"jit takes a function, not {type(function).__name__}.")
    return Step(function, options)
