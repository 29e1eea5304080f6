"""Your own data: CSV, .npy, .npz and IDX files and pictures, as the same kind of split as built-in sets."""

import math
import os
import zipfile
from pathlib import Path
from typing import IO

import numpy as np

from microgradx.data.encoding import encode, features
from microgradx.data.idx import MOST_DEFLATED, read_idx
from microgradx.data.pictures import read_pictures
from microgradx.data.reading import regular
from microgradx.data.sharded import read_shards, shards_of
from microgradx.data.splits import Split, hold_out
from microgradx.data.tables import find_column, read_csv
from microgradx.errors import DataError, checked, few, switch

FILES = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".npy", ".npz")
"""What `load` reads, besides folders of IDX files or of pictures."""

PARTS = ("x_train", "y_train", "x_test", "y_test")
IDX = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


@checked
def load(
    path: str | os.PathLike[str],
    label: str | int = -1,
    regression: bool = False,
    header: bool | None = None,
    delimiter: str | None = None,
    test: float = 0.2,
    seed: int = 0,
) -> Split:
    """A .csv, .tsv, .npy or .npz file, or a folder, as `(x_train, y_train), (x_test, y_test)`.

    CSV: a row per sample, numbers but for the column `label` (a name, or an index, from the end if negative).
    `header` says whether the first line holds names; by default it does if none of its cells is a number.
    `delimiter` is by default what the first line has most of: a comma, semicolon, tab or bar. A first column
    without a name that numbers the rows, as pandas writes its index, is left out. `.csv.gz` is read too.
    .npy: a table of numbers, with the labels in the column `label`, an index.
    A folder of IDX files: train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-..., t10k-labels-...,
    or with .gz. A folder of pictures (with Pillow): a subfolder for each class, or `train` and `test` with
    such; all of one size, grey or in colour.
    .npz: `x` and `y`, or `x_train, y_train, x_test, y_test`; x has the samples along its first axis and is
    flattened; bytes (uint8) are taken for pixels and divided by 255. Pickled arrays are refused.
    Many files, "shards/*.npz", or a folder of .npy or .npz files: as one file would be, in the order of their
    names, but x stays where it is until rows are asked for, see `Shards`; the labels are read at once.

    Classes are names or integers, and are numbered in sorted order. With `regression`, targets are numbers.
    Where the file has one part, the share `test` of it is held out, drawn by `seed`. Raises DataError.

    >>> np.savez("mine.npz", x=np.random.rand(10, 3), y=np.arange(10) % 2)
    >>> data.load("mine.npz")
    Split(8 + 2 rows of 3 features, 2 classes)
    """
    path, regression = Path(path), switch("regression", regression)
    if shards := shards_of(path):
        return read_shards(shards, label, regression, test, seed)
    header = None if header is None else switch("header", header)
    try:
        name = path.name.lower()
        if name.removesuffix(".gz").endswith((".csv", ".tsv")):
            x, y, columns = read_csv(path, label, header, delimiter, regression)
            arrays = {"x": x, "y": y}
        elif name.endswith(".npy"):
            arrays, columns = read_npy(path, label), ()
        elif path.is_dir():
            idx = any((path / f"{name}{ending}").is_file() for name in IDX for ending in ("", ".gz"))
            arrays, columns = read_folder(path) if idx else read_pictures(path), ()
        elif path.suffix.lower() == ".npz":
            arrays, columns = read_npz(path), ()
        else:
            advice = "; an array of read_idx goes into an .npz as x and y"
            idx = "ubyte" in name or "idx" in name
            advice = "; of IDX files, give the folder" if idx else advice
            folders = "folders of IDX files or, a subfolder per class, of pictures"
            raise DataError(f"data.load reads {', '.join(FILES)} files and {folders}{advice}.")
        return assemble(arrays, columns, regression, test, seed)
    except (OSError, DataError) as error:
        raise DataError(f"{path}: {getattr(error, 'strerror', None) or error}") from error


def assemble(
    arrays: dict[str, np.ndarray], columns: tuple[str, ...], regression: bool, test: float, seed: int
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


def honest(file: IO[bytes], most: int) -> None:
    """DataError where the header of an .npy file promises more than the `most` bytes that there can be."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    size = math.prod(shape) * dtype.itemsize
    if size > most or any(n < 0 for n in shape):
        raise DataError(f"the header says shape {shape} of {dtype}, {size:,} bytes, and {most:,} are there.")


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays x and y, or x_train, y_train, x_test and y_test, of an .npz file."""
    with regular(path) as file:
        if not zipfile.is_zipfile(file):
            raise DataError("this is not an .npz file, or it is truncated.")
        try:
            with np.load(file, allow_pickle=False) as archive:
                for member in archive.zip.infolist():
                    most = min(member.file_size, MOST_DEFLATED * path.stat().st_size)
                    with archive.zip.open(member) as stream:
                        honest(stream, most)
                there = archive.files
                arrays = {key: archive[key] for key in ("x", "y", *PARTS) if key in there}
        except DataError:
            raise
        except Exception as error:  # of zip files, of what is in them, or of the text of a header
            raise DataError(f"an array cannot be read: {error}") from error
    keys = PARTS if PARTS[0] in arrays else ("x", "y")
    if missing := [key for key in keys if key not in arrays]:
        raise DataError(
            f"the arrays x and y, or {', '.join(PARTS)}, are needed; {', '.join(missing)} is missing "
            f"among {few(there) or 'none'}."
        )
    for x, y in zip(keys[::2], keys[1::2], strict=True):
        if not (arrays[x].ndim and arrays[y].ndim and len(arrays[x]) == len(arrays[y])):
            shapes = f"{arrays[x].shape} and {arrays[y].shape}"
            raise DataError(f"{x} and {y} must have one entry per sample, got shapes {shapes}.")
    return {key: arrays[key] for key in keys}


def read_npy(path: Path, label: str | int) -> dict[str, np.ndarray]:
    """The arrays x and y of a table in an .npy file."""
    try:
        with regular(path) as file:
            honest(file, path.stat().st_size)
            file.seek(0)
            table = np.load(file, allow_pickle=False)
    except (DataError, OSError):
        raise
    except Exception as error:  # of many kinds: the header is a piece of Python
        raise DataError(f"the array cannot be read: {error}") from error
    if not (isinstance(table, np.ndarray) and table.ndim == 2 and len(table) and table.shape[1] > 1):
        shape = getattr(table, "shape", "several")
        raise DataError(
            f"an .npy file holds (rows, features and a label), got {shape}. Use .npz for x and y."
        )
    column = find_column(label, [""] * table.shape[1], header=False)
    return {"x": np.delete(table, column, axis=1), "y": table[:, column]}


def read_folder(folder: Path) -> dict[str, np.ndarray]:
    """The four arrays of a folder of IDX files with the names that MNIST gave them."""
    arrays = {}
    for key, name in zip(PARTS, IDX, strict=True):
        there = [path for path in (folder / name, folder / f"{name}.gz") if path.is_file()]
        if not there:
            raise DataError(f"a folder of IDX files holds {', '.join(IDX)} (or with .gz); {name} is missing.")
        arrays[key] = read_idx(there[0])
    return arrays
