"""What a person sees while trials run: a live line; off a terminal, a line for every tenth."""

import sys
import time
from collections.abc import Sequence

from microgradx.training.trials.grid import Config
from microgradx.training.trials.journal import Entry, score


class Watch:
    """Counts what has ended and knows the best."""

    def __init__(self, count: int, show: bool = True):
        self.count, self.show = count, show
        self.done = self.failed = 0
        self.best: Entry | None = None
        self.since = self.shown = time.monotonic()
        self.before = 0  # of an earlier process
        self.live = show and sys.stderr.isatty()

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, *error: object) -> None:
        if self.live and self.done:
            self.write(end="\n")

    def told(self, entries: Sequence[Entry]) -> None:
        """Trials that have ended, now or before."""
        for entry in entries:
            self.done += 1
            self.failed += "failed" in entry
            if "result" in entry and (self.best is None or value(entry) < value(self.best)):
                self.best = entry
        now, tenth = time.monotonic(), max(1, self.count // 10)
        if len(entries) > 1:
            self.before, self.since = self.done, now
        if self.live and now - self.shown > 0.1:
            self.shown = now
            self.write(end="")
        elif self.show and not self.live and len(entries) == 1 and self.done % tenth == 0:
            self.write(end="\n")

    def write(self, end: str) -> None:
        """The line."""
        parts = [f"{self.done} of {self.count} trials"]
        if self.failed:
            parts.append(f"{self.failed} failed")
        if self.best:
            parts.append(f"best loss {value(self.best):.4g} ({named(self.best['config'])})")
        if (worked := self.done - self.before) and self.done < self.count:
            left = (time.monotonic() - self.since) / worked * (self.count - self.done)
            parts.append(f"{span(left)} left")
        text = ", ".join(parts)
        if self.live:
            import shutil

            text = "\r" + text[: shutil.get_terminal_size().columns - 1] + "\x1b[K"
        print(text, end=end, file=sys.stderr, flush=True)


def value(entry: Entry) -> float:
    """The loss of a trial that went well."""
    return score(entry["result"])


def named(config: Config) -> str:
    """A configuration in a few words.

    >>> named({"lr": 0.001, "optimizer": "adam"})
    'lr 0.001, optimizer adam'
    """
    return ", ".join(f"{name} {number(value)}" for name, value in config.items())


def number(value: object) -> str:
    """A value as it is shown: a number in at most six digits."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def span(seconds: float) -> str:
    """A time in a few letters.

    >>> span(9.4), span(754.0), span(7300.0)
    ('9 s', '13 min', '2.0 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
