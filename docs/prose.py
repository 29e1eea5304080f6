"""Docstrings in this library's plain style, as reStructuredText.

Parameters stand as `name: meaning`, with what follows indented; equations are indented; code is in backticks.
"""

import inspect
import re
from collections.abc import Iterator, Sequence

ITEM = re.compile(r"(\w+(?:, \w+)*)(=[^:]+)?: (.+)")
ARXIV = re.compile(r"arXiv (\d{4}\.\d{4,5})")


def text(line: str) -> str:
    """One line or more of prose, with its code."""
    parts = re.split(r"``|`", line)
    for k, part in enumerate(parts):
        if k % 2 == 0:
            part = re.sub(r"([\\*|]|_(?!\w))", r"\\\1", part)
            parts[k] = ARXIV.sub(r"`arXiv \1 <https://arxiv.org/abs/\1>`__", part)
        elif part:
            before, after = ("\\ " * x.isalnum() for x in (parts[k - 1][-1:], "".join(parts[k + 1 :])[:1]))
            parts[k] = f"{before}``{part}``{after}"
    return "".join(parts)


def parameters(x: object) -> set[str]:
    """The names of an object's parameters."""
    try:
        return set(inspect.signature(x).parameters)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return set()


def blocks(lines: Sequence[str]) -> Iterator[list[str]]:
    """Paragraphs, and examples with the empty lines in them."""
    block: list[str] = []
    for line in [*lines, ""]:
        if line.strip():
            if line.startswith(">>>") and block and not block[0].startswith(">>>"):
                yield block
                block = []
            block.append(line)
        elif block:
            yield block
            block = []


def items(block: list[str], names: set[str]) -> Iterator[str]:
    """A paragraph: prose, parameters with their meanings, equations."""
    prose: list[str] = []
    k = 0

    def told() -> list[str]:
        found, prose[:] = ([text(" ".join(prose)), ""] if prose else []), []
        return found

    while k < len(block):
        match = ITEM.match(block[k])
        listed = match and set(match[1].split(", ")) <= names
        j = k + 1
        while j < len(block) and block[j].startswith(" "):
            j += 1
        rest = block[k + 1 : j]
        if listed and match:
            yield from told()
            terms = ", ".join(f"``{name}{match[2] or ''}``" for name in match[1].split(", "))
            meaning = [match[3], *(line.strip() for line in rest)]
            yield from [terms, f"   {text(' '.join(meaning))}", ""]
        else:
            prose.append(block[k])
            if rest:
                yield from told()
                equations = re.split(r" {3,}|\n", inspect.cleandoc("\n".join(["", *rest])))
                yield from ["::", "", *(f"   {one}" for one in equations), ""]
        k = j
    yield from told()


def restructured(lines: Sequence[str], names: set[str]) -> list[str]:
    """The lines of a docstring, for an object with parameters of these names."""
    found: list[str] = []
    for block in blocks(lines):
        if block[0].startswith(">>>"):
            found += [*block, ""]
        elif block[0].rstrip() == "Options:":
            options = inspect.cleandoc("\n".join(["", *block[1:]])).split("\n")
            known = {match[1] for match in map(ITEM.match, options) if match}
            found += items(options, known)
        else:
            found += items(block, names)
    return found
