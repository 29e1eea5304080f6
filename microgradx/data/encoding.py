"""From what files hold to what models take: rows of numbers, and labels from 0."""

import numpy as np

from microgradx.data.images import scaled
from microgradx.data.tables import LARGEST
from microgradx.errors import DataError


def features(x: np.ndarray) -> np.ndarray:
    """(n, ...) of numbers -> (n, features) float32; bytes are pixels, and become [0, 1]."""
    if not x.size:
        raise DataError(f"x must not be empty, got shape {x.shape}.")
    return scaled(x) if x.dtype == np.uint8 else finite(x, "x").reshape(len(x), -1)


def finite(values: np.ndarray, what: str) -> np.ndarray:
    """`values` as float32, if every one is a finite number."""
    if values.dtype.kind not in "fiub":
        raise DataError(f"{what} must hold numbers, got {values.dtype}.")
    with np.errstate(over="ignore"):
        numbers = values.astype(np.float32)
    if not np.isfinite(numbers).all():
        place = tuple(map(int, np.unravel_index(np.argmin(np.isfinite(numbers)), numbers.shape)))
        large = f" {LARGEST}" * bool(np.isfinite(values[place]))
        found = f"got {values[place]} at index {place}.{large}"
        raise DataError(f"{what} must hold finite float32 numbers, {found}")
    return numbers


REGRESSION = "For a regression: regression=True, or `microgradx train --loss mse_loss`."
"""What to write for targets that are no labels."""


def encode(y: np.ndarray, regression: bool) -> tuple[np.ndarray, tuple[str, ...]]:
    """Targets: float32 (n, outputs) for a regression, else labels from 0 and the names of the classes."""
    if regression:
        return finite(y, "y").reshape(len(y), -1), ()
    labels = y.reshape(-1) if y.size == len(y) else y
    if labels.ndim != 1:
        raise DataError(f"y must hold one label per sample, got shape {y.shape}. {REGRESSION}")
    if whole := labels.dtype.kind == "f":  # numbers of a CSV file come as floats
        odd = labels[~(np.isfinite(labels) & (labels == np.floor(labels)))]
        if odd.size:
            raise DataError(f"labels must be integers or names, got {odd[0]}. {REGRESSION}")
    names, codes = np.unique(labels, return_inverse=True)
    return codes.astype(np.int64), tuple(f"{name:.0f}" if whole else str(name) for name in names)
