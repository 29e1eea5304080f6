"""The benchmark for a GPU, rehearsed in the simulator: every part runs and none fails."""

import sys

import pytest

from microgradx.kernels.cuda import simulated


@pytest.mark.cuda
@pytest.mark.slow
@pytest.mark.skipif(not simulated(), reason="needs NUMBA_ENABLE_CUDASIM=1 before Python starts")
def test_the_rehearsal(torch, monkeypatch):
    from bench import cuda

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    monkeypatch.setattr(cuda, "PARTS", [part for part in cuda.PARTS if part is not cuda.suite])
    try:
        rows = cuda.run(quick=True)
    finally:
        sys.setswitchinterval(before)
    assert not [row for row in rows if "Error" in str(row["note"])]
    assert {row["part"] for row in rows} == {
        "device", "bits", "loss curve", "eager", "sweep", "step", "training", "product", "launch",
    }  # fmt: skip
    assert "rehearsal" in rows[0]["what"]
    assert next(row for row in rows if row["part"] == "bits")["ours"] == "3 of 3"
