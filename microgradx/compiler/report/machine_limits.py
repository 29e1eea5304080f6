"""What this machine can do at best, to measure kernels against: float32 arithmetic, and memory.

`limits()` measures for about a second and remembers the result for a month in the cache folder.
"""

import json
import math
import os
import platform
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from microgradx.kernels.cache import folder, locked, write
from microgradx.kernels.thread_pool import split, threads

HOUR, MONTH = 3600.0, 30 * 86_400.0


@dataclass(frozen=True)
class Limits:
    """What all used threads of a processor reach together: FLOP/s in float32 matmuls, bytes/s of memory."""

    gemm: float
    bandwidth: float
    threads: int
    processor: str


def limits() -> Limits:
    """The limits of this machine with the threads in use now."""
    return remembered(threads())


@cache
def remembered(n: int) -> Limits:
    """The limits with n threads: the highest of this process and of those in the cache folder.

    Other work at the time makes a limit look lower, nothing makes it look higher.
    """
    cpu = processor()
    pinned = os.environ.get("OPENBLAS_CORETYPE", "")  # halves the limit, where it names an older core
    name = "_".join(["limits", re.sub(r"\W+", "-", f"{cpu} {pinned}".lower()).strip("-"), str(n)])
    with locked(name):  # two processes that measure would measure each other
        found = recalled(name) or {"gemm": 0.0, "bandwidth": 0.0, "measured": 0.0}
        if time.time() - found["measured"] > HOUR:
            best = max(gemm(n), found["gemm"]), max(bandwidth(n), found["bandwidth"])
            found = {"gemm": best[0], "bandwidth": best[1], "measured": time.time()}
            write(f"{name}.json", json.dumps(found).encode())
    return Limits(found["gemm"], found["bandwidth"], n, cpu)


def recalled(name: str) -> dict[str, float] | None:
    """What was measured in the last 30 days; None if that is absent or cannot be made sense of."""
    place = folder()
    try:
        found = json.loads((place / f"{name}.json").read_text(encoding="utf-8")) if place else {}
        numbers = {key: float(found[key]) for key in ("gemm", "bandwidth", "measured")}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    sensible = all(0 < number < math.inf for number in numbers.values())
    return numbers if sensible and 0 <= time.time() - numbers["measured"] < MONTH else None


def processor() -> str:
    """The processor's model name, as the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def gemm(n: int, size: int = 768) -> float:
    """FLOP/s of n matmuls at once, each on one thread."""
    from threadpoolctl import threadpool_limits

    a, b = np.ones((2, size, size), np.float32)
    out = np.empty((n, size, size), np.float32)
    with threadpool_limits(1, user_api="blas"):
        return 2 * out.size * size / shortest(lambda: split(lambda i, _: np.matmul(a, b, out=out[i]), n, 1))


def bandwidth(n: int) -> float:
    """Bytes/s of x + y -> z on n threads, for arrays that no cache can hold."""
    size = min(max(2 * caches(), 64 << 20), 256 << 20) // 4
    arrays = np.empty((3, size), np.float32)

    def add(start: int, stop: int) -> None:
        x, y, z = arrays[:, start:stop]
        np.add(x, y, out=z)

    arrays.fill(1)  # memory that was never written is not read either
    return arrays.nbytes / shortest(lambda: split(add, size, math.ceil(size / n)))


def shortest(run: Callable[[], None], seconds: float = 0.4) -> float:
    """The least time of several runs: three at least, and as many as begin within so many seconds."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def caches() -> int:
    """Bytes of the last-level caches of all cores together, as Linux tells; 0 elsewhere."""
    sizes: dict[tuple[int, str], int] = {}
    for place in Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cache/index*"):
        with suppress(OSError, ValueError):
            level, cores, size = (
                (place / f).read_text(encoding="utf-8").strip() for f in ("level", "shared_cpu_list", "size")
            )
            sizes[int(level), cores] = int(size.removesuffix("K")) << 10
    return sum(size for (level, _), size in sizes.items() if level == max(sizes)[0])
