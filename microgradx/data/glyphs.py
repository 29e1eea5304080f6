"""A set like MNIST, of any size, drawn by arithmetic: ten glyphs as strokes, bent, placed and blurred."""

import functools
import math

import numpy as np
from numpy.typing import ArrayLike

from microgradx.data.splits import Split, dataset, hold_out
from microgradx.data.synthetic import start
from microgradx.errors import whole

CHUNK = 128  # images drawn at a time: their distances stay in cache


def arc(x: float, y: float, rx: float, ry: float, first: float, last: float) -> np.ndarray:
    """Points of an ellipse around (x, y), from one angle to another, in degrees; y points down."""
    angle = np.radians(np.linspace(first, last, max(3, round(abs(last - first) / 30) + 1)))
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], axis=1)


@functools.cache
def glyphs() -> tuple[np.ndarray, ...]:
    """The digits 0 to 9, each as segments (count, 2 ends, 2 coordinates) in the unit square."""
    strokes: list[list[ArrayLike]] = [
        [arc(0.5, 0.5, 0.28, 0.4, 0, 360)],
        [[(0.36, 0.26), (0.52, 0.1), (0.52, 0.9)]],
        [[*arc(0.5, 0.33, 0.25, 0.23, -170, 40), (0.24, 0.9), (0.78, 0.9)]],
        [arc(0.47, 0.3, 0.24, 0.2, -150, 90), arc(0.47, 0.7, 0.28, 0.2, -90, 150)],
        [[(0.6, 0.9), (0.6, 0.1), (0.2, 0.62), (0.8, 0.62)]],
        [[(0.74, 0.1), (0.32, 0.1), (0.29, 0.46), *arc(0.48, 0.66, 0.26, 0.24, -110, 140)]],
        [[(0.66, 0.1), (0.42, 0.3), *arc(0.5, 0.67, 0.24, 0.23, 190, 550)]],
        [[(0.22, 0.1), (0.78, 0.1), (0.42, 0.9)]],
        [arc(0.5, 0.3, 0.2, 0.2, 0, 360), arc(0.5, 0.7, 0.25, 0.2, 0, 360)],
        [arc(0.5, 0.33, 0.24, 0.23, 0, 360), [(0.74, 0.33), (0.64, 0.9)]],
    ]
    return tuple(
        np.concatenate([np.stack([line[:-1], line[1:]], axis=1) for line in map(np.asarray, glyph)])
        for glyph in strokes
    )


def place(segments: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """(s, 2, 2) -> (count, s, 2, 2): bent by a wave, turned, sheared, scaled and shifted at random."""
    height, phase = rng.uniform(-0.06, 0.06, (count, 1, 1, 2)), rng.uniform(0, 2 * math.pi, (count, 1, 1, 2))
    points = segments - 0.5
    points = points + height * np.sin(2 * math.pi * points[..., ::-1] + phase)
    turn = np.radians(rng.uniform(-18, 18, count))
    shear, scale = rng.uniform(-0.25, 0.25, count), rng.uniform(0.6, 0.95, (count, 2))
    cos, sin = np.cos(turn), np.sin(turn)
    matrix = np.stack([cos, sin, shear * cos - sin, shear * sin + cos], axis=1).reshape(count, 1, 2, 2)
    return (points * scale[:, None, None]) @ matrix + 0.5 + rng.uniform(-0.1, 0.1, (count, 1, 1, 2))


def draw(points: np.ndarray, width: np.ndarray, size: int) -> np.ndarray:
    """Segments (k, s, 2, 2) in pixels -> images (k, size, size) in [0, 1], `width` (k,) pixels wide.

    A pixel is as bright as its distance to the nearest segment says: edges are one pixel soft.
    """
    centre = np.arange(size, dtype=np.float32) + np.float32(0.5)
    nearest = np.full((len(points), size, size), np.inf, np.float32)
    for begin, end in points.swapaxes(0, 1).swapaxes(1, 2):
        along = (end - begin)[..., None, None]
        x = centre - begin[:, 0, None, None]
        y = centre[:, None] - begin[:, 1, None, None]
        dx, dy = along[:, 0], along[:, 1]
        t = np.clip((x * dx + y * dy) / np.maximum(dx * dx + dy * dy, np.float32(1e-12)), 0, 1)
        np.minimum(nearest, (x - t * dx) ** 2 + (y - t * dy) ** 2, out=nearest)
    return np.clip(width[:, None, None] / 2 + 0.5 - np.sqrt(nearest), 0, 1)


@dataset
def synthetic_digits(
    n: int = 10_000, size: int = 28, noise: float = 0.1, test: float = 0.2, seed: int = 0
) -> Split:
    """Digits drawn by arithmetic, `size` x `size` pixels: like MNIST, of any size, without a file.

    >>> data.synthetic_digits(100, size=12)
    Split(80 + 20 rows of 144 features, 10 classes)
    """
    whole("digits cannot be told apart on fewer than 8 x 8 pixels: size", size, 8)
    rng, labels = start(n, noise, seed, 10)
    x = np.empty((n, size * size), np.float32)
    for digit, segments in enumerate(glyphs()):
        rows = np.flatnonzero(labels == digit)
        for part in np.array_split(rows, math.ceil(len(rows) / CHUNK)):
            points = (size * place(segments, len(part), rng)).astype(np.float32)
            width = (size * rng.uniform(0.05, 0.13, len(part))).astype(np.float32)
            image = draw(points, width, size).reshape(len(part), -1)
            image += np.float32(noise) * rng.standard_normal(image.shape, np.float32)
            x[part] = np.clip(image, 0, 1, out=image)
    train, held_out = hold_out(x, labels, test, seed)
    return Split(train, held_out, (size, size), tuple("0123456789"))
