"""What `python -m bench survive` tries at length, in short: kills, stops, and spoiled files of runs."""

import pytest

from bench import faults, survive

QUICK = {
    "the last checkpoint cut short": 3,
    "a bit of it turned": 3,
    "a block of it zero": 2,
    "another file in its place, or a header that lies": 1,
    "no checkpoint is whole": 1,
    "a checkpoint of a later version": 1,
    "the history torn": 4,
    "the configuration gone or damaged": 1,
    "a limit on the size of files": 3,
    "a full disk": 1,
    "a folder that may not be written": 1,
    "links in the place of files": 1,
    "two processes in one folder": 1,
}
"""How often each fault is tried here."""


@pytest.mark.parametrize("fault", faults.FAULTS)
def test_every_fault_is_survived(fault, tmp_path):
    tried, survived = faults.FAULTS[fault](QUICK[fault], 1, tmp_path)
    if not tried:
        pytest.skip("this needs the right to mount a file system")
    assert survived == tried >= QUICK[fault]


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bits(tmp_path, monkeypatch):
    options = "--data=moons --model=2-8-2 --epochs=25 --save-every=0.01 --dropout=0.2 --schedule=cosine"
    monkeypatch.setitem(survive.CASES, "short", options)
    assert survive.killed("short", 4, 3, tmp_path) == (4, 4)


def test_a_row_is_known_by_its_name():
    with pytest.raises(SystemExit, match="no case 'kill'; there are kill -9: adam, compiled, kill"):
        survive.run(case="kill")
