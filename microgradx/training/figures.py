"""Pictures of a run, as PNG files: its curves and its confusion matrix. Needs the extra `plot`.

Lines differ in their dashes as well as in colour.
"""

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from microgradx.palette import BLUE, INK, KEY, RED, Place, frame, keep, panels, written
from microgradx.training.files import replace
from microgradx.training.history import History

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TRAIN, VALID = BLUE, RED


def put(drawing: "Figure", place: Place) -> None:
    """Write a figure as PNG, a file whole or not at all."""
    keep(drawing, picture := BytesIO())
    if isinstance(place, str | Path):
        replace(Path(place), picture.getvalue())
    else:
        place.write(picture.getvalue())


def curves(history: History, path: Place) -> None:
    """Loss, and accuracy if there is one, by epoch; the best epoch is marked."""
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    measures = [name for name in ("loss", "accuracy") if any(name in record for record in history)]
    drawing, (axes,) = panels(1, len(measures), 4.6 * len(measures), 3.4)
    epochs, best = np.array(history["epoch"]), history.best
    for ax, name in zip(axes, measures, strict=True):
        series = [(name, "training", TRAIN, "--"), (f"valid_{name}", "validation", VALID, "-")]
        series = [row for row in series if any(row[0] in record for record in history)]
        for column, label, color, dashes in series:
            marker = "o" if len(epochs) == 1 else None
            look = {"color": color, "label": label, "lw": 1.8, "marker": marker}
            ax.plot(epochs, np.array(history[column], float), dashes, **look)
        column, _, color, _ = next(
            row for row in reversed(series) if row[0] in best
        )  # some may lack validation
        ax.plot(best["epoch"], best[column], "o", color=color, mec="white", mew=1.5, ms=8, zorder=3)
        value = f"{best[column]:.2%}" if name == "accuracy" else f"{best[column]:.4g}"
        frame(ax, f"{name}: {value} at epoch {best['epoch']}", "epoch")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        if name == "accuracy":
            ax.yaxis.set_major_formatter(PercentFormatter(1))
        else:
            ax.set_ylim(bottom=0)
        if len(series) > 1:
            ax.legend(**KEY)
    put(drawing, path)


def confusion(counts: np.ndarray, path: Place, names: list[str] | None = None) -> None:
    """A confusion matrix: rows are the true labels, shades the fraction of their row, numbers the counts."""
    classes = len(counts)
    names = [*map(written, names or map(str, range(classes)))]
    side = max(3.6, 0.46 * classes + 1.4)
    drawing, ((ax,),) = panels(1, 1, side + 0.4, side)
    share = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    # the square root lets the few mistakes be seen beside the many hits
    ax.imshow(np.sqrt(share), cmap="Blues", vmin=0, vmax=1)
    for row, column in zip(*np.nonzero(counts), strict=True):
        color = "white" if share[row, column] > 0.35 else INK
        size = 9 if classes <= 15 else 6
        ax.text(column, row, f"{counts[row, column]}", ha="center", va="center", fontsize=size, color=color)
    if max(map(len, names)) > 2:
        ax.set_xticks(range(classes), names, rotation=45, ha="right", rotation_mode="anchor")
    else:
        ax.set_xticks(range(classes), names)
    ax.set_yticks(range(classes), names)
    ax.set_xticks(np.arange(classes + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(classes + 1) - 0.5, minor=True)
    right = counts.trace() / max(1, counts.sum())
    frame(ax, f"{right:.2%} of {counts.sum():,} right", "predicted", "true")
    ax.grid(visible=False)
    ax.grid(which="minor", color="white", lw=1.5)
    ax.tick_params(which="both", length=0)
    ax.spines[:].set_visible(False)
    put(drawing, path)
