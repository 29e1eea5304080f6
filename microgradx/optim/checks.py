"""What users hand over, checked: options against one table of ranges, parameters, saved states."""

import inspect
import math
from collections.abc import Callable, Iterable
from typing import Any

from microgradx.errors import ArgumentError, CheckpointError, DTypeError
from microgradx.tensor import Tensor

Limit = tuple[str, Callable[[Any], bool]]
not_negative: Limit = ("a number of at least 0", lambda x: 0 <= x < math.inf)
part: Limit = ("in [0, 1]", lambda x: 0 <= x <= 1)
below_1: Limit = ("in [0, 1)", lambda x: 0 <= x < 1)
count: Limit = ("a whole number of at least 1", lambda x: x >= 1 and x % 1 == 0)

limits: dict[str, Limit] = {
    **dict.fromkeys(
        ["lr", "weight_decay", "eps", "momentum", "alpha", "lr_decay", "momentum_decay"], not_negative
    ),
    **dict.fromkeys(["initial_accumulator_value", "trust_coefficient", "max_lr", "min_lr"], not_negative),
    **dict.fromkeys(["rho", "factor", "end_factor", "pct_start"], part),
    **dict.fromkeys(["beta", "beta1", "beta2", "beta3", "decay"], below_1),
    **dict.fromkeys(["T_max", "T_0", "T_mult", "step_size", "total_iters", "total_steps", "steps"], count),
    "betas": ("numbers in [0, 1)", lambda x: all(0 <= beta < 1 for beta in x)),
    "etas": ("two numbers, 0 < etas[0] < 1 < etas[1]", lambda x: 0 < x[0] < 1 < x[1]),
    "start_factor": ("in (0, 1]", lambda x: 0 < x <= 1),
    "ns_steps": ("a whole number below 100", lambda x: 0 <= x < 100 and x % 1 == 0),
    "ns_coefficients": ("three numbers", lambda x: len(x) == 3),
    "adjust_lr_fn": (
        "None, 'original' or 'match_rms_adamw'",
        (None, "original", "match_rms_adamw").__contains__,
    ),
    "anneal_strategy": ("'cos' or 'linear'", ("cos", "linear").__contains__),
    "mode": ("'min' or 'max'", ("min", "max").__contains__),
    "threshold_mode": ("'rel' or 'abs'", ("rel", "abs").__contains__),
}
"""What an option of a name must be, in words and as a test; ranges are PyTorch's where it has them."""


def check(owner: str, options: dict[str, Any]) -> None:
    """Raise for the first option that is outside its range."""
    for name, value in options.items():
        words, holds = limits.get(name, ("", lambda _: True))
        try:
            good = holds(value)
        except (TypeError, ValueError, IndexError):  # not a number at all, or too few
            good = False
        if not good:
            raise ArgumentError(f"{owner}: {name} must be {words}, got {value!r}.")


def declared(function: Callable) -> inspect.Signature:
    """The options that a definition declares: its parameters, but not the positional-only ones."""
    signature = inspect.signature(function)
    options = [p for p in signature.parameters.values() if p.kind is not p.POSITIONAL_ONLY]
    return signature.replace(parameters=options)


def read_options(owner: str, function: Callable, args: tuple, options: dict[str, Any]) -> dict[str, Any]:
    """The options that a definition declares, the given ones over its defaults, checked."""
    signature = declared(function)
    try:
        bound = signature.bind(*args, **options)
    except TypeError as error:
        raise ArgumentError(f"{owner}: {error}; the options are {signature}.") from None
    bound.apply_defaults()
    check(owner, bound.arguments)
    return bound.arguments


def named(owner: str, given: Iterable[Any], taken: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
    """New parameters by name, from tensors (named by position) or (name, tensor) pairs; `taken` are known."""
    if isinstance(given, Tensor):
        raise ArgumentError(f"{owner}: one tensor given where several are expected; put it into a list.")
    found: dict[str, Tensor] = {}
    taken = taken or {}
    known = set(map(id, taken.values()))
    for item in given:
        name, parameter = item if isinstance(item, tuple) and len(item) == 2 else (str(len(known)), item)
        if not isinstance(parameter, Tensor):
            raise ArgumentError(
                f"{owner}: parameter {name} is a {type(parameter).__name__}, not a tensor; "
                "pass model.parameters() or model.named_parameters()."
            )
        if id(parameter) in known:
            continue
        what = f"{owner}: parameter {name} of shape {parameter.shape}"
        if parameter.dtype.kind != "f":
            raise DTypeError(f"{what} holds {parameter.dtype}; only floating-point numbers can be trained.")
        if not parameter.is_leaf:
            raise ArgumentError(f"{what} was computed from other tensors; pass those that it comes from.")
        if not parameter.requires_grad:
            raise ArgumentError(f"{what} does not require gradients; set requires_grad, or leave it out.")
        if name in found or name in taken:
            raise ArgumentError(f"{what} has the name of another one; names must differ.")
        found[name] = parameter
        known.add(id(parameter))
    return found


def compare(owner: str, saved: dict[str, Any], here: dict[str, Any]) -> None:
    """Raise a CheckpointError that names what differs between the outlines of two states."""
    keys = [key for key in saved | here if saved.get(key) != here.get(key)]
    if keys:
        pairs = [
            f"{key}: saved {saved.get(key, 'nothing')}, here {here.get(key, 'nothing')}" for key in keys[:5]
        ]
        more = f"; and {len(keys) - 5} more" if len(keys) > 5 else ""
        raise CheckpointError(
            f"{owner}: the saved state does not fit. {'; '.join(pairs)}{more}. "
            "Build everything as it was when the state was saved."
        )
