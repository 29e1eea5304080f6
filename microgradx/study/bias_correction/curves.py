"""Pictures of what bias correction does, with matplotlib. Needs the extra `plot`."""

import textwrap
from pathlib import Path
from typing import Any

import numpy as np

from microgradx.optim.ledgers.pictures import logarithmic
from microgradx.palette import BLUE, FAINT, GREY, INK, RED, blank, plain
from microgradx.study.bias_correction.moments import CLOSE, Moment, Moments
from microgradx.study.bias_correction.trainings import Trainings
from microgradx.study.racing.scene import keep

CORRECTED, PLAIN = BLUE, RED


def draw_moments(run: Moments, path: str | Path) -> None:
    """Both moments as shares of what they estimate, and the stretch of a step, over the steps."""
    figure = blank(12, 4.5, layout=None)
    figure.text(0.012, 0.945, "What bias correction corrects", fontsize=13, weight="bold", color=INK)
    figure.text(0.012, 0.03, textwrap.fill(run.caption(), 170), fontsize=9, color=GREY)
    axes = figure.subplots(
        1, 3, gridspec_kw={"left": 0.05, "right": 0.985, "top": 0.83, "bottom": 0.22, "wspace": 0.2}
    )
    for ax, moment, goal in zip(axes, (run.m, run.v), ("E[g]", "E[g²]"), strict=False):
        draw_moment(ax, moment, goal)
    ax, t = axes[2], np.arange(1, len(run.stretch) + 1)
    frame(ax, "length of a step, uncorrected / corrected", len(t))
    few = spaced(len(t))
    ax.plot(t[few], run.stretch[few], color=PLAIN, lw=4, alpha=0.45, label="measured")
    ax.plot(t, run.stretch_exact, "--", color=INK, lw=1.2, label="(1-β₁ᵗ) / √(1-β₂ᵗ)")
    ax.axhline(1, color=CORRECTED, lw=1.6)
    ax.set_ylim(bottom=0)
    top = int(np.nanargmax(run.stretch))
    ax.plot(t[top], run.stretch[top], "o", color=PLAIN, mec="white", mew=1.2, ms=8, zorder=4)
    note = f"{run.stretch[top]:.3g} times at step {t[top]}"
    ax.text(t[top], 1.04 * run.stretch[top], note, fontsize=9, color=INK, ha="center", va="bottom")
    ax.set_ylim(top=1.45 * run.stretch[top])
    ax.legend(frameon=False, fontsize=9, labelcolor=INK, loc="upper right")
    keep(figure, path)


def draw_moment(ax: Any, moment: Moment, goal: str) -> None:
    """One moment as it is and corrected, simulated and exact."""
    t = np.arange(1, len(moment.exact) + 1)
    few, share = spaced(len(t)), moment.simulated / moment.target
    frame(ax, f"{moment.symbol} as a share of {goal}, β = {moment.beta:g}", len(t))
    ax.axhspan(1 - CLOSE, 1 + CLOSE, color=CORRECTED, alpha=0.12, lw=0)
    ax.plot(t[few], (share / moment.correction)[few], color=CORRECTED, lw=1.8, label="corrected")
    ax.plot(t[few], share[few], color=PLAIN, lw=4, alpha=0.45, label="uncorrected")
    ax.plot(t, moment.correction, "--", color=INK, lw=1.2, label="exact, 1 - βᵗ")
    ax.set_ylim(0, 1.18)
    if moment.close <= len(t):
        ax.axvline(moment.close, ymax=0.85, color=GREY, lw=0.8, ls=":")
        text = f"within 1 % from step {moment.close:,}"
        ax.text(0.96 * moment.close, 0.06, text, fontsize=9, color=GREY, ha="right", rotation=90)
    ax.legend(
        frameon=False, fontsize=9, labelcolor=INK, loc="center left" if moment.beta > 0.97 else "lower right"
    )


def spaced(steps: int, count: int = 120) -> np.ndarray:
    """Steps, from 0, that are evenly spaced on a logarithmic axis: more would only blacken the line."""
    return np.unique(np.geomspace(1, steps, count).astype(int)) - 1


def frame(ax: Any, title: str, steps: int) -> None:
    """Axes over a logarithm of the steps."""
    ax.set_xscale("log")
    ax.set_xlim(1, max(2, steps))
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.set_title(title, loc="left", fontsize=10.5, color=INK)
    ax.set_xlabel("step", fontsize=9, color=INK)
    plain(ax, which="both")
    ax.grid(axis="y", color=FAINT, lw=0.7)


def draw_trainings(run: Trainings, path: str | Path) -> None:
    """A panel for each pair of β, as in the paper's figure 4: loss over learning rate, with and without."""
    rows, columns = len(run.beta1), len(run.beta2)
    height = 0.75 + 2.35 * rows + 0.75
    figure = blank(3.5 * columns + 0.8, height, layout=None)
    left = 0.3 / figure.get_figwidth()
    title = "Adam with and without bias correction: loss over learning rate"
    figure.text(left, 1 - 0.38 / height, title, fontsize=13, weight="bold", color=INK)
    caption = textwrap.fill(run.caption(), 42 * columns)
    figure.text(left, 0.12 / height, caption, fontsize=9, color=GREY, linespacing=1.4)
    edges = {
        "left": 0.85 / figure.get_figwidth(),
        "right": 0.985,
        "top": 1 - 0.85 / height,
        "bottom": 1.08 / height,
    }
    axes = figure.subplots(
        rows,
        columns,
        squeeze=False,
        sharex=True,
        sharey=True,
        gridspec_kw=edges | {"wspace": 0.08, "hspace": 0.24},
    )
    for i, j in np.ndindex(rows, columns):
        ax = axes[i, j]
        ax.set_title(f"β₁ = {run.beta1[i]:g}, β₂ = {run.beta2[j]:g}", loc="left", fontsize=10.5, color=INK)
        ax.axhline(run.chance, color=GREY, lw=0.9, ls=":")
        for losses, color, style, label in zip(
            run.losses[:, i, j], (PLAIN, CORRECTED), ("s--", "o-"), ("without", "with"), strict=True
        ):
            shown = np.clip(losses, None, 2 * run.chance)
            ax.plot(run.rates, shown, style, color=color, lw=1.8, ms=5.5, mec="white", mew=0.8, label=label)
        ax.set_xscale("log")
        logarithmic(ax)
        ax.set_ylim(max(run.losses.min() / 1.6, 1e-6), 2.2 * run.chance)
        plain(ax, which="both")
        ax.grid(axis="y", color=FAINT, lw=0.7)
        if i == rows - 1:
            ax.set_xlabel("learning rate", fontsize=9, color=INK)
        if j == 0:
            ax.set_ylabel("training loss", fontsize=9, color=INK)
    axes[0, 0].text(run.rates[-1], run.chance, "chance ", fontsize=8.5, color=GREY, ha="right", va="bottom")
    axes[0, 0].legend(title="bias correction", frameon=False, fontsize=9, labelcolor=INK, loc="lower left")
    keep(figure, path)
