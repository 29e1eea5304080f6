"""What every schedule is: a learning rate from a group's own and the number of the step, step by step."""

from collections.abc import Callable
from inspect import Signature, signature

from microgradx.eager.mode import mode
from microgradx.errors import ArgumentError, MicrogradxError, refusal
from microgradx.optim.base import Optimizer
from microgradx.optim.checks import State, compare
from microgradx.optim.options import Option, documented, read_options


class Schedule:
    """Gives each group of an optimizer the learning rate of the current step.

    `schedule.step()` comes after `optimizer.step()`; `at(base, step)` is the learning rate of any step.
    Subclasses are made by `schedule`. ArgumentError where what comes first is no optimizer, or for an option
    out of its range.

    >>> optimizer = optim.SGD([mg.zeros(2, requires_grad=True)], lr=1.0)
    >>> schedule = optim.StepLR(optimizer, step_size=1, gamma=0.5)
    >>> schedule.step()
    >>> schedule.get_last_lr(), schedule.at(1.0, 3)
    ([0.5], 0.125)
    """

    lr: Callable[..., float]  # (base, step, /, option=default, ...) -> learning rate
    base = "initial_lr"  # the option of a group that it starts from
    memory: tuple[str, ...] = ("last_epoch", "base_lrs")  # the attributes that a resumed run needs

    def __init_subclass__(cls) -> None:
        own = list(signature(cls.lr).parameters.values())[2:] if hasattr(cls, "lr") else []
        if "lr" in vars(cls) and "__init__" not in vars(cls):
            takes = [signature(Schedule).parameters["optimizer"], *own]
            cls.__signature__ = Signature(takes)  # type: ignore[attr-defined]
        cls.__doc__ = documented(cls.__name__, cls.__doc__ or "", {p.name: p.default for p in own}, "")

    def __init__(self, optimizer: Optimizer, *args: Option, **options: Option):
        self.name = type(self).__name__
        if not isinstance(optimizer, Optimizer):
            raise ArgumentError(f"{self.name}: an optimizer comes first, not {type(optimizer).__name__}.")
        self.optimizer = optimizer
        base, step, *own = read_options(self.name, signature(self.lr), 0.0, 0, *args, **options).items()
        self.options = dict(own)
        self.last_epoch = 0
        for group in optimizer.param_groups:
            group.setdefault(self.base, group["lr"])
        self.base_lrs: list[float] = [group[self.base] for group in optimizer.param_groups]
        self.apply()

    def __setattr__(self, name: str, value: object) -> None:
        if name in vars(self).get("options", ()):
            given = f"{self.name}.{name} = {value!r} would do nothing"
            raise ArgumentError(f"{given}. Write `schedule.options[{name!r}] = {value!r}`.")
        super().__setattr__(name, value)

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{name}={value}' for name, value in self.options.items())})"

    def at(self, base: float, step: int) -> float:
        """The learning rate of a step, for a group that starts with `base`."""
        try:
            return self.lr(base, step, **self.options)
        except (TypeError, ValueError, ArithmeticError) as error:
            if isinstance(error, MicrogradxError) or not type(self).__module__.startswith("microgradx."):
                raise
            raise refusal(f"{self.name}.at", [base, step, *self.options.values()], error) from error

    def apply(self) -> None:
        """Give every group the learning rate of the current step."""
        for group, base in zip(self.optimizer.param_groups, self.base_lrs, strict=False):
            group["lr"] = self.at(base, self.last_epoch)

    def step(self) -> None:
        """Go on to the next step."""
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
