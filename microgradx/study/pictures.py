"""What pictures of results have in common: title, panels and caption, and the files that hold them.

Needs the extra `plot`.
"""

from pathlib import Path
from textwrap import fill
from typing import IO, TYPE_CHECKING, Literal

import numpy as np

from microgradx.errors import ArgumentError
from microgradx.palette import FAINT, GREY, INK, Look, blank, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Place = str | Path | IO[bytes]
"""Where a picture goes."""

TEXT: Look = {"fontsize": 9, "color": INK}
"""Of what stands in a panel."""

KEY: Look = {"frameon": False, "fontsize": 9, "labelcolor": INK}
"""Of legends."""


def panels(
    rows: int, columns: int, width: float, height: float, title: str, caption: str = "", **options: bool
) -> tuple["Figure", np.ndarray]:
    """A figure of so many inches with a title and a caption at its left edge, and its (rows, columns) axes.

    `options` are those of matplotlib's `subplots`. Lines are broken so that they fit.
    """
    figure = blank(width, height)
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.1)  # inches
    figure.suptitle(fill(title, int(9 * width)), x=0.01, ha="left", fontsize=12, weight="bold", color=INK)
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


def keep(figure: "Figure", file: Place) -> None:
    """Write a figure to a file, to an open one as PNG; ArgumentError where a suffix names no picture."""
    if isinstance(file, str | Path) and Path(file).suffix.lower() not in (".png", ".svg", ".pdf"):
        raise ArgumentError(f"{file}: pictures are .png, .svg or .pdf; only a race can be .gif or .html.")
    figure.savefig(file, dpi=160)
