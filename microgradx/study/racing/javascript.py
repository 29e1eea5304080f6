"""Rules and surfaces as JavaScript, written from their definitions: a page computes what the library does.

A rule's text is its syntax tree in other words. A surface's is the program that the compiler captures of it:
height and gradient as a list of elementwise functions, of which each is translated like a rule.
"""

import ast
import json
import math
from collections.abc import Callable, Mapping

import numpy as np

from microgradx import scalars
from microgradx.codegen.ir.program import Program, Value
from microgradx.compiler import jit
from microgradx.eager.creation import tensor
from microgradx.eager.tensor import Tensor
from microgradx.errors import MicrogradxError
from microgradx.kernels.source import names, parse, refuse, scope, word
from microgradx.primitives.core import ElementwisePrimitive
from microgradx.rules import Rule
from microgradx.scalars import Elementwise
from microgradx.study.racing.surfaces import Height

SIGNS = {"Add": "+", "Sub": "-", "Mult": "*", "Div": "/", "Pow": "**", "BitAnd": "&&", "BitOr": "||"}
SIGNS |= {"And": "&&", "Or": "||", "USub": "-", "UAdd": "+", "Not": "!", "Invert": "!"}
SIGNS |= {"Gt": ">", "Lt": "<", "GtE": ">=", "LtE": "<=", "Eq": "===", "NotEq": "!=="}
MATHS = {"sqrt", "exp", "expm1", "log", "log1p", "log2", "log10", "sin", "cos", "tan", "sinh", "cosh", "tanh"}
MATHS |= {"asin", "acos", "atan", "atan2", "hypot"}
"""What JavaScript's Math has by the names of Python's math."""

ERF = """\
function erf(x) {  // 2/√π e^(-x²) Σ 2ⁿ x^(2n+1) / (1 · 3 · ... · (2n+1)), whose terms all have one sign
  if (!(Math.abs(x) < 6)) return Math.sign(x);  // NaN, or ±1 in every digit
  let term = x, total = x;
  for (let n = 1; total + term !== total; n++) total += term *= 2 * x * x / (2 * n + 1);
  return 2 / Math.sqrt(Math.PI) * Math.exp(-x * x) * total;
}
"""
"""What Math does not have, by a series: Abramowitz & Stegun (1964), 7.1.6."""

FOLLOW = """\
function follow(rule, slopes, start, lr, steps, tilts) {  // the way of a rule, and the height at every step
  let at = start, carried = Array(rule.carried).fill(0);
  const memory = start.map(() => Array(rule.state).fill(0)), path = [start], heights = [slopes(...start)[0]];
  for (let t = 1; t <= steps; t++) {
    const slope = slopes(...at).slice(1), tilt = tilts[t - 1] ?? [0, 0];
    let passed = carried;
    at = at.map((p, k) => {
      const [next, ...rest] = [rule.update(p, slope[k] + tilt[k], ...memory[k], t, ...carried, lr)].flat();
      memory[k] = rest.slice(0, rule.state);
      passed = rest.slice(rule.state);
      return next;
    });
    carried = passed;
    path.push(at);
    heights.push(slopes(...at)[0]);
  }
  return { path, heights };
}
"""


class Script:
    """A growing text of JavaScript: functions that are called are written before their callers."""

    def __init__(self) -> None:
        self.helpers: dict[Elementwise, str] = {}

    def rule(self, rule: Rule) -> str:
        """A rule, as an object: how much it remembers, and `update(p, g, ...state, t, ...carried, lr)`."""
        hyper = {"lr": rule.hyperparameters["lr"], **rule.hyperparameters}
        first = ["p", "g", *rule.state, "t", *rule.carried]
        update = self.function(rule.function, first, hyper)
        return f"{{ state: {len(rule.state)}, carried: {len(rule.carried)}, update: {update} }}"

    def surface(self, height: Height) -> str:
        """A function from x and y to height, slope along x, slope along y."""

        def slopes(x: np.ndarray, y: np.ndarray) -> tuple[Tensor | None, ...]:
            a, b = tensor(x, requires_grad=True), tensor(y, requires_grad=True)
            z = height(a, b)
            z.sum().backward()
            return z.detach(), a.grad, b.grad

        points = [np.array([0.3]), np.array([0.4])]
        return self.program(jit(slopes).captured(*points).program)

    def program(self, program: Program) -> str:
        """A captured program of elementwise functions of one number each."""
        known = {argument: argument.name for argument in program.arguments}
        lines = []
        for i in program.instructions:
            inputs = [known[x] if isinstance(x, Value) else number(x) for x in i.inputs]
            if isinstance(i.op, ElementwisePrimitive):
                callee = i.op.elementwise
                constants = map(number, (callee.constants | i.params).values())
                value = f"{self.call(callee)}({', '.join([*inputs, *constants])})"
            elif i.op.name in {"cast", "sum", "reshape", "expand"}:  # of one number: the number
                value = inputs[0]
            else:
                raise MicrogradxError(f"{i.op.name} is no function of a single number.")
            known[i.out] = f"v{len(known)}"
            lines.append(f"const {known[i.out]} = {value};")
        outputs = ", ".join(known[x] for x in program.outputs)
        return f"(x, y) => {{ {' '.join(lines)} return [{outputs}]; }}"

    def call(self, callee: Elementwise) -> str:
        """The name of an elementwise function, after its text is among the helpers."""
        name = f"mg_{word(callee)}"
        if callee not in self.helpers:
            text = self.function(callee.function, callee.inputs, callee.constants)
            self.helpers[callee] = f"const {name} = {text};"
        return name

    def function(
        self, function: Callable[..., object], inputs: list[str], constants: Mapping[str, float]
    ) -> str:
        """A definition on plain numbers as an arrow function."""
        assignments, last = parse(function)
        parameters = [
            *(f"_{name}" for name in inputs),
            *(f"_{k} = {number(v)}" for k, v in constants.items()),
        ]
        assert last.value is not None
        say = Saying(self, function)
        lines = [f"var _{ast.unparse(s.targets[0])} = {say(s.value)};" for s in assignments]
        return f"({', '.join(parameters)}) => {{ {' '.join([*lines, f'return {say(last.value)};'])} }}"

    def __str__(self) -> str:
        text = "\n".join([*self.helpers.values(), FOLLOW])
        return ERF * ("erf(" in text) + text


class Saying:
    """Expressions of one function, said in JavaScript."""

    def __init__(self, script: Script, function: Callable[..., object]):
        self.script, self.function = script, function
        self.outside = {k: v for k, v in scope(function).items() if k not in function.__code__.co_varnames}

    def __call__(self, node: ast.AST) -> str:
        """An expression; what is made of numbers alone is computed here."""
        used = [self.outside.get(name) for name in names(node)]
        alone = isinstance(node, ast.expr) and all(x is math or type(x) in (int, float) for x in used)
        value = eval(ast.unparse(node), self.outside) if alone else None
        if isinstance(value, int | float):
            return number(value)
        match node:
            case ast.Name(id=name) if name not in self.outside:
                return f"_{name}"
            case ast.BinOp(left, op, right) if sign := SIGNS.get(type(op).__name__):
                return f"({self(left)} {sign} {self(right)})"
            case ast.BoolOp(op, values):
                return f"({f' {SIGNS[type(op).__name__]} '.join(map(self, values))})"
            case ast.UnaryOp(op, operand):
                return f"({SIGNS[type(op).__name__]}{self(operand)})"
            case ast.Compare(left, [op], [right]) if sign := SIGNS.get(type(op).__name__):
                return f"({self(left)} {sign} {self(right)})"
            case ast.IfExp(test, yes, no):
                return f"({self(test)} ? {self(yes)} : {self(no)})"
            case ast.Tuple(elements):
                return f"[{', '.join(map(self, elements))}]"
            case ast.Call():
                return self.call(node)
        return refuse(self.function, node, "JavaScript has no words for it here")

    def call(self, node: ast.Call) -> str:
        """A call of an elementwise function, of math, or of abs, max and min."""
        name, args = ast.unparse(node.func), [self(arg) for arg in node.args]
        room, _, member = name.rpartition(".")
        callee = getattr(self.outside.get(room), member, None) if room else self.outside.get(name)
        if isinstance(callee, Elementwise):
            if callee is scalars.where:
                return f"({args[0]} ? {args[1]} : {args[2]})"
            given = {k.arg: self(k.value) for k in node.keywords}
            rest = list(callee.constants)[max(0, len(args) - len(callee.inputs)) :]
            more = [given.get(constant, "undefined") for constant in rest]
            return f"{self.script.call(callee)}({', '.join([*args, *more])})"
        if callee is math.erf:
            return f"erf({args[0]})"
        if callee in (abs, max, min) or (callee is getattr(math, member, None) and member in MATHS):
            return f"Math.{member}({', '.join(args)})"
        return refuse(self.function, node, "JavaScript's Math has no such function")


def number(value: float) -> str:
    """A number, with all of its digits."""
    value = float(value)
    if math.isfinite(value):
        return json.dumps(value)
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "(-Infinity)"
