"""Train a model: `history = mg.fit(model, optimizer, train=(x, y), valid=(x, y), epochs=10)`.

With `out=FOLDER` everything that the rest of the run depends on is saved as it goes. Killed at any moment and
called again with `resume=True`, the same call ends with the same bits as if nothing had happened.
"""

import math
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from microgradx.compiler import jit
from microgradx.eager.creation import zeros
from microgradx.eager.devices import placed
from microgradx.eager.tensor import Tensor
from microgradx.errors import (
    ArgumentError,
    CaptureError,
    CheckpointError,
    CompileError,
    CompileWarning,
    KernelError,
    NonFiniteError,
)  # fmt: skip
from microgradx.kernels.random import generator
from microgradx.nn import Module, cross_entropy
from microgradx.optim import LBFGS, Optimizer, ReduceLROnPlateau, Schedule, clip_grad_norm_
from microgradx.primitives.reductions import argmax
from microgradx.primitives.reductions import sum as sum_over
from microgradx.primitives.shapes import flatten
from microgradx.training import checkpoints
from microgradx.training.checks import (
    Pair,
    advise,
    arrays,
    check_owner,
    check_parts,
    check_weighted,
    not_finite,
    positive,
    rehearse,
    weighted,
    weights_of,
)  # fmt: skip
from microgradx.training.evaluation import Loss, evaluate
from microgradx.training.history import History, Record, watched
from microgradx.training.progress import Progress
from microgradx.training.runs import Run, draw
from microgradx.training.step import updated

Callback = Callable[[History], Any]


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
    sample_weight: Any = None,
    out: str | Path | None = None,
    resume: bool = False,
    seed: int | None = None,
    eager: bool = False,
    save_every: float = 30.0,
    callbacks: Sequence[Callback] = (),
    progress: bool = True,
    config: dict[str, Any] | None = None,
    classes: Sequence[str] = (),
) -> History:
    """Train for `epochs` passes over `train`, and return what was measured, a record per epoch.

    train, valid: (x, y), arrays of as many rows. Rows are shuffled anew for every epoch. It trains on the
        model's device, where `train` is kept.
    loss: (outputs, targets) -> a scalar tensor. Accuracy is measured where the targets are integers.
    schedule: goes on after every optimizer step, so count its length in steps; ReduceLROnPlateau every epoch.
    clip_norm: bound of the norm of all gradients together, before each step.
    patience: stop after so many epochs without a smaller validation loss (or training loss, without `valid`).
    restore_best: leave the model with the weights of the best epoch instead of the last; by default with
        `patience`. The run folder keeps both.
    sample_weight: a number per row of `train`; a batch's loss is Σ weight · loss / Σ weight, for which `loss`
        takes reduction="none", as those of `nn` do.
    drop_last: leave out what is left of an epoch for a last, shorter batch: BatchNorm cannot take one row.
    out: the run folder, see `Run`; resume: go on with what is in it, from the start if there is nothing yet.
    seed: of the shuffle and dropout; without one they go on from where `mg.seed` and earlier draws left them.
    eager: run every operation on its own, instead of whole steps as compiled code (which `jit` makes); as
        LBFGS does anyway, which evaluates each batch several times and does best with all rows in one.
    save_every: seconds between checkpoints inside an epoch; there is one after each epoch anyway.
    callbacks: each is called with the history after every epoch; one that returns True ends the run.
    config, classes: more for `config.json`, and the names of the labels for the confusion matrix.

    Ctrl-C finishes the step, saves, and raises KeyboardInterrupt. A loss or weight that is not finite raises
    NonFiniteError and leaves the last good checkpoint.
    """
    check_parts(model, optimizer, loss)
    check_owner(model, optimizer)
    positive(epochs=epochs, batch_size=batch_size, clip_norm=clip_norm, patience=patience)
    train, valid = arrays("train", train), None if valid is None else arrays("valid", valid)
    if sample_weight is not None:
        check_weighted(loss)
        train = (*train, weights_of(sample_weight, len(train[0])))  # type: ignore[assignment]
    if resume and out is None:
        raise ArgumentError("resume=True needs the folder of the run: fit(..., out=FOLDER, resume=True).")
    if seed is not None:
        generator.seed(seed)
    run = Run(out) if out is not None else None
    trainer = Trainer(model, optimizer, train, batch_size, loss, schedule, clip_norm, run, eager, drop_last)
    trainer.keep = bool(patience) if restore_best is None else restore_best
    going_on = run is not None and resume and run.last.exists()
    if not going_on:
        rehearse(model, loss, trainer.train, valid, batch_size)
    if run and going_on:
        trainer.resume(run)
    elif run:
        settings = {"epochs": epochs, "batch_size": batch_size, "clip_norm": clip_norm, "patience": patience}
        made = {"seed": seed, "model": repr(model), "optimizer": repr(optimizer), "schedule": repr(schedule)}
        run.create({"fit": settings | made} | (config or {}))
        trainer.save()
    at, history = trainer.at, trainer.history
    advise(optimizer, epochs, at.epoch, batch_size, trainer.rows)
    stopped = bool(patience and at.waited >= patience)
    with (
        Progress(epochs, trainer.steps, at.epoch * trainer.steps + at.batch, progress) as bar,
        interruptible(run is not None) as interrupt,
        np.errstate(all="ignore"),  # what is not finite is looked for, and is an error, not a warning
    ):
        while at.epoch < epochs and not stopped:
            trainer.epoch(bar, interrupt, save_every)
            trainer.measure(valid)
            bar.epoch(history)
            asked = [callback(history) for callback in callbacks]
            stopped = any(answer is True for answer in asked) or bool(patience and at.waited >= patience)
    if trainer.keep and len(history):
        trainer.restore()
    if run and len(history):
        draw(run, history, classes)
    return history


@dataclass
class Position:
    """Where a run stands, apart from weights and random numbers."""

    epoch: int = 0  # finished ones
    batch: int = 0  # finished ones of the epoch under way, whose sums follow
    loss: float = 0.0
    hits: int = 0
    judged: int = 0
    seconds: float = 0.0
    best: float = math.inf
    waited: int = 0  # epochs since the best

    @property
    def accuracy(self) -> float | None:
        """Of the epoch so far; None where nothing is right or wrong."""
        return self.hits / self.judged if self.judged else None


@dataclass
class Trainer:
    """The state of a run and its moves: an epoch of steps, a measurement, a checkpoint."""

    model: Module
    optimizer: Optimizer
    train: Pair
    batch_size: int
    loss: Loss
    schedule: Schedule | None
    clip_norm: float | None
    run: Run | None
    eager: bool
    drop_last: bool = False
    keep: bool = False  # the weights of the best epoch
    kept: dict[str, np.ndarray] | None = None

    def __post_init__(self) -> None:
        self.rows = rows = len(self.train[0])
        if self.drop_last:
            rows -= rows % self.batch_size
            if not rows:
                size = self.batch_size
                raise ArgumentError(f"fit: {self.rows} rows make no batch of {size} with drop_last=True.")
        self.used = rows  # in an epoch
        self.train = tuple(placed(part, self.model.device) for part in self.train)
        self.steps = math.ceil(self.used / self.batch_size)
        self.at = Position()
        self.history = History(self.run.history if self.run else None)
        self.compiled, self.chunk = jit(self.step), 1
        self.eager = self.eager or isinstance(self.optimizer, LBFGS)  # whose search depends on what it finds
        self.shuffle = generator.state_dict()  # as it was when the order of this epoch was drawn

    def step(self, x: Tensor, y: Tensor, weight: Tensor | None = None) -> tuple[Tensor, ...]:
        """One update from one batch: its loss, how many outputs are right, and how many can be."""
        found: list[Tensor] = []  # outputs; LBFGS evaluates the batch several times

        def closure() -> Tensor:
            self.optimizer.zero_grad()
            outputs = self.model(x)
            loss = self.loss(outputs, y) if weight is None else weighted(self.loss, outputs, y, weight)
            loss.backward()
            if self.clip_norm is not None:
                clip_grad_norm_(self.optimizer, self.clip_norm)
            found.append(outputs)
            return loss

        loss = updated(self.optimizer, closure)
        if self.schedule is not None and not isinstance(self.schedule, ReduceLROnPlateau):
            self.schedule.step()
        return loss, *right(found[0], y)

    def steps_over(self, rows: np.ndarray) -> list[list[float]]:
        """The steps of some batches of rows: losses, right outputs and judged ones, a list of each."""
        if not self.eager:
            try:
                return [
                    t.tolist()
                    for t in self.compiled.scan(*self.train, batch_size=self.batch_size, order=rows)
                ]
            except (CaptureError, CompileError, KernelError) as error:
                warnings.warn(f"fit goes on line by line, as with eager=True: {error}", CompileWarning, 4)
                self.eager = True
        starts = range(0, len(rows), self.batch_size)
        parts = [Tensor(part) for part in self.train]
        batches = ([part[rows[i : i + self.batch_size]] for part in parts] for i in starts)
        results = [self.step(*batch) for batch in batches]
        return [[t.item() for t in column] for column in zip(*results, strict=True)]

    def epoch(self, bar: Progress, interrupt: threading.Event, save_every: float) -> None:
        """The steps that the current epoch has left."""
        at, size, before = self.at, self.batch_size, generator.state_dict()
        if at.batch == 0:
            self.shuffle = before
        generator.load_state_dict(self.shuffle)
        order = generator.permutation(self.rows)[: self.used]
        if at.batch:
            generator.load_state_dict(before)
        self.model.train()
        since = saved = time.perf_counter()
        while at.batch < self.steps:
            start = time.perf_counter()
            rows = order[at.batch * size : (at.batch + self.chunk) * size]
            for step, (value, hits, judged) in enumerate(zip(*self.steps_over(rows), strict=True)):
                if not math.isfinite(value):
                    raise self.diverged(f"the loss is {value}", "train", self.train)
                at.batch += 1
                at.loss += value * len(rows[step * size : (step + 1) * size])
                at.hits, at.judged = at.hits + int(hits), at.judged + int(judged)
            seen, now = min(at.batch * size, self.used), time.perf_counter()
            if not self.eager and now - start < 0.02:  # seldom back to Python, yet often enough for Ctrl-C
                self.chunk *= 2
            bar.step(at.epoch + 1, at.epoch * self.steps + at.batch, len(rows), at.loss / seen, at.accuracy)
            if interrupt.is_set() or (now - saved > save_every and at.batch < self.steps):
                at.seconds, since, saved = at.seconds + now - since, now, now
                self.save()
                if interrupt.is_set():
                    raise KeyboardInterrupt(
                        f"stopped in epoch {at.epoch + 1} after {at.batch} of {self.steps} steps"
                    )
        at.seconds += time.perf_counter() - since

    def measure(self, valid: Pair | None) -> None:
        """Close the epoch: validate, record, and save, as the best too if it is."""
        at, rows = self.at, self.used
        record: Record = {"epoch": at.epoch + 1, "step": (at.epoch + 1) * self.steps, "loss": at.loss / rows}
        if at.accuracy is not None:
            record["accuracy"] = at.accuracy
        confusion = None
        if valid is not None:
            loss, accuracy, confusion = evaluate(self.model, *valid, self.loss)
            if not math.isfinite(loss):
                raise self.diverged(f"the validation loss is {loss}", "valid", valid)
            record["valid_loss"] = loss
            if accuracy is not None:
                record["valid_accuracy"] = accuracy
        record["lr"] = self.optimizer.param_groups[0]["lr"]
        record |= {"seconds": round(at.seconds, 4), "samples_per_second": round(rows / max(at.seconds, 1e-9))}
        value = watched(record)
        if isinstance(self.schedule, ReduceLROnPlateau):
            self.schedule.step(value)
        improved = value < at.best
        best, waited = (value, 0) if improved else (at.best, at.waited + 1)
        self.at.__dict__.update(asdict(Position(epoch=at.epoch + 1, best=best, waited=waited)))
        self.history.append(record)  # before the checkpoint: resuming drops the lines that it does not know
        if improved and self.keep and not self.run:
            self.kept = self.model.state_dict()
        self.save(confusion, improved)

    def save(self, confusion: np.ndarray | None = None, best: bool = False) -> None:
        """Write `last.safetensors`, and `best.safetensors` before it."""
        if not self.run:
            return
        model = self.model.state_dict()
        if bad := [name for name, array in model.items() if not np.isfinite(array).all()]:
            raise self.diverged(f"{bad[0]} is not finite", "train", self.train)
        state = {
            "model": model,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict() if self.schedule is not None else None,
            "random": generator.state_dict(),
            "shuffle": self.shuffle,
            "position": asdict(self.at),
            "rows": self.rows,
            "batch_size": self.batch_size,
            "confusion": confusion,
        }
        if best:
            checkpoints.save(self.run.best, state)
        checkpoints.save(self.run.last, state)

    def restore(self) -> None:
        """Give the model the weights of the best epoch."""
        best = checkpoints.load(self.run.best)["model"] if self.run and self.run.best.exists() else self.kept
        if best is not None:
            self.model.load_state_dict(best)

    def resume(self, run: Run) -> None:
        """Go on from the last checkpoint of a run."""
        state = checkpoints.load(run.last)
        for name, now in (("rows", self.rows), ("batch_size", self.batch_size)):
            if state[name] != now:
                raise CheckpointError(
                    f"{run.folder}: {name} was {state[name]}, now it is {now}: it must stay."
                )
        if (state["schedule"] is None) != (self.schedule is None):
            had = "no" if state["schedule"] is None else "a"
            raise CheckpointError(f"{run.folder} was trained with {had} schedule: resume it with the same.")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.schedule is not None:
            self.schedule.load_state_dict(state["schedule"])
        generator.load_state_dict(state["random"])
        self.shuffle = state["shuffle"]
        self.at.__dict__.update(state["position"])
        self.history = History.read(run.history)
        self.history.keep(self.at.epoch)

    def diverged(self, what: str, name: str = "", data: tuple = ()) -> NonFiniteError:
        """The error that says where it happened and what to do; the data may be what is not finite."""
        kept = f" The last good checkpoint is {self.run.last}." if self.run else ""
        at, rate = self.at, self.optimizer.param_groups[0]["lr"]
        advice = not_finite(name, data) or (
            f"Lower the learning rate (now {rate:g}) or bound the gradients with clip_norm; "
            "mg.detect_anomaly() names the operation."
        )
        where = f"in epoch {at.epoch + 1}, step {min(at.batch + 1, self.steps)} of {self.steps}"
        return NonFiniteError(f"{what} {where}. {advice}{kept}")


def right(outputs: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """How many predictions are right, and how many labels there are; both 0 where targets are no labels."""
    if outputs.ndim > 1 and outputs.shape[1] > 1:
        predicted = argmax(outputs, 1)
    else:
        predicted = outputs > 0
    if y.dtype.kind not in "iub" or predicted.size != y.size:
        return zeros(), zeros()
    labels = flatten(y)
    counts = labels >= 0  # a negative label, such as PyTorch's -100, says that the row does not count
    return sum_over((flatten(predicted) == labels) & counts), sum_over(counts)


@contextmanager
def interruptible(active: bool) -> Iterator[threading.Event]:
    """Inside, the first Ctrl-C sets the event, so that the step under way ends well; the second raises."""
    asked = threading.Event()
    if not active or threading.current_thread() is not threading.main_thread():
        yield asked
        return
    default = signal.getsignal(signal.SIGINT)

    def handle(*_: Any) -> None:
        asked.set()
        signal.signal(signal.SIGINT, default)

    signal.signal(signal.SIGINT, handle)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, default)
