"""Data sets as NumPy arrays: `(x_train, y_train), (x_test, y_test) = data.digits()`."""

from microgradx.data.idx import read_idx, write_idx
from microgradx.data.images import digits, emnist, fashion_mnist, kmnist, mnist
from microgradx.data.splits import Split, datasets, hold_out

__all__ = [
    "Split",
    "datasets",
    "digits",
    "emnist",
    "fashion_mnist",
    "hold_out",
    "kmnist",
    "mnist",
    "read_idx",
    "write_idx",
]
