"""One update from one batch: what `fit`, the pictures of training and the benchmarks run."""

from collections.abc import Callable

from microgradx.eager.creation import zeros
from microgradx.eager.tensor import Tensor
from microgradx.nn import Module, cross_entropy
from microgradx.optim import LBFGS, Optimizer, Schedule, clip_grad_norm_
from microgradx.optim.flat import Data
from microgradx.primitives.reductions import argmax
from microgradx.primitives.reductions import sum as sum_over
from microgradx.primitives.shapes import flatten
from microgradx.training.evaluation import Loss


def update(
    model: Module, optimizer: Optimizer, x: Data | Tensor, loss_of: Callable[[Tensor], Tensor],
    schedule: Schedule | None = None, clip_norm: float | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """One update from one batch: its loss, and the outputs, both as they were before."""
    found: list[Tensor] = []  # outputs; LBFGS evaluates the batch several times

    def closure() -> Tensor:
        optimizer.zero_grad()
        outputs = model(x)
        loss = loss_of(outputs)
        loss.backward()
        if clip_norm is not None:
            clip_grad_norm_(optimizer, clip_norm)
        found.append(outputs)
        return loss

    if isinstance(optimizer, LBFGS):
        loss = optimizer.step(closure)
    else:
        loss = closure()
        optimizer.step()
    if schedule is not None:
        schedule.step()
    return loss, found[0]


def training_step(
    model: Module, optimizer: Optimizer, criterion: Loss = cross_entropy, schedule: Schedule | None = None
) -> Callable[[Data | Tensor, Data | Tensor], Tensor]:
    """A function that trains on one batch and gives its loss: for `jit`, to run it or to look at it."""

    def step(x: Data | Tensor, y: Data | Tensor) -> Tensor:
        return update(model, optimizer, x, lambda outputs: criterion(outputs, y), schedule)[0]

    return step


def right(outputs: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """How many predictions are right, and how many labels there are; both 0 where targets are no labels."""
    if outputs.ndim > 1 and outputs.shape[1] > 1:
        predicted = argmax(outputs, 1)
    else:
        predicted = outputs > 0
    if y.dtype.kind not in "iub" or predicted.size != y.size:
        return zeros(), zeros()
    labels = flatten(y)
    counts = labels >= 0  # a negative label, such as PyTorch's -100, says that the row does not count
    return sum_over((flatten(predicted) == labels) & counts), sum_over(counts)
