"""Rows in many files: the same as in one, and read as they are asked for."""

import os

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import microgradx as mg
from microgradx import data, nn, optim, training
from microgradx.errors import DataError

DRAW = np.random.default_rng(0)
X, Y = DRAW.integers(0, 256, (50, 4, 3)).astype(np.uint8), np.arange(50) % 3
CUTS = [slice(0, 7), slice(7, 8), slice(8, 50)]


@pytest.fixture
def folder(tmp_path):
    """One file, and the same in three: .npz of pictures, .npy of a table."""
    for name in ("npz", "npy"):
        (tmp_path / name).mkdir()
    np.savez(tmp_path / "one.npz", x=X, y=Y)
    for k, cut in enumerate(CUTS):
        np.savez(tmp_path / f"npz/{k}.npz", x=X[cut], y=Y[cut])
        table = np.column_stack([X[cut].reshape(len(X[cut]), -1) / np.float32(255), Y[cut]])
        np.save(tmp_path / f"npy/{k}.npy", table.astype(np.float32))
    return tmp_path


@pytest.mark.parametrize("name", ["npz", "npz/*.npz", "npy", "npy/*.npy"])
def test_many_files_are_what_one_is(folder, name):
    one, many = data.load(folder / "one.npz"), data.load(folder / name)
    for (x, y), (rows, labels) in zip(one, many, strict=True):
        assert isinstance(rows, data.Shards) and (rows.shape, rows.dtype, len(rows)) == (
            x.shape,
            x.dtype,
            len(x),
        )
        np.testing.assert_allclose(np.asarray(rows), x, rtol=1e-6)
        assert_array_equal(labels, y)
    assert many.classes == one.classes
    scales = [data.Standardize().fit(split.train[0]).state_dict() for split in (one, many)]
    np.testing.assert_allclose(scales[0]["scale"], scales[1]["scale"], rtol=1e-5)


@pytest.mark.parametrize(
    "rows",
    [0, -1, slice(2, 30, 3), slice(None), [6, 7, 8, -1, 6], np.arange(50) % 2 == 0, np.zeros(0, int)],
    ids=str,
)
def test_rows_are_those_of_an_array(rows):
    x = data.Shards([X[cut] for cut in CUTS])
    assert_array_equal(x[rows], X[rows])
    even = np.arange(50) % 2 == 0
    if not isinstance(rows, np.ndarray) and rows != 0:
        some = rows if not isinstance(rows, list) else [6, 7, -1]
        assert_array_equal(x.only(even)[some], X[even][some])


@pytest.mark.interpreted
@pytest.mark.parametrize(
    "cluster", [training.Cluster(), training.Cluster(reproducible=4)], ids=["scan", "parts"]
)
def test_fit_learns_the_same(folder, cluster):
    found = []
    for name in ("one.npz", "npz"):
        mg.seed(0)
        model = nn.MLP([12, 4, 3])
        history = mg.fit(
            model, optim.Adam(model.named_parameters()), *data.load(folder / name), epochs=2, batch_size=16,
            progress=False, cluster=cluster,
        )  # fmt: skip
        found.append([*model.state_dict().values(), np.array(history["valid_loss"])])
    for one, many in zip(*found, strict=True):
        assert_array_equal(one, many)


@pytest.mark.parametrize(
    "write, message",
    [
        (lambda p: np.savez_compressed(p / "9.npz", x=X, y=Y), "x.npy is compressed, and cannot be mapped"),
        (lambda p: np.savez(p / "9.npz", z=X), "each of several .npz files holds x and y, as long; got z"),
        (lambda p: np.savez(p / "9.npz", x=X[:3], y=Y), "holds x and y, as long"),
        (lambda p: np.savez(p / "9.npz", x=X[:, :1], y=Y), "must have rows of one shape"),
        (lambda p: (p / "9.npz").write_bytes(b"nothing"), "this is no .npz file"),
        (lambda p: (p / "9.npy").write_bytes(b"nothing"), "the array cannot be read"),
        (lambda p: np.save(p / "9.npy", Y), r"holds \(rows, features and a label\), got \(50,\)"),
        (lambda p: np.savez(p / "9.npz", x=X.astype(object), y=Y), "is no array of numbers"),
        (lambda p: np.savez(p / "9.npz", x=X * 1j, y=Y), "x must be of one kind of numbers in all"),
        (lambda p: np.savez(p / "9.npz", x=X, y=Y.astype(np.uint64)), "y must be of one kind of numbers"),
        (lambda p: os.mkfifo(p / "9.npz"), "is a pipe"),
    ],
)
def test_bad_shards_are_named(folder, write, message):
    write(folder / "npz")
    with pytest.raises(DataError, match=message):
        data.load(folder / "npz")
    with pytest.raises(DataError, match="no .npy or .npz file is called so"):
        data.load(folder / "npz/*.npyz")


def test_a_row_that_is_not_there():
    with pytest.raises(IndexError, match="row 50 of 50"):
        data.Shards([X])[[50]]
