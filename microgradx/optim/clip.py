"""Gradients kept within bounds before a step; names and meaning as in `torch.nn.utils`."""

import math
from collections.abc import Iterable

import numpy as np

from microgradx.eager.box import look
from microgradx.eager.mode import mode
from microgradx.eager.tensor import Tensor
from microgradx.errors import ArgumentError, NonFiniteError, checked
from microgradx.optim.base import Optimizer
from microgradx.optim.flat import Operand, operand, store
from microgradx.primitives.indexing import stack
from microgradx.primitives.reductions import max as max_over
from microgradx.primitives.reductions import sum as sum_over
from microgradx.scalars import absolute, clip, sqrt, square, where

CHUNK = 8192  # elements: BLAS sums these on one thread, in one order, so a norm always has the same bits

FAINT = 1e-16  # of a norm so small, float32 may have lost squares

Clipped = Optimizer | Tensor | Iterable[Tensor]


def norm(x: Operand, order: float = 2.0) -> Operand:
    """(Σ |x|^order)^(1/order) of all elements, order inf is the largest |x|: a number of an array.

    The norm of a Tensor is a Tensor.
    """
    if isinstance(x, Tensor):
        return recorded_norm(x, order).to(x.dtype)
    flat = x.reshape(-1)
    if order == math.inf:
        return float(np.max(np.abs(flat), initial=0))
    chunks = (flat[i : i + CHUNK] for i in range(0, flat.size, CHUNK))
    if order != 2:
        return math.fsum(float(np.sum(np.abs(chunk) ** order)) for chunk in chunks) ** (1 / order)
    with np.errstate(over="ignore"):
        total = math.sqrt(math.fsum(float(chunk @ chunk) for chunk in chunks))
    # the squares of numbers of float32 may leave its range at either end
    within = total < math.inf and total > FAINT or flat.dtype != np.float32
    return total if within else float(np.linalg.norm(flat.astype(np.float64)))


def recorded_norm(x: Tensor, order: float) -> Tensor:
    """The same in Tensor operations, in float64 as its result: it has room for the squares of float32."""
    y = absolute(x.to(np.float64))
    if order == math.inf:
        total = max_over(y)
    elif order == 2:
        total = sqrt(sum_over(square(y)))
    else:
        total = sum_over(y**order) ** (1 / order)
    return total


def gradients(parameters: Clipped) -> list[Operand]:
    """What to clip: an optimizer's long arrays, or one per tensor with a gradient; Tensors for a recorder."""
    if isinstance(parameters, Optimizer):
        if mode.recorder is None:
            return list(map(operand, parameters.gradients()))
        parameters = parameters.parameters.values()
    tensors = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    if mode.recorder is not None:
        for t in tensors:
            mode.recorder.gradient(t)
    return [operand(t._grad._data) for t in tensors if t._grad is not None]


@checked
def clip_grad_norm_(
    parameters: Clipped, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> Operand:
    """Scale all gradients together to a norm of at most max_norm; returns the norm that it was.

    parameters: an optimizer, which is fastest: its flat buffers are scaled; or tensors. norm_type: the order,
    math.inf for the largest |g|. error_if_nonfinite: NonFiniteError before anything is scaled. ArgumentError
    for a negative bound. Pascanu, Mikolov & Bengio (2013), arXiv 1211.5063.

    >>> w = mg.tensor([3.0, 4.0], requires_grad=True)
    >>> (w * w).sum().backward()
    >>> optim.clip_grad_norm_([w], 1.0)
    10.0
    >>> w.grad.numpy().round(3)
    array([0.6, 0.8], dtype=float32)
    """
    if not (max_norm >= 0 and norm_type > 0):
        got = f"got {max_norm} and {norm_type}"
        raise ArgumentError(f"clip_grad_norm_: max_norm must be at least 0 and norm_type above 0, {got}.")
    found = gradients(parameters)
    recorded = any(isinstance(g, Tensor) for g in found)
    norms = [(recorded_norm if recorded else norm)(g, norm_type) for g in found]
    total = norm(stack(norms) if recorded else np.array(norms, np.float64), norm_type)
    if error_if_nonfinite:
        if recorded:
            look(total, "error_if_nonfinite=True")
        if not math.isfinite(total):
            advice = "optimizer.check_finite = True names the parameter"
            raise NonFiniteError(f"the norm of the gradients is {total}; nothing was scaled; {advice}.")
    scale = max_norm / (total + 1e-6)  # as in PyTorch
    scale = where(scale >= 1, 1.0, scale)
    if recorded or scale != 1:
        for place in found:
            g = place
            g *= scale.to(g.dtype) if recorded else scale
            store(place, g)
    return total


@checked
def clip_grad_value_(parameters: Clipped, clip_value: float) -> None:
    """Clip every element of the gradients to [-clip_value, clip_value]; ArgumentError for a negative bound.

    >>> w = mg.tensor([3.0, -0.1], requires_grad=True)
    >>> (w * w).sum().backward()
    >>> optim.clip_grad_value_([w], 1.0)
    >>> w.grad.numpy()
    array([ 1. , -0.2], dtype=float32)
    """
    if not clip_value >= 0:
        raise ArgumentError(f"clip_grad_value_: clip_value must be at least 0, got {clip_value}.")
    for g in gradients(parameters):
        if isinstance(g, Tensor):
            store(g, clip(g, -clip_value, clip_value))
        else:
            np.clip(g, -clip_value, clip_value, out=g)
