"""The text of definitions: read from their source, retyped, written as a careful person would.

`Typed` turns the expressions of a definition on plain numbers into text for one dtype: its literals cast, so
that no float64 enters float32 arithmetic, and the elementwise functions that it calls written out beside it.
"""

import ast
import builtins
import dis
import inspect
import math
import textwrap
from collections.abc import Callable
from types import CodeType
from typing import Any

from microgradx.errors import KernelError
from microgradx.scalars import Elementwise


def parse(function: Callable[..., Any]) -> ast.FunctionDef:
    """The syntax tree of a definition: assignments to names, then one return."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    except (OSError, TypeError, SyntaxError, IndexError):
        raise KernelError(
            f"{function.__name__}: its source text cannot be read, so it cannot be compiled. "
            "Put the definition into a file or a notebook cell, not into a prompt or exec."
        ) from None
    assert isinstance(tree, ast.FunctionDef)
    constants = compile(ast.Module([tree], []), "", "exec").co_consts
    if meaning(function.__code__) not in [meaning(c) for c in constants if isinstance(c, CodeType)]:
        raise KernelError(
            f"{function.__name__}: its file has changed since it was imported, so its text is not that of "
            "the function. Import it again, or start Python again."
        )
    if isinstance(tree.body[0], ast.Expr):
        del tree.body[0]  # the docstring
    for statement in tree.body[:-1]:
        if not (isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)):
            refuse(function, statement, "between docstring and return, only `name = expression`")
    if not isinstance(tree.body[-1], ast.Return):
        refuse(function, tree.body[-1], "the last statement must be the return")
    return tree


def meaning(code: CodeType) -> list[Any]:
    """What a function's instructions work on: it tells two versions of a definition apart."""
    used = (i for i in dis.get_instructions(code) if i.arg is not None and i.opname != "COPY_FREE_VARS")
    return [i.argval for i in used if "JUMP" not in i.opname]


def refuse(function: Callable[..., Any], node: ast.AST, rule: str) -> None:
    """Raise the error for a definition that cannot be compiled."""
    raise KernelError(f"{function.__name__}: `{ast.unparse(node)}` cannot be compiled; {rule}.")


def scope(function: Callable[..., Any]) -> dict[str, Any]:
    """What the names outside a function's own stand for."""
    cells = (cell.cell_contents for cell in function.__closure__ or ())
    closed = dict(zip(function.__code__.co_freevars, cells, strict=True))
    return vars(builtins) | function.__globals__ | closed


class Typed(ast.NodeTransformer):
    """Expressions in one dtype: literals cast, the functions that they call collected as text."""

    def __init__(self, dtype: str):
        self.dtype = dtype
        self.imports: set[str] = set()
        self.helpers: dict[str, tuple[Elementwise, str]] = {}
        self.function: Callable[..., Any] = lambda: None
        self.names: dict[str, Any] = {}

    def within(self, function: Callable[..., Any]) -> "Typed":
        """The same, for the expressions of a function."""
        inner = Typed(self.dtype)
        inner.imports, inner.helpers = self.imports, self.helpers
        inner.function, inner.names = function, scope(function)
        for name in function.__code__.co_varnames:
            inner.names.pop(name, None)
        return inner

    def cast(self, value: float) -> ast.expr:
        """A literal in the dtype: `float32(0.5)`."""
        self.imports |= {"inf", "nan"} & {repr(abs(value))}
        return ast.parse(f"{self.dtype}({value!r})", mode="eval").body

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        """Numbers are cast."""
        number = isinstance(node.value, int | float) and not isinstance(node.value, bool)
        return self.cast(node.value) if number else node  # type: ignore[arg-type]

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        """-1 is a literal, too."""
        match node:
            case ast.UnaryOp(ast.USub(), ast.Constant(int(value) | float(value))):
                return self.cast(-value)
        return self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        """A whole power such as x**2 keeps its integer: it becomes a product."""
        match node:
            case ast.BinOp(left, ast.Pow(), ast.Constant(int())):
                node.left = self.visit(left)
                return node
        return self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        """Names of the definition stay; a number from outside becomes a literal."""
        if node.id not in self.names:
            return node
        if type(value := self.names[node.id]) not in (int, float):
            refuse(self.function, node, "it may use its parameters, numbers and elementwise functions")
        return self.cast(value)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        """`math.pi` is a number."""
        if self.names.get(getattr(node.value, "id", "")) is not math:
            refuse(self.function, node, "it may use its parameters, numbers and elementwise functions")
        return self.cast(getattr(math, node.attr))

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """`where` is a conditional expression, functions of math are imported, others written out."""
        if constant := self.constant(node):
            return constant
        name = ast.unparse(node.func)
        callee = self.names.get(name)
        args = [self.visit(a) for a in node.args]
        if isinstance(callee, Elementwise):
            if callee.name == "where":
                return ast.IfExp(*args)
            name = self.call(callee)
        elif name.startswith("math."):
            self.imports.add(name := name[5:])
        elif name != "abs":
            refuse(self.function, node, "it may call elementwise functions, those of math, and abs")
        keywords = [ast.keyword(k.arg, self.visit(k.value)) for k in node.keywords]
        return ast.Call(ast.Name(name), args, keywords)

    def constant(self, node: ast.Call) -> ast.expr | None:
        """`math.sqrt(2 / math.pi)`, say, is computed here, in float64."""
        used = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
        if used <= {"math"}:
            return self.cast(eval(compile(ast.Expression(node), "", "eval"), {"math": math}))
        return None

    def call(self, callee: Elementwise) -> str:
        """The name to call an elementwise function by, after its text is among the helpers."""
        tree = parse(callee.function)
        parameters = [*callee.inputs, *callee.constants]
        body = ast.unparse(tree.body[-1])
        if len(tree.body) == 1 and body == f"return math.{callee.name}({', '.join(parameters)})":
            self.imports.add(callee.name)
            return callee.name
        if self.helpers.setdefault(callee.name, (callee, ""))[0] is not callee:
            raise KernelError(f"{self.function.__name__} calls two functions named {callee.name}.")
        if not self.helpers[callee.name][1]:
            inner = self.within(callee.function)
            lines = [text(inner.visit(statement)) for statement in tree.body]
            defaults = [f"{name}={text(self.cast(c))}" for name, c in callee.constants.items()]
            doc = quoted(inspect.getdoc(callee) or callee.name)
            del self.helpers[callee.name]  # behind the functions that it calls
            self.helpers[callee.name] = (
                callee,
                define(callee.name, [*callee.inputs, *defaults], [doc, *lines]),
            )
        return callee.name


def quoted(doc: str) -> str:
    """A docstring with its quotes."""
    return '"""' + doc.replace("\\", "\\\\").replace('"""', "'''") + '"""'


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
