"""What a person sees while a model trains: a live line, and a line per epoch; off a terminal only these."""

import sys
import time
from typing import TYPE_CHECKING

from microgradx.training.history import History

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

LINES = 25
"""About so many epochs leave a line of their own: all of a short run, every n-th of a long one."""


class Progress:
    """A bar over all steps of a run, with the loss, the accuracy, the speed and the time left."""

    def __init__(self, epochs: int, steps: int, done: int = 0, show: bool = True):
        self.epochs, self.steps = epochs, steps
        self.bar: Bar | None = None
        self.shown = self.since = time.perf_counter()
        self.samples = 0
        self.show, self.headed, self.wide = show, False, True
        if show and sys.stderr.isatty():
            self.start(done)

    def start(self, done: int) -> None:
        """Draw the bar, with `done` steps behind it."""
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        left = TimeRemainingColumn(compact=True, elapsed_when_finished=True)
        console, text = Console(stderr=True), TextColumn("{task.fields[text]}")
        self.wide = console.width >= 80
        drawn = [BarColumn(24)] if self.wide else []
        self.bar = Bar(TextColumn("{task.description}"), *drawn, text, left, console=console)
        self.task = self.bar.add_task("", total=self.epochs * self.steps, completed=done, text="")
        self.bar.start()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar:
            self.bar.stop()

    def step(self, epoch: int, done: int, samples: int, loss: float, accuracy: float | None) -> None:
        """After each step: `samples` rows more, and the means of the epoch so far."""
        self.samples += samples
        now = time.perf_counter()
        last = done % self.steps == 0
        if self.bar and (last or now - self.shown > 0.1):  # redrawing costs more than a step
            self.shown = now
            hits = "" if accuracy is None else f"  accuracy {accuracy:.2%}"
            speed = f"  {self.samples / (now - self.since):,.0f} samples/s" if self.wide else ""
            text = f"loss {short(loss)}{hits}{speed}"
            self.bar.update(self.task, description=f"epoch {epoch}/{self.epochs}", completed=done, text=text)

    def epoch(self, history: History) -> None:
        """After each epoch: its record in columns, with a star at the loss if that is the best so far."""
        record = history.records[-1]
        if not self.show or record["epoch"] % max(1, self.epochs // LINES):
            return
        width = max(5, len(str(self.epochs)))
        titles, cells = ["epoch".rjust(width)], [f"{record['epoch']:>{width}}"]
        for part, title in (("", "loss"), ("valid_", "valid loss")):
            if f"{part}loss" in record:
                wide = max(8, len(title) + 1)
                titles.append(title.rjust(wide))
                cells.append(short(record[f"{part}loss"]).rjust(wide))
            if f"{part}accuracy" in record:
                titles.append(" accuracy")
                cells.append(f"{record[f'{part}accuracy']:9.2%}")
        if not self.headed:
            self.write("".join(titles) + "  * best")
            self.headed = True
        self.write("".join(cells) + "  *" * (history.best is record))

    def write(self, line: str) -> None:
        """A line above the bar; without one, in a pipe, a log or a notebook, a line."""
        if self.bar:
            self.bar.print(line, highlight=False, markup=False, soft_wrap=True)
        else:
            print(line, file=sys.stderr, flush=True)


def short(loss: float) -> str:
    """At most seven letters: `0.1542`, `1234.6`, `1.2e+08`.

    >>> short(0.15421), short(1234.56), short(123456789.0)
    ('0.1542', '1234.6', '1.2e+08')
    """
    return next(text for form in (".4f", ".5g", ".1e") if len(text := f"{loss:{form}}") <= 7 or form == ".1e")
