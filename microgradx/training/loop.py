"""Train a model: `history = mg.fit(model, optimizer, train=(x, y), valid=(x, y), epochs=10)`.

With `out=FOLDER` everything that the rest of the run depends on is saved as it goes. Killed at any moment and
called again with `resume=True`, the same call ends with the same bits as if nothing had happened.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from microgradx.errors import ArgumentError, number, switch
from microgradx.kernels.random import generator
from microgradx.nn import Module, cross_entropy
from microgradx.optim import Optimizer, Schedule
from microgradx.optim.flat import Data
from microgradx.training import checks, identity
from microgradx.training.agreement import facts
from microgradx.training.checks import Pair, Part
from microgradx.training.cluster import Cluster
from microgradx.training.evaluation import Loss
from microgradx.training.files import Json
from microgradx.training.history import History
from microgradx.training.mpi import cluster_of
from microgradx.training.progress import Progress
from microgradx.training.resuming import resume as resume_run
from microgradx.training.runs import Run, compare, draw
from microgradx.training.stopping import interruptible
from microgradx.training.trainer import Trainer

Callback = Callable[[History], object]


def fit(
    model: Module,
    optimizer: Optimizer,
    train: Pair,
    valid: Pair | None = None,
    *,
    epochs: int = 10,
    batch_size: int = 128,
    loss: Loss = cross_entropy,
    schedule: Schedule | None = None,
    clip_norm: float | None = None,
    patience: int | None = None,
    restore_best: bool | None = None,
    drop_last: bool = False,
    skip_nonfinite: bool = False,
    sample_weight: ArrayLike | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    seed: int | None = None,
    cluster: Cluster | None = None,
    eager: bool = False,
    save_every: float = 30.0,
    callbacks: Sequence[Callback] = (),
    progress: bool = True,
    config: Json | None = None,
    classes: Sequence[str] = (),
) -> History:
    """Train for `epochs` passes over `train`, and return what was measured, a record per epoch.

    train, valid: (x, y), arrays or tensors of as many rows: x (n, ...) of what the model takes, floats as a
        rule; y (n,) integer labels, or (n, outputs) floats. Rows are shuffled anew for every epoch. It trains
        on the model's device, where `train` is kept; on the CPU rows are read as steps need them, so that
        arrays mapped from files, by `np.load(path, mmap_mode="r")` or `data.read_idx(path, mapped=True)`, may
        be larger than memory.
    epochs, batch_size: `microgradx train` has 30 and 32 instead, which suit the small set that it learns
        without options.
    loss: (outputs, targets) -> a scalar tensor. Accuracy is measured where the targets are integers.
    schedule: goes on after every optimizer step, so count its length in steps; ReduceLROnPlateau every epoch.
    clip_norm: bound of the norm of all gradients together, before each step.
    patience: stop after so many epochs without a smaller validation loss (or training loss, without `valid`).
    restore_best: leave the model with the weights of the best epoch instead of the last; by default with
        `patience`. The run folder keeps both.
    sample_weight: a number per row of `train`; a batch's loss is Σ weight · loss / Σ weight, for which `loss`
        takes reduction="none", as those of `nn` do.
    drop_last: leave out what is left of an epoch for a last, shorter batch: BatchNorm cannot take one row.
    skip_nonfinite: leave out, with a warning, a step whose loss, gradients or new weights are not finite.
    out: the run folder, see `Run`; resume: go on with what is in it, from the start if there is nothing yet.
    seed: of the shuffle and dropout; without one they go on from where `mg.seed` and earlier draws left them.
    cluster: the processes that share every batch, see `MPICluster`: by default all that mpiexec has started.
        Each calls `fit` with the same arguments and takes its own rows; batch size, learning rate, loss and
        metrics are those of the whole. BatchNorm takes the statistics of the rows of each process, as in
        PyTorch, and its running ones are averaged. Callbacks are called on every rank; rank 0 alone writes.
    eager: run every operation on its own, instead of whole steps as compiled code (which `jit` makes); as
        LBFGS does anyway, which evaluates each batch several times and does best with all rows in one.
    save_every: seconds between checkpoints inside an epoch; there is one after each epoch anyway.
    callbacks: each is called with the history after every epoch; one that returns True ends the run.
    config, classes: more for `config.json`, and the names of the labels for the confusion matrix.

    With a run folder, Ctrl-C finishes the step, saves, and raises KeyboardInterrupt, SIGTERM a SystemExit of
    143; the second signal ends it at once. A damaged checkpoint is named in a warning, and the newest whole
    one used. A loss or weight that is not finite raises NonFiniteError, which names the operation, your line
    and the step where it began, and leaves the model as it was before that step, and the last good
    checkpoint. ArgumentError and ShapeError say what does not fit,
    before anything is trained; CheckpointError what is wrong with a folder to go on with; ClusterError in
    what processes differ that should train together.

    >>> mg.seed(0)
    >>> model, (train, test) = nn.MLP([2, 8, 2]), data.moons(200)
    >>> optimizer = optim.Adam(model.parameters(), lr=0.05)
    >>> history = mg.fit(model, optimizer, train, test, epochs=10, batch_size=32, eager=True, progress=False)
    >>> len(history), history.best["valid_accuracy"] > 0.8
    (10, True)
    """
    checks.check_parts(model, optimizer, loss)
    checks.check_owner(model, optimizer)
    checks.scheduled(schedule, optimizer)
    epochs, batch_size = checks.counted("epochs", epochs), checks.counted("batch_size", batch_size)
    patience = None if patience is None else checks.counted("patience", patience)
    number("fit: clip_norm", math.inf if clip_norm is None else clip_norm, "(0, inf]")
    number("fit: save_every", save_every, "[0, inf]")
    switches = {"drop_last": drop_last, "skip_nonfinite": skip_nonfinite, "resume": resume, "eager": eager}
    for name, given in (switches | {"progress": progress, "restore_best": restore_best or False}).items():
        switch(f"fit: {name}", given)
    callbacks, classes, config = (
        checks.functions(callbacks),
        checks.labels(classes),
        checks.settings(config or {}),
    )
    rows: Part = checks.arrays("train", train)
    held_out = None if valid is None else checks.arrays("valid", valid)
    if sample_weight is not None:
        checks.check_weighted(loss)
        rows = (*rows, checks.weights_of(sample_weight, len(rows[0])))
    if resume and out is None:
        raise ArgumentError("resume=True needs the folder of the run: fit(..., out=FOLDER, resume=True).")
    if seed is not None:
        generator.seed(seed)
    cluster = cluster_of(cluster)
    run = Run(checks.folder(out)) if out is not None else None
    parts = model, optimizer, rows, batch_size, loss, schedule, clip_norm, run, eager, drop_last
    keep = bool(patience) if restore_best is None else restore_best
    trainer = Trainer(*parts, keep, skip_nonfinite, watched=bool(callbacks), cluster=cluster)
    asked = {"epochs": epochs, "patience": patience, "resume": resume, "out": run and str(run.folder)}
    cluster.agree(partial(facts, trainer, rows, held_out, **asked))
    going_on = run is not None and resume and cluster.lead(lambda: run.begun)
    if not going_on:
        checks.rehearse(model, loss, trainer.train, held_out, batch_size, classes)
    settings = {"epochs": epochs, "batch_size": batch_size, "clip_norm": clip_norm, "patience": patience}
    made = {"seed": seed, "model": repr(model), "optimizer": repr(optimizer), "schedule": repr(schedule)}
    made |= {"ranks": cluster.size, "reproducible": cluster.leaves * cluster.reproducible}
    described = {"fit": settings | made} | config
    made_of = identity.made_of(rows, held_out, loss, classes, optimizer, seed) if run else {}
    with cluster.together(), held(cluster, run):
        if run:
            cluster.lead(run.tidy)
        if run and going_on:
            before = resume_run(trainer, run, made_of)
            compare(before)
            began = before.get("made_of", {})
            described["made_of"] = made_of | {
                name: began[name] for name in (identity.OPTIONS,) if name in began
            }
            described = first(before, described, trainer) | before | described
            cluster.lead(partial(run.describe, described))
        elif run:
            cluster.lead(partial(run.create, described | {"made_of": made_of}))
            trainer.history.keep(0)
            trainer.save()
        checks.advise(optimizer, epochs, trainer.at.epoch, batch_size, trainer.rows)
        go(trainer, epochs, held_out, patience, save_every, callbacks, progress and cluster.rank == 0)
        if trainer.keep and len(trainer.history):
            trainer.restore()
        if run and len(trainer.history):
            cluster.lead(partial(draw, run, trainer.history, classes))
    return trainer.history


@contextmanager
def held(cluster: Cluster, run: Run | None) -> Iterator[None]:
    """Inside, no other job trains in the folder, which rank 0 holds."""
    with ExitStack() as stack:
        if run:
            cluster.lead(lambda: stack.enter_context(run.held()))
        yield


def first(before: Json, now: Json, trainer: Trainer) -> Json:
    """How a run began, and until which step it was so, if it goes on for other epochs: as schedules do."""
    step = trainer.at.epoch * trainer.steps + trainer.at.batch
    if not step or before.get("fit", {}).get("epochs") == now["fit"]["epochs"]:
        return {}
    return {"first": {"until": step} | {name: before[name] for name in now if name in before}}


def go(
    trainer: Trainer, epochs: int, valid: tuple[Data, Data] | None, patience: int | None, save_every: float,
    callbacks: Sequence[Callback], progress: bool,
) -> None:  # fmt: skip
    """The epochs that a run has left, unless something ends it before."""
    at, history = trainer.at, trainer.history
    stopped = bool(patience and at.waited >= patience)
    with (
        Progress(epochs, trainer.steps, at.epoch * trainer.steps + at.batch, progress) as bar,
        interruptible(trainer.run is not None) as stop,
        np.errstate(all="ignore"),  # what is not finite is looked for, and is an error, not a warning
    ):
        while at.epoch < epochs and not stopped:
            trainer.epoch(bar, stop, save_every)
            trainer.measure(valid)
            bar.epoch(history)
            asked = [callback(history) for callback in callbacks]
            (ended,) = trainer.cluster.most(
                any(isinstance(answer, bool | np.bool_) and answer for answer in asked)
            )
            stopped = bool(ended) or bool(patience and at.waited >= patience)
            (signal,) = trainer.cluster.most(stop.signal or 0)
            stop.signal = int(signal) or None
            if stop and at.epoch < epochs and not stopped:
                stop.end(f"stopped after epoch {at.epoch} of {epochs}")
