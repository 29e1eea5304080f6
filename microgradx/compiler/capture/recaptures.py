"""Why a step is captured again and again: guards that fail, what it changes itself; when it is too much."""

import warnings
from collections import Counter

from microgradx.errors import CaptureError, CompileWarning

MANY = 64
"""Variants of one step that are kept at a time; where it needs more, something must be wrong."""

FEW = 8
"""Variants that a step may need because of what it changes itself."""


class Reasons:
    """The reasons for the variants of a step."""

    def __init__(self, name: str):
        self.name = name
        self.guards: Counter[str] = Counter()  # those that have failed
        self.moved: Counter[str] = Counter()  # what the step itself changes, and reads
        self.told = self.crowded = False

    def failed(self, what: str) -> None:
        """A guard has failed: `path: then, now`."""
        self.guards[what.partition(":")[0]] += 1

    def limit(self, count: int, moved: str | None) -> bool:
        """Whether one more variant than so many is one too many, which is told once; raise where it always
        will be.
        """
        if moved is not None:
            self.moved[moved.partition(":")[0]] += 1
            name, times = self.moved.most_common(1)[0]
            if times > FEW:
                why = f"because it changes {name} itself and reads it ({moved})"
                advice = "Pass it as an argument, mg.tensor(...), and change it outside of the step."
                raise CaptureError(f"{self.name} has been captured {times} times, {why}. {advice}")
        if count < MANY or self.crowded:
            return count >= MANY
        self.crowded = True
        many = f"{self.name} has been captured {MANY} times, each time for other shapes, dtypes or values"
        often = "; ".join(f"{name} ({n} times)" for name, n in self.guards.most_common(3))
        changed = f" What changed: {often}." if often else ""
        what = "From now on the one used longest ago makes room, and what was dropped is compiled anew"
        advice = (
            "Pass numbers that change as arrays, mg.tensor(0.1); pad batches to few sizes, or leave out a "
            "shorter one (drop_last). The machine code of what is dropped is freed; of every compilation "
            "anew, Numba keeps about a megabyte."
        )
        warnings.warn(f"{many}.{changed} {what}. {advice}", CompileWarning, 6)
        return True

    def warn(self, moved: str | None) -> None:
        """Tell, once, that a step changes what it reads: it is recorded at each call."""
        if moved is None or self.told:
            return
        self.told = True
        advice = "so every call records it anew, some milliseconds each. Change it outside of the step."
        warnings.warn(f"{self.name} changes what it reads itself, {moved}: {advice}", CompileWarning, 6)
