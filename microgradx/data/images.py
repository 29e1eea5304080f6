"""The image sets: embedded, found in a folder, or downloaded, and checked in each case."""

import string
import zipfile
from pathlib import Path

import numpy as np

from microgradx.data.download import Progress
from microgradx.data.idx import read_idx
from microgradx.data.sources import PublishedFile, find
from microgradx.data.splits import Part, Split, dataset, hold_out
from microgradx.errors import ArgumentError, DataError

DIGITS = tuple(string.digits)
# fmt: off
CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
           "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
# fmt: on
KUZUSHIJI = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
MERGED = (*string.digits, *string.ascii_uppercase, *"abdefghnqrt")  # lower case where it looks different
UNMERGED = (*string.digits, *string.ascii_uppercase, *string.ascii_lowercase)
EMNIST = {
    "balanced": MERGED,
    "bymerge": MERGED,
    "byclass": UNMERGED,
    "letters": tuple(string.ascii_lowercase),
    "digits": DIGITS,
    "mnist": DIGITS,
}
"""The splits of EMNIST and the names of their classes (Cohen et al., 2017)."""


def scaled(pixels: np.ndarray, brightest: int = 255) -> np.ndarray:
    """(n, height, width) of integers up to `brightest` -> (n, height * width) float32 in [0, 1]."""
    return np.divide(pixels.reshape(len(pixels), -1), np.float32(brightest), dtype=np.float32)


@dataset
def digits() -> Split:
    """1,797 handwritten digits of 8x8 pixels, embedded: 1,438 to train on and 359 held out.

    UCI "Optical Recognition of Handwritten Digits" (Alpaydin & Kaynak, 1998), CC BY 4.0: digits/SOURCE.md.

    >>> data.digits()
    Split(1,438 + 359 rows of 64 features, 10 classes)
    """
    folder = Path(__file__).parent / "digits"
    images = read_idx(folder / "images-idx3-ubyte.gz")
    labels = read_idx(folder / "labels-idx1-ubyte.gz")
    train, test = hold_out(scaled(images, 16), labels.astype(np.int64))
    return Split(train, test, (8, 8), DIGITS)


def published() -> dict[str, tuple[PublishedFile, ...]]:
    """The files of every published set, from checksums.txt."""
    found: dict[str, tuple[PublishedFile, ...]] = {}
    for line in (Path(__file__).parent / "checksums.txt").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            collection, name, size, digest, content = line.split()
            file = PublishedFile(name, int(size), digest, content.strip("-"))
            found[collection] = (*found.get(collection, ()), file)
    return found


FILES = published()
(EMNIST_ARCHIVE,) = FILES.pop("emnist")
# Mirrors: torchvision (MNIST, KMNIST), Keras and Zalando (Fashion-MNIST), NIST (EMNIST).
MIRRORS = {
    "mnist": (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    "fashion-mnist": (
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ),
    "kmnist": ("https://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
    "emnist": (
        "https://biometrics.nist.gov/cs_links/EMNIST/",
        "https://www.itl.nist.gov/iaui/vip/cs_links/EMNIST/",
    ),
}


def mnist_like(collection: str, classes: tuple[str, ...], progress: Progress | None) -> Split:
    """60,000 images to train on and 10,000 to test on, from the four files of MNIST and its successors."""
    arrays, names = [], tuple(file.name for file in FILES[collection])
    for file in FILES[collection]:
        path = file.obtain(collection, MIRRORS[collection], progress, names)
        array = file.check(path, read_idx(path))
        count = 10_000 if file.name.startswith("t10k") else 60_000
        shape = (count, 28, 28) if "images" in file.name else (count,)
        if array.shape != shape or array.dtype != np.uint8:
            raise DataError(f"{path} must hold shape {shape} of uint8, got {array.shape} of {array.dtype}.")
        arrays.append(array)
    x, y, x_test, y_test = arrays
    return Split(
        (scaled(x), y.astype(np.int64)), (scaled(x_test), y_test.astype(np.int64)), (28, 28), classes
    )


@dataset
def mnist(progress: Progress | None = None) -> Split:
    """70,000 handwritten digits of 28x28 pixels (LeCun, Cortes & Burges, 1998).

    http://yann.lecun.com/exdb/mnist/. DataError where it is neither in a folder nor to be downloaded.

    >>> data.mnist()  # doctest: +SKIP
    Split(60,000 + 10,000 rows of 784 features, 10 classes)
    """
    return mnist_like("mnist", DIGITS, progress)


@dataset
def fashion_mnist(progress: Progress | None = None) -> Split:
    """70,000 pictures of clothes in 10 classes, 28x28 pixels (Xiao, Rasul & Vollgraf, 2017).

    arXiv 1708.07747. DataError where it is neither in a folder nor to be downloaded.

    >>> data.fashion_mnist()  # doctest: +SKIP
    Split(60,000 + 10,000 rows of 784 features, 10 classes)
    """
    return mnist_like("fashion-mnist", CLOTHES, progress)


@dataset
def kmnist(progress: Progress | None = None) -> Split:
    """70,000 cursive Japanese characters in 10 classes, 28x28 pixels (Clanuwat et al., 2018).

    arXiv 1812.01718. DataError where it is neither in a folder nor to be downloaded.

    >>> data.kmnist()  # doctest: +SKIP
    Split(60,000 + 10,000 rows of 784 features, 10 classes)
    """
    return mnist_like("kmnist", KUZUSHIJI, progress)


@dataset
def emnist(split: str = "balanced", progress: Progress | None = None) -> Split:
    """Handwritten letters and digits, 28x28 pixels, in one of six splits (Cohen et al., 2017).

    `split`: balanced, bymerge, byclass, letters, digits or mnist. The files are read out of NIST's archive
    gzip.zip (562 MB), or from a folder that has them one by one. arXiv 1702.05373. DataError where they are
    neither in a folder nor to be downloaded, ArgumentError for another split.

    >>> data.emnist("letters")  # doctest: +SKIP
    Split(124,800 + 20,800 rows of 784 features, 26 classes)
    """
    if split not in EMNIST:
        raise ArgumentError(f"emnist has the splits {', '.join(EMNIST)}, got {split!r}.")
    parts: list[Part] = []
    for part in ("train", "test"):
        images = emnist_file(f"emnist-{split}-{part}-images-idx3-ubyte.gz", progress)
        labels = emnist_file(f"emnist-{split}-{part}-labels-idx1-ubyte.gz", progress).astype(np.int64)
        # The images are stored column by column, and the letters counted from 1.
        parts.append((scaled(images.transpose(0, 2, 1)), labels - (split == "letters")))
    return Split(parts[0], parts[1], (28, 28), EMNIST[split])


def emnist_file(name: str, progress: Progress | None) -> np.ndarray:
    """One file of EMNIST: by itself in a folder, or in the archive."""
    if path := find("emnist", name):
        return read_idx(path)
    archive = EMNIST_ARCHIVE.obtain("emnist", MIRRORS["emnist"], progress)
    try:
        with zipfile.ZipFile(archive) as files, files.open(f"gzip/{name}") as member:
            return read_idx(member)
    except (zipfile.BadZipFile, KeyError) as error:
        raise DataError(f"{archive} is damaged or not the archive of EMNIST: {error}. Remove it.") from error
