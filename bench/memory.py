"""Memory of an eager step: what it allocates beside its activations; `load` says whether it grows."""

import gc
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


def run(quick: bool = False) -> list[dict[str, object]]:
    """A row per network."""
    rows = []
    for sizes, batch in JOBS[:1] if quick else JOBS:
        step = ours(Network(sizes), batch)
        for _ in range(5):
            step()
        kept, peak = activations(sizes, batch), peak_of(step)
        largest = 4 * max(n * m for n, m in zip(sizes, sizes[1:], strict=False))  # before it is in its place
        rows.append(
            {
                "network": "-".join(map(str, sizes)),
                "batch": batch,
                "activations": f"{kept / 1e3:.1f} kB",
                "largest gradient": f"{largest / 1e3:.1f} kB",
                "peak of a step": f"{peak / 1e3:.1f} kB",
            }
        )
    return rows
