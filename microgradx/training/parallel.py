"""A training step that is shared: each process differentiates its rows of a batch, all take the same step.

The gradient of a part of the batch is one compiled function, the update another; between them the gradients,
few long arrays, are added up over all parts, here and on the other processes. A part weighs as much as its
rows count in the mean that the loss is, so that the sum is the gradient of the whole batch.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from inspect import signature

import numpy as np

from microgradx.compiler import jit
from microgradx.eager.devices import on_host
from microgradx.eager.tensor import Tensor, wrap
from microgradx.errors import ArgumentError, ClusterError
from microgradx.kernels.random import generator
from microgradx.nn import BatchNorm1d, Module
from microgradx.optim import LBFGS, Optimizer, Schedule, clip_grad_norm_
from microgradx.training.checks import Part, weighted
from microgradx.training.cluster import Cluster
from microgradx.training.evaluation import Loss
from microgradx.training.identity import digest_of
from microgradx.training.step import right

STRIDE = 1 << 24
"""Blocks of random numbers that a step has for itself, of which each part draws from a stream of its own."""

GOLDEN = 0x9E3779B97F4A7C15
"""2^64 / φ: seeds that far apart are those of the parts of a batch."""


@dataclass
class Parallel:
    """Steps whose batches are cut into parts, in this process and over others."""

    cluster: Cluster
    model: Module
    optimizer: Optimizer
    loss: Loss
    schedule: Schedule | None  # that goes on after every step
    clip_norm: float | None
    stepped: set[str] = field(default_factory=set)  # the parameters that had gradients in the last part

    def __post_init__(self) -> None:
        self.takes = signature_of(self.loss)
        self.gradient, self.update = jit(self.differentiate), jit(self.advance)
        self.stepped = {name for name, p in self.optimizer.parameters.items() if p.requires_grad}
        self.check()

    def check(self) -> None:
        """ArgumentError for what cannot be shared."""
        if isinstance(self.optimizer, LBFGS):
            what = "LBFGS evaluates a batch as often as its search asks, on one process"
            raise ArgumentError(f"fit: {what}: take another optimizer, or cluster=training.Cluster().")
        if self.takes.get("reduction", "mean") not in ("mean", "batchmean"):
            what = "the loss is a sum, and a batch that is shared needs a mean over its rows"
            raise ArgumentError(f'fit: {what}: take reduction="mean".')
        if self.cluster.reproducible and any(isinstance(m, BatchNorm1d) for m in self.model.modules()):
            what = "BatchNorm1d takes the statistics of the rows that a process has"
            raise ArgumentError(f"fit: {what}, so reproducible has no meaning: take LayerNorm, or leave it.")

    # The compiled parts

    def differentiate(
        self, x: Tensor, y: Tensor, count: Tensor, weight: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The gradient of a part's loss times its count; the loss, and right and judged outputs."""
        self.optimizer.zero_grad()
        outputs = self.model(x)
        loss = self.loss(outputs, y) if weight is None else weighted(self.loss, outputs, y, weight)
        (loss * count.to(loss.dtype)).backward()
        return loss, *right(outputs, y)

    def advance(self) -> None:
        """The update by the gradients that are there."""
        if self.clip_norm is not None:
            clip_grad_norm_(self.optimizer, self.clip_norm)
        self.optimizer.step()
        if self.schedule is not None:
            self.schedule.step()

    # A step

    def steps_over(
        self, train: Part, rows: np.ndarray, size: int, first: int, eager: bool
    ) -> list[list[float]]:
        """The steps of some batches of rows: losses, right outputs and judged ones, a list of each.

        first: how many steps the run has behind it. One whose shape hardly comes again runs line by line.
        """
        starts = range(0, len(rows), size)
        batches = ((rows[i : i + size], first + k) for k, i in enumerate(starts))
        results = [self.step(train, batch, k, eager or len(batch) < size) for batch, k in batches]
        return [list(column) for column in zip(*results, strict=True)]

    def step(self, train: Part, rows: np.ndarray, number: int, eager: bool) -> tuple[float, float, float]:
        """One step: the mean loss of the batch, and how many outputs are right, of how many.

        The next shuffle does not depend on what is drawn in it: each part has a stream of its own.
        """
        seed, block = before = generator._seed, generator._block
        there, parts = (seed, block + number * STRIDE), self.cluster.parts(len(rows))
        found = self.added(self.part(train, rows[at], k, there, eager) for k, at in parts)
        self.cluster.sum(found)
        *gradients, (loss, hits, judged, count) = found
        with np.errstate(all="ignore"):
            for flat, gradient in zip(self.optimizer.flats, gradients, strict=True):
                gradient *= gradient.dtype.type(1 / count if count else 0)
                if gradient is not flat.gradients:
                    flat.gradients[...] = gradient
            mean = np.float64(loss) / count
        (self.update.function if eager else self.update)()
        generator._seed, generator._block = before
        return float(mean), float(hits), float(judged)

    def part(
        self, train: Part, rows: np.ndarray, number: int, random: tuple[int, int], eager: bool
    ) -> list[np.ndarray]:
        """The gradients of some rows, each times their count, and their sums: loss, right, judged, count."""
        flats = self.optimizer.flats
        batch = [np.asarray(part[rows]) for part in train]
        count = counted(self.takes, *batch[1:]) if len(rows) else 0.0
        sums = np.zeros(4)
        if count:
            generator._seed, generator._block = (random[0] + (number + 1) * GOLDEN) % 2**64, random[1]
            x, y, *weight = map(Tensor, batch) if eager else batch
            given = np.array(count, np.float64)
            function = self.gradient.function if eager else self.gradient
            loss, hits, judged = function(x, y, Tensor(given) if eager else given, *weight)
            sums[:] = loss.item() * count, hits.item(), judged.item(), count
            self.stepped = {n for n, p in self.optimizer.parameters.items() if p._grad is not None}
            self.optimizer.gradients()  # all at home
        else:  # the others have rows that count
            for flat in flats:
                flat.gradients[...] = 0
                for part in flat.parts:
                    part.parameter._grad = wrap(part.gradient) if part.name in self.stepped else None
        for rest in (part for flat in flats for part in flat.parts if part.parameter._grad is None):
            rest.gradient[...] = 0
        return [*(on_host(flat.gradients) for flat in flats), sums]

    def added(self, parts: Iterator[list[np.ndarray]]) -> list[np.ndarray]:
        """The sum of this process's parts, a power of two of them: in pairs, then pairs of pairs."""
        if self.cluster.leaves == self.cluster.size:
            return next(parts)
        sums: list[tuple[int, list[np.ndarray]]] = []  # with how many parts are in each
        for part in parts:
            new, size = [array.copy() for array in part], 1
            while sums and sums[-1][0] == size:
                new, size = [a + b for a, b in zip(sums.pop()[1], new, strict=True)], 2 * size
            sums.append((size, new))
        return sums[0][1]

    # What must be equal everywhere

    def level(self) -> None:
        """Give what forward passes change, such as BatchNorm's running statistics, the mean over ranks."""
        trained = {id(p) for p in self.model.parameters()}
        buffers = {name: t for name, t in self.model.named_tensors() if id(t) not in trained}
        digests = " ".join(digest_of(t._data) for t in buffers.values())
        if len({*self.cluster.texts(digests)}) == 1:
            return
        for name, t in buffers.items():
            if t.dtype.kind == "f":
                if self.cluster.reproducible:
                    what = f"{name} depends on which rows a process has, so reproducible has no meaning"
                    raise ClusterError(f"fit: {what}: leave it, or the layer.")
                mean = on_host(t._data) / self.cluster.size
                self.cluster.sum([mean])
                t._data[...] = mean
                t._version[0] += 1

    def compare(self) -> None:
        """ClusterError where weights are not the same on all ranks: their machines compute otherwise."""
        self.cluster.agree(
            lambda: {f"{name} after a step": digest_of(t._data) for name, t in self.model.named_tensors()}
        )


def signature_of(loss: Loss) -> dict[str, object]:
    """The defaults of a loss, those of a `partial` among them."""
    try:
        return {name: p.default for name, p in signature(loss).parameters.items()}
    except ValueError:  # of what is not written in Python
        return {}


def counted(takes: dict[str, object], y: np.ndarray, weight: np.ndarray | None = None) -> float:
    """What the mean of a loss over some rows is divided by: rows, their weights, or the labels that count.

    takes: the loss's options.

    >>> counted({"ignore_index": -100, "weight": [1, 3]}, np.array([0, -100, 1]))
    4.0
    """
    if weight is not None:
        return float(weight.sum(dtype=np.float64))
    if "ignore_index" not in takes or y.dtype.kind not in "iu":
        return float(len(y))
    counts = y != takes["ignore_index"]
    classes = takes.get("weight")
    if classes is None:
        return float(np.count_nonzero(counts))
    return float(np.where(counts, np.asarray(classes)[np.where(counts, y, 0)], 0).sum(dtype=np.float64))
