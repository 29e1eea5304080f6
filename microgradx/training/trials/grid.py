"""Which values to try: `lr=1e-4..1e-1:log:8`, `batch_size=16..128:lin:4`, `optimizer=adam,sgd`.

Values with commas of their own are parted by semicolons: `betas=0.9,0.99;0.8,0.9`.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from microgradx.errors import ArgumentError

Value = float | int | str | bool | None
Config = dict[str, Value]
"""A value for every name: what one trial is, but for its seed."""

NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
RANGE = re.compile(rf"({NUMBER})\.\.({NUMBER}):(log|lin)(?::(\d+))?")
HOW = "a range is a..b:log:n or a..b:lin:n, such as 1e-4..1e-1:log:8"


@dataclass(frozen=True)
class Range:
    """Numbers from low to high, evenly or by equal factors; whole ones where both ends are."""

    low: float
    high: float
    log: bool
    count: int | None
    whole: bool

    def values(self, name: str) -> list[Value]:
        """`count` of them with both ends, to six digits so that they can be typed; whole ones only once."""
        if self.count is None:
            raise ArgumentError(f"{name}: say how many, as in {self.low:g}..{self.high:g}:log:8.")
        low, high = (math.log(end) if self.log else end for end in (self.low, self.high))
        points = [low + (high - low) * k / (self.count - 1) for k in range(self.count)]
        numbers = [float(f"{math.exp(x) if self.log else x:.6g}") for x in points]
        numbers[0], numbers[-1] = self.low, self.high
        return list(dict.fromkeys(round(x) if self.whole else x for x in numbers))


Axis = Range | list[Value]
Grid = Mapping[str, str | Sequence[Value]]
"""For every name what to try: a text of the language above, or the values themselves."""


def read(name: str, given: str | Sequence[Value]) -> Axis:
    """What a text means; ArgumentError for a range without sense, no value, or one twice.

    >>> read("lr", "0.001..0.1:log:3").values("lr"), read("batch_size", "16..64:lin:3").values("batch_size")
    ([0.001, 0.01, 0.1], [16, 40, 64])
    >>> read("optimizer", "adam,sgd")
    ['adam', 'sgd']
    """
    if isinstance(given, str) and (found := RANGE.fullmatch(given.strip())):
        return ranged(name, *found.groups())
    if isinstance(given, str) and re.match(rf"{NUMBER}\.\.", given):
        raise ArgumentError(f"{name}={given}: {HOW}.")
    if isinstance(given, str):
        parts = [part.strip() for part in given.split(";" if ";" in given else ",")]
        values: list[Value] = [typed(part) for part in parts if part]
    else:
        values = list(given)
    if not values:
        raise ArgumentError(f"{name}: no value to try. Give some: {name}=v1,v2 ({HOW}).")
    if again := [value for k, value in enumerate(values) if value in values[:k]]:
        raise ArgumentError(f"{name}: {again[0]} stands there twice.")
    return values


def ranged(name: str, low: str, high: str, how: str, count: str | None) -> Range:
    """The range between two ends."""
    ends = float(low), float(high)
    given = f"{name}={low}..{high}"
    if not (math.isfinite(ends[0]) and ends[0] < ends[1] < math.inf):
        raise ArgumentError(f"{given}: the first end must be below the second.")
    if how == "log" and ends[0] <= 0:
        raise ArgumentError(f"{given}:log: equal factors need ends above 0; take :lin.")
    if count is not None and int(count) < 2:
        raise ArgumentError(f"{given}:{how}:{count}: a range has at least 2 values.")
    if count is not None and int(count) > 10**6:
        raise ArgumentError(f"{given}:{how}:{count}: a range has at most a million values.")
    whole = all(re.fullmatch(r"[+-]?\d+", end) for end in (low, high))
    return Range(*ends, how == "log", count and int(count), whole)  # type: ignore[arg-type]


def typed(text: str) -> Value:
    """A whole number, a number, or the word itself."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def combinations(axes: Mapping[str, Axis]) -> list[Config]:
    """Every combination of the values; the last name changes first.

    >>> combinations({"lr": [0.1, 0.2], "optimizer": ["adam"]})
    [{'lr': 0.1, 'optimizer': 'adam'}, {'lr': 0.2, 'optimizer': 'adam'}]
    """
    columns = [axis.values(name) if isinstance(axis, Range) else axis for name, axis in axes.items()]
    return [dict(zip(axes, values, strict=True)) for values in product(*columns)]


def size(axes: Mapping[str, Axis]) -> int:
    """How many combinations there are, without making them.

    >>> size({"lr": read("lr", "1..9:lin:9"), "optimizer": ["adam", "sgd"]})
    18
    """
    counts = (len(a.values(name)) if isinstance(a, Range) else len(a) for name, a in axes.items())
    return math.prod(counts)
