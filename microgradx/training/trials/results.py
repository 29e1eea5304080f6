"""What came out of a sweep: configurations from the best to the worst, by their mean over the seeds."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from microgradx.errors import ArgumentError, DataError, one_of
from microgradx.training.trials.grid import Config, Range, Value, read
from microgradx.training.trials.journal import Entry, Job, Result, measure, score
from microgradx.training.trials.watch import number

MEASURES = "loss", "accuracy"


@dataclass
class Standing:
    """A configuration, what its seeds have come to, and at which epochs they were compared."""

    config: Config
    results: list[Result] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)  # why
    epochs: int = 0  # with halving
    by: str = "loss"

    def values(self, measure: str) -> list[float]:
        """Of the trials that went well: the loss, or the accuracy."""
        found = [score(result, measure) for result in self.results]
        return [1 - value for value in found] if measure == "accuracy" else found

    @property
    def mean(self) -> float:
        """Over the seeds, of the measure that is compared; NaN where all failed."""
        return statistics.fmean(self.values(self.by)) if self.results else math.nan

    @property
    def std(self) -> float:
        """Over the seeds, of a sample; 0 for one alone."""
        return statistics.stdev(self.values(self.by)) if len(self.results) > 1 else 0.0

    @property
    def rank(self) -> tuple[bool, int, float]:
        """The better, the smaller: without failures, after more epochs, by the mean."""
        worse = self.mean if self.by == "loss" else -self.mean
        return bool(self.failed), -self.epochs, math.inf if math.isnan(worse) else worse


@dataclass
class Results:
    """The trials of a sweep; `standings` are the configurations in order, `best` is the first."""

    grid: Mapping[str, str | list[Value]]
    entries: list[Entry]
    folder: Path | None = None
    about: dict[str, object] = field(default_factory=dict)
    by: str = "loss"

    def __post_init__(self) -> None:
        if self.by not in MEASURES:
            raise ArgumentError(one_of("measure", self.by, MEASURES))

    def __repr__(self) -> str:
        failed = sum("failed" in entry for entry in self.entries)
        return f"<{type(self).__name__} of {len(self.entries)} trials, {failed} failed>"

    @cached_property
    def standings(self) -> list[Standing]:
        """All configurations, from the best to the worst; ArgumentError where trials lack the measure."""
        if self.by not in (there := self.measures):
            raise ArgumentError(f"the trials have no {self.by} to compare them by: take {there[0]}.")
        found: dict[str, Standing] = {}
        for entry in sorted(self.entries, key=lambda entry: -entry.get("epochs", 0)):
            epochs = entry.get("epochs", 0)
            standing = found.setdefault(
                Job(entry["config"], 0).key, Standing(entry["config"], epochs=epochs, by=self.by)
            )
            if epochs < standing.epochs:
                continue  # it went on from there
            if "result" in entry:
                standing.results.append(entry["result"])
            else:
                standing.failed.append(f"{entry['failed']}: {entry['why']}")
        return sorted(found.values(), key=lambda standing: standing.rank)

    @property
    def best(self) -> Standing:
        """The first; DataError where nothing has gone well."""
        if not self.standings or not self.standings[0].results:
            failed = [entry for entry in self.entries if "failed" in entry]
            why = f"all {len(failed)} failed, the first by {failed[0]['why']}" if failed else "none has ended"
            raise DataError(f"no trial of the sweep has a result: {why}")
        return self.standings[0]

    @property
    def measures(self) -> list[str]:
        """What every trial has: a loss, and an accuracy for classes."""
        results = [entry["result"] for entry in self.entries if "result" in entry]
        kinds = [name for name in MEASURES if all(measure(r, name) is not None for r in results)]
        return sorted(kinds, key=lambda kind: kind != self.by)

    @property
    def axes(self) -> dict[str, list[Value]]:
        """For every name that varies, its values: as the grid has them, or as a search met them."""
        found: dict[str, list[Value]] = {}
        for name, given in self.grid.items():
            axis = read(name, given)
            if isinstance(axis, Range):
                met = [v for entry in self.entries if isinstance(v := entry["config"][name], int | float)]
                axis = axis.values(name) if axis.count is not None else [*sorted({*met})]
            if len(axis) > 1:
                found[name] = axis
        return found

    @property
    def free(self) -> set[str]:
        """Names whose values a search chooses, any within a range."""
        axes = {name: read(name, given) for name, given in self.grid.items()}
        return {name for name, axis in axes.items() if isinstance(axis, Range) and axis.count is None}

    def effects(self) -> dict[str, float]:
        """How much each name matters: the variance of its values' mean ranks, the largest first."""
        found = {}
        for name, values in self.axes.items():
            ranks = [[k for k, s in enumerate(self.standings) if s.config[name] == value] for value in values]
            found[name] = statistics.pvariance([statistics.fmean(part) for part in ranks if part] or [0.0])
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def best_at(self, config: Mapping[str, Value]) -> Standing | None:
        """The best configuration that has these values."""
        fits = (s for s in self.standings if s.results and config.items() <= s.config.items())
        return next(fits, None)

    def table(self, top: int = 10, width: int = 80) -> str:
        """The best configurations in columns: mean ± deviation over the seeds, how many, and the options."""
        names = [*self.axes] or [*self.grid]
        epochs = any(s.epochs for s in self.standings)
        rows = [["", *self.measures, "seeds", *["epochs"] * epochs, *names]]
        for k, s in enumerate(self.standings[:top], 1):
            seeds = f"{len(s.results)}" + f" of {len(s.results) + len(s.failed)}" * bool(s.failed)
            cells = [spread(s.values(measure), measure) for measure in self.measures]
            own = [number(s.config[name]) for name in names]
            rows.append([str(k), *cells, seeds, *[str(s.epochs)] * epochs, *own])
        fixed = len(rows[0]) - len(names)
        if line_width(rows) > width:  # the names stand with their values, on lines of their own
            own = [", ".join(map(" ".join, zip(names, row[fixed:], strict=True))) for row in rows[1:]]
            short = columns([row[:fixed] for row in rows])
            return "\n".join([short[0], *(f"{a}\n     {b}" for a, b in zip(short[1:], own, strict=True))])
        return "\n".join(columns(rows))


def spread(values: Sequence[float], measure: str) -> str:
    """Mean and deviation: `0.1234 ± 0.0012`, `97.21 ± 0.30 %`.

    >>> spread([0.5, 0.7], "loss"), spread([0.5], "accuracy"), spread([], "loss")
    ('0.6000 ± 0.1414', '50.00 %', '-')
    """
    if not values:
        return "-"
    scale, form = (100, ".2f") if measure == "accuracy" else (1, ".4f" if max(values) < 100 else ".3g")
    deviation = f" ± {scale * statistics.stdev(values):{form}}" if len(values) > 1 else ""
    return f"{scale * statistics.fmean(values):{form}}{deviation}{' %' * (measure == 'accuracy')}"


def line_width(rows: Sequence[Sequence[str]]) -> int:
    """Of the columns with two spaces between them."""
    return sum(max(map(len, column)) + 2 for column in zip(*rows, strict=True)) - 2


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows in columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
