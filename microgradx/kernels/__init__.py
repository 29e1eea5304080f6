"""From numbers to arrays: the only rooms that know Numba and LLVM.

`sweep(rule, dtype)` makes a compiled update of whole arrays from a rule. In the order to read them: `source`
and `loop_source` write its text, `jit` and `numba_target` turn text into machine code, `cache` keeps that,
`thread_pool` shares the elements among threads, `cpu` calls it. `runtime` and `blas` are for whole compiled
steps: the functions that these call, and matrix products. `random` is the generator of random numbers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from numpy.typing import DTypeLike

from microgradx.errors import ArgumentError, DTypeError
from microgradx.kernels import cpu, free_variables
from microgradx.kernels.thread_pool import set_threads, threads
from microgradx.rules import Rule

__all__ = ["set_threads", "sweep", "threads"]

sweeps: dict[str, Callable[..., cpu.Sweep]] = {"cpu": cpu.Sweep}
"""What makes the sweeps of a device."""


@functools.cache
def make(
    kind: Callable[..., cpu.Sweep], around: free_variables.FreeVariables, rule: Rule, dtype: str,
    options: tuple[str, ...],
) -> cpu.Sweep:  # fmt: skip
    """A sweep of one kind or the other, made once for what its rule reads outside of itself."""
    return kind(rule, dtype, options)


def sweep(
    rule: Rule, dtype: DTypeLike, maximize: bool = False, decay: str | None = None, device: str = "cpu"
) -> cpu.Sweep:
    """The update of whole arrays by a rule: `update(p, g, *state, t=1, carried=(), lr=..., ...)`, in place.

    `maximize` turns g around first; `decay` "l2" then adds weight_decay · p to it, "decoupled" multiplies p
    by 1 - lr · weight_decay. `update.source` is the text of the loop; `update.bind(p, g, *state)` gives the
    same update for these arrays alone, checked once. Numbers that the rule finds outside of itself, such as
    globals, are those of now: `update.outside.holds()` says whether they still are. ArgumentError for options
    that the rule cannot have, DTypeError for other dtypes than float32 and float64.

    >>> from microgradx.rules import rules
    >>> p, g = np.array([1, 2], np.float32), np.array([0.5, -0.5], np.float32)
    >>> update = sweep(rules["sgd"], np.float32)
    >>> update(p, g, t=1, lr=1)
    ()
    >>> p
    array([0.5, 2.5], dtype=float32)
    """
    name = np.dtype(dtype).name
    if name not in ("float32", "float64"):
        raise DTypeError(f"{rule.name}: parameters are {name}; a sweep is made for float32 and float64.")
    if decay not in (None, "l2", "decoupled"):
        raise ArgumentError(f"decay {decay!r}: the kinds are None, 'l2' and 'decoupled'.")
    if decay and "weight_decay" in rule.hyperparameters:
        raise ArgumentError(f"{rule.name} has a weight decay of its own; leave out decay={decay!r}.")
    if decay == "decoupled" and "lr" not in rule.hyperparameters:
        raise ArgumentError(f"{rule.name} has no lr, which decoupled weight decay is scaled by.")
    options = ("maximize",) * maximize + ((decay,) if decay else ())
    if device not in sweeps:
        raise ArgumentError(f"device {device!r}: the devices are {' and '.join(map(repr, sweeps))}.")
    return make(sweeps[device], free_variables.FreeVariables(rule.function), rule, name, options)
