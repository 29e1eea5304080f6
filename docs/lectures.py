"""A lecture as a page: its cells run, and what they show becomes Markdown, sliders where they start."""

import base64
import inspect
import io
import json
import re
import runpy
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import Any

from bs4 import BeautifulSoup, Tag

from docs.mathml import mathml

FENCE = "``````"
PNG = "data:image/png;base64,"


def run(path: Path, out: Path | None = None) -> dict[str, Any]:
    """Run a lecture, write its page and pictures into a folder, and give back what its cells define."""
    from matplotlib.figure import Figure

    Figure._mime_ = picture  # type: ignore[attr-defined]  # marimo's protocol
    shown, defined = runpy.run_path(str(path))["app"].run()
    if out:
        out.mkdir(parents=True, exist_ok=True)
        parts = [part for x in shown if (part := markdown(x, out).strip())]
        head = next(k for k, part in enumerate(parts) if part.startswith("# "))
        title, _, first = parts[head].partition("\n")
        command = f"`marimo run examples/{path.name}`"
        note = f":::{{note}}\nThis is how it begins. {command} has sliders that move.\n:::"
        text = "\n\n".join([title, note, first, *parts[:head], *parts[head + 1 :]])
        (out / f"{path.stem}.md").write_text(text + "\n", encoding="utf-8")
    return defined


def picture(figure: Any) -> tuple[str, str]:
    """A figure, as marimo puts it into HTML."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return "image/png", PNG + base64.b64encode(file.getvalue()).decode()


def markdown(x: Any, out: Path) -> str:
    """What a cell shows: text, listings, what is in a column, and all else by HTML."""
    from marimo import as_html

    if x is None:
        return ""
    if hasattr(x, "_markdown_text"):
        text = re.sub(r"<style>.*?</style>", "", inspect.cleandoc("\n" + x._markdown_text), flags=re.S)
        return text.strip()
    if hasattr(x, "_live_children") and "flex-direction: column" in x.text:
        return "\n\n".join(markdown(child, out) for child in x._live_children)
    if type(x).__name__ == "code_editor":
        return f"{FENCE}python\n{x.value.strip()}\n{FENCE}"
    return html(as_html(x).text, out)


def html(text: str, out: Path) -> str:
    """HTML of marimo's as plain HTML: no elements of its own, pictures in files."""
    page = BeautifulSoup(text, "html.parser")
    for name, plain in (
        ("marimo-accordion", drawers),
        ("marimo-tabs", drawers),
        ("marimo-ui-element", control),
    ):
        for tag in page.find_all(name):
            tag.replace_with(parsed(plain(tag)))
    for tag in page.find_all("marimo-tex"):
        tag.replace_with(parsed(mathml(tag.text[3:-3], block=tag.text.startswith("||["))))
    for tag in page.find_all(class_="codehilite"):
        tag["class"] = "highlight"
    for tag in page.find_all(class_="prose"):
        del tag["class"]  # of marimo's style sheets
    for tag in page.find_all("img"):
        tag["src"], tag["alt"] = kept(tag["src"], out), "A figure of the lecture"
    return raw(str(page))


def raw(text: str) -> str:
    """HTML in Markdown."""
    return f"{FENCE}{{raw}} html\n{text}\n{FENCE}" if text.strip() else ""


def parsed(text: str) -> BeautifulSoup:
    """HTML as a tree."""
    return BeautifulSoup(text, "html.parser")


def kept(source: str, out: Path) -> str:
    """A picture's address in the site, and its file in `_pictures`, which Sphinx takes there."""
    data = base64.b64decode(source.removeprefix(PNG))
    name = f"{sha256(data).hexdigest()[:12]}.png"
    (out / "_pictures").mkdir(exist_ok=True)
    (out / "_pictures" / name).write_bytes(data)
    return f"_static/{name}"


def drawers(tag: Tag) -> str:
    """What opens at a click, one for each label."""
    labels = json.loads(str(tag.get("data-labels") or tag["data-tabs"]))
    inside = tag.find_all("div", recursive=False)
    return "".join(
        f"<details><summary>{plain(label)}</summary>{one.decode_contents()}</details>"
        for label, one in zip(labels, inside, strict=True)
    )


def plain(label: str) -> str:
    """A label without the paragraph around it."""
    return re.sub(r"</?span[^>]*>", "", label)


def control(tag: Tag) -> str:
    """A slider, or another control, by its label and where it starts; what is in it stays."""
    one = tag.find(attrs={"data-initial-value": True})
    if one is None:  # tabs, which are drawers by now
        return tag.decode_contents()
    value = json.loads(str(one["data-initial-value"]))
    value = ", ".join(map(str, value)) if isinstance(value, list) else value
    if one.name == "marimo-code-editor":
        return f"<pre>{escape(str(value))}</pre>"
    label = json.loads(str(one.get("data-label", "null"))) or ""
    return f'<p class="control">{plain(label)} <kbd>{value}</kbd></p>'
