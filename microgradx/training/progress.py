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
        self.show = show
        if show and sys.stderr.isatty():
            self.start(done)

    def start(self, done: int) -> None:
        """Draw the bar, with `done` steps behind it."""
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        left = TimeRemainingColumn(compact=True, elapsed_when_finished=True)
        text = TextColumn("{task.fields[text]}")
        self.bar = Bar(
            TextColumn("{task.description}"), BarColumn(24), text, left, console=Console(stderr=True)
        )
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
            text = f"loss {loss:.4f}{hits}  {self.samples / (now - self.since):,.0f} samples/s"
            self.bar.update(self.task, description=f"epoch {epoch}/{self.epochs}", completed=done, text=text)

    def epoch(self, history: History) -> None:
        """After each epoch: its record, marked with a star if it is the best so far."""
        record = history.records[-1]
        if not self.show or record["epoch"] % max(1, self.epochs // LINES):
            return
        line = f"epoch {record['epoch']:>{len(str(self.epochs))}}"
        for part, title in (("", "  "), ("valid_", "    validation ")):
            if f"{part}loss" in record:
                line += f"{title}loss {record[f'{part}loss']:.4f}"
            if f"{part}accuracy" in record:
                line += f"  accuracy {record[f'{part}accuracy']:7.2%}"
        best = history.best is record
        if self.bar:
            self.bar.print(f"{line}  [bold]*[/]" if best else line, highlight=False)
        else:  # a pipe, a log, a notebook
            print(f"{line}  *" if best else line, file=sys.stderr, flush=True)
