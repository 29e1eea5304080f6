"""A compiled step's kernels against the machine's limits: a table as text or HTML, and a roofline picture.

A kernel can be no faster than its arithmetic at the speed of large matmuls, nor than its bytes at the speed
of memory. The longer of the two is its best possible time, and says what bounds it (Williams, Waterman &
Patterson, 2009: https://doi.org/10.1145/1498765.1498785). Data that a cache keeps from one kernel to the next
comes faster than memory is: then a kernel's share of its limit is above 100 %.
"""

import html
import shutil
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from microgradx.compiler.report.machine_limits import Limits
from microgradx.errors import ArgumentError, writable
from microgradx.extras import install
from microgradx.palette import BLUE, GREY, INK, RED, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEAD = ["kernel", "us", "of step", "FLOP", "bytes", "GFLOP/s", "GB/s", "of limit", "bound by", "what"]
SPARE = ["what", "GFLOP/s", "GB/s", "FLOP", "bytes", "bound by"]
"""What a narrow terminal goes without, the first one first."""
SHORT = 5e-6  # seconds: of a kernel shorter than this, the start takes a good part

LINES, SHADE = "#dddddd", "#f5f5f2"
COLORS = {"arithmetic": BLUE, "memory": RED, "overhead": "#8a8a8a"}
SIDES = np.array([(1, 0), (-1, 0), (0, 1), (0, -1), (0.8, 0.8), (0.8, -0.8), (-0.8, 0.8), (-0.8, -0.8)])
"""Where a name may stand: right of its point first."""


@dataclass(frozen=True)
class Measured:
    """One kernel of a step, its calls added up."""

    name: str
    what: str
    seconds: float
    flop: float
    bytes: float
    hosted: bool = False  # whether it is called as NumPy's or the user's code: its arithmetic is not known

    def best(self, limits: Limits) -> float:
        """The least seconds that the machine needs for it."""
        return max(self.flop / limits.gemm, self.bytes / limits.bandwidth)

    def bound(self, limits: Limits) -> str:
        """What keeps it from being faster: "arithmetic", "memory", "overhead"; or it is "not compiled"."""
        if self.hosted:
            return "not compiled"
        best = self.best(limits)
        if best == 0 or (best < 0.1 * self.seconds and self.seconds < SHORT):
            return "overhead"
        return "arithmetic" if best == self.flop / limits.gemm else "memory"


@dataclass(frozen=True, repr=False)
class Report:
    """The kernels of a step: `print(report)`, or `report.picture("roofline.png")`."""

    rows: Sequence[Measured]
    limits: Limits
    step_seconds: float

    @property
    def best(self) -> float:
        """The sum of the best possible times; a kernel that beats memory counts with its own."""
        return sum(min(row.best(self.limits), row.seconds) for row in self.rows)

    def beats_memory(self, row: Measured) -> bool:
        """Whether a kernel was faster than memory is."""
        return 0 < row.seconds < row.bytes / self.limits.bandwidth

    @property
    def alone(self) -> float:
        """The seconds of all kernels, each by itself."""
        return sum(row.seconds for row in self.rows)

    def cells(self) -> list[list[str]]:
        """The table: the head, a line for every kernel, what is between them, the total."""
        flop, moved = sum(row.flop for row in self.rows), sum(row.bytes for row in self.rows)
        whole = max(self.step_seconds, self.alone)
        lines = [self.line(row, row.best(self.limits), row.bound(self.limits), whole) for row in self.rows]
        if self.step_seconds > self.alone:
            between = Measured("", "between the kernels", self.step_seconds - self.alone, 0, 0)
            lines.append([*self.line(between, 0, "", whole)[:3], *["-"] * 5, "", between.what])
        total = Measured("total", f"at best {digits(1e6 * self.best)} us", self.step_seconds, flop, moved)
        return [HEAD, *lines, self.line(total, self.best, "", self.step_seconds)]

    def line(self, row: Measured, best: float, bound: str, whole: float) -> list[str]:
        """The cells of one line."""
        time, share = f"{1e6 * row.seconds:,.1f}", percent(row.seconds, whole)
        rates = [f"{n / row.seconds / 1e9:,.1f}" if row.seconds else "-" for n in (row.flop, row.bytes)]
        counts, reached = [scaled(row.flop), scaled(row.bytes)], percent(best, row.seconds)
        if row.hosted:
            counts[0] = rates[0] = reached = "-"
        return [row.name, time, share, *counts, *rates, reached, bound, row.what]

    def notes(self) -> list[str]:
        """What the kernels are measured against, and what their lines do not show."""
        gemm, speed = digits(self.limits.gemm / 1e9), digits(self.limits.bandwidth / 1e9)
        notes = [f"limits: {gemm} GFLOP/s in float32 and {speed} GB/s of memory, {machine(self.limits)}"]
        if 0 < self.step_seconds < self.alone:
            times = f"{self.alone / self.step_seconds:.2f} times the step"
            notes.append(
                f"one by one the kernels take {digits(1e6 * self.alone)} us, {times}: shares are of that; "
                "in the step, data stays in caches, and threads work on several at once"
            )
        if slow := [row for row in self.rows if row.hosted]:
            names = ", ".join(dict.fromkeys(row.what for row in slow))
            notes.append(f"not compiled, but called in every step: {names}")
        if any(map(self.beats_memory, self.rows)):
            notes.append("above 100 % of the limit: the data came from a cache, which is faster than memory")
        elif any(0 < row.seconds < row.best(self.limits) for row in self.rows):
            notes.append(
                "above 100 % of the limit: faster than the large product that the limit is taken from"
            )
        elif self.best > self.step_seconds:
            notes.append("above 100 % of the limit: in the step, threads work on several kernels at once")
        return notes

    def text(self, width: int | None = None) -> str:
        """The table as plain text; in so many columns, without what does not fit."""
        lines = self.cells()
        columns = {column[0]: column for column in zip(*lines, strict=True)}
        sides, spare = dict(zip(HEAD, "<>>>>>>><<", strict=True)), list(SPARE)
        taken = lambda: sum(max(map(len, column)) + 2 for column in columns.values()) - 2
        while width and spare and taken() > width:
            del columns[spare.pop(0)]
            columns["kernel"] = tuple(name or "between" for name in columns["kernel"])
        widths = {name: max(map(len, column)) for name, column in columns.items()}
        form = "  ".join(f"{{:{sides[name]}{widths[name]}}}" for name in columns)
        head, *rows, total = [form.format(*row).rstrip() for row in zip(*columns.values(), strict=True)]
        rule = "-" * max(map(len, (head, *rows, total)))
        notes, absent = self.notes(), ", ".join(name for name in HEAD if name not in columns)
        if absent:
            notes.append(f"no room for: {absent}; print(report.text()) has all columns")
        notes = [part for note in notes for part in textwrap.wrap(note, width or 10_000)]
        return "\n".join([head, rule, *rows, rule, total, "", *notes])

    def __str__(self) -> str:
        """The table as plain text, as wide as the terminal, if it is printed to one."""
        return self.text(shutil.get_terminal_size().columns if sys.stdout.isatty() else None)

    __repr__ = __str__  # an interactive session shows the table

    def _repr_html_(self) -> str:
        """The table for a notebook."""
        head, *rows, total = self.cells()
        lines = [html_row("th", head), *(html_row("td", row) for row in rows), html_row("th", total)]
        notes = "<br>".join(html.escape(note) for note in self.notes())
        return f"<table>{''.join(lines)}</table><small>{notes}</small>"

    def picture(self, path: str | Path) -> None:
        """The roofline as a PNG, SVG or PDF file: a kernel's speed against its arithmetic per byte.

        A point's area is the kernel's time. Needs the extra `plot`.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError:
            raise ArgumentError(f"A roofline needs matplotlib: {install('plot', 'matplotlib')}.") from None
        shown = [row for row in self.rows if row.seconds > 0 and row.flop > 0 and row.bytes > 0]
        if not shown:
            raise ArgumentError(
                "A roofline needs a kernel with FLOP, bytes and seconds above 0: there is none."
            )
        drawing = Figure(figsize=(8, 5.2), layout="constrained", facecolor="white")
        ax = drawing.subplots()
        x = np.array([row.flop / row.bytes for row in shown])
        y = np.array([row.flop / row.seconds / 1e9 for row in shown])
        times = np.array([row.seconds for row in shown])
        areas = np.maximum(40, 2400 * times / times.sum())
        frame(ax, x, y, self.limits)
        for bound, color in COLORS.items():
            at = [i for i, row in enumerate(shown) if row.bound(self.limits) == bound]
            ax.scatter(x[at], y[at], areas[at], color=color, edgecolor="white", alpha=0.85, zorder=3)
            ax.scatter([], [], 50, color=color, alpha=0.85, label=bound)
        legend = ax.legend(
            title="bound by", loc="lower right", alignment="left", frameon=False, handletextpad=0
        )
        reached = f"{percent(self.best, self.step_seconds)} of what is possible"
        ax.set_title(f"{digits(1e6 * self.step_seconds)} us a step: {reached}", loc="left", color=INK, pad=22)
        under = f"{machine(self.limits)}; the area of a kernel is its time"
        ax.text(0, 1.025, under, transform=ax.transAxes, fontsize=9, color=GREY)
        hidden = ", ".join(row.name for row in self.rows if row not in shown and not row.hosted)
        hosted = ", ".join(row.name for row in self.rows if row.hosted)
        notes = ["above the line: the data came from a cache"] if any(map(self.beats_memory, shown)) else []
        notes += [f"without arithmetic: {hidden}"] if hidden else []
        notes += [f"not compiled: {hosted}"] if hosted else []
        text = textwrap.fill("; ".join(notes), 115)
        drawing.supxlabel(text, x=0.01, ha="left", fontsize=9, color=GREY)
        drawing.draw_without_rendering()  # now it is known where things are, so that labels can avoid them
        drawing.set_layout_engine("none")
        texts = [f"{row.name}  {1e6 * row.seconds:,.1f} us" for row in shown]
        taken = np.vstack([roof(ax, self.limits), np.array(legend.get_window_extent().extents)])
        label(ax, texts, np.column_stack([x, y]), areas, taken)
        drawing.savefig(writable(path), dpi=160)


def digits(number: float) -> str:
    """Three digits or the whole number: `0.123`, `12.3`, `1,234`."""
    places = next((n for n, least in enumerate((100, 10, 1)) if number >= least), 3 if number else 0)
    return f"{number:,.{places}f}"


def scaled(count: float) -> str:
    """A count in thousands, millions ...: `25.7 M`."""
    for unit, size in {"T": 1e12, "G": 1e9, "M": 1e6, "k": 1e3}.items():
        if count >= size:
            return f"{digits(count / size)} {unit}"
    return f"{count:.0f}"


def percent(part: float, whole: float) -> str:
    """A share: `12.3 %`; `-` of nothing."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def machine(limits: Limits) -> str:
    """The threads that were used, and of what."""
    return f"{limits.threads} thread{'s' * (limits.threads != 1)} of {limits.processor}"


def html_row(tag: str, cells: list[str]) -> str:
    """A line of an HTML table, numbers to the right as in the text."""
    sides = ["left", *["right"] * 7, "left", "left"]
    line = (
        f'<{tag} style="text-align: {side}">{html.escape(cell)}</{tag}>'
        for side, cell in zip(sides, cells, strict=True)
    )
    return f"<tr>{''.join(line)}</tr>"


def frame(ax: "Axes", x: np.ndarray, y: np.ndarray, limits: Limits) -> None:
    """Logarithmic axes with room for the points and for the bend of the roof."""
    top, bend = limits.gemm / 1e9, limits.gemm / limits.bandwidth
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(min(*x / 4, bend / 16), max(*x * 6, bend * 16))
    ax.set_ylim(min(*y / 3, top / 100), max(*y, top) * 2.5)
    ax.set_xlabel("FLOP per byte", color=INK)
    ax.set_ylabel("GFLOP/s", color=INK)
    plain(ax, which="both")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_major_formatter("{x:g}")
    ax.grid(color=LINES, lw=0.6)


def roof(ax: "Axes", limits: Limits) -> np.ndarray:
    """Draw the two limits and name them; the places they take, as boxes of pixels."""
    (left, right), bottom = ax.get_xlim(), ax.get_ylim()[0]
    top, speed = limits.gemm / 1e9, limits.bandwidth / 1e9
    x = np.geomspace(left, right, 200)
    y = np.minimum(top, x * speed)
    ax.plot(x, y, color=INK, lw=1.8, zorder=4)
    ax.fill_between(x, y, bottom, color=SHADE, zorder=0)
    pixels = ax.transData.transform(np.column_stack([x, y]))
    dx, dy = pixels[1] - pixels[0]
    tilt = np.degrees(np.arctan2(dy, dx))
    start = 1.2 * max(left, bottom / speed)
    note = partial(ax.annotate, textcoords="offset points", rotation_mode="anchor", color=INK, fontsize=9)
    note(f"{digits(top)} GFLOP/s of matmul", (right, top), (-4, 4), ha="right")
    note(f"{digits(speed)} GB/s of memory", (start, start * speed), (0, 4), rotation=tilt)
    name = 16 * ax.figure.dpi / 72
    return np.hstack([pixels - [name, 3], pixels + [3, name]])


def label(ax: "Axes", texts: list[str], at: np.ndarray, areas: np.ndarray, taken: np.ndarray) -> None:
    """Name the points at the nearest places that are free of points, limits, other names and their leaders.

    Points that lie on one another share a place, a line for each.
    """
    point = ax.figure.dpi / 72  # in pixels
    centers, radii = ax.transData.transform(at), np.sqrt(areas) / 2 * point
    circles = np.hstack([centers - radii[:, None], centers + radii[:, None]])
    taken = np.vstack([taken, circles])
    window, named = np.array([ax.get_window_extent().extents]), np.empty((0, 4))
    for group in coinciding(centers, radii):
        i, text = group[0], "\n".join(texts[k] for k in group)
        probe = ax.text(0, 0, text, fontsize=9)
        half = np.array([probe.get_window_extent().width, probe.get_window_extent().height]) / 2
        probe.remove()
        offsets = [(radii[i] + gap * point + half) * side for gap in range(3, 90, 6) for side in SIDES]
        others = np.vstack([named, np.delete(circles, group, axis=0)])  # which no leader may strike
        places, leaders, costs = [], [], []
        for k, offset in enumerate(offsets):
            place = np.hstack([centers[i] + offset - half, centers[i] + offset + half])
            leader = line(centers[i], offset) if k >= len(SIDES) else np.empty((0, 4))
            struck = sum(overlap(box, others) for box in leader)
            costs.append(round(overlap(place, taken) - overlap(place, window) + 100 * struck))
            places.append(place)
            leaders.append(leader)
        best = int(np.argmin(costs))
        named = np.vstack([named, places[best], leaders[best]])
        taken = np.vstack([taken, places[best], leaders[best]])
        leading = {"arrowstyle": "-", "color": GREY, "lw": 0.7, "shrinkA": 0, "shrinkB": 3}
        ax.annotate(
            text,
            at[i],
            offsets[best] / point,
            textcoords="offset points",
            arrowprops=leading if len(leaders[best]) else None,  # not beside the point: lead there
            ha="center",
            va="center",
            fontsize=9,
            color=INK,
            zorder=5,
        )


def coinciding(centers: np.ndarray, radii: np.ndarray) -> list[list[int]]:
    """The points in groups, from the largest: one whose middle lies within a larger one is in its group."""
    groups: list[list[int]] = []
    for i in np.argsort(-radii, kind="stable").tolist():
        for group in groups:
            if np.hypot(*(centers[i] - centers[group[0]])) < radii[group[0]]:
                group.append(i)
                break
        else:
            groups.append([i])
    return groups


def line(start: np.ndarray, way: np.ndarray) -> np.ndarray:
    """A straight line as small boxes of pixels: (n, 4)."""
    along = np.linspace(0, 1, max(2, int(np.hypot(*way) / 3)))[:, None]
    return np.hstack([start + along * way - 1, start + along * way + 1])


def overlap(box: np.ndarray, others: np.ndarray) -> float:
    """The area of a box (left, bottom, right, top) that others cover."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    return float(np.prod(np.maximum(0, sides), axis=1).sum())
