"""What all pictures have in common: title, panels, caption, files, and colours that every eye tells apart.

Needs the extra `plot`. Figures are matplotlib's Figure alone: no window, no global state, no style left
behind. The colours are those of Okabe & Ito, on white.
"""

from pathlib import Path
from textwrap import fill
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy as np

from microgradx.errors import ArgumentError, writable
from microgradx.errors import plain as plain_text
from microgradx.extras import install

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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

Place = str | Path | IO[bytes]
"""Where a picture goes."""

TEXT: Look = {"fontsize": 9, "color": INK}
"""Of what stands in a panel."""

KEY: Look = {"frameon": False, "fontsize": 9, "labelcolor": INK}
"""Of legends."""


def blank(width: float, height: float, layout: Literal["constrained"] | None = "constrained") -> Picture:
    """An empty figure of so many inches; ArgumentError without matplotlib (the extra `plot`)."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ArgumentError(f"Pictures need matplotlib: {install('plot', 'matplotlib')}.") from None
    return Figure(figsize=(width, height), layout=layout, facecolor="white")


def plain(ax: Picture, which: str = "major") -> None:
    """Axes in the house style: two sides, in ink, behind what is drawn. `which` ticks: "major" or "both"."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(INK)
    ax.tick_params(which=which, colors=INK, labelsize=9)
    ax.set_axisbelow(True)


def panels(
    rows: int, columns: int, width: float, height: float, title: str = "", caption: str = "", **options: bool
) -> tuple["Figure", np.ndarray]:
    """A figure of so many inches with a title and a caption at its left edge, and its (rows, columns) axes.

    `options` are those of matplotlib's `subplots`. Lines are broken so that they fit.
    """
    figure = blank(width, height)
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.1)  # inches
    if title:
        wrapped = fill(title, int(9 * width))
        figure.suptitle(wrapped, x=0.01, ha="left", fontsize=12, weight="bold", color=INK)
    if caption:
        wrapped = fill(caption, int(13.5 * width))
        figure.supxlabel(wrapped, x=0.01, ha="left", fontsize=9, color=GREY, linespacing=1.4)
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def frame(
    ax: "Axes", title: str, xlabel: str = "", ylabel: str = "", lines: Literal["x", "y", "both"] = "y"
) -> None:
    """Axes with a title at the left, in the house style; faint lines across "y", "x" or "both"."""
    ax.set_title(title, loc="left", fontsize=10.5, color=INK)
    ax.set_xlabel(xlabel, **TEXT)
    ax.set_ylabel(ylabel, **TEXT)
    plain(ax, which="both")
    ax.grid(axis=lines, color=FAINT, lw=0.7)


def written(name: str) -> str:
    """A name of the user's as it can be drawn: no formula between dollars, nothing invisible."""
    return plain_text(name).replace("$", r"\$")


def keep(figure: "Figure", file: Place) -> None:
    """Write a figure to a file, to an open one as PNG; ArgumentError where a suffix names no picture."""
    if isinstance(file, str | Path) and Path(file).suffix.lower() not in (".png", ".svg", ".pdf"):
        raise ArgumentError(f"{file}: pictures are .png, .svg or .pdf; only a race can be .gif or .html.")
    figure.savefig(writable(file) if isinstance(file, str | Path) else file, dpi=160)
