"""A race as a page to play with: one HTML file that needs neither the network nor another library.

`page.html`, beside this file, is the page without its data. It draws on two canvases; a step can be addressed
as race.html#40.
"""

import html
import json
from pathlib import Path
from typing import Any

import numpy as np

from microgradx.study.look import CONTOUR, HIGH, LOW, extent, style, view
from microgradx.study.race import Race, Racer

DETAIL = 160
"""Cells of the page's grid of heights along each side."""


def write_page(race: Race, path: str | Path) -> None:
    """Write the page."""
    page = Path(__file__).with_suffix(".html").read_text(encoding="utf-8")
    data = json.dumps(contents(race), separators=(",", ":"), allow_nan=False).replace("</", "<\\/")
    page = page.replace("/*TITLE*/", html.escape(race.surface.about)).replace("/*RACE*/null", data)
    Path(path).write_text(page, encoding="utf-8")


def contents(race: Race) -> dict[str, Any]:
    """What the page shows, as JSON has it; numbers as exact as a screen is."""
    surface = race.surface
    heights, levels = surface.heights(surface.grid(DETAIL, DETAIL)), surface.levels()
    finite = heights[np.isfinite(heights)]
    # from a height to the number of contour lines below it: the page finds the lines at whole numbers
    knots = [min(finite.min(), levels[0]) - 1e-9, *levels, max(finite.max(), levels[-1]) + 1e-9]
    stripes = np.interp(np.nan_to_num(heights, nan=knots[-1]), knots, np.arange(len(knots)))
    return {
        "title": surface.about,
        "caption": race.caption(),
        "window": surface.window,
        "minima": surface.minima,
        "steps": race.steps,
        "logarithmic": surface.floor is not None,
        "range": extent(race),
        "shades": [LOW, HIGH, CONTOUR],
        "stripes": len(knots) - 1,
        "grid": np.round(stripes, 3).tolist(),
        "racers": [entry(race, i, racer) for i, racer in enumerate(race.racers)],
    }


def entry(race: Race, i: int, racer: Racer) -> dict[str, Any]:
    """One racer."""
    (color, mark), (path, levels) = style(i), view(race, racer)
    heights = np.clip(np.nan_to_num(racer.heights[: racer.last + 1]), -1e300, 1e300)  # JSON has no infinity
    digits = 5 - int(np.ceil(np.log10(race.surface.diagonal)))
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
