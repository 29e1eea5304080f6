"""What estimators are made with: checked, and under scikit-learn's names where it has others."""

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import numpy as np

from microgradx.data import hold_out
from microgradx.eager.tensor import Tensor
from microgradx.errors import ArgumentError, DataError, few, guess, number, one_of, shown
from microgradx.optim import Optimizer, Schedule, optimizers, plans
from microgradx.optim.options import Option
from microgradx.training.checks import takes

Plan = Callable[[Optimizer, int], Schedule]
Named = TypeVar("Named")


def identity(x: Tensor) -> Tensor:
    """x itself."""
    return x


ACTIVATIONS: dict[str, str | Callable[[Tensor], Tensor]] = {"logistic": "sigmoid", "identity": identity}
"""scikit-learn's names of activations that nn has under another, or does not need."""

THEIRS = {
    "solver": "optimizer=",
    "alpha": 'optimizer_options={"weight_decay": ...}',
    **dict.fromkeys(["learning_rate_init", "lr"], "learning_rate="),
    "power_t": 'schedule="polynomial"',
    "momentum": 'optimizer="momentum", optimizer_options={"momentum": ...}',
    "nesterovs_momentum": 'optimizer="momentum", optimizer_options={"nesterov": True}',
    **dict.fromkeys(["beta_1", "beta_2"], 'optimizer_options={"betas": (..., ...)}'),
    "epsilon": 'optimizer_options={"eps": ...}',
    "tol": "early_stopping=True",
    "shuffle": "nothing, since each pass has an order of its own,",
    "max_fun": 'optimizer_options={"max_eval": ...}',
}
"""Its parameters that have other names, or are options of the optimizer: what to write."""


def unknown(given: Iterable[str], valid: Iterable[str]) -> tuple[str, str]:
    """The first name that is none of the valid ones, and what to write instead: ("", "") where all are."""
    names = list(valid)
    for name in given:
        if name not in names:
            if name in THEIRS:
                return name, f": write {THEIRS[name]} here."
            return name, f".{guess(name, names) or f' There are {few(names, len(names))}.'}"
    return "", ""


def named(what: str, name: object, table: Mapping[str, Named]) -> Named:
    """What a table holds under a name; ArgumentError where it has none."""
    if not isinstance(name, str):
        raise ArgumentError(f"{what} is a name, not {shown(name)}. Choose from {', '.join(sorted(table))}.")
    if name not in table:
        raise ArgumentError(one_of(what, name, sorted(table)))
    return table[name]


def activation_of(given: object) -> str | Callable[..., Tensor]:
    """A name of nn's, or a function; ArgumentError for what is neither a name nor can be called."""
    if isinstance(given, str):
        return ACTIVATIONS.get(given, given)
    if not callable(given):
        raise ArgumentError(f"activation is a name, such as 'relu', or a function, not {shown(given)}.")
    return given


def optimizer_of(name: object, rate: object, options: object) -> Callable[..., Optimizer]:
    """What makes the optimizer of parameters, with its options."""
    kind = named("optimizer", name, optimizers)
    if options is not None and not (isinstance(options, dict) and all(isinstance(k, str) for k in options)):
        raise ArgumentError(f'optimizer_options is a dict, such as {{"eps": 1e-7}}, not {shown(options)}.')
    if isinstance(rate, str):
        change = 'schedule="plateau"' if rate == "adaptive" else "schedule="
        raise ArgumentError(f"learning_rate is a number, not {rate!r}; how it changes is {change}.")
    found: dict[str, Option] = dict(options or {}) | ({} if rate is None else {"lr": rate})
    return lambda parameters: kind(parameters, **found)


def plan_of(schedule: object) -> Plan:
    """What makes the schedule of an optimizer for so many steps."""
    if isinstance(schedule, str):
        return named("schedule", schedule, plans)
    if not callable(schedule) or not takes(schedule, None, None):
        form = "a name, such as 'cosine', or a function of the optimizer and the number of steps"
        raise ArgumentError(f"schedule is {form}, not {shown(schedule)}.")
    return schedule


def class_weight_of(given: object) -> object:
    """None, "balanced" or {class: weight}; ArgumentError for anything else."""
    good = given is None or isinstance(given, str) and given == "balanced"
    if not good and not isinstance(given, dict):
        raise ArgumentError(f"class_weight is None, 'balanced' or {{class: weight}}, not {shown(given)}.")
    if isinstance(given, dict):
        for label, weight in given.items():
            number(f"class_weight of the class {label!r}", weight, "[0, inf)")
    return given


def set_aside(rows: np.ndarray, targets: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """The rows to learn from and those held out for early stopping, so large a share of them."""
    number("validation_fraction", share, "(0, 1)")
    try:
        (kept, _), (held, _) = hold_out(rows[:, None], targets[rows], share)
    except DataError as error:
        what = str(error).replace("test=", "early_stopping: validation_fraction=")
        raise DataError(what) from None
    return kept[:, 0], held[:, 0]
