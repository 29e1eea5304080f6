"""The compiler: a training step, captured once, compiled whole into one readable Numba program."""

from microgradx.codegen.passes import lowerings  # noqa: F401 - the rules that `lower` follows
from microgradx.codegen import cuda_operations  # noqa: F401 - operations on a GPU's arrays
from microgradx.compiler.run.step import Step, jit

__all__ = ["Step", "jit"]
