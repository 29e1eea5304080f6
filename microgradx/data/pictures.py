"""A folder of pictures as a data set: a subfolder per class, as torchvision's ImageFolder takes it."""

import warnings
from pathlib import Path

import numpy as np

from microgradx.data.reading import regular
from microgradx.errors import DataError
from microgradx.extras import install

KINDS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
"""Endings of the files that are pictures; others in a folder are passed over."""

HELD_OUT = ("test", "val", "valid", "validation")
"""What the folder beside `train` may be called."""

GREY, COLOUR = ("1", "L", "LA"), ("P", "RGB", "RGBA", "CMYK", "YCbCr")
"""Pillow's names for the pixels that are read as brightness, and as red, green and blue."""


def folders_in(folder: Path) -> list[Path]:
    """The subfolders that are not hidden, sorted by name."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def pictures_in(folder: Path) -> list[Path]:
    """The pictures in a folder itself, sorted by name."""
    kept = (path for path in folder.iterdir() if path.name.lower().endswith(KINDS) and path.is_file())
    return sorted(path for path in kept if not path.name.startswith("."))


def halves(folder: Path) -> list[Path]:
    """The folders `train` and `test` where a data set has these, or the folder itself."""
    names = {path.name.lower(): path for path in folders_in(folder)}
    held_out = [path for name, path in names.items() if name in HELD_OUT]
    return [names["train"], *held_out] if "train" in names and len(names) == 2 and held_out else [folder]


def first(folder: Path) -> Path | None:
    """The first picture of a data set; None where the folder is none."""
    classes = (kind for half in halves(folder) for kind in folders_in(half))
    return next((picture for kind in classes for picture in pictures_in(kind)), None)


def read_picture(path: Path) -> np.ndarray:
    """(height, width) or (height, width, 3), bytes; what is transparent is white."""
    try:
        from PIL import Image
    except ImportError:
        kinds = "without it .csv, .tsv, .npy and .npz files and folders of IDX files are read"
        raise DataError(f"pictures need Pillow: {install('plot', 'pillow')}; {kinds}.") from None
    try:
        with warnings.catch_warnings(), regular(path) as file, Image.open(file) as image:
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            if image.mode not in GREY + COLOUR:
                raise DataError(
                    f"its pixels are {image.mode}; save it with 8 bits of grey or of each colour."
                )
            mode = "L" if image.mode in GREY else "RGB"
            if image.mode in ("LA", "RGBA") or "transparency" in image.info:
                white = Image.new("RGBA", image.size, "white")
                return np.asarray(Image.alpha_composite(white, image.convert("RGBA")).convert(mode))
            return np.asarray(image.convert(mode))
    except FileNotFoundError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, UserWarning) as error:
        raise DataError(f"{short(path)} is not a picture that can be read: {error}") from None


def read_pictures(folder: Path) -> dict[str, np.ndarray]:
    """The arrays x, y, or x_train, y_train, x_test, y_test: (n, height, width[, 3]) bytes, and names."""
    parts = halves(folder)
    sets = [listed(part) for part in parts]
    example = sets[0][0][0]
    shape = read_picture(example).shape
    keys = ("_train", "_test") if len(parts) > 1 else ("",)
    arrays = {}
    for key, (paths, names) in zip(keys, sets, strict=True):
        arrays[f"x{key}"] = np.stack([read_alike(path, shape, example) for path in paths])
        arrays[f"y{key}"] = np.array(names)
    return arrays


def listed(folder: Path) -> tuple[list[Path], list[str]]:
    """The pictures in the subfolders of a folder, and for each the name of its subfolder."""
    kinds = folders_in(folder)
    if len(kinds) < 2:
        there = f"the subfolder {kinds[0].name}" if kinds else "no subfolder"
        loose = f" and {len(found)} pictures beside" if (found := pictures_in(folder)) else ""
        advice = "give each of two or more classes a subfolder with its pictures, or give the four IDX files"
        raise DataError(f"{folder.name} has {there}{loose}: {advice}.")
    paths: list[Path] = []
    names: list[str] = []
    for kind in kinds:
        found = pictures_in(kind)
        if not found:
            raise DataError(f"the subfolder {kind.name} has no pictures ({', '.join(KINDS)}) in it.")
        paths += found
        names += [kind.name] * len(found)
    return paths, names


def read_alike(path: Path, shape: tuple[int, ...], example: Path) -> np.ndarray:
    """A picture of the same size and kind as another one."""
    pixels = read_picture(path)
    if pixels.shape != shape:
        advice = "make all pictures of one size, all grey or all in colour"
        raise DataError(
            f"{short(path)} is {described(pixels.shape)}, {short(example)} {described(shape)}: {advice}."
        )
    return pixels


def read_scaled(path: Path, shape: tuple[int, ...], example: Path) -> np.ndarray:
    """A picture of the same kind and proportions as another one, scaled to its size by the mean."""
    from PIL import Image

    pixels = read_picture(path)
    height, width = pixels.shape[:2]
    if pixels.shape[2:] != shape[2:] or shape[0] != max(1, round(height * shape[1] / width)):
        both = f"{described(pixels.shape)}, {short(example)} {described(shape)}"
        advice = "cut it to the same proportions, and make it grey or coloured as that is"
        raise DataError(f"{short(path)} is {both}: {advice}.")
    return np.array(Image.fromarray(pixels).resize((shape[1], shape[0]), Image.Resampling.BOX))


def short(path: Path) -> str:
    """The last two parts of a path."""
    return "/".join(path.parts[-2:])


def described(shape: tuple[int, ...]) -> str:
    """Width x height of a picture, as people say it."""
    return f"{shape[1]}x{shape[0]} pixels {'in colour' if len(shape) == 3 else 'of grey'}"
