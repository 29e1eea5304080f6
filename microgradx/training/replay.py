"""A run once more, compared bit by bit with what it left: `microgradx verify`.

What a run records of itself is small: the loss of every step, up to `RECORDED` of them, and all weights and
states at its checkpoints. So the first step that differs is known by its loss, and the first parameter and
element by the next checkpoint.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from microgradx.errors import CheckpointError
from microgradx.optim.flat import Data
from microgradx.training.checkpoints import DamagedError
from microgradx.training.progress import Progress
from microgradx.training.runs import Run, Standing, standing
from microgradx.training.stopping import Stop
from microgradx.training.trainer import Trainer


@dataclass
class Verdict:
    """What came of comparing: how much was compared, and what differs first, "" where nothing does."""

    steps: int
    checkpoints: list[str]
    difference: str = ""


def records(run: Run, steps: int) -> dict[int, tuple[Path, Standing]]:
    """By step the checkpoints that are whole, after a first step and before so many; in order."""
    found = {}
    for path in (run.best, run.previous, run.last):
        try:
            state = standing(path) if path.exists() else None
        except DamagedError:
            continue
        if state and 0 < (step := reached(state)) <= steps:
            found[step] = path, state
    return dict(sorted(found.items()))


def reached(state: Standing) -> int:
    """The steps that a checkpoint has behind it."""
    per_epoch = -(-state["rows"] // state["batch_size"])
    return state["position"]["epoch"] * state.get("steps", per_epoch) + state["position"]["batch"]


def replay(trainer: Trainer, run: Run, valid: tuple[Data, Data] | None, steps: int | None = None) -> Verdict:
    """Run the first steps of a run again, from its beginning, until something differs or all were compared.

    trainer: as at the beginning of the run, without a folder. steps: how many; without them all whose losses
    were recorded. CheckpointError where a run has recorded none.
    """
    losses = np.asarray(run.newest()[1].get("losses", ()))[:steps]
    if not len(losses):
        raise CheckpointError(f"{run.folder} has recorded no step to compare with: train it first.")
    last, marks, verdict = len(losses), records(run, len(losses)), Verdict(0, [])
    for goal in sorted({*range(trainer.steps, last, trainer.steps), *marks, last}):
        advance(trainer, goal, valid)
        done, verdict.steps = verdict.steps, goal
        old, new = losses[done:goal], np.array(trainer.losses[done:goal])
        if not verdict.difference and (other := first_other(old, new)):
            was, now = old[other], new[other]
            verdict.difference = f"the loss of step {done + other[0] + 1} was {was}, now it is {now}"
        if goal in marks:
            path, state = marks[goal]
            verdict.checkpoints.append(path.name)
            if what := first_difference(state, trainer.state()):
                verdict.difference += "; " * bool(verdict.difference) + f"after step {goal}, {what}"
        if verdict.difference and (goal in marks or goal > max(marks, default=0)):
            return verdict
    return verdict


def advance(trainer: Trainer, goal: int, valid: tuple[Data, Data] | None) -> None:
    """Train up to a step, which is no later than the end of the epoch under way."""
    at, bar = trainer.at, Progress(1, trainer.steps, show=False)
    with np.errstate(all="ignore"):
        trainer.epoch(bar, Stop(), math.inf, goal - at.epoch * trainer.steps)
        if at.batch == trainer.steps:
            trainer.measure(valid)


def first_difference(old: Standing, new: Standing) -> str:
    """The first parameter, buffer or number of the optimizer with other bits, and its first element."""
    pairs = {name: (value, new["model"].get(name)) for name, value in old["model"].items()}
    for name, kept in old["optimizer"]["state"].items():
        now = new["optimizer"]["state"].get(name, {})
        pairs |= {f"the optimizer's {part} of {name}": (value, now.get(part)) for part, value in kept.items()}
    for name, (old_value, new_value) in pairs.items():
        was, now = np.asarray(old_value), np.asarray(new_value)
        if was.shape != now.shape:
            return f"{name} had shape {was.shape}, now it has {now.shape}"
        if (first := first_other(was, now)) is not None:
            where = f"{name}[{', '.join(map(str, first))}]" if was.ndim else name
            others = np.count_nonzero(bits(was) != bits(now))
            return f"{where} was {was[first]}, now it is {now[first]} ({others} of {was.size} differ)"
    return ""


def first_other(was: np.ndarray, now: np.ndarray) -> tuple[int, ...] | None:
    """The index of the first element with other bits; None where all are the same."""
    different = np.argwhere(bits(was) != bits(now))
    return tuple(different[0].tolist()) if len(different) else None


def bits(values: np.ndarray) -> np.ndarray:
    """Numbers as unsigned integers of the same bits: a NaN equals itself, and -0.0 is not 0.0."""
    return values.view(f"u{values.itemsize}")
