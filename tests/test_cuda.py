"""CUDA kernels in Numba's simulator (or on a GPU): NUMBA_ENABLE_CUDASIM=1 python -m pytest -m cuda."""

import os
import sys

import numpy as np
import pytest

from microgradx.errors import DeviceError
from microgradx.kernels import sweep
from microgradx.rules import rules
from microgradx.scalars import functions

simulated = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"
needs_cuda = pytest.mark.skipif(not simulated, reason="needs NUMBA_ENABLE_CUDASIM=1 before Python starts")


@pytest.fixture(autouse=True)
def quick_threads():
    """The simulator's threads wait for each other: let Python switch between them sooner."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    yield
    sys.setswitchinterval(before)


@pytest.mark.cuda
@needs_cuda
@pytest.mark.parametrize("rule", rules.values(), ids=lambda rule: rule.name)
def test_a_rule_gives_the_cpus_bits_over_1000_steps(rule, monkeypatch):
    rng = np.random.default_rng(5)
    p = rng.standard_normal(11).astype(np.float32)  # more than one grid of 8 threads
    on_cpu, on_cuda = ([p.copy(), *(np.zeros_like(p) for _ in rule.state)] for _ in range(2))
    cpu, cuda = sweep(rule, np.float32), sweep(rule, np.float32, device="cuda")
    carried = cuda_carried = ()
    for t in range(1, 1001):
        if t == 21:  # a single thread takes the rest of the steps: the simulator's threads are slow
            monkeypatch.setattr("microgradx.kernels.cuda.grid", lambda count: (1, 1))
        g = rng.standard_normal(11).astype(np.float32)
        carried = cpu(on_cpu[0], g, *on_cpu[1:], t=t, carried=carried)
        cuda_carried = cuda(on_cuda[0], g, *on_cuda[1:], t=t, carried=cuda_carried)
        assert cuda_carried == carried
        for name, a, b in zip(("p", *rule.state), on_cpu, on_cuda, strict=True):
            np.testing.assert_array_equal(a, b, err_msg=f"{name} in step {t}")


@pytest.mark.cuda
@needs_cuda
@pytest.mark.parametrize("function", functions.values(), ids=lambda function: function.name)
def test_an_elementwise_function_runs_as_a_kernel(function):
    from microgradx.kernels.cuda import map as cuda_map

    inputs = [np.array(column, np.float32) for column in function.domain.sample(20)]
    if function.name.startswith("logical") or function.name == "where":
        inputs[0] = inputs[0] > 0
    if function.name.startswith("logical"):
        inputs = [x > 0 for x in inputs]
    wanted = function(*inputs)
    out = np.empty_like(wanted)
    cuda_map(function, "float32")(out, *inputs)
    np.testing.assert_allclose(out, wanted, rtol=3e-6, atol=1e-6)


@pytest.mark.cuda
@needs_cuda
def test_the_launch_fits_any_size():
    update = sweep(rules["sgd"], np.float32, device="cuda")
    for size in (0, 1, 7, 8, 9, 33):
        p, g = np.ones(size, np.float32), np.ones(size, np.float32)
        update(p, g, t=1, lr=0.5)
        assert p.tolist() == [0.5] * size


@pytest.mark.cuda
@needs_cuda
def test_the_simulator_is_described():
    from microgradx.kernels.cuda import describe

    assert describe() == ("Numba's simulator", "")


@pytest.mark.skipif(simulated, reason="about a process without the simulator")
def test_no_device_is_an_error_with_a_next_move():
    from microgradx.kernels.cuda import describe, driver

    try:
        driver()
    except DeviceError as error:
        assert "CUDA: " in str(error)
        assert "device='cpu'" in str(error) or "pip install" in str(error)
        text, advice = describe()
        assert text and advice


def test_the_text_of_a_kernel_is_the_loop_of_the_cpu():
    from microgradx.kernels.cuda import bounds, loop
    from microgradx.kernels.lift import Lifted

    lifted = Lifted(rules["adam"], "float32", ())
    cpu, cuda = lifted.source().splitlines(), lifted.source(bounds, loop).splitlines()
    changed = [line for line in cuda if line not in cpu]
    assert "from numba import cuda" in changed
    assert f"    for i in {loop}:" in changed
    assert "        m = beta1 * m + one_minus_beta1 * g" in cuda
