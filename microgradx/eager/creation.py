"""Tensors from scratch: from values, filled, counted or drawn at random.

All take `dtype` (float32 unless the values say otherwise), `device` and `requires_grad`.
"""

from typing import Any

import numpy as np

from microgradx.cuda import Array
from microgradx.cuda.dlpack import CPU
from microgradx.eager.mode import mode
from microgradx.eager.tensor import Tensor, as_dtype
from microgradx.errors import ArgumentError
from microgradx.kernels.random import generator
from microgradx.primitives.shapes import one_shape


def tensor(values, dtype=None, device=None, requires_grad: bool = False) -> Tensor:
    """A Tensor with a copy of the values; float32 for Python's numbers, else the dtype they have."""
    t = Tensor(values, dtype, device, requires_grad)
    if isinstance(values, Tensor):
        t._data = t.detach().clone()._data
    elif isinstance(t._data, np.ndarray) or t._data is values:  # else a copy on the device already
        t._data = t._data.copy()
    return t


def from_dlpack(x: Any) -> Tensor:
    """A Tensor that shares the memory of another library's array: NumPy's, PyTorch's, JAX's, CuPy's.

    On the CPU or on the GPU, by DLPack; nothing is copied.
    """
    if not hasattr(x, "__dlpack__"):
        raise ArgumentError(f"from_dlpack takes an array with __dlpack__, not {type(x).__name__}.")
    if x.__dlpack_device__()[0] == CPU:
        return Tensor(np.from_dlpack(x))
    return Tensor(Array.from_dlpack(x))


def full(shape, value, dtype=None, device=None, requires_grad: bool = False) -> Tensor:
    """A Tensor filled with one value."""
    kind = dtype or (mode.number if isinstance(value, float) else None)
    return Tensor(np.full(shape, value, kind and as_dtype(kind)), dtype, device, requires_grad)


def zeros(*shape, dtype=None, device=None, requires_grad: bool = False) -> Tensor:
    """Zeros: `zeros(2, 3)` or `zeros((2, 3))`."""
    return full(one_shape(shape), 0.0, dtype, device, requires_grad)


def ones(*shape, dtype=None, device=None, requires_grad: bool = False) -> Tensor:
    """Ones: `ones(2, 3)` or `ones((2, 3))`."""
    return full(one_shape(shape), 1.0, dtype, device, requires_grad)


def eye(n: int, m: int | None = None, dtype=None, device=None, requires_grad: bool = False) -> Tensor:
    """Ones on the diagonal of (n, m)."""
    return Tensor(np.eye(n, m, dtype=as_dtype(dtype or mode.number)), None, device, requires_grad)


def arange(start, stop=None, step=1, dtype=None, device=None, requires_grad: bool = False) -> Tensor:
    """Evenly spaced numbers as np.arange; int64 for integers, else float32."""
    values = np.arange(start, stop, step)  # without stop, NumPy counts from 0 to start
    kind = dtype or (mode.number if values.dtype.kind == "f" else None)
    return Tensor(values, kind, device, requires_grad)


def rand(*shape, dtype=None, device=None, requires_grad: bool = False) -> Tensor:
    """Uniform random numbers in [0, 1)."""
    options = {"shape": one_shape(shape), "low": 0, "high": 1, "dtype": as_dtype(dtype or mode.number)}
    return draw("uniform", options, device, requires_grad)


def randn(*shape, dtype=None, device=None, requires_grad: bool = False) -> Tensor:
    """Random numbers of the standard normal distribution."""
    options = {"shape": one_shape(shape), "dtype": as_dtype(dtype or mode.number)}
    return draw("normal", options, device, requires_grad)


def draw(method: str, options: dict[str, Any], device, requires_grad: bool) -> Tensor:
    """A Tensor of fresh random numbers, from a method of the generator."""
    recorded = mode.recorder is not None
    there = device == "cuda" and not recorded
    array = Array.draw(method, options) if there else getattr(generator, method)(**options)
    t = Tensor(array, None, device, requires_grad)
    if recorded:
        mode.recorder.drawn(t, method, options)
    return t
