"""The part of Numba that compiles this package's files: numbers, ranges, tuples, pointers, to LLVM's text.

A target of its own, by Numba's interface for extensions: functions made for it find only what is installed
here. The usual one brings arrays, strings, containers, random numbers and SciPy, whose import takes half a
second of a first step, asks all of them about every operator, and makes machine code of every function.
"""

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from typing import Any

import numba
from llvmlite import binding as llvm
from llvmlite import ir
from numba.core import (
    callconv,
    cgutils,
    codegen,
    compiler,
    cpu,
    fastmathpass,
    registry,
    typed_passes,
    types,
    untyped_passes,
)
from numba.core.compiler_machinery import PassManager
from numba.core.funcdesc import FunctionDescriptor
from numba.core.target_extension import (
    CPU,
    dispatcher_registry,
    jit_registry,
    target_override,
    target_registry,
)  # fmt: skip
from numba.core.typing import Context, mathdecl

NAME = "microgradx"

PARAMETER = "parameter"
"""How the regions of blocks begin that a function is given, and that no other of its blocks shares."""


class Text(codegen.JITCodeLibrary):
    """A function as LLVM's text: neither optimised nor linked, which is done with the whole file."""

    def _optimize_functions(self, module: llvm.ModuleRef) -> None:
        module.data_layout = self._codegen._data_layout

    def finalize(self) -> None:
        """Nothing can be added from here on."""
        self._finalized = True

    def link(self, into: llvm.ModuleRef, done: set["Text"]) -> None:
        """Add this function to a module, and those that it calls, which others may share."""
        if self not in done:
            done.add(self)
            into.link_in(self._final_module, preserve=True)
            for called in self._linking_libraries:
                called.link(into, done)


class Texts(codegen.JITCPUCodegen):
    """Where the functions' texts are made."""

    _library_class = Text

    def set_env(self, env_name: str, env: object) -> None:
        """No function has an environment, which is that of Numba's machine code."""


class Typing(Context):
    """What Numba knows about types: of numbers and `math`."""

    def load_additional_registries(self) -> None:
        """Functions of `math`."""
        self.install_registry(mathdecl.registry)

    def _insert_global(self, value: object, kind: types.Type) -> None:
        """A function's name: our blocks and tables of numbers' types are asked about its operands first.

        Every other template would cost a caught exception. The first that fits is taken, so that it is the
        same code.
        """
        if isinstance(kind, types.Function):
            kind = types.Function(sorted(kind.templates, key=general))
        super()._insert_global(value, kind)


def general(template: type) -> bool:
    """Whether a template of Numba's is neither ours nor a table of numbers' types."""
    return not template.__module__.startswith("microgradx.") and not hasattr(template, "cases")


class Calls(callconv.CPUCallConv):
    """How functions call each other: none fails, so that no caller asks.

    `numba_failed` remains in the text where LLVM does not find out that what would fail is never done.
    """

    def decorate_function(
        self, fn: ir.Function, args: Sequence[str], fe_argtypes: Sequence[types.Type], noalias: bool = False
    ) -> None:
        """Say which parameters share no memory with others; what is called with many blocks stays apart."""
        super().decorate_function(fn, args, fe_argtypes, noalias)
        if any(map(alone, fe_argtypes)):
            fn.attributes.add("noinline")
            for parameter, kind in zip(self.get_arguments(fn), fe_argtypes, strict=True):
                if alone(kind):
                    parameter.add_attribute("noalias")

    def _get_return_status(
        self, builder: ir.IRBuilder, code: ir.Value, excinfoptr: ir.Value
    ) -> callconv.Status:
        none = builder.icmp_signed("==", code, callconv.RETCODE_NONE)
        yes, no = cgutils.true_bit, cgutils.false_bit
        return callconv.Status(code, yes, none, no, no, no, no, excinfoptr)

    def return_user_exc(self, builder: ir.IRBuilder, *args: object, **kwargs: object) -> None:
        """What raises an error in Python."""
        kind = ir.FunctionType(ir.VoidType(), [])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, "numba_failed"), [])
        builder.unreachable()

    return_dynamic_user_exc = return_user_exc

    def return_status_propagate(self, builder: ir.IRBuilder, status: callconv.Status) -> None:
        """What is done after a call that failed."""
        builder.unreachable()


class Lowering(cpu.CPUContext):
    """How Numba writes instructions for what it knows about."""

    def init(self) -> None:
        """Texts alone."""
        super().init()
        self._internal_codegen = Texts(NAME)

    @property
    def call_conv(self) -> Calls:
        """How functions call each other."""
        return Calls(self)

    def load_additional_registries(self) -> None:
        """Numbers, ranges, tuples, and functions of `math`: an import registers most of them."""
        from numba.core import optional  # noqa: F401
        from numba.cpython import builtins, mathimpl, numbers, rangeobj, tupleobj  # noqa: F401

        self.install_registry(mathimpl.registry)

    def post_lowering(self, module: ir.Module, library: Text) -> None:
        """Without Numba's library for reference counts."""
        if self.fastmath:
            fastmathpass.rewrite_module(module, self.fastmath)

    def create_cfunc_wrapper(
        self, library: Text, function: FunctionDescriptor, env: object, call_helper: object
    ) -> None:
        """The function for callers from outside, by its own name: over its parameters alone."""
        module = self.create_module("entry")
        kinds = function.argtypes
        inner = ir.Function(
            module, self.call_conv.get_function_type(function.restype, kinds), function.llvm_func_name
        )
        outer = ir.Function(
            module, ir.FunctionType(ir.VoidType(), [*map(self.get_value_type, kinds)]), function.qualname
        )
        builder = ir.IRBuilder(outer.append_basic_block())
        self.call_conv.call_function(builder, inner, function.restype, kinds, outer.args)
        builder.ret_void()
        library.add_ir_module(module)


class Descriptor(registry.CPUTarget):
    """The target, whose parts are made with the first function."""

    @cached_property
    def typing_context(self) -> Typing:
        """What it knows about types."""
        return Typing()

    @cached_property
    def target_context(self) -> Lowering:
        """How it writes instructions."""
        return Lowering(self.typing_context, NAME)


class Passes(compiler.CompilerBase):
    """Numba's passes but for what the files never contain, which take a seventh of its time.

    These are closures, `with`, raised errors, loops over tuples of several types and expressions of arrays.
    """

    def define_pipelines(self) -> list[PassManager]:
        """The one list of passes."""
        untyped = "TranslateByteCode FixupArgs IRProcessing GenericRewrites ReconstructSSA"
        typed = "NopythonTypeInference PreLowerStripPhis NativeLowering NoPythonBackend"
        passes = PassManager(NAME)
        for module, names in ((untyped_passes, untyped), (typed_passes, typed)):
            for name in names.split():
                passes.add_pass(getattr(module, name), name)
        passes.finalize()
        return [passes]


class Function(registry.CPUDispatcher):
    """A function of a file, compiled once for each list of its arguments' types."""

    targetdescr = Descriptor(NAME)

    def text(self, kinds: Sequence[types.Type]) -> Text:
        """The function for arguments of such types; it returns nothing."""
        with target_override(NAME), no_collector():
            made: Any = self.get_compile_result(numba.void(*kinds))  # Numba's, whose fields mypy cannot see
        text: Text = made.library
        return text

    def get_call_template(self, args: Sequence[Any], kws: Any) -> Any:  # Numba's types and tuples of them
        """The call in another function: one text serves whichever numbers and blocks stand there."""
        named = {name: types.unliteral(kind) for name, kind in dict(kws).items()}
        return super().get_call_template(apart([types.unliteral(kind) for kind in args]), named)


def apart(kinds: list[Any]) -> list[Any]:  # Numba's types, some of which are blocks
    """The types of parameters for such arguments: of each block not where it lies, but whether it is alone.

    Nothing is known of a block without a region, which may be part of any other.
    """
    regions = [getattr(kind, "region", None) for kind in kinds]
    return [
        kind if region is None
        else kind.moved(f"{PARAMETER} {k}" if "" not in regions and regions.count(region) == 1 else "")
        for k, (kind, region) in enumerate(zip(kinds, regions, strict=True))
    ]  # fmt: skip


def alone(kind: types.Type) -> bool:
    """Whether a block is a parameter that shares no memory with the others."""
    return getattr(kind, "region", "").startswith(PARAMETER)


class Files(CPU):
    """The kind of hardware: that of Numba's functions that it may call."""


target_registry[NAME] = Files
dispatcher_registry[Files] = Function
jit_registry[Files] = partial(
    numba.jit, _target=NAME, pipeline_class=Passes,
    no_cfunc_wrapper=True, no_cpython_wrapper=True, _nrt=False,
)  # fmt: skip


def function(python: Callable[..., None], entry: bool, contract: bool) -> Function:
    """A function of a file, which others call from outside if it is an entry.

    a * b + c may be rounded once, not twice, where `contract` says so; else the bits are those of NumPy.
    """
    made: Function = jit_registry[Files](
        python,
        error_model="numpy",  # x / 0 is inf: Python's check of every divisor would forbid SIMD
        fastmath={"contract"} if contract else False,
        no_cfunc_wrapper=not entry,
    )
    return made


@contextmanager
def no_collector() -> Iterator[None]:
    """Within, Python looks for no circles among Numba's many objects, which takes a tenth of its time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
