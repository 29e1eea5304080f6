"""`microgradx find-lr`: a learning rate for the next run."""

from pathlib import Path

import click

from microgradx import study
from microgradx.cli.options import Whole, option
from microgradx.cli.recipe import Recipe
from microgradx.cli.terminal import tell
from microgradx.cli.train import OPTIONS, START

KEPT = {"data", "model", "activation", "dropout", "bias", "loss", "optimizer", "batch_size", "standardize"}
KEPT |= {"scale_targets"}
KEPT |= {"seed"}
OWN = [
    option("--low", "X", "First rate.", 1e-6),
    option("--high", "X", "Last rate.", 10.0),
    option("--steps", "N", "Rates to try.", 150, type=Whole(10)),
    option("--out", "FILE", "A picture of the losses: .png, .svg or .pdf."),
]


@click.command(name="find-lr", params=[*(known for known in OPTIONS if known.name in KEPT), *OWN])
@click.pass_context
def find_lr(
    ctx: click.Context, low: float, high: float, steps: int, out: Path | None, **_more: object
) -> None:
    """Raise the learning rate step by step, and say where the loss falls fastest (arXiv 1506.01186)."""
    recipe = Recipe(**{name: value for name, value in ctx.params.items() if name in vars(START)})
    split = recipe.split()
    model = recipe.network(*split.train)
    optimizer, _ = recipe.optimize(model, steps)
    found = study.find_lr(
        model, optimizer, split.train, recipe.criterion(split, model), batch_size=recipe.batch_size, low=low,
        high=high, steps=steps,
    )  # fmt: skip
    tell(f"{found}: --optimizer {recipe.optimizer} --lr {found.suggestion:.2g}")
    if out:
        found.plot(out)
        click.echo(f"drawn in {out}")
