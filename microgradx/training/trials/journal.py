"""What trials have come to, a line of JSON each, on the disk before the next one is told.

A line that a crash cut short does not count and is removed; lines are written by one process at a time.
"""

import json
import math
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired, TypedDict

from microgradx.data.reading import regular
from microgradx.errors import CheckpointError, TrainingWarning
from microgradx.training import history
from microgradx.training.files import Json, append, replace
from microgradx.training.trials.grid import Config

Result = dict[str, object]
"""What a trial measured: a loss, or more that JSON has."""


class Ended(TypedDict, total=False):
    """How a trial has ended: with a result, or failed, and why; or by the death of its worker."""

    result: Result
    failed: str
    why: str
    died: str


class Entry(Ended):
    """A line: what was tried, with halving up to which epoch, and how that has ended."""

    config: Config
    seed: int
    epochs: NotRequired[int]
    seconds: NotRequired[float]


Fits = Callable[[Entry], bool]


@dataclass(frozen=True)
class Job:
    """One training: a configuration with a seed, with halving up to so many epochs."""

    config: Config
    seed: int
    epochs: int | None = None
    folder: str | None = None  # where it may keep its state, with halving

    @property
    def key(self) -> str:
        """What tells it from all others."""
        return json.dumps([self.config, self.seed, self.epochs], sort_keys=True)

    def entry(self, ended: Ended, seconds: float | None = None) -> Entry:
        """Its line, once it has ended, after so many seconds."""
        line: Entry = {"config": self.config, "seed": self.seed}
        if self.epochs is not None:
            line["epochs"] = self.epochs
        line |= ended
        if seconds is not None:
            line["seconds"] = round(seconds, 3)
        return line


class Journal:
    """The lines of a file, and of this process; without a file, of this process alone.

    fits: whether an entry is one of the sweep's; another is a damaged line.
    """

    def __init__(self, path: Path | None, fits: Fits | None = None):
        self.path = path
        self.entries: dict[str, Entry] = {}
        self.deaths: Counter[str] = Counter()
        for entry in lines(path, fits) if path else []:
            self.take(entry)

    def take(self, entry: Entry) -> None:
        """Know an entry: the death of a worker, or how a trial ended."""
        key = Job(entry["config"], entry["seed"], entry.get("epochs")).key
        if "died" in entry:
            self.deaths[key] += 1
        else:
            self.entries[key] = entry

    def add(self, entry: Entry) -> None:
        """Know it, and write it down."""
        self.take(entry)
        if self.path:
            append(self.path, json.dumps(entry) + "\n")

    def mend(self) -> None:
        """Remove what a crash cut short, so that the next line begins a line."""
        if self.path and self.path.exists():
            content = self.path.read_bytes()
            if not content.endswith(b"\n") and content:
                replace(self.path, content[: content.rfind(b"\n") + 1])


def lines(path: Path, fits: Fits | None = None) -> list[Entry]:
    """The entries of a file; a warning tells of lines that are damaged: their trials are done again."""
    found, broken = [], []
    for number, row in enumerate(history.lines(path), 1):
        entry = parsed(row)
        if entry is None or (fits is not None and not fits(entry)):
            broken.append(str(number))
        else:
            found.append(entry)
    if broken:
        what = f"{path}: damaged lines, {', '.join(broken[:9])}{', ...' * (len(broken) > 9)}"
        warnings.warn(f"{what}. Their trials are done again.", TrainingWarning, stacklevel=3)
    return found


def parsed(row: str) -> Entry | None:
    """The entry in a line; None where it is something else."""
    try:
        entry = json.loads(row)
        ended = {"result", "failed", "died"} & entry.keys()
        kinds = (type(entry["config"]), type(entry["seed"]), type(entry.get("epochs", 1)), len(ended))
        if kinds != (dict, int, int, 1):
            return None
        if "result" in entry:
            return entry if math.isfinite(judged(entry["result"])) else None
        words = (entry["died"],) if "died" in entry else (entry["failed"], entry["why"])
        return entry if all(isinstance(word, str) for word in words) else None
    except (ValueError, LookupError, AttributeError, TypeError, OverflowError, RecursionError):
        return None


def judged(result: Mapping[str, object]) -> float:
    """The loss of a record; TypeError for one with a measure that is no number."""
    if measure(result, "accuracy") is not None:
        score(result, "accuracy")
    return score(result)


def measure(result: Mapping[str, object], by: str) -> object:
    """What a record has of a measure: that of the validation data, where there were any; else None."""
    return result.get(f"valid_{by}", result.get(by))


def score(result: Mapping[str, object], by: str = "loss") -> float:
    """The number to compare trials by, the smaller the better: a loss, or what is wrong of all.

    It is that of the validation data, where there were any.

    >>> score({"loss": 0.1, "valid_loss": 0.3, "valid_accuracy": 0.9}), score({"accuracy": 0.75}, "accuracy")
    (0.3, 0.25)
    """
    value = measure(result, by)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"a trial returns a number, or a record with {by!r}; it has {sorted(result)}.")
    return float(value) if by == "loss" else 1 - float(value)


def described(folder: Path) -> Json:
    """What `sweep.json` says; CheckpointError for a folder that has none."""
    path = folder / "sweep.json"
    try:
        with regular(path) as file:
            found = json.loads(file.read().decode())
    except FileNotFoundError:
        what = f"{folder} holds no sweep: there is no sweep.json in it"
        raise CheckpointError(f"{what}. Check the path, or begin one.") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise damaged(folder)
    return found


def damaged(folder: Path) -> CheckpointError:
    """What is said of a folder whose `sweep.json` describes no sweep."""
    return CheckpointError(f"{folder / 'sweep.json'} is damaged: begin the sweep anew in another folder.")
