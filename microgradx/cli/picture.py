"""A picture from a camera, a scanner or a drawing program, made to look like the training images."""

import warnings
from pathlib import Path

import numpy as np

from microgradx.data.reading import regular
from microgradx.errors import ArgumentError, DataError
from microgradx.extras import install

Frame = tuple[float, float, float]
"""How things lie on the training images: the length of their longer side, and their centre of mass (y, x)."""


def frame(images: np.ndarray) -> Frame:
    """(n, height, width) in [0, 1], 0 the background -> the median side and the mean centre."""
    drawn = [image for image in images if image.max() > 0.1] or [np.ones(images.shape[1:])]  # all are dark
    spans = [np.ptp(np.nonzero(image > 0.1), axis=1) + 1 for image in drawn]
    centres = np.mean([centre(image) for image in drawn], axis=0)
    return float(np.median(np.max(spans, axis=1))), float(centres[0]), float(centres[1])


def centre(image: np.ndarray) -> np.ndarray:
    """(height, width) -> its centre of mass, (y, x)."""
    grid = np.indices(image.shape)
    return (grid * image).sum(axis=(1, 2)) / image.sum()


def read(file: Path, shape: tuple[int, int], like: Frame) -> np.ndarray:
    """A picture file as (height, width) float32 in [0, 1], light on dark.

    A picture of just this size is only inverted where its background is light. Any other is cut to what is on
    it, scaled to the usual length and moved to the usual centre, as the makers of MNIST did.
    """
    image = ink(grey(file), file)
    if image.shape == shape:
        return image
    side, *middle = like
    rows, columns = (np.flatnonzero((image > 0.2).any(axis=axis)) for axis in (1, 0))
    image = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = side / max(image.shape)
    image = resized(
        image, [min(most, max(1, round(scale * n))) for n, most in zip(image.shape, shape, strict=True)]
    )
    image /= image.max()  # thin lines turn pale when scaled down
    offset = np.round(np.array(middle) - centre(image)).astype(int)
    top, left = np.clip(offset, 0, np.subtract(shape, image.shape))
    placed = np.zeros(shape, np.float32)
    placed[top : top + image.shape[0], left : left + image.shape[1]] = image
    return placed


def grey(file: Path) -> np.ndarray:
    """(height, width) float32 in [0, 1]; what is transparent is white."""
    try:
        from PIL import Image
    except ImportError:
        raise ArgumentError(f"Pictures need Pillow: {install('plot', 'pillow')}.") from None
    try:
        with warnings.catch_warnings(), regular(file) as stream, Image.open(stream) as image:
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            colours = image.convert("RGBA")
            white = Image.new("RGBA", image.size, "white")
            return np.asarray(Image.alpha_composite(white, colours).convert("L"), np.float32) / 255
    except FileNotFoundError:
        raise
    except (
        OSError,
        ValueError,
        SyntaxError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as error:
        raise DataError(f"{file} is not a picture that can be read: {error}.") from None


def ink(image: np.ndarray, file: Path) -> np.ndarray:
    """The background made 0 and the strongest colour 1, whichever of them is the darker one."""
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    difference = np.abs(image - np.median(border))
    strongest = difference.max()
    if strongest < 0.1:
        raise DataError(f"{file} is blank: nothing on it differs from its background.")
    return difference / strongest


def resized(image: np.ndarray, shape: list[int]) -> np.ndarray:
    """(height, width) to another height and width, by the mean of what falls on each new pixel."""
    from PIL import Image

    height, width = shape
    return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BOX))
