"""What `fit` is given, checked: the model and its parts, arrays of as many rows, weights of the rows."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from microgradx.errors import ArgumentError, ShapeError
from microgradx.kernels.random import generator
from microgradx.nn import Module
from microgradx.optim import Optimizer
from microgradx.primitives.reductions import mean
from microgradx.primitives.reductions import sum as sum_over
from microgradx.primitives.shapes import flatten
from microgradx.scalars import where
from microgradx.tensor import Tensor
from microgradx.training.evaluation import Loss, evaluate

Pair = tuple[Any, Any]


def weighted(loss: Loss, outputs: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """Σ weight · loss / Σ weight over the rows of a batch."""
    try:
        each = loss(outputs, y, reduction="none")  # type: ignore[call-arg]
    except TypeError as error:
        raise ArgumentError(f"fit: with sample_weight the loss takes reduction='none': {error}.") from error
    rows = each if each.ndim == 1 else mean(flatten(each, 1), 1)
    total = sum_over(weight)
    return sum_over(rows * weight) / where(total == 0, 1, total)


def weights_of(given: Any, rows: int) -> np.ndarray:
    """A number of at least 0 for each row."""
    found = np.asarray(given, np.float32)
    bad = found[~((found >= 0) & np.isfinite(found))]
    if found.shape != (rows,) or bad.size:
        got = f"{bad[0]} among them" if found.shape == (rows,) else f"shape {found.shape}"
        what = f"sample_weight must be {rows} finite numbers of at least 0, one per row"
        raise ArgumentError(f"fit: {what}; got {got}.")
    return found


def check_parts(model: Any, optimizer: Any, loss: Any) -> None:
    """ArgumentError for what is no model, no optimizer, or no loss."""
    wanted = {
        "model": (model, isinstance(model, Module), "an nn.Module, such as nn.MLP([784, 128, 10])"),
        "optimizer": (optimizer, isinstance(optimizer, Optimizer), "one of optim, such as "
                      "optim.Adam(model.parameters(), lr=1e-3)"),
        "loss": (loss, callable(loss), "a function of outputs and targets, such as nn.mse_loss"),
    }  # fmt: skip
    for name, (given, fits, what) in wanted.items():
        if not fits:
            raise ArgumentError(f"fit: {name} must be {what}; got {given!r}.")


def positive(**values: float | None) -> None:
    """ArgumentError for the first value that is neither None nor above zero."""
    for name, value in values.items():
        if value is not None and not value > 0:
            raise ArgumentError(f"fit: {name} must be above 0, got {value}.")


def arrays(name: str, pair: Pair) -> Pair:
    """(x, y) as arrays of as many rows, at least one."""
    try:
        x, y = (part.data if isinstance(part, Tensor) else np.asarray(part) for part in pair)
    except (TypeError, ValueError):
        raise ArgumentError(
            f"fit: {name} must be a pair of arrays (x, y), got {type(pair).__name__}."
        ) from None
    if x.ndim == 0 or y.ndim == 0 or len(x) != len(y) or len(x) == 0:
        raise ArgumentError(
            f"fit: {name} needs as many targets as rows, at least one; got {x.shape} and {y.shape}."
        )
    return x, y


def rehearse(model: Module, loss: Loss, train: tuple, valid: Pair | None, rows: int) -> None:
    """Some rows of each part, and nothing learned: what does not fit is told before anything starts."""
    training, before = model.training, generator.state_dict()
    model.eval()
    try:
        with fitting("train", *train[:2]):
            x, y, *weight = (Tensor(part[:rows]) for part in train)
            outputs = model(x)
            _ = weighted(loss, outputs, y, *weight) if weight else loss(outputs, y)
        if valid is not None:
            with fitting("valid", *valid):
                evaluate(model, valid[0][:rows], valid[1][:rows], loss)
    finally:
        model.train(training)
        generator.load_state_dict(before)


@contextmanager
def fitting(name: str, x: Any, y: Any) -> Iterator[None]:
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
    """ArgumentError where an optimizer has none of the model's parameters: it is another model's."""
    own = {id(parameter) for parameter in model.parameters()}
    theirs = {id(parameter) for parameter in optimizer.parameters.values()}
    if own and not own & theirs:
        raise ArgumentError(
            f"fit: the optimizer updates {len(theirs)} parameters, none of which is among the model's "
            f"{len(own)}. Make it of the model that is trained: {optimizer.name}(model.parameters(), ...)."
        )
