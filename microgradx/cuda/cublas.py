"""Matrix products by NVIDIA's cublasLt (the extra `cublas`), with a bias and ReLU in the same launch.

cublasLt counts matrices column by column: a matrix of ours, row by row, is to it the transposed one. So our
out = a @ b is its outᵀ = bᵀ @ aᵀ, and a bias along our columns is one along its rows, as its epilogue wants.
"""

import ctypes
import weakref
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from microgradx.errors import ArgumentError, DeviceError

Handle = ctypes.c_void_p  # of a thing of the library's
Handles = tuple[Handle, Handle, Handle]  # of the two operands, in its order, and the result

WORKSPACE = 32 << 20  # bytes: what NVIDIA recommends for its newest GPUs
TYPES = {"float32": (0, 68), "float64": (1, 70)}  # cudaDataType and cublasComputeType, exact
TF32 = 77  # the compute type that rounds operands to 10 bits of mantissa
TRANSA, TRANSB, EPILOGUE, BIAS_POINTER = 3, 4, 7, 8  # attributes of a product
MAX_WORKSPACE = 1  # attribute of a preference
EPILOGUES = {(False, False): 1, (True, False): 4, (False, True): 2, (True, True): 6}  # (bias, relu)
STATUS = {
    1: "NOT_INITIALIZED", 3: "ALLOC_FAILED", 7: "INVALID_VALUE", 8: "ARCH_MISMATCH", 13: "EXECUTION_FAILED",
    14: "INTERNAL_ERROR", 15: "NOT_SUPPORTED",
}  # fmt: skip


class matmul_precision:  # noqa: N801 - used like a function
    """How exact matrix products of float32 are on a GPU: "highest", or "tf32" for its tensor cores.

    `mg.matmul_precision("tf32")` holds from now on, or inside `with mg.matmul_precision("tf32"):`. TF32
    rounds what is multiplied to 10 bits of mantissa: about 3e-4 of relative error. It needs cuBLAS.
    ArgumentError for other names.

    >>> with matmul_precision("tf32"):
    ...     matmul_precision.current
    'tf32'
    >>> matmul_precision.current
    'highest'
    """

    current = "highest"

    def __init__(self, precision: str):
        if not isinstance(precision, str) or precision not in ("highest", "tf32"):
            raise ArgumentError(f'matmul_precision {precision!r}: it is "highest" or "tf32".')
        self.before = matmul_precision.current
        matmul_precision.current = precision

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        matmul_precision.current = self.before


@dataclass(frozen=True)
class Problem:
    """out (n, m) = a @ b, with a bias (m,) added and negative numbers zeroed where asked.

    form: "nn", "nt" (b is given transposed) or "tn" (a is).
    """

    n: int
    m: int
    k: int
    form: str
    dtype: str
    bias: bool = False
    relu: bool = False


class Choice(ctypes.Structure):
    """What the library suggests for a problem: cublasLtMatmulHeuristicResult_t."""

    _fields_ = [
        ("algorithm", ctypes.c_uint64 * 8), ("workspace", ctypes.c_size_t), ("state", ctypes.c_int),
        ("waves", ctypes.c_float), ("reserved", ctypes.c_int * 4),
    ]  # fmt: skip


def find() -> ctypes.CDLL | None:
    """The library, or None where it is not installed."""
    try:
        from cuda.pathfinder import load_nvidia_dynamic_lib

        return ctypes.CDLL(load_nvidia_dynamic_lib("cublasLt").abs_path)
    except Exception:  # of any kind: it is not there, or does not fit
        return None


class Blas:
    """cublasLt on one stream. `library`: its functions."""

    def __init__(self, library: ctypes.CDLL, stream: int, memory: int):
        self.library, self.stream, self.memory = library, stream, memory
        self.handle = ctypes.c_void_p()
        self.call("cublasLtCreate", ctypes.byref(self.handle))
        self.layouts: dict[tuple[int, int, int], Handle] = {}
        self.choices: dict[tuple[Problem, str], Choice] = {}

    def call(self, function: str, *args: object) -> None:
        """A function of the library; DeviceError for what goes wrong."""
        if status := getattr(self.library, function)(*args):
            name = STATUS.get(status, f"status {status}")
            advice = "Run `microgradx doctor`; without the extra `cublas` our own kernels are used"
            raise DeviceError(f"cuBLAS: {function} gave {name}. {advice}.")

    def prepare(
        self, problem: Problem, out: int, a: int, b: int, bias: int | None = None
    ) -> Callable[[], None]:
        """What puts a product of matrices at these addresses into the stream."""
        product, layouts = self.describe(problem, bias)
        choice = self.choose(problem, product, layouts)
        kind = ctypes.c_float if problem.dtype == "float32" else ctypes.c_double
        one, zero = kind(1), kind(0)
        left, right, result = layouts
        args = (
            self.handle, product, ctypes.byref(one), ctypes.c_void_p(b), left, ctypes.c_void_p(a), right,
            ctypes.byref(zero), ctypes.c_void_p(out), result, ctypes.c_void_p(out), result,
            ctypes.byref(choice.algorithm), ctypes.c_void_p(self.memory), ctypes.c_size_t(WORKSPACE),
            ctypes.c_void_p(self.stream),
        )  # fmt: skip
        kept = one, zero, choice

        def run(kept: object = kept) -> None:
            self.call("cublasLtMatmul", *args)

        weakref.finalize(run, self.library.cublasLtMatmulDescDestroy, product).atexit = False
        return run

    def describe(self, problem: Problem, bias: int | None) -> tuple[Handle, Handles]:
        """The product and its three matrices in the library's terms: no GPU is needed for it."""
        n, m, k, form = problem.n, problem.m, problem.k, problem.form
        data, compute = TYPES[problem.dtype]
        if problem.dtype == "float32" and matmul_precision.current == "tf32":
            compute = TF32
        product = ctypes.c_void_p()
        self.call("cublasLtMatmulDescCreate", ctypes.byref(product), compute, data)
        self.set(product, TRANSA, ctypes.c_int32(form[1] == "t"))
        self.set(product, TRANSB, ctypes.c_int32(form[0] == "t"))
        self.set(product, EPILOGUE, ctypes.c_int32(EPILOGUES[problem.bias, problem.relu]))
        if problem.bias:
            self.set(product, BIAS_POINTER, ctypes.c_uint64(bias or 0))
        left = self.layout(data, *((k, m) if form[1] == "t" else (m, k)))
        right = self.layout(data, *((n, k) if form[0] == "t" else (k, n)))
        return product, (left, right, self.layout(data, m, n))

    def set(self, product: Handle, attribute: int, value: ctypes.c_int32 | ctypes.c_uint64) -> None:
        """One attribute of a product."""
        size = ctypes.c_size_t(ctypes.sizeof(value))
        self.call("cublasLtMatmulDescSetAttribute", product, attribute, ctypes.byref(value), size)

    def layout(self, data: int, rows: int, columns: int) -> Handle:
        """A matrix, column by column, described once."""
        if (data, rows, columns) in self.layouts:
            return self.layouts[data, rows, columns]
        made = ctypes.c_void_p()
        sizes = ctypes.c_uint64(rows), ctypes.c_uint64(columns), ctypes.c_int64(rows)
        self.call("cublasLtMatrixLayoutCreate", ctypes.byref(made), data, *sizes)
        self.layouts[data, rows, columns] = made
        return made

    def choose(self, problem: Problem, product: Handle, layouts: Handles) -> Choice:
        """The library's best algorithm, asked for once: it may not be asked while a graph is captured."""
        key = problem, matmul_precision.current
        if key not in self.choices:
            preference, found, count = ctypes.c_void_p(), Choice(), ctypes.c_int(0)
            most = ctypes.c_size_t(WORKSPACE)
            self.call("cublasLtMatmulPreferenceCreate", ctypes.byref(preference))
            size = ctypes.c_size_t(ctypes.sizeof(most))
            self.call(
                "cublasLtMatmulPreferenceSetAttribute", preference, MAX_WORKSPACE, ctypes.byref(most), size
            )
            left, right, result = layouts
            self.call(
                "cublasLtMatmulAlgoGetHeuristic", self.handle, product, left, right, result, result,
                preference, 1, ctypes.byref(found), ctypes.byref(count),
            )  # fmt: skip
            if not count.value:
                raise DeviceError(f"cuBLAS: no algorithm for {problem}.")
            self.choices[key] = found
        return self.choices[key]


def worth(dtype: np.dtype) -> bool:
    """Whether the library computes products of a dtype."""
    return dtype.name in TYPES
