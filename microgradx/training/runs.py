"""The folder of a run: what it holds, and how it was made.

config.json          the configuration, versions, seed and machine
history.jsonl        a line per epoch
last.safetensors     where the run stands; resuming goes on from here, to the same bits
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
from collections.abc import Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from microgradx.compiler.report.machine_limits import processor
from microgradx.errors import ArgumentError, CheckpointError
from microgradx.training import figures
from microgradx.training.checkpoints import load, replace
from microgradx.training.history import History

Settings = dict[str, Any]  # whatever JSON can hold
PACKAGES = ("microgradx", "numba", "llvmlite", "numpy", "scipy")


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
        self.config = self.folder / "config.json"
        self.history = self.folder / "history.jsonl"
        self.last = self.folder / "last.safetensors"
        self.best = self.folder / "best.safetensors"
        self.curves = self.folder / "curves.png"
        self.confusion = self.folder / "confusion.png"

    def create(self, config: Settings) -> None:
        """Make the folder and describe the run in it; a folder with a run that has begun is left alone."""
        if self.last.exists():
            raise ArgumentError(f"{self.folder} already holds a run: resume it, or choose another folder.")
        self.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(config | {"versions": versions(), "machine": machine()}, indent=2, default=str)
        replace(self.config, lambda new: new.write_text(text + "\n", encoding="utf-8"))

    def read(self) -> Settings:
        """The configuration; CheckpointError if the folder holds no run."""
        try:
            config = json.loads(self.config.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise CheckpointError(f"{self.folder} holds no run: there is no config.json in it.") from None
        except (ValueError, RecursionError) as error:
            raise CheckpointError(f"{self.config} is damaged: {error}.") from None
        if not isinstance(config, dict):
            raise CheckpointError(f"{self.config} is damaged: it holds no configuration.")
        return config


def versions() -> dict[str, str]:
    """Of Python and of every package that can change a result."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def machine() -> Settings:
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
    figures.confusion(counts, run.confusion, list(classes))
    return [run.curves, run.confusion]
