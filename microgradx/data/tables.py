"""Tables in text files: CSV and the like, read line by line, and what is wrong with a line said of it."""

import csv
import gzip
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from io import TextIOWrapper
from itertools import chain
from pathlib import Path
from typing import IO

import numpy as np

from microgradx.data.reading import regular
from microgradx.errors import ArgumentError, DataError, few, shown

Table = tuple[np.ndarray, np.ndarray, tuple[str, ...]]  # features, targets, names of the features

LARGEST = "The largest float32 is 3.4e38: divide the column by its unit."
"""What to do about a number that float32 does not have."""

NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
"""A number as every language writes it; Python would take 1_000 and digits of all scripts, too."""


def read_csv(
    path: Path, label: str | int, header: bool | None, delimiter: str | None, regression: bool
) -> Table:
    """The features (n, features) and targets (n,) of a CSV file, and the features' names; see `load`."""
    lines = records(path, delimiter)
    top, first = next(lines, (0, []))
    if not first:
        raise DataError("the file is empty.")
    if len(first) < 2:
        raise DataError(
            f"line {top} is one column, {shown(first[0])}; a label and features are needed. "
            "Name the delimiter, such as delimiter=';', if there is another."
        )
    if header is None:
        header = isinstance(label, str) or all(number(cell) is None for cell in first)
    column = find_column(label, first, header)
    rows: list[np.ndarray] = []
    targets: list[str] = []
    for line, cells in lines if header else chain([(top, first)], lines):
        row = to_numbers(cells[:column] + cells[column + 1 :])
        target = cells[column].strip()
        if row is None or not target or (regression and number(target) is None):
            numbers = {index for index in range(len(cells)) if regression or index != column}
            bad = next((index for index in sorted(numbers) if number(cells[index]) is None), column)
            name = f" ({few(first[bad : bad + 1])})" if header else ""
            wanted = "a number" if bad in numbers else "a class"
            at = f"line {line}, column {bad + 1}{name}"
            raise DataError(f"{at}: expected {wanted}, got {said(cells[bad])}")
        rows.append(row)
        targets.append(target)
    if not rows:
        raise DataError("there are no rows of data.")
    names = first[:column] + first[column + 1 :] if header else []
    x = np.stack(rows)
    if column and header and first[0].strip() in ("", "Unnamed: 0") and counts_rows(x[:, 0]):
        x, names = x[:, 1:], names[1:]
    y = np.array([number(t) for t in targets], float) if regression else as_labels(targets)
    return x, y, tuple(names)


def counts_rows(values: np.ndarray) -> bool:
    """Whether a column holds a whole number for every row, each another: an index and no feature."""
    return bool((values == np.floor(values)).all()) and len(np.unique(values)) == len(values)


def as_labels(targets: list[str]) -> np.ndarray:
    """Labels as integers where all are; as the text that they are where not, or if one begins with 0."""
    values = [number(target) for target in targets]
    if None in values or any(LEADING_ZERO.match(target) for target in targets):
        return np.array(targets)
    try:
        return np.array([int(target) for target in targets], np.int64)  # floats end at 2^53
    except (ValueError, OverflowError):
        return np.array(values, float)


DECIMAL_COMMA = re.compile(r"\s*[+-]?\d+,\d+\s*$")
"""A number as it is written in half of the world."""

LEADING_ZERO = re.compile(r"[+-]?0\d")
"""How a code begins that is no number: "01" is not "1"."""


def said(cell: str) -> str:
    """What a cell holds that is no number, and what may be meant."""
    if not cell.strip():
        return "an empty cell."
    if DECIMAL_COMMA.match(cell):
        return f"{cell!r}. Decimals are written with a point."
    return f"{shown(cell)}.{f' {LARGEST}' * bool(NUMBER.fullmatch(cell))}"


@contextmanager
def open_text(path: Path) -> Iterator[IO[str]]:
    """A text file, compressed or not."""
    packed = path.suffix.lower() == ".gz"
    with (
        regular(path) as file,
        gzip.GzipFile(fileobj=file) if packed else nullcontext(file) as stream,
        TextIOWrapper(stream, newline="", encoding="utf-8-sig") as text,
    ):
        yield text


def separator(line: str) -> str:
    """The delimiter that a line has most of, a comma where it has none."""
    unquoted = re.sub(r'"[^"]*"', "", line)
    return max(",;\t|", key=unquoted.count)


def records(path: Path, delimiter: str | None) -> Iterator[tuple[int, list[str]]]:
    """The line numbers and cells of the lines of a CSV file that are not blank, all of one length."""
    if delimiter is not None and (
        not isinstance(delimiter, str) or len(delimiter) > 1 or delimiter in '\r\n"'
    ):
        raise ArgumentError(f"delimiter is one character, such as ';', not {shown(delimiter)}.")
    with open_text(path) as file:
        width, start = 0, 1  # cells in a row; the line that the next row begins in
        try:
            top = file.readline()
            lines = csv.reader(chain([top], file), delimiter=delimiter or separator(top), strict=True)
            for cells in lines:
                width = width or len(cells)
                if cells and len(cells) != width:
                    count = f"{len(cells)} cell{'s' * (len(cells) > 1)}"
                    raise DataError(f"line {lines.line_num} has {count}, the first has {width}.")
                if "\0" in "".join(cells):
                    raise DataError(f"line {start} has a NUL byte in it: this is no text. Save it as UTF-8.")
                if cells:
                    yield lines.line_num, cells
                start = lines.line_num + 1
        except csv.Error as error:
            raise DataError(f"the row that begins in line {start} {malformed(str(error))}") from error
        except UnicodeDecodeError as error:
            raise DataError(f"line {start} or later is not UTF-8: {error}. Save it as such.") from error
        except (EOFError, zlib.error) as error:
            raise DataError(f"the gzip stream is damaged: {error}.") from error


def malformed(problem: str) -> str:
    """What csv says of a row, in words for who has the file."""
    if problem == "unexpected end of data":
        return 'has a quote (") that is never closed. Write "" for a quote inside a quoted cell.'
    if problem.startswith("field larger"):
        most = f"{csv.field_size_limit():,}"
        return (
            f'has a cell of more than {most} characters: is a quote (") left open, or the delimiter another?'
        )
    return f"is not CSV: {problem}."


def to_numbers(cells: list[str]) -> np.ndarray | None:
    """The cells as finite float32 numbers, or None if one of them is not."""
    text = "".join(cells)
    if not text.isascii() or "_" in text:
        found = [number(cell) for cell in cells]
        return None if None in found else np.array(found, np.float32)
    try:
        with np.errstate(over="ignore"):
            values = np.array(list(map(float, cells)), np.float32)
    except ValueError:
        return None
    return values if np.isfinite(values).all() else None


def number(cell: str) -> float | None:
    """The finite number in a cell, or None."""
    if not NUMBER.fullmatch(cell.replace("\xa0", " ")):  # which a spreadsheet may put around it
        return None
    value = float(cell)
    return value if abs(value) <= 3.4028234e38 else None


def find_column(label: str | int, cells: list[str], header: bool) -> int:
    """The index of the column that holds the labels."""
    if isinstance(label, str) and header and cells.count(label) > 1:
        raise DataError(f"{cells.count(label)} columns are named {label!r}: give the index of one.")
    if isinstance(label, int) and not isinstance(label, bool) and -len(cells) <= label < len(cells):
        return label % len(cells)
    if isinstance(label, str) and header and label in cells:
        return cells.index(label)
    columns = few(cells) if header else f"{len(cells)} columns without names"
    raise DataError(f"there is no column {label!r} for the labels; the file has {columns}.")
