"""What users hand over, checked: options against one table of ranges, parameters, saved states."""

import inspect
import math
from collections.abc import Callable, Iterable
from typing import Any

from microgradx.errors import ArgumentError, CheckpointError, DTypeError
from microgradx.tensor import Tensor

limits: dict[str, tuple[str, Callable[[Any], bool]]] = {
    name: (words, holds)
    for names, words, holds in [
        ("lr max_lr weight_decay eps momentum alpha", "a number of at least 0", lambda x: 0 <= x < math.inf),
        ("lr_decay momentum_decay trust_coefficient", "a number of at least 0", lambda x: 0 <= x < math.inf),
        ("initial_accumulator_value min_lr eta_min", "a number of at least 0", lambda x: 0 <= x < math.inf),
        ("rho factor end_factor pct_start", "in [0, 1]", lambda x: 0 <= x <= 1),
        ("start_factor", "in (0, 1]", lambda x: 0 < x <= 1),
        ("beta beta1 beta2 beta3 decay", "in [0, 1)", lambda x: 0 <= x < 1),
        ("betas", "numbers in [0, 1)", lambda x: len(x) >= 2 and all(0 <= beta < 1 for beta in x)),
        ("etas", "two numbers, 0 < etas[0] < 1 < etas[1]", lambda x: len(x) == 2 and 0 < x[0] < 1 < x[1]),
        ("T_max T_0 T_mult step_size", "a whole number of at least 1", lambda x: x >= 1 and x % 1 == 0),
        ("total_iters total_steps steps", "a whole number of at least 1", lambda x: x >= 1 and x % 1 == 0),
        ("ns_steps", "a whole number below 100", lambda x: 0 <= x < 100 and x % 1 == 0),
        ("ns_coefficients", "three numbers", lambda x: len(x) == 3),
        (
            "adjust_lr_fn",
            "None, 'original' or 'match_rms_adamw'",
            {None, "original", "match_rms_adamw"}.__contains__,
        ),
        ("anneal_strategy", "'cos' or 'linear'", {"cos", "linear"}.__contains__),
        ("mode", "'min' or 'max'", {"min", "max"}.__contains__),
        ("threshold_mode", "'rel' or 'abs'", {"rel", "abs"}.__contains__),
    ]
    for name in names.split()
}
"""What an option of a name must be, in words and as a test; ranges are PyTorch's where it has them."""


def check(owner: str, options: dict[str, Any]) -> None:
    """Raise for the first option that is outside its range."""
    for name in options.keys() & limits.keys():
        words, holds = limits[name]
        try:
            good = holds(options[name])
        except TypeError:  # not a number at all
            good = False
        if not good:
            raise ArgumentError(f"{owner}: {name} must be {words}, got {options[name]!r}.")


def declared(function: Callable) -> inspect.Signature:
    """The options that a definition declares: its parameters, but not the positional-only ones."""
    signature = inspect.signature(function)
    return signature.replace(
        parameters=[p for p in signature.parameters.values() if p.kind is not p.POSITIONAL_ONLY]
    )


def bind(owner: str, function: Callable, args: tuple, options: dict[str, Any]) -> dict[str, Any]:
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
    """Parameters by name, from tensors (named by position) or (name, tensor) pairs.

    The same parameter twice, or also in `taken`, counts once.
    """
    if isinstance(given, Tensor):
        raise ArgumentError(f"{owner}: one tensor given where several are expected; put it into a list.")
    found = dict(taken or {})
    known = set(map(id, found.values()))
    for item in given:
        name, parameter = item if isinstance(item, tuple) and len(item) == 2 else (str(len(found)), item)
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
            raise ArgumentError(
                f"{what} does not require gradients; set requires_grad = True or leave it out."
            )
        if name in found:
            raise ArgumentError(f"{what} has the name of another one; names must differ.")
        found[name] = parameter
        known.add(id(parameter))
    return {name: parameter for name, parameter in found.items() if name not in (taken or {})}


def compare(owner: str, saved: dict[str, Any], here: dict[str, Any]) -> None:
    """Raise a CheckpointError that names what differs between the outlines of two states."""
    differences = [
        f"{key}: saved {saved.get(key, 'nothing')}, here {here.get(key, 'nothing')}"
        for key in saved | here
        if saved.get(key) != here.get(key)
    ]
    if differences:
        more = f"; and {len(differences) - 5} more" if len(differences) > 5 else ""
        raise CheckpointError(
            f"{owner}: the saved state does not fit. {'; '.join(differences[:5])}{more}. "
            "Build everything as it was when the state was saved."
        )
