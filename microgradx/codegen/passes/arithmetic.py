"""Functions of elements as expressions: plain arithmetic, in the dtypes that NumPy computes in."""

from collections.abc import Sequence
from typing import TypeGuard

import numpy as np

from microgradx.codegen.ir.tree import BOOL, INT, Apply, Cast, Choose, Expression, Number, Operator
from microgradx.kernels.source import word
from microgradx.scalars import Elementwise

INFIX = {
    "multiply": "*", "divide": "/", "add": "+", "subtract": "-", "less": "<", "less_equal": "<=",
    "greater": ">", "greater_equal": ">=", "equal": "==", "not_equal": "!=", "logical_and": "&",
    "logical_or": "|",
}  # fmt: skip
COMPARISONS = {"<", "<=", ">", ">=", "==", "!="}
FLOAT64 = np.dtype(np.float64)

Operand = Expression | float
"""An expression, or a plain number, whose dtype depends on what stands beside it."""


def plain(x: object) -> TypeGuard[float]:
    """Whether something is a plain number, of Python's or NumPy's."""
    return isinstance(x, bool | int | float | np.generic)


def applied(
    function: Elementwise | None, args: Sequence[Operand], constants: dict[str, float], dtype: np.dtype
) -> Expression:
    """A function of operands, with a result of some dtype; None: the operand itself."""
    if function is None:
        return cast(args[0], dtype)
    name = word(function)
    if name == "where":
        condition, a, b = cast(args[0], BOOL), cast(args[1], dtype), cast(args[2], dtype)
        return Choose(condition, a, b, dtype)
    kind = computed_in(name, args, dtype)
    given = [power(a, kind) if name == "power" and k else cast(a, kind) for k, a in enumerate(args)]
    made = BOOL if dtype == BOOL else kind
    if sign := INFIX.get(name):
        result: Expression = Operator(sign, tuple(given), BOOL if sign in COMPARISONS else made)
    elif name == "power":
        result = Operator("**", tuple(given), made)
    elif name == "negative":
        result = Operator("-", tuple(given), made)
    elif name == "logical_not":
        result = Operator("not", tuple(given), BOOL)
    else:
        whole = kind.kind != "f" and dtype.kind != "f" and not function.constants  # those may be infinite
        real = kind if kind.kind == "f" or whole or name == "absolute" else FLOAT64
        extra = tuple((function.constants | constants).values())
        result = Apply(function, tuple(cast(a, real) for a in given), extra, real)
    return cast(result, dtype)


def computed_in(name: str, args: Sequence[Operand], dtype: np.dtype) -> np.dtype:
    """The dtype that NumPy computes a function in, whose result has a dtype."""
    given = [a.dtype for a in args if isinstance(a, Expression)]
    kind = np.result_type(*given) if given else dtype
    if dtype.kind == "f" and name != "equal":
        kind = dtype if kind.kind == "f" else FLOAT64 if kind.kind in "iu" else dtype
    if name.startswith("logical"):
        return BOOL
    if kind == BOOL:
        kind = INT
    floats = any(isinstance(a, float) for a in args)
    return FLOAT64 if floats and kind.kind in "iu" else kind


def power(exponent: Operand, kind: np.dtype) -> Expression:
    """An exponent: whole numbers stay whole."""
    if plain(exponent) and float(exponent).is_integer() and 0 <= exponent < 64:
        return Number(int(exponent), INT)
    return cast(exponent, kind)


def cast(x: Operand, dtype: np.dtype) -> Expression:
    """The same in another dtype."""
    if not isinstance(x, Expression):
        return Number(x, dtype)
    if x.dtype == dtype:
        return x
    if dtype == BOOL:
        return Operator("!=", (x, Number(0, INT)), BOOL)
    if x.dtype == BOOL:  # so that LLVM selects one of two numbers
        return Choose(x, Number(1, dtype), Number(0, dtype), dtype)
    return Cast(x, dtype)
