"""Small sets to draw in the plane, and a regression set, made from a seed."""

import math

import numpy as np
from numpy.random import Generator

from microgradx.data.splits import Split, dataset, hold_out
from microgradx.errors import ArgumentError, whole


def start(n: int, noise: float, seed: int, classes: int = 2) -> tuple[Generator, np.ndarray]:
    """The random numbers of a set, and its n labels, each class as often as the others."""
    seed = whole("seed", seed, 0, 2**32 - 1)
    if whole("n", n) < whole("classes", classes) or classes < 1 or not 0 <= noise < math.inf:
        raise ArgumentError(
            f"a set needs at least one class, one point per class and noise >= 0, "
            f"got n={n}, classes={classes}, noise={noise}."
        )
    return np.random.default_rng(seed), np.arange(n, dtype=np.int64) % classes


def finish(x: np.ndarray, y: np.ndarray, noise: float, rng: Generator, test: float, seed: int) -> Split:
    """Blur the points with normal noise and set the share `test` of them aside."""
    points = (x + noise * rng.standard_normal(x.shape)).astype(np.float32)
    train, held_out = hold_out(points, y, test, seed)
    return Split(train, held_out, classes=tuple(str(label) for label in range(y.max() + 1)))


def on_circle(angle: np.ndarray) -> np.ndarray:
    """Angles (n,) -> points (n, 2) of the unit circle."""
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


@dataset
def moons(n: int = 1000, noise: float = 0.1, test: float = 0.2, seed: int = 0) -> Split:
    """Two interleaving half circles in the plane.

    >>> data.moons(100)
    Split(80 + 20 rows of 2 features, 2 classes)
    """
    rng, y = start(n, noise, seed)
    upper = on_circle(rng.uniform(0, math.pi, n))
    return finish(np.where(y[:, None] == 0, upper, [1.0, 0.5] - upper), y, noise, rng, test, seed)


@dataset
def circles(
    n: int = 1000, noise: float = 0.05, test: float = 0.2, seed: int = 0, factor: float = 0.5
) -> Split:
    """A circle inside another, `factor` times as large.

    >>> data.circles(100, factor=0.3)
    Split(80 + 20 rows of 2 features, 2 classes)
    """
    rng, y = start(n, noise, seed)
    radius = np.where(y == 0, 1.0, factor)
    return finish(radius[:, None] * on_circle(rng.uniform(0, 2 * math.pi, n)), y, noise, rng, test, seed)


@dataset
def spirals(
    n: int = 1000, noise: float = 0.02, test: float = 0.2, seed: int = 0, classes: int = 2, turns: float = 1.0
) -> Split:
    """Spiral arms around one centre, one per class. `turns`: how often an arm goes around.

    >>> data.spirals(90, classes=3)
    Split(72 + 18 rows of 2 features, 3 classes)
    """
    rng, y = start(n, noise, seed, classes)
    radius = rng.uniform(0.05, 1.0, n)
    angle = 2 * math.pi * (turns * radius + y / classes)
    return finish(radius[:, None] * on_circle(angle), y, noise, rng, test, seed)


@dataset
def blobs(
    n: int = 1000, noise: float = 0.1, test: float = 0.2, seed: int = 0, classes: int = 3, features: int = 2
) -> Split:
    """Round clouds, one per class, around centres drawn from [-1, 1].

    >>> data.blobs(100, features=5)
    Split(80 + 20 rows of 5 features, 3 classes)
    """
    rng, y = start(n, noise, seed, classes)
    centres = rng.uniform(-1, 1, (classes, whole("features", features, 1)))
    return finish(centres[y], y, noise, rng, test, seed)


@dataset
def xor(n: int = 1000, noise: float = 0.05, test: float = 0.2, seed: int = 0) -> Split:
    """Four squares in the plane; neighbours are of different classes.

    >>> data.xor(100, test=0.5)
    Split(50 + 50 rows of 2 features, 2 classes)
    """
    rng, y = start(n, noise, seed)
    x = rng.uniform(0, 1, (n, 2)) * np.where(rng.random((n, 1)) < 0.5, 1, -1)  # both signs equal: class 0
    x[:, 1] *= 1 - 2 * y
    return finish(x, y, noise, rng, test, seed)


@dataset
def regression(
    n: int = 1000, noise: float = 0.1, test: float = 0.2, seed: int = 0, features: int = 10
) -> Split:
    """Friedman's function of five numbers in [0, 1], hidden among `features`, as a target (n, 1).

    10 sin(pi x0 x1) + 20 (x2 - 1/2)^2 + 10 x3 + 5 x4, shifted and scaled to mean 0 and deviation 1, then
    blurred by `noise`. Friedman (1991), Multivariate Adaptive Regression Splines, section 4.3.

    >>> data.regression(100)
    Split(80 + 20 rows of 10 features, targets of shape (1,))
    """
    whole("regression uses the first 5 features: features", features, 5)
    rng, _ = start(n, noise, seed)
    x = rng.random((n, features), np.float32)
    value = 10 * np.sin(math.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2 + 10 * x[:, 3] + 5 * x[:, 4]
    y = (value - 14.41) / 4.88 + noise * rng.standard_normal(n)
    train, held_out = hold_out(x, y[:, None].astype(np.float32), test, seed)
    return Split(train, held_out)
