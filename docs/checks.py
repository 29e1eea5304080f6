"""What must hold of a finished site: links and anchors lead somewhere, no name lacks, nothing is fetched."""

from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sphinx.util.inventory import InventoryFile

from docs import api


class Page(HTMLParser):
    """Anchors, links with what has them, and elements that are not HTML's."""

    def __init__(self, text: str):
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[tuple[str, str]] = []
        self.foreign: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Called by HTMLParser."""
        if tag.startswith("marimo-"):
            self.foreign.add(tag)
        for name, value in attrs:
            if name == "id":
                self.anchors.add(value or "")
            elif name in ("href", "src", "srcset"):
                self.links.append((tag, value or ""))


def faults(site: Path) -> list[str]:
    """All that is wrong with a site, a sentence each."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.resolve().rglob("*.html"))}
    found = [f"{path.name} {fault}" for path, page in pages.items() for fault in of_page(path, page, pages)]
    return [*found, *(f"no page describes {name}" for name in undescribed(site))]


def of_page(path: Path, page: Page, pages: Mapping[Path, Page]) -> Iterator[str]:
    """What is wrong with one page."""
    for tag, address in page.links:
        link = urlsplit(address)
        target = (path.parent / unquote(link.path)).resolve() if link.path else path
        if link.scheme or link.netloc:
            if tag != "a" and link.scheme != "data":
                yield f"fetches {address}"
        elif not target.exists():
            yield f"points to {address}, which is not there"
        elif link.fragment and target in pages and unquote(link.fragment) not in pages[target].anchors:
            yield f"points to {address}, which has no such anchor"
    yield from (f"has an element <{tag}> that no browser knows" for tag in sorted(page.foreign))


def undescribed(site: Path) -> list[str]:
    """Public names that the reference lacks."""
    known = InventoryFile.loads((site / "objects.inv").read_bytes(), uri="").data
    there = {name for kind, names in known.items() if kind.startswith("py:") for name in names}
    return sorted(set(api.names().values()) - there)
