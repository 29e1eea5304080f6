"""Learning rates that change from step to step.

A schedule is a pure function of a group's own learning rate and the number of the step, so a resumed run
continues exactly. Names and keywords are PyTorch's; `schedule.step()` comes after `optimizer.step()`.
`plans` holds, under short names, ready schedules for a run of known length.
"""

import math
from bisect import bisect_right
from collections.abc import Callable
from inspect import Signature, signature
from itertools import pairwise
from typing import Any

from microgradx.eager.mode import mode
from microgradx.errors import ArgumentError
from microgradx.optim.base import Optimizer
from microgradx.optim.checks import compare, limits, read_options


class Schedule:
    """Gives each group of an optimizer the learning rate of the current step."""

    lr: Callable[..., float]  # (base, step, /, option=default, ...) -> learning rate
    base = "initial_lr"  # the option of a group that it starts from
    memory: tuple[str, ...] = ("last_epoch", "base_lrs")  # the attributes that a resumed run needs

    def __init_subclass__(cls) -> None:
        if "lr" in vars(cls) and "__init__" not in vars(cls):
            _, _, *own = signature(cls.lr).parameters.values()
            takes = [signature(Schedule).parameters["optimizer"], *own]
            cls.__signature__ = Signature(takes)  # type: ignore[attr-defined]

    def __init__(self, optimizer: Optimizer, *args: Any, **options: Any):
        self.name = type(self).__name__
        if not isinstance(optimizer, Optimizer):
            raise ArgumentError(f"{self.name}: an optimizer comes first, not {type(optimizer).__name__}.")
        self.optimizer = optimizer
        base, step, *own = read_options(self.name, signature(self.lr), 0.0, 0, *args, **options).items()
        self.options = dict(own)
        self.last_epoch = 0
        self.base_lrs = [group.setdefault(self.base, group["lr"]) for group in optimizer.param_groups]
        self.apply()

    def __setattr__(self, name: str, value: Any) -> None:
        if name in vars(self).get("options", ()):
            given = f"{self.name}.{name} = {value!r} would do nothing"
            raise ArgumentError(f"{given}. Write `schedule.options[{name!r}] = {value!r}`.")
        super().__setattr__(name, value)

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{name}={value}' for name, value in self.options.items())})"

    def at(self, base: float, step: int) -> float:
        """The learning rate of a step, for a group that starts with `base`."""
        return self.lr(base, step, **self.options)

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

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs besides the schedule's options."""
        return {"schedule": self.name} | {name: getattr(self, name) for name in self.memory}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state` was saved, whether the optimizer's state is loaded before or after."""
        if mode.recorder is not None:
            mode.recorder.state(self, load=True)
        compare(self.name, state, self.state_dict())
        for name in self.memory:
            setattr(self, name, state[name])
        self.apply()


def schedule(lr: Callable[..., float]) -> type[Schedule]:
    """Make a schedule of its definition, `lr(base, step, /, option=default, ...)`."""
    space = {"lr": staticmethod(lr), "__doc__": lr.__doc__, "__module__": lr.__module__}
    return type(lr.__name__, (Schedule,), space)


@schedule
def ConstantLR(base, step, /, factor=1 / 3, total_iters=5):
    """base · factor for total_iters steps, then base; factor=1 is no schedule at all."""
    return base * (factor if step < total_iters else 1)


@schedule
def LinearLR(base, step, /, start_factor=1 / 3, end_factor=1.0, total_iters=5):
    """A straight line from base · start_factor to base · end_factor in total_iters steps."""
    return base * (start_factor + (end_factor - start_factor) * min(step / total_iters, 1))


@schedule
def PolynomialLR(base, step, /, total_iters=5, power=1.0):
    """base · (1 - step / total_iters)^power, then 0"""
    return base * (1 - min(step / total_iters, 1)) ** power


@schedule
def ExponentialLR(base, step, /, gamma):
    """base · gamma^step"""
    return base * gamma**step


@schedule
def StepLR(base, step, /, step_size, gamma=0.1):
    """base · gamma^⌊step / step_size⌋"""
    return base * gamma ** (step // step_size)


@schedule
def MultiStepLR(base, step, /, milestones, gamma=0.1):
    """base · gamma^(number of milestones reached)"""
    return base * gamma ** bisect_right(sorted(milestones), step)


@schedule
def LambdaLR(base, step, /, lr_lambda):
    """base · lr_lambda(step), for a function of your own"""
    return base * lr_lambda(step)


def cosine(start: float, end: float, part: float) -> float:
    """From start to end along half a wave; `part` is how much of the way is done."""
    return end + (start - end) * (1 + math.cos(math.pi * part)) / 2


@schedule
def CosineAnnealingLR(base, step, /, T_max, eta_min=0.0):
    """Half a wave from base to eta_min in T_max steps, and back: arXiv 1608.03983."""
    return cosine(base, eta_min, step / T_max)


@schedule
def CosineAnnealingWarmRestarts(base, step, /, T_0, T_mult=1, eta_min=0.0):
    """Half waves down from base, the first T_0 steps long, each T_mult times the last: arXiv 1608.03983."""
    if T_mult == 1:
        step %= T_0
    while step >= T_0:
        step, T_0 = step - T_0, T_0 * T_mult
    return cosine(base, eta_min, step / T_0)


@schedule
def WarmUp(base, step, /, steps, after=None):
    """base · (step + 1) / (steps + 1), then base or the schedule `after` from its step 0: arXiv 1706.02677"""
    if step < steps:
        return base * (step + 1) / (steps + 1)
    return after.at(base, step - steps) if after else base


@schedule
def SequentialLR(base, step, /, schedulers, milestones):
    """One schedule after the other; each starts from its own step 0 when its milestone is reached."""
    if len(milestones) != len(schedulers) - 1:
        counts = f"{len(schedulers)} schedulers and {len(milestones)} milestones"
        raise ArgumentError(f"SequentialLR: a milestone stands between two schedulers, not {counts}.")
    turn = bisect_right(milestones, step)
    return schedulers[turn].at(base, step - [0, *milestones][turn])


class ChainedScheduler(Schedule):
    """Several schedules at once: each one's learning rate is the base of the next."""

    def __init__(self, schedulers: list[Schedule], optimizer: Optimizer | None = None):
        super().__init__(optimizer or schedulers[0].optimizer, schedulers)

    @staticmethod
    def lr(base, step, /, schedulers):
        """Pass the learning rate through the schedules."""
        for scheduler in schedulers:
            base = scheduler.at(base, step)
        return base


def cycle(step, low, high, end, total_steps, pct_start, anneal_strategy, three_phase, **_) -> float:
    """From low up to high, down to end; with three phases down to low as fast as up, then to end."""
    knots = [(0, low), (pct_start * total_steps - 1, high)]
    knots += [(2 * pct_start * total_steps - 2, low)] * three_phase + [(total_steps - 1, end)]
    step = min(step, total_steps - 1)
    (start, a), (stop, b) = next(pair for pair in pairwise(knots) if step <= pair[1][0])
    part = (step - start) / (stop - start) if stop > start else 1.0
    return cosine(a, b, part) if anneal_strategy == "cos" else a + (b - a) * part


class OneCycleLR(Schedule):
    """Up to max_lr and down to almost nothing in total_steps, the momentum down and up: arXiv 1708.07120.

    Starts at max_lr / div_factor, ends at 1 / final_div_factor of that, and stays there. The momentum is the
    option `momentum` or the first of `betas`; inside another schedule it stays as it is.
    """

    @staticmethod
    def lr(base, step, /, max_lr, total_steps, pct_start=0.3, anneal_strategy="cos", cycle_momentum=True,
           base_momentum=0.85, max_momentum=0.95, div_factor=25.0, final_div_factor=1e4, three_phase=False,
    ):  # fmt: skip
        """Follow the cycle; the momentum follows it upside down, see `apply`."""
        low = max_lr / div_factor
        end = low / final_div_factor
        return cycle(step, low, max_lr, end, total_steps, pct_start, anneal_strategy, three_phase)

    def apply(self) -> None:
        """Give every group the learning rate and the momentum of the current step."""
        super().apply()
        if not self.options["cycle_momentum"]:
            return
        low, high = self.options["base_momentum"], self.options["max_momentum"]
        momentum = cycle(self.last_epoch, high, low, high, **self.options)
        for group in self.optimizer.param_groups:
            if "betas" in group:
                group["betas"] = (momentum, *group["betas"][1:])
            elif "momentum" in group:
                group["momentum"] = momentum
            else:
                name = self.optimizer.name
                raise ArgumentError(f"{name} has no momentum to cycle; pass cycle_momentum=False.")


class ReduceLROnPlateau(Schedule):
    """lr · factor when a metric has not improved for more than `patience` steps: `schedule.step(loss)`."""

    base = "lr"
    best: float | None = None
    num_bad_epochs = cooldown_counter = 0
    memory = (*Schedule.memory, "best", "num_bad_epochs", "cooldown_counter")

    @staticmethod
    def lr(base, step, /, mode="min", factor=0.1, patience=10, threshold=1e-4, threshold_mode="rel",
           cooldown=0, min_lr=0.0, eps=1e-8,
    ):  # fmt: skip
        """As it is, until `step` reduces it."""
        return base

    def improves(self, metric: float) -> bool:
        """Whether a metric is better than the best by more than the threshold; a NaN is not."""
        if self.best is None:
            return not math.isnan(metric)
        sign = 1 if self.options["mode"] == "min" else -1
        margin = self.options["threshold"] * (self.best if self.options["threshold_mode"] == "rel" else 1)
        return sign * metric < sign * self.best - margin

    def step(self, metric: float) -> None:  # type: ignore[override]  # as in PyTorch
        """Take note of a metric, and reduce the learning rates if it is time and makes a difference."""
        if mode.recorder is not None:
            mode.recorder.schedule(self)
        o = self.options
        self.last_epoch += 1
        self.num_bad_epochs += 1
        if self.improves(metric := float(metric)):
            self.best, self.num_bad_epochs = metric, 0
        if self.cooldown_counter:
            self.cooldown_counter, self.num_bad_epochs = self.cooldown_counter - 1, 0
        if self.num_bad_epochs > o["patience"]:
            self.cooldown_counter, self.num_bad_epochs = o["cooldown"], 0
            pairs = [(lr, max(lr * o["factor"], o["min_lr"])) for lr in self.get_last_lr()]
            self.base_lrs = [lower if lr - lower > o["eps"] else lr for lr, lower in pairs]
            self.apply()


limits["schedulers"] = (
    "schedules that follow the step alone, at least one",
    lambda x: len(x) > 0 and all(isinstance(s, Schedule) and not isinstance(s, ReduceLROnPlateau) for s in x),
)


def one_cycle(optimizer: Optimizer, steps: int) -> OneCycleLR:
    """With the optimizer's learning rate as the highest, and its momentum if there is one."""
    momentum = bool({"momentum", "betas"} & optimizer.defaults.keys())
    return OneCycleLR(optimizer, optimizer.param_groups[0]["lr"], steps, cycle_momentum=momentum)


plans: dict[str, Callable[[Optimizer, int], Schedule]] = {
    "constant": lambda optimizer, steps: ConstantLR(optimizer, factor=1.0),
    "linear": lambda optimizer, steps: LinearLR(optimizer, 1.0, 0.0, steps),
    "polynomial": lambda optimizer, steps: PolynomialLR(optimizer, steps, power=2.0),
    "exponential": lambda optimizer, steps: ExponentialLR(optimizer, 0.01 ** (1 / steps)),
    "step": lambda optimizer, steps: StepLR(optimizer, math.ceil(steps / 3)),
    "multi-step": lambda optimizer, steps: MultiStepLR(optimizer, [steps // 2, steps * 3 // 4]),
    "cosine": lambda optimizer, steps: CosineAnnealingLR(optimizer, steps),
    "cosine-restarts": lambda optimizer, steps: CosineAnnealingWarmRestarts(optimizer, math.ceil(steps / 3)),
    "one-cycle": one_cycle,
    "plateau": lambda optimizer, steps: ReduceLROnPlateau(optimizer, patience=3),
}
"""Schedules for a run of so many steps, by the names of the command line; "plateau" steps with a metric."""
