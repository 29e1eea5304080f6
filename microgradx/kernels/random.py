"""Random numbers that are a function of a seed and a counter: the same bits on every executor.

Philox 4x32-10 (Salmon, Moraes, Dror & Shaw, 2011: Parallel Random Numbers: As Easy as 1, 2, 3). Block
number c of a seed is four 32-bit words, whoever computes it and in which order, so a generator's state is
two integers, and skipping ahead is an addition.
"""

import inspect
import math
import threading
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy import float32, int64, ndarray

from microgradx.errors import ArgumentError
from microgradx.kernels import jit


def philox(c0, c1, c2, c3, k0, k1):
    """Ten rounds that scramble a counter of four 32-bit words with a key of two: four random words.

    It holds words in 64-bit integers, where a product may wrap: the mask after the shift makes it right.
    """
    for _ in range(10):
        a = 0xD2511F53 * c0
        b = 0xCD9E8D57 * c2
        c0, c1 = ((b >> 32) & 0xFFFFFFFF) ^ c1 ^ k0, b & 0xFFFFFFFF
        c2, c3 = ((a >> 32) & 0xFFFFFFFF) ^ c3 ^ k1, a & 0xFFFFFFFF
        k0 = (k0 + 0x9E3779B9) & 0xFFFFFFFF
        k1 = (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c0, c1, c2, c3


def words(start, stop, out, block, k0, k1):
    """Blocks start to stop, counted from `block`: four 32-bit words each."""
    for i in range(start, stop):
        at, c = 4 * i, block + i
        out[at], out[at + 1], out[at + 2], out[at + 3] = philox(c & 0xFFFFFFFF, c >> 32, 0, 0, k0, k1)


def units(start, stop, out, block, k0, k1):
    """The same blocks as numbers in [0, 1): multiples of 2**-24, the high 24 bits of each word."""
    step = float32(2**-24)
    for i in range(start, stop):
        c = block + i
        a, b, c, d = philox(c & 0xFFFFFFFF, c >> 32, 0, 0, k0, k1)
        out[4 * i], out[4 * i + 1] = step * float32(a >> 8), step * float32(b >> 8)
        out[4 * i + 2], out[4 * i + 3] = step * float32(c >> 8), step * float32(d >> 8)


def shuffle(start, stop, order, unit):
    """Each element in turn changes places with itself or one behind it (Fisher & Yates, 1938)."""
    for i in range(start, stop):
        j = i + int64(unit[i] * (stop - i))
        order[i], order[j] = order[j], order[i]


@cache
def compiled() -> dict[str, Callable[..., None]]:
    """The loops above as machine code."""
    texts = [inspect.getsource(function) for function in (philox, words, units, shuffle)]
    signatures = {
        "words": "int64 int64 uint32* int64 int64 int64",
        "units": "int64 int64 float32* int64 int64 int64",
        "shuffle": "int64 int64 int64* float64*",
    }
    return jit.load("\n\n".join(["from numpy import float32, int64\n", *texts]), signatures, "philox")


class Generator:
    """A stream of random numbers; `state_dict` is all that is needed to continue it.

    Every call begins a new block of the counter, so what it draws depends on the sizes of the calls
    before it, and on nothing else.
    """

    def __init__(self, seed: int = 0):
        self.seed(seed)

    def __repr__(self) -> str:
        return f"Generator(seed={self._seed}) at block {self._block}"

    def seed(self, n: int) -> None:
        """Begin the stream of a seed, 0 to 2**64 - 1."""
        if not 0 <= n < 2**64:
            raise ArgumentError(f"seed {n}: a seed is an integer from 0 to 2**64 - 1.")
        self._seed, self._block = int(n), 0
        drawn.seeds += 1

    def state_dict(self) -> dict[str, int]:
        """The seed and the next block."""
        return {"seed": self._seed, "block": self._block}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue where `state_dict` was taken."""
        self.seed(state["seed"])
        self._block = int(state["block"])

    def draw(self, kernel: str, n: int, dtype: Any) -> ndarray:
        """(n,) numbers from the next blocks."""
        blocks = -(-n // 4)
        out = np.empty(4 * blocks, dtype)
        key = self._seed & 0xFFFFFFFF, self._seed >> 32
        compiled()[kernel](0, blocks, out.ctypes.data, self._block, *key)
        self._block += blocks
        drawn.blocks += blocks
        return out[:n]

    def bits(self, n: int) -> ndarray:
        """(n,) random 32-bit words."""
        return self.draw("words", n, np.uint32)

    def unit(self, shape: Any, dtype: Any) -> ndarray:
        """Numbers in [0, 1): 24 random bits for float32, 53 for float64."""
        n = size(shape)
        if dtype == float32:
            return self.draw("units", n, float32).reshape(shape)
        high, low = self.bits(2 * n).reshape(n, 2).T.astype(np.float64)
        return ((np.floor(high / 32) * 2**26 + np.floor(low / 64)) * 2**-53).reshape(shape)

    def uniform(self, shape: Any = (), low: float = 0, high: float = 1, dtype: Any = float32) -> ndarray:
        """Numbers in [low, high)."""
        dtype = np.dtype(dtype).type
        unit = self.unit(shape, dtype)
        return unit if (low, high) == (0, 1) else dtype(low) + dtype(high - low) * unit

    def normal(self, shape: Any = (), dtype: Any = float32) -> ndarray:
        """Numbers of mean 0 and variance 1, by the method of Box and Muller (1958), in float64."""
        n = size(shape)
        radius, turn = self.unit((2, -(-n // 2)), np.float64)
        radius = np.sqrt(-2 * np.log1p(-radius))  # 1 - radius is in (0, 1]
        pair = radius * np.stack([np.cos(2 * np.pi * turn), np.sin(2 * np.pi * turn)])
        return pair.ravel()[:n].reshape(shape).astype(dtype)

    def integers(self, low: int, high: int, shape: Any = ()) -> ndarray:
        """Integers from low to high - 1, int64."""
        if not low < high:
            raise ArgumentError(f"integers: low {low} must be below high {high}.")
        return low + (self.unit(shape, np.float64) * (high - low)).astype(int64)

    def permutation(self, n: int) -> ndarray:
        """(n,) the integers 0 to n - 1 in random order, int64."""
        order, unit = np.arange(n), self.unit(n, np.float64)
        compiled()["shuffle"](0, n, order.ctypes.data, unit.ctypes.data)
        return order

    def choice(self, n: int, size: int, replace: bool = True) -> ndarray:
        """(size,) of the integers 0 to n - 1, with repetitions or without."""
        return self.integers(0, n, (size,)) if replace else self.permutation(n)[:size]


class Drawn(threading.local):
    """How many blocks a thread has drawn so far, of any generator, and how often it has seeded one."""

    blocks = seeds = 0


drawn = Drawn()


def size(shape: Any) -> int:
    """The number of elements of an array of this shape."""
    return math.prod(shape) if isinstance(shape, tuple | list) else int(shape)


generator = Generator()
"""The generator that initialisation, dropout and shuffling draw from; `mg.seed(n)` seeds it."""
