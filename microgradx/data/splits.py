"""A data set in two parts, the registry of all sets, and the held-out part."""

from collections.abc import Callable
from inspect import cleandoc, signature
from typing import TypeVar

import numpy as np

from microgradx.data.shards import Shards
from microgradx.errors import DataError, checked, number, shown, whole

__all__ = ["Split", "datasets", "hold_out"]

Part = tuple[np.ndarray, np.ndarray]
"""x and y; x may be `Shards`, which read as an array does."""


class Split(tuple[Part, Part]):
    """`(x_train, y_train), (x_test, y_test)`, and what else is known of the set.

    x: (n, features), float32. y: (n,) int64 labels from 0, or (n, outputs) float32 for a regression.
    `image_shape`: (height, width) if a row of x is an image, else None. `classes`: a name per label,
    empty for a regression. `columns`: a name per feature, where they have names. DataError for parts that do
    not fit together.

    >>> train, test = (np.zeros((6, 2)), np.arange(6)), (np.ones((2, 2)), np.arange(2))
    >>> data.Split(train, test, classes=tuple("abcdef"))
    Split(6 + 2 rows of 2 features, 6 classes)
    """

    image_shape: tuple[int, int] | None
    classes: tuple[str, ...]
    columns: tuple[str, ...]

    @checked
    def __new__(
        cls,
        train: Part,
        test: Part,
        image_shape: tuple[int, int] | None = None,
        classes: tuple[str, ...] = (),
        columns: tuple[str, ...] = (),
    ) -> "Split":
        """Check the parts and keep what is known of them."""
        made = super().__new__(cls, (check(*train), check(*test)))
        made.image_shape, made.classes, made.columns = image_shape, classes, columns
        if train[0].shape[1] != test[0].shape[1]:
            raise DataError(
                f"both parts need the same features, got {train[0].shape[1]} to train on and "
                f"{test[0].shape[1]} to test on."
            )
        for _, y in made:
            if classes and y.size and not 0 <= y.min() <= y.max() < len(classes):
                raise DataError(
                    f"labels must lie between 0 and {len(classes) - 1} for {len(classes)} classes, "
                    f"got {y.min()} to {y.max()}."
                )
        return made

    def __getnewargs__(self) -> tuple[object, ...]:  # for copy and pickle
        return (*self, self.image_shape, self.classes, self.columns)

    train = property(lambda self: self[0], doc="(x, y) to learn from.")
    test = property(lambda self: self[1], doc="(x, y) held out.")

    def __repr__(self) -> str:
        (x, y), (held_out, _) = self
        kind = f"{len(self.classes)} classes" if self.classes else f"targets of shape {y.shape[1:]}"
        return f"Split({len(x):,} + {len(held_out):,} rows of {x.shape[1]} features, {kind})"


datasets: dict[str, Callable[..., Split]] = {}
"""Every built-in set by its name: the choices of the command line, and their help, are made from it."""

meanings = {
    "n": "rows in all.",
    "noise": "standard deviation of what is added to every number.",
    "test": "the share of the rows that is held out, in (0, 1).",
    "seed": "of the random numbers: the same seed gives the same set.",
    "progress": "called as a file is downloaded, with its name, the bytes that are there, and those in all.",
}
"""What the sets take, where it is the same for all. What they cannot use is an ArgumentError or DataError."""

Loader = TypeVar("Loader", bound=Callable[..., Split])


def dataset(loader: Loader) -> Loader:
    """Enter a function that returns a Split into `datasets`, and what it takes into its docstring."""
    loader = datasets[loader.__name__] = checked(loader)
    words, mark, example = cleandoc(loader.__doc__ or "").partition(">>> ")
    takes = [f"{name}: {meanings[name]}" for name in signature(loader).parameters if name in meanings]
    lines = [words.rstrip(), "", *takes, "", mark + example]
    loader.__doc__ = "\n".join(lines if takes else [words.rstrip(), "", mark + example])
    return loader


def check(x: np.ndarray, y: np.ndarray) -> Part:
    """`(x, y)`, if they are rows of features and as many targets."""
    for name, part in (("x", x), ("y", y)):
        if not isinstance(part, np.ndarray | Shards) or not part.ndim or part.dtype.kind not in "fiub":
            raise DataError(f"{name} must be an array of numbers, not {shown(part)}.")
    if x.ndim != 2:
        raise DataError(f"x must have shape (n, features), got {x.shape}: flatten each sample to one row.")
    if len(x) != len(y):
        raise DataError(f"x and y must have one row per sample, got {len(x)} rows of x and {len(y)} of y.")
    if not x.size:
        raise DataError(f"a data set must not be empty, got x of shape {x.shape}.")
    return x, y


@checked
def hold_out(x: np.ndarray, y: np.ndarray, test: float = 0.2, seed: int = 0) -> tuple[Part, Part]:
    """Set the share `test` of the rows aside, drawn by `seed`; integer labels keep their proportions.

    x: (n, features). y: (n,) or (n, outputs). Gives (x, y) to learn from, and (x, y) held out. DataError
    where either would be empty.

    >>> train, test = data.hold_out(np.zeros((10, 2)), np.arange(10) % 2, test=0.2)
    >>> train[1].shape, test[1]
    ((8,), array([0, 1]))
    """
    check(x, y)
    count, seed = len(x), whole("seed", seed, 0, 2**32 - 1)
    number("test, the share that is held out,", test, "[0, 1]")
    # RandomState, since only its stream is promised to stay the same in every version of NumPy.
    order = np.random.RandomState(seed).permutation(count)
    if y.dtype.kind in "iu":  # class by class, of which the same share of rows is then held out
        order = order[np.argsort(y[order], kind="stable")]
    steps = np.floor(np.arange(count + 1) * test + 1e-9)
    held = np.zeros(count, bool)
    held[order] = np.diff(steps) > 0
    if not 0 < np.count_nonzero(held) < count:
        raise DataError(
            f"test={test} of {count} rows leaves {np.count_nonzero(~held)} to train on and "
            f"{np.count_nonzero(held)} to test on: both parts need at least one."
        )
    if isinstance(x, Shards):
        return (x.only(~held), y[~held]), (x.only(held), y[held])
    return (x[~held], y[~held]), (x[held], y[held])
