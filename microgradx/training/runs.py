"""The folder of a run: what it holds, and how it was made.

config.json          the configuration, versions, seed and machine
history.jsonl        a line per epoch
last.safetensors     where the run stands; resuming goes on from here, to the same bits
previous.safetensors the one before it: where that is damaged, resuming goes on from the newest that is whole
best.safetensors     the same, at the best epoch
diverged.safetensors weights, optimizer, random numbers and rows of the step in which a NaN began
curves.png, confusion.png
histograms.jsonl     of weights and gradients, a line per epoch, and histograms.png: where they were asked for
"""

import json
import os
import platform
import sys
import time
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import NotRequired, TypedDict

import numpy as np

from microgradx.compiler.report.machine_limits import processor
from microgradx.data.reading import regular
from microgradx.errors import ArgumentError, CheckpointError, TrainingWarning
from microgradx.optim.checks import State
from microgradx.training import figures
from microgradx.training.checkpoints import DamagedError, load
from microgradx.training.files import Json, held, put_aside, replace
from microgradx.training.history import History, Record

PACKAGES = ("microgradx", "numba", "llvmlite", "numpy", "scipy")


class Standing(TypedDict):
    """Where a run stands, as a checkpoint has it: all that the rest depends on, and what it was made of."""

    model: dict[str, np.ndarray]
    optimizer: State
    schedule: State | None
    random: dict[str, int]
    shuffle: dict[str, int]  # the random numbers as the order of the epoch was drawn from them
    position: dict[str, int]  # see `trainer.Position`, which has sums of losses too
    rows: int
    batch_size: int
    steps: NotRequired[int]  # of an epoch
    confusion: np.ndarray | None
    losses: NotRequired[np.ndarray]  # of the first steps
    record: NotRequired[Record | None]  # of the last epoch
    config: NotRequired[Json]


class Run:
    """The paths of a run's files, and its configuration.

    `create` raises ArgumentError where a run has begun, `read` CheckpointError where there is none.

    >>> run = training.Run("runs/first")
    >>> run.create({"epochs": 3})
    >>> run.read()["epochs"], run.history.name
    (3, 'history.jsonl')
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.settings: Json = {}
        self.config = self.folder / "config.json"
        self.history = self.folder / "history.jsonl"
        self.last = self.folder / "last.safetensors"
        self.previous = self.folder / "previous.safetensors"
        self.best = self.folder / "best.safetensors"
        self.curves = self.folder / "curves.png"
        self.confusion = self.folder / "confusion.png"

    @property
    def begun(self) -> bool:
        """Whether there is a checkpoint: a run killed before the first one starts anew."""
        return any(path.exists() for path in (self.last, self.previous, self.best))

    def held(self) -> AbstractContextManager[None]:
        """Inside, no other process trains in this folder; it is made if need be."""
        return held(self.folder)

    @property
    def epochs(self) -> int:
        """Finished ones, as the newest checkpoint has it; none before there is one."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # whoever goes on from it hears of damage
            return reached(self.newest()[1])[0] if self.begun else 0

    def tidy(self) -> None:
        """Put aside what stands in the place of a file and is none, such as a folder or a pipe."""
        places = [value for value in vars(self).values() if isinstance(value, Path) and value != self.folder]
        for told in filter(None, map(put_aside, places)):
            warnings.warn(f"{told}.", TrainingWarning, stacklevel=4)

    def create(self, config: Json) -> None:
        """Describe a new run in its folder; one with a run that has begun is left alone."""
        if self.begun:
            raise ArgumentError(f"{self.folder} already holds a run: resume it, or choose another folder.")
        self.describe(config | {"versions": versions(), "machine": machine()})

    def describe(self, config: Json) -> None:
        """Write the configuration, which checkpoints hold too."""
        text = json.dumps(config, indent=2, default=str)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace(self.config, f"{text}\n".encode())
        self.settings = json.loads(text)

    def read(self) -> Json:
        """The configuration; where the file is damaged, as a checkpoint has it.

        CheckpointError if the folder holds no run.
        """
        config, problem = None, f"{self.config} is damaged: it holds no configuration"
        try:
            with regular(self.config) as file:
                config = json.loads(file.read().decode())
        except FileNotFoundError:
            problem = f"{self.folder} holds no run: there is no config.json in it"
        except NotADirectoryError:
            what = f"{self.folder} is a file, no folder of a run"
            raise CheckpointError(f"{what}: name one that microgradx train has made.") from None
        except (ValueError, RecursionError) as error:
            problem = f"{self.config} is damaged: {error}"
        except OSError as error:
            problem = f"{self.config} cannot be read: {error.strerror}"
        if isinstance(config, dict):
            return config
        config = self.newest()[1].get("config") if self.begun else None
        if not isinstance(config, dict):
            raise CheckpointError(f"{problem}. Begin it anew: microgradx train --out {self.folder}.")
        warnings.warn(f"{problem}. It is taken from a checkpoint.", TrainingWarning, stacklevel=2)
        return config

    def newest(self) -> tuple[Path, Standing]:
        """The newest checkpoint that is whole, and the state in it; a warning names those that are not.

        CheckpointError where none is, or where a newer version wrote one.
        """
        problems, states = [], {}
        for path in (self.last, self.previous, self.best):
            try:
                if path.exists():
                    states[path] = standing(path)
            except DamagedError as error:
                problems.append(str(error).partition(": use")[0].rstrip("."))
            if self.last in states:
                return path, states[path]
        if not states:
            advice = f"Begin the run anew in another folder, or remove {self.folder}"
            raise CheckpointError(f"no checkpoint of the run is whole: {'; '.join(problems)}. {advice}.")
        path, state = max(states.items(), key=lambda item: reached(item[1]))
        if problems:
            at = f"{path.name}, after epoch {state['position']['epoch']}"
            warnings.warn(f"{'; '.join(problems)}. Going on from {at}.", TrainingWarning, stacklevel=2)
        return path, state


def standing(path: Path) -> Standing:
    """The state of a run in a checkpoint; DamagedError for one that holds something else."""
    state: Standing = load(path)
    if not isinstance(state, dict) or not {"model", "optimizer", "random", "position"} <= state.keys():
        raise DamagedError(f"{path} holds no state of a run.")
    return state


def reached(state: Standing) -> tuple[int, int]:
    """How far a run has come: epochs, and steps of the epoch under way."""
    return state["position"]["epoch"], state["position"]["batch"]


def compare(config: Json) -> None:
    """Warn where a run that goes on does so by other libraries or on another processor: bits may differ."""
    before = config.get("versions", {}) | {"processor": config.get("machine", {}).get("processor")}
    now = versions() | {"processor": processor()}
    other = [
        f"{name} {before[name]}, now {now[name]}" for name in now if before.get(name, now[name]) != now[name]
    ]
    if other:
        what = f"the run began with {'; '.join(other)}"
        message = f"{what}: its bits may be others than without the interruption."
        warnings.warn(message, TrainingWarning, stacklevel=3)


def versions() -> dict[str, str]:
    """Of Python and of every package that can change a result."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def machine() -> Json:
    """Where and when: system, processor, cores, and settings that change speed or results."""
    settings = {
        name: value for name, value in os.environ.items() if name.startswith(("MICROGRADX_", "OPENBLAS_"))
    }
    return {
        "system": platform.platform(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": sys.argv,
        "environment": settings,
    }


def draw(run: Run, history: History, classes: Sequence[str] = ()) -> list[Path]:
    """The figures of a run, if matplotlib is there: the files that were drawn."""
    if not find_spec("matplotlib"):
        return []
    figures.curves(history, run.curves)
    counts = load(run.best)["confusion"] if run.best.exists() else None
    if counts is None:
        return [run.curves]
    figures.confusion(counts, run.confusion, list(classes) if len(classes) == len(counts) else None)
    return [run.curves, run.confusion]
