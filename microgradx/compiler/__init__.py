"""The compiler: a training step, captured once, compiled whole into one readable Numba program."""

from microgradx.codegen.passes import lowerings  # noqa: F401 - the rules that `lower` follows
from microgradx.compiler.run.step import Step, jit

__all__ = ["Step", "jit"]
