"""What a ledger wrote down of one parameter, and what follows from it by the rule's own lines.

A record holds what a step started from: p, g, the state, and the step's numbers. Moments, corrected moments
and updates are computed from it when they are asked for, with the bits that they had.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from microgradx.errors import ArgumentError
from microgradx.kernels.cpu import Sweep
from microgradx.kernels.strided import Index
from microgradx.optim.ledgers.equations import (
    HAT,
    Equation,
    Line,
    Traced,
    Value,
    Values,
    equation,
    number,
    written,
)  # fmt: skip
from microgradx.optim.options import Options

OURS = "effective_lr", "update", "ratio"
"""The columns of every rule, after its own."""


Start = tuple[Options, dict[str, float]]  # hyperparameters and clock before a step


class Block(NamedTuple):
    """What was read at some steps of the parameters in a flat buffer."""

    numbers: np.ndarray  # (steps, 3 + states, watched): p, g and the state before the step, p after it
    sweep: Sweep
    starts: list[list[Start]]  # of every step
    seats: list[int | None]  # which of these are a parameter's; None where it has not stepped
    given: list[Options]


@dataclass(frozen=True)
class Record:
    """One step of one parameter: its columns of the numbers, and what was the same for all of them."""

    numbers: np.ndarray
    sweep: Sweep
    known: dict[str, float]  # t, carried numbers, hyperparameters

    @property
    def equation(self) -> Equation:
        """The rule, line by line."""
        return equation(self.sweep.rule, self.sweep.options, self.sweep.outside)

    def start(self) -> dict[str, Value]:
        """The rule's parameters: arrays of the watched numbers, and numbers."""
        rule = self.sweep.rule
        rows = dict(zip(("p", "g", *rule.state), self.numbers, strict=False))  # the last row is p afterwards
        return rule.hyperparameters | rows | self.known

    def trace(self, which: int) -> list[Traced]:
        """The rule's lines for one of the numbers."""
        alone = {k: v[which] if isinstance(v, np.ndarray) else v for k, v in self.start().items()}
        with np.errstate(all="ignore"):
            return self.equation.evaluate(alone)

    def columns(self) -> dict[str, np.ndarray]:
        """(numbers,) arrays by name: p, g, the rule's lines, the new state, and OURS."""
        try:
            with np.errstate(all="ignore"):
                trace = self.equation.evaluate(self.start())
        except (TypeError, ValueError):  # with `if` or math.exp, lines take one number at a time
            each = [self.trace(i) for i in range(self.numbers.shape[1])]
            trace = [(x[0][0], {}, np.array([value for _, _, value in x])) for x in zip(*each, strict=True)]
        found = {one.name: value for one, _, value in trace if one.name != "p"}
        p, g, *_, after = self.numbers
        tiny = np.finfo(p.dtype).tiny
        for name in self.sweep.rule.state:  # as the sweep stores it
            found[name] = np.where(np.abs(found[name]) < tiny, p.dtype.type(0), found[name])
        update = after - p
        with np.errstate(all="ignore"):
            rate = found.pop("effective lr", None)
            found["effective_lr"] = -update / g if rate is None else rate
            found |= {"update": update, "ratio": np.abs(update) / np.abs(p)}
        columns = {"p": p} | found | {"g": g}
        return {k: np.broadcast_to(np.asarray(v, p.dtype), p.shape) for k, v in columns.items()}


@dataclass
class Account:
    """The watched numbers of one parameter: `account["m_hat"]` is (steps, numbers), `account.t` the steps.

    `p` is the weight before the step, `g` the gradient that the rule saw, the state what the step made of it.
    `update` is what the step added to p, `ratio` its size over that of p. `effective_lr` is what multiplies
    the direction in the rule's last line, lr / (√v̂ + ε) in Adam; where that has another form, -update / g.
    """

    name: str
    shape: tuple[int, ...]
    indices: list[tuple[int, ...]]
    blocks: list[Block] = field(repr=False)
    which: int  # of the parameters of a block
    columns: slice
    seen: int = 0  # blocks that records and table have followed
    kept: list[Record] = field(default_factory=list, repr=False)
    table: list[dict[str, np.ndarray]] = field(default_factory=list, repr=False)

    @property
    def records(self) -> list[Record]:
        """The steps so far."""
        for block in self.blocks[self.seen :]:
            seat, given = block.seats[self.which], block.given[self.which]
            if seat is None:
                continue
            for numbers, starts in zip(block.numbers, block.starts, strict=True):
                options, clock = starts[seat]
                known = options | given | clock | {"t": clock["t"] + 1}
                self.kept.append(Record(numbers[:, self.columns], block.sweep, known))
        self.seen = len(self.blocks)
        return self.kept

    @property
    def t(self) -> np.ndarray:
        """(steps,) the step numbers, as the rule counts them."""
        return np.array([record.known["t"] for record in self.records], np.int64)

    @property
    def names(self) -> list[str]:
        """The columns, in the order of the rule: p, g, its lines, ours."""
        self.table += [record.columns() for record in self.records[len(self.table) :]]
        found = dict.fromkeys(name for row in self.table for name in row)
        inner = [name for name in found if name not in ("p", "g", *OURS)]
        return ["p", "g", *inner, *OURS] if found else []

    def __getitem__(self, name: str) -> np.ndarray:
        """(steps, numbers) one column; NaN in steps of a rule that has none of that name."""
        if name not in (names := self.names):
            raise ArgumentError(
                f"{self.name} has no column {name!r}; it has {', '.join(names) or 'no steps yet'}."
            )
        blank = np.full(len(self.indices), np.nan)
        return np.array([row.get(name, blank) for row in self.table])

    def find(self, index: Index) -> int:
        """Which of the watched numbers stands at an index of the parameter."""
        if index is None:
            return 0
        wanted = index if isinstance(index, tuple) else (index,)
        try:
            place = tuple(range(n)[i] for n, i in zip(self.shape, wanted, strict=True))
        except (TypeError, IndexError, ValueError):
            raise ArgumentError(f"{self.name} of shape {self.shape} has no number at {index}.") from None
        if place not in self.indices:
            near = ", ".join(map(str, self.indices[:5])) + ", ..." * (len(self.indices) > 5)
            raise ArgumentError(f"{self.name}{list(place)} is not watched; watched are {near}.")
        return self.indices.index(place)

    def explain(self, index: Index = None, step: int | None = None) -> str:
        """The rule's lines with their numbers; by default of the first number and the last step."""
        which, steps = self.find(index), self.t.tolist()
        if not steps:
            advice = "Train inside the ledger's `with` block."
            raise ArgumentError(f"{self.name}: no step was written down yet. {advice}")
        if step is not None and step not in steps:
            there = f"steps {steps[0]} to {steps[-1]}"
            raise ArgumentError(f"{self.name} was not written down at step {step}; the ledger has {there}.")
        row = -1 if step is None else steps.index(step)
        record, found = self.records[row], {name: self[name][row, which] for name in ("p", "g", *OURS)}
        place = ", ".join(map(str, self.indices[which]))
        title = f"{self.name}[{place}]" if place else self.name
        return explanation(title, record, which, found)


def explanation(title: str, record: Record, which: int, found: Values) -> str:
    """Title, what the step started from, every line with symbols and with numbers, and what came of it."""
    rule, symbol = record.sweep.rule, record.equation.symbol
    start, trace = record.start(), record.trace(which)
    fixed = {k: start[k] for k in (*rule.hyperparameters, "weight_decay") if k in start}
    given = [f"{symbol(k)} = {number(v)}" for k, v in fixed.items()]
    begin = [f"{symbol(k)} = {number(np.asarray(start[k])[which])}" for k in ("p", "g", *rule.state)]
    begin += [f"{symbol(k)} = {number(start[k])}" for k in rule.carried]
    doc = (rule.__doc__ or rule.name).strip().splitlines()[0]
    lines = [f"{title} in step {start['t']} of {rule.name}: {doc}", "", "  " + "   ".join(given)]
    lines += ["  " + "   ".join(begin), ""]
    ours = len(trace) - sum(x is not None for x in (record.equation.rate, record.equation.direction))
    for one, known, value in trace[:ours]:
        lines += step_lines(one, known, value, symbol)
    after = record.numbers[-1, which]
    if trace[len(record.equation.lines)][2] != after:
        lines += [f"  p ← {number(after)}, as the optimizer moves the whole parameter along the direction"]
    share = f"{found['ratio']:.3%} of the weight" if np.isfinite(found["ratio"]) else "from 0"
    update, rate = number(found["update"]), number(found["effective_lr"])
    lines += ["", f"  update {update}, {share}; effective lr {rate}"]
    if record.equation.rate:
        lines[-1] += f" = {written(record.equation.rate.expression, symbol)}"
    return "\n".join(lines)


def step_lines(one: Line, known: Values, value: Value, symbol: Callable[[str], str]) -> list[str]:
    """`m ← β₁ · m + (1 - β₁) · g`, below it the same in numbers, and the result."""
    name = symbol(one.name)
    formula = written(one.expression, symbol)
    if formula == name:
        return []
    filled = written(one.expression, lambda n: number(known[n]) if n in known else n)
    pad = " " * len(name.replace(HAT, ""))  # a hat takes no room
    lines = [f"  {name} ← {formula}", f"  {pad} = {filled}", f"  {pad} = {number(value)}"]
    return lines[:2] if filled == number(value) else lines
