"""How good a model is: accuracy and the confusion matrix, on NumPy arrays."""

import numpy as np

from microgradx.errors import ArgumentError, ShapeError


def predictions(outputs: np.ndarray) -> np.ndarray:
    """Logits to labels: (n, classes, ...) -> (n, ...), the largest; (n,) or (n, 1) -> 0 or 1, by the sign.

    >>> training.predictions(np.array([[0.1, 2.0], [3.0, -1.0]]))
    array([1, 0])
    """
    if outputs.ndim > 1 and outputs.shape[1] > 1:
        return outputs.argmax(axis=1)
    return (outputs > 0).astype(np.int64)


def judged(outputs: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """(n,) predictions and (n,) labels; None if the targets are not integers, one per prediction.

    A negative label, such as PyTorch's -100, says that the row does not count.
    """
    predicted = predictions(outputs).reshape(-1)
    if targets.dtype.kind not in "iub" or predicted.size != targets.size:
        return None
    labels = targets.reshape(-1).astype(np.int64)
    counts = labels >= 0
    return predicted[counts], labels[counts]


def accuracy(outputs: np.ndarray, labels: np.ndarray) -> float:
    """The share of predictions that are right: outputs (n, classes, ...), labels (n, ...) of integers.

    A negative label does not count. ShapeError where there is not one label per prediction.

    >>> training.accuracy(np.array([[0.1, 2.0], [3.0, -1.0]]), np.array([1, 1]))
    0.5
    """
    pair = judged(np.asarray(outputs), np.asarray(labels))
    if pair is None:
        raise ShapeError(
            f"accuracy: {np.shape(labels)} are not integer labels for outputs {np.shape(outputs)}."
        )
    return float(np.mean(pair[0] == pair[1]))


def r_squared(outputs: np.ndarray, targets: np.ndarray) -> float:
    """The share of the targets' variance that the outputs explain, R²: 1 - Σ(y - ŷ)² / Σ(y - mean)².

    outputs, targets: (n, ...) numbers, the mean over columns; a constant column counts 1 where it is met,
    else 0, as in scikit-learn's r2_score. ShapeError where the shapes differ.

    >>> training.r_squared(np.array([1.0, 2.0, 4.0]), np.array([1.0, 2.0, 3.0]))
    0.5
    """
    if outputs.shape != targets.shape:
        raise ShapeError(f"r_squared: {outputs.shape} outputs for {targets.shape} targets.")
    found, wanted = (np.asarray(part, np.float64).reshape(len(part), -1) for part in (outputs, targets))
    left = ((wanted - found) ** 2).sum(axis=0)
    all_of_it = ((wanted - wanted.mean(axis=0)) ** 2).sum(axis=0)
    constant = all_of_it == 0
    return float(np.where(constant, left == 0, 1 - left / np.where(constant, 1, all_of_it)).mean())


def confusion_matrix(predicted: np.ndarray, labels: np.ndarray, classes: int | None = None) -> np.ndarray:
    """(n,), (n,) -> (classes, classes): the count of each label (row) and prediction (column), of integers.

    classes: how many there are, by default one more than the largest. ShapeError where there are not as many
    labels as predictions, ArgumentError for a label outside the classes.

    >>> training.confusion_matrix(np.array([0, 1, 1]), np.array([0, 0, 1]))
    array([[1, 1],
           [0, 1]])
    """
    if predicted.shape != labels.shape:
        raise ShapeError(f"confusion_matrix: {predicted.shape} predictions for {labels.shape} labels.")
    largest = int(max(predicted.max(initial=0), labels.max(initial=0)))
    classes = largest + 1 if classes is None else classes
    if largest >= classes or min(predicted.min(initial=0), labels.min(initial=0)) < 0:
        raise ArgumentError(f"confusion_matrix: with {classes} classes, labels are from 0 to {classes - 1}.")
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)
