"""`microgradx predict`: what a trained network makes of a picture, a folder of them, or rows of a file."""

import zipfile
from pathlib import Path
from typing import Any

import click
import numpy as np

from microgradx.cli import picture
from microgradx.cli.options import KINDS, LAST, RUN
from microgradx.cli.recipe import Recipe, restore
from microgradx.data import pictures, read_idx
from microgradx.data.files import FILES, number, records, to_numbers
from microgradx.data.images import scaled
from microgradx.errors import DataError
from microgradx.primitives.reductions import softmax
from microgradx.training import Run, outputs, predictions


@click.command(params=[RUN, click.Argument(["file"], type=KINDS["FOLDER"]), LAST])
def predict(run: Path, file: Path, last: bool) -> None:
    """Say what the network in the folder RUN makes of FILE, a line for each thing in it.

    FILE is a picture of one thing, dark on light or light on dark, or like those of the folder of pictures
    that was learned from, in any size; a folder of such pictures; or rows of features, as a .csv or .tsv, the
    array x of a .npz, a .npy, or an IDX file of images.
    """
    recipe, config, model = restore(Run(run), last)
    classes, files = config["classes"], pictures.pictures_in(file) if file.is_dir() else [file]
    if not files:
        raise DataError(f"{file}: no pictures ({', '.join(pictures.KINDS)}) are in this folder.")
    for one in files:
        name = f"{one.name}\t" * file.is_dir()
        for out in outputs(model, inputs(one, recipe, config)):
            for label, logits in zip(predictions(out), out, strict=True):
                if not classes:
                    click.echo(name + "\t".join(f"{value:.6g}" for value in logits))
                elif recipe.loss == "cross_entropy":
                    click.echo(f"{name}{classes[label]}\t{softmax(logits)[label]:.1%}")
                else:
                    click.echo(name + classes[label])


def inputs(file: Path, recipe: Recipe, config: dict[str, Any]) -> np.ndarray:
    """(n, features) float32 from a file, as the network learned them."""
    features, shape = recipe.sizes[0], config["image_shape"]
    if file.name.lower().endswith(FILES) or is_idx(file):
        return rows(file, features)
    if like := config.get("pixels"):
        return pixels(pictures.read_scaled(file, tuple(like), Path(recipe.data))[None])
    if shape:
        return picture.read(file, tuple(shape), config["frame"]).reshape(1, -1)
    raise DataError(f"{file}: this network takes rows of {features} features: give a .csv or a .npz.")


def is_idx(file: Path) -> bool:
    """Whether a file has a name as MNIST's."""
    return file.name.lower().removesuffix(".gz").endswith("ubyte")


def pixels(x: np.ndarray) -> np.ndarray:
    """(n, ...) -> (n, features) float32; bytes become [0, 1]."""
    return scaled(x) if x.dtype == np.uint8 else x.reshape(len(x), -1).astype(np.float32)


def rows(file: Path, features: int) -> np.ndarray:
    """(n, features) float32 from `x` of a .npz, or its first array, or from a .csv, with a header or not."""
    if file.name.lower().removesuffix(".gz").endswith((".csv", ".tsv")):
        lines = list(records(file, None))
        if lines and to_numbers(lines[0][1]) is None:
            lines = lines[1:]
        numbers = [to_numbers(cells) for _, cells in lines]
        for (line, cells), row in zip(lines, numbers, strict=True):
            if row is None:
                cell = next(cell for cell in cells if number(cell) is None)
                what = f"every cell must be a finite number, got {cell!r}"
                raise DataError(f"{file}, line {line}: {what}; leave out the column of the labels.")
        x = np.array(numbers, np.float32)
    elif is_idx(file):
        x = pixels(read_idx(file))
    else:
        try:
            x = np.load(file, allow_pickle=False)
            if not isinstance(x, np.ndarray):
                with x as archive:
                    x = archive["x" if "x" in archive.files else archive.files[0]]
        except (ValueError, EOFError, IndexError, AttributeError, zipfile.BadZipFile) as error:
            raise DataError(f"{file} is not a .npz with an array x: {error}.") from None
        x = pixels(x)
    if x.ndim != 2 or x.shape[1] != features or not np.isfinite(x).all():
        raise DataError(f"{file}: the network takes rows of {features} finite numbers, got shape {x.shape}.")
    return x
