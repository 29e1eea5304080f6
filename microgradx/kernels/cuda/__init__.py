"""CUDA: the device, its arrays, and kernels from text. The only room that imports `numba.cuda`.

In the order to read them: `memory` is what arrays are, `device` what they live on, `nvidia` and `simulator`
the two devices that there are; `build` makes machine code from text, `words` are the functions that the text
calls, `sweep` runs update rules, `cublas` multiplies matrices, `exchange` lends and borrows arrays.
"""

from microgradx.kernels.cuda import build, cublas
from microgradx.kernels.cuda.device import Shape, available, describe, device, simulated
from microgradx.kernels.cuda.memory import Array

__all__ = ["Array", "Shape", "available", "build", "cublas", "describe", "device", "simulated"]
