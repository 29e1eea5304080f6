"""Products of matrices by cuBLAS: its descriptors without a GPU, its use with a stand-in that computes."""

import ctypes
import os

import numpy as np
import pytest

import microgradx as mg
from microgradx import nn, optim
from microgradx.compiler.run.cuda_executable import CudaExecutable
from microgradx.cuda import cublas, device, simulated
from microgradx.cuda.cublas import Blas, Problem
from microgradx.errors import ArgumentError, DeviceError
from microgradx.primitives import operations
from microgradx.training.step import training_step

pytestmark = pytest.mark.usefixtures("quick_threads")
in_simulator = pytest.mark.skipif(not simulated(), reason="needs NUMBA_ENABLE_CUDASIM=1 before Python starts")


# The library itself, as far as it goes without a GPU


@pytest.fixture(scope="module")
def library():
    found = cublas.find()
    if found is None and (path := os.environ.get("MICROGRADX_TEST_CUBLAS")):
        found = ctypes.CDLL(path)
    if found is None:
        pytest.skip("the extra 'cublas' is not installed (or name the file: MICROGRADX_TEST_CUBLAS)")
    return found


def blas_without_gpu(library):
    made = Blas.__new__(Blas)
    made.library, made.stream, made.memory, made.choices = library, 0, 0, {}
    made.layouts = {}
    made.handle = ctypes.c_void_p()
    return made


@pytest.mark.parametrize("form", ["nn", "nt", "tn"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("bias", "relu"), [(False, False), (True, False), (True, True)])
def test_the_library_takes_our_descriptions(library, form, dtype, bias, relu):
    made = blas_without_gpu(library)
    problem = Problem(128, 10, 784, form, dtype, bias, relu)
    with mg.matmul_precision("tf32"):
        made.describe(problem, 4096)
    product, layouts = made.describe(problem, 4096)
    assert product.value
    assert all(layout.value for layout in layouts)
    epilogue, written = ctypes.c_int32(), ctypes.c_size_t()
    made.call(
        "cublasLtMatmulDescGetAttribute", product, cublas.EPILOGUE, ctypes.byref(epilogue),
        ctypes.c_size_t(4), ctypes.byref(written),
    )  # fmt: skip
    assert epilogue.value == cublas.EPILOGUES[bias, relu]
    rows, columns = ctypes.c_uint64(), ctypes.c_uint64()
    for attribute, value in ((2, rows), (3, columns)):
        made.call(
            "cublasLtMatrixLayoutGetAttribute", layouts[2], attribute, ctypes.byref(value),
            ctypes.c_size_t(8), ctypes.byref(written),
        )  # fmt: skip
    assert (rows.value, columns.value) == (10, 128)  # our rows are its columns


def test_no_gpu_is_told_by_the_library(library):
    with pytest.raises(DeviceError, match="cuBLAS: cublasLtCreate gave NOT_INITIALIZED.*our own kernels"):
        Blas(library, 0, 0)


# A stand-in that computes what the library would


class Standin:
    """cublasLt in NumPy, for the simulator's memory; it knows columns first, as the library does."""

    def __init__(self):
        self.objects, self.calls, self.computes, self.made = {}, [], [], 0

    def make(self, out, what):
        self.made += 1
        self.objects[self.made] = what
        out._obj.value = self.made
        return 0

    def cublasLtCreate(self, out):  # noqa: N802
        return self.make(out, "handle")

    def cublasLtMatmulDescCreate(self, out, compute, kind):  # noqa: N802
        self.computes.append(compute)
        return self.make(out, {})

    def cublasLtMatmulDescSetAttribute(self, product, attribute, value, size):  # noqa: N802
        self.objects[product.value][attribute] = value._obj.value
        return 0

    def cublasLtMatrixLayoutCreate(self, out, kind, rows, columns, ld):  # noqa: N802
        assert rows.value == ld.value
        return self.make(out, (np.float32 if kind == 0 else np.float64, rows.value, columns.value))

    def cublasLtMatmulDescDestroy(self, product):  # noqa: N802
        del self.objects[product.value]

    def cublasLtMatmulPreferenceCreate(self, out):  # noqa: N802
        return self.make(out, "preference")

    def cublasLtMatmulPreferenceSetAttribute(self, *_):  # noqa: N802
        return 0

    def cublasLtMatmulAlgoGetHeuristic(self, *args):  # noqa: N802
        args[-1]._obj.value = 1
        self.calls.append("heuristic")
        return 0

    def seen(self, layout, address):
        kind, rows, columns = self.objects[layout.value]
        size = rows * columns * np.dtype(kind).itemsize
        flat = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address.value)).view(kind)
        return flat.reshape(columns, rows).T

    def cublasLtMatmul(self, handle, product, one, a, left, b, right, zero, c, _, d, result, *rest):  # noqa: N802
        about = self.objects[product.value]
        left, right, out = self.seen(left, a), self.seen(right, b), self.seen(result, d)
        left = left.T if about[cublas.TRANSA] else left
        right = right.T if about[cublas.TRANSB] else right
        value = left @ right
        epilogue = about[cublas.EPILOGUE]
        if epilogue & 4:
            size = out.shape[0] * out.itemsize
            bias = (ctypes.c_uint8 * size).from_address(about[cublas.BIAS_POINTER])
            value = value + np.ctypeslib.as_array(bias).view(out.dtype)[:, None]
        out[...] = np.maximum(value, 0) if epilogue & 2 else value
        self.calls.append(epilogue)
        return 0


@pytest.fixture
def standin(monkeypatch):
    """The simulator with a stand-in of the library, whose operands are addresses."""
    made, gpu = Standin(), device()
    monkeypatch.setattr(gpu, "blas", Blas(made, 0, 0))
    return made


@pytest.mark.cuda
@in_simulator
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_of_all_forms(standin, dtype):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((5, 3)).astype(dtype), rng.standard_normal((3, 4)).astype(dtype)
    x, y = mg.tensor(a, device="cuda"), mg.tensor(b, device="cuda")
    xt, yt = mg.tensor(a.T.copy(), device="cuda"), mg.tensor(b.T.copy(), device="cuda")
    for found in (x @ y, xt.T @ y, x @ yt.T, xt.T @ yt.T):
        np.testing.assert_allclose(found.numpy(), a @ b, rtol=1e-5)
    assert standin.calls.count(1) == 4
    bias = mg.tensor(np.arange(4).astype(dtype), device="cuda")
    found = operations["affine"](x, y, bias)
    np.testing.assert_allclose(found.numpy(), a @ b + np.arange(4), rtol=1e-5)
    assert standin.calls[-1] == 4  # with the bias


@pytest.mark.cuda
@in_simulator
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_a_step_trains_as_on_the_cpu(standin, activation, monkeypatch):
    monkeypatch.setattr(CudaExecutable, "how", "graph")
    results = []
    rng = np.random.default_rng(1)
    data = rng.standard_normal((24, 6)).astype(np.float32), rng.integers(0, 3, 24)
    for where in ("cpu", "cuda"):
        mg.seed(0)
        model = nn.MLP([6, 8, 3], activation=activation).to(where)
        optimizer = optim.Adam(model.parameters(), lr=0.01)

        step = training_step(model, optimizer)

        losses = mg.jit(step).scan(*(mg.tensor(a, device=where) for a in data), batch_size=8).tolist()
        results.append((losses, model.state_dict()))
    np.testing.assert_allclose(results[1][0], results[0][0], rtol=1e-5)
    for name, value in results[0][1].items():
        np.testing.assert_allclose(results[1][1][name], value, rtol=1e-4, atol=1e-6, err_msg=name)
    first = 6 if activation == "relu" else 4
    assert standin.calls.count("heuristic") == 5  # once per problem: two forward, three back
    steps = [call for call in standin.calls if call != "heuristic"]
    assert len(steps) == 15
    assert {first, 4, 1} == set(steps) | {4}


@pytest.mark.cuda
@in_simulator
def test_what_else_is_read_stays(standin):
    """A product that something else reads is not merged with the bias that follows it."""
    x = mg.tensor(np.ones((4, 3), np.float32), device="cuda")
    w, b = mg.tensor(np.ones((3, 2), np.float32), device="cuda"), mg.tensor([1.0, -9.0], device="cuda")

    def both(x, w, b):
        y = x @ w
        return mg.relu(y + b), y

    out, product = mg.jit(both)(x, w, b)
    assert out.tolist() == [[4.0, 0.0]] * 4
    assert product.tolist() == [[3.0, 3.0]] * 4


@pytest.mark.cuda
@in_simulator
def test_tf32_is_asked_for(standin):
    x = mg.tensor(np.ones((4, 4), np.float32), device="cuda")
    _ = x @ x
    with mg.matmul_precision("tf32"):
        _ = x @ x
    _ = x @ x
    assert standin.computes == [68, cublas.TF32, 68]


def test_a_wrong_precision_lists_the_valid_ones():
    with pytest.raises(ArgumentError, match='matmul_precision \'half\': it is "highest" or "tf32"'):
        mg.matmul_precision("half")
    assert cublas.matmul_precision.current == "highest"
    mg.matmul_precision("tf32")
    assert cublas.matmul_precision.current == "tf32"
    mg.matmul_precision("highest")
