"""What bias correction does to training: the sweep of Kingma & Ba (2015), section 6.4, on a small network.

    run = trainings()
    run.save("bias-training.png")    # needs the extra `plot`

For every β₁ of (0, 0.9), β₂ of (0.99, 0.999, 0.9999) and learning rate from 10⁻⁵ to 10⁻¹ a network learns the
embedded digits, with the correction and without. One compiled step serves all: what changes is data to it.
https://arxiv.org/abs/1412.6980. The paper trains a variational autoencoder; the question is the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from microgradx import nn
from microgradx.compiler import jit
from microgradx.data.images import digits
from microgradx.errors import ArgumentError
from microgradx.kernels.random import generator
from microgradx.optim import Adam
from microgradx.optim.ledgers.pictures import logarithmic
from microgradx.palette import GREY, KEY, frame, keep, panels
from microgradx.study.bias_correction.moments import CORRECTED, PLAIN
from microgradx.training.step import training_step

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BETA1, BETA2 = (0.0, 0.9), (0.99, 0.999, 0.9999)
RATES = tuple(10.0 ** (k / 2) for k in range(-10, -1))
"""The paper's range of learning rates, two in every power of ten."""


@dataclass(frozen=True)
class Trainings:
    """The loss at the end of every training."""

    losses: np.ndarray  # (2, beta1, beta2, rates): without the correction, then with it; mean over seeds
    beta1: tuple[float, ...]
    beta2: tuple[float, ...]
    rates: tuple[float, ...]
    sizes: tuple[int, ...]
    epochs: int
    seeds: int
    chance: float  # the loss of a network that has learned nothing

    def table(self) -> list[list[str]]:
        """Head and rows: for each pair of β the smallest loss and the rates that come near it, both ways."""
        head = ["β₁", "β₂", *(f"{what} {how}" for how in ("without", "with") for what in ("best loss", "lr"))]
        rows = []
        for i, beta1 in enumerate(self.beta1):
            for j, beta2 in enumerate(self.beta2):
                cells = []
                for course in self.losses[:, i, j]:
                    best = int(course.argmin())
                    cells += [f"{course[best]:.3g}", f"{self.rates[best]:.0e}"]
                rows.append([f"{beta1:g}", f"{beta2:g}", *cells])
        return [head, *rows]

    def caption(self) -> str:
        """What was trained, and where the correction matters most."""
        with np.errstate(divide="ignore"):
            ratio = self.losses[0] / self.losses[1]
        i, j, k = np.unravel_index(int(ratio.argmax()), ratio.shape)
        without, corrected = self.losses[:, i, j, k]
        worst = f"β₁ = {self.beta1[i]:g}, β₂ = {self.beta2[j]:g}, lr = {self.rates[k]:.2g}"
        sizes = "-".join(map(str, self.sizes))
        return (
            f"{sizes} on the embedded digits, epochs: {self.epochs}, seeds: {self.seeds}. "
            f"It matters most at {worst}: loss {without:.3g} without the correction, {corrected:.3g} with it."
        )

    def save(self, path: str | Path) -> None:
        """As a picture, .png, .svg or .pdf, like the paper's figure 4: a panel for each pair of β."""
        rows, columns = len(self.beta1), len(self.beta2)
        title = "Adam with and without bias correction: loss over learning rate"
        size = 3.5 * columns + 0.8, 2.35 * rows + 1.5
        figure, axes = panels(rows, columns, *size, title, self.caption(), sharex=True, sharey=True)
        for (i, j), ax in np.ndenumerate(axes):
            bottom, left = i == rows - 1, j == 0
            title = f"β₁ = {self.beta1[i]:g}, β₂ = {self.beta2[j]:g}"
            frame(ax, title, "learning rate" * bottom, "training loss" * left)
            self.draw(ax, self.losses[:, i, j])
        axes[0, 0].text(
            self.rates[-1], self.chance, "chance ", color=GREY, fontsize=8.5, ha="right", va="bottom"
        )
        axes[0, 0].legend(**KEY, title="bias correction", loc="lower left")
        keep(figure, path)

    def draw(self, ax: "Axes", losses: np.ndarray) -> None:
        """(2, rates): the losses without the correction and with it."""
        ax.axhline(self.chance, color=GREY, lw=0.9, ls=":")
        looks = zip(losses, (PLAIN, CORRECTED), ("s--", "o-"), ("without", "with"), strict=True)
        for course, color, style, label in looks:
            shown = np.clip(course, None, 2 * self.chance)
            ax.plot(self.rates, shown, style, color=color, lw=1.8, ms=5.5, mec="white", mew=0.8, label=label)
        ax.set_xscale("log")
        logarithmic(ax)
        ax.set_ylim(max(self.losses.min() / 1.6, 1e-6), 2.2 * self.chance)


def trainings(
    beta1: Sequence[float] = BETA1,
    beta2: Sequence[float] = BETA2,
    rates: Sequence[float] = RATES,
    hidden: int = 32,
    epochs: int = 10,
    batch_size: int = 32,
    seeds: int = 3,
) -> Trainings:
    """Train every combination; its loss is the mean over the last epoch, or chance's if not finite.

    hidden: units of the one hidden layer. The random numbers are afterwards as they were. Raises
    ArgumentError for counts below 1. Source: Kingma & Ba (2015), section 6.4.

    >>> trainings(rates=[1e-3, 1e-2], epochs=2, seeds=1).losses.shape  # doctest: +SKIP
    (2, 2, 3, 2)
    """
    if min(epochs, seeds, hidden) < 1:
        raise ArgumentError(f"epochs {epochs}, seeds {seeds}, hidden {hidden}: at least 1 each.")
    (x, y), _ = digits()
    sizes = (x.shape[1], hidden, int(y.max()) + 1)
    losses = np.empty((2, len(beta1), len(beta2), len(rates), seeds))
    kept = generator.state_dict()
    for correction in (False, True):
        model = nn.MLP(sizes)
        optimizer = Adam(model.parameters(), bias_correction=correction)
        fresh = optimizer.state_dict()
        step = jit(training_step(model, optimizer))
        for seed in range(seeds):
            generator.seed(seed)
            weights = nn.MLP(sizes).state_dict()
            orders = [generator.permutation(len(x)) for _ in range(epochs)]
            for i, j, k in np.ndindex(len(beta1), len(beta2), len(rates)):
                model.load_state_dict(weights)
                optimizer.load_state_dict(fresh)
                optimizer.param_groups[0] |= {"lr": rates[k], "betas": (beta1[i], beta2[j])}
                for order in orders:
                    course = step.scan(x, y, batch_size=batch_size, order=order)
                losses[int(correction), i, j, k, seed] = course.numpy().mean()
    generator.load_state_dict(kept)
    chance = float(np.log(sizes[-1]))
    mean = np.nan_to_num(losses, nan=chance, posinf=chance).mean(axis=-1)
    return Trainings(mean, tuple(beta1), tuple(beta2), tuple(rates), sizes, epochs, seeds, chance)
