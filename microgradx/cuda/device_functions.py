"""The functions that emitted CUDA files call, to be read; `text` copies one into a file.

Nothing imports these functions: a file takes the text of those that it uses, for its dtype. BLOCK, TILE, STEP
and PER are constants at its head (`device.Shape`). All sums are taken in one fixed order, so results have
the same bits every time: no atomic additions of numbers.
"""

import ast
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy import float32, int64

BLOCK, TILE, ROW, STEP, PER = 256, 64, 65, 16, 4  # as on a GPU

if TYPE_CHECKING:
    stand_in: Any = ...  # for what a file has in their place
    cuda = combine = better = stand_in

KINDS = {
    "sum": "parts[t] + parts[t + half]", "prod": "parts[t] * parts[t + half]",
    "max": "maximum(parts[t], parts[t + half])", "min": "minimum(parts[t], parts[t + half])",
    "argmax": "b > a", "argmin": "b < a",
}  # fmt: skip
"""What stands in `over_block` for combine(...), and in `place_over_block` for better(...)."""


def within(index, size, status):
    """The index itself; 0 and a fault if it is out of range."""
    i = int64(index)
    if 0 <= i < size:
        return i
    status[1], status[2] = i, size
    status[0] = 1
    return 0


def inside(index, size, status):
    """The index, counted from the end if it is negative; 0 and a fault if it is out of range."""
    i = int64(index)
    if i < 0:
        i += size
    if 0 <= i < size:
        return i
    status[1], status[2] = index, size
    status[0] = 1
    return 0


def over_block(value):
    """One number of every thread of a block, taken together by a tree in shared memory."""
    parts = cuda.shared.array(BLOCK, float32)
    t = cuda.threadIdx.x
    parts[t] = value
    half = BLOCK // 2
    while half > 0:
        cuda.syncthreads()
        if t < half:
            parts[t] = combine(parts[t], parts[t + half])
        half //= 2
    cuda.syncthreads()
    result = parts[0]
    cuda.syncthreads()
    return result


def place_over_block(value, at):
    """Where the best of the numbers of a block is: of equal ones the first, NaN before all."""
    parts = cuda.shared.array(BLOCK, float32)
    places = cuda.shared.array(BLOCK, int64)
    t = cuda.threadIdx.x
    parts[t], places[t] = value, at
    half = BLOCK // 2
    while half > 0:
        cuda.syncthreads()
        if t < half:
            a, b, i, j = parts[t], parts[t + half], places[t], places[t + half]
            if better(b, a) or (b == a and j < i) or (b != b and (a == a or j < i)):
                parts[t], places[t] = b, j
        half //= 2
    cuda.syncthreads()
    result = places[0]
    cuda.syncthreads()
    return result


def matmul(out, a, b, n, m, k, parts, a_row, a_step, b_step, b_column):
    """out (n, m) = a (n, k) @ b (k, m), of any strides; `parts` > 1: out (parts, n, m), each a part of k.

    A block computes tiles of TILE x TILE, STEP of the inner size at a time in shared memory; a thread has
    PER x PER numbers of a tile in registers.
    """
    left = cuda.shared.array((STEP, ROW), float32)
    right = cuda.shared.array((STEP, TILE), float32)
    sums = cuda.local.array((PER, PER), float32)
    t = cuda.threadIdx.x
    row, column = t // (TILE // PER) * PER, t % (TILE // PER) * PER
    across = (m + TILE - 1) // TILE
    tiles = (n + TILE - 1) // TILE * across
    depth = ((k + parts - 1) // parts + STEP - 1) // STEP * STEP
    for work in range(cuda.blockIdx.x, tiles * parts, cuda.gridDim.x):
        part, tile = work // tiles, work % tiles
        top, first = tile // across * TILE, tile % across * TILE
        for i in range(PER):
            for j in range(PER):
                sums[i, j] = float32(0)
        end = min(k, (part + 1) * depth)
        for start in range(part * depth, end, STEP):
            for e in range(t, TILE * STEP, BLOCK):
                i, p = (e // STEP, e % STEP) if a_step == 1 else (e % TILE, e // TILE)
                known = top + i < n and start + p < end
                left[p, i] = a[(top + i) * a_row + (start + p) * a_step] if known else float32(0)
                j, p = (e % TILE, e // TILE) if b_column == 1 else (e // STEP, e % STEP)
                known = first + j < m and start + p < end
                right[p, j] = b[(start + p) * b_step + (first + j) * b_column] if known else float32(0)
            cuda.syncthreads()
            for p in range(STEP):
                for i in range(PER):
                    for j in range(PER):
                        sums[i, j] = cuda.fma(left[p, row + i], right[p, column + j], sums[i, j])
            cuda.syncthreads()
        for i in range(PER):
            for j in range(PER):
                if top + row + i < n and first + column + j < m:
                    out[(part * n + top + row + i) * m + first + column + j] = sums[i, j]


def meet(gate, turn):
    """Wait until all blocks are here, for the turn-th time: what they wrote before is then seen by all."""
    cuda.threadfence()
    cuda.syncthreads()
    if cuda.threadIdx.x == 0:
        cuda.atomic.add(gate, 0, 1)
        while cuda.atomic.add(gate, 0, 0) < turn * cuda.gridDim.x:
            pass
    cuda.syncthreads()
    cuda.threadfence()


@cache
def texts() -> dict[str, str]:
    """The text of every function above."""
    source = Path(__file__).read_text(encoding="utf-8")
    tree = ast.parse(source)
    return {
        f.name: ast.get_source_segment(source, f) or "" for f in tree.body if isinstance(f, ast.FunctionDef)
    }


def text(name: str, dtype: str, called: str = "", kind: str = "") -> str:
    """The text of a function for a dtype, under the name that the file calls it by."""
    found = texts()[name].replace("float32", dtype).replace(f"def {name}(", f"def {called or name}(")
    for stand_in in ("combine(parts[t], parts[t + half])", "better(b, a)"):
        found = found.replace(stand_in, KINDS.get(kind, ""))
    return found
