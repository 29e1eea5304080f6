"""From numbers to arrays: the only rooms that know Numba and LLVM."""

from microgradx.kernels import cpu

__all__ = ["cpu"]
