"""Training on several processes: the same as on one, to the bit where asked; none waits for a dead one."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import ranks
from numpy.testing import assert_allclose, assert_array_equal

from microgradx import nn, optim, training
from microgradx.errors import ArgumentError, ClusterError
from microgradx.training.mpi import LAUNCHED, cluster_of

pytestmark = pytest.mark.interpreted
MPIEXEC = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


def launch(size, folder, *jobs, interpret="1"):
    """So many processes of `ranks.py`, and what they printed."""
    return launched(["-n", str(size), sys.executable, ranks.__file__, str(folder), *jobs], interpret)


def launched(words, interpret="1", **more):
    """What mpiexec and its processes printed; skipped where there is no MPI."""
    pytest.importorskip("mpi4py", reason="mpi4py is in the extra 'mpi'")
    if MPIEXEC is None:
        pytest.skip("mpiexec is in the extra 'mpi'")
    environment = {**os.environ, "MICROGRADX_INTERPRET": interpret, "PYTHONPATH": os.pathsep.join(sys.path)}
    options = {"capture_output": True, "text": True, "timeout": 120} | more
    return subprocess.run([MPIEXEC, *words], env=environment, **options)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The folder that two processes have filled with all jobs."""
    folder = tmp_path_factory.mktemp("two")
    done = launch(2, folder, *ranks.JOBS, "run")
    assert not done.returncode, done.stderr
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ranks.JOBS if name not in ("bits", "mean")])
def test_two_processes_learn_what_one_does(two, name):
    found = np.load(two / f"{name}-2.npz")
    _, losses, weights, _ = ranks.job(name)
    assert found["same"]
    assert_allclose(found["losses"], losses, rtol=1e-5)
    assert_allclose(found["weights"], weights, rtol=2e-4, atol=2e-5)


def test_reproducible_bits_on_one_two_and_four_processes(two, tmp_path):
    done = launch(4, tmp_path, "bits")
    assert not done.returncode, done.stderr
    _, losses, weights, _ = ranks.job("bits")
    for path in (two / "bits-2.npz", tmp_path / "bits-4.npz"):
        found = np.load(path)
        assert found["same"]
        assert_array_equal(found["losses"], losses)
        assert_array_equal(found["weights"], weights)


def test_running_statistics_are_the_mean_over_ranks(two):
    found = np.load(two / "mean-2.npz")  # ranks compare their weights and buffers at every checkpoint
    assert found["same"] and np.isfinite(found["weights"]).all()


def test_a_run_goes_on_with_another_number_of_processes(two):
    """Shuffles are the same; dropout draws other masks."""
    assert json.loads((two / "run/config.json").read_text(encoding="utf-8"))["fit"]["ranks"] == 2
    _, _, history = ranks.train(training.Cluster(), out=two / "run", dropout=0.2, epochs=3, resume=True)
    assert history["epoch"] == [1, 2, 3] and history["step"] == [8, 16, 24]
    assert history["loss"][2] < history["loss"][0]


@pytest.mark.parametrize(
    "what, message",
    [
        ("weights", "the weights of 0.weight, in a digest, must be the same for all processes: rank 0 has"),
        ("data", "x of the training data must be the same for all processes: rank 0 has float32 (120, 2)"),
        ("lr", "the optimizer must be the same for all processes: rank 0 has Adam(lr=0.02"),
    ],
)
def test_what_ranks_differ_in_is_named_on_all_before_anything_starts(two, what, message):
    texts = [(two / f"{what}-{rank}.txt").read_text(encoding="utf-8") for rank in (0, 1)]
    assert texts[0] == texts[1] and texts[0].startswith(message)


def test_a_rank_that_ends_alone_ends_all_with_its_reason(tmp_path):
    done = launch(2, tmp_path, "exit")
    assert done.returncode == 1
    assert "rank 1 of 2 ended: SystemExit: of rank 1 alone" in done.stderr


@pytest.mark.parametrize(
    "first, second, message",
    [
        (
            "train --out a",
            "train --resume b",
            "--out must be the same for all processes: rank 0 has a, rank 1",
        ),
        (
            "train",
            "train --epochs 0",
            "rank 1 of 2 ended: Invalid value for '--epochs': 0 is not in the range",
        ),
    ],
)
def test_no_command_waits_for_one_that_does_something_else(tmp_path, first, second, message):
    one = ["-n", "1", sys.executable, "-m", "microgradx"]
    done = launched([*one, *first.split(), ":", *one, *second.split()], cwd=tmp_path)
    assert done.returncode and message in done.stderr
    assert not list(tmp_path.iterdir())


# On one process


@pytest.mark.parametrize(
    "options, message",
    [
        ({"optimizer": optim.LBFGS}, "LBFGS evaluates a batch as often as its search asks"),
        ({"norm": True}, "BatchNorm1d takes the statistics of the rows that a process has"),
        (
            {"loss": lambda x, y, reduction="sum": nn.cross_entropy(x, y, reduction=reduction)},
            "the loss is a sum",
        ),
    ],
)
def test_what_cannot_be_shared_is_refused(options, message):
    with pytest.raises(ArgumentError, match=message):
        ranks.train(training.Cluster(reproducible=True), **options)


@pytest.mark.parametrize("leaves", [3, -8, 12])
def test_parts_of_a_batch_are_a_power_of_two(leaves):
    with pytest.raises(ArgumentError, match=f"a power of two, the parts of a batch, not {leaves}"):
        training.Cluster(reproducible=leaves)


def test_parts_make_up_the_batch():
    for n in (1, 7, 8, 20):
        parts = [range(n)[part] for _, part in training.Cluster(reproducible=True).parts(n)]
        assert [row for part in parts for row in part] == list(range(n))


@pytest.mark.parametrize("rank, size", [*LAUNCHED.items()])
def test_mpi_is_asked_for_only_where_it_was_started(monkeypatch, rank, size):
    for name in [*LAUNCHED, *LAUNCHED.values()]:
        monkeypatch.delenv(name, raising=False)
    assert cluster_of().size == 1 and "MPI" not in type(cluster_of()).__name__
    monkeypatch.setenv(rank, "0")
    monkeypatch.setitem(sys.modules, "mpi4py", None)  # as if it were not installed
    if size:
        monkeypatch.setenv(size, "4")
    with pytest.raises(ClusterError, match=r"needs mpi4py .*: pip install mpi4py mpich brings it"):
        cluster_of()
    assert cluster_of(alone := training.Cluster()) is alone
    with pytest.raises(ArgumentError, match="cluster must be training.Cluster"):
        cluster_of("mpi")


def test_a_step_that_is_shared_is_the_whole_step():
    """Eager, and in one process with one part that has all rows: what `fit` does without a cluster."""
    found = [ranks.train(c, eager=True)[1] for c in (training.Cluster(), training.Cluster(reproducible=2))]
    assert_allclose(*found, rtol=1e-4, atol=1e-6)
