"""How hyperparameters change from one form of an optimizer to another, so that the steps stay the same.

A change takes hyperparameters by our names and the step t, from 1; t = inf for those of late steps. It raises
ValueError where no numbers do.
"""

import math
from collections.abc import Callable
from typing import Any

Options = dict[str, Any]
Change = Callable[[Options, float], Options]


def corrections(options: Options, t: float) -> tuple[float, float]:
    """1-β₁ᵗ and √(1-β₂ᵗ)."""
    return 1 - options["beta1"] ** t, math.sqrt(1 - options["beta2"] ** t)


def scaled(options: Options, lr: float = 1.0, eps: float = 1.0) -> Options:
    """lr and ε multiplied; weights still shrink by as much."""
    new = options | {"lr": options["lr"] * lr, "eps": options["eps"] * eps}
    return new | {"weight_decay": options["weight_decay"] / lr} if "weight_decay" in options else new


def to_raw_root(options: Options, t: float) -> Options:
    """ε beside √v̂ as ε beside √v."""
    return scaled(options, eps=corrections(options, t)[1])


def from_raw_root(options: Options, t: float) -> Options:
    """The way back."""
    return scaled(options, eps=1 / corrections(options, t)[1])


def to_uncorrected(options: Options, t: float) -> Options:
    """Adam's bias corrections taken into lr and ε."""
    first, second = corrections(options, t)
    return scaled(options, second / first, second)


def from_uncorrected(options: Options, t: float) -> Options:
    """The way back."""
    first, second = corrections(options, t)
    return scaled(options, first / second, 1 / second)


def summing(options: Options, t: float) -> Options:
    """From the averaging form: the velocity is m / (1-β)."""
    rest = {name: value for name, value in options.items() if name != "beta"}
    return rest | {"lr": options["lr"] * (1 - options["beta"]), "momentum": options["beta"]}


def averaging(options: Options, t: float) -> Options:
    """The way back."""
    rest = {name: value for name, value in options.items() if name != "momentum"}
    return rest | {"lr": options["lr"] / (1 - options["momentum"]), "beta": options["momentum"]}


def joined(options: Options, t: float) -> Options:
    """√(s + ε) with s from s₀ is √s with s from s₀ + ε."""
    start = options["initial_accumulator_value"] + options["eps"]
    return options | {"initial_accumulator_value": start, "eps": 0.0}


def parted(options: Options, t: float) -> Options:
    """The way back: all in the initial value, if there is no ε outside."""
    if options["eps"]:
        raise ValueError("no number inside the root does what eps does outside")
    return options


bridges: dict[tuple[str, str], Change] = {
    ("momentum", "sgd_momentum"): summing,
    ("sgd_momentum", "momentum"): averaging,
    ("sgd_momentum", "heavy_ball"): lambda o, t: o,
    ("heavy_ball", "sgd_momentum"): lambda o, t: o,
    ("adam", "adam_epsilon_hat"): to_raw_root,
    ("adam_epsilon_hat", "adam"): from_raw_root,
    ("adam", "adam_uncorrected"): to_uncorrected,
    ("adam_uncorrected", "adam"): from_uncorrected,
    ("adamw", "adam"): lambda o, t: o,
    ("adam", "adamw"): lambda o, t: o,
}
"""From the hyperparameters of one of our rules to those of another that then takes the same steps."""

apart = {
    "rmsprop": "√v + ε and √(v + ε²) differ, most at v = ε², where the steps differ by a factor of √2",
    "amsgrad": "the maximum of v is not the maximum of v / (1-β₂ᵗ)",
}
apart |= {"rmsprop_eps_inside": apart["rmsprop"], "amsgrad_corrected": apart["amsgrad"]}
"""Why no bridge leads to a rule from the others of its family."""
