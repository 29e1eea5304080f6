"""Philox 4x32-10: four random words from a counter and a key, and loops over many counters.

Salmon, Moraes, Dror & Shaw (2011), Parallel Random Numbers: As Easy as 1, 2, 3. The functions have no types:
emitted files contain their text, and Python computes the first numbers of a process with them, on arrays: to
make machine code takes longer than many numbers.
"""

import inspect
from collections.abc import Callable
from functools import cache

import numpy as np
from numpy import float32, int64

from microgradx.kernels import jit

PATIENCE = 1 << 19
"""Numbers that a process draws before the loops are compiled."""

so_far = [0]  # numbers that this process has drawn, until then


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


def worth_compiling(count: int) -> bool:
    """Whether the loops are machine code, or are to be, with so many more numbers to draw."""
    if not compiled.cache_info().currsize:
        so_far[0] += count
    return so_far[0] > PATIENCE


def draw(kernel: str, blocks: int, block: int, k0: int, k1: int) -> np.ndarray:
    """(4 * blocks,) the "words", uint32, or "units", float32, of some blocks from a certain one on."""
    if worth_compiling(4 * blocks):
        out = np.empty(4 * blocks, {"words": np.uint32, "units": float32}[kernel])
        compiled()[kernel](0, blocks, out.ctypes.data, block, k0, k1)
        return out
    c = block + np.arange(blocks)
    four = np.stack(philox(c & 0xFFFFFFFF, c >> 32, 0, 0, k0, k1), axis=1).ravel()
    return four.astype(np.uint32) if kernel == "words" else float32(2**-24) * (four >> 8).astype(float32)


def permuted(n: int, unit: np.ndarray) -> np.ndarray:
    """(n,) the integers 0 to n - 1 in an order that as many numbers in [0, 1) decide: int64."""
    if worth_compiling(n):
        order = np.arange(n)
        compiled()["shuffle"](0, n, order.ctypes.data, unit.ctypes.data)
        return order
    places = list(range(n))
    shuffle(0, n, places, unit.tolist())
    return np.array(places, int64)


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
