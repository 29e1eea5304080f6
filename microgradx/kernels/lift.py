"""From a definition on plain numbers to the text of a loop over arrays.

`Lifted` takes a rule's syntax tree apart. What depends on no element becomes a function `once`, run in
float64 once per step; the rest becomes the body of the loop, with the rule's own names.
"""

import ast
import inspect
import keyword
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from microgradx.kernels.typed import Typed, define, parse, quoted, refuse, scope, text, wrap
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
        own = {*function.__code__.co_varnames, "shrink", "weight_decay"}
        self.taken = {*own, *self.typed.names, *self.arrays}
        self.elements = {"p", "g", *self.rule.state}  # names that differ from element to element
        first = "\n".join(line for option in self.options for line in before[option])
        for statement in [*ast.parse(first).body, *tree.body[:-1]]:
            self.assign(statement)
        self.store(tree.body[-1])

    def varies(self, node: ast.AST) -> bool:
        """Whether an expression differs from element to element."""
        return any(isinstance(n, ast.Name) and n.id in self.elements for n in ast.walk(node))

    def assign(self, statement: Any) -> None:
        """Put an assignment where it belongs: into the loop or into `once`."""
        name, function = statement.targets[0].id, self.rule.function
        if self.varies(statement.value):
            if name in self.numbers.keys() | inspect.signature(function).parameters.keys() - self.elements:
                refuse(function, statement, f"`{name}` is the same for all elements: give this another name")
            self.loop.append(f"{name} = {self.element(statement.value)}")
            self.elements.add(name)
            return
        nodes = (node for expression in self.numbers.values() for node in ast.walk(ast.parse(expression)))
        if name in self.elements | {node.id for node in nodes if isinstance(node, ast.Name)}:
            refuse(function, statement, f"`{name}` has been used per element: give this another name")
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
            array = plural(name, rule.function)
            stores.append(f"{array}[i] = {self.dtype}(0) if abs({new}) < tiny else {new}")
        if (p := self.element(results[0])) != "p" or any(line.startswith("p =") for line in self.loop):
            stores.insert(0, f"{self.arrays[0]}[i] = {p}")
        self.loop += stores

    def once_text(self) -> str:
        """The function `once`: (t, *carried, **hyperparameters) -> numbers for the loop, carried numbers."""
        decays = {"weight_decay": 0.0} if {"l2", "decoupled"} & set(self.options) else {}
        defaults = (f"{name}={value!r}" for name, value in (self.rule.hyperparameters | decays).items())
        parameters = ["t", *self.rule.carried, *defaults]
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
    head = [quoted("\n\n".join(doc) + "\n"), *imports, f"from numpy import {typed.dtype}", *constants]
    helpers = [helper for _, helper in typed.helpers.values()]
    return "\n\n\n".join(["\n\n".join(head), *before, *helpers, loop]) + "\n"
