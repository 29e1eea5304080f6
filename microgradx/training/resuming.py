"""Going on with a run, from its newest checkpoint, as what it was."""

import math
import warnings
from functools import partial
from pathlib import Path

from microgradx.errors import CheckpointError, TrainingWarning
from microgradx.training import checkpoints
from microgradx.training.checks import same_model
from microgradx.training.files import Json, writing
from microgradx.training.history import History
from microgradx.training.identity import VALID, Made, kept, same
from microgradx.training.runs import Run, reached
from microgradx.training.trainer import Trainer


def resume(trainer: Trainer, run: Run, made: Made) -> Json:
    """Go on from a run's newest checkpoint, and give its configuration; an error changes nothing.

    made: of what it is, which must be as it was.
    """
    path, state = trainer.cluster.lead(run.newest)
    for name, now in (("rows", trainer.rows), ("batch_size", trainer.batch_size), ("steps", trainer.steps)):
        if state.get(name, now) != now:
            what = {"steps": "the number of steps of an epoch (drop_last)"}.get(name, name)
            raise CheckpointError(
                f"{run.folder}: {what} was {state.get(name)}, now it is {now}: it must stay."
            )
    if (state["schedule"] is None) != (trainer.schedule is None):
        had = "no" if state["schedule"] is None else "a"
        raise CheckpointError(f"{run.folder} was trained with {had} schedule: resume it with the same.")
    settings: Json = state.get("config") or {}
    began = settings.get("made_of", {})
    same(began, made, run.folder)
    before, schedule = trainer.model.state_dict(), trainer.schedule
    planned = None if schedule is None else schedule.state_dict()
    trainer.model.load_state_dict(state["model"])
    try:
        if schedule is not None and (progress := state["schedule"]) is not None:
            schedule.load_state_dict(progress)  # before anything else changes: it may be refused
        same_model(settings.get("fit", {}).get("model"), repr(trainer.model), run.folder)
        trainer.optimizer.load_state_dict(state["optimizer"])
    except CheckpointError:
        trainer.model.load_state_dict(before)
        if schedule is not None and planned is not None:
            schedule.load_state_dict(planned)
        raise
    trainer.stand(state)
    there = partial(History.recovered, run.history, trainer.at.epoch, state.get("record"))
    trainer.history = trainer.records(trainer.cluster.lead(lambda: there().records))
    if other := kept(began, made):
        what = f"the run goes on with {other} as given here: what it began with is kept"
        advice = "Change it in a callback, as by optimizer.param_groups[0]['lr'] = ..."
        warnings.warn(f"{what}. {advice}", TrainingWarning, stacklevel=3)
    if began.get(VALID, made[VALID]) != made[VALID]:
        what = f"{VALID} was {began[VALID]}, now {made[VALID]}"
        warnings.warn(f"{what}: the best epoch is looked for anew.", TrainingWarning, stacklevel=3)
        trainer.at.best, trainer.at.waited = math.inf, 0
    if math.isfinite(trainer.at.best) and (lost := trainer.cluster.lead(partial(problem_of, run.best))):
        what = "the weights of the best epoch are lost, and the best from here on is kept"
        warnings.warn(f"{lost} Without it {what}.", TrainingWarning, stacklevel=3)
        trainer.at.best = math.inf
    run.settings, trainer.saved = settings, reached(state)
    if path != run.last:
        if trainer.cluster.rank == 0 and run.last.exists():  # damaged: it must not become the previous one
            with writing(run.folder / "last.damaged"):
                run.last.replace(run.folder / "last.damaged")
        trainer.save(state["confusion"])
    return run.settings


def problem_of(path: Path) -> str:
    """Why a checkpoint cannot be loaded; "" where it can."""
    try:
        checkpoints.load(path)
    except CheckpointError as error:
        return str(error)
    return ""
