"""One trial of `microgradx sweep`: the options of `microgradx train`, with some of them varied.

A process loads its data once. A thread keeps models and optimizers with their compiled steps: a trial that
differs only in numbers takes their place, and need not be captured again.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import click

from microgradx.cli.options import hyperparameters
from microgradx.cli.recipe import Made, Recipe, rows_of
from microgradx.cli.train import OPTIONS, chosen, train
from microgradx.data.splits import Split
from microgradx.errors import ArgumentError, guess
from microgradx.optim import Optimizer, Schedule, optimizers
from microgradx.training import History
from microgradx.training.checkpoints import load, save
from microgradx.training.loop import Callback, go
from microgradx.training.trainer import Trainer
from microgradx.training.trials.grid import Config, Value

FIXED = {"seed", "out", "resume", "save_every", "threads", "histograms", "tensorboard", "quiet"}
"""Options of `train` that make no trial better."""

KEPT = 8
"""Compiled steps that a thread keeps."""


class Kept(threading.local):
    """Of a thread: what has trained, and its trainer, by what their steps were compiled for."""

    def __init__(self) -> None:
        self.ended: OrderedDict[Hashable, tuple[Made, Trainer]] = OrderedDict()


kept = Kept()


@dataclass(frozen=True)
class Trial:
    """Trains by the options of `train`, as typed, and those of a configuration; never longer than a limit."""

    words: tuple[str, ...]
    limit: float | None = None

    def __call__(
        self, *, seed: int, epochs: int | None = None, folder: str | None = None, **config: Value
    ) -> dict[str, object]:
        """What was measured in the best epoch, and after how many epochs.

        With a folder `epochs` says how far to go this time, without one it is an option like all others.
        """
        if folder is None and epochs is not None:
            config["epochs"] = epochs
        recipe = recipe_of(self.words, config, seed)
        split = recipe.suit(data_of(recipe.data, recipe.of_numbers))
        trainer = made(recipe, split)
        place = Path(folder) if folder else None
        if place and place.exists():
            state = load(place)
            trainer.model.load_state_dict(state["model"])
            trainer.optimizer.load_state_dict(state["optimizer"])
            trainer.stand(state)
            trainer.history.records = state["history"]
        until = recipe.epochs if epochs is None else min(epochs, recipe.epochs)
        go(trainer, until, split.test, recipe.patience, 1e9, [self.clock()], False)
        if place:
            save(place, {**trainer.state(), "history": trainer.history.records})
        measured = ("epoch", "loss", "accuracy", "valid_loss", "valid_accuracy")
        best = {name: value for name, value in trainer.history.best.items() if name in measured}
        return best | {"epochs": len(trainer.history)}

    def clock(self) -> Callback:
        """Ends a trial after an epoch in which its time was over."""
        end = time.monotonic() + (self.limit or 1e9)

        def look(history: History) -> None:
            if time.monotonic() > end:
                raise TimeoutError(f"it took longer than {self.limit:g} s, until epoch {len(history)}.")

        return look


@lru_cache(2)
def data_of(name: str, numbers: bool) -> Split:
    """The data, with numbers or classes for targets, loaded once in a process."""
    return rows_of(name, numbers)


def made(recipe: Recipe, split: Split) -> Trainer:
    """A trainer before its first step; where steps for the like of it are there, it has those."""
    parts = recipe.begin(split)
    key = likeness(recipe, parts.optimizer, parts.schedule)
    again = kept.ended.pop(key, None)
    if again:
        fresh, parts = parts, again[0]
        parts.model.load_state_dict(fresh.model.state_dict())
        parts.optimizer.load_state_dict(fresh.optimizer.state_dict())
        parts.schedule.load_state_dict(fresh.schedule.state_dict())
    trainer = recipe.trainer(parts)
    if again:
        trainer.compiled, trainer.chunk = again[1].compiled, again[1].chunk
    if not trainer.eager:
        kept.ended[key] = parts, trainer
    if len(kept.ended) > KEPT:
        kept.ended.popitem(last=False)
    return trainer


def likeness(recipe: Recipe, optimizer: Optimizer, schedule: Schedule) -> str:
    """What two trials must have in common for one compiled step; numbers of the optimizer may differ."""
    own = asdict(recipe) | {"seed": 0, "hyperparameters": 0, "epochs": 0, "patience": 0}
    rules = [group["rule"] for group in optimizer.state_dict()["param_groups"]]
    return repr((own, optimizer.name, rules, repr(schedule)))


def recipe_of(words: Sequence[str], config: Config, seed: int) -> Recipe:
    """What `microgradx train` would make of a configuration; UsageError as it says it."""
    with train.make_context("train", command(words, config, seed)) as ctx:
        return chosen(ctx)


def command(words: Sequence[str], config: Config, seed: int) -> list[str]:
    """The words behind `microgradx train` that do a trial."""
    optimizer = config.get("optimizer")
    order = ["optimizer", *(name for name in config if name != "optimizer")] if optimizer else [*config]
    varied = [word for name in order for word in spelled(name, config[name])]
    return [*words, *varied, *([f"--seed={seed}"] if seed else [])]


def spelled(name: str, value: Value) -> list[str]:
    """An option with a value; a switch that is on or off."""
    param = known()[name]
    if not param.is_flag:
        return [f"{param.opts[0]}={value}"]
    on = value is True or str(value).lower() in ("true", "1", "on", "yes")
    return [param.opts[0]] if on else param.secondary_opts[:1]


@lru_cache(1)
def known() -> dict[str, click.Option]:
    """All options that can vary, those of every optimizer among them."""
    found = {param.name or "": param for optimizer in optimizers for param in hyperparameters(optimizer)}
    return found | {p.name: p for p in OPTIONS if p.name and p.name not in FIXED}


def name_of(given: str) -> str:
    """The parameter that a grid names, as `batch-size`; ArgumentError with the nearest for none."""
    name = given.strip().removeprefix("--").replace("-", "_")
    if name in known():
        return name
    if name in FIXED:
        advice = "--seeds says how many" if name == "seed" else "it makes no trial better"
        raise ArgumentError(f"--grid {given}: this is not varied; {advice}.")
    flags = [known_name.replace("_", "-") for known_name in known()]
    likely = guess(name.replace("_", "-"), flags) or guess(name, known())
    raise ArgumentError(f"--grid {given}: train has no option --{name.replace('_', '-')}.{likely} "
                        "`microgradx train --help` lists them.")  # fmt: skip
