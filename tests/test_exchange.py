"""Arrays shared with other libraries: for real on the CPU and in the simulator, by a fake driver on a GPU."""

import gc

import numpy as np
import pytest
from stand_in import put_in

import microgradx as mg
from microgradx.cuda import Array, device, dlpack, simulated
from microgradx.errors import ArgumentError, DeviceError, DTypeError, GradientError

DTYPES = "float32", "float64", "int64", "int32", "uint8", "bool"
in_simulator = pytest.mark.skipif(not simulated(), reason="needs NUMBA_ENABLE_CUDASIM=1 before Python starts")


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_tensor_of_the_cpu_shares_its_memory(dtype, torch):
    x = mg.tensor(np.arange(6).reshape(2, 3).astype(dtype))
    for view in (np.from_dlpack(x), torch.from_dlpack(x).numpy()):
        assert view.ctypes.data == x.data.ctypes.data
        np.testing.assert_array_equal(view, x.data)
    back = mg.from_dlpack(torch.from_dlpack(x))
    assert back.data.ctypes.data == x.data.ctypes.data
    assert back.device == "cpu"


def test_what_is_not_shared():
    with pytest.raises(GradientError, match=r"requires gradients is not lent.*detach\(\)"):
        np.from_dlpack(mg.ones(2, requires_grad=True))
    with pytest.raises(ArgumentError, match="from_dlpack takes an array with __dlpack__, not list"):
        mg.from_dlpack([1, 2])
    assert not hasattr(mg.ones(2), "__cuda_array_interface__")


@pytest.mark.cuda
@in_simulator
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_simulators_arrays_are_lent(dtype):
    x = mg.tensor(np.arange(12).reshape(3, 4).astype(dtype), device="cuda")
    for t in (x, x.T, x[1:, ::2], x[2:, :1]):
        view = np.from_dlpack(t)
        np.testing.assert_array_equal(view, t.numpy())
        assert view.ctypes.data == t.data.address
    assert len(dlpack.lent) == 1  # the last view is still there
    del view
    gc.collect()
    assert not dlpack.lent


@pytest.mark.cuda
@in_simulator
def test_a_capsule_that_nobody_takes_gives_its_array_back():
    x = mg.ones(3, device="cuda")
    capsule = x.__dlpack__()
    assert len(dlpack.lent) == 1
    del capsule
    gc.collect()
    assert not dlpack.lent


@pytest.mark.cuda
@in_simulator
def test_arrays_are_borrowed_and_given_back_once():
    given = np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::-1]
    x = mg.Tensor(Array.from_dlpack(given))
    assert x.device == "cuda"
    assert x.tolist() == given.tolist()
    given[0, 0] = 50
    assert x[0, 0].item() == 50
    assert (x * 2).sum().item() == 2 * given.sum()
    y = x.data[1:]  # keeps it alive
    del x
    gc.collect()
    np.testing.assert_array_equal(y.numpy(), given[1:])
    capsule = given.__dlpack__()
    dlpack.borrow(capsule, device())
    with pytest.raises(ArgumentError, match="taken before"):
        dlpack.borrow(capsule, device())


@pytest.mark.cuda
@in_simulator
def test_a_round_trip_gives_everything_back():
    x = mg.ones(1000, device="cuda")
    memory, used = x.data.memory, device().used
    address, size = memory.address, memory.size
    again = Array.from_dlpack(x)
    del x, memory
    gc.collect()
    assert device().used == used
    assert again.numpy().sum() == 1000
    del again
    gc.collect()
    assert device().used < used
    assert address in device().free[size]


@pytest.mark.cuda
@in_simulator
def test_what_cannot_be_borrowed():
    with pytest.raises(DTypeError, match="no NumPy dtype has code 5"):
        dlpack.borrow(np.ones(2, complex).__dlpack__(), device())
    with pytest.raises(BufferError, match=r"DLPack's device \(1, 0\), not \(2, 0\)"):
        mg.ones(2, device="cuda").__dlpack__(dl_device=(2, 0))
    assert not hasattr(mg.ones(2, device="cuda"), "__cuda_array_interface__")


# A GPU, by the fake driver


@pytest.fixture
def gpu(monkeypatch):
    if simulated():
        pytest.skip("the simulator is another device")
    yield put_in(monkeypatch)
    device.cache_clear()


class Foreign:
    """Another library's array on a GPU."""

    def __init__(self, array, stream=None):
        self.array, kept = array, array.ctypes.data
        self.__cuda_array_interface__ = {
            "shape": array.shape, "typestr": array.dtype.str, "data": (kept, False), "version": 3,
            "strides": array.strides, "stream": stream,
        }  # fmt: skip


def test_the_cuda_array_interface_both_ways(gpu):
    array = np.arange(12, dtype=np.float32).reshape(3, 4)[::-1, 1:]
    x = mg.Tensor(Foreign(array))
    assert x.device == "cuda"
    assert x.data.address == array.ctypes.data
    about = x.__cuda_array_interface__
    assert about["shape"] == (3, 3)
    assert about["typestr"] == "<f4"
    assert about["data"] == (array.ctypes.data, False)
    assert about["strides"] == array.strides
    assert about["version"] == 3
    assert about["stream"] == gpu.queue
    whole = mg.tensor(np.ones((2, 3)), device="cuda")
    assert whole.__cuda_array_interface__["strides"] is None
    with pytest.raises(DTypeError, match="complex"):
        mg.Tensor(Foreign(np.ones(2, complex)))


def test_streams_wait_for_each_other(gpu):
    start = len(gpu.api.calls)
    mg.Tensor(Foreign(np.ones(3, np.float32), stream=77))
    assert [call[0] for call in gpu.api.calls[start:]][-2:] == ["cuEventRecord", "cuStreamWaitEvent"]
    assert gpu.api.calls[-1][1] == gpu.stream
    x = mg.tensor(np.ones(3, np.float32), device="cuda")
    x.__dlpack__(stream=88)
    assert gpu.api.calls[-1][:2] == ("cuStreamWaitEvent", 88)
    assert x.__dlpack_device__() == (2, 0)
    start = len(gpu.api.calls)
    x.__dlpack__(stream=1)
    assert len(gpu.api.calls) == start
    with pytest.raises(DeviceError, match="DLPack's device 1, not on a GPU"):
        dlpack.borrow(np.ones(2).__dlpack__(), gpu)
