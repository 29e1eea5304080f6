"""How races look, on a page as in a picture: colours, marks, and what of a racer's way can be shown."""

from collections.abc import Sequence

import numpy as np

from microgradx.palette import AMBER, BLUE, GREEN, INK, PINK, RED, SKY
from microgradx.study.racing.racer import Racer
from microgradx.study.racing.surfaces import Surface

COLORS = [BLUE, RED, GREEN, PINK, AMBER, INK, SKY, "#8C6D31"]
MARKS = "osD^vpXh"
LOW, HIGH, CONTOUR = "#a9bccb", "#fbfbf8", "#8fa6b7"
"""Of the surface: pale, so that the ways stand out; darker where it is lower."""

LOWEST = 1e-9
"""What is nearer to the floor is shown so high above it: a logarithmic axis has no zero."""


def style(i: int) -> tuple[str, str]:
    """The colour and the mark of the i-th racer; no two of the first 64 have both in common."""
    return COLORS[i % len(COLORS)], MARKS[(i + i // len(COLORS)) % len(MARKS)]


def view(surface: Surface, racer: Racer) -> tuple[np.ndarray, np.ndarray]:
    """A racer's way until it leaves the picture, (n, 2), and its heights as the chart has them, (n,).

    These are logarithms to the base 10 above the floor, where that is known. A step to infinity ends not far
    outside of the window, in its direction.
    """
    path, heights = racer.path[: racer.last + 1].copy(), racer.heights[: racer.last + 1].copy()
    if racer.last and not surface.inside(path[-1], margin=1):
        way = np.nan_to_num(path[-1] - path[-2], nan=0, posinf=1e300, neginf=-1e300)
        way = way / max(np.abs(way).max(), 1e-300)
        path[-1] = path[-2] + 2 * surface.diagonal * way
        heights[-1] = surface.heights(path[-1:])[0]
    return path, heights if surface.floor is None else np.log10(np.maximum(heights - surface.floor, LOWEST))


def extent(surface: Surface, racers: Sequence[Racer]) -> tuple[float, float]:
    """The lowest and highest that the chart shows, with a little room: of what is in the window."""
    views = [view(surface, racer) for racer in racers]
    shown = np.concatenate([levels[surface.inside(path)] for path, levels in views])
    room = 0.05 * float(np.ptp(shown)) or 0.5
    return float(shown.min()) - room, float(shown.max()) + room
