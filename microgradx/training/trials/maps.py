"""A sweep at a glance: the two names that matter most, the best of the others, as a picture or a text."""

import math
from collections.abc import Sequence

import numpy as np

from microgradx.errors import ArgumentError, one_of
from microgradx.palette import BLUE, INK, Look, Picture, Place, frame, panels
from microgradx.training.figures import put
from microgradx.training.trials.results import Results, columns, spread

SHADES = "█▓▒░ "


def chosen(sweep: Results, names: Sequence[str] = ()) -> list[str]:
    """The one or two names to show: those given, else those that matter most; first the rows."""
    effects = sweep.effects()
    for name in names:
        if name not in effects:
            raise ArgumentError(one_of("name that varies", name, effects))
    found = list(names) or [*effects][:2]
    if len(found) > 2 or not found:
        raise ArgumentError(
            f"a map has one or two names that vary, not {len(found)}: choose from {', '.join(effects)}."
        )
    if not names:
        found.sort(key=lambda name: (len(sweep.axes[name]), [*sweep.axes].index(name)))  # the longer across
    return found


def cells(sweep: Results, names: Sequence[str]) -> np.ndarray:
    """(rows, columns) of the best means; NaN where nothing went well."""
    rows, across = (sweep.axes[name] for name in names)
    found = [[sweep.best_at({names[0]: a, names[1]: b}) for b in across] for a in rows]
    return np.array([[math.nan if s is None else s.mean for s in line] for line in found])


def good(values: np.ndarray, by: str) -> np.ndarray:
    """From 0, the worst, to 1, the best; by the order of magnitude where losses span some."""
    known = values[np.isfinite(values)]
    if by == "loss" and known.size and known.min() > 0 and known.max() > 10 * known.min():
        values, known = np.log(values), np.log(known)
    low, high = (known.min(), known.max()) if known.size else (0.0, 0.0)
    share = (values - low) / (high - low) if high > low else np.zeros_like(values)
    return 1 - share if by == "loss" else share


def text(sweep: Results, names: Sequence[str] = (), width: int = 80) -> str:
    """A map in letters, the best cells the darkest, turned where it is too wide; "" where that is, too."""
    if len(sweep.axes) < 2 or len(found := chosen(sweep, names)) < 2 or sweep.free & {*found}:
        return ""
    for order in (found, found[::-1]):
        lines = columns(lettered(sweep, order))
        if max(map(len, lines)) <= width:
            return "\n".join(lines)
    return ""


def lettered(sweep: Results, names: Sequence[str]) -> list[list[str]]:
    """The rows of such a map."""
    values = cells(sweep, names)
    rows = [[f"{names[0]} \\ {names[1]}", *map(brief, sweep.axes[names[1]])]]
    for name, line, shades in zip(sweep.axes[names[0]], values, good(values, sweep.by), strict=True):
        pairs = zip(line, shades, strict=True)
        cell = ["-" if math.isnan(v) else f"{shown(v, sweep.by)} {mark(s)}" for v, s in pairs]
        rows.append([brief(name), *cell])
    return rows


def shown(value: float, by: str) -> str:
    """A mean in few letters."""
    return f"{100 * value:.1f}" if by == "accuracy" else f"{value:.3g}"


def brief(value: object) -> str:
    """A value of an axis, as short as it can be told from others.

    >>> brief(0.00026827), brief(0.1), brief(64), brief("adam")
    ('2.7e-4', '0.1', '64', 'adam')
    """
    if not isinstance(value, float):
        return str(value)
    return min(f"{value:.3g}", f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e"), key=len)


def mark(share: float) -> str:
    """A shade: the best is dark."""
    return SHADES[min(len(SHADES) - 1, int((1 - share) * len(SHADES)))]


def plot(sweep: Results, place: Place, names: Sequence[str] = ()) -> None:
    """Draw it: a heat map of two names, or of one the means with their deviations."""
    found = chosen(sweep, names)
    others = [name for name in sweep.axes if name not in found]
    caption = (
        f"Mean {sweep.by} over the seeds, held out"
        + f"; the best {', '.join(others)} of each" * bool(others)
        + "."
    )
    if len(found) == 1:
        figure, ((ax,),) = panels(1, 1, 6.0, 3.6, caption=caption)
        line(sweep, ax, found[0])
    elif sweep.free & {*found}:
        figure, ((ax,),) = panels(1, 1, 6.0, 4.0, caption=f"Mean {sweep.by} over the seeds, the best dark.")
        scatter(sweep, ax, found)
    else:
        rows, across = (sweep.axes[name] for name in found)
        wide, high = max(5.0, 0.78 * len(across) + 1.8), max(2.6, 0.46 * len(rows) + 1.7)
        figure, ((ax,),) = panels(1, 1, wide, high, caption=caption)
        heat(sweep, ax, found)
    put(figure, place)


def heat(sweep: Results, ax: Picture, names: Sequence[str]) -> None:
    """Two names: a cell for each pair, the best the darkest and framed."""
    values = cells(sweep, names)
    shades = good(values, sweep.by)
    ax.imshow(shades, cmap="Blues", vmin=-0.05, vmax=1.15, aspect="auto")
    for (i, j), value in np.ndenumerate(values):
        words = "failed" if math.isnan(value) else shown(value, sweep.by)
        color = "white" if shades[i, j] > 0.6 else INK
        ax.text(j, i, words, ha="center", va="center", fontsize=8.5, color=color)
    best = sweep.best.config
    at = [sweep.axes[name].index(best[name]) for name in names]
    ax.plot(at[1], at[0] - 0.33, marker="*", color="white", ms=7, mec=INK, mew=0.6)
    for axis, name in ((ax.yaxis, names[0]), (ax.xaxis, names[1])):
        axis.set_ticks(range(len(sweep.axes[name])), [*map(brief, sweep.axes[name])])
    title = f"best {sweep.by}: {spread(sweep.best.values(sweep.by), sweep.by)}"
    frame(ax, title, names[1].replace("_", "-"), names[0].replace("_", "-"))
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)


def scatter(sweep: Results, ax: Picture, names: Sequence[str]) -> None:
    """What a search has tried: a point for each, the best the darkest and with a star."""
    done = [s for s in sweep.standings if s.results]
    y, x = ([s.config[name] for s in done] for name in names)
    shades = good(np.array([s.mean for s in done]), sweep.by)
    ax.scatter(
        [*map(plain, x)], [*map(plain, y)], c=shades, cmap="Blues", vmin=-0.3, vmax=1, ec=INK, lw=0.5, s=46
    )
    ax.plot(plain(x[0]), plain(y[0]), marker="*", color="white", ms=9, mec=INK, mew=0.8)
    for values, scale in ((x, ax.set_xscale), (y, ax.set_yscale)):
        if wide(values):
            scale("log")
    title = f"best {sweep.by}: {spread(sweep.best.values(sweep.by), sweep.by)}"
    frame(ax, title, names[1].replace("_", "-"), names[0].replace("_", "-"), "both")


def plain(value: object) -> object:
    """A number as it is, everything else as a word."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def wide(values: Sequence[object]) -> bool:
    """Whether numbers are to be seen by their order of magnitude."""
    numbers = [value for value in values if isinstance(value, int | float)]
    return len(numbers) == len(values) and min(numbers) > 0 and max(numbers) > 20 * min(numbers)


def line(sweep: Results, ax: Picture, name: str) -> None:
    """One name: means with their deviations."""
    found = [(value, s) for value in sweep.axes[name] if (s := sweep.best_at({name: value}))]
    x = [plain(value) for value, _ in found]
    numeric = all(isinstance(value, int | float) for value in x)
    look: Look = {"color": BLUE, "capsize": 3, "fmt": "o-" if numeric else "o", "ms": 5}
    ax.errorbar(x, [s.mean for _, s in found], [s.std for _, s in found], **look)
    if wide(x):
        ax.set_xscale("log")
    frame(ax, f"best {sweep.by}: {spread(sweep.best.values(sweep.by), sweep.by)}", name.replace("_", "-"))
