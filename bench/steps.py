"""One eager training step (forward, backward, Adam) against PyTorch with fused Adam and a jitted JAX step.

The data are the same for all; float32; each contender uses all cores as it sees fit.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

import microgradx as mg
from bench.measure import duration, race
from microgradx import nn, optim

JOBS = [([2, 16, 16, 2], 100), ([64, 64, 10], 64), ([784, 128, 10], 128), ([784, 1000, 1000, 10], 128)]


def ours(sizes: list[int], x: np.ndarray, y: np.ndarray) -> Callable[[], None]:
    """A step of microgradx, line by line."""
    mg.seed(0)
    model = nn.MLP(sizes)
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    inputs = mg.tensor(x)

    def step() -> None:
        optimizer.zero_grad()
        loss = nn.cross_entropy(model(inputs), y)
        loss.backward()
        optimizer.step()

    return step


def torchs(sizes: list[int], x: np.ndarray, y: np.ndarray) -> Callable[[], None]:
    """The same step in PyTorch, eager, with fused Adam."""
    import torch

    layers: list[torch.nn.Module] = []
    for n, m in zip(sizes, sizes[1:], strict=False):
        layers += [torch.nn.Linear(n, m), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    inputs, labels = torch.from_numpy(x), torch.from_numpy(y)

    def step() -> None:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(inputs), labels)
        loss.backward()
        optimizer.step()

    return step


def jaxs(sizes: list[int], x: np.ndarray, y: np.ndarray) -> Callable[[], None]:
    """The same step in JAX, compiled, its arrays donated."""
    import jax
    import jax.numpy as jnp

    draw = np.random.default_rng(0)
    pairs = list(zip(sizes, sizes[1:], strict=False))
    parameters = [(jnp.asarray(draw.normal(0, n**-0.5, (n, m)), jnp.float32), jnp.zeros(m)) for n, m in pairs]
    zeros = jax.tree.map(jnp.zeros_like, parameters)

    def loss_of(parameters, x, y):
        for weight, bias in parameters[:-1]:
            x = jax.nn.relu(x @ weight + bias)
        logp = jax.nn.log_softmax(x @ parameters[-1][0] + parameters[-1][1])
        return -logp[jnp.arange(len(y)), y].mean()

    @partial(jax.jit, donate_argnums=(0, 1, 2))
    def advance(p, m, v, t, x, y):
        loss, g = jax.value_and_grad(loss_of)(p, x, y)
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
        c1, c2 = 1 - 0.9**t, 1 - 0.999**t
        p = jax.tree.map(lambda p, m, v: p - 1e-3 * (m / c1) / (jnp.sqrt(v / c2) + 1e-8), p, m, v)
        return loss, p, m, v

    state = [parameters, zeros, jax.tree.map(jnp.copy, zeros), 0.0]
    inputs, labels = jnp.asarray(x), jnp.asarray(y)

    def step() -> None:
        p, m, v, t = state
        loss, p, m, v = advance(p, m, v, t + 1, inputs, labels)
        loss.block_until_ready()
        state[:] = [p, m, v, t + 1]

    return step


def run(quick: bool = False) -> list[dict[str, object]]:
    """A row per network: times a step, and how often microgradx's time fits into the peer's."""
    rows = []
    for sizes, batch in JOBS[:2] if quick else JOBS:
        draw = np.random.default_rng(0)
        x = draw.random((batch, sizes[0]), np.float32)
        y = draw.integers(0, sizes[-1], batch)
        makers = {"microgradx": ours, "PyTorch": torchs, "JAX": jaxs}
        found = race({name: partial(make, sizes, x, y) for name, make in makers.items()}, 2 if quick else 9)
        row: dict[str, object] = {"network": "-".join(map(str, sizes)), "batch": batch}
        row |= {name: duration(result["median"]) for name, result in found.items()}
        row["time / PyTorch's"] = f"{found['PyTorch']['ratio']:.2f}"
        row["time / JAX's"] = f"{found['JAX']['ratio']:.2f}"
        rows.append(row)
    return rows
