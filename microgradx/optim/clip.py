"""Gradients kept within bounds before a step; names and meaning as in `torch.nn.utils`."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from microgradx.errors import ArgumentError, NonFiniteError
from microgradx.optim.optimizer import Optimizer
from microgradx.tensor import Tensor

CHUNK = 8192  # elements: BLAS sums these on one thread, in one order, so a norm always has the same bits


def norm(array: np.ndarray, order: float = 2.0) -> float:
    """(Σ |x|^order)^(1/order) of all elements, summed in chunks; order inf is the largest |x|."""
    flat = array.reshape(-1)
    if order == math.inf:
        return float(np.max(np.abs(flat), initial=0))
    chunks = (flat[i : i + CHUNK] for i in range(0, flat.size, CHUNK))
    if order != 2:
        return math.fsum(float(np.sum(np.abs(chunk) ** order)) for chunk in chunks) ** (1 / order)
    with np.errstate(over="ignore"):
        total = math.sqrt(math.fsum(float(chunk @ chunk) for chunk in chunks))
    # infinite perhaps for finite numbers of float32 whose squares are not
    return total if total < math.inf else float(np.linalg.norm(flat.astype(np.float64)))


def gradients(parameters: Optimizer | Tensor | Iterable[Tensor]) -> list[np.ndarray]:
    """The arrays to clip: an optimizer's long ones, or one per tensor that has a gradient."""
    if isinstance(parameters, Optimizer):
        return parameters.gradients()
    tensors = [parameters] if isinstance(parameters, Tensor) else parameters
    return [t._grad._data for t in tensors if t._grad is not None]


def clip_grad_norm_(
    parameters: Any, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> float:
    """Scale all gradients together to a norm of at most max_norm; returns the norm that it was.

    An optimizer in the place of the parameters is fastest: its flat buffers are scaled.
    """
    if not (max_norm >= 0 and norm_type > 0):
        got = f"got {max_norm} and {norm_type}"
        raise ArgumentError(f"clip_grad_norm_: max_norm must be at least 0 and norm_type above 0, {got}.")
    arrays = gradients(parameters)
    total = norm(np.array([norm(array, norm_type) for array in arrays], np.float64), norm_type)
    if error_if_nonfinite and not math.isfinite(total):
        advice = "optimizer.check_finite = True names the parameter"
        raise NonFiniteError(f"the norm of the gradients is {total}; nothing was scaled; {advice}.")
    scale = max_norm / (total + 1e-6)  # as in PyTorch
    if not scale >= 1:
        for array in arrays:
            array *= array.dtype.type(scale)
    return total


def clip_grad_value_(parameters: Any, clip_value: float) -> None:
    """Clip every element of the gradients to [-clip_value, clip_value]."""
    if not clip_value >= 0:
        raise ArgumentError(f"clip_grad_value_: clip_value must be at least 0, got {clip_value}.")
    for array in gradients(parameters):
        np.clip(array, -clip_value, clip_value, out=array)
