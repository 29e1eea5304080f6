"""A second look: a step is recorded again from time to time, in case it has changed where no guard looks."""

from microgradx.compiler.run.compiled_step import CompiledStep
from microgradx.errors import ArgumentError


def after(calls: int) -> int:
    """The call at which to look again: 2, 3, 5, then 10, 100, 1000 and so on."""
    for n in (2, 3, 5):
        if calls < n:
            return n
    n = 10
    while calls >= n:
        n *= 10
    return n


class Audit:
    """How often a step is looked at again: None by a schedule, True at every call, n every n calls."""

    def __init__(self, often: bool | int | None = None):
        if often is not None and (not isinstance(often, int) or often < 0):
            raise ArgumentError(f"jit: audit must be True, False or a number of calls, not {often!r}.")
        self.often = often

    def due(self, step: CompiledStep, steps: int = 1) -> bool:
        """Whether a compiled step is to be looked at now, before so many more steps of it."""
        before = step.calls
        step.calls += steps
        if step.calls < step.next or self.often == 0 and self.often is not None:
            return False
        first = before == 0 and steps == 1
        step.next = after(step.calls) if self.often is None else step.calls + self.often
        return not first
