"""Bias correction: how far Adam's moments lie below what they estimate, simulated and exact.

    run = moments("normal", beta1=0.9, beta2=0.999)
    print(run.table())
    run.save("bias.png")     # needs the extra `plot`

m and v start at zero. For gradients drawn from one distribution E[m] = E[g] (1-β₁ᵗ) and E[v] = E[g²] (1-β₂ᵗ)
after t steps (Kingma & Ba, 2015, section 3: https://arxiv.org/abs/1412.6980). Divided by 1 - βᵗ both are
right from the first step on.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from microgradx import rules
from microgradx.errors import ArgumentError
from microgradx.kernels import sweep
from microgradx.palette import BLUE, GREY, INK, KEY, RED, TEXT, frame, keep, panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CORRECTED, PLAIN = BLUE, RED

CLOSE = 0.01
"""How near to what it estimates a moment counts as right."""


@dataclass(frozen=True)
class Gradients:
    """A distribution of gradients and its moments."""

    about: str
    draw: Callable[[np.random.Generator, int], np.ndarray]
    powers: tuple[float, float, float]  # E[g], E[g²], E[g⁴]


distributions = {
    "normal": Gradients("normal, mean 1, deviation 1", lambda r, n: r.normal(1, 1, n), (1, 2, 10)),
    "uniform": Gradients("uniform between 0 and 2", lambda r, n: r.uniform(0, 2, n), (1, 4 / 3, 16 / 5)),
    "sparse": Gradients(
        "1 in one step of ten, else 0", lambda r, n: (r.random(n) < 0.1).astype(np.float64), (0.1, 0.1, 0.1)
    ),
}
"""What gradients may be drawn from, by name."""


@dataclass(frozen=True)
class Moment:
    """The mean of m or v over all samples after every step, and what it should be."""

    symbol: str
    beta: float
    target: float  # E[g] or E[g²]
    simulated: np.ndarray  # (steps,)
    exact: np.ndarray  # (steps,)
    error: np.ndarray  # (steps,): the exact standard deviation of `simulated`

    @property
    def correction(self) -> np.ndarray:
        """(steps,): 1 - βᵗ, by which the moment is too small, and which Adam divides it by."""
        return self.exact / self.target

    @property
    def deviation(self) -> float:
        """The largest distance between simulated and exact, in standard errors."""
        return float(np.abs((self.simulated - self.exact) / self.error).max())

    @property
    def close(self) -> int:
        """The step from which the uncorrected moment is within 1 %: βᵗ ≤ 0.01."""
        return close_from(self.beta)


@dataclass(frozen=True)
class Moments:
    """Both moments, and the length of a step without the correction as a multiple of one with it."""

    gradients: str
    samples: int
    m: Moment
    v: Moment
    stretch: np.ndarray  # (steps,), measured
    stretch_exact: np.ndarray  # (steps,)

    def table(self) -> list[list[str]]:
        """Head and rows: how much of what it estimates each moment is, and from which step on it is right."""
        rows = [["", *(f"t = {t:,}" for t in self.stops), "within 1 %", "simulated"]]
        for moment, goal in (self.m, "E[g]"), (self.v, "E[g²]"):
            name, course = f"{moment.symbol} of {goal}, β {moment.beta:g}", moment.simulated / moment.target
            both = (name, course, moment.close), ("  corrected", course / moment.correction, 1)
            for label, share, close in both:
                shares = [f"{100 * share[t - 1]:.3g} %" for t in self.stops]
                rows.append([label, *shares, at(close), at(reached(share))])
        lengths = [f"{self.stretch[t - 1]:.3g} ×" for t in self.stops]
        exact, measured = (settled(course) for course in (self.stretch_exact, self.stretch))
        return [*rows, ["step, of corrected", *lengths, at(exact), at(measured)]]

    @property
    def stops(self) -> list[int]:
        """Steps to show numbers of."""
        return [t for t in (1, 10, 1000) if t <= len(self.stretch)]

    def caption(self) -> str:
        """What was simulated, and how well it agrees."""
        top = int(np.nanargmax(self.stretch))
        first, worst = self.stretch[0], self.stretch[top]
        return (
            f"{self.samples:,} gradients a step, {self.gradients}. Simulated and exact differ by at most "
            f"{max(self.m.deviation, self.v.deviation):.1f} standard errors. Without the correction the "
            f"first step is {first:.3g} times as long; the worst, step {top + 1}, {worst:.3g} times."
        )

    def save(self, path: str | Path) -> None:
        """As a picture, .png, .svg or .pdf: both moments as shares of what they estimate, and the step."""
        figure, axes = panels(1, 3, 12, 4.5, "What bias correction corrects", self.caption(), sharex=True)
        for ax, moment, goal in zip(axes[0], (self.m, self.v), ("E[g]", "E[g²]"), strict=False):
            draw_moment(ax, moment, goal)
        draw_stretch(axes[0, 2], self.stretch, self.stretch_exact)
        keep(figure, path)


def moments(
    gradients: str = "normal",
    beta1: float = 0.9,
    beta2: float = 0.999,
    steps: int | None = None,
    samples: int = 4096,
    seed: int = 0,
) -> Moments:
    """Let Adam's own kernel, with and without the correction, take gradients from a distribution.

    gradients: a name of `distributions`, of which every step draws `samples`. Without `steps`, as many as it
    takes the slower moment to come within 1 %, and a little more. Raises ArgumentError for an unknown
    distribution and what is out of range. Source: Kingma & Ba (2015), section 3.

    >>> run = moments("normal", beta1=0.9, beta2=0.999, steps=60, samples=100)
    >>> run.m.close, int(run.stretch.argmax()) + 1  # the step that is stretched most
    (44, 12)
    """
    if gradients not in distributions:
        raise ArgumentError(f"no gradients {gradients!r}. Choose from {', '.join(distributions)}.")
    if not (0 <= beta1 < 1 and 0 <= beta2 < 1):
        raise ArgumentError(f"beta1 {beta1}, beta2 {beta2}: both are at least 0 and below 1.")
    if samples < 100 or (steps is not None and steps < 1):
        raise ArgumentError(f"samples {samples}, steps {steps}: at least 100 samples and 1 step.")
    steps = max(20, math.ceil(1.1 * close_from(max(beta1, beta2)))) if steps is None else steps
    chosen, draw = distributions[gradients], np.random.default_rng(seed)
    options = {"lr": 1.0, "beta1": beta1, "beta2": beta2}
    corrected, plain = (sweep(rule, np.float64) for rule in (rules.adam, rules.adam_uncorrected))
    arrays = [np.zeros((3, samples)) for _ in range(2)]  # p, m, v of each
    first, second, stretch = (np.empty(steps) for _ in range(3))
    for t in range(1, steps + 1):
        g = chosen.draw(draw, samples)
        lengths = []
        for update, (p, m, v) in zip((corrected, plain), arrays, strict=True):
            p[:] = 0
            update(p, g, m, v, t=t, carried=(), **options)
            lengths.append(float(np.abs(p).sum()))
        first[t - 1], second[t - 1] = m.mean(), v.mean()
        stretch[t - 1] = lengths[1] / lengths[0] if lengths[0] else np.nan  # all were zero
    mean, square, fourth = chosen.powers
    m1 = moment("m", beta1, mean, square - mean**2, first, samples)
    v1 = moment("v", beta2, square, fourth - square**2, second, samples)
    return Moments(chosen.about, samples, m1, v1, stretch, m1.correction / np.sqrt(v1.correction))


def moment(
    symbol: str, beta: float, mean: float, variance: float, simulated: np.ndarray, samples: int
) -> Moment:
    """The exact course of a decaying mean of independent numbers, beside the simulated one."""
    t = np.arange(1, len(simulated) + 1)
    exact = mean * -np.expm1(t * math.log(beta)) if beta else np.full(len(t), float(mean))
    spread = variance * (1 - beta) / (1 + beta) * (1 - beta ** (2 * t))
    return Moment(symbol, beta, mean, simulated, exact, np.sqrt(spread / samples))


def close_from(beta: float) -> int:
    """The first t with βᵗ ≤ 0.01."""
    return math.ceil(math.log(CLOSE) / math.log(beta)) if beta else 1


def reached(course: np.ndarray) -> int | None:
    """The first step at which a share is above 99 %; None if it ended before."""
    there = course >= 1 - CLOSE
    return int(there.argmax()) + 1 if there.any() else None


def settled(course: np.ndarray) -> int | None:
    """The step from which on all are within 1 % of 1; None if the last one is not."""
    far = np.flatnonzero(np.abs(course - 1) > CLOSE)
    last = int(far[-1]) + 1 if len(far) else 0
    return last + 1 if last < len(course) else None


def at(step: int | None) -> str:
    """A step, if it was seen."""
    return f"step {step:,}" if step else "later"


def draw_moment(ax: "Axes", moment: Moment, goal: str) -> None:
    """One moment as it is and corrected, simulated and exact."""
    t = np.arange(1, len(moment.exact) + 1)
    few, share = spaced(len(t)), moment.simulated / moment.target
    over_steps(ax, f"{moment.symbol} as a share of {goal}, β = {moment.beta:g}", len(t))
    ax.axhspan(1 - CLOSE, 1 + CLOSE, color=CORRECTED, alpha=0.12, lw=0)
    ax.plot(t[few], (share / moment.correction)[few], color=CORRECTED, lw=1.8, label="corrected")
    ax.plot(t[few], share[few], color=PLAIN, lw=4, alpha=0.45, label="uncorrected")
    ax.plot(t, moment.correction, "--", color=INK, lw=1.2, label="exact, 1 - βᵗ")
    ax.set_ylim(0, 1.18)
    if moment.close <= len(t):
        ax.axvline(moment.close, ymax=0.85, color=GREY, lw=0.8, ls=":")
        text = f"within 1 % from step {moment.close:,}"
        ax.text(0.96 * moment.close, 0.06, text, fontsize=9, color=GREY, ha="right", rotation=90)
    ax.legend(**KEY, loc="center left" if moment.beta > 0.97 else "lower right")


def draw_stretch(ax: "Axes", stretch: np.ndarray, exact: np.ndarray) -> None:
    """(steps,) each: how much longer a step is without the correction, measured and exact."""
    t, top = np.arange(1, len(stretch) + 1), int(np.nanargmax(stretch))
    few, most = spaced(len(t)), stretch[top]
    over_steps(ax, "length of a step, uncorrected / corrected", len(t))
    ax.plot(t[few], stretch[few], color=PLAIN, lw=4, alpha=0.45, label="measured")
    ax.plot(t, exact, "--", color=INK, lw=1.2, label="(1-β₁ᵗ) / √(1-β₂ᵗ)")
    ax.axhline(1, color=CORRECTED, lw=1.6)
    ax.plot(t[top], most, "o", color=PLAIN, mec="white", mew=1.2, ms=8, zorder=4)
    ax.text(t[top], 1.04 * most, f"{most:.3g} times at step {t[top]}", **TEXT, ha="center", va="bottom")
    ax.set_ylim(0, 1.45 * most)
    ax.legend(**KEY, loc="upper right")


def spaced(steps: int, count: int = 120) -> np.ndarray:
    """Steps, from 0, that are evenly spaced on a logarithmic axis: more would only blacken the line."""
    return np.unique(np.geomspace(1, steps, count).astype(int)) - 1


def over_steps(ax: "Axes", title: str, steps: int) -> None:
    """Axes over a logarithm of the steps."""
    ax.set_xscale("log")
    ax.set_xlim(1, max(2, steps))
    ax.xaxis.set_major_formatter("{x:,.0f}")
    frame(ax, title, "step")
