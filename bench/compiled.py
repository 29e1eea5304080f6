"""The compiled training step against PyTorch, torch.compile, JAX, NumPy by hand, and its GEMMs alone.

All times are per step. Scans go once over shuffled rows, which they gather as they go; the others repeat a
step on one batch at hand. GEMMs alone: the step's matrix products by the same BLAS, half of each on either
of two cores, without ever waiting for each other, from one C-contiguous array to another. torch.compile is
left out where it takes more than two minutes, and of quick runs.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise

import numpy as np

import microgradx as mg
from bench import models, steps
from bench.measure import duration, race, works
from bench.models import Network
from microgradx import kernels

BESIDE = ("torch", "jax")
JOBS = [
    (Network((2, 16, 16, 2)), 100, 100),
    (Network((784, 128, 10)), 128, 100),
    (Network((784, 1000, 1000, 10)), 128, 50),
    (Network((784, 512, 512, 10), dropout=0.2), 128, 100),
    (Network((784, 512, 512, 10), norm=True), 128, 100),
]
"""Networks, batch, and steps in a pass over the data."""

COLUMNS = ["ours scan", "ours call", "PyTorch", "torch.compile", "JAX step", "JAX scan", "NumPy", "GEMMs"]
RATIOS = [
    ("PyTorch", "ours scan"),
    ("PyTorch", "ours call"),
    ("JAX step", "ours scan"),
    ("JAX scan", "ours scan"),
    ("ours scan", "GEMMs"),
]
"""Whose time is divided by whose."""


def scan(network: Network, batch: int, count: int) -> Callable[[], object]:
    """A pass of so many compiled steps."""
    mg.seed(0)
    x, y = network.data(batch * count)
    order = np.random.default_rng(0).permutation(len(x))
    step = mg.jit(models.ours(network))
    return lambda: step.scan(x, y, batch_size=batch, order=order)


def call(network: Network, batch: int) -> Callable[[], object]:
    """One compiled step."""
    mg.seed(0)
    return partial(mg.jit(models.ours(network)), *network.data(batch))


def jax_scan(network: Network, batch: int, count: int) -> Callable[[], object]:
    """A pass of so many steps in JAX, as one compiled loop, its state donated."""
    import jax

    advance, state = models.jaxs(network)
    x, y = map(jax.numpy.asarray, network.data(batch * count))
    order = jax.numpy.asarray(np.random.default_rng(0).permutation(len(x)).reshape(count, batch))

    @partial(jax.jit, donate_argnums=0)
    def advance_all(state, x, y, order):
        return jax.lax.scan(lambda state, rows: advance(state, x[rows], y[rows]), state, order)

    def step() -> None:
        nonlocal state
        state, losses = advance_all(state, x, y, order)
        losses.block_until_ready()

    return step


def numpys(network: Network, batch: int) -> Callable[[], object]:
    """One step by hand in NumPy."""
    return partial(models.numpys(network), *network.data(batch))


def gemms(network: Network, batch: int, count: int) -> Callable[[], object]:
    """The matrix products of so many steps: a BLAS thread in each of as many threads as cores."""
    import numba
    import scipy.linalg.cython_blas  # noqa: F401  so that it is loaded when its threads are limited
    from threadpoolctl import threadpool_limits

    @numba.njit(nogil=True)  # np.dot is SciPy's sgemm here; a Python thread would mostly wait for the GIL
    def multiply(count, forward, weights, inputs):
        for _ in range(count):
            for a, b, out in forward:
                np.dot(a, b, out)
            for a, b, out in weights:
                np.dot(a.T, b, out)
            for a, b, out in inputs:
                np.dot(a, b.T, out)

    draw, threads = np.random.default_rng(0), kernels.threads()
    new = partial(draw.random, dtype=np.float32)
    layers = [(n, m, new((n, m))) for n, m in pairwise(network.sizes)]

    def part(size: int, i: int) -> int:
        return (i + 1) * size // threads - i * size // threads

    def share(i: int) -> tuple[tuple, tuple, tuple]:
        """A thread's products: for its rows of the batch, and for its rows of the weights' gradients."""
        b = part(batch, i)
        forward = [(new((b, n)), w, new((b, m))) for n, m, w in layers]
        weights = [(new((batch, part(n, i))), new((batch, m)), new((part(n, i), m))) for n, m, _ in layers]
        inputs = [(g, w, np.empty_like(x)) for x, w, g in forward[1:]]  # the data need no gradient
        return tuple(forward), tuple(weights), tuple(inputs)

    shares = [share(i) for i in range(threads)]
    threadpool_limits(1)  # from here on, for SciPy's BLAS is loaded
    pool = ThreadPoolExecutor(threads)
    return lambda: list(pool.map(lambda products: multiply(count, *products), shares))


def run(quick: bool = False) -> list[dict[str, object]]:
    """A row per network: times a step, and how often ours fit into the peers'."""
    rows = []
    for network, batch, count in JOBS[:2] if quick else JOBS:
        passes = {"ours scan": scan, "JAX scan": jax_scan, "GEMMs": gemms}
        single = {"ours call": call, "PyTorch": steps.torchs, "JAX step": steps.jaxs}
        single |= {} if network.norm or network.dropout else {"NumPy": numpys}
        makers = {name: partial(make, network, batch, count) for name, make in passes.items()}
        makers |= {name: partial(make, network, batch) for name, make in single.items()}
        compiled = partial(steps.torchs, network, batch, compiled=True)
        if not quick and works(compiled, 120):
            makers["torch.compile"] = compiled
        found = race(makers, seconds=1 if quick else 9, rounds=5 if quick else 15)
        length = {name: count if name in passes else 1 for name in makers}
        times = {name: result["median"] / length[name] for name, result in found.items()}
        slower = {name: count / result["ratio"] / length[name] for name, result in found.items()}  # than scan
        rows.append(
            {"network": network, "batch": batch}
            | {name: duration(times.get(name)) for name in COLUMNS}
            | {f"{a} / {b}".replace("ours ", ""): f"{slower[a] / slower[b]:.2f}" for a, b in RATIOS}
        )
    return rows
