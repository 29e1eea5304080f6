"""Work that comes again for other arrays of the same shapes, as in a deep network: written once and called.

The text of a layer is that of the layer before but for the names of its arrays. Where a few items in a row
come three times or more, they become a function over those arrays: the file, and the time to compile it, grow
with what is different in it.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Hashable
from typing import TypeVar

LEAST, LONGEST, SHORT = 3, 24, 2
"""How often items must come, how many they may be in a row, and how many lines are not worth a function."""

WORD = re.compile(r"\b[^\W\d]\w*")
"""A name in a line."""

BOUND = re.compile(r" *(?:for )?([^\W\d]\w*(?:, \w+)*) (?:=|[-+*/]=|in) ")
"""The names that a line binds."""

NUMBER = re.compile(r"_(\d+)(?=_|$)")
"""What tells a name from others of its kind."""

Key = TypeVar("Key", bound=Hashable)

Lines = list[str]

Blocks = Callable[[str], tuple[Hashable, Hashable] | None]
"""What the array of a name looks like, and where it lies; None for a name that is no array's."""


def words(lines: Lines) -> Lines:
    """The names in some lines, in order, without those in comments."""
    return [word for line in lines if not comment(line) for word in WORD.findall(line)]


def comment(line: str) -> bool:
    """Whether a line is for the reader alone."""
    return line.lstrip().startswith("#")


def renamed(lines: Lines, names: dict[str, str]) -> Lines:
    """The same lines with other names."""
    return [
        line if comment(line) else WORD.sub(lambda word: names.get(word[0], word[0]), line) for line in lines
    ]


def numberless(name: str) -> str:
    """A name without the numbers that tell it from others of its kind."""
    return NUMBER.sub("", name) or name


def joined(texts: list[Lines]) -> Lines:
    """The lines of some items."""
    return [line for text in texts for line in text]


def bound(lines: Lines) -> Lines:
    """The names that some lines bind, in order."""
    found = (match[1].split(", ") for match in map(BOUND.match, lines) if match)
    return [*dict.fromkeys(joined([*found]))]


def arrays_of(lines: Lines, blocks: Blocks) -> Lines:
    """The arrays in some lines, in order."""
    return [word for word in dict.fromkeys(words(lines)) if blocks(word) is not None]


def pattern(lines: Lines, blocks: Blocks) -> Hashable:
    """What lines have in common with others that do the same to other arrays."""
    arrays = arrays_of(lines, blocks)
    looks, places = zip(*map(blocks, arrays), strict=True) if arrays else ((), ())
    text = renamed(lines, {name: f"${k}" for k, name in enumerate([*arrays, *bound(lines)])})
    return "\n".join(text), looks, tuple(map(places.index, places))


def alike(written: dict[Key, list[Lines]], blocks: Blocks) -> list[list[tuple[Key, slice]]]:
    """Where the same is done to other arrays, in texts of items: all of several of them, or parts of one.

    Each of the lists has the places of what can be one function.
    """
    whole: dict[Hashable, list[Key]] = defaultdict(list)
    for key, texts in written.items():
        whole[pattern(joined(texts), blocks)].append(key)
    found = []
    for keys in whole.values():
        size = len(written[keys[0]])
        if len(keys) >= LEAST and len(joined(written[keys[0]])) > SHORT:
            found.append([(key, slice(0, size)) for key in keys])
        else:
            found += [
                [(key, of) for of in places] for key in keys for places in repeats(written[key], blocks)
            ]
    return found


def repeats(texts: list[Lines], blocks: Blocks) -> list[list[slice]]:
    """What comes again among the texts of items that follow each other: where each time is."""
    alone = [pattern(text, blocks) for text in texts]

    def times(start: int, length: int) -> list[slice]:
        """How often so many items from one on come in a row."""
        found, first = [slice(start, start + length)], pattern(joined(texts[start : start + length]), blocks)
        while alone[(of := slice(found[-1].stop, found[-1].stop + length))] == alone[found[0]]:
            if pattern(joined(texts[of]), blocks) != first:
                break
            found.append(of)
        return found

    def badness(found: list[slice]) -> tuple[int, int, bool]:
        """Of several ways to cut the same row, the one is wanted in which a layer begins with its product."""
        lines = joined(texts[found[0]])
        numbers = {number for array in arrays_of(lines, blocks) for number in NUMBER.findall(array)}
        return -len(found), len(numbers), not lines[0].startswith("matmul")

    found: list[list[slice]] = []
    at = 0
    while at < len(texts):
        known: list[list[slice]] = []
        for length in range(1, min(LONGEST, (len(texts) - at) // LEAST) + 1):
            multiple = any(length % (r[0].stop - at) == 0 for r in known)  # which repeats no further
            if not multiple and alone[at] == alone[at + length]:
                row = times(at, length)
                known += [row] * (len(row) >= LEAST and len(joined(texts[row[0]])) > SHORT)
        at += 1
        if known:
            length = -max((r[-1].stop - r[0].start, r[0].start - r[0].stop) for r in known)[1]
            turned = (times(at - 1 + k, length) for k in range(length))
            found.append(min(turned, key=badness))
            at = found[-1][-1].stop
    return found
