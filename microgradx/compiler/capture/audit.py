"""A second look: a step is recorded again from time to time, in case it has changed where no guard looks."""

from typing import Any

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

    def __init__(self, often: Any = None):
        if often is not None and (not isinstance(often, int) or often < 0):
            raise ArgumentError(f"jit: audit must be True, False or a number of calls, not {often!r}.")
        self.often = often

    def due(self, variant: Any, steps: int = 1) -> bool:
        """Whether a variant is to be looked at now, before so many more steps of it."""
        before = variant.calls
        variant.calls += steps
        if variant.calls < variant.next or self.often == 0 and self.often is not None:
            return False
        first = before == 0 and steps == 1
        variant.next = after(variant.calls) if self.often is None else variant.calls + self.often
        return not first
