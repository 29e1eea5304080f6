"""How hyperparameters change from one form of an optimizer to another, so that the steps stay the same.

A change takes hyperparameters by our names and the step t, from 1; t = inf for those of late steps. It raises
ValueError where no numbers do.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from microgradx.optim.options import Options

Move = Callable[[Options, float], Options]
Factors = Callable[[Options, float], dict[str, float]]


class Change(NamedTuple):
    """From one form's hyperparameters to another's, and back."""

    there: Move
    back: Move


def scaling(factors: Factors, **names: str) -> Change:
    """Hyperparameters times numbers that depend on the others; `names` are those that are called otherwise.

    Weights still shrink by as much: where lr is multiplied, weight_decay is divided.
    """

    def scaled(options: Options, by: dict[str, float]) -> Options:
        found = options | {name: options[name] * factor for name, factor in by.items()}
        if "lr" in by and "weight_decay" in options:
            found["weight_decay"] = options["weight_decay"] / by["lr"]
        return found

    def renamed(options: Options, names: dict[str, str]) -> Options:
        return {names.get(name, name): value for name, value in options.items()}

    def there(options: Options, t: float) -> Options:
        return renamed(scaled(options, factors(options, t)), names)

    def back(options: Options, t: float) -> Options:
        options = renamed(options, {theirs: ours for ours, theirs in names.items()})
        return scaled(options, {name: 1 / factor for name, factor in factors(options, t).items()})

    return Change(there, back)


def root(options: Options, t: float) -> float:
    """√(1-β₂ᵗ), by which √v̂ is longer than √v."""
    return math.sqrt(1 - options["beta2"] ** t)


def into_lr_and_eps(options: Options, t: float) -> dict[str, float]:
    """Adam's bias corrections, taken into lr and ε."""
    return {"lr": root(options, t) / (1 - options["beta1"] ** t), "eps": root(options, t)}


def in_sum(options: Options, t: float) -> Options:
    """All of ε in what the sum starts from, if there is none outside."""
    if options["eps"]:
        raise ValueError("no number inside the root does what eps does outside")
    return options


def in_start(options: Options, t: float) -> Options:
    """√(s + ε) with s from s₀ is √s with s from s₀ + ε."""
    start = options["initial_accumulator_value"] + options["eps"]
    return options | {"initial_accumulator_value": start, "eps": 0.0}


same = scaling(lambda o, t: {})
raw_root = scaling(lambda o, t: {"eps": root(o, t)})  # ε beside √v instead of √v̂
uncorrected = scaling(into_lr_and_eps)
summing = scaling(lambda o, t: {"lr": 1 - o["beta"]}, beta="momentum")  # the velocity is m / (1-β)
decay_apart = scaling(lambda o, t: {"weight_decay": o["lr"]})  # weights shrink by λ alone, not by lr · λ
eps_in_root = Change(in_sum, in_start)

ways = {
    ("momentum", "sgd_momentum"): summing,
    ("sgd_momentum", "heavy_ball"): same,
    ("adam", "adam_epsilon_hat"): raw_root,
    ("adam", "adam_uncorrected"): uncorrected,
    ("adam", "adamw"): same,
}
bridges: dict[tuple[str, str], Move] = {pair: change.there for pair, change in ways.items()}
bridges |= {(b, a): change.back for (a, b), change in ways.items()}
"""From the hyperparameters of one of our rules to those of another that then takes the same steps."""

apart = {
    "rmsprop": "√v + ε and √(v + ε²) differ, most at v = ε², where the steps differ by a factor of √2",
    "amsgrad": "the maximum of v is not the maximum of v / (1-β₂ᵗ)",
}
apart |= {"rmsprop_eps_inside": apart["rmsprop"], "amsgrad_corrected": apart["amsgrad"]}
"""Why no bridge leads to a rule from the others of its family."""
