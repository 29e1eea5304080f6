"""Data sets as NumPy arrays: `(x_train, y_train), (x_test, y_test) = data.digits()`.

Every set is a `Split`: it unpacks as above, and knows its `classes` and, for images, its `image_shape`.
"""

from microgradx import familiar
from microgradx.data.batching import Standardize, batches
from microgradx.data.files import load
from microgradx.data.glyphs import synthetic_digits
from microgradx.data.idx import read_idx, write_idx
from microgradx.data.images import digits, emnist, fashion_mnist, kmnist, mnist
from microgradx.data.shards import Shards
from microgradx.data.splits import Split, datasets, hold_out
from microgradx.data.synthetic import blobs, circles, moons, regression, spirals, xor

__all__ = [
    "Shards", "Split", "Standardize", "batches", "blobs", "circles", "datasets", "digits", "emnist",
    "fashion_mnist", "hold_out", "kmnist", "load", "mnist", "moons", "read_idx", "regression", "spirals",
    "synthetic_digits", "write_idx", "xor",
]  # fmt: skip

__getattr__, __dir__ = familiar.of_package("data", __name__)  # for names that are not found
