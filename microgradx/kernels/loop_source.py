"""From a definition on plain numbers to the text of a loop over arrays.

`RuleLoop` takes a rule's syntax tree apart. What depends on no element becomes a function `once`, run in
float64 once per step; the rest becomes the body of the loop, with the rule's own names.
"""

import ast
import inspect
import keyword
import textwrap
from collections.abc import Callable

import numpy as np

from microgradx.kernels.source import Typed, assigned, define, names, parse, quoted, refuse, scope, text, wrap
from microgradx.rules import Rule

before = {
    "maximize": "g = -g",
    "l2": "g = g + weight_decay * p",
    "decoupled": "kept = 1 - lr * weight_decay; p = p * kept",
}
"""What may come before a rule, in the rules' own language."""

reserved = {"start", "stop", "count", "i", "tiny", "once", "sweep", "cuda", "float32", "float64"}
"""Names of the loop around a rule."""

words = {"Add": "plus", "Sub": "minus", "Mult": "times", "Div": "over", "Pow": "to"}
words |= {"Gt": "above", "Lt": "below", "Eq": "is", "GtE": "from", "LtE": "up_to", "NotEq": "is_not"}


Once = Callable[..., tuple[tuple[float, ...], tuple[float, ...]]]
"""(t, *carried, **hyperparameters) -> the numbers of a loop, and the new carried numbers."""


def spoken(node: ast.expr) -> str:
    """A name for an expression, such as one_minus_beta1 for 1 - beta1; empty if it would be hard to read."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Constant(value=int(value)):
            return {0: "zero", 1: "one", 2: "two"}.get(value, str(value))
        case ast.BinOp(left=left, op=op, right=right) | ast.Compare(left=left, ops=[op], comparators=[right]):
            parts = spoken(left), words.get(type(op).__name__, ""), spoken(right)
            name = "_".join(parts)
            return name if all(parts) and len(name) <= 24 and name.isidentifier() else ""
    return ""


def plural(name: str, own: set[str]) -> str:
    """The array that a number of a definition comes from: ps for p."""
    name += "s"
    return f"{name}_" if keyword.iskeyword(name) or name in own else name


class RuleLoop(Typed):
    """A rule taken apart for arrays of one dtype."""

    def __init__(self, rule: Rule, dtype: str, options: tuple[str, ...], suffix: str = ""):
        super().__init__(rule.function, dtype, suffix)
        self.rule, self.before = rule, "; ".join(before[option] for option in options)
        self.numbers: dict[str, str] = {}  # expressions that the loop takes from `once`, with their names
        self.once: list[str] = []  # statements that run once per step
        self.loop: list[str] = []  # statements for element i
        self.read: set[str] = set()  # names in self.numbers
        self.elements = {"p", "g", *rule.state}  # names that differ from element to element
        self.arrays = [plural(name, self.own) for name in ("p", "g", *rule.state)]
        assignments, last = parse(self.function)
        if clash := sorted(reserved & self.own):
            refuse(self.function, last, f"{', '.join(clash)}: these names are taken by the loop")
        self.taken = {*self.own, *self.outside, *self.arrays, "kept", "weight_decay"}
        for statement in [*assigned(self.before), *assignments]:
            self.assign(statement)
        self.carried = self.store(last)

    def assign(self, statement: ast.Assign) -> None:
        """Put an assignment where it belongs: into the loop or into `once`."""
        name, value = text(statement.targets[0]), statement.value
        if names(value) & self.elements:
            if name in {"t", *self.rule.carried, *self.rule.hyperparameters, *self.numbers}:
                refuse(self.function, statement, f"`{name}` is the same for all elements: rename this")
            self.loop.append(f"{name} = {text(self.visit(value))}")
            self.elements.add(name)
            return
        if name in self.elements | self.read:
            refuse(self.function, statement, f"`{name}` has been used per element: rename this")
        self.once.append(text(statement))

    def visit(self, node: ast.AST) -> ast.AST:
        """Replace each largest part that does not vary by a number from `once`."""
        used = names(node)
        if not isinstance(node, ast.expr) or used & self.elements or used <= self.outside.keys():
            return super().visit(node)
        self.read |= used
        expression, name = text(node), spoken(node)
        if expression not in self.numbers:
            if name != expression:
                free = (n for n in (name, *(f"c{k}" for k in range(1, 99))) if n and n not in self.taken)
                self.once.append(f"{(name := next(free))} = {expression}")
            self.taken.add(name)
            self.numbers[expression] = name
        return ast.Name(self.numbers[expression])

    def store(self, statement: ast.Return) -> list[str]:
        """Put p and state into their arrays; what is returned beyond them: carried numbers, for `once`."""
        rule, value = self.rule, statement.value or ast.Constant(None)
        results = value.elts if isinstance(value, ast.Tuple) else [value]
        wanted = ("p", *rule.state, *rule.carried)
        carried = results[1 + len(rule.state) :]
        if len(results) != len(wanted) or any(names(c) & self.elements for c in carried):
            refuse(self.function, statement, f"it must return the new {', '.join(wanted)}")
        stores = []
        for name, array, result in zip(rule.state, self.arrays[2:], results[1:], strict=False):
            new = text(self.visit(result))
            if not new.isidentifier():
                self.loop.append(f"new_{name} = {new}")
                new = f"new_{name}"
            stores.append(f"{array}[i] = {self.dtype}(0) if abs({new}) < tiny{self.suffix} else {new}")
        if (p := text(self.visit(results[0]))) != "p" or any(line.startswith("p =") for line in self.loop):
            stores.insert(0, f"{self.arrays[0]}[i] = {p}")
        self.loop += stores
        return [text(c) for c in carried]

    def once_text(self) -> str:
        """The function `once`: (t, *carried, **hyperparameters) -> numbers for the loop, carried numbers."""
        decay = {"weight_decay": 0.0} if "weight_decay" in self.before else {}
        defaults = (f"{name}={value!r}" for name, value in (self.rule.hyperparameters | decay).items())
        numbers = wrap("return (", list(self.numbers.values()), ",)" if len(self.numbers) == 1 else ")")
        carried = ", ".join(self.carried) + "," * (len(self.carried) == 1)
        doc = '"""What is the same for every element: computed once per step, in float64."""'
        lines = [doc, *self.once, f"{numbers}, ({carried})"]
        return define("once", ["t", *self.rule.carried, *defaults], lines)

    def once_function(self) -> Once:
        """`once` as a function, in the rule's own surroundings."""
        known = scope(self.function)
        exec(compile(self.once_text(), f"<once per step of {self.rule.name}>", "exec"), known)
        return known["once"]

    def source(self, bounds: str = "start, stop", loop: str = "range(start, stop)") -> str:
        """The text of a file with `once` and the function `sweep` over a range of elements."""
        rule = self.rule
        doc = [f"The update rule `{rule.name}` over arrays of {self.dtype}."]
        doc += [f"Before it: {self.before}."] * bool(self.before)
        doc.append(f"Written from its definition in {rule.function.__module__}:")
        doc.append(textwrap.indent(inspect.getdoc(rule) or rule.name, "    "))
        return file(doc, self, [smallest(self)], [self.once_text()], self.loop_text("sweep", bounds, loop))

    def loop_text(self, name: str, bounds: str, loop: str, table: str = "") -> str:
        """The text of the loop alone, as a function of that name; it needs `tiny`, imports and helpers.

        The numbers are parameters; with a `table` of "step, first" they are numbers[step, first] and on.
        """
        read = f"{', '.join(('p', 'g', *self.rule.state))} = {', '.join(f'{a}[i]' for a in self.arrays)}"
        body = textwrap.indent("\n".join([read, *self.loop]), "    ")
        parameters, lines = [bounds, *self.arrays], [f"for i in {loop}:", body]
        if not table or not self.numbers:
            return define(name, [*parameters, *self.numbers.values()], lines)
        found = (f"{n} = {self.dtype}(numbers[{table} + {k}])" for k, n in enumerate(self.numbers.values()))
        return define(name, [*parameters, "numbers", table], [*found, *lines])


def smallest(typed: Typed) -> str:
    """The line with the number that `store` compares state with."""
    number = f"{typed.dtype}({np.finfo(typed.dtype).tiny})"
    return f"tiny{typed.suffix} = {number}  # state below it is slow: zero instead"


def file(doc: list[str], typed: Typed, constants: list[str], before: list[str], loop: str) -> str:
    """The text of a whole file."""
    imports = [f"from math import {', '.join(sorted(typed.imports))}"] if typed.imports else []
    imports += ["from numba import cuda"] * ("cuda." in loop)
    head = [quoted("\n\n".join(doc) + "\n"), *imports, f"from numpy import {typed.dtype}", *constants]
    return "\n\n\n".join(["\n\n".join(head), *before, *typed.helpers.values(), loop]) + "\n"
