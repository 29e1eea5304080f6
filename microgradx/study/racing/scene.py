"""A race as a picture and as an animation, with matplotlib and Pillow. Needs the extra `plot`.

Left the surface from above, with a way for each optimizer; right how high each is at every step, and how it
stands.
"""

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np

from microgradx.errors import writable
from microgradx.palette import GREY, INK, Picture, blank, frame, keep
from microgradx.study.racing.racer import Racer
from microgradx.study.racing.style import COLORS, CONTOUR, HIGH, LOW, LOWEST, extent, style, view
from microgradx.study.racing.surfaces import Surface

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

ROW = 0.28
"""Inches between the lines of the standings."""

FRAMES, PAUSE, HOLD = 120, 40, 2400
"""How many pictures an animation has, and how many milliseconds each and the last stay."""


def draw_surface(ax: "Axes", surface: Surface, detail: int = 300) -> None:
    """Stripes of equal height with their contour lines, over the whole window; minima as small crosses."""
    from matplotlib.colors import LinearSegmentedColormap

    grid = surface.grid(detail, detail)
    x, y, heights = grid[0, :, 0], grid[:, 0, 1], surface.heights(grid)
    levels = surface.levels()
    shades = LinearSegmentedColormap.from_list("height", [LOW, HIGH])(np.linspace(0, 1, len(levels) + 1))
    ax.contourf(x, y, heights, levels, colors=shades, extend="both")
    ax.contour(x, y, heights, levels, colors=CONTOUR, linewidths=0.5, linestyles="solid")
    ax.plot(*np.reshape(surface.minima, (-1, 2)).T, "+", color=INK, ms=9, mew=1.3, zorder=2)
    ax.set_xlim(x[0], x[-1])
    ax.set_ylim(y[0], y[-1])
    ax.set_aspect("equal")
    ax.tick_params(colors=GREY, labelsize=8, length=0)
    ax.spines[:].set_visible(False)


class Scene:
    """The figure of a race: what stays is drawn once, what moves is set to any moment of the race."""

    def __init__(self, surface: Surface, racers: Sequence[Racer], steps: int, caption: str):
        self.surface, self.racers, self.steps, rows = surface, racers, steps, len(racers)
        height = 5.4 + ROW * max(0, rows - 7)  # inches; so that the chart keeps its room
        self.figure = blank(9.6, height, layout=None)
        self.figure.text(0.035, 1 - 0.3 / height, surface.about, fontsize=13, color=INK, weight="bold")
        wrapped = fill(caption, 125)
        self.figure.text(0.035, 0.16 / height, wrapped, fontsize=8.5, color=GREY, linespacing=1.4)
        self.map = self.figure.add_axes((0.035, 0.8 / height, 0.54, 1 - 1.3 / height))
        self.map.set_anchor("NW")
        draw_surface(self.map, surface)
        base = 0.8 + ROW * rows + 0.6
        self.chart = self.figure.add_axes((0.66, base / height, 0.315, 1 - (base + 0.75) / height))
        self.views = [view(surface, racer) for racer in racers]
        self.frame_chart()
        self.moving: list[tuple[Axes, Artist]] = []  # axes and what moves on them
        self.parts = [self.enter(i, racer) for i, racer in enumerate(racers)]

    def frame_chart(self) -> None:
        """The axes of heights over steps."""
        ax, (low, high) = self.chart, extent(self.surface, self.racers)
        title = "height"
        if self.surface.floor is not None:
            title += f" above the minimum, $10^{{{np.log10(LOWEST):.0f}}}$ or more"  # log has no zero
            ax.set_yscale("log")
            low, high = 10.0**low, 10.0**high
        ax.set_ylim(low, high)
        ax.set_xlim(0, self.steps)
        frame(ax, title, "step")
        ax.tick_params(which="both", labelsize=8)

    def enter(self, i: int, racer: Racer) -> dict[str, Picture]:
        """The lines, marks and texts of one racer."""
        from matplotlib.patheffects import Normal, Stroke

        color, mark = style(i)
        halo = [Stroke(linewidth=3.4, foreground="white", alpha=0.9), Normal()]
        under = len(self.racers) - 1 - i  # so many are drawn over it: the larger, to be seen under them
        order = {"zorder": 3 + 0.01 * i, "animated": True, "color": color}
        head = order | {"zorder": 5 + 0.01 * i, "marker": mark, "ms": 8, "mec": "white", "mew": 1.2, "ls": ""}
        parts = {
            "way": self.map.plot([], [], lw=1.9, path_effects=halo, solid_joinstyle="round", **order)[0],
            "head": self.map.plot([], [], clip_on=False, **head | {"ms": 7.5 + 1.3 * min(under, 6)})[0],
            "drop": self.chart.plot([], [], lw=1.6, **order)[0],
            "point": self.chart.plot([], [], clip_on=False, **head | {"ms": 6})[0],
        }
        height = self.figure.get_figheight()
        ax = self.figure.add_axes((0.632, (0.8 + ROW * under) / height, 0.35, ROW / height))
        ax.set_axis_off()
        ax.set_xlim(0, 1)
        ax.set_ylim(0, 1)
        ax.plot(0.03, 0.5, **head | {"animated": False})
        middle = {"va": "center", "fontsize": 9}
        ax.text(0.075, 0.47, racer.name, color=INK, weight="bold", **middle)
        ax.text(0.45, 0.47, f"lr {racer.lr:.2g}", color=GREY, **middle)
        parts["state"] = ax.text(0.665, 0.47, "", color=INK, animated=True, **middle)
        axes = {"way": self.map, "head": self.map, "drop": self.chart, "point": self.chart, "state": ax}
        self.moving += [(axes[name], part) for name, part in parts.items()]
        return parts

    def at(self, moment: float) -> None:
        """Set everything that moves to a moment, in steps; between two steps it is on the straight line."""
        logarithmic = self.surface.floor is not None
        for racer, parts, (path, levels) in zip(self.racers, self.parts, self.views, strict=True):
            now = min(moment, racer.last)
            step = int(now)
            ahead, part = min(step + 1, racer.last), now - step
            here = (1 - part) * path[step] + part * path[ahead]
            high = np.append(levels[: step + 1], (1 - part) * levels[step] + part * levels[ahead])
            high = 10.0**high if logarithmic else high
            parts["way"].set_data(*np.vstack([path[: step + 1], here]).T)
            parts["head"].set_data(*here[:, None])
            parts["drop"].set_data([*range(step + 1), now], high)
            parts["point"].set_data([now], high[-1:])
            for name in ("head", "point"):
                parts[name].set_visible(bool(self.surface.inside(here)))
            done = moment >= self.steps or moment > racer.last
            parts["state"].set_text(racer.outcome if done else f"at {racer.heights[step]:.3g}")

    def save(self, path: str | Path) -> None:
        """The end of the race as a picture."""
        self.at(self.steps)
        for _, part in self.moving:
            part.set_animated(False)
        keep(self.figure, path)

    def animate(self, path: str | Path, count: int = FRAMES) -> None:
        """The race as an animated GIF that starts again after a pause."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from PIL import Image

        canvas = FigureCanvasAgg(self.figure)
        canvas.draw()
        ground = canvas.copy_from_bbox(self.figure.bbox)
        moving = sorted(self.moving, key=lambda pair: pair[1].get_zorder())
        frames = []
        for moment in np.linspace(0, self.steps, count):
            self.at(moment)
            canvas.restore_region(ground)
            for ax, part in moving:
                ax.draw_artist(part)
            frames.append(Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]))
        colors = Image.new("P", (1, 1))
        colors.putpalette(palette(len(self.racers)))
        first, *rest = (frame.quantize(palette=colors, dither=Image.Dither.NONE) for frame in frames)
        times = [PAUSE] * (len(frames) - 1) + [HOLD]
        first.save(writable(path), save_all=True, append_images=rest, duration=times, loop=0, optimize=True)


def palette(racers: int) -> list[int]:
    """At most 256 colours as red, green, blue, ...: those of the racers, ink and surface, and blends of them.

    One made by counting pixels would give nearly all its places to the surface, and the racers wrong colours.
    """
    from matplotlib.colors import to_rgb

    def blends(one: str, other: str, count: int) -> np.ndarray:
        return np.linspace(to_rgb(one), to_rgb(other), count, endpoint=False)

    grounds = (LOW, "white")
    own = [blends(color, ground, 6) for color in dict.fromkeys(COLORS[:racers]) for ground in grounds]
    pairs = (INK, "white", 32), (LOW, HIGH, 48), (CONTOUR, LOW, 12), (CONTOUR, HIGH, 12)
    lines = [blends(*pair) for pair in pairs]
    return np.rint(255 * np.vstack([to_rgb("white"), *own, *lines])).astype(int).ravel().tolist()
