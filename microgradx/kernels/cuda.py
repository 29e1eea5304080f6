"""Update rules and elementwise functions as CUDA kernels: one grid-stride launch over whole arrays.

The text of a kernel's body is the CPU loop's. Numba's simulator (NUMBA_ENABLE_CUDASIM=1) gives the same bits
as the CPU; a GPU may fuse a product and a sum into one rounding, so its last bit can differ. The only room
that imports `numba.cuda`.
"""

from collections.abc import Callable
from functools import cache
from types import FunctionType
from typing import Any

import numpy as np

from microgradx.errors import DeviceError
from microgradx.kernels import cpu
from microgradx.kernels.lift import Lifted, map_source
from microgradx.scalars import Elementwise

bounds, loop = "count", "range(cuda.grid(1), count, cuda.gridsize(1))"


def driver() -> Any:
    """The module `numba.cuda`, with a device or the simulator behind it."""
    try:
        from numba import cuda
    except Exception as error:  # a CUDA library that is missing or does not fit raises any kind
        raise DeviceError(f"CUDA: {error}. Install it with: pip install 'microgradx[cuda]'") from None
    if not cuda.is_available():
        raise DeviceError(
            "CUDA: no usable NVIDIA driver and device here. Use device='cpu', or set NUMBA_ENABLE_CUDASIM=1 "
            "before Python starts to run kernels, slowly, in Numba's simulator."
        )
    return cuda


def simulated() -> bool:
    """Whether kernels run in Numba's simulator."""
    from numba.core import config

    return bool(config.ENABLE_CUDASIM)  # type: ignore[attr-defined]


def describe() -> tuple[str, str]:
    """Where CUDA kernels run, and advice if they cannot."""
    try:
        cuda = driver()
    except DeviceError as error:
        text, _, advice = str(error).removeprefix("CUDA: ").partition(". ")
        return text, advice
    if simulated():
        return "Numba's simulator", ""
    device = cuda.get_current_device()
    name = device.name.decode() if isinstance(device.name, bytes) else device.name
    return f"{name}, compute capability {device.compute_capability}", ""


def load(source: str, name: str) -> Any:
    """A kernel from the text of a file; its other functions become part of it."""
    cuda = driver()
    from numba import njit

    names: dict[str, Any] = {}
    exec(compile(source, f"<{name} on CUDA>", "exec"), names)
    for key, value in list(names.items()):
        if simulated() and getattr(value, "__module__", "") == "math":
            names[key] = getattr(np, key, value)  # those of math would give float64
        elif not simulated() and isinstance(value, FunctionType) and key not in (name, "once"):
            names[key] = njit(value, inline="always")
    return cuda.jit(names[name])


def grid(count: int) -> tuple[int, int]:
    """Blocks and threads for so many elements; the loop strides, so any launch is right."""
    return (2, 4) if simulated() else (max(1, min(-(-count // 256), 4096)), 256)


class Sweep(cpu.Sweep):
    """An update rule over device arrays, in place, as one launch; called like the CPU's."""

    def compile(self, lifted: Lifted) -> tuple[str, Callable[..., None]]:
        """The text of the kernel, and the kernel."""
        source = lifted.source(bounds, loop)
        return source, load(source, "sweep")

    def bind(self, *arrays: Any) -> Callable[..., tuple]:
        """The update of these arrays, checked once."""
        size, cast = self.check(arrays), self.dtype.type

        def update(t: int, carried: tuple = (), **hyperparameters: Any) -> tuple:
            numbers, carried = self.numbers(t, carried, hyperparameters)
            self.run[grid(size)](size, *arrays, *[cast(number) for number in numbers])  # type: ignore[index]
            return carried

        return update


@cache
def map(function: Elementwise, dtype: str) -> Callable[..., None]:  # noqa: A001 - its name everywhere
    """An elementwise function as a kernel: `run(out, *inputs, **constants)` over 1-D arrays of `dtype`."""
    kernel = load(map_source(function, dtype, bounds, loop), "map")
    cast = np.dtype(dtype).type

    def run(out: Any, *inputs: Any, **constants: Any) -> None:
        values = (function.constants | constants).values()
        kernel[grid(out.size)](out.size, out, *inputs, *[cast(value) for value in values])

    return run
