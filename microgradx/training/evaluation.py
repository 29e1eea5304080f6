"""A model on data that it does not learn from: loss, accuracy and confusion matrix, batch by batch."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from microgradx.eager.mode import no_grad
from microgradx.eager.tensor import Tensor
from microgradx.errors import ArgumentError, ShapeError, shown
from microgradx.kernels.blas import one_thread
from microgradx.nn import Module
from microgradx.optim.flat import Data
from microgradx.training.cluster import Cluster
from microgradx.training.metrics import confusion_matrix, judged

Loss = Callable[..., Tensor]  # (outputs, targets), and reduction="none" where rows have weights


ALONE = Cluster()


def in_units(loss: Loss, unit: float) -> Loss:
    """The loss of scaled targets: what is reported of it is multiplied by `unit`, gradients are not."""
    loss.unit = unit  # type: ignore[attr-defined]
    return loss


def unit_of(loss: Loss) -> float:
    """What a loss is multiplied by where it is reported."""
    return getattr(loss, "unit", 1.0)


class Evaluation(NamedTuple):
    """The mean loss and, for integer labels, the accuracy and the (classes, classes) counts.

    >>> training.Evaluation(0.5, None, None).loss
    0.5
    """

    loss: float
    accuracy: float | None
    confusion: np.ndarray | None


def scalar(found: object, shape: tuple[int, ...] = ()) -> Tensor:
    """What a loss gave, if that is a tensor of one number, or of the shape asked; else an error of ours."""
    if not isinstance(found, Tensor):
        form = "a tensor, made of the outputs by operations of microgradx"
        raise ArgumentError(f"the loss gives {shown(found)}; it must give {form}.")
    if found.shape != shape:
        advice = "a number for each row" if shape else "one number: write loss.mean(), or reduction='mean'"
        raise ShapeError(f"the loss gives a tensor of shape {found.shape}; it must give {advice}.")
    return found


def outputs(
    model: Module, x: Data, batch_size: int = 1024, rows: slice = slice(None)
) -> Iterator[np.ndarray]:
    """The model's outputs in evaluation mode, without gradients, batch by batch: x (n, ...) -> (batch, ...).

    rows: some that are neighbours, by default all.

    >>> model = nn.Sequential(nn.Softmax())
    >>> [part.shape for part in training.outputs(model, np.zeros((5, 2), np.float32), batch_size=4)]
    [(4, 2), (1, 2)]
    """
    training, device = model.training, model.device
    model.eval()
    try:
        with no_grad():
            first, last, _ = rows.indices(len(x))
            for start in range(first, last, batch_size):
                yield model(Tensor(x[start : min(start + batch_size, last)], device=device)).numpy()
    finally:
        model.train(training)


@one_thread(numpy=True)
def evaluate(
    model: Module, x: Data, y: Data, loss: Loss, batch_size: int = 1024, cluster: Cluster = ALONE
) -> Evaluation:
    """Compare the model's outputs for x (n, ...) with y (n, ...), batch by batch, without gradients.

    The bits are the same for any number of threads, and of processes, which share the batches.

    >>> model = nn.Sequential()  # gives back what it gets
    >>> x, y = np.array([[2.0, 0.0], [0.0, 2.0], [0.0, 2.0]], np.float32), np.array([0, 1, 0])
    >>> found = training.evaluate(model, x, y, nn.cross_entropy)
    >>> round(found.accuracy, 3), found.confusion.tolist()
    (0.667, [[1, 1], [0, 1]])
    """
    losses, counts = np.zeros(-(-len(x) // batch_size)), None
    mine = cluster.share(len(losses))
    rows = slice(mine.start * batch_size, mine.stop * batch_size)
    for k, out in enumerate(outputs(model, x, batch_size, rows)):
        start = rows.start + k * batch_size
        target = np.asarray(y[start : start + len(out)])
        with no_grad():
            losses[mine.start + k] = scalar(loss(Tensor(out), target)).item() * len(out)
        if pair := judged(out, target):
            batch = confusion_matrix(*pair, max(2, out.shape[1] if out.ndim > 1 else 2))
            counts = batch if counts is None else counts + batch
    (classes,) = cluster.most(0 if counts is None else len(counts))
    if classes and counts is None:  # of others
        counts = np.zeros((int(classes), int(classes)), np.int64)
    cluster.sum([losses] if counts is None else [losses, counts])
    total = sum(losses.tolist())  # in one order
    accuracy = None if counts is None else float(counts.trace() / max(1, counts.sum()))
    return Evaluation(total / len(x) * unit_of(loss), accuracy, counts)
