"""CUDA: the device, its arrays, and kernels from text. The only room that imports `numba.cuda`.

In the order to read them: `memory` is what arrays are, `device` what they live on, `nvidia` and `simulator`
the two devices that there are; `build` makes machine code from text, `device_functions` are what the text
calls, `sweep` runs update rules, `cublas` multiplies matrices, `dlpack` lends and borrows arrays.
"""

from microgradx.cuda import build, cublas, sweep
from microgradx.cuda.device import Shape, available, describe, device, simulated
from microgradx.cuda.memory import Array

__all__ = ["Array", "Shape", "available", "build", "cublas", "describe", "device", "simulated", "sweep"]
