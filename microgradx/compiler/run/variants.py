"""A function and the compiled steps that were made of it, one for every kind of arguments that it meets."""

import inspect
import os
import warnings
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import count
from typing import Generic, TypeVar

from microgradx.compiler.capture.arguments import Call
from microgradx.compiler.capture.capture import capture
from microgradx.compiler.capture.captured import Captured
from microgradx.compiler.capture.compare import Comparison
from microgradx.compiler.capture.pytree import Given, detached, unflatten
from microgradx.compiler.capture.recaptures import Reasons
from microgradx.compiler.run.audit import Audit
from microgradx.compiler.run.compiled_step import CompiledStep, Kind, Turn
from microgradx.compiler.run.executable import Executable
from microgradx.compiler.run.interpreted import Interpreted
from microgradx.compiler.run.ledger_outputs import watched
from microgradx.compiler.run.memory import Changed
from microgradx.cuda.cublas import matmul_precision
from microgradx.eager.mode import mode
from microgradx.errors import (
    ArgumentError,
    CaptureError,
    CompileError,
    CompileWarning,
    KernelError,
    ShapeError,
)  # fmt: skip
from microgradx.nn import Module

R_co = TypeVar("R_co", covariant=True)
"""What a step returns."""


@dataclass(frozen=True)
class Options:
    """What a user has asked of `jit`."""

    audit: bool | int | None = None
    interpret: bool | None = None
    fallback: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.interpret, bool | None):
            raise ArgumentError(f"jit: interpret is True, False or None, not {self.interpret!r}.")
        if not isinstance(self.fallback, str | None) or self.fallback not in (None, "eager"):
            raise ArgumentError(f"jit: fallback is None or 'eager', not {self.fallback!r}.")


class Variants(Generic[R_co]):
    """A function, and the compiled steps that were made of it: for shapes, dtypes and Python values."""

    def __init__(self, function: Callable[..., R_co], options: Options):
        self.function, self.name = function, name_of(function)
        self.options, self.audit = options, Audit(options.audit)
        self.variants: dict[Hashable, list[CompiledStep]] = {}
        self.refused: set[Hashable] = set()  # keys of what goes on line by line
        self.last: CompiledStep | None = None
        self.turn = Turn()  # of a thread, to find what fits and run it: another would change that meanwhile
        self.reasons = Reasons(self.name)  # for variants
        self.uses = count()

    def __call__(self, *args: object, **kwargs: object) -> R_co:
        """One step."""
        if mode.recorder is not None or mode.detect:  # part of another step, or line by line to find a NaN
            return self.function(*args, **kwargs)
        if kwargs:
            args, kwargs = self.arranged(args, kwargs)
        call, key = self.read(args, kwargs)
        try:
            with self.turn:
                variant, outs = self.compiled(call, key)
            if variant is None:
                return self.eagerly(call)
        except (AttributeError, TypeError) as error:  # of the function's own code
            call.blame(self.name, error)
            raise
        return unflatten(variant.captured.result, iter([out.reshape(out.shape[1:]) for out in outs]))

    def arranged(
        self, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> tuple[tuple[object, ...], dict[str, object]]:
        """Arguments by position as far as they can be, with the defaults."""
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}() {error}") from None
        bound.apply_defaults()
        return bound.args, bound.kwargs

    def compiled(self, call: Call, key: Hashable) -> tuple[CompiledStep | None, Sequence[Given]]:
        """A step in compiled code: the variant that ran, and outputs; None where it must run line by line."""
        while variant := self.choose(key, call):
            try:
                variant.captured.refuse_written(call.given)
                outs, finished = variant.run(call.arrays)
            except Changed:
                del self.variants[key]
            except CaptureError as error:
                self.leave(key, variant, error)
            else:  # 0: an index was out of range, and the function itself says what is wrong with it
                return (variant if finished else None), outs
        return None, []

    def eagerly(self, call: Call) -> R_co:
        """The step line by line."""
        args, words = call.tensors()
        return detached(self.function(*args, **words))

    def read(self, args: Sequence[object], words: dict[str, object] | None = None) -> tuple[Call, Hashable]:
        """The arguments, and what a variant must have in common with them."""
        call = Call(args, words or {}, self.names)
        return call, (mode.record, mode.number.char, matmul_precision.current, *call.read())

    @cached_property
    def signature(self) -> inspect.Signature:
        """What the function takes."""
        function = self.function
        try:
            return inspect.signature(function.forward if isinstance(function, Module) else function)
        except ValueError:  # one written in C may not say
            return inspect.signature(lambda *args, **kwargs: None)

    @cached_property
    def positional(self) -> list[str]:
        """The names of the parameters that are given by their place."""
        kinds = self.signature.parameters.values()
        return [p.name for p in kinds if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]

    def names(self, i: int) -> str:
        """The name of an argument."""
        return self.positional[i] if i < len(self.positional) else f"argument_{i}"

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
        if self.options.fallback != "eager":
            raise error
        if not self.refused:  # it is told once
            warnings.warn(f"{self.name} goes on line by line: {error}", CompileWarning, 4)
        self.refused.add(key)

    def captured(self, *args: object) -> CompiledStep:
        """The variant for such arguments, which need not be compiled to be looked at."""
        call, key = self.read(args)
        with self.turn:
            return self.find(key) or self.capture(key, call)

    def find(self, key: Hashable) -> CompiledStep | None:
        """The variant that fits."""
        for variant in self.variants.get(key, ()):
            if variant.captured.fits():
                self.last = variant
                variant.used = next(self.uses)
                return variant
        return None

    def record(self, call: Call, again: bool = False) -> Captured:
        """Write down what the function does with such arguments; `again`: to compare it."""
        return capture(self.function, self.name, call, again)

    def kind(self, device: str) -> Kind:
        """What runs a step of a device, as `interpret` asks for."""
        interpret = self.options.interpret
        if device == "cuda":
            from microgradx.compiler.run.cuda_executable import CudaExecutable

            if interpret:
                advice = "NUMBA_ENABLE_CUDASIM=1 runs its kernels in Python."
                raise CaptureError(
                    f"interpret=True is for steps on the CPU, {self.name} is on a GPU. {advice}"
                )
            return CudaExecutable
        if interpret is None:
            interpret = os.environ.get("MICROGRADX_INTERPRET", "0") != "0"
        return Interpreted if interpret else Executable

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
        """Keep a new variant; where there are too many, in the place of the one that was used longest ago."""
        if self.reasons.limit(sum(map(len, self.variants.values())), new.captured.moved):
            old, there = min(
                ((old, there) for there in self.variants.values() for old in there), key=lambda x: x[0].used
            )
            there.remove(old)
            self.variants = {key: there for key, there in self.variants.items() if there}
        self.last = new
        new.used = next(self.uses)
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


def name_of(function: object) -> str:
    """What a step is called: by its function, or the class of what can be called."""
    inner = function.func if isinstance(function, partial) else function
    return getattr(inner, "__name__", None) or type(inner).__name__
