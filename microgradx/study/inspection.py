"""Looking at a run: weights and gradients over time, what the first layer looks for, and what goes wrong.

Pictures are PNG, SVG or PDF files, by the path's ending. Needs the extra `plot`.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from microgradx.errors import ArgumentError
from microgradx.nn import Module
from microgradx.palette import INK, Place, frame, keep, panels, written
from microgradx.primitives.reductions import softmax
from microgradx.training.evaluation import outputs
from microgradx.training.history import History

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BINS = 60


class Histograms:
    """A callback of `fit` that keeps how every parameter and its gradient lie, epoch by epoch.

    `mg.fit(..., callbacks=[histograms := Histograms(model)])`, then `histograms.plot("histograms.png")`. The
    gradient is that of the last step of the epoch. With a path each epoch becomes a line of JSON there too;
    `resume` goes on with what the file holds, as fit(resume=True) does with a run.

    >>> histograms = Histograms(nn.MLP([2, 3, 1]))
    >>> histograms.kept["epoch"], len(histograms.kept["weights"][0]["0.weight"])
    ([0], 6)
    """

    def __init__(self, model: Module, path: str | Path | None = None, resume: bool = False):
        self.parameters = dict(model.named_parameters())
        self.kept, self.path = History(), path
        if resume and path:
            self.kept.records = History.read(path).records
        elif not resume:
            self.take(0)

    def __call__(self, history: History) -> None:
        """Take the parameters as they are after an epoch."""
        epoch = history.records[-1]["epoch"]
        if self.path and not self.kept.path:  # the first epoch: now the folder is there
            self.kept.path = Path(self.path)
            self.kept.keep(epoch - 1)
        self.take(epoch)

    def take(self, epoch: int) -> None:
        """Keep what is needed of each array; before the first step there are no gradients."""
        weights, gradients = {}, {}
        for name, parameter in self.parameters.items():
            weights[name] = quantiles(parameter.numpy())
            gradients[name] = [] if parameter.grad is None else quantiles(parameter.grad.numpy())
        self.kept.append({"epoch": epoch, "weights": weights, "gradients": gradients})

    def plot(self, path: Place, names: Sequence[str] = ()) -> None:
        """A column per parameter (of those named, or the first six): weights above, gradients below."""
        chosen = list(names) or list(self.parameters)[:6]
        if unknown := [name for name in chosen if name not in self.parameters]:
            known = ", ".join(self.parameters)
            raise ArgumentError(f"no parameter {unknown[0]!r}; the model has {known}.")
        if not len(self.kept):
            raise ArgumentError("no histograms to draw: no epoch was trained since they were asked for.")
        caption = "solid: the median, dotted: 5 % and 95 %"
        if not names and len(chosen) < len(self.parameters):
            caption += f"; the first {len(chosen)} of {len(self.parameters)} parameters"
        size = 2.3 * len(chosen) + 0.6, 5.2
        figure, axes = panels(2, len(chosen), *size, "weights and gradients", caption, sharex=True)
        for (line, column), ax in np.ndenumerate(axes):
            kind, name = ("weights", "gradients")[line], chosen[column]
            frame(ax, name * (line == 0), "epoch" * (line == 1), kind * (column == 0))
            heat(ax, self.kept["epoch"], [kept[name] for kept in self.kept[kind]])
        keep(figure, path)


def heat(ax: "Axes", epochs: list[int], series: list[list[float]]) -> None:
    """Densities side by side, each scaled to its own highest."""
    from matplotlib.ticker import MaxNLocator

    values = np.nan_to_num(np.concatenate(series), posinf=0, neginf=0)
    if not values.size:
        ax.set_axis_off()
        return
    rows = min(BINS, max(8, math.ceil(3 * math.sqrt(max(map(len, series))))))  # of few numbers, few
    edges = bins(ax, values, rows)
    counts = np.full((rows, epochs[-1] - epochs[0] + 1), np.nan)
    for epoch, row in zip(epochs, series, strict=True):
        found, _ = np.histogram(row, edges)
        counts[:, epoch - epochs[0]] = np.sqrt(found / max(found.max(), 1)) if row else np.nan
    sides = np.arange(epochs[0], epochs[-1] + 2) - 0.5
    ax.pcolormesh(sides, edges, counts, cmap="Blues", vmin=0, vmax=1.3, rasterized=True)
    for share, dashes in ((0.5, "-"), (0.05, ":"), (0.95, ":")):
        line = [np.quantile(row, share) if row else np.nan for row in series]
        ax.plot(epochs, line, dashes, color=INK, lw=0.9)
    ax.tick_params(labelsize=8)
    ax.grid(visible=False)
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.spines[:].set_visible(False)


def bins(ax: "Axes", values: np.ndarray, count: int) -> np.ndarray:
    """So many bins' edges, equally high on the axis, which has powers of ten where values need several."""
    low, high = np.quantile(values, [0.002, 0.998])
    margin = 0.05 * (high - low) or 1e-6
    low, high = low - margin, high + margin
    sizes, large = np.abs(values[values != 0]), max(-low, high)
    small = np.quantile(sizes, 0.25) if sizes.size else 0
    if not 0 < 30 * small < large:
        return np.linspace(low, high, count + 1)
    ax.set_yscale("asinh", linear_width=small)  # linear up to `small`, logarithmic beyond
    tens = 10.0 ** np.arange(np.floor(np.log10(large)), np.log10(3 * small), -1)
    ax.set_yticks([0, *tens, *-tens])
    ax.minorticks_off()
    ax.set_ylim(low, high)
    start, stop = np.arcsinh([low / small, high / small])
    return small * np.sinh(np.linspace(start, stop, count + 1))


def quantiles(array: np.ndarray, count: int = 400) -> list[float]:
    """At most so many of an array's elements, evenly spaced by rank, to four digits."""
    flat = np.sort(array, axis=None)
    if flat.size > count:
        flat = flat[np.linspace(0, flat.size - 1, count).astype(int)]
    return [float(f"{x:.4g}") for x in flat]


def grid(count: int, across: int | None = None) -> tuple[int, int]:
    """Rows and columns for so many small pictures."""
    columns = across or min(count, max(1, math.ceil(math.sqrt(count * 1.6))))
    return math.ceil(count / columns), columns


def tiles(
    rows: int, columns: int, width: float, height: float, title: str, caption: str = ""
) -> tuple["Figure", np.ndarray]:
    """A figure for small pictures, and (rows * columns,) axes without lines."""
    figure, axes = panels(rows, columns, width, height, title, caption)
    for ax in axes.flat:
        ax.axis("off")
    return figure, axes.ravel()


def filters(model: Module, image_shape: Sequence[int], path: Place, most: int = 64) -> None:
    """The first layer's weights as images, one per unit.

    image_shape: (height, width). Of more than `most` units, those of the largest norm. All have one scale of
    colours. Raises ArgumentError where no weight fits the images.

    >>> filters(nn.MLP([64, 3, 10]), (8, 8), "filters.png")
    """
    shape = tuple(image_shape)
    size = math.prod(shape)
    matrices = [t for _, t in model.named_parameters() if t.ndim == 2]
    if not matrices or matrices[0].shape[0] != size:
        first = matrices[0].shape if matrices else "no matrix"
        raise ArgumentError(
            f"filters: images of shape {shape} have {size} pixels, the first layer is {first}."
        )
    weights = matrices[0].numpy()
    order = np.argsort(-np.linalg.norm(weights, axis=0))[:most]
    rows, columns = grid(len(order))
    shown = f"the {len(order)} units of the largest weights" if len(order) < weights.shape[1] else "all units"
    title, caption = (
        f"what the first layer looks for: {shown}",
        "red: ink counts for the unit, blue: against it",
    )
    figure, axes = tiles(rows, columns, max(0.62 * columns + 0.2, 3.6), 0.62 * rows + 0.9, title, caption)
    extreme = np.quantile(np.abs(weights[:, order]), 0.999) or 1
    for ax, unit in zip(axes, order, strict=False):
        ax.imshow(weights[:, unit].reshape(shape[:2]), cmap="RdBu_r", vmin=-extreme, vmax=extreme)
    keep(figure, path)


def mistakes(
    model: Module, x: np.ndarray, y: np.ndarray, image_shape: Sequence[int], path: Place,
    classes: Sequence[str] = (), most: int = 40,
) -> int:  # fmt: skip
    """The images that the model is most wrong about, each with what it is and what the model takes it for.

    x: (n, features); y: (n,) labels; image_shape: (height, width). Sorted by the probability of the wrong
    answer. Returns how many mistakes there are in all. Raises ArgumentError where rows are no such images.

    >>> mistakes(nn.MLP([4, 2]), np.zeros((3, 4), np.float32), np.array([0, 1, 1]), (2, 2), "m.png") in (1, 2)
    True
    """
    shape = tuple(image_shape)
    if math.prod(shape) != x.reshape(len(x), -1).shape[1]:
        raise ArgumentError(f"mistakes: rows of {x.shape[1:]} are no images of shape {shape}.")
    probabilities = softmax(np.concatenate(list(outputs(model, x))), axis=1)
    taken = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(taken != y)
    order = wrong[np.argsort(-probabilities[wrong, taken[wrong]])][:most]
    names = [*map(written, classes or map(str, range(probabilities.shape[1])))]
    rows, columns = grid(max(len(order), 1), across=min(8, max(len(order), 4)))
    title = f"{len(wrong):,} of {len(x):,} wrong ({len(wrong) / max(len(x), 1):.2%})"
    title += f", the {len(order)} surest first" if 0 < len(order) < len(wrong) else ""
    figure, axes = tiles(rows, columns, 1.25 * columns + 0.2, 1.5 * rows + 0.5, title)
    for ax, k in zip(axes, order, strict=False):
        ax.imshow(x[k].reshape(shape[:2]), cmap="Greys")
        sure = probabilities[k, taken[k]]
        ax.set_title(f"{names[y[k]]},\nnot {names[taken[k]]} {sure:.0%}", fontsize=8, color=INK)
    keep(figure, path)
    return len(wrong)
