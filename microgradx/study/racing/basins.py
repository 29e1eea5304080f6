"""Basins: from every start on a grid, where an optimizer ends and how fast.

    basins("himmelblau", ["sgd", "adam"]).save("basins.png")    # needs the extra `plot`

All ways from all starts are one compiled program: a step over the whole grid, scanned over the steps.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from microgradx.errors import ArgumentError
from microgradx.palette import GREY, INK, KEY, Look, keep, panels
from microgradx.rules import Rule
from microgradx.study.racing.descent import FIELD, descend, learning_rates, noise_of
from microgradx.study.racing.racer import NEAR
from microgradx.study.racing.style import COLORS
from microgradx.study.racing.surfaces import Surface, load_surface

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEFT, ELSEWHERE = -2, -1
"""What is said of a start that ends at no destination."""

OUTSIDE, INSIDE = "#8a8a8a", "#e4e4e0"
"""The colours of LEFT and ELSEWHERE."""

MOST = 8
"""How many destinations have a colour of their own."""

PALE = 0.7
"""How much of its colour the start loses that arrives last: no more, so as not to look like ELSEWHERE."""


@dataclass(frozen=True)
class Basin:
    """One optimizer from every start of the grid.

    >>> where, when = np.array([[0, ELSEWHERE]]), np.array([[3, 9]])
    >>> Basin("sgd", 0.1, np.zeros((1, 2, 2)), where, when).summary()
    '50 % end at a marked point, half of them by step 3'
    """

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
        """As a picture: a panel for each optimizer, every start in the colour of where it ends."""
        from matplotlib.colors import to_rgb
        from matplotlib.patches import Patch

        left, right, bottom, top = self.surface.window
        columns = min(3, len(self.maps))
        rows = -(-len(self.maps) // columns)
        width = 3.5 if columns > 1 else 5.6  # of a panel, in inches
        size = columns * width + 0.4, rows * (0.5 + width * (top - bottom) / (right - left)) + 1
        figure, axes = panels(rows, columns, *size, self.surface.about)
        colors = np.array([to_rgb(color) for color in [*COLORS[:MOST], OUTSIDE, INSIDE]])
        for ax, basin in zip_longest(axes.flat, self.maps):
            ax.set_axis_off()
            if basin:
                self.draw(ax, basin, colors)
        key = [(colors[k], f"({x:.2f}, {y:.2f})") for k, (x, y) in enumerate(self.destinations + 0.0)]
        for kind, name in (LEFT, "left the picture"), (ELSEWHERE, "elsewhere"):
            if any((basin.where == kind).any() for basin in self.maps):
                key.append((colors[kind], name))
        noise = f", noise of deviation {self.noise:g}" if self.noise else ""
        key.append((paler(key[0][0], PALE), f"there only by step {self.steps}{noise}"))
        handles = [Patch(color=color, label=name) for color, name in key]
        few = min(len(key), max(1, int(size[0] // 1.5)))
        figure.legend(handles=handles, loc="outside lower left", ncols=few, **KEY)
        keep(figure, path)

    def draw(self, ax: "Axes", basin: Basin, colors: np.ndarray) -> None:
        """One optimizer's panel, under the contour lines; known minima are stars. colors: (MOST + 2, 3)."""
        surface, grid = self.surface, self.surface.grid(240, 240)
        ax.imshow(
            shades(basin, self.steps, colors), origin="lower", extent=surface.window, interpolation="nearest"
        )
        lines: Look = {"colors": INK, "linewidths": 0.4, "alpha": 0.3, "linestyles": "solid"}
        ax.contour(grid[0, :, 0], grid[:, 0, 1], surface.heights(grid), surface.levels(14), **lines)
        for k, point in enumerate(self.destinations):
            mark, size = ("*", 12) if k < len(surface.minima) else ("o", 6)
            ax.plot(*point, mark, ms=size, color=colors[k], mec="white", mew=1.1, clip_on=False)
        left, right, bottom, top = surface.window
        ax.set(xlim=(left, right), ylim=(bottom, top))
        ax.set_title(basin.name, loc="left", fontsize=10, weight="bold", color=INK, pad=17)
        ax.set_title(f"lr {basin.lr:.3g}", loc="right", fontsize=9, color=GREY, pad=17)
        above: Look = {
            "xy": (0, 1),
            "xycoords": "axes fraction",
            "xytext": (0, 4),
            "textcoords": "offset points",
        }
        ax.annotate(basin.summary(), **above, fontsize=8, color=GREY)


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
    """Let optimizers run from the middle of every cell of a grid, so many along the window's longer side.

    The other parameters are those of `race`. Raises ArgumentError for them, and for fewer than 2 cells.

    >>> basins("himmelblau", ["sgd"], cells=4, steps=5).caption()  # doctest: +SKIP
    '5 steps from each of 4 × 4 starts.'
    """
    surface = load_surface(surface) if isinstance(surface, str) else surface
    if cells < 2:
        raise ArgumentError(f"cells {cells}: a grid has at least 2 along each side.")
    field = learning_rates(surface, optimizers, lr)
    left, right, bottom, top = surface.window
    size = max(right - left, top - bottom) / cells
    grid = surface.grid(round((right - left) / size), round((top - bottom) / size))
    tilts = noise_of(surface, steps, noise, seed)
    near = NEAR * surface.diagonal
    ends, rest, whens = [], [], []
    for rule, rate in field.items():  # one at a time: a way from everywhere takes memory
        way = descend(surface, rule, grid.reshape(-1, 2), tilts, rate, device, compiled=True)
        outside = ~surface.inside(way)
        ends.append(way[-1])
        rest.append(way[-1][at_rest(way, near) & ~outside[-1]])
        whens.append(np.where(outside[-1], outside.argmax(axis=0), arrivals(way, near)))
    known = np.reshape(surface.minima, (-1, 2))
    destinations = gather(np.concatenate(rest), known, near)
    maps = []
    for (rule, rate), end, when in zip(field.items(), ends, whens, strict=True):
        where = np.where(surface.inside(end), ELSEWHERE, LEFT)
        for k, point in enumerate(destinations):
            where[np.hypot(*(end - point).T) <= near] = k
        shape = grid.shape[:2]
        there = where.reshape(shape), when.reshape(shape)
        maps.append(Basin(rule.name, rate, end.reshape(grid.shape), *there))
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
    return paler(colors[basin.where], pale)  # negative ones count from the end


def paler(colors: np.ndarray, share: np.ndarray | float) -> np.ndarray:
    """(..., 3) colours, mixed with white."""
    return colors + share * (1 - colors)
