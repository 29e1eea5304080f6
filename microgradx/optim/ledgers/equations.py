"""An update rule as the lines of its own definition: evaluated with numbers, written as in its paper.

`equation(rule)` takes the rule's syntax tree apart. The lines are plain Python: with NumPy float32 they give
the bits of the compiled sweep. `written` turns an expression into m̂ / (√v̂ + ε), of names or of numbers.
"""

import ast
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import CodeType
from typing import cast

import numpy as np

from microgradx.kernels.free_variables import FreeVariables
from microgradx.kernels.loop_source import before
from microgradx.kernels.source import assigned, names, parse, scope
from microgradx.rules import Rule

greek = "alpha α beta β gamma γ delta δ epsilon ε eps ε eta η lambd λ mu μ rho ρ weight_decay λ momentum μ"
letters = dict(zip(greek.split()[::2], greek.split()[1::2], strict=True))
"""Names that papers write as one letter."""

HAT = "\N{COMBINING CIRCUMFLEX ACCENT}"
low, high = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"), str.maketrans("0123456789t-", "⁰¹²³⁴⁵⁶⁷⁸⁹ᵗ⁻")
signs = {"Add": "+", "Sub": "-", "Mod": "%", "BitAnd": "and", "BitOr": "or"}
signs |= {"Gt": ">", "Lt": "<", "GtE": "≥", "LtE": "≤", "Eq": "=", "NotEq": "≠"}
spoken = {"maximum": "max", "minimum": "min"}

Value = float | np.floating | np.ndarray
"""Of a line: a number, or one for each of many."""

Values = Mapping[str, Value]
Traced = tuple["Line", Values, Value]
"""A line, what its names stood for, and what came out."""

CHOICE, COMPARE, SUM, PRODUCT, MINUS, ATOM = range(6)
"""How strongly an expression holds together: what is weaker than its place asks for gets brackets."""


@dataclass(frozen=True)
class Line:
    """`name ← expression`."""

    name: str
    expression: ast.expr
    code: CodeType


def line(name: str, expression: ast.expr) -> Line:
    """A line, ready to be evaluated."""
    tree = ast.fix_missing_locations(ast.Expression(expression))
    return Line(name, expression, compile(tree, f"<{name}>", "eval"))


class Equation:
    """A rule and what comes before it ("maximize", "l2", "decoupled"), line by line.

    `lines` are the assignments, `results` what is returned: the new p, the state, the carried numbers.
    The last line for p is read as p - rate · direction: the direction is its first factor that differs from
    number to number, the rate all other factors. Both are None where the line has another form.
    """

    def __init__(self, rule: Rule, options: tuple[str, ...] = (), outside: FreeVariables | None = None):
        self.rule, self.outside = rule, scope(rule.function) | (outside.names if outside else {})
        assignments, last = parse(rule.function)
        first = assigned("; ".join(before[option] for option in options))
        values = last.value.elts if isinstance(last.value, ast.Tuple) else [cast(ast.expr, last.value)]
        self.lines: list[Line] = []
        self.elements = {"p", "g", *rule.state}
        hats = Hats(self)
        for statement in [*first, *assignments]:
            name, value = ast.unparse(statement.targets[0]), hats.inside(statement.value)
            self.lines.append(line(name, value))
            self.elements |= {name} if names(value) & self.elements else set()
        targets = ("p", *rule.state, *rule.carried)
        self.results = [line(n, hats.inside(v)) for n, v in zip(targets, values, strict=True)]
        self.rate, self.direction = self.split()

    def split(self) -> tuple[Line | None, Line | None]:
        """The rate and the direction in the last line for p."""
        value = self.results[0].expression
        if isinstance(value, ast.Name):
            value = next((x.expression for x in reversed(self.lines) if x.name == value.id), value)
        match value:
            case ast.BinOp(kept, ast.Sub(), step) if "p" in names(kept):
                over, under = factors(step)
                moving = [x for x in over if names(x) & self.elements]
                if moving and len(over) + len(under) > 1:
                    over.remove(moving[0])
                    over = over or [ast.Constant(1)]
                    rate = functools.reduce(lambda a, b: ast.BinOp(a, ast.Mult(), b), over)
                    rate = functools.reduce(lambda a, b: ast.BinOp(a, ast.Div(), b), under, rate)
                    return line("effective lr", rate), line("direction", moving[0])
        return None, None

    def evaluate(self, values: Values) -> list[Traced]:
        """Every line, what its names stood for, and its value; then the results, the rate and the direction.

        values: all of the rule's parameters, numbers or arrays.
        """
        known, trace = dict(values), list[Traced]()
        for one in self.lines:
            value = eval(one.code, self.outside, known)
            trace.append((one, dict(known), value))
            known[one.name] = value
        ends = [*self.results, *(x for x in (self.rate, self.direction) if x)]
        return trace + [(one, known, eval(one.code, self.outside, known)) for one in ends]

    @functools.cached_property
    def symbols(self) -> dict[str, str]:
        """The rule's names as papers write them; no two alike."""
        found: dict[str, str] = {}
        for name in [*self.rule.function.__code__.co_varnames, "weight_decay", *sorted(self.elements)]:
            stem, hat, _ = name.partition("_hat")
            body = stem.rstrip("0123456789")
            short = letters.get(body, body) + stem[len(body) :].translate(low)
            short = short[0] + HAT + short[1:] if hat else short
            if name not in found:
                found[name] = name if short in found.values() else short
        return found

    def symbol(self, name: str) -> str:
        """A name as papers write it."""
        return self.symbols.get(name, name)


class Hats(ast.NodeTransformer):
    """Gives each m / (1 - β₁ᵗ) inside a longer expression a line of its own: m̂."""

    def __init__(self, equation: Equation):
        self.equation, self.own = equation, equation.rule.function.__code__.co_varnames

    def inside(self, node: ast.expr) -> ast.expr:
        """The same for the parts of an expression: a quotient that has a line of its own stays."""
        return cast(ast.expr, self.generic_visit(node))

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        """The name of the new line, if this is such a quotient."""
        match node:
            case ast.BinOp(ast.Name(name), ast.Div(), ast.BinOp(_, ast.Sub(), ast.BinOp(_, ast.Pow(), _))):
                hat = f"{name}_hat"
                if name in self.equation.elements and hat not in self.own:
                    self.equation.lines.append(line(hat, node))
                    self.equation.elements.add(hat)
                    return ast.Name(hat, ast.Load())
        self.generic_visit(node)
        return node


equation = functools.cache(Equation)
"""The equation of a rule with its options, taken apart once."""


def factors(node: ast.expr) -> tuple[list[ast.expr], list[ast.expr]]:
    """The factors of a product above and below the line."""
    match node:
        case ast.BinOp(left, ast.Mult(), right):
            (a, b), (c, d) = factors(left), factors(right)
            return a + c, b + d
        case ast.BinOp(left, ast.Div(), right):
            above, below = factors(left)
            return above, [*below, right]
    return [node], []


def number(x: Value) -> str:
    """Six digits of a number."""
    return str(x) if isinstance(x, bool) else f"{float(x):.6g}"


def written(node: ast.expr, name: Callable[[str], str]) -> str:
    """An expression as a paper has it; `name` says how to write a name: as a symbol, or as its number."""

    def at(node: ast.expr, least: int) -> str:
        """The text of a part that stands where at least so strong an expression is needed."""
        text, strength = show(node)
        return text if strength >= least else f"({text})"

    def behind(node: ast.expr, least: int) -> str:
        """The same behind an operator, where a negative number needs brackets, too."""
        text = at(node, least)
        return f"({text})" if text.startswith("-") else text

    def show(node: ast.expr) -> tuple[str, int]:
        """The text of an expression, and how strongly it holds together."""
        match node:
            case ast.Name(id=key):
                text = name(key)
                return text, MINUS if text.startswith("-") else ATOM
            case ast.Constant(value=int() | float() as value):
                return number(value), ATOM
            case ast.UnaryOp(ast.USub(), operand):
                return f"-{behind(operand, MINUS)}", MINUS
            case ast.BinOp(left, ast.Pow(), right):
                exponent = at(right, ATOM)
                small = exponent.isdigit() or exponent == "t"
                return at(left, ATOM) + (exponent.translate(high) if small else f"^{exponent}"), ATOM
            case ast.BinOp(_, ast.Mult(), _):
                return product(chain(node)), PRODUCT
            case ast.BinOp(left, ast.Div(), right):
                return f"{at(left, PRODUCT)} / {at(right, ATOM)}", PRODUCT
            case ast.BinOp(left, op, right):
                return f"{at(left, SUM)} {signs[type(op).__name__]} {behind(right, PRODUCT)}", SUM
            case ast.Compare(left, ops, comparators):
                rest = zip(ops, comparators, strict=True)
                texts = [f" {signs[type(op).__name__]} {at(right, SUM)}" for op, right in rest]
                return at(left, SUM) + "".join(texts), COMPARE
            case ast.IfExp(test, body, otherwise):
                return f"{at(body, COMPARE)} if {at(test, COMPARE)} else {at(otherwise, CHOICE)}", CHOICE
            case ast.Call(function, args, keywords):
                called = ast.unparse(function).rpartition(".")[2]
                if called == "where":
                    return show(ast.IfExp(*args))
                if called == "sqrt":
                    return f"√{at(args[0], ATOM)}", ATOM
                if called in ("abs", "absolute"):
                    return f"|{at(args[0], CHOICE)}|", ATOM
                given = [at(x, CHOICE) for x in args] + [f"{k.arg}={at(k.value, CHOICE)}" for k in keywords]
                return f"{spoken.get(called, called)}({', '.join(given)})", ATOM
        return ast.unparse(node), CHOICE

    def product(parts: list[ast.expr]) -> str:
        """Factors; the same one twice in a row is its square."""
        texts: list[str] = []
        while parts:
            first, *parts = parts
            if parts and ast.dump(first) == ast.dump(parts[0]):
                texts.append(f"{at(first, ATOM)}²")
                parts = parts[1:]
            else:
                texts.append(behind(first, ATOM) if texts else at(first, PRODUCT))
        return " · ".join(texts)

    return at(node, CHOICE)


def chain(node: ast.expr) -> list[ast.expr]:
    """The factors of a · b · c, which Python reads as (a · b) · c."""
    match node:
        case ast.BinOp(left, ast.Mult(), right):
            return [*chain(left), right]
    return [node]
