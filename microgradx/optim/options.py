"""Options of optimizers and schedules: what they mean, what they may be, and how a class declares them.

One table of meanings and one of ranges, both by name; docstrings and messages are made from them.
"""

import math
from collections.abc import Callable
from inspect import Parameter, Signature, cleandoc
from numbers import Real
from typing import Any

import numpy as np

from microgradx.errors import ArgumentError, guess, shown
from microgradx.familiar import fused

Option = Any  # a number, several, a word, a switch; or whatever a rule or schedule of the user's takes
Options = dict[str, Option]
Group = Options  # options, and under "params" and "param_names" what they are for
Limit = tuple[str, Callable[[Option], bool]]


def one_of(*valid: str | None) -> Limit:
    """One of a few values."""
    return " or ".join(map(repr, valid)), valid.__contains__


not_negative: Limit = ("a number of at least 0", lambda x: 0 <= x < math.inf)
part: Limit = ("in [0, 1]", lambda x: 0 <= x <= 1)
below_1: Limit = ("in [0, 1)", lambda x: 0 <= x < 1)
count: Limit = ("a whole number of at least 1", lambda x: 1 <= x < math.inf and x % 1 == 0 and x is not True)
number: Limit = ("a finite number", lambda x: isinstance(x, Real) and math.isfinite(x))
positive: Limit = ("a number above 0", lambda x: 0 < x < math.inf)
on_or_off: Limit = (
    "True or False",
    lambda x: isinstance(x, bool | np.bool_) or type(x) is int and x in (0, 1),
)
maybe: Limit = ("None or a whole number of at least 1", lambda x: x is None or (x >= 1 and x % 1 == 0))


def each(limit: Limit) -> Limit:
    """That, or a list of such, one for each group."""
    words, holds = limit
    many = lambda x: bool(x) and all(map(holds, x)) if isinstance(x, list | tuple) else holds(x)
    return f"{words}, or a list of such for each group", many


limits: dict[str, Limit] = {
    **dict.fromkeys(["lr", "weight_decay", "eps", "momentum", "alpha", "lr_decay"], not_negative),
    **dict.fromkeys(["momentum_decay", "initial_accumulator_value"], not_negative),
    **dict.fromkeys(["trust_coefficient", "min_lr"], not_negative),
    **dict.fromkeys(["max_lr", "base_lr"], each(not_negative)),
    **dict.fromkeys(["epochs", "steps_per_epoch", "OneCycleLR.total_steps", "step_size_down"], maybe),
    "step_size_up": count,
    "lr_lambda": each(("a function", callable)),
    "CyclicLR.mode": one_of("triangular", "triangular2", "exp_range"),
    "scale_mode": one_of("cycle", "iterations"),
    **dict.fromkeys(["rho", "factor", "end_factor", "pct_start"], part),
    **dict.fromkeys(["beta", "beta1", "beta2", "beta3", "decay"], below_1),
    **dict.fromkeys(["T_max", "T_0", "T_mult", "step_size", "total_iters", "total_steps", "steps"], count),
    "betas": ("numbers in [0, 1)", lambda x: all(0 <= beta < 1 for beta in x)),
    "etas": ("two numbers, 0 < etas[0] < 1 < etas[1]", lambda x: 0 < x[0] < 1 < x[1]),
    "start_factor": ("in (0, 1]", lambda x: 0 < x <= 1),
    "ns_steps": ("a whole number below 100", lambda x: 0 <= x < 100 and x % 1 == 0),
    "ns_coefficients": ("three numbers", lambda x: len(x) == 3 and all(map(number[1], x))),
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
    "max_eval": maybe,
    "line_search_fn": one_of(None, "strong_wolfe"),
    "mode": one_of("min", "max"),
    **dict.fromkeys(["gamma", "eta_min", "threshold"], number),
    **dict.fromkeys(["power", "patience", "cooldown"], ("a number of at least 0", lambda x: x >= 0)),
    **dict.fromkeys(["div_factor", "final_div_factor"], positive),
    **dict.fromkeys(["base_momentum", "max_momentum"], part),
    "step_sizes": (
        "two numbers, 0 <= step_sizes[0] <= step_sizes[1]",
        lambda x: len(x) == 2 and 0 <= x[0] <= x[1],
    ),
    "milestones": ("whole numbers of steps", lambda x: all(n >= 0 and n % 1 == 0 for n in x)),
    "threshold_mode": one_of("rel", "abs"),
}
"""What an option of a name, or of that name in one class, must be, in words and as a test; ranges are
PyTorch's where it has them."""


def check(owner: str, options: Options, defaults: Options = {}) -> None:  # noqa: B006 - never changed
    """Raise for the first option that is outside its range, or not of the kind of its default."""
    for name, value in options.items():
        words, holds = limit_of(owner, name, defaults.get(name))
        try:
            single = isinstance(value, Real) or type(defaults.get(name)) not in (float, int)
            good = single and bool(holds(value))
        except Exception:  # not a number at all, or too few
            good = False
        if not good:
            raise ArgumentError(f"{owner}: {name} must be {words}, got {shown(value)}.")


def limit_of(owner: str, name: str, default: Option) -> Limit:
    """What an option may be: what the table says, else what is of the kind of its default."""
    if found := limits.get(f"{owner}.{name}", limits.get(name)):
        return found
    kinds = {bool: on_or_off, float: number, int: number}
    return kinds.get(type(default), ("anything", lambda x: True))


def read_options(owner: str, signature: Signature, /, *args: Option, **options: Option) -> Options:
    """What a signature makes of the given options: all by name, with its defaults, checked."""
    try:
        bound = signature.bind(*args, **options)
    except TypeError as error:
        if how := next((fused[name] for name in options if name in fused), ""):
            how = f" Leave that out: {how}."
        own = [p for p in signature.parameters.values() if p.kind is not Parameter.POSITIONAL_ONLY]
        how = how or next(
            (guess(name, (p.name for p in own)) for name in options if name not in signature.parameters), ""
        )
        takes = Signature(own)
        raise ArgumentError(f"{owner}: {error}; the options are {takes}.{how}") from None
    bound.apply_defaults()
    check(owner, bound.arguments, {p.name: p.default for p in signature.parameters.values()})
    return bound.arguments


tuples = {"beta1": "betas", "beta2": "betas", "beta3": "betas", "etaminus": "etas", "etaplus": "etas"}
tuples |= {"step_min": "step_sizes", "step_max": "step_sizes"}
"""Hyperparameters that are part of one of PyTorch's tuples."""

common = {"weight_decay": 0.0, "decoupled_weight_decay": False, "maximize": False}
"""What every sweep can do, besides its rule."""


def of_rule(owner: str, own: Options, options: Options) -> tuple[Options, str | None]:
    """The hyperparameters of a rule that options ask for, and which decay of the weights beside it.

    own: the rule's, with their defaults. ArgumentError for a tuple of the wrong length.
    """
    given = dict(options)
    for name in [name for name in options if name in tuples.values()]:
        members, values = [key for key in own if tuples.get(key) == name], options[name]
        if len(values) != len(members):
            raise ArgumentError(f"{owner}: {name} must be {len(members)} numbers, got {values}.")
        given |= zip(members, values, strict=True)
    numbers = {name: given[name] for name in own if name in given}
    decay = "decoupled" if options.get("decoupled_weight_decay") else "l2"
    # a rule may have a decay of its own; one that does not know lr leaves both to its class
    alone = "weight_decay" in own or (decay == "decoupled" and "lr" not in own)
    if alone or not options.get("weight_decay"):
        return numbers, None
    return numbers | {"weight_decay": options["weight_decay"]}, decay


def declare(options: Options) -> Signature:
    """What a class takes: params and two options by position too, in PyTorch's order."""
    kinds = [Parameter.POSITIONAL_OR_KEYWORD] * 3 + [Parameter.KEYWORD_ONLY] * len(options)
    names, defaults = ["params", *options], [Parameter.empty, *options.values()]
    return Signature([Parameter(n, k, default=d) for n, k, d in zip(names, kinds, defaults, strict=False)])


meanings = {
    "lr": "the learning rate: the length of a step, in units of the direction",
    "momentum": "how much of the velocity is left after a step; 0 for none",
    "dampening": "the part of each new gradient, after the first, that does not enter the velocity",
    "nesterov": "take the gradient as it will be after one more step of the velocity",
    "alpha": "how much of the mean of g² is left after a step",
    "ASGD.alpha": "the power with which the learning rate decays",
    "eps": "added to what divides, where that is small",
    "Adafactor.eps": "the least root of a mean square, and the least size of weights that scales steps",
    "centered": "divide by the deviation of the gradient instead of its size",
    "betas": "how much of each mean is left after a step, of g first",
    "beta": "how much of the mean gradient is left after a step",
    "amsgrad": "divide by the largest mean of g² so far: arXiv 1904.09237",
    "bias_correction": "make up for means that start at zero",
    "lr_decay": "the learning rate is divided by 1 + lr_decay · (t - 1)",
    "initial_accumulator_value": "where the sum of g² starts",
    "rho": "how much of both means of squares is left after a step",
    "momentum_decay": "how fast the momentum reaches its full strength",
    "etas": "what a step is multiplied by where the sign of the gradient changes, and where it stays",
    "step_sizes": "the least and the largest step",
    "lambd": "how fast weights and learning rate decay",
    "t0": "the step from which weights are averaged",
    "max_iter": "iterations in one step",
    "max_eval": "evaluations of the closure in one step; None: 5/4 max_iter",
    "tolerance_grad": "a step ends where no number of the gradient is above this",
    "tolerance_change": "a step ends where loss, or all weights, change by less",
    "history_size": "pairs of steps and gradient changes that are kept",
    "line_search_fn": "how the length of a move is found; None: it is lr",
    "trust_coefficient": "the length of a layer's step in units of its weights, at lr = 1",
    "ns_coefficients": "of the polynomial that drives singular values to 1",
    "ns_steps": "iterations of that polynomial",
    "adjust_lr_fn": "how steps depend on a matrix's shape; match_rms_adamw: arXiv 2502.16982",
    "beta2_decay": "the newest g² weighs t^beta2_decay in the mean",
    "d": "the largest root of the mean square of an update",
    "weight_decay": "by how much weights shrink, in units of lr",
    "decoupled_weight_decay": "shrink weights on their own instead of through the gradient: arXiv 1711.05101",
    "maximize": "climb instead of descend",
    "factor": "what the learning rate is multiplied by",
    "total_iters": "steps until the end of the change",
    "start_factor": "what the learning rate is multiplied by at first",
    "end_factor": "what the learning rate is multiplied by at the end",
    "power": "of the polynomial; 1 is a straight line",
    "gamma": "what the learning rate is multiplied by each time",
    "step_size": "steps between two changes",
    "milestones": "the steps at which it changes",
    "lr_lambda": "from the step to a factor",
    "T_max": "steps of half a wave",
    "eta_min": "the least learning rate",
    "T_0": "steps of the first half wave",
    "T_mult": "how many times as long each half wave is as the last",
    "steps": "steps until the full learning rate",
    "after": "the schedule that follows",
    "schedulers": "the schedules, each made with the same optimizer",
    "max_lr": "the highest learning rate",
    "total_steps": "steps of the whole cycle",
    "epochs": "in which all steps of the cycle are",
    "steps_per_epoch": "steps in each of them",
    "base_lr": "the lowest learning rate",
    "step_size_up": "steps up",
    "step_size_down": "steps down; None: as many as up",
    "CyclicLR.mode": "what becomes of the height of the cycles",
    "scale_fn": "a function for the height of a cycle, instead of mode",
    "scale_mode": "what that function gets: the number of the cycle, or of the step",
    "pct_start": "the part of the cycle that goes up",
    "anneal_strategy": "the shape of the way between two rates",
    "cycle_momentum": "move the momentum against the learning rate",
    "base_momentum": "the least momentum, at max_lr",
    "max_momentum": "the largest momentum, at both ends",
    "div_factor": "max_lr over the learning rate at the start",
    "final_div_factor": "the learning rate at the start over that at the end",
    "three_phase": "go down as fast as up, then to the end",
    "mode": "whether a smaller or a larger metric is better",
    "patience": "steps without a better metric that are let pass",
    "threshold": "by how much a metric must be better",
    "threshold_mode": "whether that is a part of the best, or a number",
    "cooldown": "steps after a change that do not count",
    "min_lr": "the least learning rate",
    "ReduceLROnPlateau.eps": "a smaller change of the learning rate is not made",
}
"""What an option of a name, or of that name in one class, does."""


def documented(owner: str, text: str, options: Options, example: str) -> str:
    """The docstring of a class: what is written for it, its options, and an example if there is none yet."""
    words, mark, given = cleandoc(text).partition(">>> ")
    lines = [words.rstrip(), "", "Options:"]
    for name, default in options.items():
        meaning = meanings.get(f"{owner}.{name}", meanings.get(name))
        limit, _ = limits.get(f"{owner}.{name}", limits.get(name, (None, None)))
        shown = name if default is Parameter.empty else f"{name}={default!r}"
        lines.append(f"    {shown}: {'; '.join(filter(None, [meaning, limit])) or 'see the rule'}")
    lines += ["", "ArgumentError for an option that is out of its range, or that there is none of.", ""]
    return "\n".join([*lines, mark + given or example])
