"""What users hand over, checked: options against one table of ranges, parameters, saved states."""

import math
from collections.abc import Callable, Iterable
from inspect import Signature
from typing import Any

import numpy as np

from microgradx.eager.tensor import Tensor
from microgradx.errors import ArgumentError, CheckpointError
from microgradx.kernels.addresses import overlaps, span

Limit = tuple[str, Callable[[Any], bool]]


def one_of(*valid: Any) -> Limit:
    """One of a few values."""
    return " or ".join(map(repr, valid)), valid.__contains__


not_negative: Limit = ("a number of at least 0", lambda x: 0 <= x < math.inf)
part: Limit = ("in [0, 1]", lambda x: 0 <= x <= 1)
below_1: Limit = ("in [0, 1)", lambda x: 0 <= x < 1)
count: Limit = ("a whole number of at least 1", lambda x: x >= 1 and x % 1 == 0)

limits: dict[str, Limit] = {
    **dict.fromkeys(["lr", "weight_decay", "eps", "momentum", "alpha", "lr_decay"], not_negative),
    **dict.fromkeys(["momentum_decay", "initial_accumulator_value"], not_negative),
    **dict.fromkeys(["trust_coefficient", "max_lr", "min_lr"], not_negative),
    **dict.fromkeys(["rho", "factor", "end_factor", "pct_start"], part),
    **dict.fromkeys(["beta", "beta1", "beta2", "beta3", "decay"], below_1),
    **dict.fromkeys(["T_max", "T_0", "T_mult", "step_size", "total_iters", "total_steps", "steps"], count),
    "betas": ("numbers in [0, 1)", lambda x: all(0 <= beta < 1 for beta in x)),
    "etas": ("two numbers, 0 < etas[0] < 1 < etas[1]", lambda x: 0 < x[0] < 1 < x[1]),
    "start_factor": ("in (0, 1]", lambda x: 0 < x <= 1),
    "ns_steps": ("a whole number below 100", lambda x: 0 <= x < 100 and x % 1 == 0),
    "ns_coefficients": ("three numbers", lambda x: len(x) == 3),
    "adjust_lr_fn": one_of(None, "original", "match_rms_adamw"),
    "anneal_strategy": one_of("cos", "linear"),
    "Adafactor.eps": (
        "two numbers of at least 0, of which the first may be None",
        lambda x: len(x) == 2 and x[0] != math.inf and (x[0] is None or x[0] >= 0) and 0 <= x[1] < math.inf,
    ),
    "beta2_decay": ("a number of at most 0", lambda x: -math.inf < x <= 0),
    "d": ("a number of at least 1", lambda x: 1 <= x < math.inf),
    **dict.fromkeys(["tolerance_grad", "tolerance_change"], not_negative),
    **dict.fromkeys(["max_iter", "history_size"], count),
    "max_eval": ("None or a whole number of at least 1", lambda x: x is None or (x >= 1 and x % 1 == 0)),
    "line_search_fn": one_of(None, "strong_wolfe"),
    "mode": one_of("min", "max"),
    "threshold_mode": one_of("rel", "abs"),
}
"""What an option of a name, or of that name in one class, must be, in words and as a test; ranges are
PyTorch's where it has them."""


def check(owner: str, options: dict[str, Any]) -> None:
    """Raise for the first option that is outside its range."""
    for name, limit in [(name, limits.get(f"{owner}.{name}", limits.get(name))) for name in options]:
        if limit is None:
            continue
        words, holds = limit
        try:
            good = holds(options[name])
        except (TypeError, ValueError, IndexError):  # not a number at all, or too few
            good = False
        if not good:
            raise ArgumentError(f"{owner}: {name} must be {words}, got {options[name]!r}.")


def read_options(owner: str, signature: Signature, /, *args: Any, **options: Any) -> dict[str, Any]:
    """What a signature makes of the given options: all by name, with its defaults, checked."""
    try:
        bound = signature.bind(*args, **options)
    except TypeError as error:
        raise ArgumentError(f"{owner}: {error}; the options are {signature}.") from None
    bound.apply_defaults()
    check(owner, bound.arguments)
    return bound.arguments


def named(owner: str, given: Iterable[Any], taken: dict[str, Tensor]) -> dict[str, Tensor]:
    """New parameters by name, from tensors (named by position) or (name, tensor) pairs; `taken` are known."""
    if isinstance(given, Tensor):
        raise ArgumentError(f"{owner}: one tensor given where several are expected; put it into a list.")
    found = dict(taken)
    known = {id(parameter) for parameter in taken.values()}
    for item in given:
        name, parameter = item if isinstance(item, tuple) and len(item) == 2 else (str(len(known)), item)
        what = f"{owner}: parameter {name}"
        if not isinstance(parameter, Tensor):
            kind = type(parameter).__name__
            raise ArgumentError(f"{what} is a {kind}, not a tensor; pass model.parameters().")
        if id(parameter) in known:
            continue
        what += f" of shape {parameter.shape}"
        if not parameter.is_leaf:
            raise ArgumentError(f"{what} was computed from other tensors; pass those that it comes from.")
        if not (parameter.requires_grad or parameter._trained):  # of a module, a frozen one may come along
            raise ArgumentError(f"{what} does not require gradients; set requires_grad, or leave it out.")
        if name in found:
            raise ArgumentError(f"{what} has the name of another one; names must differ.")
        found[name] = parameter
        known.add(id(parameter))
    refuse_shared_memory(owner, found)
    return {name: parameter for name, parameter in found.items() if name not in taken}


def refuse_shared_memory(owner: str, parameters: dict[str, Tensor]) -> None:
    """ArgumentError for parameters with elements in the same memory: each gets a place of its own."""
    spans = [span(p._data, name, True) for name, p in parameters.items() if p.size]
    for a, b in overlaps(spans):
        one, other = (parameters[s.name]._data for s in (b, a))
        if not isinstance(one, np.ndarray) or np.shares_memory(one, other):
            what = f"{owner}: parameters {b.name} and {a.name} share memory, and would not any longer"
            raise ArgumentError(f"{what}. Pass one tensor for both, or give each a clone() of its own.")


def compare(owner: str, saved: Any, here: Any) -> None:
    """Raise a CheckpointError that names where two states differ in more than their numbers."""
    saved, here = outline(saved), outline(here)
    keys = [key for key in saved | here if saved.get(key) != here.get(key)]
    if keys:
        pairs = [f"{key}: saved {saved.get(key, 'nothing')}, here {here.get(key, 'nothing')}" for key in keys]
        raise CheckpointError(
            f"{owner}: the saved state does not fit ({len(keys)} differences). {'; '.join(pairs[:5])}. "
            "Build everything as it was when the state was saved."
        )


def outline(state: Any, path: str = "") -> dict[str, str]:
    """Path by path what a state holds: words, and the shapes and dtypes of arrays."""
    if isinstance(state, dict | list | tuple):
        items = state.items() if isinstance(state, dict) else enumerate(state)
        return {k: v for key, value in items for k, v in outline(value, f"{path} {key}".strip()).items()}
    if isinstance(state, np.ndarray):
        return {path: f"{state.shape} {state.dtype}"}
    return {path: state if isinstance(state, str) else "a number"}
