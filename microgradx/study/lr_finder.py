"""The learning-rate finder: raise the rate step by step, and see where the loss falls and where it explodes.

Smith (2015), Cyclical learning rates for training neural networks: arXiv 1506.01186, section 3.3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from microgradx.compiler import jit
from microgradx.errors import ArgumentError
from microgradx.kernels.random import generator
from microgradx.nn import Module, cross_entropy
from microgradx.optim import LBFGS, Optimizer
from microgradx.palette import BLUE, KEY, RED, Place, frame, keep, panels
from microgradx.training.checks import Pair, arrays
from microgradx.training.evaluation import Loss
from microgradx.training.step import training_step

MEMORY = 0.8  # of the moving average of the loss
EXPLODED = 4.0  # times the least loss: no larger rate is tried


@dataclass(frozen=True)
class Rates:
    """What was found: rates, the loss of the step at each, and its moving average; `plot(path)` draws it."""

    rates: np.ndarray
    losses: np.ndarray
    smooth: np.ndarray

    @property
    def suggestion(self) -> float:
        """The rate at which the loss falls fastest: a good peak; a few times less is safe."""
        slope = np.gradient(self.smooth, np.log(self.rates))
        until = max(int(np.argmin(self.smooth)), 2)
        return float(self.rates[int(np.argmin(slope[:until]))])

    def plot(self, path: Place) -> None:
        """Loss against rate as a PNG, SVG or PDF file, with the suggestion marked. Needs the extra `plot`."""
        figure, ((ax,),) = panels(1, 1, 5.2, 3.6, "loss while the learning rate rises")
        frame(ax, "", "learning rate", lines="both")
        ax.plot(self.rates, self.losses, ".", color=BLUE, alpha=0.35, ms=4, label="loss of a step")
        ax.plot(self.rates, self.smooth, color=BLUE, lw=1.8, label="moving average")
        ax.axvline(self.suggestion, color=RED, lw=1.4, ls="--", label=f"suggestion: {self.suggestion:.2g}")
        ax.set_xscale("log")
        top, bottom = float(np.max(self.smooth[: max(3, len(self.smooth) // 4)])), float(np.min(self.losses))
        ax.set_ylim(bottom - 0.05 * abs(top - bottom), top + 0.6 * abs(top - bottom))
        ax.legend(**KEY, loc="upper left")
        keep(figure, path)

    def __str__(self) -> str:
        first, last = self.rates[0], self.rates[-1]
        return f"{len(self.rates)} rates from {first:.1g} to {last:.2g}: try {self.suggestion:.2g}"


def find_lr(
    model: Module,
    optimizer: Optimizer,
    train: Pair,
    loss: Loss = cross_entropy,
    *,
    batch_size: int = 128,
    low: float = 1e-6,
    high: float = 10.0,
    steps: int = 150,
) -> Rates:
    """Train `steps` steps while the learning rate rises from `low` to `high`, by one factor per step.

    train: (x, y), of which batches are drawn at random. It stops early where the loss explodes. Model,
    optimizer and random numbers are afterwards as they were. Raises ArgumentError for an optimizer without
    `lr`, and where the loss explodes at once. Source: Smith (2015), section 3.3.

    >>> model = nn.MLP([64, 32, 10])  # after mg.seed(0)
    >>> print(find_lr(model, optim.Adam(model.parameters()), data.digits()[0]))  # doctest: +SKIP
    112 rates from 1e-06 to 0.16: try 0.012
    """
    if not 0 < low < high or steps < 10:
        raise ArgumentError(f"find_lr: 0 < low < high and at least 10 steps, got {low}, {high} and {steps}.")
    groups = optimizer.param_groups
    if any("lr" not in group for group in groups):
        raise ArgumentError(f"find_lr: {optimizer.name} has no learning rate to find.")
    x, y = arrays("train", train)
    kept = model.state_dict(), optimizer.state_dict(), generator.state_dict(), model.training

    step = training_step(model, optimizer, loss)
    step = step if isinstance(optimizer, LBFGS) else jit(step)
    rates = np.geomspace(low, high, steps)
    losses: list[float] = []
    model.train()
    try:
        with np.errstate(all="ignore"):
            for rate in rates:
                for group in groups:
                    group["lr"] = float(rate)
                rows = np.sort(generator.choice(len(x), min(batch_size, len(x))))
                value = step(x[rows], y[rows]).item()
                if not math.isfinite(value) or (len(losses) > 10 and value > EXPLODED * min(losses)):
                    break
                losses.append(value)
    finally:
        model.load_state_dict(kept[0])
        optimizer.load_state_dict(kept[1])
        generator.load_state_dict(kept[2])
        model.train(kept[3])
        optimizer.zero_grad()
    if len(losses) < 3:
        raise ArgumentError(f"find_lr: the loss explodes at a rate of {low}; start lower.")
    found = np.array(losses)
    without_lag = smoothed(smoothed(found)[::-1])[::-1]  # both ways
    return Rates(rates[: len(found)], found, without_lag)


def smoothed(series: np.ndarray) -> np.ndarray:
    """The exponential moving average, corrected for its start at zero as in Adam."""
    average, result = 0.0, np.empty(len(series))
    for k, value in enumerate(series):
        average = MEMORY * average + (1 - MEMORY) * value
        result[k] = average / (1 - MEMORY ** (k + 1))
    return result
