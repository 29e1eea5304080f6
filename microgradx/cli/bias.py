"""`microgradx bias`: what bias correction does to Adam's moments, and to training."""

from pathlib import Path

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from microgradx.study import Moments, Trainings, distributions, moments, trainings

beta, whole = click.FloatRange(0, 1, max_open=True), click.IntRange(min=1)
file = click.Path(path_type=Path, dir_okay=False)
OPTIONS = [
    click.Option(["--gradients"], type=click.Choice(list(distributions)), default="normal", show_default=True,
        help="What they are drawn from."),
    click.Option(["--beta1"], type=beta, default=0.9, show_default=True, metavar="X", help="Of m."),
    click.Option(["--beta2"], type=beta, default=0.999, show_default=True, metavar="X", help="Of v."),
    click.Option(["--samples"], type=click.IntRange(min=100), default=4096, show_default=True, metavar="N",
        help="Gradients in every step."),
    click.Option(["--steps"], type=whole, metavar="N",
        help="How many.  [default: until m and v are within 1 %]"),
    click.Option(["--seed"], type=click.IntRange(min=0), default=0, metavar="N", help="Of the gradients."),
    click.Option(["--training"], is_flag=True, help="Train networks with and without it instead."),
    click.Option(["--epochs"], type=whole, default=10, show_default=True, metavar="N",
        help="Of each training."),
    click.Option(["--seeds"], type=whole, default=3, show_default=True, metavar="N",
        help="Trainings to average."),
    click.Option(["--out"], type=file, metavar="FILE",
        help="A .png, .svg or .pdf.  [default: bias.png; bias-training.png]"),
]  # fmt: skip


@click.command(params=OPTIONS)
def bias(training, epochs, seeds, out, **options) -> None:
    """Show what bias correction does to Adam: a table and a picture.

    Adam's m and v start at zero, so that they are too small at first, by a factor of 1 - βᵗ. With --training,
    the sweep of the Adam paper's section 6.4, on the embedded digits.
    """
    run: Moments | Trainings = trainings(epochs=epochs, seeds=seeds) if training else moments(**options)
    out = out or Path("bias-training.png" if training else "bias.png")
    run.save(out)
    (first, *head), *rows = run.table()
    table = Table(Column(first, no_wrap=True), box=SIMPLE_HEAD, pad_edge=False)
    for name in head:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*map(Text, row))  # as Text: E[g] is no markup
    console = Console(highlight=False)
    console.print(table)
    console.print(Text(f"{run.caption()}\nin {out}"))
