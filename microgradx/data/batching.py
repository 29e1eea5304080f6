"""What stands between a set and a training step: batches, and features of one scale."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from microgradx.errors import ArgumentError, DataError, checked


class Shuffler(Protocol):
    """What draws an order of rows: a generator of NumPy's, or `mg.generator`."""

    def permutation(self, n: int, /) -> np.ndarray:
        """The numbers below n, shuffled: (n,) integers."""


@checked
def batches(
    x: np.ndarray,
    y: np.ndarray,
    batch_size: int,
    order: ArrayLike | None = None,
    rng: Shuffler | None = None,
    drop_last: bool = False,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs `(x, y)` of `batch_size` rows; the last is shorter, or left out with `drop_last`.

    The rows come as they stand, in `order` (row numbers), or shuffled by `rng` (anything that has
    `permutation(n)`). Without either, batches are views. Raises DataError and ArgumentError at the call.

    >>> x, y = np.arange(10).reshape(5, 2), np.arange(5)
    >>> [part.tolist() for _, part in data.batches(x, y, batch_size=2)]
    [[0, 1], [2, 3], [4]]
    >>> [part.tolist() for _, part in data.batches(x, y, 2, order=[4, 0, 2], drop_last=True)]
    [[4, 0]]
    """
    if len(x) != len(y) or not len(x):
        raise DataError(
            f"x and y must have as many rows, and at least one, got {len(x)} of x and {len(y)} of y."
        )
    if not isinstance(batch_size, int | np.integer) or batch_size < 1:
        raise ArgumentError(f"batch_size must be an integer of at least 1, got {batch_size}.")
    if order is not None and rng is not None:
        raise ArgumentError("give order or rng, not both: rng would replace the order.")
    rows = rng.permutation(len(x)) if rng is not None else None
    if order is not None:
        rows = np.asarray(order)
        if (
            rows.ndim != 1
            or rows.size
            and not (rows.dtype.kind in "iu" and 0 <= rows.min() <= rows.max() < len(x))
        ):
            raise ArgumentError(
                f"order must be a list of row numbers from 0 to {len(x) - 1}, got {rows.dtype} of shape "
                f"{rows.shape} from {rows.min()} to {rows.max()}."
            )
    count = len(x) if rows is None else len(rows)
    stop = count - count % batch_size if drop_last else count
    if not stop:
        raise ArgumentError(f"{count} rows make no batch of {batch_size} with drop_last={drop_last}.")

    def pairs() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for first in range(0, stop, batch_size):
            part = slice(first, min(first + batch_size, stop))
            chosen = part if rows is None else rows[part]
            yield x[chosen], y[chosen]

    return pairs()


class Pieces:
    """Some rows at a time, each time anew."""

    def __init__(self, x: np.ndarray):
        self.x = x

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self.x[first : first + 4096] for first in range(0, len(self.x), 4096))


class Standardize:
    """Shift and scale every feature to mean 0 and deviation 1, as measured on the training part.

    `standardize = Standardize().fit(x_train)`, then `standardize(x_test)`. A feature that is constant in the
    training part is shifted only. `mean` and `scale` are float64 arrays, one number per feature. DataError
    for features that do not fit, or are not finite.

    >>> x = np.array([[1.0, 5.0], [3.0, 5.0]])
    >>> standardize = data.Standardize().fit(x)
    >>> standardize(x)
    array([[-1.,  0.],
           [ 1.,  0.]])
    """

    mean: np.ndarray | None = None
    scale: np.ndarray | None = None

    @checked
    def fit(self, x: np.ndarray) -> Standardize:
        """Measure the mean and deviation of the columns of x (n, features), in float64."""
        if x.ndim != 2 or not x.size:
            raise DataError(f"Standardize.fit needs at least one row and one feature, got shape {x.shape}.")
        pieces = Pieces(x)  # no float64 copy of all rows
        with np.errstate(invalid="ignore", over="ignore"):  # looked at below
            mean = sum(piece.sum(axis=0, dtype=np.float64) for piece in pieces) / len(x)
            variance = sum(((piece - mean) ** 2).sum(axis=0) for piece in pieces) / len(x)
        if not np.isfinite(variance).all():
            column = int(np.argmin(np.isfinite(variance)))
            raise DataError(f"Standardize.fit needs finite features, got NaN or infinity in column {column}.")
        # Compared, not computed: rounding leaves a constant column with a deviation like 1e-17.
        ends = [np.stack([piece.max(axis=0), piece.min(axis=0)]) for piece in pieces]
        constant = np.max(ends, axis=0)[0] == np.min(ends, axis=0)[1]
        self.mean, self.scale = mean, np.where(constant, 1.0, np.sqrt(variance))
        return self

    @checked
    def __call__(self, x: np.ndarray) -> np.ndarray:
        """(n, features) -> the same, standardized, in the dtype of x."""
        mean, scale = self.measured(x)
        return (x - mean) / scale

    @checked
    def inverse(self, x: np.ndarray) -> np.ndarray:
        """Undo it: standardized features (n, features) -> the original ones."""
        mean, scale = self.measured(x)
        return x * scale + mean

    def measured(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and scale in the dtype of x, if they fit it."""
        if self.mean is None or self.scale is None:
            raise DataError("Standardize is not fitted: call fit(x_train) first.")
        if x.shape[-1:] != self.mean.shape:
            raise DataError(f"Standardize was fitted to {len(self.mean)} features, got x of shape {x.shape}.")
        dtype = x.dtype if x.dtype.kind == "f" else np.dtype(np.float32)
        return self.mean.astype(dtype), self.scale.astype(dtype)

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of `mean` and `scale`, to save."""
        if self.mean is None or self.scale is None:
            raise DataError("Standardize is not fitted: call fit(x_train) first.")
        return {"mean": self.mean.copy(), "scale": self.scale.copy()}

    @checked
    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """Take over what `state_dict` returned."""
        mean, scale = (np.asarray(state.get(key, np.nan), np.float64) for key in ("mean", "scale"))
        if mean.ndim != 1 or mean.shape != scale.shape or not (np.isfinite(mean).all() and (scale > 0).all()):
            raise DataError(
                "Standardize needs a mean and a scale > 0 per feature, got shapes "
                f"{mean.shape} and {scale.shape} from the keys {', '.join(state)}."
            )
        self.mean, self.scale = mean.copy(), scale.copy()
