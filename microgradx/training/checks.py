"""What `fit` is given, checked: the model and its parts, arrays of as many rows, weights of the rows."""

import json
import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from inspect import signature
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from microgradx.data import Shards
from microgradx.eager.tensor import Tensor
from microgradx.errors import ArgumentError, CheckpointError, ShapeError, TrainingWarning, shown, whole
from microgradx.kernels.random import generator
from microgradx.nn import Module, binary_cross_entropy_with_logits, cross_entropy
from microgradx.optim import LBFGS, Optimizer, Schedule
from microgradx.optim.flat import Data
from microgradx.primitives.reductions import mean
from microgradx.primitives.reductions import sum as sum_over
from microgradx.primitives.shapes import flatten
from microgradx.scalars import where
from microgradx.training.evaluation import Loss, evaluate, scalar
from microgradx.training.identity import words

MANY = 100_000
"""Rows whose targets are looked at before anything starts."""

Given = ArrayLike | Tensor
Pair = tuple[Given, Given]
"""What a user hands over as (x, y)."""

Part = tuple[Data, ...]
"""The same as arrays, (n, ...) each: x, y, and weights of the rows where there are any."""


def weighted(loss: Loss, outputs: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """Σ weight · loss / Σ weight over the rows of a batch."""
    each = loss(outputs, y, reduction="none")
    each = scalar(each, getattr(each, "shape", ())[:1] and (y.shape[0], *each.shape[1:]))
    rows = each if each.ndim == 1 else mean(flatten(each, 1), 1)
    total = sum_over(weight)
    return sum_over(rows * weight) / where(total == 0, 1, total)


def weights_of(given: ArrayLike, rows: int) -> np.ndarray:
    """A number of at least 0 for each row."""
    what = f"fit: sample_weight must be {rows} finite numbers of at least 0, one per row"
    try:
        values = given.numpy() if isinstance(given, Tensor) else np.asarray(given)
    except (TypeError, ValueError):  # lists of several lengths
        raise ArgumentError(f"{what}; got {shown(given)}.") from None
    if values.dtype.kind not in "fiub":
        raise ArgumentError(f"{what}; got {shown(values if values.ndim else given)}.")
    with np.errstate(over="ignore"):
        found = values.astype(np.float32)
    bad = ~((found >= 0) & np.isfinite(found))
    if found.shape != (rows,) or bad.any():
        got = f"{values[bad][0]} among them" if found.shape == (rows,) else f"shape {found.shape}"
        raise ArgumentError(f"{what}; got {got}.")
    if not found.any():
        raise ArgumentError("fit: sample_weight is 0 for all rows: nothing would be learned.")
    return found


def check_weighted(loss: Loss) -> None:
    """ArgumentError for a loss that cannot give a number per row, for their weights."""
    try:
        takes = signature(loss).parameters
    except (TypeError, ValueError):  # of what is not written in Python
        return
    if "reduction" not in takes and all(p.kind is not p.VAR_KEYWORD for p in takes.values()):
        form = "def loss(outputs, targets, reduction='mean')"
        advice = f"Write it as {form}, handing reduction on to a loss of nn, or take one of those"
        raise ArgumentError(
            f"fit: with sample_weight the loss takes reduction='none', this one not. {advice}."
        )


def not_finite(name: str, data: Part) -> str:
    """The first number of x or y that is not finite, as a sentence; "" where there is none."""
    for letter, part in zip("xy", data, strict=False):
        first, rows = "", 0
        for start in range(0, len(part), 4096):  # what is mapped from a file may be larger than memory
            values = np.asarray(part[start : start + 4096])
            bad = np.argwhere(~np.isfinite(values))
            rows += len(np.unique(bad[:, 0]))
            if len(bad) and not first:
                row, *others = bad[0].tolist()
                at = ", ".join(map(str, (start + row, *others)))
                first = f"{letter}[{at}] of {name} is {values[row, *others]}"
        if first:
            return f"The data are not finite: {first}, in {rows} of {len(part)} rows. Mend or drop them."
    return ""


def advise(optimizer: Optimizer, epochs: int, done: int, batch_size: int, rows: int) -> None:
    """Warn of what runs and is hardly meant."""
    if done > epochs:
        what = f"epochs={epochs} counts from the start, and the run has done {done}: nothing is trained"
        warnings.warn(f"fit: {what}. epochs={done + 10} does 10 more.", TrainingWarning, stacklevel=3)
    elif isinstance(optimizer, LBFGS) and batch_size < rows:
        what = f"LBFGS compares gradients of one loss, and each batch of {batch_size} has its own"
        advice = f"It is likely to diverge; a batch size of {rows} takes all rows in one"
        warnings.warn(f"fit: {what}. {advice}.", TrainingWarning, stacklevel=3)


def check_parts(model: object, optimizer: object, loss: object) -> None:
    """ArgumentError for what is no model, no optimizer, or no loss."""
    wanted = {
        "model": (model, isinstance(model, Module), "an nn.Module, such as nn.MLP([784, 128, 10])"),
        "optimizer": (optimizer, isinstance(optimizer, Optimizer), "one of optim, such as "
                      "optim.Adam(model.parameters(), lr=1e-3)"),
        "loss": (loss, callable(loss), "a function of outputs and targets, such as nn.mse_loss"),
    }  # fmt: skip
    for name, (given, fits, what) in wanted.items():
        if not fits:
            raise ArgumentError(f"fit: {name} must be {what}; got {shown(given)}.")
    if callable(loss) and not takes(loss, None, None):
        raise ArgumentError(
            f"fit: loss is called with outputs and targets, and {shown(loss)} takes other things."
        )


def takes(function: Callable[..., object], *arguments: object) -> bool:
    """Whether a function can be called with so many arguments, as far as it says what it takes."""
    try:
        parameters = signature(function)
    except (TypeError, ValueError):  # of what is not written in Python
        return True
    try:
        parameters.bind(*arguments)
    except TypeError:
        return False
    return True


def functions(callbacks: object) -> tuple[Callable[..., object], ...]:
    """The callbacks, each a function of the history; ArgumentError for anything else."""
    what = "fit: callbacks is a list of functions that take the history"
    if callable(callbacks) or not isinstance(callbacks, Iterable):
        raise ArgumentError(
            f"{what}, such as [{'yours' if callable(callbacks) else 'print'}]; got {shown(callbacks)}."
        )
    found = tuple(callbacks)
    for callback in found:
        if not (callable(callback) and takes(callback, None)):
            raise ArgumentError(f"{what}; {shown(callback)} is none.")
    return found


def labels(classes: object) -> tuple[str, ...]:
    """Names of labels, a text for each; ArgumentError for anything else."""
    what = "fit: classes are the names of the labels, each a text of its own, such as ['cat', 'dog']"
    if isinstance(classes, str) or not isinstance(classes, Sequence | np.ndarray):
        raise ArgumentError(f"{what}; got {shown(classes)}.")
    found = tuple(classes)
    for place, name in enumerate(found):
        if not isinstance(name, str) or name in found[:place]:
            raise ArgumentError(
                f"{what}; {shown(name)} is {'there twice' if isinstance(name, str) else 'no text'}."
            )
    return found


def folder(out: object) -> Path:
    """The folder of a run; ArgumentError for what is no path."""
    path = os.fspath(out) if isinstance(out, str | os.PathLike) else None
    if not isinstance(path, str) or not path or "\0" in path:
        raise ArgumentError(f"fit: out is the path of a folder, such as 'runs/first'; got {shown(out)}.")
    return Path(path)


def settings(config: object) -> dict[str, object]:
    """What a user adds to the configuration, as JSON has it; ArgumentError for what it has not."""
    try:
        if isinstance(config, Mapping):
            return dict(json.loads(json.dumps(dict(config), default=str)))
    except (TypeError, ValueError, RecursionError) as error:
        raise ArgumentError(f"fit: config is kept as JSON, and cannot be: {error}.") from None
    raise ArgumentError(
        f"fit: config is a dict for config.json, such as {{'note': 'first'}}; got {shown(config)}."
    )


def counted(name: str, value: object) -> int:
    """A whole number from 1 on, which True is not meant to be."""
    if isinstance(value, bool):
        raise ArgumentError(f"fit: {name} is a whole number of at least 1, not {value}.")
    return whole(f"fit: {name}", value, 1)


def scheduled(schedule: object, optimizer: Optimizer) -> None:
    """ArgumentError for what is no schedule, or one of another optimizer, which would do nothing."""
    if schedule is None:
        return
    if not isinstance(schedule, Schedule):
        advice = "such as optim.StepLR(optimizer, 10)"
        raise ArgumentError(f"fit: schedule must be a schedule, {advice}, got {shown(schedule)}.")
    if schedule.optimizer is not optimizer:
        raise ArgumentError(
            f"fit: the schedule moves the learning rate of another {schedule.optimizer.name}, not of the "
            f"optimizer that trains. Make it of this one: {type(schedule).__name__}(optimizer, ...)."
        )


def same_model(before: str | None, now: str, folder: Path) -> None:
    """CheckpointError where a run would go on with a model that its weights fit, but not its layers."""
    if before not in (None, now):
        raise CheckpointError(
            f"{folder} is a run of\n  {before}\nnot of\n  {now}\nGo on with the model of before."
        )


def arrays(name: str, pair: Pair) -> tuple[Data, Data]:
    """(x, y) as arrays of as many rows, at least one."""
    try:
        x, y = (part.data if isinstance(part, Tensor) else held(part) for part in pair)
    except (TypeError, ValueError):
        raise ArgumentError(
            f"fit: {name} must be a pair of arrays (x, y), got {type(pair).__name__}."
        ) from None
    if x.ndim == 0 or y.ndim == 0 or len(x) != len(y) or len(x) == 0:
        raise ArgumentError(
            f"fit: {name} needs as many targets as rows, at least one; got {x.shape} and {y.shape}."
        )
    return x, y


def held(part: object) -> Data:
    """An array, or what reads like one and stays in its files."""
    return part if isinstance(part, Shards) else np.asarray(part)  # type: ignore[return-value]


def check_targets(loss: Loss, outputs: Tensor, y: Data) -> None:
    """ArgumentError for targets that a loss takes without a word, and that it is not made for."""
    kind = loss.func if isinstance(loss, partial) else loss
    values = np.asarray(y[:MANY])
    if values.dtype.kind != "f" and kind is not binary_cross_entropy_with_logits:
        return
    if kind is cross_entropy and values.shape[1:] == outputs.shape[1:] and values.ndim > 1:
        sums = values.sum(1)
        if (bad := (abs(sums - 1) > 0.01) | (values < 0).any(1)).any():
            row = tuple(np.argwhere(bad)[0].tolist())
            what = f"cross_entropy takes labels or probabilities, and y[{row[0]}] has the sum {sums[row]:g}"
            raise ArgumentError(f"{what}. For a regression: loss=nn.mse_loss.")
    if kind is binary_cross_entropy_with_logits and (bad := (values < 0) | (values > 1)).any():
        what = f"binary_cross_entropy_with_logits takes targets from 0 to 1, and {values[bad][0]} is in y"
        raise ArgumentError(
            f"{what}. For a regression: loss=nn.mse_loss; for several classes: nn.cross_entropy."
        )


def check_count(classes: Sequence[str], outputs: Tensor, y: Data) -> None:
    """ArgumentError where there are names for another number of labels than the model tells apart."""
    count = outputs.shape[1] if outputs.ndim > 1 and outputs.shape[1] > 1 else 2
    if len(classes) not in (0, count) and y.dtype.kind in "iu":
        raise ArgumentError(
            f"the model tells {count} labels apart, and classes has {len(classes)}: {words(list(classes))}."
        )


def rehearse(
    model: Module, loss: Loss, train: Part, valid: tuple[Data, Data] | None, rows: int,
    classes: Sequence[str] = (),
) -> None:  # fmt: skip
    """Some rows of each part, and nothing learned: what does not fit is told before anything starts.

    Gradients are recorded, as in training: a model or a loss may be made of gradients itself.
    """
    training, before = model.training, generator.state_dict()
    model.eval()
    try:
        with fitting("train", *train[:2]):
            x, y, *weight = (Tensor(part[:rows]) for part in train)
            outputs = model(x)
            check_count(classes, outputs, train[1])
            _ = weighted(loss, outputs, y, *weight) if weight else scalar(loss(outputs, y))
            check_targets(loss, outputs, train[1])
        if valid is not None:
            with fitting("valid", *valid):
                evaluate(model, valid[0][:rows], valid[1][:rows], loss)
    finally:
        model.train(training)
        generator.load_state_dict(before)


@contextmanager
def fitting(name: str, x: Data, y: Data) -> Iterator[None]:
    """Inside, an error of model or loss says which data do not fit, and what to do with images."""
    try:
        yield
    except (ShapeError, ArgumentError) as error:
        given = f"fit: {name} has x of shape {x.shape} and y of shape {y.shape}"
        advice, size = "", math.prod(x.shape[1:])
        if x.ndim > 2 and "Flatten" not in str(error):
            flat = f"nn.Sequential(nn.Flatten(), nn.MLP([{size}, ...]))"
            advice = f" Rows of numbers are made of images by nn.Flatten(): {flat}."
        raise type(error)(f"{given}. {error}{advice}") from error


def check_owner(model: Module, optimizer: Optimizer) -> None:
    """ArgumentError where an optimizer has nothing of the model to train: another model's, or all frozen."""
    own = {id(parameter) for parameter in model.parameters()}
    theirs = {id(parameter) for parameter in optimizer.parameters.values()}
    if own and not own & theirs:
        raise ArgumentError(
            f"fit: the optimizer updates {len(theirs)} parameters, none of which is among the model's "
            f"{len(own)}. Make it of the model that is trained: {optimizer.name}(model.parameters(), ...)."
        )
    if theirs and not any(parameter.requires_grad for parameter in optimizer.parameters.values()):
        names = ", ".join(list(optimizer.parameters)[:4]) + ", ..." * (len(theirs) > 4)
        raise ArgumentError(
            f"fit: all {len(theirs)} parameters of the optimizer are frozen ({names}): nothing would be "
            "learned. Unfreeze what is to be trained: model.requires_grad_(), or one layer's."
        )
