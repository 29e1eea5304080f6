"""The one optimizer: binds an update rule to parameters, group by group, through flat buffers."""

import copy
from collections.abc import Callable, Iterable
from inspect import Parameter, Signature
from typing import Any

import numpy as np

from microgradx.errors import ArgumentError, CheckpointError
from microgradx.kernels import sweep
from microgradx.optim.checks import check, compare, declared, named, read_options
from microgradx.optim.flat import Flat
from microgradx.rules import Rule
from microgradx.tensor import Tensor

optimizers: dict[str, type["Optimizer"]] = {}
"""Every optimizer class by its name in lower case: the command line and the tests follow this table."""

common = {"weight_decay": 0.0, "decoupled_weight_decay": False, "maximize": False}
"""What every sweep can do, besides its rule."""

pairs = {
    "betas": ("beta1", "beta2", "beta3"),
    "etas": ("etaminus", "etaplus"),
    "step_sizes": ("step_min", "step_max"),
}
"""PyTorch's tuples of options, and the hyperparameters in them."""


class Optimizer:
    """Any update rule as an optimizer: `Optimizer(params, my_rule, lr=0.1, weight_decay=0.01)`.

    `params` are tensors, (name, tensor) pairs as of `named_parameters()`, or groups: dicts of "params" and
    of options that differ from those given here. What is set in `param_groups` holds from the next step.
    Gradients add up until `zero_grad()`: several backward passes before a step accumulate.
    `check_finite=True` raises NonFiniteError before a NaN or infinite gradient touches anything.
    """

    options: dict[str, Any] = {}  # every option of a class and its default
    choose: Callable[..., Rule]  # from the options of a group to its rule

    def __init_subclass__(cls) -> None:
        options = declared(cls.choose).parameters
        cls.options = {name: option.default for name, option in options.items()}
        params = Parameter("params", Parameter.POSITIONAL_OR_KEYWORD)
        cls.__signature__ = Signature([params, *options.values()])  # type: ignore[attr-defined]
        optimizers[cls.__name__.lower()] = cls

    def __init__(self, params: Iterable[Any], *args: Any, check_finite: bool = False, **options: Any):
        self.name = type(self).__name__
        if type(self) is Optimizer:
            if not args or not isinstance(args[0], Rule):
                raise ArgumentError(
                    "Optimizer(params, rule, ...): the rule is a function declared with @mg.rule."
                )
            self.choose, args = always(args[0], **common | args[0].hyperparameters), args[1:]
        self.check_finite = check_finite
        self.defaults = read_options(self.name, self.choose, args, options)
        self.param_groups: list[dict[str, Any]] = []
        self.flats: list[list[Flat]] = []  # per group, one for each dtype
        self.followed: list[list] = []  # per group, the options that its flat buffers follow
        self.parameters: dict[str, Tensor] = {}
        if not isinstance(params, Tensor):
            params = list(params)
        grouped = isinstance(params, list) and params and isinstance(params[0], dict)
        for group in params if grouped else [{"params": params}]:
            self.add_param_group(group)
        if not self.parameters:
            raise ArgumentError(f"{self.name}: no parameters given; pass model.parameters().")

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{name}={value}' for name, value in self.defaults.items())})"

    def add_param_group(self, group: dict[str, Any]) -> None:
        """Add parameters with options of their own; those of an earlier group stay there."""
        if "params" not in group or group.keys() - self.defaults.keys() - {"params"}:
            raise ArgumentError(
                f'{self.name}: a group has "params" and may have {", ".join(self.defaults)}; '
                f"this one has {', '.join(map(str, group)) or 'nothing'}."
            )
        found = named(self.name, group["params"], self.parameters)
        for name, parameter in found.items():
            self.accept(name, parameter)
        group = self.defaults | group | {"params": list(found.values()), "param_names": list(found)}
        kinds = dict.fromkeys(parameter.dtype for parameter in found.values())
        flats = [Flat({n: p for n, p in found.items() if p.dtype == kind}) for kind in kinds]
        self.bind(group, flats)
        self.param_groups.append(group)
        self.flats.append(flats)
        self.followed.append([group[name] for name in self.defaults])
        self.parameters |= found

    def accept(self, name: str, parameter: Tensor) -> None:
        """Raise if this kind of optimizer cannot train the parameter."""

    def rule(self, group: dict[str, Any]) -> Rule:
        """The rule that a group's options ask for; the options are checked."""
        options = {name: group[name] for name in self.defaults}
        check(self.name, options)
        rule = self.choose(**options)
        for name in pairs.keys() & options.keys():
            count = len(rule.hyperparameters.keys() & pairs[name])
            if len(options[name]) != count:
                raise ArgumentError(f"{self.name}: {name} must be {count} numbers, got {options[name]}.")
        return rule

    def bind(self, group: dict[str, Any], flats: list[Flat]) -> None:
        """Give the flat buffers of a group the sweep and the hyperparameters that its options ask for."""
        rule, options = self.rule(group), dict(group)
        for name in pairs.keys() & options.keys():
            options.update(zip(pairs[name], options[name], strict=False))
        known = {name: options[name] for name in rule.hyperparameters if name in options}
        decay: str | None = "decoupled" if options.get("decoupled_weight_decay") else "l2"
        # a rule may have a decay of its own; one that does not know lr leaves both to its class
        theirs = "weight_decay" in known or (decay == "decoupled" and "lr" not in known)
        if theirs or not options.get("weight_decay"):
            decay = None
        else:
            known["weight_decay"] = options["weight_decay"]
        for flat in flats:
            flat.follow(sweep(rule, flat.dtype, maximize=options.get("maximize", False), decay=decay), known)

    def follow(self) -> None:
        """Bind the groups anew whose options have changed."""
        for i, group in enumerate(self.param_groups):
            options = [group[name] for name in self.defaults]
            if options != self.followed[i]:
                self.bind(group, self.flats[i])
                self.followed[i] = options

    def zero_grad(self) -> None:
        """Forget all gradients; the next backward pass writes over them."""
        for parameter in self.parameters.values():
            parameter._grad = None

    def step(self) -> None:
        """Update every parameter that has a gradient; the others, and their step counts, stay."""
        self.follow()
        jobs = [
            (group, flat, *run)
            for group, flats in zip(self.param_groups, self.flats, strict=True)
            for flat in flats
            for run in flat.gather()
        ]
        if self.check_finite:
            for _, flat, first, end in jobs:
                flat.check_finite(first, end)
        for job in jobs:
            self.advance(*job)

    def advance(self, group: dict[str, Any], flat: Flat, first: int, end: int) -> None:
        """One step of the parameters first to end - 1 of a flat buffer."""
        flat.sweep(first, end)

    def gradients(self) -> list[np.ndarray]:
        """All gradients that there are, as few long arrays (views): for clipping, for sharing."""
        every = [flat for flats in self.flats for flat in flats]
        return [f.gradients[f.starts[first] : f.starts[end]] for f in every for first, end in f.gather()]

    @property
    def state(self) -> dict[str, dict[str, Any]]:
        """By parameter name: the step count `t`, the rule's state (views) and its carried numbers."""
        return {name: record for flats in self.flats for f in flats for name, record in f.records().items()}

    def state_dict(self) -> dict[str, Any]:
        """A copy of all state by parameter name, and the options of the groups with their rule's name."""
        self.follow()
        groups = [group | {"rule": self.rule(group).name} for group in self.param_groups]
        for group in groups:
            del group["params"]
        return copy.deepcopy({"optimizer": self.name, "param_groups": groups, "state": self.state})

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Continue from a `state_dict()`. A CheckpointError names what does not fit; then nothing changed."""
        try:
            compare(self.name, outline(saved), outline(self.state_dict()))
            groups = copy.deepcopy(saved["param_groups"])
            for group in groups:
                tuples = [name for name, default in self.defaults.items() if isinstance(default, tuple)]
                group |= {name: tuple(group[name]) for name in tuples}  # JSON makes lists of them
                check(self.name, group)
        except (KeyError, TypeError, AttributeError, ArgumentError) as error:
            raise CheckpointError(f"{self.name}: this is no state of an optimizer: {error!r}.") from None
        for group, loaded, flats in zip(self.param_groups, groups, self.flats, strict=True):
            group |= {name: value for name, value in loaded.items() if name != "rule"}
            for flat in flats:
                flat.restore(saved["state"])


def outline(state: dict[str, Any]) -> dict[str, str]:
    """What two states must have in common: names, rules, shapes and dtypes, but not the numbers."""
    found = {"optimizer": state["optimizer"]}
    for i, group in enumerate(state["param_groups"]):
        found[f"rule of group {i}"] = group["rule"]
        found[f"parameters of group {i}"] = ", ".join(group["param_names"])
        found[f"options of group {i}"] = ", ".join(sorted(group.keys() - {"initial_lr"}))
    for name, record in state["state"].items():
        for key, value in record.items():
            array = isinstance(value, np.ndarray)
            found[f"{key} of {name}"] = f"{value.shape} {value.dtype}" if array else "a number"
    return found


def always(rule: Rule, **options: Any) -> Callable[..., Rule]:
    """A `choose` with these options and defaults that takes one rule; only lr may come by position."""

    def choose(**_: Any) -> Rule:
        return rule

    kinds = {name: Parameter.KEYWORD_ONLY for name in options} | {"lr": Parameter.POSITIONAL_OR_KEYWORD}
    ordered = sorted(options, key=lambda name: name != "lr")
    parameters = [Parameter(name, kinds[name], default=options[name]) for name in ordered]
    choose.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    return choose


def optimizer(choose: Rule | Callable[..., Rule], name: str = "", **defaults: Any) -> type[Optimizer]:
    """Make an optimizer class, of a rule or (as a decorator) of a function from options to a rule.

    A rule's hyperparameters become the options, in PyTorch's tuples; `defaults` differ from the rule's own.
    """
    doc, name = choose.__doc__, name or choose.__name__
    if isinstance(choose, Rule):
        options: dict[str, Any] = {}
        for own, default in choose.hyperparameters.items():
            pair = next((pair for pair, members in pairs.items() if own in members), None)
            options[pair or own] = (*options.get(pair, ()), default) if pair else default
        choose = always(choose, **common | options | defaults)
    space = {"choose": staticmethod(choose), "__doc__": doc, "__module__": "microgradx.optim"}
    return type(name, (Optimizer,), space)
