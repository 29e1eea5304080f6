"""`microgradx look` and `microgradx find-lr`: pictures of a trained run, and a learning rate for the next."""

from pathlib import Path
from typing import Any

import click

from microgradx import study
from microgradx.cli.options import Name
from microgradx.cli.recipe import Recipe
from microgradx.cli.train import OPTIONS, START
from microgradx.cli.use import LAST, RUN, restore
from microgradx.data.splits import datasets
from microgradx.errors import DataError
from microgradx.training import Run

KEPT = {"data", "model", "activation", "dropout", "bias", "loss", "optimizer", "batch_size", "standardize"}
KEPT |= {"seed"}
RATE = click.FloatRange(0, min_open=True)


whole = click.IntRange(1)


def setting(flag: str, kind: Any, default: Any, text: str) -> Any:
    """An option that shows its default."""
    return click.option(flag, type=kind, default=default, show_default=True, help=text)


@click.command()
@RUN
@click.option("--out", type=click.Path(path_type=Path), help="A folder for the pictures.  [default: RUN]")
@LAST
def look(run: Path, out: Path | None, last: bool) -> None:
    """Draw what the network in the folder RUN looks for, and what it is most wrong about.

    filters.png has the first layer's weights as images, mistakes.png the held-out images whose wrong answers
    are surest. For networks that are trained on images.
    """
    recipe, config, model = restore(Run(run), last)
    shape = config["image_shape"]
    if not shape:
        raise DataError(f"{run}: {recipe.data} has no images to show.")
    split = recipe.split()
    folder = out or run
    folder.mkdir(parents=True, exist_ok=True)
    study.filters(model, shape, folder / "filters.png")
    x, y = split.test
    wrong = study.mistakes(model, x, y, shape, folder / "mistakes.png", split.classes)
    click.echo(f"{wrong} of {len(x):,} held-out images are wrong")
    click.echo(f"in {folder}: filters.png, mistakes.png")


@click.command(name="find-lr", params=[option for option in OPTIONS if option.name in KEPT])
@setting("--low", RATE, 1e-6, "First rate.")
@setting("--high", RATE, 10.0, "Last rate.")
@setting("--steps", click.IntRange(10), 150, "Rates to try.")
@click.option("--out", type=click.Path(path_type=Path), help="A picture of the losses: .png, .svg or .pdf.")
def find_lr(low: float, high: float, steps: int, out: Path | None, **given: Any) -> None:
    """Raise the learning rate step by step, and say where the loss falls fastest (arXiv 1506.01186)."""
    recipe = Recipe(**{name: value for name, value in given.items() if name in vars(START)})
    split = recipe.split()
    model = recipe.network(split.train[0])
    optimizer, _ = recipe.optimize(model, steps)
    options: dict[str, Any] = {"batch_size": recipe.batch_size, "low": low, "high": high, "steps": steps}
    found = study.find_lr(model, optimizer, split.train, recipe.criterion(split), **options)
    click.echo(f"{found}: --optimizer {recipe.optimizer} --lr {found.suggestion:.2g}")
    if out:
        found.plot(out)
        click.echo(f"drawn in {out}")


@click.command(name="adam-paper")
@setting(
    "--section", click.Choice(["6.1", "6.2", "all"]), "all", "Logistic regression, the network, or both."
)
@setting("--data", Name("data set", lambda: datasets), "fashion_mnist", "What to train on.")
@setting("--epochs", whole, 10, "Of a run.")
@setting("--search-epochs", whole, 2, "Of the runs that search a learning rate.")
@setting("--seeds", whole, 3, "Runs of every optimizer.")
@setting("--out", click.Path(path_type=Path), Path("adam-paper"), "Keeps every finished run, to go on from.")
def adam_paper(section: str, data: str, epochs: int, search_epochs: int, seeds: int, out: Path) -> None:
    """Repeat the experiments of the Adam paper (arXiv 1412.6980), and say whether its claims hold."""
    from microgradx.study.adam_paper import EXPERIMENTS, Laboratory

    say = lambda text: click.echo(text, err=True)
    laboratory = Laboratory(datasets[data]().train, out, epochs, search_epochs, seeds, say)
    for experiment in EXPERIMENTS.values() if section == "all" else [EXPERIMENTS[section]]:
        found = laboratory.run(experiment)
        found.plot(out / f"section-{experiment.section}.png")
        (out / f"section-{experiment.section}.md").write_text(found.table() + "\n", encoding="utf-8")
        click.echo(f"\n{experiment.title}\n\n{found.table()}\n")
    click.echo(f"in {out}: pictures and tables")
