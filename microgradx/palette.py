"""What all pictures begin with: an empty figure, and colours that every kind of colour vision tells apart.

Figures are matplotlib's Figure alone: no window, no global state, no style left behind. The colours are those
of Okabe & Ito, on white.
"""

from typing import Any, Literal

from microgradx.errors import ArgumentError

Picture = Any  # matplotlib's Figure or Axes: an extra, whose own types refuse much of what it takes
Look = dict[str, Any]  # keywords of matplotlib's functions, of a type each

INK, GREY, FAINT = "#222222", "#6b6b6b", "#d9d9d9"
BLUE, RED, GREEN, PINK, AMBER, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"

FORWARD, BACK = BLUE, RED
"""Of a graph: values and gradients."""

FILLS = {
    "operation": "#ffffff",
    "parameter": "#fdf3d8",
    "leaf": "#e3f0f8",
    "constant": "#e3f0f8",
    "folded": "#ececec",
}
"""Of a graph's boxes."""


def blank(width: float, height: float, layout: Literal["constrained"] | None = "constrained") -> Picture:
    """An empty figure of so many inches; ArgumentError without matplotlib (the extra `plot`)."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ArgumentError("Pictures need matplotlib: pip install 'microgradx[plot]'.") from None
    return Figure(figsize=(width, height), layout=layout, facecolor="white")


def plain(ax: Picture, which: str = "major") -> None:
    """Axes in the house style: two sides, in ink, behind what is drawn. `which` ticks: "major" or "both"."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(INK)
    ax.tick_params(which=which, colors=INK, labelsize=9)
    ax.set_axisbelow(True)
