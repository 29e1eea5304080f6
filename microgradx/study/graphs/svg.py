"""A placed graph as SVG: boxes with lines of text in the colours of their roles, arrows, and a legend."""

from html import escape
from typing import Any

from microgradx.errors import ArgumentError
from microgradx.palette import BACK, FILLS, FORWARD, GREY, INK
from microgradx.study.graphs.folding import Arrow, Box
from microgradx.study.graphs.graph import Call
from microgradx.study.graphs.layout import Layout, Point

COLOURS = {"title": INK, "about": GREY, "value": FORWARD, "gradient": BACK}
LINE, ASIDE, MARGIN, TEXT = 13.0, 9.0, 12.0, 10.0
FAMILY = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"
BOLD = 'font-weight="bold"'
LEGEND = [("values, forward", FORWARD, ""), ("gradients, backward", BACK, "4 2.5")]


def length(text: str, bold: bool = False) -> float:
    """How long a text is in a font like Helvetica, or a little less."""
    narrow = sum(character in "fijlrtI.,:;|()[]·' " for character in text)
    wide = sum(character in "mwMW…-@" or character.isupper() for character in text)
    ems = 0.56 * (len(text) - narrow - wide) + 0.31 * narrow + 0.76 * wide
    return TEXT * ems * (1.08 if bold else 1)


def size(box: Box) -> tuple[float, float]:
    """The width and height of a box, for its text."""
    widest = max(length(text, role == "title") for role, text in box.lines)
    return max(40, widest + 2 * ASIDE), LINE * len(box.lines) + 9


def shade(call: Call) -> str:
    """The fill of a module's box: darker the deeper it lies."""
    return ("#f8f8f8", "#f1f1f1", "#eaeaea")[min(len(call.path), 3) - 1]


def picture(layout: Layout, boxes: dict[str, Box], clusters: dict[str, Call], arrows: list[Arrow]) -> str:
    """The whole SVG text."""
    back = any(arrow.back for arrow in arrows)
    keys = LEGEND[: 1 + back]
    foot = 26 if arrows else 0
    width = max(layout.width, 140 * len(keys) * bool(arrows)) + 2 * MARGIN
    height = layout.height + 2 * MARGIN + foot
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="{FAMILY}" font-size="{TEXT:g}">',
        f"<defs>{head('forward', FORWARD)}{head('back', BACK)}</defs>",
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="#ffffff"/>',
        f'<g transform="translate({(width - layout.width) / 2:.1f} {MARGIN:g})">',
    ]
    for name, call in clusters.items():
        x, y, w, h = layout.clusters[name]
        lines.append(rectangle(x, y, w, h, shade(call), "#c8c8c8", 7))
        lines.append(written(x + 8, y + 14, call.title, GREY, BOLD))
    ids = {box: name for name, box in boxes.items()}
    for arrow in arrows:
        ends = ids[arrow.tail], ids[arrow.head]
        lines.append(path(layout.curves[*ends, False], FORWARD, "forward"))
        if arrow.back:
            lines.append(path(layout.curves[*ends, True][::-1], BACK, "back"))
    for name, box in boxes.items():
        lines += drawn(box, *layout.boxes[name])
    lines.append("</g>")
    if arrows:
        lines += legend(keys, width / 2, height - 16)
    return "\n".join([*lines, "</svg>"]) + "\n"


def drawn(box: Box, x: float, y: float, w: float, h: float) -> list[str]:
    """A box and its lines of text."""
    lines = [rectangle(x, y, w, h, FILLS[box.kind], INK if box.kind == "operation" else GREY, 5)]
    for i, (role, text) in enumerate(box.lines):
        text = text.replace("-", "−") if role in ("value", "gradient") else text
        style = f'{BOLD} text-anchor="middle"' if role == "title" else 'text-anchor="middle"'
        lines.append(written(x + w / 2, y + 4.5 + LINE * (i + 0.75), text, COLOURS[role], style))
    return lines


def rectangle(x: float, y: float, w: float, h: float, fill: str, line: str, radius: float) -> str:
    """A rectangle with round corners."""
    place = f'x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}" rx="{radius:g}"'
    return f'<rect {place} fill="{fill}" stroke="{line}" stroke-width="0.8"/>'


def written(x: float, y: float, text: str, colour: str, style: str) -> str:
    """A line of text."""
    name, made, rest = text.partition(" = ")
    inside = escape(name) + (f'<tspan font-weight="normal">\u00a0= {escape(rest)}</tspan>' if made else "")
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" {style}>{inside}</text>'


def path(points: list[Point], colour: str, marker: str) -> str:
    """An arrow along a Bézier curve."""
    dashes = ' stroke-dasharray="4 2.5"' * (marker == "back")
    (x, y), *rest = points
    body = " ".join(f"{a:.1f},{b:.1f}" for a, b in rest)
    look = f'fill="none" stroke="{colour}" stroke-width="1.2"{dashes} marker-end="url(#{marker})"'
    return f'<path d="M{x:.1f},{y:.1f} C{body}" {look}/>'


def head(name: str, colour: str) -> str:
    """The head of an arrow."""
    return (
        f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        f'orient="auto"><path d="M0,0.8 L8,4 L0,7.2 Z" fill="{colour}"/></marker>'
    )


def legend(keys: list[tuple[str, str, str]], middle: float, y: float) -> list[str]:
    """What the two colours mean."""
    lines, x = [], middle - 65 * len(keys)
    for text, colour, dashes in keys:
        dash = f' stroke-dasharray="{dashes}"' if dashes else ""
        lines.append(f'<path d="M{x:.1f},{y - 3.5:.1f} h22" stroke="{colour}" stroke-width="1.4"{dash}/>')
        lines.append(written(x + 28, y, text, colour, ""))
        x += 130
    return lines


def pixels(text: str, zoom: float) -> bytes:
    """An SVG text as a PNG file."""
    try:
        import resvg_py
    except ImportError:
        raise ArgumentError(
            "PNG of a graph needs resvg: pip install resvg-py (the extra `graph`). SVG does not need it."
        ) from None
    options: dict[str, Any] = {"zoom": zoom, "font_files": spare_fonts()}
    return bytes(resvg_py.svg_to_bytes(svg_string=text, **options))


def spare_fonts() -> list[str]:
    """Matplotlib's DejaVu Sans where that is installed, for machines without any fonts."""
    try:
        from matplotlib import get_data_path
    except ImportError:
        return []
    return [f"{get_data_path()}/fonts/ttf/DejaVuSans{style}.ttf" for style in ("", "-Bold")]
