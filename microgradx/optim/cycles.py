"""Schedules in cycles, which move the momentum against the learning rate."""

import math
from collections.abc import Callable
from itertools import pairwise

from microgradx.errors import ArgumentError
from microgradx.optim.scheduling import Schedule


def cosine(start: float, end: float, part: float) -> float:
    """From start to end along half a wave; `part` is how much of the way is done."""
    return end + (start - end) * (1 + math.cos(math.pi * part)) / 2


def cycle(
    step: int, low: float, high: float, end: float, total_steps: int, pct_start: float, anneal_strategy: str,
    three_phase: bool,
) -> float:  # fmt: skip
    """From low up to high, down to end; with three phases down to low as fast as up, then to end."""
    knots = [(0, low), (pct_start * total_steps - 1, high)]
    knots += [(2 * pct_start * total_steps - 2, low)] * three_phase + [(total_steps - 1, end)]
    step = min(step, total_steps - 1)
    (start, a), (stop, b) = next(pair for pair in pairwise(knots) if step <= pair[1][0])
    part = (step - start) / (stop - start) if stop > start else 1.0
    return cosine(a, b, part) if anneal_strategy == "cos" else a + (b - a) * part


class Cycling(Schedule):
    """A schedule that moves the momentum against the learning rate: the option `momentum`, or the first of
    `betas`. Inside another schedule that stays as it is.
    """

    listed: tuple[str, ...] = ("max_lr",)

    def momentum(self) -> float:
        """The momentum of the current step."""
        raise NotImplementedError

    def apply(self) -> None:
        """Give every group the learning rate and the momentum of the current step."""
        super().apply()
        if not self.options["cycle_momentum"]:
            return
        for group in self.optimizer.param_groups:
            if "betas" in group:
                group["betas"] = (self.momentum(), *group["betas"][1:])
            elif "momentum" in group:
                group["momentum"] = self.momentum()
            else:
                name = self.optimizer.name
                raise ArgumentError(f"{name} has no momentum to cycle; pass cycle_momentum=False.")


class OneCycleLR(Cycling):
    """Up to max_lr and down to almost nothing in total_steps, the momentum down and up: arXiv 1708.07120.

    Starts at max_lr / div_factor, ends at 1 / final_div_factor of that, and stays there. Instead of
    total_steps, epochs and steps_per_epoch. The momentum is the option `momentum` or the first of `betas`;
    inside another schedule it stays as it is.

    >>> [round(optim.OneCycleLR.lr(0.0, step, 1.0, 10), 2) for step in (0, 2, 5, 9)]
    [0.04, 1.0, 0.61, 0.0]
    """

    @staticmethod
    def lr(
        base: float, step: int, /, max_lr: float, total_steps: int | None = None, epochs: int | None = None,
        steps_per_epoch: int | None = None, pct_start: float = 0.3, anneal_strategy: str = "cos",
        cycle_momentum: bool = True, base_momentum: float = 0.85, max_momentum: float = 0.95,
        div_factor: float = 25.0, final_div_factor: float = 1e4, three_phase: bool = False,
    ) -> float:  # fmt: skip
        """Follow the cycle; the momentum follows it upside down."""
        low = max_lr / div_factor
        end, steps = low / final_div_factor, total(total_steps, epochs, steps_per_epoch)
        return cycle(step, low, max_lr, end, steps, pct_start, anneal_strategy, three_phase)

    def momentum(self) -> float:
        """The cycle upside down."""
        o = self.options
        low, high = o["base_momentum"], o["max_momentum"]
        steps = total(o["total_steps"], o["epochs"], o["steps_per_epoch"])
        shape = o["pct_start"], o["anneal_strategy"], o["three_phase"]
        return cycle(self.last_epoch, high, low, high, steps, *shape)


def total(total_steps: int | None, epochs: int | None, steps_per_epoch: int | None) -> int:
    """How many steps a cycle has."""
    if total_steps is not None:
        return total_steps
    if epochs is None or steps_per_epoch is None:
        raise ArgumentError("OneCycleLR: give total_steps, or both epochs and steps_per_epoch.")
    return epochs * steps_per_epoch


class CyclicLR(Cycling):
    """From base_lr up to max_lr in step_size_up steps and back, again and again: arXiv 1506.01186.

    The height of the cycles stays (mode "triangular"), halves with each ("triangular2") or shrinks by gamma
    in each step ("exp_range"); or it is scale_fn of the cycle's number, from 1, or the step (scale_mode). The
    momentum, `momentum` or the first of `betas`, goes down where the learning rate goes up.

    >>> [optim.CyclicLR.lr(0.0, step, 1.0, 3.0, 2) for step in range(6)]
    [1.0, 2.0, 3.0, 2.0, 1.0, 2.0]
    """

    listed = ("base_lr", "max_lr")

    @staticmethod
    def lr(
        base: float, step: int, /, base_lr: float, max_lr: float, step_size_up: int = 2000,
        step_size_down: int | None = None, mode: str = "triangular", gamma: float = 1.0,
        scale_fn: Callable[[int], float] | None = None, scale_mode: str = "cycle",
        cycle_momentum: bool = True, base_momentum: float = 0.8, max_momentum: float = 0.9,
    ) -> float:  # fmt: skip
        """How much of the way up, times the height of the cycle."""
        length = step_size_up + (step_size_down or step_size_up)
        turn, part = step // length + 1, step % length
        way = part / step_size_up if part <= step_size_up else (length - part) / (length - step_size_up)
        if scale_fn is not None:
            way *= scale_fn(turn if scale_mode == "cycle" else step)
        elif mode != "triangular":
            way *= 0.5 ** (turn - 1) if mode == "triangular2" else gamma**step
        return base_lr + (max_lr - base_lr) * way

    def momentum(self) -> float:
        """The cycle upside down."""
        names = ("step_size_up", "step_size_down", "mode", "gamma", "scale_fn", "scale_mode")
        low, high = self.options["base_momentum"], self.options["max_momentum"]
        return self.lr(0.0, self.last_epoch, high, low, **{name: self.options[name] for name in names})
