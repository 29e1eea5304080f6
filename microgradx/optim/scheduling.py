"""What every schedule is: a learning rate from a group's own and the number of the step, step by step."""

import weakref
from collections.abc import Callable
from inspect import Signature, signature
from weakref import WeakKeyDictionary

from microgradx.eager.mode import mode
from microgradx.errors import ArgumentError, MicrogradxError, refusal
from microgradx.optim.base import Optimizer
from microgradx.optim.checks import State, compare
from microgradx.optim.options import Option, documented, read_options

turns: WeakKeyDictionary[Optimizer, weakref.ref["Schedule"]] = WeakKeyDictionary()
"""The schedule that stepped last."""


class Schedule:
    """Gives each group of an optimizer the learning rate of the current step.

    `schedule.step()` comes after `optimizer.step()`; `at(base, step)` is the learning rate of any step.
    A group that is added later follows from its learning rate on. `last_epoch` is the last step that was
    done before, of an optimizer whose groups remember their `initial_lr`; -1 for none. Subclasses are made
    by `schedule`. ArgumentError where what comes first is no optimizer, for an option out of its range, and
    where two schedules take turns at one optimizer: `ChainedScheduler` multiplies them.

    >>> optimizer = optim.SGD([mg.zeros(2, requires_grad=True)], lr=1.0)
    >>> schedule = optim.StepLR(optimizer, step_size=1, gamma=0.5)
    >>> schedule.step()
    >>> schedule.get_last_lr(), schedule.at(1.0, 3)
    ([0.5], 0.125)
    """

    lr: Callable[..., float]  # (base, step, /, option=default, ...) -> learning rate
    base = "initial_lr"  # the option of a group that it starts from
    memory: tuple[str, ...] = ("last_epoch", "base_lrs")  # the attributes that a resumed run needs
    went = False  # has stepped, in this process
    listed: tuple[str, ...] = ()  # options that may be lists, of one for each group

    def __init_subclass__(cls) -> None:
        own = list(signature(cls.lr).parameters.values())[2:] if hasattr(cls, "lr") else []
        if "lr" in vars(cls) and "__init__" not in vars(cls):
            takes = [signature(Schedule).parameters["optimizer"], *own]
            takes.append(signature(Schedule).parameters["last_epoch"])
            cls.__signature__ = Signature(takes)  # type: ignore[attr-defined]
        cls.__doc__ = documented(cls.__name__, cls.__doc__ or "", {p.name: p.default for p in own}, "")

    def __init__(self, optimizer: Optimizer, *args: Option, last_epoch: int = -1, **options: Option):
        self.name = type(self).__name__
        if not isinstance(optimizer, Optimizer):
            raise ArgumentError(f"{self.name}: an optimizer comes first, not {type(optimizer).__name__}.")
        self.optimizer = optimizer
        base, step, *own = read_options(self.name, signature(self.lr), 0.0, 0, *args, **options).items()
        self.options = dict(own)
        self.last_epoch = last_epoch + 1
        groups = optimizer.param_groups
        if last_epoch != -1 and any(self.base not in group for group in groups):
            advice = f"Load the optimizer's state first, or set group[{self.base!r}] for all groups"
            raise ArgumentError(
                f"{self.name}: last_epoch={last_epoch!r}, and groups have no {self.base!r}. {advice}."
            )
        for name in self.listed:
            if isinstance(given := self.options[name], list | tuple) and len(given) != len(groups):
                raise ArgumentError(f"{self.name}: {len(given)} {name} for {len(groups)} groups.")
        for group in groups:
            group.setdefault(self.base, group["lr"])
        self.base_lrs: list[float] = [group[self.base] for group in groups]
        self.apply()

    def __setattr__(self, name: str, value: object) -> None:
        if name in vars(self).get("options", ()):
            given = f"{self.name}.{name} = {value!r} would do nothing"
            raise ArgumentError(f"{given}. Write `schedule.options[{name!r}] = {value!r}`.")
        super().__setattr__(name, value)

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{name}={value}' for name, value in self.options.items())})"

    def at(self, base: float, step: int, group: int | None = None) -> float:
        """The learning rate of a step, of a group that starts with `base`; for lists, its number."""
        options = dict(self.options)
        for name in self.listed:
            if isinstance(given := options[name], list | tuple):
                if group is None or group >= len(given):
                    many = f"{self.name}: {name} is a list for {len(given)} groups"
                    raise ArgumentError(f"{many}, and this is none of them; give one for all groups.")
                options[name] = given[group]
        try:
            return self.lr(base, step, **options)
        except (TypeError, ValueError, ArithmeticError) as error:
            if isinstance(error, MicrogradxError) or not type(self).__module__.startswith("microgradx."):
                raise
            raise refusal(f"{self.name}.at", [base, step, *options.values()], error) from error

    def apply(self) -> None:
        """Give every group the learning rate of the current step."""
        for k, (group, base) in enumerate(zip(self.optimizer.param_groups, self.base_lrs, strict=False)):
            group["lr"] = self.at(base, self.last_epoch, k)

    def follow(self) -> None:
        """Let groups that are new go on from the learning rate that they have, as in PyTorch."""
        for k, group in enumerate(self.optimizer.param_groups[len(self.base_lrs) :], len(self.base_lrs)):
            lr = group["lr"]
            once, twice = (self.at(times * lr, self.last_epoch, k) for times in (1, 2))
            base = lr + (lr - once) * lr / (twice - once) if twice != once else lr  # a line in all of them
            group.setdefault(self.base, base)
            self.base_lrs = [*self.base_lrs, group[self.base]]

    def take_turn(self) -> None:
        """ArgumentError where another schedule has set the learning rates since this one's last step."""
        last = turns.get(self.optimizer)
        other = last() if last else None
        if other is self and self.went:
            return
        if other is not None and other is not self and self.went:
            both = f"{self.name} and {other.name} step the learning rates of one optimizer"
            advice = "ChainedScheduler([...]) multiplies them, SequentialLR takes one after the other"
            raise ArgumentError(f"{both}, and each undoes the other's. {advice}: step that alone.")
        turns[self.optimizer], self.went = weakref.ref(self), True

    def step(self) -> None:
        """Go on to the next step."""
        self.follow()
        self.take_turn()
        if mode.recorder is not None:
            mode.recorder.schedule(self)
        self.last_epoch += 1
        self.apply()

    def get_last_lr(self) -> list[float]:
        """The current learning rate of each group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> State:
        """What a resumed run needs besides the schedule's options."""
        return {"schedule": self.name} | {name: getattr(self, name) for name in self.memory}

    def load_state_dict(self, state: State) -> None:
        """Continue where `state` was saved, whether the optimizer's state is loaded before or after."""
        if mode.recorder is not None:
            mode.recorder.state(self, load=True)
        compare(self.name, state, self.state_dict())
        for name in self.memory:
            setattr(self, name, state[name])
        self.apply()


def schedule(lr: Callable[..., float]) -> type[Schedule]:
    """Make a schedule of its definition, `lr(base, step, /, option=default, ...)`: a learning rate.

    >>> @optim.schedule
    ... def Halving(base, step, /, every=10):
    ...     \"\"\"Half as long from time to time.\"\"\"
    ...     return base / 2 ** (step // every)
    >>> Halving(optim.SGD([mg.zeros(2, requires_grad=True)], lr=1.0), every=5).at(1.0, 12)
    0.25
    """
    space = {"lr": staticmethod(lr), "__doc__": lr.__doc__, "__module__": lr.__module__}
    return type(lr.__name__, (Schedule,), space)
