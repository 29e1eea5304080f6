"""A race as a page to play with: one HTML file that needs neither the network nor another library.

`page.html`, beside this file, is the page without its data. It draws on two canvases; a step can be addressed
as race.html#40. The ways that it opens with are the race's own. Other starts, learning rates, surfaces and
optimizers run on the page, by the library's definitions as JavaScript.
"""

import html
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from microgradx.errors import MicrogradxError, writable
from microgradx.rules import Rule, rules
from microgradx.study.racing.descent import LAYERS, fair_lr, noise_of
from microgradx.study.racing.javascript import Script
from microgradx.study.racing.racer import Racer
from microgradx.study.racing.style import CONTOUR, HIGH, LOW, extent, style, view
from microgradx.study.racing.surfaces import Surface, surfaces

T = TypeVar("T")

DETAIL = 160
"""Cells of the page's grid of heights along each side."""


def write_page(
    path: str | Path, surface: Surface, racers: Sequence[Racer], tilts: np.ndarray, caption: str
) -> None:
    """Write the page of a race; tilts: (steps, 2), what was added to the gradients."""
    page = Path(__file__).with_suffix(".html").read_text(encoding="utf-8")
    page = page.replace("/*TITLE*/", html.escape(surface.about))
    page = page.replace("/*PLAY*/", playground(surface, racers, tilts))
    data = packed(contents(surface, racers, len(tilts), caption))
    writable(path).write_text(page.replace("/*RACE*/null", data), encoding="utf-8")


def packed(data: object) -> str:
    """JSON that may stand in a page."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("</", "<\\/")


def contents(surface: Surface, racers: Sequence[Racer], steps: int, caption: str) -> dict[str, object]:
    """What the page shows, as JSON has it; numbers as exact as a screen is."""
    heights, knots = surface.heights(surface.grid(DETAIL, DETAIL)), contour_knots(surface)
    stripes = np.interp(np.nan_to_num(heights, nan=knots[-1]), knots, np.arange(len(knots)))
    return {
        "title": surface.about,
        "caption": caption,
        "surface": surface.name,
        "start": racers[0].path[0].tolist(),
        "window": surface.window,
        "minima": surface.minima,
        "steps": steps,
        "logarithmic": surface.floor is not None,
        "range": extent(surface, racers),
        "looks": [style(i) for i in range(64)],
        "shades": [LOW, HIGH, CONTOUR],
        "stripes": len(knots) - 1,
        "grid": np.round(stripes, 3).tolist(),
        "racers": [entry(surface, i, racer) for i, racer in enumerate(racers)],
    }


def contour_knots(surface: Surface) -> list[float]:
    """From a height to the number of contour lines below it: the page finds the lines at whole numbers."""
    heights, levels = surface.heights(surface.grid(DETAIL, DETAIL)), surface.levels()
    finite = heights[np.isfinite(heights)]
    return [min(finite.min(), levels[0]) - 1e-9, *levels, max(finite.max(), levels[-1]) + 1e-9]


def playground(ground: Surface, racers: Sequence[Racer], tilts: np.ndarray) -> str:
    """JavaScript with `rules`, `surfaces` and `follow`; without a surface where there are no words for it."""
    script, field, places = Script(), {}, {}
    able = [rule for name, rule in rules.items() if name not in LAYERS]
    for rule in [*able, *(racer.rule for racer in racers)]:
        if text := said(script.rule, rule):
            field[rule.name] = rule, text
    chosen = {rule.name: rule for rule, _ in field.values()}
    for surface in (surfaces | {ground.name: ground}).values():
        if text := said(script.surface, surface.height):
            noise = tilts if surface is ground else noise_of(surface, None, None, seed=0)
            places[surface.name] = place(surface, chosen, noise), text
    lines = [f"{packed(name)}: {text}," for name, (_, text) in field.items()]
    grounds = [
        f"{packed(k)}: {{ ...{packed(facts)}, slopes: {text} }}," for k, (facts, text) in places.items()
    ]
    return "\n".join([str(script), "const rules = {", *lines, "};", "const surfaces = {", *grounds, "};"])


def said(say: Callable[[T], str], definition: T) -> str:
    """A definition in JavaScript; nothing where that has no words for it."""
    try:
        return say(definition)
    except MicrogradxError:
        return ""


def place(surface: Surface, field: dict[str, Rule], tilts: np.ndarray) -> dict[str, object]:
    """What a race on a surface begins with."""
    return {
        "title": surface.about,
        "window": surface.window,
        "minima": surface.minima,
        "start": surface.start,
        "steps": len(tilts),
        "floor": surface.floor,
        "knots": contour_knots(surface),
        "tilts": tilts.tolist() if tilts.any() else [],
        "lr": {n: float(f"{fair_lr(r, surface.rate, surface.stride):.3g}") for n, r in field.items()},
    }


def entry(surface: Surface, i: int, racer: Racer) -> dict[str, object]:
    """One racer."""
    (color, mark), (path, levels) = style(i), view(surface, racer)
    heights = np.clip(np.nan_to_num(racer.heights[: racer.last + 1]), -1e300, 1e300)  # JSON has no infinity
    digits = 5 - int(np.ceil(np.log10(surface.diagonal)))
    return {
        "name": racer.name,
        "color": color,
        "mark": mark,
        "lr": racer.lr,
        "last": racer.last,
        "outcome": racer.outcome,
        "path": np.round(path, digits).tolist(),
        "levels": np.round(levels, 4).tolist(),
        "heights": [float(f"{height:.4g}") for height in heights.tolist()],
    }
