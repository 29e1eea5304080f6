"""How good a model is: accuracy and the confusion matrix, on NumPy arrays."""

import numpy as np

from microgradx.errors import ShapeError


def predictions(outputs: np.ndarray) -> np.ndarray:
    """Logits to labels: (n, classes) by the largest, (n,) or (n, 1) by the sign, as 0 or 1."""
    if outputs.ndim == 2 and outputs.shape[1] > 1:
        return outputs.argmax(axis=1)
    return (outputs.reshape(-1) > 0).astype(np.int64)


def correct(outputs: np.ndarray, labels: np.ndarray) -> int | None:
    """How many rows have the right label; None if `labels` are not integers."""
    if labels.dtype.kind not in "iub":
        return None
    return int((predictions(outputs) == labels.reshape(-1)).sum())


def accuracy(outputs: np.ndarray, labels: np.ndarray) -> float:
    """The fraction of rows whose largest output is at their label."""
    return (correct(np.asarray(outputs), np.asarray(labels).astype(np.int64)) or 0) / max(1, len(labels))


def confusion_matrix(predicted: np.ndarray, labels: np.ndarray, classes: int | None = None) -> np.ndarray:
    """(n,), (n,) -> (classes, classes): the count of label (row) and prediction (column)."""
    if predicted.shape != labels.shape:
        raise ShapeError(f"confusion_matrix: {predicted.shape} predictions for {labels.shape} labels.")
    classes = classes or int(max(predicted.max(initial=0), labels.max(initial=0))) + 1
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)
