"""IDX files: what is written is read back, and no file, however damaged, does anything but a DataError."""

import gzip
import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from microgradx.data import read_idx, write_idx
from microgradx.data.idx import idx_header
from microgradx.errors import DataError

DTYPES = ["uint8", "int8", "int16", "int32", "float32", "float64"]
any_array = st.sampled_from(DTYPES).flatmap(
    lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
)


def zipped(data):
    """Compressed, with the same bytes at any time: tests are named by them."""
    return gzip.compress(data, mtime=0)


def idx(shape, data, code=0x08):
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, code, len(shape), *shape) + data


def read(data):
    return read_idx(io.BytesIO(data))


def peak_of(data):
    """The most memory taken while reading, in bytes; the file must be refused or read."""
    tracemalloc.start()
    try:
        read(data)
    except DataError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak


@pytest.mark.parametrize("suffix", ["", ".gz"])
@given(array=any_array)
def test_what_is_written_is_read_back(tmp_path_factory, array, suffix):
    path = tmp_path_factory.getbasetemp() / f"array-idx{suffix}"
    write_idx(path, array)
    found = read_idx(path)
    assert found.dtype == array.dtype and found.shape == array.shape
    assert found.tobytes() == array.tobytes()
    assert (path.read_bytes()[:2] == b"\x1f\x8b") == bool(suffix)


def test_the_bytes_are_those_of_the_format(tmp_path):
    write_idx(tmp_path / "a", np.array([[1, -2, 3]], np.int16))
    assert (tmp_path / "a").read_bytes() == bytes.fromhex("00000b02 00000001 00000003 0001 fffe 0003")


def test_arrays_of_any_layout_and_byte_order_are_written(tmp_path):
    array = np.arange(12, dtype=">i4").reshape(3, 4).T[::-1]
    write_idx(tmp_path / "a", array)
    assert np.array_equal(read_idx(tmp_path / "a"), array)


def test_the_same_array_gives_the_same_file_and_leaves_nothing_behind(tmp_path):
    write_idx(tmp_path / "a.gz", np.arange(9, dtype=np.uint8))
    first = (tmp_path / "a.gz").read_bytes()
    write_idx(tmp_path / "a.gz", np.arange(9, dtype=np.uint8))
    assert (tmp_path / "a.gz").read_bytes() == first
    assert [path.name for path in tmp_path.iterdir()] == ["a.gz"]


def test_a_dtype_that_idx_has_not_is_refused(tmp_path):
    with pytest.raises(
        DataError, match="IDX has no type for int64: convert the array to one of uint8, int8, int16"
    ):
        write_idx(tmp_path / "a", np.arange(3))


def test_a_file_that_cannot_be_written(tmp_path):
    with pytest.raises(DataError, match="cannot write .*nowhere/a: No such file or directory"):
        write_idx(tmp_path / "nowhere" / "a", np.zeros(3, np.uint8))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"is not an IDX file: it begins with \[\]"),
        (b"\x89PNG....", r"begins with \[89 50 4e 47\]; IDX begins with 00 00, one of 08 09 0b 0c 0d 0e"),
        (idx((2,), b"12", code=0x0A), "is not an IDX file"),
        (b"\0\0\x08\x41" + bytes(300), "a number of dimensions up to 64"),
        (b"\0\0\x08\x03\0\0\0\1\0\0", "ends within its header: 6 of 12 bytes"),
        (idx((2, 3), b"12345"), r"shape \(2, 3\) of uint8, 6 bytes, but the file can hold 17 at most"),
        (idx((2, 3), b"1234567"), "6 bytes, but the file goes on after them"),
        (idx((2,), b"12345678", code=0x0D)[:-1], "8 bytes, but the file can hold 15 at most"),
        (idx((2**32 - 1,) * 4, b""), "the file can hold 20 at most. It is truncated or not IDX"),
        (zipped(idx((2**32 - 1,) * 3, b"1")), "can hold"),
        (zipped(idx((6,), b"12345")), "6 bytes, but there are only 5. The file is truncated"),
        (zipped(idx((6,), b"1234567")), "the file goes on after them"),
        (zipped(idx((6,), b"123456"))[:-9], "the gzip stream is damaged .* Get the file anew"),
        (zipped(idx((6,), b"123456"))[:-8] + bytes(8), "the gzip stream is damaged .*CRC"),
        (zipped(idx((6,), b"123456")) + b"more", "the gzip stream is damaged .*gzip"),
        (b"\x1f\x8b", "the gzip stream is damaged"),
        (b"\x1f\x8b\x08\0\0\0\0\0\0\0" + b"\xff" * 40, "the gzip stream is damaged"),
    ],
    ids=lambda value: None if isinstance(value, str) else value[:12].hex(),
)
def test_a_malformed_file_is_refused(data, message):
    with pytest.raises(DataError, match=message):
        read(data)


def test_a_file_that_is_not_there_or_not_a_file(tmp_path):
    with pytest.raises(DataError, match="cannot read .*nothing: No such file or directory"):
        read_idx(tmp_path / "nothing")
    with pytest.raises(DataError, match="cannot read .*: it is a folder, and must be a file"):
        read_idx(tmp_path)


def test_the_message_names_the_file(tmp_path):
    (tmp_path / "bad.gz").write_bytes(b"\x1f\x8b\x08")
    with pytest.raises(DataError, match=r"bad\.gz: the gzip stream is damaged"):
        read_idx(tmp_path / "bad.gz")


def test_a_stream_of_several_gzip_members_is_one_file():
    data = idx((6,), b"123456")
    assert read(zipped(data[:7]) + zipped(data[7:])).tobytes() == b"123456"


def test_a_bomb_stops_where_its_header_says():
    squeeze = zlib.compressobj(9, zlib.DEFLATED, 31)
    zeros = bytes(1 << 20)
    bomb = (
        squeeze.compress(idx((10,), b""))
        + b"".join(squeeze.compress(zeros) for _ in range(64))
        + squeeze.flush()
    )
    assert len(bomb) < 100_000
    with pytest.raises(DataError, match="10 bytes, but the file goes on"):
        read(bomb)
    assert peak_of(bomb) < 2_000_000


def test_a_header_that_promises_too_much_costs_no_memory():
    assert peak_of(zipped(idx((60_000, 28, 28), b"1"))) < 500_000
    assert peak_of(idx((60_000, 28, 28), b"1")) < 500_000


@given(
    array=any_array,
    packed=st.booleans(),
    edits=st.lists(
        st.tuples(st.integers(0, 400), st.binary(max_size=8), st.integers(0, 8)), min_size=1, max_size=4
    ),
)
def test_whatever_is_done_to_a_file_it_is_read_or_refused(array, packed, edits):
    data = idx_header(array) + array.astype(array.dtype.newbyteorder(">")).tobytes()
    data = zipped(data) if packed else data
    for place, new, dropped in edits:
        place %= len(data) + 1
        data = data[:place] + new + data[place + dropped :]
    assert peak_of(data) < 1_500_000 + 1032 * len(data)


@given(data=st.binary(max_size=200))
def test_random_bytes_are_read_or_refused(data):
    for file in (data, b"\x1f\x8b\x08" + data, b"\0\0\x08" + data):
        assert peak_of(file) < 1_500_000
