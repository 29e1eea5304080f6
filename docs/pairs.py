"""Pages "Coming from ...": rows of what one writes there and here, parsed for the site and for the tests."""

import re
from pathlib import Path
from typing import NamedTuple

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

PAGES = Path(__file__).parent / "pages"
ROW = re.compile(r"```\{pair\} \S+\n(.*?)```", re.S)


class Row(NamedTuple):
    """Code of theirs and ours whose last lines have the same value, and where they differ."""

    theirs: str
    ours: str
    note: str = ""


def row(text: str) -> Row:
    """A row of the page's source, whose parts stand between lines `---`."""
    return Row(*(part.strip("\n") for part in text.split("\n---\n")))


def all_rows(page: str) -> list[Row]:
    """The rows of a page, the one with which both sides begin first."""
    return [row(text) for text in ROW.findall((PAGES / f"{page}.md").read_text(encoding="utf-8"))]


def start(page: str) -> Row:
    """What both sides of a page begin with, before each row."""
    return all_rows(page)[0]


def rows(page: str) -> list[Row]:
    """All others."""
    return all_rows(page)[1:]


class Pair(SphinxDirective):
    """A row, side by side, or one below the other on a narrow screen."""

    has_content, required_arguments = True, 1

    def run(self) -> list[nodes.Node]:
        """The row's nodes."""
        one = row("\n".join(self.content))
        pair = nodes.container(classes=["pair"])
        for name, code in ((self.arguments[0], one.theirs), ("microgradx", one.ours)):
            side = nodes.container(
                "", nodes.caption("", name), nodes.literal_block(code, code, language="python")
            )
            pair += side
        if one.note:
            note = nodes.container(classes=["note"])
            note += self.parse_text_to_nodes(one.note)
            pair += note
        return [pair]
