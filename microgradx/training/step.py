"""One update from one batch: what `fit`, the pictures of training and the benchmarks run."""

from collections.abc import Callable

from microgradx.eager.tensor import Tensor
from microgradx.nn import Module, cross_entropy
from microgradx.optim import LBFGS, Optimizer, Schedule
from microgradx.optim.flat import Data
from microgradx.training.evaluation import Loss


def updated(optimizer: Optimizer, closure: Callable[[], Tensor]) -> Tensor:
    """The loss that a closure finds, after an update by its gradients; LBFGS evaluates it several times."""
    if isinstance(optimizer, LBFGS):
        return optimizer.step(closure)
    loss = closure()
    optimizer.step()
    return loss


def training_step(
    model: Module, optimizer: Optimizer, criterion: Loss = cross_entropy, schedule: Schedule | None = None
) -> Callable[[Data | Tensor, Data | Tensor], Tensor]:
    """A function that trains on one batch and gives its loss: for `jit`, to run it or to look at it."""

    def step(x: Data | Tensor, y: Data | Tensor) -> Tensor:
        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            return loss

        loss = updated(optimizer, closure)
        if schedule is not None:
            schedule.step()
        return loss

    return step
