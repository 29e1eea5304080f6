"""`jit(step)`: the user's own function, captured on its first call, compiled whole, called like before.

A `Step` keeps a `CompiledStep` for every combination of shapes, dtypes and Python values that it meets. State
stays the user's: compiled code works in the memory of parameters, gradients and optimizers.
"""

import inspect
import os
import types
import warnings
from collections.abc import Callable, Hashable, Sequence
from functools import cached_property, partial, update_wrapper
from typing import Any

import numpy as np

from microgradx.codegen.ir.program import Program
from microgradx.codegen.passes.schedule import Schedule
from microgradx.compiler.capture.arguments import Call, array_of
from microgradx.compiler.capture.capture import capture
from microgradx.compiler.capture.captured import Captured
from microgradx.compiler.capture.compare import Comparison
from microgradx.compiler.capture.pytree import detached, unflatten
from microgradx.compiler.capture.recaptures import Reasons
from microgradx.compiler.report.measure import report
from microgradx.compiler.report.report import Report
from microgradx.compiler.run.audit import Audit
from microgradx.compiler.run.compiled_step import CompiledStep, Kind, Turn
from microgradx.compiler.run.cuda_executable import CudaExecutable
from microgradx.compiler.run.descriptor import global_name, step_of
from microgradx.compiler.run.executable import Executable
from microgradx.compiler.run.interpreted import Interpreted
from microgradx.compiler.run.ledger_outputs import watched
from microgradx.compiler.run.memory import Changed
from microgradx.compiler.run.scan import Scan
from microgradx.cuda import Array
from microgradx.cuda.cublas import matmul_precision
from microgradx.eager.mode import mode
from microgradx.eager.tensor import Tensor
from microgradx.errors import (
    ArgumentError,
    CaptureError,
    CompileError,
    CompileWarning,
    KernelError,
    ShapeError,
)  # fmt: skip
from microgradx.nn import Module

KINDS: dict[str, Kind] = {"cpu": Executable, "interpreter": Interpreted, "cuda": CudaExecutable}
"""What runs a step, by where it runs."""


class Step:
    """A step that runs as compiled code; see `jit`."""

    def __init__(self, function: Callable[..., Any], **options: Any):
        self.function, self.name = function, name_of(function)
        self.options = options  # of `jit`
        self.audit = Audit(options.get("audit"))
        self.variants: dict[Hashable, list[CompiledStep]] = {}
        self.refused: set[Hashable] = set()  # keys of what goes on line by line
        self.last: CompiledStep | None = None
        self.turn = Turn()  # of a thread, to find what fits and run it: another would change that meanwhile
        self.reasons = Reasons(self.name)  # for variants
        self.others: dict[Any, Any] = {}  # steps of objects that have no place for them
        if isinstance(function, types.FunctionType | types.MethodType):
            update_wrapper(self, function)
        else:
            self.__doc__, self.__wrapped__ = function.__doc__, function

    def __repr__(self) -> str:
        return f"<compiled step {self.name}, {sum(map(len, self.variants.values()))} variants>"

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """Works as a method, too."""
        if instance is None or not hasattr(self.function, "__get__"):
            return self
        make = lambda: Step(self.function.__get__(instance, owner), **self.options)
        return step_of(self, instance, make, self.others)

    def __reduce__(self) -> str | tuple[Any, ...]:
        """A copy is a step of the copied function; one that a decorator made is copied as functions are."""
        return global_name(self) or (partial(compile_step, **self.options), (self.function,))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """One step."""
        if mode.recorder is not None or mode.detect:  # part of another step, or line by line to find a NaN
            return self.function(*args, **kwargs)
        if kwargs:
            bound = self.signature.bind(*args, **kwargs)
            bound.apply_defaults()
            args, kwargs = bound.args, bound.kwargs
        call, key = self.read(args, kwargs)
        with self.turn:
            variant, outs = self.compiled(call, key)
        if variant is None:
            return self.eagerly(call)
        return unflatten(variant.captured.result, iter([out.reshape(out.shape[1:]) for out in outs]))

    def compiled(self, call: Call, key: Hashable) -> tuple[CompiledStep | None, list[Any]]:
        """A step in compiled code: the variant that ran, and outputs; None where it must run line by line."""
        while variant := self.choose(key, call):
            try:
                outs, finished = variant.run(call.given())
            except Changed:
                del self.variants[key]
            except CaptureError as error:
                self.leave(key, variant, error)
            else:  # 0: an index was out of range, and the function itself says what is wrong with it
                return (variant if finished else None), outs
        return None, []

    def eagerly(self, call: Call) -> Any:
        """The step line by line."""
        args, words = call.tensors()
        return detached(self.function(*args, **words))

    def read(self, args: Sequence[Any], words: dict[str, Any] | None = None) -> tuple[Call, Hashable]:
        """The arguments, and what a variant must have in common with them."""
        call = Call(args, words or {}, self.names)
        return call, (mode.record, mode.number.char, matmul_precision.current, *call.read())

    @cached_property
    def signature(self) -> inspect.Signature:
        """What the function takes."""
        function: Any = self.function
        return inspect.signature(function.forward if isinstance(function, Module) else function)

    def names(self, i: int) -> str:
        """The name of a parameter of the function."""
        if not hasattr(self, "_names"):
            kinds = self.signature.parameters.values()
            self._names = [p.name for p in kinds if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        return self._names[i] if i < len(self._names) else f"argument_{i}"

    def choose(self, key: Hashable, call: Call, steps: int = 1) -> CompiledStep | None:
        """The variant to run, for ledgers at work, too; None where the step must run line by line."""
        if key in self.refused:
            return None
        try:
            try:
                variant = self.find(key) or self.capture(key, call)
                if variant.captured.moved is None and self.audit.due(variant, steps):
                    variant = self.look_again(key, call, variant)
            except (ArgumentError, ShapeError):  # perhaps in other words than the step's own
                return None
            found = watched(variant)
            self.last = found or variant
            if found is not None:
                found.compile()
            return found
        except (CaptureError, CompileError, KernelError) as error:
            self.go_on(key, error)
            return None

    def leave(self, key: Hashable, variant: CompiledStep, error: CaptureError) -> None:
        """A variant cannot run where its memory is."""
        if variant.apart:  # that was well, and something has been done already
            raise error
        self.go_on(key, error)

    def go_on(self, key: Hashable, error: Exception) -> None:
        """Line by line from now on, where that is wanted."""
        if self.options.get("fallback") != "eager":
            raise error
        if not self.refused:  # it is told once
            warnings.warn(f"{self.name} goes on line by line: {error}", CompileWarning, 4)
        self.refused.add(key)

    def captured(self, *args: Any) -> CompiledStep:
        """The variant for such arguments, which need not be compiled to be looked at."""
        call, key = self.read(args)
        with self.turn:
            return self.find(key) or self.capture(key, call)

    def find(self, key: Hashable) -> CompiledStep | None:
        """The variant that fits."""
        for variant in self.variants.get(key, ()):
            if variant.captured.fits():
                self.last = variant
                return variant
        return None

    def record(self, call: Call, again: bool = False) -> Captured:
        """Write down what the function does with such arguments; `again`: to compare it."""
        return capture(self.function, self.name, call, again)

    def kind(self, device: str) -> Kind:
        """What runs a step of a device, as `interpret` asks for."""
        interpret = self.options.get("interpret")
        if device == "cuda" and interpret:
            advice = "NUMBA_ENABLE_CUDASIM=1 runs its kernels in Python."
            raise CaptureError(f"interpret=True is for steps on the CPU, {self.name} is on a GPU. {advice}")
        if interpret is None:
            interpret = os.environ.get("MICROGRADX_INTERPRET", "0") != "0"
        return KINDS["interpreter" if interpret and device == "cpu" else device]

    def capture(self, key: Hashable, call: Call) -> CompiledStep:
        """A variant for such arguments: one that is there, where the program is the same, or a new one."""
        there = self.variants.get(key, [])
        if failed := next((variant.captured.failing() for variant in there[-1:]), None):
            self.reasons.failed(failed)
        new = self.record(call)
        kind = self.kind(new.device)
        for variant in there:
            if Comparison(variant.captured, new).found is None:
                variant.adopt(new)
                self.last = variant
                self.reasons.warn(new.moved)
                return variant
        return self.take(key, CompiledStep(new, kind))

    def take(self, key: Hashable, new: CompiledStep) -> CompiledStep:
        """Keep a new variant, unless there are too many."""
        self.reasons.limit(sum(map(len, self.variants.values())), new.captured.moved)
        self.last = new
        self.variants.setdefault(key, []).append(new)
        return new

    def look_again(self, key: Hashable, call: Call, variant: CompiledStep) -> CompiledStep:
        """Record once more what a variant was made of: the variant, or what takes its place."""
        with variant.lock:
            if (found := Comparison(variant.captured, self.record(call, again=True)).found) is None:
                return variant
            new = self.record(call)
        self.variants[key] = [one for one in self.variants[key] if one is not variant]
        what = f"{self.name} has become another step unnoticed. The first that differs: {found}"
        advice = "It is captured anew. Pass what changes as an argument, or keep it in an attribute."
        warnings.warn(f"{what}. {advice}", CompileWarning, 5)
        self.reasons.failed(f"a second look: {found}")
        return self.take(key, CompiledStep(new, self.kind(new.device)))

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
        arrays = [array_of(a) for a in arrays]
        return Scan(self, arrays, picked, int(batch_size)).run()

    # Looking inside

    @property
    def variant(self) -> CompiledStep:
        """The variant that ran last."""
        if self.last is None:
            raise CaptureError(f"{self.name} has not run yet; call it once, then look at it.")
        return self.last

    @property
    def source(self) -> str:
        """The file that the step was compiled from."""
        return self.variant.compile().emitted.text

    @property
    def program(self) -> Program:
        """The captured program."""
        return self.variant.program

    def report(self) -> Report:
        """Every kernel of the step that ran last, measured against what this machine can do.

        What it measures runs many times, operations of your own too; state is put back afterwards.
        """
        with self.turn:
            return report(self.variant)

    @property
    def stages(self) -> Schedule:
        """What is done together, and in what order."""
        return self.variant.compile().plan


def name_of(function: Any) -> str:
    """What a step is called: by its function, or the class of what can be called."""
    inner = function.func if isinstance(function, partial) else function
    return getattr(inner, "__name__", None) or type(inner).__name__


def compile_step(function: Callable[..., Any] | None, **options: Any) -> Any:
    """Make a function a compiled step; without one, a decorator that does."""
    if options.get("fallback") not in (None, "eager"):
        raise ArgumentError(f"jit: fallback is None or 'eager', not {options['fallback']!r}.")
    if function is None:
        return partial(compile_step, **options)
    if isinstance(function, Step):
        return function
    if isinstance(function, type):
        kind = f"jit takes a function or a module, {function.__name__} is a class"
        raise ArgumentError(f"{kind}. Make one first: mg.jit({function.__name__}(...)).")
    if not callable(function):
        raise ArgumentError(f"jit takes a function, not {type(function).__name__}.")
    return Step(function, **options)
