"""Losses, with PyTorch's names and arguments; targets may be arrays or Tensors.

Every loss takes `reduction`: "mean", "sum" or "none".
"""

from typing import Any

import numpy as np

from microgradx.errors import ArgumentError, DTypeError, ShapeError
from microgradx.primitives.indexing import gather, getitem
from microgradx.primitives.reductions import log_softmax, mean
from microgradx.primitives.reductions import sum as sum_over
from microgradx.primitives.shapes import squeeze
from microgradx.scalars import absolute, exp, log, softplus, square, where
from microgradx.tensor import Tensor, as_array

REDUCTIONS = ("mean", "sum", "none")


def reduce(losses, reduction: str, weights: Any = None):
    """The mean (weighted, where there are weights), the sum, or all of the losses."""
    if reduction not in REDUCTIONS:
        raise ArgumentError(f"reduction must be one of {', '.join(REDUCTIONS)}, not {reduction!r}.")
    if weights is not None:
        losses = losses * weights
    if reduction == "none":
        return losses
    if reduction == "sum" or weights is not None:
        total = sum_over(losses)
        return total if reduction == "sum" else total / float(weights.sum())
    return mean(losses)


def like(name: str, prediction, target):
    """The target in the prediction's dtype; shapes must be equal, broadcasting here is mostly a mistake."""
    if not isinstance(target, Tensor):
        target = as_array(target, prediction.dtype)
    elif target.dtype != prediction.dtype:
        target = target.to(prediction.dtype)
    if target.shape != prediction.shape:
        raise ShapeError(
            f"{name}: the prediction has shape {prediction.shape}, the target {target.shape}. "
            "Reshape one to the other."
        )
    return target


def nll_loss(log_probabilities, labels, weight=None, ignore_index: int = -100, reduction: str = "mean"):
    """-log p of the labelled class: log-probabilities (n, classes) or (n, classes, ...), labels (n, ...).

    `weight` (classes,) weighs each class; labels equal to `ignore_index` do not count.
    """
    labels = np.asarray(labels)
    x = log_probabilities
    if labels.dtype.kind not in "iu":
        raise DTypeError(f"nll_loss: labels must be integers, these are {labels.dtype}.")
    if x.ndim != labels.ndim + 1 or labels.shape != (x.shape[:1] + x.shape[2:] if x.ndim > 1 else ()):
        raise ShapeError(
            f"nll_loss: labels of shape {labels.shape} do not fit predictions of shape {x.shape}."
        )
    axis = 1 if x.ndim > 1 else 0
    counts = labels != ignore_index
    low, high = labels.min(initial=0, where=counts), labels.max(initial=-1, where=counts)
    classes = x.shape[axis]
    if low < 0 or high >= classes:
        raise ArgumentError(
            f"nll_loss: {classes} classes allow labels 0 to {classes - 1}, here {low} to {high}."
        )
    weights = None
    if weight is not None or not counts.all():
        labels = np.where(counts, labels, 0)
        each = np.ones(x.shape[axis]) if weight is None else np.asarray(weight)
        weights = (each[labels] * counts).astype(x.dtype)
    if x.ndim == 2:
        picked = getitem(x, index=(np.arange(len(labels)), labels))
    else:
        picked = squeeze(gather(x, np.expand_dims(labels, axis), axis), axis)
    return reduce(-picked, reduction, weights)


def cross_entropy(
    logits,
    labels,
    weight=None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
):
    """-log softmax of the labelled class; logits (n, classes, ...), integer labels (n, ...).

    Labels may also be probabilities of the logits' shape. `label_smoothing` mixes the labels with the
    uniform distribution: arXiv 1512.00567, section 7.
    """
    if not 0 <= label_smoothing <= 1:
        raise ArgumentError(f"cross_entropy: label_smoothing must be between 0 and 1, not {label_smoothing}.")
    axis = 1 if logits.ndim > 1 else 0
    logp = log_softmax(logits, axis=axis)
    if np.shape(labels) == logits.shape and np.asarray(labels).dtype.kind == "f":
        p = like("cross_entropy", logits, labels)
        if label_smoothing:
            p = p * (1 - label_smoothing) + label_smoothing / logits.shape[axis]
        losses = -sum_over(logp * p if weight is None else logp * p * across(weight, logits), axis)
        return reduce(losses, reduction)
    loss = nll_loss(logp, labels, weight, ignore_index, reduction)
    if not label_smoothing:
        return loss
    labels = np.asarray(labels)
    counts = (labels != ignore_index).astype(logits.dtype)
    smooth = -mean(logp if weight is None else logp * across(weight, logits), axis)
    if weight is None:
        total = counts
    else:
        total = np.asarray(weight)[np.where(counts > 0, labels, 0)] * counts
    smooth = reduce(smooth * counts, "sum" if reduction == "mean" else reduction)
    if reduction == "mean":
        smooth = smooth / float(total.sum())
    return loss * (1 - label_smoothing) + smooth * label_smoothing


def across(weight, logits):
    """Class weights in a shape that broadcasts along the class axis of the logits."""
    return np.asarray(weight, logits.dtype).reshape(
        (-1,) + (1,) * (logits.ndim - 2 if logits.ndim > 1 else 0)
    )


def mse_loss(prediction, target, reduction: str = "mean"):
    """(prediction - target)²"""
    return reduce(square(prediction - like("mse_loss", prediction, target)), reduction)


def l1_loss(prediction, target, reduction: str = "mean"):
    """|prediction - target|"""
    return reduce(absolute(prediction - like("l1_loss", prediction, target)), reduction)


def huber_loss(prediction, target, reduction: str = "mean", delta: float = 1.0):
    """½d² where |d| ≤ delta, else delta(|d| - ½delta), of the difference d (Huber 1964)."""
    if delta <= 0:
        raise ArgumentError(f"huber_loss: delta must be positive, not {delta}.")
    d = absolute(prediction - like("huber_loss", prediction, target))
    return reduce(where(d <= delta, 0.5 * square(d), delta * (d - 0.5 * delta)), reduction)


def binary_cross_entropy_with_logits(logits, target, weight=None, reduction: str = "mean", pos_weight=None):
    """-t log σ(x) - (1 - t) log(1 - σ(x)) without overflow; `pos_weight` weighs the first term."""
    t = like("binary_cross_entropy_with_logits", logits, target)
    if pos_weight is None:
        losses = softplus(logits) - logits * t
    else:
        losses = (1 - t) * logits + (1 + (np.asarray(pos_weight, logits.dtype) - 1) * t) * softplus(-logits)
    if weight is not None:
        losses = losses * np.asarray(weight, logits.dtype)
    return reduce(losses, reduction)


def kl_div(log_probabilities, target, reduction: str = "mean", log_target: bool = False):
    """t (log t - log p), elementwise; reduction="batchmean" divides the sum by n and is the divergence."""
    t = like("kl_div", log_probabilities, target)
    if log_target:
        losses = exp(t) * (t - log_probabilities)
    else:
        losses = t * (log(where(t > 0, t, 1)) - log_probabilities)
    if reduction == "batchmean":
        return sum_over(losses) / losses.shape[0]
    return reduce(losses, reduction)
