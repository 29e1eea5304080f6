"""Readers of files given anything: a result, or the one error that each promises, and little memory."""

import struct
import tracemalloc
from itertools import islice

import numpy as np
import pytest

from bench.readers import changed, readers, tried

READERS = readers()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MICROGRADX_CACHE", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", READERS)
def test_changed_files_are_read_or_refused(name, folder):
    reader = READERS[name]
    for content in reader.good:
        assert tried(reader, content, folder) == ("read" if name != "cache" else "refused")
    for content in islice(changed(reader.good, seed=1), 100):
        assert tried(reader, content, folder) in ("read", "refused"), content


def npy(header):
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header


# fmt: off
FOUND = {
    "IDX": [b"", b"\0\0\x0d\x41", b"\0\0\x08\xff", b"\0\0\x08\x01\xff\xff\xff\xff", b"\x1f\x8b",
            b"\0\0\x0e\x03" + b"\xff\xff\xff\xff" * 3, b"\0\0\x08\x02\0\0\0\0\xff\xff\xff\xff"],
    "CSV": [b"", b"\n\n", b"\xff\xfe", b'"', b"a,b\n1,1e999\n", b"1\n2\n", b"1,2\0\n", b"1,2\n3\n", b",\n,\n",
            b"a" * 200_000, b"1,\xe2\x80\xa8\n", b"\xef\xbb\xbf1,2\n", b"1," + b"9" * 5000 + b"\n2,1\n"],
    "npy": [npy(b"{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999, 2), }\n"), npy(b"(\n"),
            npy(b"{'descr': '|O', 'fortran_order': False, 'shape': (2, 2), }\n"), npy(b"[" * 3000),
            npy(b"{'descr': '<f8', 'fortran_order': False, 'shape': (-1, 2), }\n"),
            npy(b"1e1"), b"\x93NUMPY\x09\0"],
    "npz": [b"PK\x05\x06" + bytes(18), b"PK"],
    "checkpoint": [b"", struct.pack("<Q", 2**62) + b"{}", struct.pack("<Q", 2) + b"{}",
                   struct.pack("<Q", 5) + b"[[[[["],
    "configuration": [b"[" * 100_000, b"\xff", b"3", b"NaN", b'{"a": 1' + b"0" * 5000],
    "history": [b"[" * 100_000 + b"\n", b"\xff\n", b"1" + b"0" * 5000 + b"\n"],
    "cache": [b"", bytes(31), bytes(33)],
}
# fmt: on


@pytest.mark.parametrize("name", READERS)
def test_what_a_fuzzer_or_a_person_thought_of(name, folder):
    for content in FOUND[name]:
        assert tried(READERS[name], content, folder) in ("read", "refused"), content[:60]


@pytest.mark.parametrize("name", READERS)
def test_a_header_that_claims_much_gets_nothing(name, folder):
    tracemalloc.start()
    try:
        for content in FOUND[name]:
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            tried(READERS[name], content, folder)
            assert tracemalloc.get_traced_memory()[1] - before < 20e6 + 100 * len(content)
    finally:
        tracemalloc.stop()


def test_a_reader_that_breaks_its_promise_is_found(folder):
    reader = READERS["IDX"]
    reader = type(reader)(lambda content, _: np.frombuffer(content, ">f4"), reader.good, reader.promised)
    assert any(
        tried(reader, content, folder).startswith("ValueError")
        for content in islice(changed(reader.good, 0), 50)
    )
