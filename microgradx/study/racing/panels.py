"""Pictures with a panel for each optimizer, with matplotlib. Needs the extra `plot`."""

from pathlib import Path
from typing import Any

import numpy as np

from microgradx.palette import GREY, INK, blank
from microgradx.study.racing.basins import ELSEWHERE, LEFT, MOST, PALE, Basin, Basins, shades
from microgradx.study.racing.scene import keep
from microgradx.study.racing.style import COLORS

OUTSIDE, INSIDE = "#8a8a8a", "#e4e4e0"
"""Of starts that end at no marked point."""


def draw_basins(basins: Basins, path: str | Path) -> None:
    """Every start in the colour of where it ends, the paler the later, under the contour lines."""
    from matplotlib.colors import to_rgb

    surface, count = basins.surface, len(basins.maps)
    left, right, bottom, top = surface.window
    columns = min(3, count)
    rows = -(-count // columns)
    width, gap = (3.5 if columns > 1 else 5.6), 0.3  # inches, as all that follows
    height, head = width * (top - bottom) / (right - left), 0.62
    wide = columns * (width + gap) + gap
    colors = np.array([to_rgb(color) for color in [*COLORS[:MOST], OUTSIDE, INSIDE]])
    names = [f"({x:.2f}, {y:.2f})" for x, y in basins.destinations + 0.0]  # without -0.00
    entries = [*zip(colors, names, strict=False)]
    for kind, name in (LEFT, "left the picture"), (ELSEWHERE, "elsewhere"):
        if any((basin.where == kind).any() for basin in basins.maps):
            entries.append((colors[kind], name))
    few = max(1, int((wide - 2 * gap) // 1.3))
    key = 0.34 * (2 + (len(entries) - 1) // few)
    high = rows * (height + head) + key + 0.85
    figure = blank(wide, high, layout=None)
    size = min(13.0, 115 * wide / len(surface.about))
    figure.text(gap / wide, 1 - 0.4 / high, surface.about, fontsize=size, color=INK, weight="bold")
    for i, basin in enumerate(basins.maps):
        x = gap + (i % columns) * (width + gap)
        y = high - 0.6 - (1 + i // columns) * (height + head)
        ax = figure.add_axes((x / wide, y / high, width / wide, height / high))
        draw_panel(ax, basins, basin, colors)
        above = {"transform": ax.transAxes, "va": "bottom"}
        line = 1 / height  # the axes' share of an inch
        ax.text(0, 1 + 0.24 * line, basin.name, fontsize=10, weight="bold", color=INK, **above)
        ax.text(1, 1 + 0.24 * line, f"lr {basin.lr:.3g}", fontsize=9, color=GREY, ha="right", **above)
        ax.text(0, 1 + 0.05 * line, basin.summary(), fontsize=8.5, color=GREY, **above)
    ax = figure.add_axes((gap / wide, 0.1 / high, 1 - 2 * gap / wide, key / high))
    ax.set_xlim(0, wide - 2 * gap)
    ax.set_ylim(key, 0)
    ax.set_axis_off()
    for k, (color, name) in enumerate(entries):
        x, y = (k % few) * (wide - 2 * gap) / min(few, len(entries)) + 0.08, 0.17 + 0.34 * (k // few)
        ax.plot(x, y, "s", ms=10, color=color, clip_on=False)
        ax.text(x + 0.14, y, name, fontsize=8.5, color=INK, va="center")
    shade = np.linspace(1, 1 - PALE, 64)[None, :, None] * (entries[0][0] - 1) + 1
    ax.imshow(shade, extent=(0, 1.2, key - 0.08, key - 0.28), aspect="auto")
    noise = f", noise of deviation {basins.noise:g}" if basins.noise else ""
    text = f"there at once, or only by step {basins.steps}{noise}"
    ax.text(1.3, key - 0.18, text, fontsize=8.5, color=INK, va="center")
    keep(figure, path)


def draw_panel(ax: Any, basins: Basins, basin: Basin, colors: np.ndarray) -> None:
    """One optimizer's picture; known minima are stars."""
    surface, known = basins.surface, len(basins.surface.minima)
    grid = surface.grid(240, 240)
    picture = shades(basin, basins.steps, colors)
    ax.imshow(picture, origin="lower", extent=surface.window, interpolation="nearest", aspect="auto")
    lines = {"colors": INK, "linewidths": 0.4, "alpha": 0.3, "linestyles": "solid"}
    ax.contour(grid[0, :, 0], grid[:, 0, 1], surface.heights(grid), surface.levels(14), **lines)
    for k, point in enumerate(basins.destinations):
        mark = {"marker": "*", "ms": 12} if k < known else {"marker": "o", "ms": 6}
        ax.plot(*point, color=colors[k], mec="white", mew=1.1, clip_on=False, **mark)
    left, right, bottom, top = surface.window
    ax.set_xlim(left, right)
    ax.set_ylim(bottom, top)
    ax.set_axis_off()
