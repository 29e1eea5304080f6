"""Drawing random programs over everything that the public interface offers.

Every elementwise function, array operation, layer and loss of the tables is a rule; a new one joins by itself
where its parameters have known names, or by its cases. Choices come from NumPy or from Hypothesis.
"""

import inspect
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np

import microgradx as mg
from bench import shaping
from bench.programs import BETWEEN, ENDINGS, INNER, Program, World
from microgradx import nn, optim, primitives, scalars
from microgradx.codegen.printers.repeats import renamed, words

LARGEST = 150
"""Elements of a value: emitted files are also run by Python."""

TRIES = 4
"""How often per line something is drawn that may not fit."""


class Choice(Protocol):
    """Where choices come from."""

    def integer(self, low: int, high: int) -> int:
        """A number from low to high, both included."""


@dataclass
class Seeded:
    """Choices from NumPy's generator."""

    rng: np.random.Generator

    def integer(self, low: int, high: int) -> int:
        """A number from low to high, both included."""
        return int(self.rng.integers(low, high + 1))


class Builder:
    """A program while it is drawn: its lines, and the values that they have so far."""

    def __init__(self, choice: Choice):
        self.choice = choice
        self.setup: list[str] = []
        self.body: list[str] = []
        self.values: dict[str, mg.Tensor] = {}
        self.drawn: list[str] = []
        self.world = World(Program([], []))
        self.count = 0
        self.dtype = self.pick(["float64", "float64", "float64", "float32", "mixed"])
        self.kind = self.pick([""] * 17 + ["ties", "ties", "odd"])
        self.sizes = [self.pick([1, 2, 3, 4, 5, 2, 3, 4, 0, 17]) for _ in range(3)]
        self.rows = self.pick(
            [0] * 12 + [1, 2, 3, 4, 5, 5, 4, 70]
        )  # of all arguments, in programs that can scan
        self.base = tuple(self.pick([*self.sizes, 1]) for _ in range(self.pick([2, 3, 1, 2, 3, 4, 0])))

    # Choices

    def integer(self, low: int, high: int) -> int:
        """A number from low to high, both included."""
        return self.choice.integer(low, high)

    def pick(self, choices) -> Any:
        """One of these."""
        choices = list(choices)
        return choices[self.integer(0, len(choices) - 1)]

    def chance(self, probability: float) -> bool:
        """True so often; False is the simpler choice."""
        return self.integer(0, 99) >= 100 * (1 - probability)

    def number(self) -> float:
        """A number that stands for itself in a program."""
        return self.pick([1, 2, -1, 0.5, 2.5, -1.5, 0, 3])

    # Values

    def fresh(self) -> str:
        """A name that no value has."""
        self.count += 1
        return f"v{self.count - 1}"

    def shape(self) -> tuple[int, ...]:
        """The program's own shape, or one that mostly broadcasts against it; none that is too large."""
        shape = self.some_shape()
        while math.prod(shape) > LARGEST:
            shape = shape[1:]
        return shape

    def some_shape(self) -> tuple[int, ...]:
        """A shape of any size."""
        if self.chance(0.25):
            return tuple(self.pick([*self.sizes, 1]) for _ in range(self.integer(0, 4)))
        if self.rows and self.chance(0.5):
            return (self.rows, *self.pick([self.base[:2], self.base[-1:], ()]))
        shape = self.base[self.integer(0, len(self.base)) if self.chance(0.3) else 0 :]
        return tuple(1 if self.chance(0.25) else n for n in shape)

    def input(self, shape: tuple, kind: str = "", dtype: str = "", high: int = 0) -> str:
        """A new tensor to start from: a leaf, an argument of the step, or a fixed one."""
        if math.prod(shape) > 3 * LARGEST:
            self.refuse()
        kind = kind or self.pick(["leaf", "leaf", "leaf", "leaf", "argument", "argument", "fixed"])
        if self.rows and kind == "argument" and shape[:1] != (self.rows,):
            kind = "fixed"
        dtype = dtype or (self.pick(["float32", "float64"]) if self.dtype == "mixed" else self.dtype)
        options = [*map(str, shape)]
        options += [f'dtype="{dtype}"'] * (dtype != "float64") + [f"high={high}"] * (high > 0)
        options += [f'kind="{self.kind}"'] * (self.kind != "" and dtype[0] == "f")
        return self.start(f"{kind}({', '.join(options)})")

    def start(self, text: str, name: str = "") -> str:
        """A new line of the setup, and the name of what it makes."""
        name = name or self.fresh()
        line = f"{name} = {text}"
        self.setup.append(line)
        self.world.names[name] = made = self.world.make(line, 0)
        if isinstance(made, mg.Tensor):
            self.values[name] = made
        return name

    def having(self, fits: Callable[[mg.Tensor], bool]) -> list[str]:
        """The names of the values that fit, the latest first."""
        return [name for name, t in reversed(self.values.items()) if fits(t)]

    def value(self, fits: Callable[[mg.Tensor], bool] = lambda t: True, kinds: str = "f") -> str:
        """The name of a value that fits, rather one of the latest; a new input where there is none."""
        found = self.having(lambda t: t.dtype.kind in kinds and fits(t))
        if not found:
            name = self.input(self.shape(), dtype="" if "f" in kinds else {"b": "bool"}.get(kinds, "int64"))
            return name if fits(self.values[name]) else self.refuse()
        return found[self.integer(0, min(len(found), 4) - 1)] if self.chance(0.7) else self.pick(found)

    def of_shape(self, shape: tuple, kinds: str = "f") -> str:
        """A value of this very shape."""
        found = self.having(lambda t: t.shape == tuple(shape) and t.dtype.kind in kinds)
        return self.pick(found) if found and self.chance(0.7) else self.input(tuple(shape))

    def refuse(self) -> Any:
        """Give up what is being drawn."""
        raise Unfit

    def __getitem__(self, name: str) -> mg.Tensor:
        return self.values[name]

    # Lines

    def add(self, rule: str, text: str) -> bool:
        """A new line, if it runs and its value is neither large nor far out."""
        name = self.fresh()
        line = f"{name} = {text}"
        with np.errstate(all="ignore"):
            result = eval(text, self.world.names)
        if not isinstance(result, mg.Tensor) or result.size > LARGEST:
            return False
        if result.dtype.kind == "f" and not (self.kind == "odd" or (np.abs(result.data) < 100).all()):
            return False
        self.values[name] = self.world.names[name] = result
        self.body.append(line)
        self.drawn.append(rule)
        return True

    def extend(self) -> None:
        """One more line, if one of a few draws fits."""
        for _ in range(TRIES):
            name = self.pick(DECK)
            started = len(self.setup)
            try:
                if self.add(name, RULES[name](self)):
                    return
            except Exception:  # it does not fit: the eager library says so, in many ways
                pass
            for line in self.setup[started:]:
                self.values.pop(line.split(" = ")[0], None)
                del self.world.names[line.split(" = ")[0]]
            del self.setup[started:]

    def repeat(self) -> None:
        """The last lines a few times more, as layers do: for what came of them, with leaves of their own."""
        count = self.integer(1, min(3, len(self.body)))
        lines, drawn = self.body[-count:], self.drawn[-count:]
        made = [line.partition(" = ")[0] for line in lines]
        read = {*words(lines)} & {*self.values} - {*made}
        out = last = made[-1]
        alike = [name for name in sorted(read) if looks(self[name]) == looks(self[out])]
        own = [name for name in sorted(read) if self[name].is_leaf and self[name].requires_grad]
        own = [name for name in own if self.chance(0.5)]
        for _ in range(self.integer(2, 4)):
            names = {name: self.input(self[name].shape, "leaf", self[name].dtype.name) for name in own}
            names |= dict.fromkeys(alike[:1], last)
            for rule, name, line in zip(drawn, made, lines, strict=True):
                [text] = renamed([line.partition(" = ")[2]], names)
                try:
                    fits = self.add(rule, text)
                except Exception:  # an index, of another shape
                    fits = False
                if not fits:
                    return
                names[name] = last = f"v{self.count - 1}"


def looks(t: mg.Tensor) -> tuple[object, ...]:
    """What a value must have in common with another that stands for it."""
    return t.shape, t.dtype, t.requires_grad


class Unfit(Exception):
    """What is being drawn does not go together."""


# Rules: each gives the text of an expression

OPERATORS = {
    "add": "{} + {}", "subtract": "{} - {}", "multiply": "{} * {}", "divide": "{} / {}", "power": "{} ** {}",
    "less": "{} < {}", "less_equal": "{} <= {}", "greater": "{} > {}", "greater_equal": "{} >= {}",
    "equal": "{} == {}", "not_equal": "{} != {}", "logical_and": "{} & {}", "logical_or": "{} | {}",
    "logical_not": "~{}", "negative": "-{}", "absolute": "abs({})",
}  # fmt: skip
"""How functions are written that have an operator."""

PUBLIC = {f: name for name, f in vars(mg).items() if callable(f) and getattr(f, "__hash__", None)}


def call(b: Builder, name: str, function: Any, arrays: list[str], rest: list[str]) -> str:
    """A call by the public name, or as a method of its first array."""
    method = arrays[0] in b.values and hasattr(mg.Tensor, name)
    if method and (function not in PUBLIC or b.chance(0.3)):
        return f"{arrays[0]}.{name}({', '.join(arrays[1:] + rest)})"
    return f"mg.{PUBLIC.get(function, name)}({', '.join(arrays + rest)})"


def within(b: Builder, text: str, interval: tuple[float, float]) -> str:
    """An expression with values in the interval where a function is defined."""
    low, high = interval
    if low == -high:
        return text if high >= 3 else f"mg.tanh({text})"
    return f"abs({text}) + {max(low, 0.1)}" if b.chance(0.8) else f"1 + 0.9 * mg.tanh({text})"


def beside(b: Builder, name: str, kinds: str) -> str:
    """What an operation takes beside a value: one that broadcasts against it, itself, or a number."""
    way = b.integer(0, 9)
    if way == 9 or (way > 7 and kinds == "b"):
        return name
    if way >= 7:
        return str(b.number())
    return b.value(lambda t: shaping.broadcast(t.shape, b[name].shape), kinds)


def condition(b: Builder, name: str) -> str:
    """Booleans that broadcast against a value."""
    found = b.having(lambda t: t.dtype.kind == "b" and shaping.broadcast(t.shape, b[name].shape))
    if found and b.chance(0.5):
        return b.pick(found)
    other = beside(b, name, "f")
    return f"({b.value(lambda t: t.shape == b[name].shape)} {b.pick(['>', '<=', '>=', '=='])} {other})"


def elementwise(function: Any, b: Builder) -> str:
    """A call of an elementwise function of numbers that may meet."""
    name, count = function.name, len(function.inputs)
    if name.startswith("logical"):
        inputs = [b.value(kinds="b") if b.having(lambda t: t.dtype.kind == "b") else ""]
        inputs = [inputs[0] or f"({b.value()} > {b.number()})"]
        first = next((n for n in b.values if n in inputs[0]), "")
        inputs += [condition(b, first) for _ in range(count - 1)]
    else:
        kinds = "fib" if name in OPERATORS and name != "power" and b.chance(0.2) else "f"
        first = b.value(kinds=kinds)
        inputs = [first, *(beside(b, first, kinds) for _ in range(count - 1))]
        if function.inputs[0] == "condition":
            inputs = [condition(b, first), *inputs[:-1]]
            inputs = inputs[:1] + (inputs[1:][::-1] if b.chance(0.5) else inputs[1:])
        elif count == 2 and b.chance(0.3):
            inputs.reverse()
        pairs = zip(inputs, function.domain.intervals, strict=True)
        inputs = [within(b, *pair) for pair in pairs]
    constants = [shaping.constant(b, *pair) for pair in function.constants.items() if b.chance(0.6)]
    if name in OPERATORS:
        return OPERATORS[name].format(*(x if x.isidentifier() or x.isdecimal() else f"({x})" for x in inputs))
    if function not in PUBLIC:
        return f"scalars.{name}({', '.join(inputs + constants)})"
    return call(b, name, function, inputs, constants)


def from_case(name: str, b: Builder) -> str:
    """A call of an array operation like one of its cases, on values of these shapes."""
    case = b.pick(primitives.cases[name])
    arrays = [b.of_shape(shape) for shape in case.shapes]
    inputs = [f"[{', '.join(arrays)}]"] if case.as_list else arrays
    rest = [*map(repr, case.last), *(f"{key}={value!r}" for key, value in case.parameters.items())]
    text = call(b, name, primitives.operations[name], [*map(repr, case.first), *inputs], rest)
    return f"{text}[{b.integer(0, 1)}]" if name == "split" else text


def by_parameters(name: str, b: Builder) -> str:
    """A call of an array operation on a value of any shape, its parameters drawn by their names."""
    operation = primitives.operations[name]
    kinds = "fib" if name in shaping.ANY_KIND and b.chance(0.2) else "f"
    x = b.value(lambda t: t.ndim > 0 or b.chance(0.1), kinds)
    tuples = any(isinstance(case.parameters.get("axis"), tuple) for case in primitives.cases[name])
    options = []
    for p in list(inspect.signature(operation).parameters.values())[1:]:
        if p.kind != p.VAR_POSITIONAL and (p.default is p.empty or b.chance(0.7)):
            options.append(f"{p.name}={shaping.PARAMETERS[p.name](b, b[x], tuples)}")
    return call(b, name, operation, [x], options)


def known(name: str) -> bool:
    """Whether an operation is of one array, with parameters whose names say what may be drawn."""
    cases = primitives.cases[name]
    rest = list(inspect.signature(primitives.operations[name]).parameters.values())[1:]
    one = not any(case.first or case.as_list or case.last or len(case.shapes) > 1 for case in cases)
    return one and all(p.name in shaping.PARAMETERS or p.kind == p.VAR_POSITIONAL for p in rest)


def rules() -> Iterator[tuple[str, Callable[[Builder], str], int]]:
    """Every rule, with how many cards of the deck name it."""
    for name, function in scalars.functions.items():
        often = 4 if name in ("add", "subtract", "multiply", "where", "tanh", "power") else 2
        yield name, partial(elementwise, function), often
    for name in primitives.operations:
        if primitives.cases[name]:
            yield f"{name}, a case", partial(from_case, name), 1
        if rule := shaping.SPECIAL.get(name, partial(by_parameters, name) if known(name) else None):
            yield name, rule, 4
    tables = (shaping.VIEWS, 8), (shaping.CREATION, 1), (shaping.DERIVATIVES, 1), (shaping.REFUSED, 1)
    for table, often in tables:
        for name, rule in table.items():
            yield name, rule, often
    for name, thing in vars(nn).items():
        if inspect.isclass(thing) and issubclass(thing, nn.Module) and name not in ("Module", "Function"):
            yield f"nn.{name}", partial(shaping.layer, name), 1
        elif inspect.isfunction(thing) and thing.__module__.startswith("microgradx.nn"):
            yield f"nn.{name}", partial(shaping.loss, name), 1


RULES = {name: rule for name, rule, _ in rules()}
DECK = [name for name, _, often in rules() for _ in range(often)]


# Whole programs


def optimizer(b: Builder) -> None:
    """An optimizer of all that has gradients; LBFGS, which is never compiled, takes another step."""
    names = ["SGD", "Adam"] * 8 + [cls.__name__ for cls in optim.optimizers.values() if cls != optim.LBFGS]
    made = [line.partition(" = ")[0] for line in b.setup]
    leaves = [name for name in made if name in b.values and b[name].requires_grad]
    modules = [name for name in made if name.startswith("layer")]
    if not leaves and not modules:
        b.refuse()
    parameters = ", ".join(leaves + [f"*{name}.parameters()" for name in modules])
    for kind in (b.pick(names), "Adam"):
        try:
            more = b.pick(["", "", ", weight_decay=0.1", ", maximize=True"]) if kind != "Adam" else ""
            b.start(f"optim.{kind}([{parameters}], lr=0.01{more})", name="optimizer")
            return
        except (mg.MicrogradxError, TypeError):  # some are for matrices only, or take other options
            b.setup.pop()


def finish(b: Builder) -> dict[str, str]:
    """What counts for the loss, what is returned, and what is done with gradients."""
    floats = b.having(lambda t: t.dtype.kind == "f")[::-1]
    made = [name for name in floats if any(line.startswith(f"{name} = ") for line in b.body)]
    loss = [name for name in (made or floats) if b.chance(0.8)] or floats[-1:]
    returned = [name for name in b.values if b.chance(0.4)]
    returned += [b.pick(b.values)] * b.chance(0.2)
    returned += [f"{name}.grad" for name in b.values if b[name].is_leaf and b.chance(0.03)]
    endings = [e for e in ENDINGS for _ in range(1 if e in ("forward", "no_grad", "again", "clip") else 3)]
    ending = b.pick(endings)
    wanted = any(b[name].requires_grad for name in loss)
    free = any(f" = {kind}(" in line for line in b.setup for kind in ("leaf", "argument"))
    if ending == "no_grad" and any(f"mg.{name}(" in line for name in shaping.DERIVATIVES for line in b.body):
        ending = "forward"
    if ending in INNER:
        ending, returned = ending if free and wanted else "forward", []
    elif not wanted:
        ending = "forward"
    if ending in ("train", "carry", "clip", "renew", "squeeze"):
        optimizer(b)
    if ending == "again" and not any(b[name].requires_grad for name in b.values if b[name].is_leaf):
        ending = "inner"
    between = b.pick(BETWEEN) if b.chance(0.15) else ""
    return {"loss": " ".join(loss), "returns": " ".join(returned), "ending": ending, "between": between}


def build(choice: Choice, seed: int = 0) -> tuple[Program, list[str]]:
    """A random program, and the names of the rules that its lines were drawn by."""
    b = Builder(choice)
    for _ in range(b.pick([1, 2, 2, 3, 3, 4])):
        b.input(b.shape(), dtype=b.pick(["", "", "", "", "", "", "", "int64", "bool"]))
    for _ in range(b.integer(1, b.pick([6, 10, 16]))):
        b.extend()
        if b.drawn and b.drawn[-1] in shaping.REFUSED:  # the next line's shapes may depend on values
            break
    if b.body and b.drawn[-1] not in shaping.REFUSED and b.chance(0.15):
        b.repeat()
    if not b.having(lambda t: t.dtype.kind == "f"):
        b.input(b.shape(), "leaf")
    ending = finish(b)
    return Program(b.setup, b.body, **ending, seed=seed), b.drawn


def program(seed: int) -> tuple[Program, list[str]]:
    """The random program of a seed."""
    return build(Seeded(np.random.default_rng(seed)), seed)
