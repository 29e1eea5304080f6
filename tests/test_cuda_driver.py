"""The host's side of a GPU, against a driver that writes down what it is asked for: no kernel runs here."""

import ctypes
import gc
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from stand_in import Driver, put_in

import microgradx as mg
from microgradx import cuda, nn, optim
from microgradx.compiler.run.cuda_executable import CudaExecutable
from microgradx.cuda import Array, build, device, nvidia, simulated
from microgradx.cuda.devices import Launch
from microgradx.errors import DeviceError
from microgradx.training.step import training_step

pytestmark = pytest.mark.skipif(simulated(), reason="the simulator is another device")

ROOT = Path(__file__).parents[1]


@pytest.fixture
def api():
    return Driver()


@pytest.fixture
def gpu(api, monkeypatch):
    """A device over the stand-in, which tensors are put on."""
    yield put_in(monkeypatch, api)
    device.cache_clear()


def kernel(gpu, name="kernel"):
    """A launch of nothing, over one array."""
    array = Array.from_numpy(np.arange(4.0))
    return Launch(("function", name), 3, (array, np.int64(7), np.float32(0.5)))


def test_the_device_says_what_it_is(gpu):
    assert cuda.describe() == ("A GPU, compute capability 9.0", "")
    assert gpu.blocks == 132


def test_parameters_are_packed_once_and_a_launch_is_one_call(gpu, api):
    launch = kernel(gpu)
    run = gpu.prepare(launch)
    start = len(api.calls)
    run()
    run()
    assert api.names(start) == ["cuLaunchKernel"] * 2
    _, function, x, y, z, threads, *rest = api.calls[-1]
    assert (function, x, y, z, threads) == ("function", 3, 1, 1, 256)
    packed = (ctypes.c_void_p * 3).from_address(rest[4])
    array = launch.parameters[0]
    assert ctypes.c_uint64.from_address(packed[0]).value == array.address
    assert ctypes.c_int64.from_address(packed[1]).value == 7
    assert ctypes.c_float.from_address(packed[2]).value == 0.5


def test_a_launch_keeps_its_memory_alive(gpu):
    run = gpu.prepare(kernel(gpu))
    used = gpu.used
    import gc

    gc.collect()
    assert gpu.used == used
    del run
    gc.collect()
    assert gpu.used < used


def test_capture_records_launches_and_nothing_else(gpu, api):
    runs = [gpu.prepare(kernel(gpu, name)) for name in ("a", "b")]
    start = len(api.calls)
    replay = gpu.capture(lambda: [run() for run in runs])
    assert api.names(start) == [
        "cuStreamBeginCapture", "cuLaunchKernel", "cuLaunchKernel", "cuStreamEndCapture",
        "cuGraphInstantiate", "cuGraphDestroy",
    ]  # fmt: skip
    start = len(api.calls)
    replay()
    assert api.calls[start][:2] == ("cuGraphLaunch", "replay of graph 0")


def test_an_error_ends_the_capture(gpu, api):
    def work():
        raise ValueError("on the way")

    with pytest.raises(ValueError, match="on the way"):
        gpu.capture(work)
    assert api.names()[-1] == "cuStreamEndCapture"
    assert not api.capturing


def test_arrays_go_there_and_back(gpu):
    for size in (0, 1, 1000, nvidia.STAGE // 4 + 17, nvidia.STAGE // 2 * 3):
        x = np.arange(size, dtype=np.float32)
        np.testing.assert_array_equal(Array.from_numpy(x).numpy(), x)


def test_large_uploads_run_beside_the_kernels(gpu, api):
    start = len(api.calls)
    Array.from_numpy(np.zeros(nvidia.STAGE * 3 // 4, np.float32))  # three stages through two buffers
    calls = [
        call for call in api.calls[start:] if call[0].startswith(("cuMemcpy", "cuEvent", "cuStreamWait"))
    ]
    copies = [call for call in calls if call[0] == "cuMemcpyHtoDAsync"]
    assert len(copies) == 3
    assert {call[4] for call in copies} == {gpu.copies} != {gpu.stream}
    assert copies[0][2] == copies[2][2] != copies[1][2]  # the third waits for the first buffer
    waits = [call[1] for call in calls if call[0] == "cuEventSynchronize"]
    assert waits == [gpu.events[0], gpu.events[1], gpu.events[0]]
    assert calls[-1] == ("cuStreamWaitEvent", gpu.stream, gpu.events[0], 0)


def test_memory_is_used_again(gpu, api):
    first = Array.empty((1000,), np.float32)
    raw = first.address
    del first
    start = len(api.calls)
    assert Array.empty((1010,), np.float32).address == raw
    assert "cuMemAlloc" not in api.names(start)


def test_out_of_memory_says_how_much_and_what_holds_it(gpu, api):
    kept = [Array.empty((25_000_000,), np.float32) for _ in range(2)]
    spare = Array.empty((10_000_000,), np.float32)
    del spare  # in the pool: it is given back before giving up
    with pytest.raises(DeviceError) as error:
        Array.empty((25_000_000,), np.float32)
    assert "cuMemFree" in api.names()
    text = str(error.value)
    for part in ("out of memory on A GPU", "were asked for", "of 268.4 MB are free", "arrays here hold",
                 "the largest 100", "smaller batch_size"):  # fmt: skip
        assert part in text
    del kept
    assert Array.empty((25_000_000,), np.float32).size == 25_000_000


def test_a_fault_names_the_last_kernels_and_what_to_set(gpu, api, monkeypatch):
    run = gpu.prepare(kernel(gpu, "make_hidden"))
    run()
    api.fail["cuStreamSynchronize"] = 700
    with pytest.raises(
        DeviceError, match=r"CUDA_ERROR_ILLEGAL_ADDRESS.*MICROGRADX_CUDA_SYNC=1.*SIM=1.*make_hidden"
    ):
        gpu.synchronize()
    gpu.waiting = True  # as with MICROGRADX_CUDA_SYNC=1
    with pytest.raises(DeviceError, match="launched last: .*make_hidden"):
        run()


def test_the_driver_and_the_toolkit_may_not_fit(gpu, api):
    api.fail["cuModuleLoadData"] = 222
    with pytest.raises(
        DeviceError, match="UNSUPPORTED_PTX_VERSION.*newer than the driver: update the driver"
    ):
        gpu.call("cuModuleLoadData", b"")


def test_no_gpu_is_told():
    with pytest.raises(DeviceError, match="no GPU found.*CUDA_VISIBLE_DEVICES.*device='cpu'"):
        nvidia.Nvidia(Driver(devices=0))


def compilers():
    try:
        build.module()
        from cuda.bindings import nvjitlink  # noqa: F401
    except Exception:
        return False
    return True


@pytest.mark.slow
@pytest.mark.skipif(not compilers(), reason="the extra 'cuda' is not installed")
@pytest.mark.parametrize("how", ["graph", "epoch"])
def test_a_whole_step_flows_through_the_driver(how, gpu, api, monkeypatch):
    monkeypatch.setattr(CudaExecutable, "how", how)
    mg.seed(0)
    model = nn.Sequential(nn.Linear(4, 3)).to("cuda")
    optimizer = optim.SGD(model.parameters(), lr=0.1)

    step = training_step(model, optimizer, nn.mse_loss)

    x, y = (mg.tensor(np.zeros((8, n), np.float32), device="cuda") for n in (4, 3))
    compiled = mg.jit(step)
    compiled(x, y)
    gc.collect()  # compiling leaves frames in cycles, which hold the first result
    start = len(api.calls)
    compiled(x, y)
    names = api.names(start)
    allowed = {"cuMemcpyHtoDAsync", "cuMemcpyDtoDAsync"}  # this step's numbers and batch, and its result
    assert set(names) - allowed == ({"cuGraphLaunch"} if how == "graph" else {"cuLaunchCooperativeKernel"})
    assert "cuMemAlloc" not in names  # all comes from the pool
    assert "cuStreamSynchronize" not in names  # nobody waits
    start = len(api.calls)
    losses = compiled.scan(x, y, batch_size=2)
    assert losses.shape == (4,)
    names = api.names(start)
    if how == "graph":
        begin, end = names.index("cuStreamBeginCapture"), names.index("cuStreamEndCapture")
        assert set(names[begin + 1 : end]) == {"cuLaunchKernel"}
        assert names.count("cuGraphLaunch") == 4
    else:
        assert names.count("cuLaunchCooperativeKernel") == 1  # four steps
    assert losses.device == "cuda"


@pytest.mark.skipif(not compilers(), reason="the extra 'cuda' is not installed")
def test_an_eager_operation_is_one_launch(gpu, api):
    x = mg.tensor(np.ones((8, 4), np.float32), device="cuda")
    _ = x * 2 + 1
    gc.collect()
    start = len(api.calls)
    y = x * 2
    assert api.names(start) == ["cuLaunchKernel"]
    assert y.T[1:].device == "cuda"
    assert api.names(start) == ["cuLaunchKernel"]  # views cost nothing


BROKEN = "raise NotImplementedError('getLocalRuntimeVersion is not there')"


def test_a_numba_cuda_that_cannot_be_imported_leaves_the_cpu_as_it_is(tmp_path):
    """A fake package in front of Numba's: importing numba.cuda raises what a broken toolkit raises."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Broken:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'numba.cuda' or name.startswith('cuda.bindings'):\n"
        f"            {BROKEN}\n"
        "sys.meta_path.insert(0, Broken())\n"
    )
    code = (
        "import microgradx as mg\n"
        "from microgradx.cuda import Array, build, describe\n"
        "x = mg.tensor([1.0, 2.0], requires_grad=True); (x * x).sum().backward(); print(x.grad.tolist())\n"
        "print(describe()); print(build.trouble())\n"
        "try:\n    x.to('cuda')\nexcept mg.MicrogradxError as error: print(type(error).__name__, error)\n"
    )
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    first, second, third, last = done.stdout.splitlines()
    assert first == "[2.0, 4.0]"
    assert "cuda.bindings cannot be imported" in second
    assert "pip install 'numba-cuda[cu13]>=" in second
    assert "numba.cuda cannot be imported (getLocalRuntimeVersion is not there)" in third
    assert last.startswith("DeviceError CUDA: ")
