"""A pass over data in compiled code: `step.scan(x, y, batch_size=128)`."""

import time
from collections.abc import Sequence

import numpy as np

from microgradx.compiler.capture.arguments import is_tidy, tidy
from microgradx.compiler.capture.pytree import Given, detached, flatten, unflatten
from microgradx.compiler.run.compiled_step import CompiledStep
from microgradx.compiler.run.memory import Changed
from microgradx.compiler.run.variants import Variants
from microgradx.cuda import Array
from microgradx.eager.mode import mode
from microgradx.eager.tensor import Tensor, wrap
from microgradx.errors import CaptureError
from microgradx.primitives.indexing import cat

GATHERED = 1 << 26
"""Bytes of rows that are copied at a time where compiled code cannot read the data as they lie there."""


class Scan:
    """One pass over the data."""

    def __init__(self, step: Variants[object], arrays: Sequence[Given], order: np.ndarray, size: int):
        self.step, self.arrays, self.order, self.size = step, arrays, order, size
        self.results: list[tuple[object, list[Given]]] = []  # structure, and outputs over some steps

    def run(self) -> object:
        """All full batches in compiled code, some at a time so that Ctrl-C is heard; then the rest."""
        done, steps = 0, len(self.order) // self.size
        self.chunk = 64
        while done < steps:
            with self.step.turn:
                done = self.further(done, steps)
        if len(self.order) % self.size:
            if self.step.last is not None and self.step.last.kind.worthwhile:
                self.alone(done)
            else:  # one step: not worth another program
                self.eager(done)
        return self.stacked()

    def further(self, done: int, steps: int) -> int:
        """The next batches, as many as take less than about 0.1 s: how many are done then."""
        variant = self.ahead(done)
        if variant is None:
            self.alone(done)
            return done + 1
        self.arrays = variant.compile().carry(self.arrays)
        start = time.perf_counter()
        fit = variant.captured.steady() and variant.captured.moved is None
        count, arrays, order = self.ready(done, min(self.chunk, steps - done, variant.most) if fit else 1)
        try:
            outs, finished = variant.run(arrays, count, order)
        except Changed:
            self.step.variants.clear()
            return done
        except CaptureError as error:
            self.step.leave(self.key, variant, error)
            return done
        self.results.append((variant.captured.result, [out[:finished] for out in outs]))
        done += finished
        variant.calls += max(finished - 1, 0)
        if finished < count:  # an index was out of range in the next step: run it eagerly
            self.eager(done)
            done += 1
        if time.perf_counter() - start < 0.05:
            self.chunk *= 2
        return done

    def ready(self, done: int, count: int) -> tuple[int, Sequence[Given], np.ndarray]:
        """How many of `count` steps are next, the data for them, and which rows of these they take.

        Data that compiled code cannot read as they lie there may be larger than memory, mapped from a file of
        another layout or in another machine's order of bytes: some batches of them are copied, never all.
        """
        if all(isinstance(a, Array) or is_tidy(a) for a in self.arrays):
            return count, self.arrays, self.order[done * self.size :]
        batch = sum(a.nbytes for a in self.arrays) // len(self.arrays[0]) * self.size
        count = max(1, min(count, GATHERED // max(batch, 1)))
        return count, self.rows(done, count), np.arange(count * self.size)

    def rows(self, step: int, count: int = 1) -> list[Given]:
        """The batches of some steps."""
        rows = self.order[step * self.size : (step + count) * self.size]
        return [wrap(a)[rows]._data if isinstance(a, Array) else tidy(a[rows]) for a in self.arrays]

    def ahead(self, step: int) -> CompiledStep | None:
        """The variant for full batches; None while the step runs line by line."""
        if mode.recorder is not None or mode.detect:
            return None
        there = all(isinstance(a, Array) for a in self.arrays)
        batch = [a[: self.size] for a in self.arrays] if there else self.rows(step)  # as good: shapes count
        call, self.key = self.step.read(batch)
        variant = self.step.choose(self.key, call)
        if variant is not None:
            variant.compile()
        return variant

    def alone(self, step: int) -> None:
        """One batch through the step's own call."""
        self.keep(self.step(*self.rows(step)))

    def eager(self, step: int) -> None:
        """One batch through the user's function."""
        self.keep(detached(self.step.function(*map(wrap, self.rows(step)))))

    def keep(self, result: object) -> None:
        """The result of one step, as if of several."""
        found: list[Given] = []
        structure = flatten(result, found)
        self.results.append((structure, [array[None] for array in found]))

    def stacked(self) -> object:
        """The results of all steps as one."""
        if not self.results:
            return None
        structure = self.results[0][0]
        count = len(self.results[0][1])
        columns: list[Given | list[Tensor]] = []
        for k in range(count):
            parts = [outs[k] for _, outs in self.results]
            if len({p.shape[1:] for p in parts}) == 1:
                columns.append(joined(parts))
            else:
                columns.append([wrap(part[k]) for part in parts for k in range(len(part))])
        return unflatten(structure, iter(columns))


def joined(parts: list[Given]) -> Given:
    """Arrays one behind the other."""
    if len(parts) == 1:
        return parts[0]
    on_device = any(isinstance(part, Array) for part in parts)
    return cat([wrap(part) for part in parts])._data if on_device else np.concatenate(parts)
