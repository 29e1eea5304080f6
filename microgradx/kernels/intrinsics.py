"""Functions of compiled code that are written in LLVM's language: how they are declared to Numba."""

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from llvmlite.ir import IRBuilder as Builder
from llvmlite.ir import Value
from numba import extending
from numba.core import cgutils
from numba.core.base import BaseContext
from numba.core.typing import Context, Signature

__all__ = ["Builder", "Context", "Intrinsic", "Kind", "Value", "call", "intrinsic", "lowered"]

Kind = Any  # a type of Numba's: each kind has attributes of its own, which mypy cannot tell apart

Intrinsic = tuple[Signature, Callable[[BaseContext, Builder, Signature, Sequence[Value]], Value]]
"""What an intrinsic gives for the types of its arguments: a signature, and what writes its instructions."""

intrinsic: Any = extending.intrinsic  # as typed, it does not know that Numba passes the first argument


def lowered(signature: Signature, write: Callable[..., Value | None]) -> Intrinsic:
    """An intrinsic whose instructions are those that `write(builder, *values)` writes.

    Numba casts the values to the signature's types. `write` gives the result; None where nothing comes back.
    """

    def code(context: BaseContext, builder: Builder, sig: Signature, args: Sequence[Value]) -> Value:
        made = write(builder, *args)
        return context.get_dummy_value() if made is None else made

    return signature, code


def call(builder: Builder, name: str, result: ir.Type, values: Sequence[Value]) -> Value:
    """The call of a function that LLVM or the linker knows by name."""
    kind = ir.FunctionType(result, [value.type for value in values])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), values)
