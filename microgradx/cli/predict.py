"""`microgradx predict`: what a trained network makes of a picture, a folder of them, or rows of a file."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np

from microgradx.cli import picture
from microgradx.cli.options import KINDS, LAST, RUN, Whole, option
from microgradx.cli.recipe import Recipe, learned, restore
from microgradx.data import pictures, read_idx
from microgradx.data.files import FILES
from microgradx.data.images import scaled
from microgradx.data.reading import regular
from microgradx.data.splits import Split
from microgradx.data.tables import number, read_csv, records, said, to_numbers
from microgradx.errors import ArgumentError, DataError, few, plain
from microgradx.primitives.reductions import softmax
from microgradx.training import Run, outputs, predictions
from microgradx.training.files import Json

Line = tuple[int, list[str]]
"""Of a table: its number in the file, and its cells."""

FILE = click.Argument(["file"], type=KINDS["RUN"], required=False)
ROW = option("--row", "N", "A held-out row of the run's own data, counted from 0.", type=Whole(0))


@click.command(params=[RUN, FILE, ROW, LAST])
def predict(run: Path, file: Path | None, row: int | None, last: bool) -> None:
    """Say what the network in the folder RUN makes of FILE, a line for each thing in it; or of --row N.

    FILE is a picture of one thing, dark on light or light on dark, or like those of the folder of pictures
    that was learned from, in any size; a folder of such pictures; or rows of features, as a .csv or .tsv, the
    array x of a .npz, a .npy, or an IDX file of images. A last column of labels is left out.
    """
    if (file is None) == (row is None):
        what = "predict what?" if file is None else "predict which of the two?"
        raise click.UsageError(f"{what} Give a FILE, or --row 3 for a row of the run's held-out data.")
    recipe, config, model = restore(Run(run), last)
    if file is None:
        x, target = held_out(recipe, learned(Run(run), recipe, config), row or 0)
        said = spoken(next(outputs(model, x)), recipe, config["classes"])[0]
        right = said.partition("\t")[0] == plain(target)
        click.echo(f"{said}\t{'right' if right else f'it is {plain(target, but=chr(9))}'}")
        return
    if not file.exists():
        advice = "predict takes a picture, a folder of them or rows such as a .csv; or --row 3"
        raise DataError(f"{file}: No such file or directory; {advice}.")
    files = pictures.pictures_in(file) if file.is_dir() else [file]
    if not files:
        raise DataError(f"{file}: no pictures ({', '.join(pictures.KINDS)}) are in this folder.")
    for one in files:
        name = f"{plain(one.name)}\t" * file.is_dir()
        for out in outputs(model, inputs(one, recipe, config)):
            for line in spoken(out, recipe, config["classes"]):
                click.echo(name + line)


def spoken(out: np.ndarray, recipe: Recipe, classes: list[str]) -> list[str]:
    """(n, outputs) -> what is said of each row: the class, how sure it is; or the numbers."""
    if not classes:
        return ["\t".join(f"{value:.6g}" for value in row) for row in out]
    labels, classes = predictions(out), [*map(plain, classes)]
    if recipe.loss != "cross_entropy":
        return [classes[label] for label in labels]
    sure = softmax(out, 1)[np.arange(len(out)), labels]
    return [f"{classes[label]}\t{share:.1%}" for label, share in zip(labels, sure, strict=True)]


def held_out(recipe: Recipe, split: Split, row: int) -> tuple[np.ndarray, str]:
    """A row (1, features) of the held-out data, and what it is."""
    x, y = split.test
    if row >= len(x):
        raise ArgumentError(f"--row {row}: {recipe.data} has the held-out rows 0 to {len(x) - 1}.")
    target = split.classes[y[row]] if split.classes else "\t".join(f"{value:.6g}" for value in y[row])
    return x[row : row + 1], target


def inputs(file: Path, recipe: Recipe, config: Json) -> np.ndarray:
    """(n, features) float32 from a file, as the network learned them."""
    features, shape = recipe.sizes[0], config["image_shape"]
    if file.name.lower().endswith(FILES) or is_idx(file):
        return rows(file, features, config.get("columns") or [])
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


def by_name(file: Path, lines: list[Line], columns: Sequence[str]) -> list[Line]:
    """The cells of the columns that were learned from, found by the names in the first line."""
    names = [cell.strip() for cell in lines[0][1]]
    if missing := [name for name in columns if name not in names]:
        what = f"{file}: the network learned from {few(columns)}, and {few(missing)} is not in this file"
        raise DataError(
            f"{what}, which has {few(names)}. Without a first line of names columns count in order."
        )
    places = [names.index(name) for name in columns]
    return [(line, [cells[i] for i in places]) for line, cells in lines[1:]]


def rows(file: Path, features: int, columns: Sequence[str] = ()) -> np.ndarray:
    """(n, features) float32 from `x` of a .npz, or its first array, or from a .csv, with a header or not.

    columns: the names of the features, where they had names; in a table with a header they tell which is
    which. A table of more columns is one to train on: with the labels last, and perhaps a column that counts
    rows.
    """
    if file.name.lower().removesuffix(".gz").endswith((".csv", ".tsv")):
        lines = list(records(file, None))
        if columns and lines and all(number(cell) is None for cell in lines[0][1]):
            lines = by_name(file, lines, columns)
        else:
            if lines and features < len(lines[0][1]) <= features + 2:
                x, *_ = read_csv(file, -1, None, None, False)
                if x.shape[1] == features:
                    return x
            if lines and to_numbers(lines[0][1]) is None:
                lines = lines[1:]
        numbers = [to_numbers(cells) for _, cells in lines]
        for (line, cells), row in zip(lines, numbers, strict=True):
            if row is None:
                cell = next(cell for cell in cells if number(cell) is None)
                raise DataError(f"{file}, line {line}: every cell must be a finite number, got {said(cell)}")
        x = np.array(numbers, np.float32)
    elif is_idx(file):
        x = pixels(read_idx(file))
    else:
        try:
            with regular(file) as stream:
                x = np.load(stream, allow_pickle=False)
                if not isinstance(x, np.ndarray):
                    with x as archive:
                        x = archive["x" if "x" in archive.files else archive.files[0]]
        except (ValueError, EOFError, IndexError, AttributeError, zipfile.BadZipFile) as error:
            raise DataError(f"{file} is not a .npz with an array x: {error}.") from None
        x = pixels(x)
        if file.suffix.lower() == ".npy" and x.shape[1] == features + 1:  # `train` takes the last for labels
            x = x[:, :-1]
    if x.ndim != 2 or x.shape[1] != features or not np.isfinite(x).all():
        raise DataError(f"{file}: the network takes rows of {features} finite numbers, got shape {x.shape}.")
    return x
