"""Losses, with PyTorch's names and arguments; targets may be arrays or Tensors.

Every loss takes `reduction`, "mean", "sum" or "none": a number of the predictions' dtype, or one per element
or row. ArgumentError for another word.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from microgradx.eager.arrays import as_array
from microgradx.eager.tensor import Tensor
from microgradx.errors import ArgumentError, DTypeError, ShapeError, checked
from microgradx.primitives import Operand, values
from microgradx.primitives.core import Shape
from microgradx.primitives.indexing import Slot, getitem, one_hot
from microgradx.primitives.reductions import cross_entropy_rows, log_softmax, mean
from microgradx.primitives.reductions import sum as sum_over
from microgradx.primitives.shapes import cast, permute, reshape
from microgradx.scalars import absolute, exp, log, minimum, softplus, square, where

Like = TypeVar("Like", bound=Any)
"""Predictions, an array or a Tensor, whose operators share no type; the loss is one, too."""


def reduce(losses: Operand, reduction: str, weights: Operand | None = None) -> Operand:
    """The mean, the sum, or all of the losses; weights are in them already, and divide the mean.

    Where all weights are 0 the mean is NaN and its gradient 0, as in PyTorch. ShapeError for a mean over no
    rows: it would be NaN, its gradient too, and all parameters after a step by that.
    """
    if reduction == "mean":
        check_rows(losses)
        if weights is None:
            return mean(losses)
        total = sum_over(weights)
        return where(total == 0, math.nan, sum_over(losses) / where(total == 0, 1, total))
    if reduction == "sum":
        return sum_over(losses)
    if reduction == "none":
        return losses
    raise ArgumentError(f"reduction must be one of mean, sum, none, not {reduction!r}.")


def check_rows(losses: Operand) -> None:
    """ShapeError where there is nothing to take a mean of."""
    if not losses.size:
        what = f"a loss is a mean over nothing, the losses of an empty batch have the shape {losses.shape}"
        raise ShapeError(f'{what}. Leave such batches out, or take reduction="sum".')


def like(name: str, prediction: Operand, target: Operand) -> Operand:
    """The target in the prediction's dtype; shapes must be equal, broadcasting here is mostly a mistake."""
    dtype, shape = prediction.dtype, prediction.shape
    kind = np.dtype(getattr(target, "dtype", np.float32)).kind
    target = target.to(dtype) if isinstance(target, Tensor) else as_array(target, dtype)
    if target.shape != shape:
        labels = kind in "iu" and shape[:1] + shape[2:] == target.shape and shape[1:2] > (1,)
        advice = f"; labels go into cross_entropy, or as one_hot(labels, {shape[1]})" if labels else ""
        raise ShapeError(
            f"{name}: the prediction has shape {shape}, the target {target.shape}; reshape one{advice}."
        )
    return target


def beside(given: Operand, dtype: DTypeLike | None = None) -> Operand:
    """What stands beside the predictions and has no gradient: an array, a Tensor where it is traced."""
    known = values(given)
    known = given.detach() if known is None else known
    return known if dtype is None else cast(known, dtype=dtype)


def rows_of(
    loss: str, x: Operand, labels: Operand, weight: ArrayLike | None, ignore_index: int
) -> tuple[Operand, Operand, Operand | None]:
    """Predictions as rows (n, classes), labels (n,) that all name a class, and the weight of each row.

    The weights are None where all are 1. Classes are on axis 1 of (n, classes, ...), or alone.
    """
    labels = beside(labels)
    if labels.dtype.kind not in "iu":
        raise DTypeError(f"{loss}: labels must be integers, these are {labels.dtype}: cast them.")
    if x.ndim != labels.ndim + 1 or labels.shape != (x.shape[:1] + x.shape[2:] if x.ndim > 1 else ()):
        advice = " Write labels.reshape(-1)." * (x.ndim == 2 and labels.shape == (len(x), 1))
        unfit = f"labels of shape {labels.shape} do not fit predictions of shape {x.shape}"
        raise ShapeError(f"{loss}: {unfit}.{advice}")
    if x.ndim != 2:
        order = (0, *range(2, x.ndim), 1)[: x.ndim]
        x, labels = reshape(permute(x, order), -1, x.shape[order[-1]]), labels.reshape(-1)
    n, weights = x.shape[1], None
    away = isinstance(labels, Tensor) and labels.device == "cuda"  # no repeating of a step that has met -100
    if weight is not None or ignore_index >= 0 or away or not all_name(labels, n):
        counts = labels != ignore_index
        labels = where(counts, labels, 0)
        if not all_name(labels, n):
            ends = f"{labels.min()} to {labels.max()}"
            raise ArgumentError(f"{loss}: {n} classes allow labels 0 to {n - 1}, not {ends}.")
        weights = counts
        if weight is not None:
            each = beside(weight)
            if each.shape != (n,):
                raise ShapeError(f"{loss}: {n} classes need as many weights, here {each.shape}.")
            weights = getitem(each, labels, index=(Slot(0),)) * counts
        weights = cast(weights, dtype=x.dtype)
    return x, labels, weights


def all_name(labels: Operand, n: int) -> bool:
    """Whether all labels name one of n classes; of Tensors, whose values are not at hand: kernels check."""
    if isinstance(labels, Tensor) or not labels.size:
        return True
    unsigned = labels.view(f"u{labels.itemsize}")  # in which a negative number is larger than any class
    return np.maximum.reduce(unsigned, initial=0) < n


def reduce_rows(losses: Operand, weights: Operand | None, reduction: str, shape: Shape) -> Operand:
    """Reduce the losses of rows, in the shape that the labels have."""
    return reduce(losses if losses.shape == shape else reshape(losses, shape=shape), reduction, weights)


@checked
def nll_loss(
    log_probabilities: Like, labels: ArrayLike, weight: ArrayLike | None = None, ignore_index: int = -100,
    reduction: str = "mean",
) -> Like:  # fmt: skip
    """-log p of the labelled class: log-probabilities (n, classes, ...), integer labels (n, ...).

    `weight` (classes,) weighs each class; labels equal to `ignore_index` do not count. ShapeError,
    DTypeError or ArgumentError where labels do not fit the predictions.

    >>> nn.nll_loss(mg.log_softmax(mg.tensor([[0.0, 0.0], [0.0, 0.0]])), [0, 1])
    tensor(0.6931472)
    """
    rows, flat, weights = rows_of("nll_loss", log_probabilities, labels, weight, ignore_index)
    losses = -getitem(rows, np.arange(len(flat)), flat, index=(Slot(0), Slot(1)))
    losses = losses if weights is None else losses * weights
    return reduce_rows(losses, weights, reduction, np.shape(labels))


@checked
def cross_entropy(
    logits: Like, labels: ArrayLike, weight: ArrayLike | None = None, ignore_index: int = -100,
    reduction: str = "mean", label_smoothing: float = 0.0,
) -> Like:  # fmt: skip
    """-log softmax of the labelled class: logits (n, classes, ...), integer labels (n, ...).

    Labels may also be probabilities of the logits' shape. `label_smoothing` mixes the labels with the
    uniform distribution: arXiv 1512.00567, section 7. `weight` (classes,) weighs each class; labels equal to
    `ignore_index` do not count. Errors are those of `nll_loss`.

    >>> nn.cross_entropy(mg.tensor([[2.0, 0.0], [0.0, 2.0]]), [0, 0], reduction="none")
    tensor([0.12692805, 2.126928  ])
    """
    if logits.ndim and logits.shape[logits.ndim > 1] == 1:
        advice = "Give an output per class; or take binary_cross_entropy_with_logits for one logit, mse_loss"
        what = f"logits of shape {logits.shape} are of one class, and the loss is 0 whatever they are"
        raise ShapeError(f"cross_entropy: {what}. {advice} for a number.")
    if not 0 <= label_smoothing <= 1:
        raise ArgumentError(f"cross_entropy: label_smoothing must be between 0 and 1, not {label_smoothing}.")
    if (given := beside(labels)).dtype.kind == "f" and given.shape == logits.shape:
        return soft_cross_entropy(logits, labels, weight, reduction, label_smoothing)
    rows, flat, weights = rows_of("cross_entropy", logits, given, weight, ignore_index)
    if label_smoothing:
        p = one_hot(flat, rows.shape[1], rows.dtype)
        losses = soft_cross_entropy(rows, p, weight, "none", label_smoothing)
        losses = losses * (given.reshape(-1) != ignore_index)
    else:
        losses = cross_entropy_rows(rows, flat)
        losses = losses if weights is None else losses * weights
    return reduce_rows(losses, weights, reduction, given.shape)


def soft_cross_entropy(
    logits: Operand,
    probabilities: ArrayLike,
    weight: ArrayLike | None,
    reduction: str,
    label_smoothing: float,
) -> Operand:
    """-Σ p log softmax over the classes, for labels that are distributions."""
    axis = 1 if logits.ndim > 1 else 0
    p = like("cross_entropy", logits, probabilities)
    if label_smoothing:
        p = p * (1 - label_smoothing) + label_smoothing / logits.shape[axis]
    if weight is not None:
        p = p * reshape(beside(weight, logits.dtype), (-1,) + (1,) * (logits.ndim - axis - 1))
    return reduce(-sum_over(log_softmax(logits, axis) * p, axis), reduction)


@checked
def mse_loss(prediction: Like, target: ArrayLike, reduction: str = "mean") -> Like:
    """(prediction - target)², of one shape: (...) -> (), or (...) for "none"; ShapeError for two.

    >>> nn.mse_loss(mg.tensor([1.0, 2.0]), [0.0, 0.0])
    tensor(2.5)
    """
    return reduce(square(prediction - like("mse_loss", prediction, target)), reduction)


@checked
def l1_loss(prediction: Like, target: ArrayLike, reduction: str = "mean") -> Like:
    """|prediction - target|, of one shape: (...) -> (), or (...) for "none"; ShapeError for two.

    >>> nn.l1_loss(mg.tensor([1.0, -2.0]), [0.0, 0.0])
    tensor(1.5)
    """
    return reduce(absolute(prediction - like("l1_loss", prediction, target)), reduction)


@checked
def huber_loss(prediction: Like, target: ArrayLike, reduction: str = "mean", delta: float = 1.0) -> Like:
    """½d² where |d| ≤ delta, else delta(|d| - ½delta), of the difference d of one shape.

    ShapeError for two shapes, ArgumentError where delta is not above 0.
    Huber (1964), Robust Estimation of a Location Parameter.

    >>> nn.huber_loss(mg.tensor([0.5, -3.0]), [0.0, 0.0], reduction="none")
    tensor([0.125, 2.5  ])
    """
    if delta <= 0:
        raise ArgumentError(f"huber_loss: delta must be positive, not {delta}.")
    d = absolute(prediction - like("huber_loss", prediction, target))
    near = minimum(d, delta)  # both parts in one: no square of what is far, which could overflow
    return reduce(near * (d - 0.5 * near), reduction)


@checked
def binary_cross_entropy_with_logits(
    logits: Like,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    reduction: str = "mean",
    pos_weight: ArrayLike | None = None,
) -> Like:
    """-t log σ(x) - (1 - t) log(1 - σ(x)) without overflow; `pos_weight` weighs the first term.

    Targets t, of the logits' shape, are 0, 1 or between; weights broadcast against them. ShapeError for
    another shape.

    >>> nn.binary_cross_entropy_with_logits(mg.tensor([0.0, 100.0]), [1.0, 0.0], reduction="none")
    tensor([  0.6931472, 100.       ])
    """
    t = like("binary_cross_entropy_with_logits", logits, target)
    sure = softplus(-logits)  # -log σ(x); of the two terms none cancels the other
    if pos_weight is not None:
        sure = sure * beside(pos_weight, logits.dtype)
    losses = t * sure + (1 - t) * softplus(logits)
    if weight is not None:
        losses = losses * beside(weight, logits.dtype)
    return reduce(losses, reduction)


@checked
def kl_div(
    log_probabilities: Like, target: ArrayLike, reduction: str = "mean", log_target: bool = False
) -> Like:
    """t (log t - log p), elementwise; reduction="batchmean" divides the sum by n and is the divergence.

    Targets t, or their logarithms, have the shape of log p, else ShapeError. Kullback & Leibler (1951).

    >>> p = mg.tensor([[0.5, 0.5]])
    >>> nn.kl_div(mg.log(p), [[1.0, 0.0]], reduction="batchmean")
    tensor(0.6931472)
    """
    t = like("kl_div", log_probabilities, target)
    if log_target:
        losses = exp(t) * (t - log_probabilities)
    else:
        losses = t * (log(where(t > 0, t, 1)) - log_probabilities)
    if reduction == "batchmean":
        check_rows(losses)
        return sum_over(losses) / losses.shape[0]
    return reduce(losses, reduction)
