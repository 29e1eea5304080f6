"""The text of definitions: read from their source, retyped, written as a careful person would.

`Typed` turns the expressions of a definition on plain numbers into text for one dtype: its numbers cast, so
that no float64 enters float32 arithmetic, and the elementwise functions that it calls written out beside it.
"""

import ast
import builtins
import inspect
import keyword
import math
import textwrap
from collections.abc import Callable
from types import FunctionType
from typing import Any, NoReturn

import numpy as np

from microgradx import scalars
from microgradx.errors import FOREIGN, KernelError, undefined
from microgradx.kernels.texts import definition, tree_of
from microgradx.scalars import Elementwise

EMITTED = """
    start stop step steps piece ticket gate status table numbers arena order random gathering row tiny
    run block block_at matmul matmul_nt matmul_tn flat claim join leave done wait ready inside within
    plus units philox
    float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool_ inf nan range min max abs
    so_far first
"""

RESERVED = {*EMITTED.split(), *keyword.kwlist, *dir(builtins)}
"""Names that emitted code has a use for."""

Names = dict[str, Any]
"""What a file or a definition names: modules, functions, numbers, whatever a user has there."""


MATHS = {
    "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "copysign", "cos", "cosh", "degrees", "erf",
    "erfc", "exp", "expm1", "fabs", "hypot", "isfinite", "isinf", "isnan", "lgamma", "log", "log10",
    "log1p", "log2", "pow", "radians", "sin", "sinh", "sqrt", "tan", "tanh",
}  # fmt: skip
"""What definitions may use of `math`: numbers to numbers, of arrays and in compiled code the same."""

TWO = {"atan2", "copysign", "hypot", "pow"}  # of these take two numbers

INSTEAD = {
    "round": "x - x % 1 rounds down, (x + 0.5) // 1 to the nearest", "int": "x // 1 rounds down",
    "floor": "x // 1 rounds down", "ceil": "-(-x // 1) rounds up",
    "trunc": "where(x < 0, -(-x // 1), x // 1) rounds towards 0", "float": "leave it out: x is a number",
    "bool": "x != 0 is the condition", "min": "write mg.minimum(a, b)", "max": "write mg.maximum(a, b)",
    "clip": "write mg.clip(x, min, max)", "pow": "write a**b", "divmod": "write a // b, and a % b",
    "sum": "write a + b", "fmod": "write a % b", "exp2": "write 2**x",
}  # fmt: skip
"""What to write for what is not there."""

STATEMENTS = {
    ast.If: "where(condition, a, b) instead of if", ast.AugAssign: "`x = x + 1` instead of `x += 1`",
    ast.AnnAssign: "no annotations", ast.Expr: "no call of its own, such as print",
    ast.Assign: "one name at a time", ast.For: "the terms one by one instead of a loop",
    ast.While: "the terms one by one instead of a loop", ast.Try: "where(condition, a, b) instead of try",
    ast.FunctionDef: "an elementwise function beside this one instead of a function inside",
}  # fmt: skip
"""What to write for statements that are not there."""

EXPRESSIONS = (
    ast.BinOp, ast.BoolOp, ast.Call, ast.Compare, ast.Constant, ast.IfExp, ast.Name, ast.Tuple, ast.UnaryOp,
)  # fmt: skip
"""What a definition may consist of."""


def parse(function: Callable[..., object]) -> tuple[list[ast.Assign], ast.Return]:
    """The statements of a definition without its docstring: assignments to names, then one return."""
    body = definition(function).body
    *before, last = body[ast.get_docstring(ast.Module(body, [])) is not None :] or body
    assignments = []
    for statement in before:
        if not isinstance(statement, ast.Assign) or [type(x) for x in statement.targets] != [ast.Name]:
            advice = STATEMENTS.get(type(statement))
            rule = "between docstring and return, only `name = expression`"
            refuse(function, statement, rule + (f", and {advice}" if advice else ""))
        assignments.append(statement)
    if not isinstance(last, ast.Return):
        refuse(function, last, "the last statement must be the return")
    for line in (*assignments, last):
        if missing := sorted(unbound(line) - {*function.__code__.co_varnames} - scope(function).keys()):
            refuse(function, line, undefined(missing[0], function.__code__.co_varnames).rstrip("."))
    return assignments, last


def unbound(node: ast.AST) -> set[str]:
    """The names in an expression that it does not bind itself, as a comprehension or a lambda does."""
    bound = {n.arg for n in ast.walk(node) if isinstance(n, ast.arg)}
    bound |= {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return names(node) - bound


def endless(name: str) -> KernelError:
    """The error for a definition that calls itself."""
    return KernelError(f"{name} calls itself, which ends nowhere for arrays: write the terms one by one.")


def obstacle(function: Elementwise) -> KernelError | None:
    """What a definition has that arrays and compiled code cannot have; nothing where its text is fine."""
    try:
        Typed(function.function, "float32").call(function)
    except KernelError as error:
        return error
    except FOREIGN:  # of constants that are no numbers
        return None
    return None


def assigned(text: str) -> list[ast.Assign]:
    """The assignments that a text consists of."""
    return [statement for statement in tree_of(text).body if isinstance(statement, ast.Assign)]


def refuse(function: Callable[..., object], node: ast.AST, rule: str) -> NoReturn:
    """Raise the error for a definition that cannot be compiled."""
    raise KernelError(f"{function.__name__}: `{ast.unparse(node)}` cannot be compiled; {rule}.")


def scope(function: Callable[..., object]) -> Names:
    """What the names outside a function's own stand for."""
    cells = (cell.cell_contents for cell in function.__closure__ or ())
    closed = dict(zip(function.__code__.co_freevars, cells, strict=True))
    return vars(builtins) | function.__globals__ | closed


def take_name(base: str, taken: set[str], first: str = "") -> str:
    """A name that is free: `first` or `base`, else with a number behind it; it is taken from now on."""
    name, n = first or base, 1
    while name in taken:
        n += 1
        name = f"{base}_{n}"
    taken.add(name)
    return name


def names(node: ast.AST) -> set[str]:
    """The names in an expression."""
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}


class Typed(ast.NodeTransformer):
    """Expressions of a function in one dtype: numbers cast, the functions that they call kept as text.

    A `suffix` behind the names of these tells them apart, in one file, from those of another dtype.
    """

    def __init__(self, function: Callable[..., object], dtype: str, suffix: str = ""):
        self.function, self.dtype, self.suffix = function, dtype, suffix
        self.own = set(function.__code__.co_varnames)
        self.outside = {name: x for name, x in scope(function).items() if name not in self.own}
        self.imports: set[str] = set()
        self.helpers: dict[Elementwise, str] = {}

    def cast(self, value: float) -> ast.expr:
        """A number in the dtype: `float32(0.5)`."""
        value = value if abs(value) < 2**63 else float(value)
        self.imports |= {"inf", "nan"} & {repr(abs(value))}
        statement = tree_of(f"{self.dtype}({value!r})").body[0]
        assert isinstance(statement, ast.Expr)
        return statement.value

    def visit(self, node: ast.AST) -> Any:  # an expression for an expression: NodeTransformer knows no more
        """What is made of numbers alone, such as `math.sqrt(2 / math.pi)`, is computed here, in float64."""
        if not isinstance(node, ast.expr):
            return super().visit(node)
        if all(x is math or x is np or is_number(x) for x in map(self.outside.get, names(node))):
            try:
                value = eval(ast.unparse(node), self.outside)
                if is_number(value):
                    value = value.item() if isinstance(value, np.generic) else value
                    return ast.Constant(value) if isinstance(value, bool) else self.cast(value)
            except (ArithmeticError, ValueError, TypeError, AttributeError) as error:
                refuse(self.function, node, f"it has no value: {str(error).rstrip('.')}")
        if isinstance(node, ast.Attribute) or getattr(node, "id", "") in self.outside:
            refuse(self.function, node, "it may use its parameters, numbers and elementwise functions")
        if isinstance(node, ast.Constant) or not isinstance(node, EXPRESSIONS):
            refuse(self.function, node, "it may be arithmetic on numbers and call elementwise functions")
        return super().visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        """A whole power such as x**2 keeps its integer: it becomes a product."""
        match node:
            case ast.BinOp(left, ast.Pow(), ast.Constant(int())):
                node.left = self.visit(left)
                return node
            case ast.BinOp(op=ast.MatMult() | ast.LShift() | ast.RShift()):
                refuse(self.function, node, "it may be arithmetic on numbers")
        return self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        """-x; but ~, which makes -2 of True and an opposite of an array."""
        if isinstance(node.op, ast.Invert):
            refuse(self.function, node, "write the opposite condition, such as x <= 0 for ~(x > 0)")
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """`where` is a conditional expression, functions of math are imported, others written out."""
        callee = self.callee(node)
        args = [self.visit(a) for a in node.args]
        if callee is scalars.where:
            return ast.IfExp(*args)
        if isinstance(callee, Elementwise):
            name = self.call(callee)
        elif callee is abs:
            name = "abs"
        else:
            self.imports.add(name := callee.__name__)
        keywords = [ast.keyword(k.arg, self.visit(k.value)) for k in node.keywords]
        return ast.Call(ast.Name(name), args, keywords)

    def callee(self, node: ast.Call) -> Any:  # an Elementwise, or a function of Python's
        """What is called, if it may be: NumPy's functions mean those of the same name here."""
        room, _, member = ast.unparse(node.func).rpartition(".")  # sqrt, or mg.sqrt
        found = getattr(self.outside.get(room), member, None) if room else self.outside.get(member)
        name, module = getattr(found, "__name__", member), getattr(found, "__module__", None)
        if isinstance(found, np.ufunc) or module == "numpy":
            found = vars(scalars).get(name)
        count = len(node.args) + len(node.keywords)
        if isinstance(found, Elementwise):
            least, most = len(found.inputs), len(found.inputs) + len(found.constants)
            fits = least <= count <= most and {k.arg for k in node.keywords} <= found.constants.keys()
            rule = f"it is {found.name}{found.__signature__}"
        else:
            known = found is abs or (module == "math" and name in MATHS)
            fits, takes = known and not node.keywords and count == 1 + (name in TWO), 1 + (name in TWO)
            rule = (
                f"it takes {takes} number{'s' * (takes > 1)}"
                if known
                else ("it may call elementwise functions, those of math, and abs")
            )
            if isinstance(found, FunctionType) and module != "numpy":
                rule += f"; decorate {name} with @mg.elementwise"
        if not fits or any(isinstance(x, ast.Starred) for x in node.args):
            advice = f"; {INSTEAD[name]}" if name in INSTEAD and not isinstance(found, Elementwise) else ""
            refuse(self.function, node, rule + advice)
        return found

    def call(self, callee: Elementwise) -> str:
        """The name to call an elementwise function by, after its text is among the helpers."""
        name, (assignments, last) = word(callee), parse(callee.function)
        parameters = ", ".join([*callee.inputs, *callee.constants])
        statements = [*assignments, last]
        if [ast.unparse(s) for s in statements] == [f"return math.{name}({parameters})"]:
            self.imports.add(name)
            return name
        if self.helpers.get(callee) == "":
            raise endless(name)
        if callee not in self.helpers:
            self.helpers[callee] = ""  # until it is written
            inner = Typed(callee.function, self.dtype, self.suffix)
            inner.imports, inner.helpers = self.imports, self.helpers
            lines = [
                quoted(inspect.getdoc(callee.function) or name),
                *(text(inner.visit(s)) for s in statements),
            ]
            defaults = (f"{constant}={text(self.cast(c))}" for constant, c in callee.constants.items())
            del self.helpers[callee]  # what it calls stands before it
            self.helpers[callee] = define(name + self.suffix, [*callee.inputs, *defaults], lines)
            self.check()
        return name + self.suffix

    def check(self) -> None:
        """Raise where two functions of the user's have one name: it was declared anew."""
        called = [word(helper) for helper in self.helpers]
        if twice := sorted({name for name in called if called.count(name) > 1}):
            raise KernelError(f"two elementwise functions are named {twice[0]}: rename one of them.")


def word(function: Elementwise) -> str:
    """What an elementwise function is called in a text: one of the user's may be named exp, or step."""
    name, ours = function.name, vars(scalars).get(function.name)
    free = name not in RESERVED and len(name) > 1 and not hasattr(math, name) and ours is None
    return name if function is ours or free else f"own_{name}"


def quoted(doc: str) -> str:
    """A docstring with its quotes."""
    return '"""' + doc.replace("\\", "\\\\").replace('"""', "'''") + '"""'


def is_number(x: object) -> bool:
    """Whether something outside of a definition is a number, of Python's or of NumPy's."""
    return type(x) in (int, float, bool) or (isinstance(x, np.generic) and x.dtype.kind in "fiub")


def text(node: ast.AST) -> str:
    """An expression or a statement as text."""
    return ast.unparse(ast.fix_missing_locations(node)).replace(" ** ", "**")


def define(name: str, parameters: list[str], lines: list[str]) -> str:
    """A function as text, its parameters on several lines where they are many."""
    head = wrap(f"def {name}(", parameters, "):")
    return head + "\n" + textwrap.indent("\n".join(lines), "    ")


def wrap(head: str, names: list[str], tail: str) -> str:
    """A list in brackets, on lines of its own where it is long."""
    line = head + ", ".join(names) + tail
    inner = textwrap.indent(textwrap.fill(", ".join(names), 92), "    ")
    return line if len(line) <= 96 else f"{head}\n{inner}\n{tail}"
