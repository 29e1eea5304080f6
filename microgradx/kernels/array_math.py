"""Definitions on plain numbers, run on whole arrays: what `math` has is NumPy's there."""

import ast
import math
from collections.abc import Callable
from functools import cache
from types import FunctionType

import numpy as np

from microgradx.errors import (
    FOREIGN,
    ArgumentError,
    DTypeError,
    KernelError,
    MicrogradxError,
    ShapeError,
    shown,
)
from microgradx.kernels.source import MATHS, endless, obstacle
from microgradx.kernels.texts import definition
from microgradx.scalars import NUMBERS, Elementwise, Operand

ARRAYS = MATHS | {"cbrt", "ceil", "exp2", "floor", "fmod", "gamma", "trunc"}
"""What NumPy or SciPy has for arrays, too, with the same results."""


class Functions:
    """The functions of `math`, for numbers of NumPy's, which keep their dtype and know infinity."""

    named = {"pow": "power", "atan2": "arctan2", "fabs": "absolute"}
    named |= {f"a{f}{h}": f"arc{f}{h}" for f in ("sin", "cos", "tan") for h in ("", "h")}

    def __getattr__(self, name: str) -> object:
        value = getattr(math, name)
        if name not in ARRAYS:
            return value
        if ufunc := getattr(np, self.named.get(name, name), None):
            return ufunc
        import scipy.special

        return getattr(scipy.special, {"lgamma": "gammaln"}.get(name, name), value)


class Either(Functions):
    """The same, which are Python's own on numbers: `math.sqrt(2)` has no dtype that it would promote to."""

    def __getattr__(self, name: str) -> object:
        value, other = getattr(math, name), super().__getattr__(name)
        if other is value:
            return value
        return lambda *args: (value if NUMBERS.issuperset(map(type, args)) else other)(*args)  # type: ignore[operator]


FUNCTIONS, EITHER = Functions(), Either()


def for_arrays(function: Callable[..., Operand]) -> Callable[..., Operand]:
    """A user's definition, in which `math`, and what was imported from it, is for arrays."""
    if not isinstance(function, FunctionType):
        return function
    code, space = function.__code__, function.__globals__
    found = {name: space[name] for name in code.co_names if name in space}
    others: dict[str, object] = {name: EITHER for name, value in found.items() if value is math}
    for name, value in found.items():
        if getattr(value, "__module__", "") == "math" and callable(value):
            others[name] = getattr(EITHER, value.__name__)
    if not others:
        return function
    made = FunctionType(code, space | others, code.co_name, function.__defaults__, function.__closure__)
    made.__kwdefaults__ = function.__kwdefaults__
    return made


def guarded(x: Operand) -> Operand:
    """An array that a definition cannot change: `x += 1` would change its caller's."""
    if isinstance(x, np.ndarray) and x.flags.writeable:
        x = x.view()
        x.flags.writeable = False
    return x


def on_arrays(function: Elementwise, *args: Operand, **constants: Operand) -> Operand:
    """What a user's definition says of whole arrays; refused where it does not work element by element."""
    if wrong := unlike_numbers(function.function):
        raise ArgumentError(f"{function.name}: {wrong}.")
    try:
        shape = np.broadcast_shapes(*map(np.shape, args))
        result = for_arrays(function.function)(*map(guarded, args), **constants)
    except (*FOREIGN, RecursionError) as error:
        if isinstance(error, MicrogradxError):
            raise
        raise misfit(function, args, error) from error
    kind = getattr(result, "dtype", np.asarray(result).dtype).kind
    if kind not in "fiubc":
        raise DTypeError(f"{function.name} gives {shown(result)}; its definition must return a number.")
    if np.shape(result) == shape:
        return result
    if type(result) in NUMBERS:  # it depends on no input
        return np.full(shape, result)
    given = ", ".join(str(np.shape(x)) for x in args)
    what = f"{function.name} gives the shape {np.shape(result)} for {given}"
    raise ShapeError(f"{what}: an elementwise definition works on every number alone.")


@cache
def unlike_numbers(function: Callable[..., Operand]) -> str:
    """What of a definition means something else on arrays, and what to write; "" where nothing is known.

    NumPy's True + True is True, and of a number 2; 1 / 0 is an error, and of an array inf.
    """
    try:
        tree = definition(function)
    except KernelError:
        return ""
    names: set[str] = set()

    def condition(node: ast.AST) -> bool:
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitAnd | ast.BitOr | ast.BitXor):
            return condition(node.left) and condition(node.right)
        truth = isinstance(node, ast.Constant) and isinstance(node.value, bool)
        return truth or isinstance(node, ast.Compare) or (isinstance(node, ast.Name) and node.id in names)

    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(target := node.targets[0], ast.Name):
            (names.add if condition(node.value) else names.discard)(target.id)
    for node in ast.walk(tree):
        if isinstance(node, ast.Try):
            return "arrays raise no such errors: write where(condition, a, b) instead of try"
        if isinstance(node, ast.BinOp):
            found = not condition(node) and condition(node.left) and condition(node.right)
        elif isinstance(node, ast.Call):
            found = bool(node.args) and all(map(condition, node.args))
        else:
            found = isinstance(node, ast.UnaryOp) and condition(node.operand)
        if found:
            what = f"`{ast.unparse(node)}` computes with conditions, which arrays take for logic"
            return f"{what}: write where(condition, 1, 0) for such a number"
    return ""


def misfit(function: Elementwise, args: tuple[Operand, ...], error: Exception) -> MicrogradxError:
    """Why a definition on plain numbers does not work on arrays, and what to write instead."""
    if isinstance(error, RecursionError):
        return endless(function.name)
    if found := obstacle(function):
        return KernelError(str(found).replace("cannot be compiled", "is not for arrays"))
    if "truth value" in str(error):
        advice = "write where(condition, a, b) instead of if, and & | instead of and, or."
        return ArgumentError(f"{function.name}: its definition branches on an array; {advice}")
    given = ", ".join(map(shown, args))
    return ArgumentError(f"{function.name} does not work on {given}: {str(error).rstrip('.')}.")
