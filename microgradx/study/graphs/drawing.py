"""`mg.draw(loss)`: the graph behind a tensor as SVG, PNG, Mermaid or DOT."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from html import escape
from pathlib import Path

from numpy.typing import ArrayLike

from microgradx.eager.tensor import Tensor
from microgradx.errors import ArgumentError, MicrogradxError, writable
from microgradx.palette import BACK, FILLS, FORWARD, GREY, INK
from microgradx.study.graphs import svg
from microgradx.study.graphs.folding import Arrow, Box, fold
from microgradx.study.graphs.graph import Call, trace

FONT = "Helvetica, Arial, Liberation Sans, DejaVu Sans, sans-serif"


def draw(
    y: Tensor,
    gradient: ArrayLike | None = None,
    depth: int | None = None,
    names: Mapping[str, object] | None = None,
) -> Drawing:
    """The graph that y was computed by: operations, shapes, values, gradients, modules as boxes.

    A notebook shows it; `.save("graph.svg")` writes it, as .svg, .png, .dot or .mmd. Gradients are drawn
    where y is one number or `gradient` says what arrives at it; the `.grad` of parameters stays as it is.
    Modules are open `depth` levels deep; without it a large graph folds. Names are those of your variables,
    or `names`. Raises ArgumentError for what is no Tensor, GradientError where there is no graph behind it.

    >>> weight = mg.tensor(2.0, requires_grad=True)
    >>> print(mg.draw(weight * 3).mermaid().splitlines()[1])
      n0["weight<br>value 2<br>gradient 3"]:::leaf
    """
    if depth is not None and (not isinstance(depth, int) or depth < 0):
        raise ArgumentError(f"depth is how many levels of modules are open, 0, 1, 2 ..., not {depth!r}.")
    return Drawing(*fold(trace(y, gradient, names), depth))


class Drawing:
    """Boxes and arrows, to be written in several formats."""

    def __init__(self, boxes: list[Box], arrows: list[Arrow]):
        self.boxes, self.arrows = boxes, arrows
        self.ids = {box: f"n{i}" for i, box in enumerate(boxes)}
        calls = dict.fromkeys(call for box in boxes if box.call for call in box.call.path)
        self.clusters: dict[Call, str] = {call: f"cluster_{i}" for i, call in enumerate(calls)}

    def dot(self) -> str:
        """Text for Graphviz."""

        def node(box: Box) -> str:
            line = INK if box.kind == "operation" else GREY
            look = f'fillcolor="{FILLS[box.kind]}" color="{line}" penwidth=0.8'
            return f'{self.ids[box]} [label="{label(box.lines)}" {look}]'

        def opened(call: Call, name: str) -> list[str]:
            look = f'style="rounded,filled" fillcolor="{shade(call)}" color="#c8c8c8"'
            return [f"subgraph {name} {{", f'  label="{quoted(call.title)}" labeljust=l {look}']

        lines = ["digraph {", f'  graph [fontname="{FONT}" fontsize=10 nodesep=0.28 ranksep=0.42 pad=0.17]']
        lines += [
            f'  node [fontname="{FONT}" fontsize=10 shape=box style="rounded,filled" margin="0.2,0.07"]'
        ]
        lines += ["  edge [penwidth=1.2 arrowsize=0.6]", *self.nested(node, opened, "}")]
        if legend := label(self.legend):
            lines.append(f'  label="{legend}" labelloc=b')
        for arrow in self.arrows:
            ends = f"{self.ids[arrow.tail]} -> {self.ids[arrow.head]}"
            lines.append(f'  {ends} [color="{FORWARD}"]')
            if arrow.back:
                lines.append(f'  {ends} [color="{BACK}" style=dashed dir=back]')
        return "\n".join([*lines, "}"]) + "\n"

    def nested(
        self, node: Callable[[Box], str], opened: Callable[[Call, str], list[str]], end: str,
        call: Call | None = None, indent: str = "  ",
    ) -> list[str]:  # fmt: skip
        """The lines of what stands directly in a module, and of the modules within."""
        lines = [indent + node(box) for box in self.boxes if box.call is call]
        for inner, name in self.clusters.items():
            if inner.outer is call:
                lines += [indent + line for line in opened(inner, name)]
                lines += [*self.nested(node, opened, end, inner, indent + "  "), indent + end]
        return lines

    @property
    def legend(self) -> list[tuple[str, str]]:
        """What the colours of arrows mean; nothing where there are none."""
        if not self.arrows:
            return []
        said = [("about", " "), ("value", "→ values, forward")]  # an empty line would crash Graphviz 16.1
        return said + [("gradient", "← gradients, backward")] * any(arrow.back for arrow in self.arrows)

    def mermaid(self) -> str:
        """Text for Mermaid, which GitHub and many editors draw."""

        def node(box: Box) -> str:
            text = "<br>".join(f"{MARKS.get(role, '')}{entities(text)}" for role, text in box.lines)
            return f'{self.ids[box]}["{text}"]:::{box.kind}'

        def opened(call: Call, name: str) -> list[str]:
            return [f'subgraph {name}["{entities(call.title)}"]']

        lines = ["flowchart TB", *self.nested(node, opened, "end")]
        forward, back = [], []
        for arrow in self.arrows:
            tail, head = self.ids[arrow.tail], self.ids[arrow.head]
            forward.append(f"  {tail} --> {head}")
            back += [f"  {head} -.-> {tail}"] * arrow.back
        lines += forward + back
        for kind in dict.fromkeys(box.kind for box in self.boxes):
            lines.append(f"  classDef {kind} fill:{FILLS[kind]},stroke:{INK},color:{INK}")
        for call, name in self.clusters.items():
            lines.append(f"  style {name} fill:{shade(call)},stroke:#c8c8c8")
        for first, count, colour in (0, len(forward), FORWARD), (len(forward), len(back), BACK):
            if count:
                which = ",".join(map(str, range(first, first + count)))
                lines.append(f"  linkStyle {which} stroke:{colour}")
        return "\n".join(lines) + "\n"

    @cached_property
    def picture(self) -> str:
        """The SVG text, made once."""
        roles = {name: [role for role, _ in box.lines] for box, name in self.ids.items()}
        roles |= {name: ["module"] for name in self.clusters.values()}
        return svg.drawn(self.dot(), roles | {"": [role for role, _ in self.legend]})

    def svg(self) -> str:
        """The picture as SVG. Needs the extra `graph`."""
        return self.picture

    _repr_svg_ = svg

    def png(self, zoom: float = 2) -> bytes:
        """The picture as PNG, `zoom` pixels to a point. Needs the extra `graph`."""
        return svg.pixels(self.picture, zoom)

    def save(self, path: str | Path) -> Path:
        """Write a file in the format that its suffix names: .svg, .png, .dot or .mmd."""
        path = Path(path)
        made: dict[str, Callable[[], str | bytes]]
        made = {".svg": self.svg, ".png": self.png, ".dot": self.dot, ".mmd": self.mermaid}
        if path.suffix not in made:
            raise ArgumentError(f"{path}: a graph is saved as {', '.join(made)}; the suffix says which.")
        text = made[writable(path).suffix]()
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def __repr__(self) -> str:
        size = f"{len(self.boxes)} boxes and {len(self.arrows)} arrows"
        return f"<Drawing of {size}: save() it, or print(mermaid())>"


MARKS = {"value": "value ", "gradient": "gradient "}
"""What distinguishes lines where text has one colour."""


def shade(call: Call) -> str:
    """The fill of a module's box: darker the deeper it lies."""
    return ("#f8f8f8", "#f1f1f1", "#eaeaea")[min(len(call.path), 3) - 1]


def label(lines: Iterable[tuple[str, str]]) -> str:
    """Lines of text, whatever their roles, within DOT's quotation marks."""
    return r"\n".join(quoted(text) for _, text in lines)


def quoted(text: str) -> str:
    """Text within DOT's quotation marks."""
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", " ")


def entities(text: str) -> str:
    """Text within Mermaid's quotation marks."""
    return text.replace("#", "#35;").replace('"', "#quot;").replace("<", "#lt;").replace(">", "#gt;")


def in_notebook(t: Tensor) -> str | None:
    """What a notebook shows of a Tensor: its text, and the graph behind it as long as there is one."""
    if t._node is None:
        return None
    text = f"<pre>{escape(repr(t))}</pre>"
    try:
        return text + draw(t, names=vars(sys.modules["__main__"])).svg()  # where notebooks keep variables
    except MicrogradxError:  # the graph was freed, or the extra is missing
        return text


Tensor._repr_html_ = in_notebook  # type: ignore[attr-defined]
