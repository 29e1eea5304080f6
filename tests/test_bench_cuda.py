"""The benchmarks for a GPU, rehearsed in the simulator and against a stand-in for the driver."""

import os
import stat
import sys

import pytest
from stand_in import put_in

from bench import cuda, cuda_steps
from bench.parts import Part
from microgradx.compiler.run.cuda_executable import CudaExecutable
from microgradx.cuda import build, device, simulated

PRECISIONS = [cuda.FIRST_STEPS[0], cuda_steps.MORE[1].part()]  # float32, and bf16
REHEARSED = [cuda.BITS, cuda.CURVE, cuda.SWEEPS, cuda.TRAINING, cuda.PRODUCTS, cuda.LAUNCHES, *PRECISIONS]


@pytest.fixture
def patient():
    """The simulator's threads wait for each other."""
    before, how = sys.getswitchinterval(), CudaExecutable.how
    sys.setswitchinterval(1e-4)
    yield
    sys.setswitchinterval(before)
    CudaExecutable.how = how


@pytest.mark.cuda
@pytest.mark.slow
@pytest.mark.skipif(not simulated(), reason="needs NUMBA_ENABLE_CUDASIM=1 before Python starts")
@pytest.mark.parametrize("part", REHEARSED, ids=str)
def test_a_part_in_the_simulator(part, torch, patient):
    rows = list(part.here(quick=True))
    assert rows
    assert not [row for row in rows if "Error" in row["note"]]
    if part is cuda.BITS:
        assert rows[-1]["ours"] == "3 of 3"
    if part is cuda.CURVE:
        assert float(rows[0]["ours"]) < 1e-5
    if part in PRECISIONS:
        assert {row["what"].split(",")[0] for row in rows} == {"8-6-3"}
        compared = [row["note"] for row in rows if row["peer"]]
        assert compared
        assert all(("there is no bf16" in note) == (part.options["precision"] == "bf16") for note in compared)


def compilers():
    return not simulated() and not build.trouble()


@pytest.fixture
def gpu(monkeypatch):
    if not compilers():
        pytest.skip("the extra 'cuda' is not installed, or the simulator replaces it")
    yield put_in(monkeypatch)
    device.cache_clear()
    CudaExecutable.how = ""


@pytest.mark.slow
@pytest.mark.parametrize("part", [cuda.SWEEPS, cuda.LAUNCHES], ids=str)
def test_the_hosts_side_of_a_part(part, torch, gpu, monkeypatch):
    """Memory, launches, graphs: all that happens but the kernels."""
    monkeypatch.setattr(cuda_steps, "PEERS", {})
    rows = list(part.here(quick=True))
    assert not [row for row in rows if "Error" in row["note"]]
    assert {"cuLaunchKernel", "cuGraphLaunch"} <= set(gpu.api.names())
    if part is not cuda.SWEEPS:
        assert "cuLaunchCooperativeKernel" in gpu.api.names()


def test_rules_that_differ_are_named(gpu):
    """On the stand-in no kernel runs, so no rule can have the CPU's bits."""
    *_, last = cuda.bits(quick=True)
    assert last["ours"] == "0 of 3"
    assert len(last["note"].split(", ")) == 3


def test_what_pytest_says_is_counted_line_by_line():
    lines = [
        "[gw1] [  5%] PASSED tests/test_a.py::test_one ",
        "[gw0] [ 10%] FAILED tests/test_a.py::test_two ",
        "tests/test_b.py::test_three SKIPPED (no GPU)          [ 15%]",
    ]
    row = cuda.verdict(lines, "not all, 9 s")
    assert row["ours"] == "1 passed, 1 failed, 1 skipped"
    assert row["note"] == "not all, 9 s; test_a.py::test_two"
    lines.append("FAILED tests/test_a.py::test_two - AssertionError: 3 != 4")
    assert cuda.verdict(lines, "1 failed")["note"].endswith("test_a.py::test_two - AssertionError: 3 != 4")


SANITIZER = """#!/bin/sh
# compute-sanitizer --tool NAME COMMAND
echo "========= COMPUTE-SANITIZER"
[ "$2" = racecheck ] && echo "========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)"
[ "$2" = memcheck ] && echo "========= Invalid __global__ read" && echo "========= ERROR SUMMARY: 2 errors"
exit 0
"""


def test_what_the_sanitizer_finds_is_told(tmp_path, monkeypatch):
    tool = tmp_path / "compute-sanitizer"
    tool.write_text(SANITIZER)
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    memory, races = cuda.sanitizer(quick=True)
    assert memory["ours"] == "ERROR SUMMARY: 2 errors"
    assert "Invalid __global__ read" in memory["note"]
    assert races["ours"].startswith("RACECHECK SUMMARY: 0 hazards")
    assert races["note"] == ""


@pytest.mark.cuda
@pytest.mark.slow
@pytest.mark.skipif(not simulated(), reason="needs NUMBA_ENABLE_CUDASIM=1 before Python starts")
def test_the_steps_that_the_sanitizer_watches(patient):
    rows = list(Part("sanitizer", "bench.cuda:few_steps").here(quick=True))
    graph, epoch = (row["ours"] for row in rows)
    assert graph == epoch
