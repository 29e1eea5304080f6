"""What a run measured: one record per epoch, in memory and as a line of JSON.

history = fit(...)
history["valid_loss"]      # one number per epoch
History.read("runs/digits-1/history.jsonl").best
"""

import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from microgradx.data.reading import regular
from microgradx.errors import ArgumentError, DataError, TrainingWarning
from microgradx.extras import install
from microgradx.training.files import Json, append, replace

Record = Json  # numbers; an observer of a run adds more
"""Of an epoch: "epoch", "step", "loss", "accuracy", "valid_loss", "valid_accuracy", "lr", "seconds"."""

NUMBERS = ("step", "loss", "accuracy", "valid_loss", "valid_accuracy", "lr")
"""What is read of a record."""


class History:
    """The records of a run, oldest first; with a path, each is also appended to that file.

    `history[name]` is a column, `history.best` a record. ArgumentError for a column that there is none of.

    >>> history = training.History("history.jsonl")
    >>> for epoch, loss in enumerate((0.5, 0.25, 0.375), 1):
    ...     history.append({"epoch": epoch, "loss": loss})
    >>> history["loss"], history.best
    ([0.5, 0.25, 0.375], {'epoch': 2, 'loss': 0.25})
    >>> training.History.read("history.jsonl")["epoch"]
    [1, 2, 3]
    """

    def __init__(self, path: str | Path | None = None):
        self.records: list[Record] = []
        self.path = Path(path) if path else None

    def __repr__(self) -> str:
        return f"<History of {len(self)} epochs{f', best {self.best}' if self.records else ''}>"

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    def __getitem__(self, name: str) -> list[Any]:  # of numbers, or of what an observer took
        """One column: a value per epoch, None where an epoch has none."""
        names = {key for record in self.records for key in record}
        if self.records and name not in names:
            raise ArgumentError(f"the history has no {name!r}; it has {', '.join(sorted(names))}.")
        return [record.get(name) for record in self.records]

    @property
    def best(self) -> Record:
        """The first record with the smallest loss, on the validation data if there was any."""
        if not self.records:
            raise ArgumentError("the history is empty: no epoch was trained.")
        return min(self.records, key=watched)

    def append(self, record: Record) -> None:
        """Add a record, and its line to the file."""
        self.records.append(record)
        if self.path:
            append(self.path, json.dumps(record) + "\n")

    @classmethod
    def read(cls, path: str | Path) -> "History":
        """The records of a file; a last line cut short, as a crash leaves it, does not count."""
        history = cls(path)
        for number, line in enumerate(lines(Path(path)), 1):
            if (record := parsed(line)) is None:
                raise DataError(
                    f"{path}, line {number}, is no record of an epoch: {line[:40]!r}. Remove that line."
                )
            history.records.append(record)
        return history

    @classmethod
    def recovered(cls, path: Path, epochs: int, last: Record | None) -> "History":
        """What is left of the records of so many epochs, the last one apart; a warning names what is lost."""
        history, why = cls(path), "are not in it"
        try:
            found = [parsed(line) for line in lines(path)]
        except DataError as error:
            found, why = [], f"are lost: {error}"
        known = {record["epoch"]: record for record in [*found, last] if record and "loss" in record}
        history.records = [known[epoch] for epoch in sorted(known) if 0 < epoch <= epochs]
        if lost := [epoch for epoch in range(1, epochs + 1) if epoch not in known]:
            which = (
                f"epoch {lost[0]}" if len(lost) == 1 else f"{len(lost)} epochs from {lost[0]} to {lost[-1]}"
            )
            what = f"{path}: the records of {which} {why}; weights and all else are whole"
            warnings.warn(f"{what}, and the run goes on.", TrainingWarning, stacklevel=4)
        history.keep(epochs)
        return history

    def keep(self, epochs: int) -> None:
        """Forget what came after the first `epochs` epochs, in the file too."""
        self.records = [record for record in self.records if record["epoch"] <= epochs]
        if self.path and (self.records or self.path.exists()):
            text = "".join(json.dumps(record) + "\n" for record in self.records)
            replace(self.path, text.encode())


def lines(path: Path) -> list[str]:
    """The lines of a file, none where there is none; what follows the last newline was cut short."""
    try:
        with regular(path) as file:
            return file.read().decode(errors="replace").split("\n")[:-1]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None


def parsed(line: str) -> Record | None:
    """The record of an epoch in a line; None where it is something else."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or type(record.get("epoch")) is not int:
        return None
    known = (record[name] for name in NUMBERS if record.get(name) is not None)
    return record if all(type(value) in (int, float) for value in known) else None


def watched(record: Record) -> float:
    """The loss that says whether an epoch is better than another: on the validation data if there was any."""
    return record["valid_loss"] if "valid_loss" in record else record["loss"]


def tensorboard(folder: str | Path) -> Callable[[History], None]:
    """A callback for `fit` that writes every number of every epoch where TensorBoard finds it.

    folder: where `tensorboard --logdir` looks. ArgumentError where TensorBoard is not installed.

    >>> write = training.tensorboard("board")  # doctest: +SKIP
    >>> mg.fit(model, optimizer, train, callbacks=[write])  # doctest: +SKIP
    """
    try:
        from tensorboard.summary import Writer
    except ImportError:
        raise ArgumentError(f"TensorBoard is not installed: {install('tensorboard')}.") from None
    writer = Writer(str(folder))

    def write(history: History) -> None:
        record = history.records[-1]
        for name, value in record.items():
            if name != "epoch" and value is not None:
                writer.add_scalar(name, value, record["epoch"])
        writer.flush()

    return write
