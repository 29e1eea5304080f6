"""`microgradx adam-paper`: the experiments of the Adam paper again."""

from pathlib import Path

import click

from microgradx.cli.options import name_of, option
from microgradx.data.splits import datasets
from microgradx.study.adam_paper import EXPERIMENTS, Laboratory

SECTIONS = click.Choice([*EXPERIMENTS, "all"])
OPTIONS = [
    option("--section", None, "Logistic regression, the network, or both.", "all", type=SECTIONS),
    option(
        "--data", "NAME", "What to train on.", "fashion_mnist", type=name_of("data set", lambda: datasets)
    ),
    option("--epochs", "N", "Of a run.", 10),
    option("--search-epochs", "N", "Of the runs that search a learning rate.", 2),
    option("--seeds", "N", "Runs of every optimizer.", 3),
    option("--out", "FOLDER", "Keeps every finished run, to go on from.", Path("adam-paper")),
]


@click.command(name="adam-paper", params=OPTIONS)
def adam_paper(section: str, data: str, epochs: int, search_epochs: int, seeds: int, out: Path) -> None:
    """Repeat the experiments of the Adam paper (arXiv 1412.6980), and say whether its claims hold."""
    say = lambda text: click.echo(text, err=True)
    laboratory = Laboratory(datasets[data]().train, out, epochs, search_epochs, seeds, say)
    for experiment in EXPERIMENTS.values() if section == "all" else [EXPERIMENTS[section]]:
        found = laboratory.run(experiment)
        found.plot(out / f"section-{experiment.section}.png")
        (out / f"section-{experiment.section}.md").write_text(found.table() + "\n", encoding="utf-8")
        click.echo(f"\n{experiment.title}\n\n{found.table()}\n")
    click.echo(f"in {out}: pictures and tables")
