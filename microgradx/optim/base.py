"""The one optimizer: binds an update rule to parameters, group by group, through flat buffers."""

import copy
import warnings
from collections.abc import Callable, Iterable
from inspect import Parameter, Signature
from typing import cast

from microgradx.eager.mode import mode
from microgradx.eager.tensor import Tensor
from microgradx.errors import ArgumentError, CheckpointError, TrainingWarning, guess, shown, switch
from microgradx.familiar import forgetting
from microgradx.kernels import sweep
from microgradx.optim.checks import Parameters, State, beside_options, compare, listed, named
from microgradx.optim.flat import Data, Flat, Run, span
from microgradx.optim.options import (
    Group,
    Option,
    Options,
    check,
    common,
    declare,
    documented,
    of_rule,
    read_options,
)  # fmt: skip
from microgradx.rules import Rule

optimizers: dict[str, type["Optimizer"]] = {}
"""Every optimizer class by its name in lower case: the command line and the tests follow this table."""

CLOSURE = (
    "A closure computes the loss anew: def closure(): optimizer.zero_grad(); loss = ...; loss.backward(); "
    "return loss. Then optimizer.step(closure)."
)

EXAMPLE = """\
>>> w = mg.tensor([[3.0, 4.0]], requires_grad=True)
>>> optimizer = {name}([w])
>>> (w * w).sum().backward()
>>> optimizer.step()
>>> (w * w).sum().item() < 25
True
"""

kept = {"params", "param_names", "initial_lr"}
"""What a group holds beside its options: its parameters, and where a schedule started."""

kept_here = {"name", "choose", "takes", "check_finite", "defaults", "param_groups", "flats", "ledgers"}
kept_here |= {"parameters"}
"""What every optimizer keeps as attributes."""

Closure = Callable[[], Tensor]
"""What computes the loss anew, with its gradients."""


class Watcher:
    """Who is told of every step of an optimizer, before and after it: see `optim.ledger`."""

    def open(self) -> None:
        """A step is about to begin."""

    def close(self) -> None:
        """It is done."""


class Optimizer:
    """Any update rule as an optimizer: `Optimizer(params, my_rule, lr=0.1, weight_decay=0.01)`.

    `params` are tensors, (name, tensor) pairs as of `named_parameters()`, or groups: dicts of "params" and
    of options that differ from those given here. What is set in `param_groups` holds from the next step.
    Gradients add up until `zero_grad()`: several backward passes before a step accumulate.
    `check_finite=True` raises NonFiniteError before a NaN or infinite gradient touches anything.
    `optimizer.source` is the program that a step runs. ArgumentError for what cannot be trained, for an
    option out of its range, and for one that there is none of.

    >>> w = mg.tensor([1.0, -2.0], requires_grad=True)
    >>> optimizer = optim.Optimizer([("w", w)], mg.rules.sgd_momentum, lr=0.5)
    >>> for _ in range(2):
    ...     optimizer.zero_grad()
    ...     (w * w).sum().backward()
    ...     optimizer.step()
    >>> w.numpy()
    array([-0.9,  1.8], dtype=float32)
    >>> optimizer.state["w"]["t"], optimizer.state["w"]["v"]
    (2, array([ 1.8, -3.6], dtype=float32))
    """

    options: Options  # what a class takes, and the defaults
    about: str  # what the class does: its docstring, before the options
    choose: Callable[..., Rule]  # from the options of a group to its rule
    takes: Signature  # params and the options

    def __init_subclass__(cls) -> None:
        if not hasattr(cls, "options"):
            how = f"optim.optimizer(rule, {cls.__name__!r}) makes it of a rule"
            raise ArgumentError(f"class {cls.__name__}(Optimizer): {how}; or take Optimizer(params, rule).")
        cls.takes = declare(cls.options)
        finite = Parameter("check_finite", Parameter.KEYWORD_ONLY, default=False)
        cls.__signature__ = Signature([*cls.takes.parameters.values(), finite])  # type: ignore[attr-defined]
        cls.about = cls.__doc__ or ""
        cls.__doc__ = documented(cls.__name__, cls.about, cls.options, EXAMPLE.format(name=cls.__name__))
        optimizers[cls.__name__.lower()] = cls

    def __init__(
        self,
        params: Parameters | Iterable[Group],
        *args: Option,
        check_finite: bool = False,
        **options: Option,
    ):
        self.name = type(self).__name__
        if type(self) is Optimizer:
            if not args or not isinstance(args[0], Rule):
                hint = "take one such as rules.adam, or declare the rule with @mg.rule"
                raise ArgumentError(f"Optimizer(params, rule, ...): {hint}.")
            rule, *args = args  # type: ignore[assignment]
            self.choose = Always(rule)
            self.takes = declare(rule.hyperparameters | common | rule.hyperparameters)
        self.check_finite = switch("check_finite", check_finite)
        self.defaults = read_options(self.name, self.takes, params, *args, **options)
        del self.defaults["params"]
        self.param_groups: list[Group] = []
        self.flats: list[Flat] = []  # for each group one of each dtype
        self.ledgers: list[Watcher] = []
        self.parameters: dict[str, Tensor] = {}
        given = listed(self.name, params)
        grouped = given and isinstance(given[0], dict)
        for group in cast(list[Group], given) if grouped else [{"params": given}]:
            self.add_param_group(group)
        if not self.parameters:
            raise ArgumentError(f"{self.name}: no parameters given; pass model.parameters().")

    def __setattr__(self, name: str, value: object) -> None:
        """What would do nothing is an error: options are those of the groups."""
        if "parameters" in vars(self) and name not in vars(self) and not hasattr(type(self), name):
            given = f"{self.name}.{name} = {value!r} would do nothing"
            if name in self.defaults:
                how = f"for group in optimizer.param_groups: group[{name!r}] = {value!r}"
                raise ArgumentError(f"{given}. Write `{how}`.")
            if type(self).__module__.startswith("microgradx."):  # a class of the user's own may keep more
                raise ArgumentError(f"{given}. Options, in param_groups, are {', '.join(self.defaults)}.")
        super().__setattr__(name, value)

    def __repr__(self) -> str:
        """With the options as they are now; `lr=0.1 | 0.5` where groups differ."""
        values = {name: [str(group[name]) for group in self.param_groups] for name in self.defaults}
        options = (f"{name}={' | '.join(v if len({*v}) > 1 else v[:1])}" for name, v in values.items())
        return f"{self.name}({', '.join(options)})"

    def __reduce__(self) -> tuple[Callable[..., "Optimizer"], tuple[object, ...], dict[str, object] | None]:
        """Copied and pickled with the parameters, which a copy of model and optimizer together shares, and
        with what a class of the user's own keeps.
        """
        own = self.choose if type(self) is Optimizer else None
        groups = []
        for group in self.param_groups:
            options = {key: value for key, value in group.items() if key not in ("params", "param_names")}
            groups.append((list(zip(group["param_names"], group["params"], strict=True)), options))
        state = {part.name: (part.clock, part.state) for flat in self.flats for part in flat.parts}
        ours = next(c for c in type(self).__mro__ if c.__module__.startswith("microgradx."))
        more = {k: v for k, v in vars(self).items() if k not in kept_here and not hasattr(ours, k)}
        return revived, (type(self), own, groups, self.defaults, self.check_finite, state), more or None

    @property
    def usual(self) -> Options:
        """The defaults of the class, for the options that have one."""
        return {p.name: p.default for p in self.takes.parameters.values()}

    @property
    def source(self) -> str:
        """The text of the sweeps that a step runs, one for each rule and dtype."""
        self.follow()
        return "\n\n".join(dict.fromkeys(flat.update.source for flat in self.flats))

    def add_param_group(self, group: Group) -> None:
        """Add parameters with options of their own; those of an earlier group stay there."""
        if not isinstance(group, dict) or "params" not in group:
            what = f'{self.name}: a group is a dict of "params" and of options, not {shown(group)}'
            raise ArgumentError(f"{what}.")
        group = read_options(self.name, self.takes, **self.defaults | group)
        found = named(self.name, group["params"], self.parameters)
        group |= {"params": list(found.values()), "param_names": list(found)}
        kinds = dict.fromkeys((p.dtype, p.device) for p in found.values())
        flats = [Flat(group, {n: p for n, p in found.items() if (p.dtype, p.device) == k}) for k in kinds]
        for flat in flats:
            self.bind(flat)
        self.param_groups.append(group)
        self.flats += flats
        self.parameters |= found

    def bind(self, flat: Flat) -> None:
        """Give a flat buffer the sweep and the hyperparameters that its group's options ask for."""
        options, known = dict(flat.group), flat.followed
        changed = {k: v for k, v in options.items() if k not in known or known[k] is not v}
        self.check_keys(options)
        check(self.name, changed, self.usual)
        rule = self.choose(**options)
        numbers, decay = of_rule(self.name, rule.hyperparameters, options)
        asked = rule, options["maximize"], decay
        if asked != flat.asked or not flat.update.outside.holds():
            flat.follow(sweep(rule, flat.dtype, options["maximize"], decay, flat.device))
        flat.asked, flat.hyperparameters, flat.followed = asked, numbers, options

    def check_keys(self, group: Group) -> None:
        """ArgumentError for what a group was given and nobody reads: a misspelt option."""
        for key in group.keys() - self.defaults.keys() - kept:
            given = f"{self.name}: param_groups[...][{key!r}] = {group[key]!r} would do nothing."
            raise ArgumentError(
                f"{given}{guess(key, self.defaults)} The options are {', '.join(self.defaults)}."
            )

    def follow(self) -> None:
        """Bind what has changed, options or what the rule reads outside of itself, since the last step."""
        for flat in self.flats:
            if not flat.current():
                self.bind(flat)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients; the next backward writes over them. ArgumentError unless `set_to_none`."""
        forgetting(set_to_none)
        if mode.recorder is not None:
            for parameter in self.parameters.values():
                mode.recorder.gradient(parameter, reset=True)
        for parameter in self.parameters.values():
            parameter._grad = None

    def step(self, closure: Closure | None = None) -> Tensor | None:
        """Update every parameter that has a gradient; the others, and their step counts, stay.

        `closure` computes loss and gradients anew before the update, and step returns its loss; else None.
        """
        loss = None if closure is None else self.evaluate(closure)
        self.update(self.jobs())
        return loss

    def evaluate(self, closure: Closure) -> Tensor:
        """What a closure returns; it records for its backward pass even where nothing else is recorded."""
        if not callable(closure):
            what = f"{self.name}.step(closure): a {type(closure).__name__} is no function"
            raise ArgumentError(f"{what}. {CLOSURE}")
        with mode.having(record=True):
            return closure()

    def jobs(self) -> list[tuple[Flat, Run]]:
        """What a step updates: neighbours in the flat buffers."""
        self.follow()
        jobs = [(flat, run) for flat in self.flats for run in flat.gather()]
        if not jobs and any(parameter.requires_grad for parameter in self.parameters.values()):
            none = f"{self.name}.step(): none of the {len(self.parameters)} parameters has a gradient"
            advice = "call backward() after zero_grad(), on a loss that was computed from them"
            warnings.warn(f"{none}, so nothing changes; {advice}.", TrainingWarning, stacklevel=3)
        for flat, run in jobs:
            if mode.recorder is not None:
                mode.recorder.step(self, flat, run)
            elif self.check_finite:
                flat.check_finite(run)
        return jobs

    def update(self, jobs: list[tuple[Flat, Run]]) -> None:
        """Do them, under the eyes of the ledgers."""
        watching = self.ledgers if mode.recorder is None else []
        for ledger in watching:
            ledger.open()
        for flat, run in jobs:
            self.advance(flat, run)
        for ledger in watching:
            ledger.close()

    def advance(self, flat: Flat, run: Run) -> None:
        """One step of some neighbours in a flat buffer."""
        flat.sweep(run)

    def gradients(self) -> list[Data]:
        """All gradients that there are, as few long arrays (views): for clipping, for sharing."""
        return [flat.gradients[span(run)] for flat in self.flats for run in flat.gather()]

    @property
    def state(self) -> dict[str, State]:
        """By parameter name: the step count `t`, the rule's carried numbers and its state (views)."""
        if mode.recorder is not None:
            mode.recorder.state(self)
        return {part.name: part.clock | part.state for flat in self.flats for part in flat.parts}

    def state_dict(self) -> State:
        """A copy of all state by parameter name, and the options of the groups with their rule's name."""
        self.follow()
        groups = [group | {"rule": self.choose(**group).name} for group in self.param_groups]
        for group in groups:
            del group["params"]
        return copy.deepcopy({"optimizer": self.name, "param_groups": groups, "state": self.state})

    def load_state_dict(self, saved: State) -> None:
        """Continue from a `state_dict()`. A CheckpointError names what does not fit; then nothing changed."""
        if mode.recorder is not None:
            mode.recorder.state(self, load=True)
        try:
            compare(self.name, beside_options(saved), beside_options(self.state_dict()))
            for group in saved["param_groups"]:
                check(self.name, {name: group[name] for name in self.defaults}, self.usual)
        except CheckpointError:
            raise
        except Exception as error:  # a state of something else, or nothing of the kind
            raise CheckpointError(f"{self.name}: this is no state of an optimizer: {error!r}.") from None
        for group, loaded in zip(self.param_groups, saved["param_groups"], strict=True):
            group |= copy.deepcopy(loaded)
            del group["rule"]
        for flat in self.flats:
            for part in flat.parts:
                part.restore(saved["state"][part.name])


class Always:
    """What chooses the one rule of an `Optimizer(params, rule)`; copied and pickled with it."""

    def __init__(self, rule: Rule):
        self.rule = rule

    def __call__(self, **_: Option) -> Rule:
        """The rule, whatever the options."""
        return self.rule


def revived(
    made: type[Optimizer],
    choose: "Always | None",
    groups: list[tuple[list[tuple[str, Tensor]], Options]],
    defaults: Options,
    finite: bool,
    state: dict[str, tuple[State, State]],
) -> Optimizer:
    """An optimizer from what `__reduce__` gave."""
    needed = {key: value for key, value in groups[0][1].items() if key in defaults}
    rule = [] if choose is None else [choose.rule]
    found = made(groups[0][0], *rule, check_finite=finite, **needed)
    found.defaults = dict(defaults)
    for params, options in groups[1:]:
        found.add_param_group({"params": params} | {k: v for k, v in options.items() if k in defaults})
    for group, (_, options) in zip(found.param_groups, groups, strict=True):
        group |= options  # a schedule's, too
    found.follow()
    for flat in found.flats:
        for part in flat.parts:
            clock, arrays = state[part.name]
            part.restore(clock | arrays)
    return found
