"""The image sets: embedded, found in a folder, or downloaded, and checked in each case."""

import string
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from microgradx.data.idx import read_idx
from microgradx.data.sources import PublishedFile, find
from microgradx.data.splits import Part, Split, dataset, hold_out
from microgradx.errors import ArgumentError, DataError

if TYPE_CHECKING:
    from microgradx.data.download import Progress

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


# Sizes and digests of the files: tensorflow_datasets/url_checksums/*.txt, the same in torchvision's
# prototype/datasets/_builtin/mnist.py. Digests of the IDX bytes: those of Fashion-MNIST are computed from
# Debian's dataset-fashion-mnist, which compressed the files anew; those of MNIST are published by several
# projects that pin them, and agree. None is published for KMNIST, so only a download of it is checked byte
# by byte; a copy of your own is checked for its structure.
# Mirrors: torchvision (MNIST, KMNIST), Keras and Zalando (Fashion-MNIST), NIST (EMNIST).
# fmt: off
FILES = {
    "mnist": (
        PublishedFile("train-images-idx3-ubyte.gz", 9_912_422,
                      "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                      "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
        PublishedFile("train-labels-idx1-ubyte.gz", 28_881,
                      "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                      "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
        PublishedFile("t10k-images-idx3-ubyte.gz", 1_648_877,
                      "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                      "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
        PublishedFile("t10k-labels-idx1-ubyte.gz", 4_542,
                      "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
                      "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
    ),
    "fashion-mnist": (
        PublishedFile("train-images-idx3-ubyte.gz", 26_421_880,
                      "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
                      "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"),
        PublishedFile("train-labels-idx1-ubyte.gz", 29_515,
                      "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
                      "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
        PublishedFile("t10k-images-idx3-ubyte.gz", 4_422_102,
                      "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
                      "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
        PublishedFile("t10k-labels-idx1-ubyte.gz", 5_148,
                      "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
                      "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
    ),
    "kmnist": (
        PublishedFile("train-images-idx3-ubyte.gz", 18_165_135,
                      "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4"),
        PublishedFile("train-labels-idx1-ubyte.gz", 29_497,
                      "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17"),
        PublishedFile("t10k-images-idx3-ubyte.gz", 3_041_136,
                      "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5"),
        PublishedFile("t10k-labels-idx1-ubyte.gz", 5_120,
                      "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c"),
    ),
}
# fmt: on
EMNIST_ARCHIVE = PublishedFile(
    "gzip.zip", 561_753_746, "fb9bb67e33772a9cc0b895e4ecf36d2cf35be8b709693c3564cea2a019fcda8e"
)
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


def mnist_like(collection: str, classes: tuple[str, ...], progress: "Progress | None") -> Split:
    """60,000 images to train on and 10,000 to test on, from the four files of MNIST and its successors."""
    arrays = []
    for file in FILES[collection]:
        path = file.obtain(collection, MIRRORS[collection], progress)
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
def mnist(progress: "Progress | None" = None) -> Split:
    """70,000 handwritten digits of 28x28 pixels (LeCun, Cortes & Burges, 1998).

    http://yann.lecun.com/exdb/mnist/. DataError where it is neither in a folder nor to be downloaded.

    >>> data.mnist()  # doctest: +SKIP
    Split(60,000 + 10,000 rows of 784 features, 10 classes)
    """
    return mnist_like("mnist", DIGITS, progress)


@dataset
def fashion_mnist(progress: "Progress | None" = None) -> Split:
    """70,000 pictures of clothes in 10 classes, 28x28 pixels (Xiao, Rasul & Vollgraf, 2017).

    arXiv 1708.07747. DataError where it is neither in a folder nor to be downloaded.

    >>> data.fashion_mnist()  # doctest: +SKIP
    Split(60,000 + 10,000 rows of 784 features, 10 classes)
    """
    return mnist_like("fashion-mnist", CLOTHES, progress)


@dataset
def kmnist(progress: "Progress | None" = None) -> Split:
    """70,000 cursive Japanese characters in 10 classes, 28x28 pixels (Clanuwat et al., 2018).

    arXiv 1812.01718. DataError where it is neither in a folder nor to be downloaded.

    >>> data.kmnist()  # doctest: +SKIP
    Split(60,000 + 10,000 rows of 784 features, 10 classes)
    """
    return mnist_like("kmnist", KUZUSHIJI, progress)


@dataset
def emnist(split: str = "balanced", progress: "Progress | None" = None) -> Split:
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


def emnist_file(name: str, progress: "Progress | None") -> np.ndarray:
    """One file of EMNIST: by itself in a folder, or in the archive."""
    if path := find("emnist", name):
        return read_idx(path)
    archive = EMNIST_ARCHIVE.obtain("emnist", MIRRORS["emnist"], progress)
    try:
        with zipfile.ZipFile(archive) as files, files.open(f"gzip/{name}") as member:
            return read_idx(member)
    except (zipfile.BadZipFile, KeyError) as error:
        raise DataError(f"{archive} is damaged or not the archive of EMNIST: {error}. Remove it.") from error
