"""`microgradx evaluate`: what a trained network is good for, on data that it has not seen."""

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from microgradx.cli.options import LAST, RUN
from microgradx.cli.recipe import learned, quality, restore
from microgradx.cli.terminal import tell
from microgradx.errors import plain
from microgradx.training import Run
from microgradx.training import evaluate as measure


@click.command(params=[RUN, LAST])
def evaluate(run: Path, last: bool) -> None:
    """Measure the network in the folder RUN on the held-out part of its data."""
    recipe, config, model = restore(Run(run), last)
    split = learned(Run(run), recipe, config)
    x, y = split.test
    loss, accuracy, confusion = measure(model, x, y, recipe.criterion(split, model))
    result = quality(accuracy, loss, split, model)
    tell(f"{result} on {len(x):,} held-out rows of {recipe.data}", bold=result)
    if confusion is None:
        return
    table = Table("class", "rows", "found", "precision", box=None)
    for name, row, column, right in zip(
        split.classes, confusion, confusion.T, confusion.diagonal(), strict=True
    ):
        found, precision = right / max(1, row.sum()), right / max(1, column.sum())
        table.add_row(Text(plain(name)), f"{row.sum():,}", f"{found:.1%}", f"{precision:.1%}")
    Console(highlight=False).print(table)
