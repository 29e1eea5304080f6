"""A step with an optimizer's ledger that watches a thousand numbers, against the same step without.

Float32, Adam, batch 128. Line by line, as a compiled step, and as a scan of 32 compiled steps. Each row races
the two in turn, in processes of their own.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

import microgradx as mg
from bench.measure import duration, race
from bench.models import Network
from microgradx import nn, optim

NETWORKS = [Network((64, 64, 10)), Network((784, 128, 10)), Network((784, 1000, 1000, 10))]
BATCH, SCAN, WATCHED = 128, 32, 1000
KEPT = 1000  # steps, then a new ledger: what is written down fills memory


def ours(network: Network, way: str, watched: bool) -> Callable[[], object]:
    """A step or, for "scan", SCAN of them."""
    mg.seed(0)
    model = network.built(nn)
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    x, y = network.data(BATCH * SCAN)

    def step(x, y):
        optimizer.zero_grad()
        loss = nn.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    one = mg.tensor(x[:BATCH]), y[:BATCH]
    compiled = mg.jit(step)
    run = {
        "eager": partial(step, *one),
        "compiled": partial(compiled, *one),
        "scan": partial(compiled.scan, x, y, batch_size=BATCH),
    }[way]
    if not watched:
        return run
    log = optim.ledger(optimizer, watch=WATCHED).__enter__()

    def written() -> None:
        run()
        if log.steps % KEPT == 0:
            for page in log.pages:
                page.blocks.clear()

    return written


def run(quick: bool = False) -> list[dict[str, object]]:
    """A row per network and way to run it."""
    rows: list[dict[str, object]] = []
    for network in NETWORKS[1:2] if quick else NETWORKS:
        for way in ("eager", "compiled", "scan"):
            makers = {word: partial(ours, network, way, word == "ledger") for word in ("plain", "ledger")}
            found = race(makers, seconds=2.0 if quick else 4.0, rounds=20 if quick else 40)
            per = SCAN if way == "scan" else 1
            plain, ledger = (found[word]["median"] / per for word in ("plain", "ledger"))
            rows.append(
                {
                    "network": str(network),
                    "way": way,
                    "plain": duration(plain),
                    "with a ledger": duration(ledger),
                    "slower by": f"{1 / found['ledger']['ratio'] - 1:+.1%}",
                    "per step": duration(max(0.0, float(np.subtract(ledger, plain)))),
                }
            )
    return rows
