"""Read and write IDX files, the format of MNIST, gzip-compressed or not.

A file is a header (two zero bytes, one for the dtype, one for the number of dimensions, then each
dimension as a big-endian uint32) and the elements, big-endian, last dimension fastest. Nothing in a file
is believed before it is checked: the size that the header promises is compared with the size of the
file before memory is taken, and the elements are read in pieces, so that a stream which inflates past
its header stops there.

The format: http://yann.lecun.com/exdb/mnist/
"""

import errno
import gzip
import math
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from microgradx.data.reading import regular, strange
from microgradx.errors import DataError, checked

__all__ = ["idx_header", "read_idx", "write_idx"]

DTYPES = {
    code: np.dtype(letters)
    for code, letters in {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}.items()
}
CODES = {dtype.newbyteorder("="): code for code, dtype in DTYPES.items()}
PIECE = 1 << 20  # bytes read at a time
MOST_DEFLATED = 1032  # to 1: the most that deflate can compress, by its format (zlib.net/zlib_tech.html)
MOST_DIMENSIONS = 64  # of a NumPy array


@checked
def read_idx(source: str | os.PathLike[str] | IO[bytes], mapped: bool = False) -> np.ndarray:
    """The array of an IDX file (a path, or a binary file that can seek), in the machine's byte order.

    mapped: leave the elements in the file, as they are there, for data larger than memory; the array can only
        be read, and stays right as long as nobody changes the file. `fit` and `scan` take such arrays.

    Raises DataError for a file that is missing, is not IDX, is damaged, or is longer or shorter than its
    header says; or is compressed, or no path, and is to be mapped.

    >>> data.write_idx("x.idx.gz", np.arange(6, dtype=np.uint8).reshape(2, 3))
    >>> data.read_idx("x.idx.gz")
    array([[0, 1, 2],
           [3, 4, 5]], dtype=uint8)
    """
    if mapped:
        return mapped_idx(source)
    if not isinstance(source, str | os.PathLike):
        return parse(source, getattr(source, "name", "the file"))
    try:
        with regular(os.fspath(source)) as file:
            return parse(file, os.fspath(source))
    except OSError as error:
        raise DataError(f"cannot read {os.fspath(source)}: {error.strerror or error}.") from error


def mapped_idx(source: str | os.PathLike[str] | IO[bytes]) -> np.ndarray:
    """The array of an IDX file, left where it is."""
    if not isinstance(source, str | os.PathLike):
        raise DataError(f"read_idx maps files that have a path, not {type(source).__name__}.")
    path = os.fspath(source)
    try:
        with regular(path) as file:
            if file.read(2) == b"\x1f\x8b":
                raise DataError(f"{path} is compressed: unpack it, and map what comes of it.")
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            dtype, shape, promise = parse_header(file, size, path)
            start, count = file.tell(), math.prod(shape)
            if size > start + count * dtype.itemsize:
                raise DataError(f"{promise}, but the file goes on after them. It is damaged or not IDX.")
            return np.memmap(file, dtype, "r", start, shape) if count else parse(file, path)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}.") from error


def parse(file: IO[bytes], name: str) -> np.ndarray:
    """The array in a file that may be compressed; `name` is for messages."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    packed = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    stream: IO[bytes] = gzip.GzipFile(fileobj=file) if packed else file  # type: ignore[assignment]
    try:
        return parse_stream(stream, size * MOST_DEFLATED if packed else size, name)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{name}: the gzip stream is damaged ({error}). Get the file anew.") from error


def parse_header(stream: IO[bytes], most: int, name: str) -> tuple[np.dtype, tuple[int, ...], str]:
    """The dtype and shape in the header of a stream that can hold `most` bytes at most, and in words."""
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in DTYPES or magic[3] > MOST_DIMENSIONS:
        raise DataError(
            f"{name} is not an IDX file: it begins with [{magic.hex(' ')}]; IDX begins with 00 00, one of "
            f"{bytes(DTYPES).hex(' ')} for the dtype, and a number of dimensions up to {MOST_DIMENSIONS}."
        )
    dtype, ndim = DTYPES[magic[2]], magic[3]
    sizes = stream.read(4 * ndim)
    if len(sizes) < 4 * ndim:
        raise DataError(
            f"{name} ends within its header: {len(sizes)} of {4 * ndim} bytes of dimensions are there."
        )
    shape = struct.unpack(f">{ndim}I", sizes)
    count = math.prod(shape) * dtype.itemsize  # in Python's integers, which do not overflow
    promise = f"{name}: the header says shape {shape} of {dtype.name}, {count:,} bytes"
    if 4 + 4 * ndim + count > most:
        raise DataError(f"{promise}, but the file can hold {most:,} at most. It is truncated or not IDX.")
    return dtype, shape, promise


def parse_stream(stream: IO[bytes], most: int, name: str) -> np.ndarray:
    """Read header and elements of a stream that can hold `most` bytes at most."""
    dtype, shape, promise = parse_header(stream, most, name)
    count = math.prod(shape) * dtype.itemsize
    try:
        array = np.empty(shape, dtype)
    except (ValueError, MemoryError) as error:
        raise DataError(f"{promise}, which cannot be held in memory: {error}.") from error
    got = fill(stream, array)
    if got < count:
        raise DataError(f"{promise}, but there are only {got:,}. The file is truncated: get it anew.")
    if stream.read(1):  # at the end this also makes gzip check its CRC
        raise DataError(f"{promise}, but the file goes on after them. It is damaged or not IDX.")
    return array if array.dtype.isnative else array.byteswap(inplace=True).view(dtype.newbyteorder("="))


def fill(stream: IO[bytes], array: np.ndarray) -> int:
    """Read into `array`, piece by piece, and return the number of bytes that there were."""
    buffer = array.reshape(-1).view(np.uint8).data
    got = 0
    while got < len(buffer):
        piece = stream.read(min(PIECE, len(buffer) - got))
        if not piece:
            break
        buffer[got : got + len(piece)] = piece
        got += len(piece)
    return got


def idx_header(array: np.ndarray) -> bytes:
    """The bytes that stand before the elements of `array` in an IDX file."""
    dtype = array.dtype.newbyteorder("=")
    if dtype not in CODES:
        known = ", ".join(dtype.name for dtype in CODES)
        raise DataError(f"IDX has no type for {array.dtype.name}: convert the array to one of {known}.")
    if any(size >= 1 << 32 for size in array.shape):
        raise DataError(f"IDX holds dimensions below 2**32, got shape {array.shape}.")
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, CODES[dtype], array.ndim, *array.shape)


@checked
def write_idx(path: str | os.PathLike[str], array: np.ndarray) -> None:
    """Write `array` as IDX, compressed if the path ends in .gz; the same array gives the same bytes.

    array: any shape, of (u)int8, int16, int32, float32 or float64. DataError for another dtype, or where the
    file cannot be written; then the older file stays.

    >>> data.write_idx("labels.idx", np.array([3, 1, 2], np.uint8))
    >>> data.read_idx("labels.idx")
    array([3, 1, 2], dtype=uint8)
    """
    array = np.asarray(array)
    header = idx_header(array)
    elements = np.ascontiguousarray(array, DTYPES[header[2]]).reshape(-1).view(np.uint8).data
    with replacing(path) as file:
        if Path(path).suffix == ".gz":
            with gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:
                packed.write(header)
                packed.write(elements)
        else:
            file.write(header)
            file.write(elements)


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A file to write that takes the place of `path` at the end, whole, or not at all."""
    partial = Path(f"{os.fspath(path)}.{os.getpid()}.tmp")
    try:
        if kind := strange(path):
            raise OSError(errno.EEXIST, f"there is {kind}")  # a device is not to become a file
        with partial.open("wb") as file:
            yield file
        partial.replace(path)
    except OSError as error:
        raise DataError(f"cannot write {os.fspath(path)}: {error.strerror or error}.") from error
    finally:
        partial.unlink(missing_ok=True)
