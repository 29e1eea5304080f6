"""Random numbers that are a function of a seed and a counter: the same bits on every executor.

Block number c of a seed is four 32-bit words (`philox`), whoever computes it and in which order, so a
generator's state is two integers, and skipping ahead is an addition.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy import float32, int64, ndarray
from numpy.typing import DTypeLike

from microgradx.errors import ArgumentError, SizeError, checked, whole
from microgradx.kernels import philox

Shape = int | Sequence[int]


class Generator:
    """A stream of random numbers; `state_dict` is all that is needed to continue it.

    Every call begins a new block of the counter, so what it draws depends on the sizes of the calls
    before it, and on nothing else.

    >>> one, other = Generator(7), Generator(7)
    >>> one.bits(2)
    array([4099963437, 3221879260], dtype=uint32)
    >>> other.load_state_dict(one.state_dict())  # as if it had drawn them, too
    >>> bool((one.uniform(3) == other.uniform(3)).all())
    True
    """

    def __init__(self, seed: int = 0):
        self.seed(seed)

    def __repr__(self) -> str:
        return f"Generator(seed={self._seed}) at block {self._block}"

    def seed(self, n: int) -> None:
        """Begin the stream of a seed, 0 to 2**64 - 1; ArgumentError for others."""
        self._seed, self._block = whole("a seed", n, 0, 2**64 - 1), 0
        drawn.seeds += 1

    def state_dict(self) -> dict[str, int]:
        """The seed and the next block."""
        return {"seed": self._seed, "block": self._block}

    @checked
    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue where `state_dict` was taken."""
        block = whole("the next block", state["block"], 0, 2**63 - 1)
        self.seed(state["seed"])
        self._block = block

    def draw(self, kernel: str, n: int) -> ndarray:
        """(n,) numbers from the next blocks."""
        blocks = -(-n // 4)
        out = philox.draw(kernel, blocks, self._block, self._seed & 0xFFFFFFFF, self._seed >> 32)
        self._block += blocks
        drawn.blocks += blocks
        return out[:n]

    @checked
    def bits(self, n: int) -> ndarray:
        """(n,) random 32-bit words, uint32."""
        n = whole("bits: the number of words", n)
        return self.draw("words", n)

    def unit(self, shape: Shape, dtype: DTypeLike) -> ndarray:
        """Numbers in [0, 1): 24 random bits for float32, 53 for float64."""
        shape = sizes(shape)
        n = math.prod(shape)
        if dtype == float32:
            return self.draw("units", n).reshape(shape)
        high, low = self.bits(2 * n).reshape(n, 2).T.astype(np.float64)
        return ((np.floor(high / 32) * 2**26 + np.floor(low / 64)) * 2**-53).reshape(shape)

    @checked
    def uniform(
        self, shape: Shape = (), low: float = 0, high: float = 1, dtype: DTypeLike = float32
    ) -> ndarray:
        """Numbers in [low, high): (*shape), of float32 or float64."""
        number = float32 if dtype == float32 else np.float64
        unit = self.unit(shape, number)
        return unit if (low, high) == (0, 1) else number(low) + number(high - low) * unit

    @checked
    def normal(self, shape: Shape = (), dtype: DTypeLike = float32) -> ndarray:
        """Numbers of mean 0 and variance 1, by the method of Box and Muller (1958), in float64."""
        shape = sizes(shape)
        n = math.prod(shape)
        radius, turn = self.unit((2, -(-n // 2)), np.float64)
        radius = np.sqrt(-2 * np.log1p(-radius))  # 1 - radius is in (0, 1]
        pair = radius * np.stack([np.cos(2 * np.pi * turn), np.sin(2 * np.pi * turn)])
        return pair.ravel()[:n].reshape(shape).astype(dtype)

    @checked
    def integers(self, low: int, high: int, shape: Shape = ()) -> ndarray:
        """Integers from low to high - 1: (*shape), int64; ArgumentError where there are none."""
        if not low < high:
            raise ArgumentError(f"integers: low {low} must be below high {high}.")
        return low + (self.unit(shape, np.float64) * (high - low)).astype(int64)

    @checked
    def permutation(self, n: int) -> ndarray:
        """(n,) the integers 0 to n - 1 in random order, int64."""
        n = whole("permutation: the number of elements", n)
        return philox.permuted(n, self.unit(n, np.float64))

    @checked
    def choice(self, n: int, size: int, replace: bool = True) -> ndarray:
        """(size,) of the integers 0 to n - 1, with repetitions or without."""
        return self.integers(0, n, (size,)) if replace else self.permutation(n)[:size]


class Drawn(threading.local):
    """How many blocks a thread has drawn so far, of any generator, and how often it has seeded one."""

    blocks = seeds = 0
    own: list[int] | None = None  # where the library's generator stands for this thread alone


drawn = Drawn()


def sizes(shape: Shape) -> tuple[int, ...]:
    """A shape in Python's integers, which do not wrap around where they are multiplied."""
    given = shape if isinstance(shape, Sequence) else (shape,)
    found = tuple([whole(f"in the shape {shape!r} each size", n) for n in given])
    if math.prod(found) >= 2**48:
        raise SizeError(f"an array of shape {found} does not fit into memory.")
    return found


class Library(Generator):
    """One stream for all threads; inside `apart`, a thread has one of its own."""

    def __init__(self) -> None:
        self.common = [0, 0]
        super().__init__()

    @property
    def _seed(self) -> int:
        return (drawn.own or self.common)[0]

    @_seed.setter
    def _seed(self, seed: int) -> None:
        (drawn.own or self.common)[0] = seed

    @property
    def _block(self) -> int:
        return (drawn.own or self.common)[1]

    @_block.setter
    def _block(self, block: int) -> None:
        (drawn.own or self.common)[1] = block

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Inside, this thread draws from a stream of its own, which begins at seed 0: several may train.

        >>> before = generator.state_dict()
        >>> with generator.apart():
        ...     mg.seed(3)
        >>> generator.state_dict() == before
        True
        """
        before, drawn.own = drawn.own, [0, 0]
        try:
            yield
        finally:
            drawn.own = before


generator = Library()
"""The generator that initialisation, dropout and shuffling draw from; `mg.seed(n)` seeds it."""
