"""Learning rates that change from step to step.

A schedule is a pure function of a group's own learning rate and the number of the step, so a resumed run
continues exactly. Names and keywords are PyTorch's; `schedule.step()` comes after `optimizer.step()`.
`plans` holds, under short names, ready schedules for a run of known length.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence

from microgradx.eager.mode import mode
from microgradx.errors import ArgumentError, shown
from microgradx.optim.base import Optimizer
from microgradx.optim.cycles import OneCycleLR, cosine
from microgradx.optim.options import check, limits
from microgradx.optim.scheduling import Schedule, schedule


@schedule
def ConstantLR(base: float, step: int, /, factor: float = 1 / 3, total_iters: int = 5) -> float:
    """base · factor for total_iters steps, then base; factor=1 is no schedule at all.

    >>> [optim.ConstantLR.lr(1.0, step, factor=0.5, total_iters=2) for step in range(4)]
    [0.5, 0.5, 1.0, 1.0]
    """
    return base * (factor if step < total_iters else 1)


@schedule
def LinearLR(
    base: float, step: int, /, start_factor: float = 1 / 3, end_factor: float = 1.0, total_iters: int = 5
) -> float:
    """A straight line from base · start_factor to base · end_factor in total_iters steps.

    >>> [optim.LinearLR.lr(1.0, step, start_factor=0.5, total_iters=2) for step in range(4)]
    [0.5, 0.75, 1.0, 1.0]
    """
    return base * (start_factor + (end_factor - start_factor) * min(step / total_iters, 1))


@schedule
def PolynomialLR(base: float, step: int, /, total_iters: int = 5, power: float = 1.0) -> float:
    """base · (1 - step / total_iters)^power, then 0

    >>> [optim.PolynomialLR.lr(1.0, step, total_iters=4, power=2) for step in range(5)]
    [1.0, 0.5625, 0.25, 0.0625, 0.0]
    """
    return base * (1 - min(step / total_iters, 1)) ** power


@schedule
def ExponentialLR(base: float, step: int, /, gamma: float) -> float:
    """base · gamma^step

    >>> [optim.ExponentialLR.lr(1.0, step, gamma=0.5) for step in range(4)]
    [1.0, 0.5, 0.25, 0.125]
    """
    return base * gamma**step


@schedule
def StepLR(base: float, step: int, /, step_size: int, gamma: float = 0.1) -> float:
    """base · gamma^⌊step / step_size⌋

    >>> [optim.StepLR.lr(1.0, step, step_size=2, gamma=0.5) for step in range(5)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """
    return base * gamma ** (step // step_size)


@schedule
def MultiStepLR(base: float, step: int, /, milestones: Sequence[int], gamma: float = 0.1) -> float:
    """base · gamma^(number of milestones reached)

    >>> [optim.MultiStepLR.lr(1.0, step, milestones=[1, 3], gamma=0.5) for step in range(4)]
    [1.0, 0.5, 0.5, 0.25]
    """
    return base * gamma ** bisect_right(sorted(milestones), step)


class LambdaLR(Schedule):
    """base · lr_lambda(step), for a function of your own, or a list of one for each group

    >>> [optim.LambdaLR.lr(1.0, step, lr_lambda=lambda step: 1 / (1 + step)) for step in range(2)]
    [1.0, 0.5]
    """

    listed = ("lr_lambda",)

    @staticmethod
    def lr(base: float, step: int, /, lr_lambda: Callable[[int], float]) -> float:
        """Ask the function."""
        return base * lr_lambda(step)


class MultiplicativeLR(LambdaLR):
    """base · lr_lambda(1) · lr_lambda(2) · … · lr_lambda(step): each step multiplies the last one's

    >>> [optim.MultiplicativeLR.lr(1.0, step, lr_lambda=lambda step: 1 / step) for step in range(4)]
    [1.0, 1.0, 0.5, 0.16666666666666666]
    """

    @staticmethod
    def lr(base: float, step: int, /, lr_lambda: Callable[[int], float]) -> float:
        """Ask the function for all steps so far."""
        return math.prod(map(lr_lambda, range(1, step + 1)), start=base)


@schedule
def CosineAnnealingLR(base: float, step: int, /, T_max: int, eta_min: float = 0.0) -> float:
    """Half a wave from base to eta_min in T_max steps, and back: arXiv 1608.03983.

    >>> [round(optim.CosineAnnealingLR.lr(1.0, step, T_max=2), 3) for step in range(4)]
    [1.0, 0.5, 0.0, 0.5]
    """
    return cosine(base, eta_min, step / T_max)


@schedule
def CosineAnnealingWarmRestarts(
    base: float, step: int, /, T_0: int, T_mult: int = 1, eta_min: float = 0.0
) -> float:
    """Half waves down from base, the first T_0 steps long, each T_mult times the last: arXiv 1608.03983.

    >>> [round(optim.CosineAnnealingWarmRestarts.lr(1.0, step, T_0=2), 3) for step in range(4)]
    [1.0, 0.5, 1.0, 0.5]
    """
    if T_mult == 1:
        step %= T_0
    while step >= T_0:
        step, T_0 = step - T_0, T_0 * T_mult
    return cosine(base, eta_min, step / T_0)


@schedule
def WarmUp(base: float, step: int, /, steps: int, after: Schedule | None = None) -> float:
    """base · (step + 1) / (steps + 1), then base or the schedule `after` from its step 0: arXiv 1706.02677

    >>> [optim.WarmUp.lr(1.0, step, steps=3) for step in range(5)]
    [0.25, 0.5, 0.75, 1.0, 1.0]
    """
    if step < steps:
        return base * (step + 1) / (steps + 1)
    return after.at(base, step - steps) if after else base


@schedule
def SequentialLR(
    base: float, step: int, /, schedulers: Sequence[Schedule], milestones: Sequence[int]
) -> float:
    """One schedule after the other; each starts from its own step 0 when its milestone is reached.

    >>> optimizer = optim.SGD([mg.zeros(2, requires_grad=True)], lr=1.0)
    >>> parts = [optim.ConstantLR(optimizer, 0.5), optim.ExponentialLR(optimizer, 0.9)]
    >>> [round(optim.SequentialLR.lr(1.0, step, parts, milestones=[2]), 3) for step in range(5)]
    [0.5, 0.5, 1.0, 0.9, 0.81]
    """
    if len(milestones) != len(schedulers) - 1:
        counts = f"{len(schedulers)} schedulers and {len(milestones)} milestones"
        raise ArgumentError(f"SequentialLR: a milestone stands between two schedulers, not {counts}.")
    turn = bisect_right(milestones, step)
    return schedulers[turn].at(base, step - [0, *milestones][turn])


class ChainedScheduler(Schedule):
    """Several schedules at once: each one's learning rate is the base of the next.

    >>> optimizer = optim.SGD([mg.zeros(2, requires_grad=True)], lr=1.0)
    >>> parts = [optim.WarmUp(optimizer, 1), optim.ExponentialLR(optimizer, 0.5)]
    >>> [optim.ChainedScheduler.lr(1.0, step, parts) for step in range(3)]
    [0.5, 0.5, 0.25]
    """

    def __init__(self, schedulers: list[Schedule], optimizer: Optimizer | None = None):
        check("ChainedScheduler", {"schedulers": schedulers})
        super().__init__(optimizer or schedulers[0].optimizer, schedulers)

    @staticmethod
    def lr(base: float, step: int, /, schedulers: Sequence[Schedule]) -> float:
        """Pass the learning rate through the schedules."""
        for scheduler in schedulers:
            base = scheduler.at(base, step)
        return base


class ReduceLROnPlateau(Schedule):
    """lr · factor when a metric has not improved for more than `patience` steps: `schedule.step(loss)`.

    >>> optimizer = optim.SGD([mg.zeros(2, requires_grad=True)], lr=1.0)
    >>> schedule = optim.ReduceLROnPlateau(optimizer, patience=1)
    >>> for loss in (3.0, 3.0, 3.0):
    ...     schedule.step(loss)
    >>> schedule.get_last_lr()
    [0.1]
    """

    base = "lr"
    best: float | None = None
    num_bad_epochs = cooldown_counter = 0
    memory = (*Schedule.memory, "best", "num_bad_epochs", "cooldown_counter")

    @staticmethod
    def lr(
        base: float, step: int, /, mode: str = "min", factor: float = 0.1, patience: int = 10,
        threshold: float = 1e-4, threshold_mode: str = "rel", cooldown: int = 0, min_lr: float = 0.0,
        eps: float = 1e-8,
    ) -> float:  # fmt: skip
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
        self.follow()
        self.take_turn()
        if mode.recorder is not None:
            mode.recorder.schedule(self)
        try:
            metric = float(metric)
        except (TypeError, ValueError):
            raise ArgumentError(f"ReduceLROnPlateau.step takes a number, not {shown(metric)}.") from None
        o = self.options
        self.last_epoch += 1
        self.num_bad_epochs += 1
        if self.improves(metric):
            self.best, self.num_bad_epochs = metric, 0
        if self.cooldown_counter:
            self.cooldown_counter, self.num_bad_epochs = self.cooldown_counter - 1, 0
        if self.num_bad_epochs > o["patience"]:
            self.cooldown_counter, self.num_bad_epochs = o["cooldown"], 0
            pairs = [(lr, max(lr * o["factor"], o["min_lr"])) for lr in self.get_last_lr()]
            self.base_lrs = [lower if lr - lower > o["eps"] else lr for lr, lower in pairs]
            self.apply()


limits["after"] = ("None or a schedule", lambda x: x is None or isinstance(x, Schedule))

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
