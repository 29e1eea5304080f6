"""What trials have come to, a line of JSON each, on the disk before the next one is told.

A line that a crash cut short does not count and is removed; lines are written by one process at a time.
"""

import json
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from microgradx.errors import CheckpointError, TrainingWarning
from microgradx.training.files import append, replace
from microgradx.training.trials.grid import Config

Entry = dict[str, Any]
"""A line: "config", "seed", with halving "epochs"; then "result", or "failed" and "why", and "seconds"."""


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

    def entry(self, **more: object) -> Entry:
        """Its line."""
        epochs = {} if self.epochs is None else {"epochs": self.epochs}
        return {"config": self.config, "seed": self.seed} | epochs | more


class Journal:
    """The lines of a file, and of this process; without a file, of this process alone."""

    def __init__(self, path: Path | None):
        self.path = path
        self.entries: dict[str, Entry] = {}
        self.deaths: Counter[str] = Counter()
        for entry in lines(path) if path else []:
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


def lines(path: Path) -> list[Entry]:
    """The entries of a file; a warning tells of lines that are damaged: their trials are done again."""
    found, damaged = [], []
    if not path.exists():
        return []
    rows = path.read_text(encoding="utf-8", errors="replace").split("\n")
    for number, row in enumerate(rows[:-1], 1):  # what follows the last newline was cut short
        try:
            entry = json.loads(row)
            ended = entry.keys() & {"result", "failed", "died"}
            if not (ended and isinstance(entry["config"], dict) and isinstance(entry["seed"], int)):
                raise ValueError
            found.append(entry)
        except (ValueError, LookupError, AttributeError, TypeError, RecursionError):
            damaged.append(str(number))
    if damaged:
        what = f"{path}: damaged lines, {', '.join(damaged[:9])}{', ...' * (len(damaged) > 9)}"
        warnings.warn(f"{what}. Their trials are done again.", TrainingWarning, stacklevel=3)
    return found


def described(folder: Path) -> Entry:
    """What `sweep.json` says; CheckpointError for a folder that has none."""
    path = folder / "sweep.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict) and "grid" in found:
            return found
    except FileNotFoundError:
        what = f"{folder} holds no sweep: there is no sweep.json in it"
        raise CheckpointError(f"{what}. Check the path, or begin one.") from None
    except (ValueError, RecursionError):
        pass
    raise CheckpointError(f"{path} is damaged: begin the sweep anew in another folder.")
