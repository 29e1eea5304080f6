"""Memory of an eager step: what it allocates beside its activations, and growth over 10,000 steps."""

import gc
import resource
import tracemalloc

from bench.models import Network
from bench.steps import ours

JOBS = [((2, 16, 16, 2), 100), ((784, 128, 10), 128), ((784, 1000, 1000, 10), 128)]


def activations(sizes: tuple[int, ...], batch: int) -> int:
    """Bytes of float32 that a forward pass makes: every layer before and after its ReLU, and the logits."""
    return 4 * batch * (2 * sum(sizes[1:-1]) + sizes[-1])


def peak_of(step) -> int:
    """The most bytes that one call holds beyond what was held before."""
    gc.collect()
    tracemalloc.start()
    base = tracemalloc.get_traced_memory()[0]
    step()
    peak = tracemalloc.get_traced_memory()[1] - base
    tracemalloc.stop()
    return peak


def growth(step, steps: int) -> tuple[int, int]:
    """Bytes of Python's and NumPy's memory, and of the process, gained over so many steps."""
    gc.collect()
    tracemalloc.start()
    for _ in range(steps // 2):  # Python fills its free lists in the first thousands
        step()
    before, process = tracemalloc.get_traced_memory()[0], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(steps):
        step()
    gained = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return gained, 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - process)


def run(quick: bool = False) -> list[dict[str, object]]:
    """A row per network."""
    rows = []
    for sizes, batch in JOBS:
        step = ours(Network(sizes), batch)
        for _ in range(5):
            step()
        steps = 100 if quick or sizes[1] > 128 else 10_000
        kept, peak = activations(sizes, batch), peak_of(step)
        largest = 4 * max(n * m for n, m in zip(sizes, sizes[1:], strict=False))  # before it is in its place
        gained, process = growth(step, steps)
        rows.append(
            {
                "network": "-".join(map(str, sizes)),
                "batch": batch,
                "activations": f"{kept / 1e3:.1f} kB",
                "largest gradient": f"{largest / 1e3:.1f} kB",
                "peak of a step": f"{peak / 1e3:.1f} kB",
                "steps": steps,
                "growth of arrays": f"{gained / 1e3:.1f} kB",
                "growth of the process": f"{process / 1e3:.1f} kB",
            }
        )
    return rows
