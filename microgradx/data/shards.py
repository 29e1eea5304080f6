"""Rows that lie in many files and stay there: read as they are asked for, for data larger than memory.

    split = data.load("shards/*.npz")    # or a folder of .npy or .npz files
    mg.fit(model, optimizer, split.train)

Files are mapped: what nobody asks for is not read, so that of several processes each reads its own rows.
"""

import struct
import zipfile
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np

from microgradx.data.reading import regular
from microgradx.errors import DataError

Rows = slice | np.ndarray | list[int] | int
"""What is asked for: neighbours, row numbers, or one row."""

LOCAL = 30  # bytes of the header of a member of a zip file, before its name (PKWARE's APPNOTE 4.3.7)


class Shards:
    """Arrays of as many columns, one behind the other, of which `x[rows]` reads some into memory.

    parts: arrays (n, ...), as a rule mapped from files. prepare: what is made of rows that were read, such as
    numbers of pixels. It has the shape and dtype of one array, and `only(mask)` is a part of it, unread.
    DataError for parts that do not fit together.

    >>> x = data.Shards([np.zeros((2, 3)), np.ones((4, 3))])
    >>> x.shape, x[1:3].tolist()
    ((6, 3), [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    """

    def __init__(
        self,
        parts: list[np.ndarray],
        prepare: Callable[[np.ndarray], np.ndarray] = np.asarray,
        order: np.ndarray | None = None,
    ):
        shapes = {part.shape[1:] for part in parts}
        if len(shapes) != 1 or not parts:
            found = " and ".join(map(str, sorted(shapes))) or "none"
            raise DataError(f"the files must have rows of one shape, got {found}.")
        one_kind("x", parts)
        self.parts, self.prepare, self.order = parts, prepare, order
        self.ends = [*accumulate(map(len, parts))]
        first = next((part for part in parts if len(part)), parts[0])
        sample = prepare(np.asarray(first[:1]))
        rows = self.ends[-1] if order is None else len(order)
        self.shape, self.dtype = (rows, *sample.shape[1:]), sample.dtype
        self.read = np.result_type(*{part.dtype for part in parts})  # what rows are before `prepare`

    ndim = property(lambda self: len(self.shape), doc="The number of axes.")
    size = property(lambda self: int(np.prod(self.shape)), doc="The number of elements.")

    nbytes = property(
        lambda self: self.size * self.dtype.itemsize, doc="The bytes of all rows, as they are read."
    )

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"<Shards of {self.dtype} {self.shape} in {len(self.parts)} parts>"

    def __getitem__(self, rows: Rows) -> np.ndarray:
        """Some rows, in memory."""
        if isinstance(rows, int | np.integer):
            return self[np.array([rows])][0]
        at = np.arange(*rows.indices(len(self))) if isinstance(rows, slice) else np.asarray(rows)
        at = np.flatnonzero(at) if at.dtype == bool else np.where(at < 0, at + len(self), at)
        if at.size and not 0 <= at.min() <= at.max() < len(self):
            raise IndexError(f"row {at.max()} of {len(self)}")
        at = at if self.order is None else self.order[at]
        out = np.empty((len(at), *self.parts[0].shape[1:]), self.read)
        homes = np.searchsorted(self.ends, at, "right")
        for k in np.unique(homes):
            here = homes == k
            out[here] = self.parts[k][at[here] - (self.ends[k] - len(self.parts[k]))]
        return self.prepare(out)

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)

    def only(self, mask: np.ndarray) -> "Shards":
        """The rows of a mask, still unread."""
        rows = np.flatnonzero(mask)
        return Shards(self.parts, self.prepare, rows if self.order is None else self.order[rows])


def one_kind(name: str, parts: Sequence[np.ndarray]) -> None:
    """DataError where some files have other numbers than others, which would be rounded or cut to fit."""
    kinds = {part.dtype.kind: part.dtype for part in parts}
    if len(kinds) != 1:
        found = " and ".join(sorted(map(str, kinds.values())))
        raise DataError(f"{name} must be of one kind of numbers in all files, got {found}.")
    if "c" in kinds:
        raise DataError(f"{name} must be real numbers, got {kinds['c']}.")


def mapped_npy(path: Path) -> np.ndarray:
    """The array of an .npy file, left there."""
    try:
        regular(path).close()
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}.") from None
    except (ValueError, EOFError) as error:
        raise DataError(f"{path}: the array cannot be read: {error}") from error


def mapped_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file, left there; DataError where it is compressed."""
    try:
        with regular(path) as file, zipfile.ZipFile(path) as archive:
            found = {}
            for member in archive.infolist():
                if member.compress_type != zipfile.ZIP_STORED:
                    advice = "write shards by np.savez, not by np.savez_compressed"
                    raise DataError(
                        f"{path}: {member.filename} is compressed, and cannot be mapped: {advice}."
                    )
                file.seek(member.header_offset + LOCAL - 4)
                start = member.header_offset + LOCAL + sum(struct.unpack("<HH", file.read(4)))
                file.seek(start)
                version = np.lib.format.read_magic(file)
                old = version == (1, 0)
                read = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
                shape, fortran, dtype = read(file)
                if (
                    dtype.hasobject
                    or file.tell() - start + np.prod(shape) * dtype.itemsize > member.file_size
                ):
                    raise DataError(f"{path}: {member.filename} is no array of numbers, or is cut short.")
                order = "F" if fortran else "C"
                array = np.memmap(path, dtype, "r", file.tell(), shape, order)  # type: ignore[call-overload]
                found[member.filename.removesuffix(".npy")] = array
            return found
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}.") from None
    except (zipfile.BadZipFile, ValueError, struct.error) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: this is no .npz file: {error}") from error
