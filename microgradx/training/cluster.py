"""The processes that train one model together, and the few things that they say to each other.

A `Cluster` is this process alone: it leads, its sums are what it has, and it agrees with itself. So the
trainer is written once, for any number of processes; what is said over MPI is in `training.mpi`.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import numpy as np

from microgradx.errors import ArgumentError

T = TypeVar("T")

LEAVES = 8
"""Into how many parts a batch is cut where bits must not depend on the number of processes."""


class Cluster:
    """The processes that train together: of this class, the one that calls `fit`, alone.

    reproducible: sum gradients in the same order, whatever the number of processes, so that weights have the
        same bits on 1, 2, 4 or 8 of them: a batch is cut into 8 parts (or as many as are given, a power of
        two), whose gradients are computed apart and added in pairs, the pairs in pairs, and so on.

    ArgumentError for a number of parts that is no power of two.

    >>> alone = training.Cluster(reproducible=True)
    >>> alone.rank, alone.size, [(leaf, part.start, part.stop) for leaf, part in alone.parts(20)][:3]
    (0, 1, [(0, 0, 2), (1, 2, 5), (2, 5, 7)])
    """

    rank, size = 0, 1

    def __init__(self, reproducible: bool | int = False):
        leaves = LEAVES if reproducible is True else int(reproducible)
        if leaves and (leaves < 1 or leaves & (leaves - 1)):
            what = f"reproducible takes True, or a power of two, the parts of a batch, not {reproducible!r}"
            raise ArgumentError(f"Cluster: {what}.")
        self.reproducible, self.leaves = bool(leaves), leaves or self.size

    def __repr__(self) -> str:
        parts = f", batches in {self.leaves} parts" * self.reproducible
        return f"<{type(self).__name__} of {self.size}, rank {self.rank}{parts}>"

    @property
    def shared(self) -> bool:
        """Whether a batch has several parts, here or among processes."""
        return self.leaves > 1

    def share(self, n: int) -> slice:
        """Which of n things are this process's: neighbours, and nobody else has them."""
        return slice(self.rank * n // self.size, (self.rank + 1) * n // self.size)

    def parts(self, n: int) -> Iterator[tuple[int, slice]]:
        """The parts of a batch of n rows that are this process's, with their numbers among all parts."""
        for k in range(*self.share(self.leaves).indices(self.leaves)):
            yield k, slice(k * n // self.leaves, (k + 1) * n // self.leaves)

    def lead(self, do: Callable[[], T]) -> T:
        """What a function gives that rank 0 alone runs, or the error that it raises, on all ranks."""
        return do()

    def in_turn(self, do: Callable[[], T]) -> T:
        """The same function on all ranks, first on rank 0: what that has downloaded the others find."""
        return do()

    def sum(self, arrays: list[np.ndarray]) -> None:
        """Add up arrays over all ranks, in place: the same bits on each."""

    def most(self, *numbers: float) -> tuple[float, ...]:
        """The largest of each number over all ranks."""
        return numbers

    def texts(self, text: str) -> list[str]:
        """What every rank says, by rank."""
        return [text]

    def agree(self, facts: Callable[[], Mapping[str, object]]) -> None:
        """ClusterError that names the first fact in which a rank differs from rank 0."""

    @contextmanager
    def together(self) -> Iterator[None]:
        """Inside, what ends one process ends all, with its reason; what ends all alike is told once."""
        yield
