"""`jit(step)`: the user's own function, captured on its first call, compiled whole, called like before.

A `Step` keeps one `Variant` for every combination of shapes, dtypes and Python values that it meets. State
stays the user's: compiled code works in the memory of parameters, gradients and optimizers.
"""

import inspect
import os
import warnings
from collections.abc import Callable, Sequence
from functools import partial, update_wrapper
from typing import Any

import numpy as np

from microgradx.compiler.books import watched
from microgradx.compiler.capture import capture
from microgradx.compiler.guards import Guards, print_of
from microgradx.compiler.program import Program
from microgradx.compiler.report import Report
from microgradx.compiler.results import detached, fill
from microgradx.compiler.scan import Scan
from microgradx.compiler.schedule import Schedule
from microgradx.compiler.variant import Changed, Variant
from microgradx.errors import (
    ArgumentError,
    CaptureError,
    CompileError,
    CompileWarning,
    KernelError,
    ShapeError,
)  # fmt: skip
from microgradx.kernels.cuda import Array
from microgradx.kernels.cuda.cublas import matmul_precision
from microgradx.tape import mode
from microgradx.tensor import Tensor, wrap

MANY = 64
"""Variants of one step above which something must be wrong."""


class Step:
    """A step that runs as compiled code; see `jit`."""

    def __init__(self, function: Callable[..., Any], **options: Any):
        update_wrapper(self, function)
        self.function, self.name = function, getattr(function, "__name__", "step")
        self.options = options  # of `jit`
        self.variants: dict[Any, list[Variant]] = {}
        self.refused: set[Any] = set()  # keys of what goes on line by line
        self.last: Variant | None = None

    def __repr__(self) -> str:
        return f"<compiled step {self.name}, {sum(map(len, self.variants.values()))} variants>"

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """Works as a method, too."""
        if instance is None:
            return self
        key = f"_jit_{self.function.__name__}"
        if key not in vars(instance):
            vars(instance)[key] = Step(self.function.__get__(instance, owner), **self.options)
        return vars(instance)[key]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """One step."""
        if mode.recorder is not None or mode.detect:  # part of another step, or line by line to find a NaN
            return self.function(*args, **kwargs)
        if kwargs:
            bound = inspect.signature(self.function).bind(*args, **kwargs)
            bound.apply_defaults()
            args = bound.args
        values, arrays, key = self.read(args)
        while True:
            variant = self.choose(key, values, arrays)
            if variant is None:
                return self.eagerly(values)
            try:
                outs, finished = variant.run([values[i] for _, i in arrays])
                break
            except Changed:
                del self.variants[key]
        if not finished:  # an index was out of range: the function itself says what is wrong with it
            return self.eagerly(values)
        return fill(variant.result, iter([out.reshape(out.shape[1:]) for out in outs]))

    def eagerly(self, values: list[Any]) -> Any:
        """The step line by line."""
        arrays = np.ndarray, Array
        return detached(self.function(*(wrap(v) if isinstance(v, arrays) else v for v in values)))

    def read(self, args: Sequence[Any]) -> tuple[list[Any], list[tuple[str, int]], Any]:
        """The arguments, which of them are arrays, and what a variant must have in common with them."""
        values, arrays = list(args), []
        key: list[Any] = [mode.record, mode.number.char, matmul_precision.current]
        for i, x in enumerate(args):
            if isinstance(x, Tensor) and not x.requires_grad:
                x = x._data
            if isinstance(x, Array):
                values[i] = x.tight()
            elif isinstance(x, np.ndarray):
                values[i] = x if x.flags.c_contiguous else np.ascontiguousarray(x)
            if isinstance(x, np.ndarray | Array):
                arrays.append((self.names(i), i))
                key += [x.shape, x.dtype.char, type(x)]
            else:
                key.append(print_of(x))
        return values, arrays, tuple(key)

    def names(self, i: int) -> str:
        """The name of a parameter of the function."""
        if not hasattr(self, "_names"):
            kinds = inspect.signature(self.function).parameters.values()
            self._names = [p.name for p in kinds if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        return self._names[i] if i < len(self._names) else f"argument_{i}"

    def choose(self, key: Any, values: list[Any], arrays: list[tuple[str, int]]) -> Variant | None:
        """The variant to run, for ledgers at work, too; None where the step must run line by line."""
        if key in self.refused:
            return None
        try:
            try:
                variant = self.find(key) or self.capture(key, values, arrays)
            except (ArgumentError, ShapeError):  # perhaps in other words than the step's own
                return None
            found = watched(variant)
            self.last = found or variant
            if found is not None:
                found.compile()
            return found
        except (CaptureError, CompileError, KernelError) as error:
            if self.options.get("fallback") != "eager":
                raise
            if not self.refused:  # it is told once
                warnings.warn(f"{self.name} goes on line by line: {error}", CompileWarning, 3)
            self.refused.add(key)
            return None

    def captured(self, *args: Any) -> Variant:
        """The variant for such arguments, which need not be compiled to be looked at."""
        values, arrays, key = self.read(args)
        return self.find(key) or self.capture(key, values, arrays)

    def find(self, key: Any) -> Variant | None:
        """The variant that fits."""
        for variant in self.variants.get(key, ()):
            if variant.fits():
                self.last = variant
                return variant
        return None

    def capture(self, key: Any, values: list[Any], arrays: list[tuple[str, int]]) -> Variant:
        """Write down what the function does with such arguments."""
        if sum(map(len, self.variants.values())) >= MANY:
            many = f"{self.name} has been captured {MANY} times, each time for other shapes, dtypes or values"
            advice = "Pass numbers that change as arrays, mg.tensor(0.1), and batches of few sizes."
            raise CaptureError(f"{many}. {advice}")
        guards = Guards(self.function)
        result, recorder = capture(self.function, values, arrays, guards.things)
        kind: Any = Variant
        interpret = self.options.get("interpret")
        if recorder.device == "cuda":
            if interpret:
                advice = "NUMBA_ENABLE_CUDASIM=1 runs its kernels in Python."
                raise CaptureError(
                    f"interpret=True is for steps on the CPU, {self.name} is on a GPU. {advice}"
                )
            from microgradx.compiler.cuda.variant import CudaVariant as kind
        elif os.environ.get("MICROGRADX_INTERPRET", "0") != "0" if interpret is None else interpret:
            from microgradx.compiler.interpreted import InterpretedVariant as kind
        self.last = variant = kind(self.function, guards, result, recorder)
        self.variants.setdefault(key, []).append(variant)
        return variant

    def scan(self, *data: Any, batch_size: int, order: Any = None) -> Any:
        """A pass over all rows of the data, batch by batch, without returning to Python in between.

        data: arrays of as many rows; every step gets `batch_size` of them, the last one what is left.
        order: (rows,) integers, which rows in which order; as they are without. Returns what the steps
        returned, stacked along a new first axis (a list where shapes differ from step to step).
        """
        given = [x._data if isinstance(x, Tensor) else x for x in data]
        arrays: list[Any] = [x if isinstance(x, Array) else np.asarray(x) for x in given]
        if not arrays or any(a.ndim == 0 or len(a) != len(arrays[0]) for a in arrays):
            shapes = ", ".join(str(a.shape) for a in arrays)
            raise ShapeError(f"scan: the data must be arrays of as many rows, not {shapes or 'none'}.")
        rows = len(arrays[0])
        if not isinstance(batch_size, int | np.integer) or batch_size < 1:
            raise ArgumentError(f"scan: batch_size must be a positive whole number, not {batch_size!r}.")
        picked = np.arange(rows) if order is None else np.ascontiguousarray(order, np.int64).ravel()
        if len(picked) and not (picked.min() >= 0 and picked.max() < rows):
            raise ArgumentError(
                f"scan: order must be integers from 0 to {rows - 1}; it has {picked.min()} to {picked.max()}."
            )
        arrays = [a.tight() if isinstance(a, Array) else np.ascontiguousarray(a) for a in arrays]
        return Scan(self, arrays, picked, int(batch_size)).run()

    # Looking inside

    @property
    def variant(self) -> Variant:
        """The variant that ran last."""
        if self.last is None:
            raise CaptureError(f"{self.name} has not run yet; call it once, then look at it.")
        return self.last

    @property
    def source(self) -> str:
        """The file that the step was compiled from."""
        return self.variant.compile().text

    @property
    def program(self) -> Program:
        """The captured program."""
        return self.variant.program

    def report(self) -> Report:
        """Every kernel of the step that ran last, measured against what this machine can do.

        What it measures runs many times, operations of your own too; state is put back afterwards.
        """
        from microgradx.compiler.measure import report

        return report(self.variant)

    @property
    def stages(self) -> Schedule:
        """What is done together, and in what order."""
        self.variant.compile()
        return self.variant.plan


def compile_step(function: Callable[..., Any] | None, **options: Any) -> Any:
    """Make a function a compiled step; without one, a decorator that does."""
    if options.get("fallback") not in (None, "eager"):
        raise ArgumentError(f"jit: fallback is None or 'eager', not {options['fallback']!r}.")
    if function is None:
        return partial(compile_step, **options)
    if isinstance(function, Step):
        return function
    if not callable(function):
        raise ArgumentError(f"jit takes a function, not {type(function).__name__}.")
    return Step(function, **options)
