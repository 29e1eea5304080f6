"""`microgradx bias`: what bias correction does to Adam's moments, and to training."""

from pathlib import Path

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from microgradx.cli.options import SEED, SHARE, Whole, option
from microgradx.study import Moments, Trainings, distributions, moments, trainings

OPTIONS = [
    option(
        "--gradients", None, "What they are drawn from.", "normal", type=click.Choice(list(distributions))
    ),
    option("--beta1", "X", "Of m.", 0.9, type=SHARE),
    option("--beta2", "X", "Of v.", 0.999, type=SHARE),
    option("--samples", "N", "Gradients in every step.", 4096, type=Whole(min=100)),
    option("--steps", "N", "How many.  [default: until m and v are within 1 %]"),
    option("--seed", "N", "Of the gradients.", 0, type=SEED),
    option("--training", None, "Train networks with and without it instead."),
    option("--epochs", "N", "Of each training.", 10),
    option("--seeds", "N", "Trainings to average.", 3),
    option("--out", "FILE", "A .png, .svg or .pdf.  [default: bias.png; bias-training.png]"),
]


@click.command(params=OPTIONS)
def bias(
    gradients: str, beta1: float, beta2: float, samples: int, steps: int | None, seed: int, training: bool,
    epochs: int, seeds: int, out: Path | None,
) -> None:  # fmt: skip
    """Show what bias correction does to Adam: a table and a picture.

    Adam's m and v start at zero, so that they are too small at first, by a factor of 1 - βᵗ. With --training,
    the sweep of the Adam paper's section 6.4, on the embedded digits.
    """
    run: Moments | Trainings
    if training:
        run = trainings(epochs=epochs, seeds=seeds)
    else:
        run = moments(gradients, beta1, beta2, steps, samples, seed)
    out = out or Path("bias-training.png" if training else "bias.png")
    run.save(out)
    (first, *head), *rows = run.table()
    columns = (Column(name, justify="right") for name in head)
    table = Table(Column(first, no_wrap=True), *columns, box=SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*map(Text, row))  # as Text: E[g] is no markup
    console = Console(highlight=False)
    console.print(table)
    console.print(Text(f"{run.caption()}\nin {out}"))
