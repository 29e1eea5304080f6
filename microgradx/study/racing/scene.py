"""A race as a picture and as an animation, with matplotlib and Pillow. Needs the extra `plot`.

Left the surface from above, with a way for each optimizer; right how high each is at every step, and how it
stands.
"""

import textwrap
from pathlib import Path
from typing import Any

import numpy as np

from microgradx.errors import ArgumentError
from microgradx.palette import FAINT, GREY, INK, blank, plain
from microgradx.study.racing.race import Race, Racer
from microgradx.study.racing.style import COLORS, CONTOUR, HIGH, LOW, LOWEST, extent, style, view
from microgradx.study.racing.surfaces import Surface

ROW = 0.28
"""Inches between the lines of the standings."""

FRAMES, PAUSE, HOLD = 120, 40, 2400
"""How many pictures an animation has, and how many milliseconds each and the last stay."""


def keep(figure: Any, path: str | Path) -> None:
    """Write a figure to a file."""
    if Path(path).suffix.lower() not in (".png", ".svg", ".pdf"):
        raise ArgumentError(f"{path}: pictures are .png, .svg or .pdf; only a race can be .gif or .html.")
    figure.savefig(path, dpi=160)


def draw_surface(ax: Any, surface: Surface, detail: int = 300) -> None:
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

    def __init__(self, race: Race):
        self.race, surface, rows = race, race.surface, len(race.racers)
        height = 5.4 + ROW * max(0, rows - 7)  # inches; so that the chart keeps its room
        self.figure = blank(9.6, height, layout=None)
        self.figure.text(0.035, 1 - 0.3 / height, surface.about, fontsize=13, color=INK, weight="bold")
        caption = textwrap.fill(race.caption(), 125)
        self.figure.text(0.035, 0.16 / height, caption, fontsize=8.5, color=GREY, linespacing=1.4)
        self.map = self.figure.add_axes((0.035, 0.8 / height, 0.54, 1 - 1.3 / height))
        self.map.set_anchor("NW")
        draw_surface(self.map, surface)
        base = 0.8 + ROW * rows + 0.6
        self.chart = self.figure.add_axes((0.66, base / height, 0.315, 1 - (base + 0.75) / height))
        self.views = [view(race, racer) for racer in race.racers]
        self.frame_chart()
        self.moving: list[tuple[Any, Any]] = []  # axes and what moves on them
        self.racers = [self.enter(i, racer) for i, racer in enumerate(race.racers)]

    def frame_chart(self) -> None:
        """The axes of heights over steps."""
        ax, known, (low, high) = self.chart, self.race.surface.floor is not None, extent(self.race)
        least = f"$10^{{{np.log10(LOWEST):.0f}}}$ or more"  # a logarithmic axis has no zero
        if known:
            ax.set_yscale("log")
        ax.set_ylim(*(10.0**low, 10.0**high) if known else (low, high))
        ax.set_xlim(0, self.race.steps)
        ax.set_title(
            f"height above the minimum, {least}" if known else "height", loc="left", fontsize=10, color=INK
        )
        ax.set_xlabel("step", fontsize=9, color=INK, labelpad=1)
        plain(ax, which="both")
        ax.tick_params(which="both", labelsize=8)
        ax.grid(axis="y", color=FAINT, lw=0.6)

    def enter(self, i: int, racer: Racer) -> dict[str, Any]:
        """The lines, marks and texts of one racer."""
        from matplotlib.patheffects import Normal, Stroke

        color, mark = style(i)
        halo = [Stroke(linewidth=3.4, foreground="white", alpha=0.9), Normal()]
        under = len(self.race.racers) - 1 - i  # so many are drawn over it: the larger, to be seen under them
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
        logarithmic = self.race.surface.floor is not None
        for racer, parts, (path, levels) in zip(self.race.racers, self.racers, self.views, strict=True):
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
                parts[name].set_visible(bool(self.race.surface.inside(here)))
            done = moment >= self.race.steps or moment > racer.last
            parts["state"].set_text(racer.outcome if done else f"at {racer.heights[step]:.3g}")

    def still(self) -> Any:
        """The figure with everything on it."""
        for _, part in self.moving:
            part.set_animated(False)
        return self.figure


def picture(race: Race, path: str | Path) -> None:
    """The end of a race."""
    scene = Scene(race)
    scene.at(race.steps)
    keep(scene.still(), path)


def animation(race: Race, path: str | Path, count: int = FRAMES) -> None:
    """A race as an animated GIF that starts again after a pause."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    scene = Scene(race)
    canvas = FigureCanvasAgg(scene.figure)
    canvas.draw()
    ground = canvas.copy_from_bbox(scene.figure.bbox)
    moving = sorted(scene.moving, key=lambda pair: pair[1].get_zorder())
    frames = []
    for moment in np.linspace(0, race.steps, count):
        scene.at(moment)
        canvas.restore_region(ground)
        for ax, part in moving:
            ax.draw_artist(part)
        frames.append(Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]))
    colors = Image.new("P", (1, 1))
    colors.putpalette(palette(len(race.racers)))
    first, *rest = (frame.quantize(palette=colors, dither=Image.Dither.NONE) for frame in frames)
    times = [PAUSE] * (len(frames) - 1) + [HOLD]
    first.save(path, save_all=True, append_images=rest, duration=times, loop=0, optimize=True)


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
