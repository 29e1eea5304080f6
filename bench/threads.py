"""Threads: a compiled step on one and two, with what its pieces allow on more, and two processes at once.

The model of more threads shares out the pieces of each stage, the largest first, by the compiler's guess of
their times, and counts a thread's waiting for the last of a stage; memory and clocks it takes for as fast.
Two processes have one thread each, and as many steps to do as one has alone.
"""

import heapq
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

import microgradx as mg
from bench import compiled, models, steps
from bench.measure import duration, race
from bench.models import Network
from microgradx import kernels
from microgradx.codegen.passes.schedule import Schedule

JOBS = [
    (Network((2, 16, 16, 2)), 100, 500),
    (Network((784, 128, 10)), 128, 100),
    (Network((784, 1000, 1000, 10)), 128, 20),
    (Network((784, 1000, 1000, 10)), 1024, 4),
]
"""Networks, batch, and steps in a pass over the data."""
MORE = (2, 4, 8, 16)
ONCE = 1.0  # seconds that a burst of two processes takes, or more


def ours(threads: int, network: Network, batch: int, count: int) -> Callable[[], object]:
    """A pass on so many threads."""
    kernels.set_threads(threads)
    return compiled.scan(network, batch, count)


def torchs(threads: int, network: Network, batch: int) -> Callable[[], object]:
    """A step in PyTorch."""
    import torch

    torch.set_num_threads(threads)
    return steps.torchs(network, batch)


def modelled(plan: Schedule, threads: int) -> float:
    """The time of a step by its plan."""
    seconds = 0.0
    for stage in plan.stages:
        pieces = [chain.cost / chain.pieces for chain in stage for _ in range(chain.pieces)]
        free = [0.0] * (1 if plan.serial else threads)
        for piece in sorted(pieces, reverse=True):
            heapq.heapreplace(free, free[0] + piece)
        seconds += max(free)
    return seconds


def plan_of(network: Network, batch: int) -> Schedule:
    """How a step is cut."""
    step = mg.jit(models.ours(network))
    step(*network.data(batch))
    plan: Schedule = step.stages
    return plan


def worker(job: int, passes: int) -> None:
    """Passes on one thread: when it is ready, for a line; their seconds."""
    run = ours(1, *JOBS[job])
    for _ in range(3):
        run()
    print("ready", flush=True)
    sys.stdin.readline()
    start = time.perf_counter()
    for _ in range(passes):
        run()
    print(time.perf_counter() - start, flush=True)


def together(job: int, passes: int, count: int) -> float:
    """Seconds of so many passes, by the slowest of some processes at once."""
    command = [sys.executable, "-m", "bench.threads", str(job), str(passes)]
    pipe = subprocess.PIPE
    crew = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(count)]
    for one in crew:
        assert one.stdout
        one.stdout.readline()
    for one in crew:
        assert one.stdin
        one.stdin.write("go\n")
        one.stdin.flush()
    return max(float(one.communicate()[0]) for one in crew)


def run(quick: bool = False) -> list[dict[str, object]]:
    """A row per network."""
    rows = []
    for job, (network, batch, count) in enumerate(JOBS[:2] if quick else JOBS):
        makers = {f"ours {n}": partial(ours, n, network, batch, count) for n in (1, 2)}
        makers |= {f"PyTorch {n}": partial(torchs, n, network, batch) for n in (1, 2)}
        found = race(makers, seconds=1 if quick else 8, rounds=5 if quick else 15)
        one, two = found["ours 1"], found["ours 2"]
        passes = max(1, round((0.1 if quick else ONCE) / one["median"]))
        alone, shared = (min(together(job, passes, n) for _ in range(1 if quick else 3)) for n in (1, 2))
        plan = plan_of(network, batch)
        rows.append(
            {
                "network": network,
                "batch": batch,
                "1 thread": duration(one["median"] / count),
                "2 threads": duration(two["median"] / count),
                "times as fast": f"{two['ratio']:.2f}",
                "PyTorch's": f"{found['PyTorch 2']['ratio'] / found['PyTorch 1']['ratio']:.2f}",
                "2 processes": f"{2 * alone / shared:.2f}",
            }
            | {f"model, {n}": f"{modelled(plan, 1) / modelled(plan, n):.1f}" for n in MORE}
        )
    return rows


if __name__ == "__main__":
    worker(*map(int, sys.argv[1:]))
