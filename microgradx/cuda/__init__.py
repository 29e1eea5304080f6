"""CUDA: the device, its arrays, and kernels from text. The only room that imports `numba.cuda`.

In the order to read them: `devices` says what memory and a queue of kernels are, `nvidia` and `simulator` are
the two kinds that there are, `current` is that of this process; `array` makes arrays of its memory, `dlpack`
lends and borrows them; `build` makes machine code from text, `device_functions` are what the text calls,
`sweep` runs update rules, `cublas` multiplies matrices.
"""

from microgradx import familiar
from microgradx.cuda import build, cublas, sweep
from microgradx.cuda.array import Array
from microgradx.cuda.current import available, describe, device, simulated
from microgradx.cuda.devices import Shape

__all__ = ["Array", "Shape", "available", "build", "cublas", "describe", "device", "simulated", "sweep"]

__getattr__, __dir__ = familiar.of_package("cuda", __name__)
