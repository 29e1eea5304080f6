"""The state of a run of `fit` and its moves: steps of an epoch, a measurement, a checkpoint, going on."""

import math
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial

import numpy as np

from microgradx.compiler import jit
from microgradx.data import Shards
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
    TrainingWarning,
)  # fmt: skip
from microgradx.kernels.blas import one_thread
from microgradx.kernels.random import generator
from microgradx.nn import Module
from microgradx.optim import LBFGS, Optimizer, ReduceLROnPlateau, Schedule
from microgradx.optim.flat import Data
from microgradx.training import checkpoints
from microgradx.training.checks import Part, not_finite, weighted
from microgradx.training.cluster import Cluster
from microgradx.training.divergence import Snapshot, looked_at
from microgradx.training.evaluation import Loss, evaluate, scalar, unit_of
from microgradx.training.history import History, Record, watched
from microgradx.training.parallel import Parallel
from microgradx.training.progress import Progress
from microgradx.training.runs import Run, Standing
from microgradx.training.step import right, update
from microgradx.training.stopping import Stop

HINT = "; mg.detect_anomaly() names the operation"
RECORDED = 10_000
"""Steps whose losses stand in every checkpoint: `microgradx verify` compares with them."""


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
    skipped: int = 0  # rows of the epoch whose steps were left out

    @property
    def accuracy(self) -> float | None:
        """Of the epoch so far; None where nothing is right or wrong."""
        return self.hits / self.judged if self.judged else None


@dataclass
class Trainer:
    """The state of a run and its moves: an epoch of steps, a measurement, a checkpoint."""

    model: Module
    optimizer: Optimizer
    train: Part
    batch_size: int
    loss: Loss
    schedule: Schedule | None
    clip_norm: float | None
    run: Run | None
    eager: bool
    drop_last: bool = False
    keep: bool = False  # the weights of the best epoch
    skip: bool = False  # steps whose numbers are not finite
    kept: dict[str, np.ndarray] | None = None
    watched: bool = False  # by callbacks, which may change anything after a checkpoint
    saved: tuple[int, int] | None = None  # epoch and batch of the last checkpoint
    cluster: Cluster = field(default_factory=Cluster)

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
        self.at, self.losses = Position(), list[float]()
        self.history = self.records()
        self.per_step = None if isinstance(self.schedule, ReduceLROnPlateau) else self.schedule
        parts = self.model, self.optimizer, self.loss, self.per_step, self.clip_norm
        self.parallel = Parallel(self.cluster, *parts) if self.cluster.shared else None
        self.compiled, self.chunk = jit(self.step), 1
        self.eager = self.eager or isinstance(self.optimizer, LBFGS)  # whose search depends on what it finds
        self.shuffle = generator.state_dict()  # as it was when the order of this epoch was drawn

    def records(self, found: Sequence[Record] = ()) -> History:
        """A history of what was found, which rank 0 keeps in the run's folder."""
        history = History(self.run.history if self.run and self.cluster.rank == 0 else None)
        history.records = list(found)
        return history

    def step(self, x: Tensor, y: Tensor, weight: Tensor | None = None) -> tuple[Tensor, ...]:
        """One update from one batch: its loss, how many outputs are right, and how many can be."""

        def loss_of(outputs: Tensor) -> Tensor:
            if weight is None:
                return scalar(self.loss(outputs, y))
            return weighted(self.loss, outputs, y, weight)

        loss, outputs = update(self.model, self.optimizer, x, loss_of, self.per_step, self.clip_norm)
        return loss, *right(outputs, y)

    @one_thread(numpy=True)  # for what runs line by line, such as a last short batch: bits depend on threads
    def steps_over(self, rows: np.ndarray, first: int) -> list[list[float]]:
        """The steps of some batches of rows: losses, right outputs and judged ones, a list of each.

        first: the number of the first of them in the epoch.
        """
        if not self.eager:
            try:
                if self.parallel:
                    return self.parallel.steps_over(*self.shared(rows, first), eager=False)
                streamed = any(isinstance(part, Shards) for part in self.train)
                data = [part[rows] for part in self.train] if streamed else self.train
                order = None if streamed else rows
                found = self.compiled.scan(*data, batch_size=self.batch_size, order=order)
                return [t.tolist() for t in found]
            except (CaptureError, CompileError, KernelError) as error:
                warnings.warn(f"fit goes on line by line, as with eager=True: {error}", CompileWarning, 4)
                self.eager = True
        if self.parallel:
            return self.parallel.steps_over(*self.shared(rows, first), eager=True)
        starts = range(0, len(rows), self.batch_size)
        parts = [part if isinstance(part, np.ndarray | Shards) else Tensor(part) for part in self.train]
        batches = ([Tensor(part[rows[i : i + self.batch_size]]) for part in parts] for i in starts)
        results = [self.step(*batch) for batch in batches]
        return [[t.item() for t in column] for column in zip(*results, strict=True)]

    def shared(self, rows: np.ndarray, first: int) -> tuple[Part, np.ndarray, int, int]:
        """What steps are made of that processes share."""
        return self.train, rows, self.batch_size, self.at.epoch * self.steps + first

    def epoch(self, bar: Progress, stop: Stop, save_every: float, until: int | None = None) -> None:
        """The steps that the current epoch has left, or those before `until`."""
        at, size, before, unit = self.at, self.batch_size, generator.state_dict(), unit_of(self.loss)
        until = self.steps if until is None else until
        if at.batch == 0:
            self.shuffle = before
        generator.load_state_dict(self.shuffle)
        order = generator.permutation(self.rows)[: self.used]
        if at.batch:
            generator.load_state_dict(before)
        self.model.train()
        since = saved = time.perf_counter()
        self.look_back()
        while at.batch < until:
            start = time.perf_counter()
            rows = order[at.batch * size : min(at.batch + self.chunk, until) * size]
            for step, (value, hits, judged) in enumerate(zip(*self.steps_over(rows, at.batch), strict=True)):
                if not math.isfinite(value):
                    self.wrong(f"the loss is {value}", order)
                    break  # what came after it did not happen
                at.batch += 1
                if len(self.losses) < RECORDED:
                    self.losses.append(value)
                at.loss += value * unit * len(rows[step * size : (step + 1) * size])
                at.hits, at.judged = at.hits + int(hits), at.judged + int(judged)
            seen, now = min(at.batch * size, self.used) - at.skipped, time.perf_counter()
            slow, due, signal = self.cluster.most(
                self.eager or now - start >= 0.02, now - saved > save_every, stop.signal or 0
            )
            stop.signal = int(signal) or None
            if not slow:  # seldom back to Python, yet often enough for Ctrl-C
                self.chunk *= 2
            bar.step(
                at.epoch + 1, at.epoch * self.steps + at.batch, len(rows), at.loss / max(seen, 1), at.accuracy
            )
            if stop or (due and at.batch < self.steps):
                at.seconds, since, saved = at.seconds + now - since, now, now
                self.save()
                self.look_back()
                if stop:
                    stop.end(f"stopped in epoch {at.epoch + 1} after {at.batch} of {self.steps} steps")
        at.seconds += time.perf_counter() - since

    def look_back(self) -> None:
        """Make this the moment to go back to; a checkpoint has it, unless callbacks may have changed it."""
        self.before: Snapshot | None = None  # not two copies at a time
        saved = self.run is not None and not self.watched and self.saved == (self.at.epoch, self.at.batch)
        path = self.run.last if self.run and saved and self.cluster.rank == 0 else None
        self.before = Snapshot(self.model, self.optimizer, self.schedule, self.at.batch, path)

    def wrong(self, what: str, order: np.ndarray) -> None:
        """Say where it began, as an error; or, where that was chosen, leave that step out and go on."""
        error: object = self.diverged(what, "train", self.train)
        at = self.at
        try:
            batch, text = self.born(order)
        except CheckpointError as damage:
            raise NonFiniteError(f"{error} Where it began cannot be found: {damage}") from None
        error = f"{error}".replace(HINT, "") if text else error
        if not self.skip or at.skipped >= self.used - self.batch_size:
            raise NonFiniteError(f"{error}{text}")
        warnings.warn(f"fit: a step is left out. {what}.{text}", TrainingWarning, stacklevel=5)
        if batch == at.batch:  # the one before it has been counted
            at.skipped += len(order[batch * self.batch_size : (batch + 1) * self.batch_size])
            if len(self.losses) < RECORDED:
                self.losses.append(math.nan)
        at.batch = batch + 1
        self.look_back()

    def born(self, order: np.ndarray) -> tuple[int, str]:
        """The step that made the loss of the current one go wrong, itself or the one before it, and how.

        Leaves model, optimizer and random numbers as they were before that step, on disk too.
        """
        bad, size, before = self.at.batch, self.batch_size, self.before
        if before is None:
            return bad, ""
        for batch in dict.fromkeys([max(bad - 1, before.batch), bad]):
            before.restore()
            if batch > before.batch:
                self.steps_over(order[before.batch * size : batch * size], before.batch)
            then = Snapshot(self.model, self.optimizer, self.schedule, batch)
            rows = order[batch * size : (batch + 1) * size]
            batches = [Tensor(part[rows[self.cluster.share(len(rows))]]) for part in self.train]
            step = partial(self.step, *batches)
            found = looked_at(step, self.model, self.optimizer) if len(batches[0]) else ""
            found = next(filter(None, self.cluster.texts(found)), "")
            then.restore()
            if found:
                break
        else:
            return bad, ""
        text = f" It began in step {batch + 1}: {found}"
        if self.run:
            path = self.run.folder / "diverged.safetensors"
            state = then.state | {"random": then.random, "rows": rows}
            self.cluster.lead(partial(checkpoints.save, path, state))
            text += f"\nThe state before that step, and its rows, are in {path}."
        return batch, text

    def measure(self, valid: tuple[Data, Data] | None) -> None:
        """Close the epoch: validate, record, and save, as the best too if it is."""
        at, rows = self.at, self.used - self.at.skipped
        record: Record = {"epoch": at.epoch + 1, "step": (at.epoch + 1) * self.steps, "loss": at.loss / rows}
        if at.accuracy is not None:
            record["accuracy"] = at.accuracy
        confusion = None
        if self.parallel:
            self.parallel.level()
        if valid is not None:
            loss, accuracy, confusion = evaluate(self.model, *valid, self.loss, cluster=self.cluster)
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
        """Let rank 0 write how all stand; see `write`."""
        if self.parallel:
            self.parallel.level()
            self.parallel.compare()
        if self.run:
            self.cluster.lead(partial(self.write, self.run, confusion, best))

    def write(self, run: Run, confusion: np.ndarray | None, best: bool) -> None:
        """Write `last.safetensors`, beside the one before it, and `best.safetensors` ahead of it."""
        state = self.state(confusion)
        if bad := [name for name, array in state["model"].items() if not np.isfinite(array).all()]:
            raise self.diverged(f"{bad[0]} is not finite", "train", self.train)
        if best:
            checkpoints.save(run.best, state)
        checkpoints.save(run.last, state, run.previous)
        self.saved = (self.at.epoch, self.at.batch)

    def state(self, confusion: np.ndarray | None = None) -> Standing:
        """All that the rest of the run depends on, and what it was made of."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict() if self.schedule is not None else None,
            "random": generator.state_dict(),
            "shuffle": self.shuffle,
            "position": asdict(self.at),
            "rows": self.rows,
            "batch_size": self.batch_size,
            "steps": self.steps,  # of an epoch
            "confusion": confusion,
            "losses": np.array(self.losses),
            "record": self.history.records[-1] if len(self.history) else None,
            "config": self.run.settings if self.run else {},
        }

    def restore(self) -> None:
        """Give the model the weights of the best epoch."""
        best, run = self.kept, self.run
        if run:
            best = self.cluster.lead(
                lambda: checkpoints.load(run.best)["model"] if run.best.exists() else None
            )
        if best is not None:
            self.model.load_state_dict(best)

    def stand(self, state: Standing) -> None:
        """Go on where a state was taken, whose model and optimizer have been loaded."""
        if self.schedule is not None and (progress := state["schedule"]) is not None:
            self.schedule.load_state_dict(progress)
        generator.load_state_dict(state["random"])
        self.shuffle = state["shuffle"]
        self.at.__dict__.update(state["position"])
        self.losses = np.asarray(state.get("losses", ())).tolist()

    def diverged(self, what: str, name: str = "", data: Part = ()) -> NonFiniteError:
        """The error that says where it happened and what to do; the data may be what is not finite."""
        kept = f" The last good checkpoint is {self.run.last}." if self.run else ""
        at, rate = self.at, self.optimizer.param_groups[0]["lr"]
        advice = not_finite(name, data) or (
            f"Lower the learning rate (now {rate:g}) or bound the gradients with clip_norm{HINT}."
        )
        where = f"in epoch {at.epoch + 1}, step {min(at.batch + 1, self.steps)} of {self.steps}"
        return NonFiniteError(f"{what} {where}. {advice}{kept}")
