"""What happens beside the program in every step, on plain numbers: step counts, schedules, hyperparameters.

Events take place in the order of the capture, before the program runs; the numbers that they give stand in a
row of a table for each step, which the program reads. Where none must take turns, each happens for many steps
at once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from microgradx.errors import CaptureError
from microgradx.kernels.cpu import Sweep
from microgradx.optim import Optimizer, Schedule
from microgradx.optim.flat import Flat, Part
from microgradx.optim.options import Options

Rows = Sequence[Sequence[float]]
"""The numbers that some steps need of an event."""


class Event:
    """Something that happens in every step."""

    in_turns = False  # whether all events must take turns at every step, for others to find what it does

    def happen(self, steps: int) -> Rows:
        """Go on by some steps; the numbers that the program needs of each."""
        raise NotImplementedError

    def undo(self) -> Callable[[], None]:
        """What takes back all that happens from now on."""
        return lambda: None

    def follows(self) -> bool:
        """Whether it can happen as it did at the capture."""
        return True

    def failing(self) -> str | None:
        """Why it cannot, in words, where that is known."""
        return None


@dataclass(frozen=True)
class NumberEvent(Event):
    """A Python number is looked up."""

    in_turns = True  # such as a step count

    look: Callable[[], float]

    def happen(self, steps: int) -> Rows:
        """The number as it is now."""
        return [(self.look(),)] * steps


@dataclass(frozen=True)
class ScheduleEvent(Event):
    """A schedule goes on."""

    in_turns = True
    schedule: Schedule

    def happen(self, steps: int) -> Rows:
        """Let it change learning rates."""
        for _ in range(steps):
            self.schedule.step()
        return [()] * steps

    def undo(self) -> Callable[[], None]:
        """Set its memory, and the options of the groups, as they are now: they need not be its own."""
        schedule, groups = self.schedule, self.schedule.optimizer.param_groups
        memory = {name: getattr(schedule, name) for name in schedule.memory}
        options = [dict(group) for group in groups]

        def back() -> None:
            for name, value in memory.items():
                setattr(schedule, name, value)
            for group, before in zip(groups, options, strict=True):
                group.update(before)

        return back


@dataclass(frozen=True)
class SweepEvent(Event):
    """A rule runs over some neighbours in a flat buffer: their step count goes on."""

    optimizer: Optimizer
    flat: Flat
    run: list[Part]
    update: Sweep
    buffers: int  # flat buffers of the optimizer at the capture

    def bound(self) -> bool:
        """Whether it is still the same rule, as the optimizer's options choose it now."""
        if not self.flat.current():
            self.optimizer.bind(self.flat)
        return self.flat.update is self.update

    def start(self) -> tuple[Options, dict[str, float]]:
        """The hyperparameters, and the clock before the step: for ledgers."""
        return self.flat.hyperparameters, self.run[0].clock

    def happen(self, steps: int) -> Rows:
        """What the rule computes once for all elements, such as 1 - beta1**t."""
        if not self.bound():
            raise CaptureError("a schedule changed which rule an optimizer follows, in a scan.")
        before = self.run[0].clock
        t, *carried = before.values()
        rows, new = self.update.numbers(t + 1, tuple(carried), self.flat.hyperparameters, steps)
        clock = dict(zip(before, (t + steps, *new), strict=True))
        for part in self.run:
            part.clock = clock
        return rows

    def undo(self) -> Callable[[], None]:
        """Set all clocks as they are now."""
        clocks = [part.clock for part in self.run]

        def back() -> None:
            for part, clock in zip(self.run, clocks, strict=True):
                part.clock = clock

        return back

    def follows(self) -> bool:
        """Whether the optimizer steps by the same loop, over parameters at the same step together."""
        optimizer, clock = self.optimizer, self.run[0].clock
        if optimizer.check_finite or len(optimizer.flats) != self.buffers:
            return False  # it is to look at gradients, or there are more parameters
        same = all([part.clock is clock or part.clock == clock for part in self.run])
        return same and self.bound()  # or some have rested, frozen, in another compiled step

    def failing(self) -> str | None:
        """What the rule reads that is not as it was."""
        return None if self.flat.update is self.update else self.update.outside.failing()
