"""Basins: from every start on a grid, where an optimizer ends and how fast.

    basins("himmelblau", ["sgd", "adam"]).save("basins.png")    # needs the extra `plot`

All ways from all starts are one compiled program: a step over the whole grid, scanned over the steps.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from microgradx.errors import ArgumentError
from microgradx.rules import Rule
from microgradx.study.racing.race import FIELD, NEAR, contestants, descend, learning_rates, noise_of
from microgradx.study.racing.surfaces import Surface, load_surface

LEFT, ELSEWHERE = -2, -1
"""What is said of a start that ends at no destination."""

MOST = 8
"""How many destinations have a colour of their own."""

PALE = 0.7
"""How much of its colour the start loses that arrives last: no more, so as not to look like ELSEWHERE."""


@dataclass(frozen=True)
class Basin:
    """One optimizer from every start of the grid."""

    name: str
    lr: float
    ends: np.ndarray  # (rows, columns, 2)
    where: np.ndarray  # (rows, columns): which destination; LEFT the window; ELSEWHERE in it
    when: np.ndarray  # (rows, columns): the step from which on it stays there, or at which it leaves

    def summary(self) -> str:
        """How many starts end at a destination, and by which step half of them are there."""
        there, what = self.where >= 0, "end at a marked point"
        if not there.any():
            there, what = self.where == LEFT, "leave the picture"
        if not there.any():
            return "none ends at a marked point"
        share = "all" if there.all() else f"{math.floor(1000 * there.mean()) / 10:g} %"
        return f"{share} {what}, half of them by step {int(np.median(self.when[there]))}"


@dataclass(frozen=True)
class Basins:
    """Several optimizers from the same starts, and the destinations that they have between them."""

    surface: Surface
    steps: int
    noise: float
    destinations: np.ndarray  # (k, 2): known minima first, then the most frequent
    maps: tuple[Basin, ...]

    def caption(self) -> str:
        """What was run."""
        rows, columns = self.maps[0].where.shape
        noise = f", noise of deviation {self.noise:g} on every gradient" if self.noise else ""
        return f"{self.steps} steps from each of {columns} × {rows} starts{noise}."

    def save(self, path: str | Path) -> None:
        """As a picture, one panel for each optimizer."""
        from microgradx.study.racing.panels import draw_basins

        draw_basins(self, path)


def basins(
    surface: Surface | str,
    optimizers: Sequence[str | Rule] = FIELD,
    lr: Mapping[str, float] | None = None,
    steps: int | None = None,
    noise: float | None = None,
    seed: int = 0,
    cells: int = 160,
    device: str = "cpu",
) -> Basins:
    """Let optimizers run from the middle of every cell of a grid, so many along the window's longer side."""
    surface = load_surface(surface) if isinstance(surface, str) else surface
    if cells < 2:
        raise ArgumentError(f"cells {cells}: a grid has at least 2 along each side.")
    field = contestants(optimizers)
    rates = learning_rates(surface, field, lr)
    left, right, bottom, top = surface.window
    size = max(right - left, top - bottom) / cells
    grid = surface.grid(round((right - left) / size), round((top - bottom) / size))
    tilts = noise_of(surface, steps, noise, seed)
    near = NEAR * surface.diagonal
    ends, rest, whens = [], [], []
    for rule in field:  # one at a time: a way from everywhere takes memory
        way = descend(surface, rule, grid.reshape(-1, 2), tilts, rates[rule.name], device, compiled=True)
        outside = ~surface.inside(way)
        ends.append(way[-1])
        rest.append(way[-1][at_rest(way, near) & ~outside[-1]])
        whens.append(np.where(outside[-1], outside.argmax(axis=0), arrivals(way, near)))
    known = np.reshape(surface.minima, (-1, 2))
    destinations = gather(np.concatenate(rest), known, near)
    maps = []
    for rule, end, when in zip(field, ends, whens, strict=True):
        where = np.where(surface.inside(end), ELSEWHERE, LEFT)
        for k, point in enumerate(destinations):
            where[np.hypot(*(end - point).T) <= near] = k
        shape = grid.shape[:2]
        maps.append(
            Basin(
                rule.name,
                rates[rule.name],
                end.reshape(grid.shape),
                where.reshape(shape),
                when.reshape(shape),
            )
        )
    return Basins(surface, len(tilts), surface.noise if noise is None else noise, destinations, tuple(maps))


def at_rest(way: np.ndarray, near: float) -> np.ndarray:
    """(steps + 1, n, 2) -> (n,): which have hardly moved in the last tenth of their way."""
    with np.errstate(invalid="ignore"):  # infinity less infinity
        return np.hypot(*(way[-1] - way[-1 - len(way) // 10]).T) < near / 4


def gather(ends: np.ndarray, known: np.ndarray, near: float) -> np.ndarray:
    """(n, 2), (k, 2) -> (up to MOST, 2): the known points, then where most ends lie on one another."""
    found, least = list(known), len(ends) / 500
    for point in known:
        ends = ends[np.hypot(*(ends - point).T) > 2 * near]
    while len(found) < MOST and len(ends):
        cells, counts = np.unique(np.rint(ends / near), axis=0, return_counts=True)
        if counts.max() <= least:
            break
        middle = cells[counts.argmax()] * near
        close = np.hypot(*(ends - middle).T) < 2 * near
        point = np.median(ends[close], axis=0)
        if np.median(np.hypot(*(ends[close] - point).T)) < near / 4:  # not a place that many creep through
            found.append(point)
        ends = ends[~close]
    return np.reshape(found, (-1, 2))


def arrivals(way: np.ndarray, near: float) -> np.ndarray:
    """(steps + 1, n, 2) -> (n,): the step from which on each stays near its end."""
    with np.errstate(invalid="ignore"):  # infinity less infinity
        far = np.hypot(*np.moveaxis(way - way[-1], -1, 0)) > near
    return np.where(far.any(axis=0), len(way) - far[::-1].argmax(axis=0), 0)


def shades(basin: Basin, steps: int, colors: np.ndarray) -> np.ndarray:
    """(k + 2, 3) colours, the last for LEFT and ELSEWHERE -> (rows, columns, 3): the paler the later."""
    pale = np.where(basin.where == ELSEWHERE, 0, PALE * np.sqrt(basin.when / steps))[..., None]
    picked = colors[basin.where]  # negative ones count from the end
    return picked + pale * (1 - picked)
