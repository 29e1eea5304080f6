"""A step with an optimizer's ledger that watches a thousand numbers, against the same step without.

Float32, Adam, batch 128. Line by line, as a compiled step, and as a scan of 128 compiled steps. Both run in
one process, a burst of one and a burst of the other: it is the same model in the same memory.
"""

import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial

import microgradx as mg
from bench import models
from bench.measure import duration
from bench.models import Network
from microgradx import nn, optim

NETWORKS = [Network((64, 64, 10)), Network((784, 128, 10)), Network((784, 1000, 1000, 10))]
BATCH, SCAN, WATCHED = 128, 128, 1000
BURST = 0.02  # seconds


def ours(network: Network) -> tuple[optim.Optimizer, dict[str, Callable[[], object]]]:
    """An optimizer, and three ways to make its steps."""
    mg.seed(0)
    model = network.built(nn)
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    x, y = network.data(BATCH * SCAN)
    step = models.training(model, optimizer)
    one, compiled = (mg.tensor(x[:BATCH]), y[:BATCH]), mg.jit(step)
    return optimizer, {
        "eager": partial(step, *one),
        "compiled": partial(compiled, *one),
        "scan": partial(compiled.scan, x, y, batch_size=BATCH),
    }


def burst(run: Callable[[], object], count: int) -> float:
    """Seconds for so many calls."""
    start = time.perf_counter()
    for _ in range(count):
        run()
    return time.perf_counter() - start


def run(quick: bool = False) -> list[dict[str, object]]:
    """A row per network and way to run it."""
    rows: list[dict[str, object]] = []
    for network in NETWORKS[1:2] if quick else NETWORKS:
        optimizer, ways = ours(network)
        for way, call in ways.items():
            books = {"plain": nullcontext, "ledger": partial(optim.ledger, optimizer, watch=WATCHED)}
            for book in books.values():
                with book():
                    burst(call, 5)  # compile, fill caches
            count = max(1, round(BURST / min(burst(call, 1) for _ in range(5))))
            times: dict[str, list[float]] = {word: [] for word in books}
            for _ in range(20 if quick else 100):
                for word, book in books.items():
                    with book():
                        times[word].append(burst(call, count) / count / (SCAN if way == "scan" else 1))
            plain, ledger = (statistics.median(times[word]) for word in books)
            ratio = statistics.median(b / a for a, b in zip(times["plain"], times["ledger"], strict=True))
            rows.append(
                {
                    "network": str(network),
                    "way": way,
                    "plain": duration(plain),
                    "with a ledger": duration(ledger),
                    "slower by": f"{ratio - 1:+.1%}",
                }
            )
    return rows
