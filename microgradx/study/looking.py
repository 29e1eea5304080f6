"""Looking at a run: weights and gradients over time, what the first layer looks for, and what goes wrong.

Pictures are PNG, SVG or PDF files, by the path's ending. Needs the extra `plot`.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from microgradx.errors import ArgumentError
from microgradx.nn import Module
from microgradx.primitives.reductions import softmax
from microgradx.training.evaluation import outputs
from microgradx.training.figures import INK, figure
from microgradx.training.history import History

BINS = 61


class Histograms:
    """A callback of `fit` that keeps a histogram of every parameter and its gradient, epoch by epoch.

    `mg.fit(..., callbacks=[histograms := Histograms(model)])`, then `histograms.plot("histograms.png")`. The
    gradient is that of the last step of the epoch.
    """

    def __init__(self, model: Module):
        self.parameters = dict(model.named_parameters())
        self.values: dict[str, list[np.ndarray]] = {name: [] for name in self.parameters}
        self.gradients: dict[str, list[np.ndarray]] = {name: [] for name in self.parameters}
        self.epochs: list[int] = []
        self.take(0)

    def __call__(self, history: History) -> None:
        """Take the parameters as they are after an epoch."""
        self.take(len(history))

    def take(self, epoch: int) -> None:
        """Keep what is needed of each array: a thousand of its sorted elements say how they lie."""
        self.epochs.append(epoch)
        for name, parameter in self.parameters.items():
            gradient = parameter.grad
            found = np.zeros(1) if gradient is None else gradient.numpy()
            self.values[name].append(quantiles(parameter.numpy()))
            self.gradients[name].append(quantiles(found))

    def plot(self, path: str | Path, names: Sequence[str] = ()) -> None:
        """A column per parameter (of those named, or the first six): weights above, gradients below."""
        chosen = list(names) or list(self.parameters)[:6]
        if unknown := [name for name in chosen if name not in self.parameters]:
            known = ", ".join(self.parameters)
            raise ArgumentError(f"no parameter {unknown[0]!r}; the model has {known}.")
        drawing, _ = figure(2.3 * len(chosen) + 0.6, 4.6)
        drawing.clear()
        axes = drawing.subplots(2, len(chosen), squeeze=False)
        for column, name in enumerate(chosen):
            for line, (kind, kept) in enumerate((("weights", self.values), ("gradients", self.gradients))):
                ax, series = (
                    axes[line][column],
                    kept[name][line:],
                )  # there is no gradient before the first step
                if not series:
                    ax.axis("off")
                    continue
                self.heat(ax, series, self.epochs[line:])
                ax.set_title(name if line == 0 else "", fontsize=10, color=INK)
                if column == 0:
                    ax.set_ylabel(kind, color=INK)
                if line == 1:
                    ax.set_xlabel("epoch", color=INK)
        drawing.savefig(path, dpi=160)

    def heat(self, ax: Any, series: list[np.ndarray], epochs: list[int]) -> None:
        """Densities side by side, each scaled to its own highest."""
        from matplotlib.ticker import MaxNLocator

        both = np.concatenate(series)
        low, high = np.quantile(both, [0.002, 0.998])
        margin = 0.05 * (high - low) or 1e-6
        edges = np.linspace(low - margin, high + margin, BINS)
        counts = np.array([np.histogram(values, edges)[0] for values in series], float).T
        counts /= np.maximum(counts.max(axis=0), 1)
        sides = np.array([*epochs, epochs[-1] + 1]) - 0.5
        ax.pcolormesh(sides, edges, np.sqrt(counts), cmap="Blues", vmin=0, vmax=1, rasterized=True)
        for share, dashes in ((0.5, "-"), (0.05, ":"), (0.95, ":")):
            if len(epochs) > 1:
                ax.plot(epochs, [np.quantile(v, share) for v in series], dashes, color=INK, lw=0.9)
        ax.tick_params(labelsize=8, colors=INK)
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        ax.spines[:].set_visible(False)


def quantiles(array: np.ndarray, count: int = 1000) -> np.ndarray:
    """At most so many of an array's elements, evenly spaced by rank."""
    flat = np.sort(array, axis=None).astype(np.float64)
    return flat if flat.size <= count else flat[np.linspace(0, flat.size - 1, count).astype(int)]


def grid(count: int, across: int | None = None) -> tuple[int, int]:
    """Rows and columns for so many small pictures."""
    columns = across or min(count, max(1, math.ceil(math.sqrt(count * 1.6))))
    return math.ceil(count / columns), columns


def filters(model: Module, image_shape: Sequence[int], path: str | Path, most: int = 64) -> None:
    """The first layer's weights as images, one per unit: red where ink counts for it, blue where against.

    Of more than `most` units, those of the largest norm. All have one scale of colours. Raises ArgumentError
    where no weight fits the images.
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
    drawing, _ = figure(0.62 * columns + 0.2, 0.62 * rows + 0.6)
    drawing.clear()
    axes = drawing.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes:
        ax.axis("off")
    extreme = np.quantile(np.abs(weights[:, order]), 0.999) or 1
    for ax, unit in zip(axes, order, strict=False):
        image = weights[:, unit].reshape(shape[:2])
        ax.imshow(image, cmap="RdBu_r", vmin=-extreme, vmax=extreme)
    shown = f"the {len(order)} units of the largest weights" if len(order) < weights.shape[1] else "all units"
    drawing.suptitle(f"what the first layer looks for: {shown}", fontsize=11, color=INK, x=0.01, ha="left")
    drawing.savefig(path, dpi=160)


def mistakes(
    model: Module, x: Any, y: Any, image_shape: Sequence[int], path: str | Path,
    classes: Sequence[str] = (), most: int = 40,
) -> int:  # fmt: skip
    """The images that the model is most wrong about, each with what it is and what the model takes it for.

    Sorted by the probability of the wrong answer. Returns how many mistakes there are in all.
    """
    shape = tuple(image_shape)
    if math.prod(shape) != x.reshape(len(x), -1).shape[1]:
        raise ArgumentError(f"mistakes: rows of {x.shape[1:]} are no images of shape {shape}.")
    probabilities = softmax(np.concatenate(list(outputs(model, x))), axis=1)
    taken = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(taken != y)
    order = wrong[np.argsort(-probabilities[wrong, taken[wrong]])][:most]
    names = list(classes) or [str(label) for label in range(probabilities.shape[1])]
    rows, columns = grid(max(len(order), 1), across=min(8, max(len(order), 4)))
    drawing, _ = figure(1.25 * columns + 0.2, 1.5 * rows + 0.5)
    drawing.clear()
    axes = drawing.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes:
        ax.axis("off")
    for ax, k in zip(axes, order, strict=False):
        ax.imshow(x[k].reshape(shape[:2]), cmap="Greys")
        sure = probabilities[k, taken[k]]
        ax.set_title(f"{names[y[k]]}, not {names[taken[k]]}\n{sure:.0%}", fontsize=8, color=INK)
    title = f"{len(wrong):,} of {len(x):,} wrong ({len(wrong) / max(len(x), 1):.2%})"
    title += f", the {len(order)} surest first" if 0 < len(order) < len(wrong) else ""
    drawing.suptitle(title, fontsize=11, color=INK, x=0.01, ha="left")
    drawing.savefig(path, dpi=160)
    return len(wrong)
