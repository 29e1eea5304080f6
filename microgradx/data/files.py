"""Your own data: CSV and .npz files as the same kind of split as the built-in sets."""

import csv
import os
import zipfile
import zlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from microgradx.data.images import scaled
from microgradx.data.splits import Split, hold_out
from microgradx.errors import DataError

PARTS = ("x_train", "y_train", "x_test", "y_test")
Table = tuple[NDArray, NDArray, tuple[str, ...]]  # features, targets, names of the features


def load(
    path: str | os.PathLike[str],
    label: str | int = -1,
    regression: bool = False,
    header: bool | None = None,
    delimiter: str = ",",
    test: float = 0.2,
    seed: int = 0,
) -> Split:
    """A CSV or .npz file as `(x_train, y_train), (x_test, y_test)`.

    CSV: a row per sample, numbers but for the column `label` (a name, or an index, from the end if negative).
    `header` says whether the first line holds names; by default it does if none of its cells is a number.
    .npz: `x` and `y`, or `x_train, y_train, x_test, y_test`; x has the samples along its first axis and is
    flattened; bytes (uint8) are taken for pixels and divided by 255. Pickled arrays are refused.

    Classes are names or integers, and are numbered in sorted order. With `regression`, targets are numbers.
    Where the file has one part, the share `test` of it is held out, drawn by `seed`. Raises DataError.
    """
    path = Path(path)
    try:
        if path.suffix.lower() == ".csv":
            x, y, columns = read_csv(path, label, header, delimiter, regression)
            arrays = {"x": x, "y": y}
        elif path.suffix.lower() == ".npz":
            arrays, columns = read_npz(path), ()
        else:
            raise DataError("data.load reads .csv and .npz files.")
        return assemble(arrays, columns, regression, test, seed)
    except (OSError, DataError) as error:
        raise DataError(f"{path}: {getattr(error, 'strerror', None) or error}") from error


def assemble(
    arrays: dict[str, NDArray], columns: tuple[str, ...], regression: bool, test: float, seed: int
) -> Split:
    """A split of `x, y` or of the four arrays of PARTS."""
    images = arrays.get("x", arrays.get("x_train"))
    image_shape = images.shape[1:3] if images is not None and images.ndim == 3 else None
    if "x" in arrays:
        y, classes = encode(arrays["y"], regression)
        train, held_out = hold_out(features(arrays["x"]), y, test, seed)
    else:
        x_train, y_train, x_test, y_test = (arrays[key] for key in PARTS)
        if y_train.shape[1:] != y_test.shape[1:] or (y_train.dtype.kind == "U") != (y_test.dtype.kind == "U"):
            raise DataError(
                f"y_train and y_test must be of one kind, got {y_train.dtype} of shape {y_train.shape} "
                f"and {y_test.dtype} of shape {y_test.shape}."
            )
        y, classes = encode(np.concatenate([y_train, y_test]), regression)
        train, held_out = (features(x_train), y[: len(y_train)]), (features(x_test), y[len(y_train) :])
    return Split(train, held_out, image_shape, classes, columns)


def features(x: NDArray) -> NDArray:
    """(n, ...) of numbers -> (n, features) float32; bytes are pixels, and become [0, 1]."""
    if not x.size:
        raise DataError(f"x must not be empty, got shape {x.shape}.")
    return scaled(x) if x.dtype == np.uint8 else finite(x, "x").reshape(len(x), -1)


def finite(values: NDArray, what: str) -> NDArray:
    """`values` as float32, if every one is a finite number."""
    if values.dtype.kind not in "fiub":
        raise DataError(f"{what} must hold numbers, got {values.dtype}.")
    with np.errstate(over="ignore"):
        numbers = values.astype(np.float32)
    if not np.isfinite(numbers).all():
        place = tuple(map(int, np.unravel_index(np.argmin(np.isfinite(numbers)), numbers.shape)))
        raise DataError(f"{what} must hold finite float32 numbers, got {values[place]} at index {place}.")
    return numbers


def encode(y: NDArray, regression: bool) -> tuple[NDArray, tuple[str, ...]]:
    """Targets: float32 (n, outputs) for a regression, else labels from 0 and the names of the classes."""
    if regression:
        return finite(y, "y").reshape(len(y), -1), ()
    labels = y.reshape(-1) if y.size == len(y) else y
    if labels.ndim != 1:
        raise DataError(f"y must hold one label per sample, got shape {y.shape}: is this a regression=True?")
    if whole := labels.dtype.kind == "f":  # numbers of a CSV file come as floats
        odd = labels[~(np.isfinite(labels) & (labels == np.floor(labels)))]
        if odd.size:
            raise DataError(f"labels must be integers or names, got {odd[0]}: is this a regression=True?")
    names, codes = np.unique(labels, return_inverse=True)
    return codes.astype(np.int64), tuple(f"{name:.0f}" if whole else str(name) for name in names)


def read_npz(path: Path) -> dict[str, NDArray]:
    """The arrays x and y, or x_train, y_train, x_test and y_test, of an .npz file."""
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            raise DataError("this is not an .npz file, or it is truncated.")
        try:
            with np.load(file, allow_pickle=False) as archive:
                there = archive.files
                arrays = {key: archive[key] for key in ("x", "y", *PARTS) if key in there}
        except (ValueError, EOFError, zipfile.BadZipFile, zlib.error, MemoryError) as error:
            raise DataError(f"an array cannot be read: {error}") from error
    keys = PARTS if PARTS[0] in arrays else ("x", "y")
    if missing := [key for key in keys if key not in arrays]:
        raise DataError(
            f"the arrays x and y, or {', '.join(PARTS)}, are needed; {', '.join(missing)} is missing "
            f"among {', '.join(there) or 'none'}."
        )
    for x, y in zip(keys[::2], keys[1::2], strict=True):
        if not (arrays[x].ndim and arrays[y].ndim and len(arrays[x]) == len(arrays[y])):
            shapes = f"{arrays[x].shape} and {arrays[y].shape}"
            raise DataError(f"{x} and {y} must have one entry per sample, got shapes {shapes}.")
    return {key: arrays[key] for key in keys}


def read_csv(path: Path, label: str | int, header: bool | None, delimiter: str, regression: bool) -> Table:
    """The features (n, features) and targets (n,) of a CSV file, and the features' names; see `load`."""
    lines = records(path, delimiter)
    top, first = next(lines, (0, []))
    if header is None:
        header = isinstance(label, str) or all(number(cell) is None for cell in first)
    column = find_column(label, first, header)
    rows: list[NDArray] = []
    targets: list[str] = []
    for line, cells in lines if header else chain([(top, first)], lines):
        row = to_numbers(cells[:column] + cells[column + 1 :])
        target = cells[column].strip()
        if row is None or not target or (regression and number(target) is None):
            numbers = {index for index in range(len(cells)) if regression or index != column}
            bad = next((index for index in sorted(numbers) if number(cells[index]) is None), column)
            name = f" ({first[bad]})" if header else ""
            wanted = "a number" if bad in numbers else "a class"
            found = repr(cells[bad]) if cells[bad].strip() else "an empty cell"
            raise DataError(f"line {line}, column {bad + 1}{name}: expected {wanted}, got {found}.")
        rows.append(row)
        targets.append(target)
    if not rows:
        raise DataError("there are no rows of data.")
    values = [number(target) for target in targets]
    names = first[:column] + first[column + 1 :] if header else []
    return np.stack(rows), np.array(targets if None in values else values), tuple(names)


def records(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The line numbers and cells of the lines of a CSV file that are not blank, all of one length."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = csv.reader(file, delimiter=delimiter, strict=True)
        width = 0
        try:
            for cells in filter(None, lines):
                width = width or len(cells)
                if len(cells) != width:
                    raise DataError(f"line {lines.line_num} has {len(cells)} cells, the first has {width}.")
                yield lines.line_num, cells
        except (csv.Error, UnicodeDecodeError) as error:
            raise DataError(f"line {lines.line_num + 1} is not CSV in UTF-8: {error}.") from error


def to_numbers(cells: list[str]) -> NDArray | None:
    """The cells as finite float32 numbers, or None if one of them is not."""
    try:
        with np.errstate(over="ignore"):
            values = np.array(list(map(float, cells)), np.float32)
    except ValueError:
        return None
    return values if np.isfinite(values).all() else None


def number(cell: str) -> float | None:
    """The finite number in a cell, or None."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if abs(value) <= 3.4028234e38 else None  # also false for a NaN


def find_column(label: str | int, cells: list[str], header: bool) -> int:
    """The index of the column that holds the labels."""
    if isinstance(label, int) and -len(cells) <= label < len(cells):
        return label % len(cells)
    if isinstance(label, str) and header and label in cells:
        return cells.index(label)
    columns = ", ".join(cells) if header else f"{len(cells)} columns without names"
    raise DataError(f"there is no column {label!r} for the labels; the file has {columns}.")
