"""Pictures of an optimizer's ledger, as PNG files. Needs the extra `plot`.

Lines differ in their dashes as well as in their colours.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from microgradx.errors import ArgumentError
from microgradx.optim.ledgers.parameter_log import Account
from microgradx.palette import AMBER, BLUE, GREEN, GREY, INK, KEY, PINK, RED, SKY, frame, keep, panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = BLUE, RED, GREEN, PINK, AMBER, SKY
DASHES = "-", "--", "-.", ":"
FEW = 4  # bands that can be told apart
MOST = 2 * len(COLORS)  # curves, each with colour and dashes of its own


def story(account: Account, which: int, path: str | Path) -> None:
    """One number: weight, gradient and direction, effective learning rate, and the size of its updates."""
    require_steps([account])
    place = ", ".join(map(str, account.indices[which]))
    rule = account.records[-1].equation
    columns = {name: account[name][:, which] for name in account.names}
    title = f"{account.name}[{place}] under {rule.rule.name}"
    drawing, ((weight, slope), (rate, share)) = panels(2, 2, 9.2, 5.6, title, sharex=True)
    t = account.t
    frame(weight, "weight")
    path_of = [columns["p"][0], *(columns["p"] + columns["update"])]
    weight.plot([t[0] - 1, *t], path_of, color=COLORS[0], lw=1.8)
    what = "gradient"
    slope.axhline(0, color=INK, lw=0.8)
    slope.plot(t, columns["g"], "-", color=GREY, lw=1.0, label="gradient g")
    if rule.direction and "direction" in columns and not np.array_equal(columns["direction"], columns["g"]):
        what = "gradient, and the direction that the rule makes of it"
        name = rule.symbol(getattr(rule.direction.expression, "id", "direction"))
        slope.plot(t, columns["direction"], "-", color=COLORS[1], lw=1.8, label=f"direction {name}")
        slope.legend(edgecolor="none", fontsize=9, labelcolor=INK)  # on white: it may lie on the zero line
    frame(slope, what)
    frame(rate, "effective learning rate", "step")
    curve(rate, t, columns["effective_lr"], COLORS[2])
    frame(share, "size of the update, as a part of the weight", "step")
    curve(share, t, columns["ratio"], COLORS[3])
    keep(drawing, path)


def curve(ax: "Axes", t: np.ndarray, values: np.ndarray, color: str) -> None:
    """One line."""
    scale(ax, values)
    ax.plot(t, values, color=color, lw=1.6)


def scale(ax: "Axes", values: np.ndarray) -> None:
    """A logarithmic axis for positive numbers that vary much; one that begins at 0 for a constant."""
    finite = values[np.isfinite(values)]
    if len(finite) and finite.min() > 0:
        if finite.max() > 3 * finite.min():
            logarithmic(ax)
        elif finite.max() < 1.01 * finite.min():
            ax.set_ylim(0, 1.5 * finite.max())


def logarithmic(ax: "Axes") -> None:
    """A logarithmic axis with plain numbers, at 1, 2 and 5 of every power of ten where there is room."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=9))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())


def overview(accounts: Mapping[str, Account], path: str | Path) -> None:
    """By parameter, the median of the watched numbers that moved; with few, the band of their middle half."""
    known = [account for account in accounts.values() if account.names]
    shown = known[:MOST]
    require_steps(shown)
    what = "median and middle half" if len(shown) <= FEW else "median"
    what += " of the watched numbers"
    what += f", the first {MOST} of {len(known)} parameters" * (len(known) > MOST)
    drawing, axes = panels(1, 2, 9.6, 3.8, what)
    titles = {
        "effective_lr": "effective learning rate",
        "ratio": "size of the update, as a part of the weight",
    }
    for ax, (column, title) in zip(axes[0], titles.items(), strict=True):
        frame(ax, title, "step")
        medians: list[np.ndarray] = []
        for k, account in enumerate(shown):
            values = np.abs(account[column])
            values[~np.isfinite(values) | (account["update"] == 0)] = np.nan  # a dead unit's rate is lr / ε
            empty = np.isnan(values).all(axis=1)
            values[empty] = 1  # nothing to take a median of; hidden below
            low, middle, high = np.where(empty, np.nan, np.nanpercentile(values, [25, 50, 75], axis=1))
            color, dashes = COLORS[k % len(COLORS)], DASHES[(k + k // len(COLORS)) % len(DASHES)]
            style = {"color": color, "lw": 1.7, "ls": dashes}
            ax.plot(account.t, middle, label=account.name, **style)
            medians.append(middle)
            if len(account.indices) > 1 and len(shown) <= FEW:
                ax.fill_between(account.t, low, high, color=color, alpha=0.15, lw=0)
        scale(ax, np.concatenate(medians))
    handles, labels = axes[0, 0].get_legend_handles_labels()
    drawing.legend(handles, labels, loc="outside lower center", ncols=min(len(shown), len(COLORS)), **KEY)
    keep(drawing, path)


def require_steps(accounts: list[Account]) -> None:
    """Raise where there is nothing to draw."""
    if not any(account.records for account in accounts):
        raise ArgumentError("nothing to draw: no step was written down yet. Train inside `with ledger(...)`.")
