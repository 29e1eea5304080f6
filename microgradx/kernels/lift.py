"""From a definition on plain numbers to the text of a loop over arrays.

`lift(rule, dtype)` takes a rule's syntax tree apart. What depends on no element becomes a function `once`,
run in float64 once per step; the rest becomes the body of the loop, with the rule's own names, its literals
cast to the arrays' dtype and the elementwise functions that it calls written out beside it.
"""

import ast
import builtins
import dis
import inspect
import keyword
import math
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from types import CodeType
from typing import Any

import numpy as np

from microgradx.errors import KernelError
from microgradx.rules import Rule
from microgradx.scalars import Elementwise

before = {
    "maximize": ["g = -g"],
    "l2": ["g = g + weight_decay * p"],
    "decoupled": ["shrink = 1 - lr * weight_decay", "p = p * shrink"],
}
"""What may come before a rule, in the rules' own language."""

reserved = {"start", "stop", "count", "i", "tiny", "once", "sweep", "cuda", "float32", "float64"}
"""Names of the loop around a rule."""


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
            doc = f'"""{inspect.getdoc(callee)}"""'
            del self.helpers[callee.name]  # behind the functions that it calls
            self.helpers[callee.name] = (
                callee,
                define(callee.name, [*callee.inputs, *defaults], [doc, *lines]),
            )
        return callee.name


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


def plural(name: str, function: Callable[..., Any]) -> str:
    """The array that a number of a definition comes from: ps for p."""
    name += "s"
    return f"{name}_" if keyword.iskeyword(name) or name in function.__code__.co_varnames else name


words: dict[type, str] = {
    ast.Add: "plus",
    ast.Sub: "minus",
    ast.Mult: "times",
    ast.Div: "over",
    ast.Pow: "to",
}
words |= {
    ast.Gt: "above",
    ast.Lt: "below",
    ast.Eq: "is",
    ast.GtE: "from",
    ast.LtE: "up_to",
    ast.NotEq: "is_not",
}


def spoken(node: ast.expr) -> str:
    """A name for an expression, such as one_minus_beta1 for 1 - beta1; empty if it would be hard to read."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Constant(value=int(value)) if value in (0, 1, 2):
            return ("zero", "one", "two")[value]
        case ast.Constant(value=int(value)):
            return str(value)
        case ast.BinOp(left=left, op=op, right=right) | ast.Compare(left=left, ops=[op], comparators=[right]):
            parts = spoken(left), words.get(type(op), ""), spoken(right)
            name = "_".join(parts)
            return name if all(parts) and len(name) <= 24 and name.isidentifier() else ""
    return ""


@dataclass
class Lifted:
    """A rule taken apart for arrays of one dtype."""

    rule: Rule
    dtype: str
    options: tuple[str, ...]  # of `before`
    numbers: dict[str, str] = field(default_factory=dict)  # what the loop takes from `once`: its expression
    once: list[str] = field(default_factory=list)  # statements that run once per step
    carried: list[str] = field(default_factory=list)  # expressions
    loop: list[str] = field(default_factory=list)  # statements for element i

    def __post_init__(self) -> None:
        function = self.rule.function
        tree = parse(function)
        self.arrays = [plural(name, function) for name in ("p", "g", *self.rule.state)]
        if clash := reserved & {*function.__code__.co_varnames}:
            refuse(function, tree.args, f"{', '.join(sorted(clash))}: these names are taken by the loop")
        self.typed = Typed(self.dtype).within(function)
        self.taken = {
            *function.__code__.co_varnames,
            *self.typed.names,
            *self.arrays,
            "shrink",
            "weight_decay",
        }
        self.elements = {"p", "g", *self.rule.state}  # names that differ from element to element
        for statement in ast.parse(
            "\n".join(line for option in self.options for line in before[option])
        ).body:
            self.assign(statement)
        for statement in tree.body[:-1]:
            self.assign(statement)
        self.store(tree.body[-1])

    def varies(self, node: ast.AST) -> bool:
        """Whether an expression differs from element to element."""
        return any(isinstance(n, ast.Name) and n.id in self.elements for n in ast.walk(node))

    def assign(self, statement: Any) -> None:
        """Put an assignment where it belongs: into the loop or into `once`."""
        name, function = statement.targets[0].id, self.rule.function
        if self.varies(statement.value):
            if name in self.numbers or name in inspect.signature(function).parameters.keys() - self.elements:
                refuse(
                    function, statement, f"`{name}` is a number for all elements, so give this another name"
                )
            self.loop.append(f"{name} = {self.element(statement.value)}")
            self.elements.add(name)
            return
        used = {
            n.id for e in self.numbers.values() for n in ast.walk(ast.parse(e)) if isinstance(n, ast.Name)
        }
        if name in used | self.elements:
            refuse(function, statement, f"`{name}` has been used per element, so give this another name")
        self.once.append(text(statement))

    def element(self, node: ast.expr) -> str:
        """The text of an expression for element i."""
        return text(self.typed.visit(self.hoist(node)))

    def hoist(self, node: Any) -> Any:
        """Replace each largest part that does not vary by a number from `once`."""
        names = [n.id for n in ast.walk(node) if isinstance(n, ast.Name)]
        if not isinstance(node, ast.expr) or self.varies(node) or self.typed.names.keys() >= set(names):
            for key, value in ast.iter_fields(node):
                if isinstance(value, list):
                    setattr(node, key, [self.hoist(v) for v in value])
                elif isinstance(value, ast.AST):
                    setattr(node, key, self.hoist(value))
            return node
        expression = text(node)
        for name, known in self.numbers.items():
            if known == expression:
                return ast.Name(name)
        name = expression if isinstance(node, ast.Name) else spoken(node)
        if name != expression:
            free = (n for n in (name, *(f"c{k}" for k in range(1, 99))) if n and n not in self.taken)
            self.once.append(f"{(name := next(free))} = {expression}")
        self.taken.add(name)
        self.numbers[name] = expression
        return ast.Name(name)

    def store(self, statement: Any) -> None:
        """What is returned: p and state go into their arrays, carried numbers back to the caller."""
        rule, value = self.rule, statement.value
        results = value.elts if isinstance(value, ast.Tuple) else [value]
        wanted = ("p", *rule.state, *rule.carried)
        carried = results[1 + len(rule.state) :]
        if len(results) != len(wanted) or any(map(self.varies, carried)):
            refuse(rule.function, statement, f"it must return the new {', '.join(wanted)}")
        self.carried = [text(c) for c in carried]
        stores = []
        for name, result in zip(rule.state, results[1:], strict=False):
            new = self.element(result)
            if not new.isidentifier():
                self.loop.append(f"new_{name} = {new}")
                new = f"new_{name}"
            stores.append(
                f"{plural(name, rule.function)}[i] = {self.dtype}(0) if abs({new}) < tiny else {new}"
            )
        if (p := self.element(results[0])) != "p" or any(line.startswith("p =") for line in self.loop):
            stores.insert(0, f"{self.arrays[0]}[i] = {p}")
        self.loop += stores

    def once_text(self) -> str:
        """The function `once`: (t, *carried, **hyperparameters) -> numbers for the loop, carried numbers."""
        hyperparameters = dict(self.rule.hyperparameters)
        if {"l2", "decoupled"} & set(self.options):
            hyperparameters["weight_decay"] = 0.0
        parameters = [
            "t",
            *self.rule.carried,
            *(f"{name}={value!r}" for name, value in hyperparameters.items()),
        ]
        doc = '"""What is the same for every element: computed once per step, in float64."""'
        numbers = wrap("return (", list(self.numbers), ",)" if len(self.numbers) == 1 else ")")
        carried = ", ".join(self.carried) + "," * (len(self.carried) == 1)
        return define("once", parameters, [doc, *self.once, f"{numbers}, ({carried})"])

    def once_function(self) -> Callable[..., tuple[tuple, tuple]]:
        """`once` as a function, in the rule's own surroundings."""
        names = scope(self.rule.function)
        exec(compile(self.once_text(), f"<once per step of {self.rule.name}>", "exec"), names)
        return names["once"]

    def source(self, bounds: str = "start, stop", loop: str = "range(start, stop)") -> str:
        """The text of a file with `once` and the function `sweep` over a range of elements."""
        rule = self.rule
        doc = [f"The update rule `{rule.name}` over arrays of {self.dtype}."]
        if self.options:
            doc.append(f"Before it: {'; '.join(line for o in self.options for line in before[o])}.")
        doc.append(f"Written from its definition in {rule.function.__module__}:")
        doc.append(textwrap.indent(inspect.getdoc(rule) or rule.name, "    "))
        tiny = f"tiny = {self.dtype}({np.finfo(self.dtype).tiny})  # state below it is slow: zero instead"
        read = f"{', '.join(('p', 'g', *rule.state))} = {', '.join(f'{a}[i]' for a in self.arrays)}"
        body = textwrap.indent("\n".join([read, *self.loop]), "    ")
        sweep = define("sweep", [bounds, *self.arrays, *self.numbers], [f"for i in {loop}:", body])
        return file(doc, self.typed, [tiny], [self.once_text()], sweep)


def map_source(function: Elementwise, dtype: str, bounds: str, loop: str) -> str:
    """The text of a file with the function `map`: (bounds, out, one array per input, constants)."""
    typed = Typed(dtype)
    name = typed.call(function)
    arrays = [plural(x, function.function) for x in function.inputs]
    call = f"{name}({', '.join([*(f'{a}[i]' for a in arrays), *function.constants])})"
    body = define(
        "map", [bounds, "out", *arrays, *function.constants], [f"for i in {loop}:", f"    out[i] = {call}"]
    )
    return file([f"The elementwise function `{function.name}` over arrays of {dtype}."], typed, [], [], body)


def file(doc: list[str], typed: Typed, constants: list[str], before: list[str], loop: str) -> str:
    """The text of a whole file."""
    imports = [f"from math import {', '.join(sorted(typed.imports))}"] if typed.imports else []
    imports += ["from numba import cuda"] * ("cuda." in loop)
    head = ['"""' + "\n\n".join(doc) + '\n"""', *imports, f"from numpy import {typed.dtype}", *constants]
    helpers = [helper for _, helper in typed.helpers.values()]
    return "\n\n\n".join(["\n\n".join(head), *before, *helpers, loop]) + "\n"
