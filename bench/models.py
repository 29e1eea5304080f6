"""The networks of the benchmarks and a training step of each, once per library.

Float32, ReLU, cross-entropy, Adam with lr 1e-3. `ours`, `torchs` and `numpys` give step(x, y); `jaxs` gives a
pure function of a state, and the state.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

import numpy as np

from microgradx import nn, optim


@dataclass(frozen=True)
class Network:
    """An MLP: its sizes, and what stands before and behind the ReLU of each hidden layer."""

    sizes: tuple[int, ...]
    norm: bool = False  # BatchNorm1d
    dropout: float = 0.0

    def __str__(self) -> str:
        extras = [", BatchNorm"] * self.norm + [f", dropout {self.dropout}"] * bool(self.dropout)
        runs = [(size, len(list(run))) for size, run in groupby(self.sizes)]
        sizes = [f"{size}x{count}" if count > 2 else "-".join([str(size)] * count) for size, count in runs]
        return "-".join(sizes) + "".join(extras)

    def built(self, nn: Any) -> Any:
        """The network of a library's own layers; ours have PyTorch's names."""
        *hidden, last = pairwise(self.sizes)
        layers = []
        for n, m in hidden:
            layers += [nn.Linear(n, m)] + [nn.BatchNorm1d(m)] * self.norm + [nn.ReLU()]
            layers += [nn.Dropout(self.dropout)] * bool(self.dropout)
        return nn.Sequential(*layers, nn.Linear(*last))

    def data(self, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """So many rows, the same for every library: x in [0, 1), y a class."""
        draw = np.random.default_rng(0)
        return draw.random((rows, self.sizes[0]), np.float32), draw.integers(0, self.sizes[-1], rows)

    def weights(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """A weight and a bias per layer, for libraries that have no layers."""
        draw = np.random.default_rng(0)
        made = [draw.normal(0, n**-0.5, (n, m)).astype(np.float32) for n, m in pairwise(self.sizes)]
        return [(weight, np.zeros(weight.shape[1], np.float32)) for weight in made]


def ours(network: Network) -> Callable[[Any, Any], Any]:
    """A step of microgradx, line by line; `mg.jit` takes it as it is."""
    model = network.built(nn)
    return training(model, optim.Adam(model.parameters(), lr=1e-3))


def training(model: nn.Module, optimizer: optim.Optimizer) -> Callable[[Any, Any], Any]:
    """A step of microgradx on a batch: forward, backward, update."""

    def step(x, y):
        optimizer.zero_grad()
        loss = nn.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def torchs(network: Network, compiled: bool = False) -> Callable[[Any, Any], Any]:
    """The same in PyTorch with fused Adam: eager, or with loss and gradients by torch.compile."""
    import torch

    model = network.built(torch.nn)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)

    def loss_of(x, y):
        return torch.nn.functional.cross_entropy(model(x), y)

    loss_of = torch.compile(loss_of) if compiled else loss_of

    def step(x, y):
        optimizer.zero_grad()
        loss = loss_of(x, y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def jaxs(network: Network) -> tuple[Callable[[Any, Any, Any], Any], Any]:
    """The same in JAX, to be compiled: advance(state, x, y) -> state, loss; and the first state."""
    import jax
    import jax.numpy as jnp

    p = jax.tree.map(jnp.asarray, network.weights())
    widths = network.sizes[1:-1] if network.norm else ()
    scales = [(jnp.ones(m), jnp.zeros(m)) for m in widths]
    running = [(jnp.zeros(m), jnp.ones(m)) for m in widths]

    def normalised(x, affine, kept):
        mean, var, n = x.mean(0), x.var(0), len(x)
        kept = 0.9 * kept[0] + 0.1 * mean, 0.9 * kept[1] + 0.1 * var * n / (n - 1)
        return (x - mean) * jax.lax.rsqrt(var + 1e-5) * affine[0] + affine[1], kept

    def loss_of(p, running, key, x, y):
        weights, scales = p
        running = list(running)
        for i, (weight, bias) in enumerate(weights[:-1]):
            x = x @ weight + bias
            if network.norm:
                x, running[i] = normalised(x, scales[i], running[i])
            x = jax.nn.relu(x)
            if network.dropout:
                key, this = jax.random.split(key)
                keep = jax.random.bernoulli(this, 1 - network.dropout, x.shape)
                x = jnp.where(keep, x / (1 - network.dropout), 0)
        logp = jax.nn.log_softmax(x @ weights[-1][0] + weights[-1][1])
        return -logp[jnp.arange(len(y)), y].mean(), (running, key)

    def advance(state, x, y):
        p, m, v, t, running, key = state
        (loss, (running, key)), g = jax.value_and_grad(loss_of, has_aux=True)(p, running, key, x, y)
        t = t + 1
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
        c1, c2 = 1 - 0.9**t, 1 - 0.999**t
        p = jax.tree.map(lambda p, m, v: p - 1e-3 * (m / c1) / (jnp.sqrt(v / c2) + 1e-8), p, m, v)
        return (p, m, v, t, running, key), loss

    m, v = (jax.tree.map(jnp.zeros_like, (p, scales)) for _ in "mv")  # none twice: all are donated
    return advance, ((p, scales), m, v, jnp.float32(0), running, jax.random.key(0))


def numpys(network: Network) -> Callable[[Any, Any], Any]:
    """The same by hand in NumPy, for networks of Linear and ReLU."""
    layers = network.weights()
    p = [array for layer in layers for array in layer]
    m, v = [np.zeros_like(array) for array in p], [np.zeros_like(array) for array in p]
    t = 0

    def step(x, y):
        nonlocal t
        inputs = [x]
        for weight, bias in layers[:-1]:
            inputs.append(np.maximum(inputs[-1] @ weight + bias, 0))
        logits = inputs[-1] @ layers[-1][0] + layers[-1][1]
        logits -= logits.max(1, keepdims=True)
        sums = np.exp(logits).sum(1, keepdims=True)
        loss = (np.log(sums[:, 0]) - logits[np.arange(len(y)), y]).mean()
        g = np.exp(logits) / sums
        g[np.arange(len(y)), y] -= 1
        g /= len(y)
        gradients: list[np.ndarray] = []
        for h, (weight, _) in zip(inputs[::-1], layers[::-1], strict=True):
            gradients = [h.T @ g, g.sum(0), *gradients]
            g = g @ weight.T * (h > 0) if h is not x else g
        t += 1
        for i, g in enumerate(gradients):
            m[i] += 0.1 * (g - m[i])
            v[i] += 0.001 * (g * g - v[i])
            p[i] -= 1e-3 / (1 - 0.9**t) * m[i] / (np.sqrt(v[i] / (1 - 0.999**t)) + 1e-8)
        return loss

    return step
