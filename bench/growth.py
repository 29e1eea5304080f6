"""The compiled step as networks, batches and threads grow: time and memory against eager PyTorch's.

Times are per step, ours of a scan. Memory is what a process takes at its peak, in its steps, beyond what it
took with the libraries imported and the data made.
"""

import importlib
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from bench import compiled, steps
from bench.measure import duration, race, resident
from bench.models import Network
from microgradx import kernels

BESIDE = ("torch",)
WIDTHS = (16, 64, 256, 1024, 4096)
BATCHES = (1, 8, 32, 128, 512, 1024, 4096)
DEPTHS = (1, 2, 5, 10, 20)
THREADED = ((784, 128, 10), (784, 1000, 1000, 10))


def ours(network: Network, batch: int, count: int, threads: int) -> Callable[[], object]:
    """A pass of so many compiled steps."""
    kernels.set_threads(threads or kernels.threads())
    return compiled.scan(network, batch, count)


def torchs(network: Network, batch: int, threads: int) -> Callable[[], object]:
    """An eager step of PyTorch."""
    import torch

    torch.set_num_threads(threads or torch.get_num_threads())
    return steps.torchs(network, batch)


def taken(make: Callable[[], Callable[[], object]], library: str, data: int) -> int:
    """The bytes that a contender's steps take in this process, its data apart."""
    importlib.import_module(library)
    before = resident("VmHWM")
    run = make()
    for _ in range(5):
        run()
    return resident("VmHWM") - before - data


def memory(make: Callable[[], Callable[[], object]], library: str, network: Network, rows: int) -> str:
    """The same, measured in a process of its own."""
    data = rows * (4 * network.sizes[0] + 8)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return f"{process.submit(taken, make, library, data).result() / 1e6:.1f} MB"


def run(quick: bool = False) -> list[dict[str, object]]:
    """A row per network, batch and number of threads."""
    jobs = [("width", Network((784, width, 10)), 128, 0) for width in WIDTHS]
    jobs += [("batch", Network((784, 128, 10)), batch, 0) for batch in BATCHES]
    jobs += [("depth", Network((784, *[128] * depth, 10)), 128, 0) for depth in DEPTHS]
    jobs += [("threads", Network(sizes), 128, n) for sizes in THREADED for n in (1, 2)]
    rows = []
    for grows, network, batch, threads in jobs[::6] if quick else jobs:
        count = max(4, min(100, 2_560 // batch))  # steps in a pass
        makers = {
            "ours": partial(ours, network, batch, count, threads),
            "PyTorch": partial(torchs, network, batch, threads),
        }
        found = race(makers, seconds=1 if quick else 3, rounds=5 if quick else 15)
        row: dict[str, object] = {
            "grows": grows,
            "network": network,
            "batch": batch,
            "threads": threads or "all",
            "ours": duration(found["ours"]["median"] / count),
            "PyTorch": duration(found["PyTorch"]["median"]),
            "PyTorch / ours": f"{count / found['PyTorch']['ratio']:.2f}",
        }
        if grows == "width":
            row["memory"] = memory(makers["ours"], "microgradx", network, batch * count)
            row["PyTorch's"] = memory(makers["PyTorch"], "torch", network, batch)
        rows.append(row)
    return rows
