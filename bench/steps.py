"""One eager training step (forward, backward, Adam) against PyTorch with fused Adam and a jitted JAX step.

The data are the same for all; float32; each contender uses all cores as it sees fit.
"""

from collections.abc import Callable
from functools import partial

import microgradx as mg
from bench import models
from bench.measure import duration, race
from bench.models import Network

BESIDE = ("torch", "jax")
JOBS = [
    (Network((2, 16, 16, 2)), 100),
    (Network((64, 64, 10)), 64),
    (Network((784, 128, 10)), 128),
    (Network((784, 1000, 1000, 10)), 128),
]


def ours(network: Network, batch: int) -> Callable[[], object]:
    """A step of microgradx, line by line, on one batch."""
    mg.seed(0)
    x, y = network.data(batch)
    return partial(models.ours(network), mg.tensor(x), y)


def torchs(network: Network, batch: int, compiled: bool = False) -> Callable[[], object]:
    """The same step in PyTorch with fused Adam, eager or with torch.compile."""
    import torch

    x, y = network.data(batch)
    return partial(models.torchs(network, compiled), torch.from_numpy(x), torch.from_numpy(y))


def jaxs(network: Network, batch: int) -> Callable[[], object]:
    """The same step in JAX, compiled, its arrays donated."""
    import jax

    advance, state = models.jaxs(network)
    advance = jax.jit(advance, donate_argnums=0)
    x, y = map(jax.numpy.asarray, network.data(batch))

    def step() -> None:
        nonlocal state
        state, loss = advance(state, x, y)
        loss.block_until_ready()

    return step


def run(quick: bool = False) -> list[dict[str, object]]:
    """A row per network: times a step, and how often microgradx's time fits into the peer's."""
    rows = []
    for network, batch in JOBS[:2] if quick else JOBS:
        makers = {"microgradx": ours, "PyTorch": torchs, "JAX": jaxs}
        found = race(
            {name: partial(make, network, batch) for name, make in makers.items()}, 2 if quick else 9
        )
        row: dict[str, object] = {"network": network, "batch": batch}
        row |= {name: duration(result["median"]) for name, result in found.items()}
        row["time / PyTorch's"] = f"{found['PyTorch']['ratio']:.2f}"
        row["time / JAX's"] = f"{found['JAX']['ratio']:.2f}"
        rows.append(row)
    return rows
