"""`python -m bench load` in small: long runs, many at once, and data that do not fit into memory."""

import sys

import numpy as np
import pytest

import microgradx as mg
from bench import load
from microgradx import data, nn, optim
from microgradx.errors import DataError


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@pytest.mark.parametrize("name", ["scan", "compiled-models", "fit-idx"])
def test_a_trial_holds(name):
    """Counters exact, models gone, no copy of mapped data."""
    row = load.TRIALS[name].row(name, quick=True)
    assert row["failed"] == "0", row


def test_a_trial_tells_what_failed():
    """A soak whose counters are not what the steps make of them, and one that raises."""
    world = load.Soaked()
    world.calls(world.step, 2)
    assert world.drift() == []
    world.done += 1
    mg.generator.bits(1)
    assert [text.split(" is ")[0] for text in world.drift()] == ["t", "schedule", "lr", "random blocks"]
    found = load.Found("", (0, 2 * load.GROWTH), (1.0, 2.0)).flat(quick=False)
    assert found.failed == ["memory grew by 8.0 MB", "a step takes 2.00 times as long at the end"]


LAYOUTS = {
    "as it is": lambda x: x,
    "of another machine": lambda x: x.astype(">f4"),
    "by columns": np.asfortranarray,
    "each second row and column": lambda x: np.repeat(np.repeat(x, 2, 0), 2, 1)[::2, ::2],
    "read-only": lambda x: np.frombuffer(x.tobytes(), np.float32).reshape(x.shape),
}


@pytest.mark.parametrize("eager", [False, True], ids=["compiled", "line by line"])
def test_data_of_any_layout_are_read_batch_by_batch(eager, monkeypatch):
    """The same bits, whatever the layout, and however few batches are copied at a time."""
    monkeypatch.setattr("microgradx.compiler.run.scan.GATHERED", 3 * 4 * 13 * 5)
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(64, 13)).astype(np.float32), draw.integers(0, 3, 64)

    def trained(x):
        mg.seed(0)
        model = nn.Linear(13, 3)
        mg.fit(
            model, optim.Adam(model.parameters()), (x, y), (x, y),
            epochs=2, batch_size=5, eager=eager, progress=False, seed=1,
        )  # fmt: skip
        return model.state_dict()

    states = {name: trained(change(x)) for name, change in LAYOUTS.items()}
    for state in states.values():
        for name, array in state.items():
            np.testing.assert_array_equal(array, states["as it is"][name])


def test_an_idx_file_is_mapped(tmp_path):
    for k, array in enumerate([np.arange(6.0, dtype=np.float32).reshape(2, 3), np.zeros((0, 2), np.int16)]):
        path = tmp_path / f"{k}.idx"
        data.write_idx(path, array)
        found = data.read_idx(path, mapped=True)
        np.testing.assert_array_equal(found, array)
        assert isinstance(found, np.memmap) == bool(array.size)
    with pytest.raises(DataError, match="header says shape"):
        data.read_idx(longer(path), mapped=True)


def longer(path):
    path.write_bytes(path.read_bytes() + b"\0")
    return path


def test_what_cannot_be_mapped(tmp_path):
    data.write_idx(tmp_path / "x.idx.gz", np.zeros(3, np.uint8))
    with pytest.raises(DataError, match="is compressed: unpack it"):
        data.read_idx(tmp_path / "x.idx.gz", mapped=True)
    with (tmp_path / "x.idx.gz").open("rb") as file, pytest.raises(DataError, match="have a path"):
        data.read_idx(file, mapped=True)
    with pytest.raises(DataError, match="cannot read"):
        data.read_idx(tmp_path / "none.idx", mapped=True)


def test_what_is_not_finite_is_found_piece_by_piece():
    """In data larger than memory, too: the first one, and in how many rows."""
    from microgradx.training.checks import not_finite

    x = np.zeros((9000, 2), np.float32)
    x[[5000, 5000, 8999], [1, 0, 1]] = np.nan
    assert "x[5000, 0] of train is nan, in 2 of 9000 rows" in not_finite("train", (x, x[:, 0]))
    assert not_finite("train", (np.zeros(3), np.zeros(3, int))) == ""
