"""`microgradx verify`: the first steps of a run once more, compared bit by bit with what it recorded."""

from dataclasses import replace
from pathlib import Path

import click

from microgradx.cli.options import RUN, option
from microgradx.cli.recipe import Recipe
from microgradx.cli.terminal import tell
from microgradx.errors import ArgumentError
from microgradx.training import Cluster, History, Run
from microgradx.training.identity import made_of, same
from microgradx.training.replay import replay
from microgradx.training.trainer import RECORDED

STEPS = option("--steps", "N", "How many.  [default: all that were recorded]")
THREADS = option("--threads", "N", "Cores to use, which changes no bit.  [default: as the run]")


@click.command(params=[RUN, STEPS, THREADS])
def verify(run: Path, steps: int | None, threads: int | None) -> int:
    """Run the first steps of RUN again and say whether the bits agree.

    A run records the loss of each of its first 10,000 steps, and all weights and states of the optimizer at
    its checkpoints: the best, the last, and the one before. The first step that differs is found by its loss,
    the first parameter and element at the next checkpoint within the steps that are run again. Where a run
    was resumed for other epochs, the steps before that are compared, often by their losses alone, since its
    checkpoints are of later steps. It exits with 0 where all bits agree, else with 1.
    """
    folder = Run(run)
    config = folder.read()
    first = config.get("first", config)  # before the run was resumed for other epochs
    steps = min(steps or RECORDED, first.get("until", RECORDED))
    recipe = Recipe.of(folder, first)
    recipe = replace(recipe, threads=threads or recipe.threads)
    if (ranks := first.get("fit", {}).get("ranks", 1)) > 1 and not recipe.reproducible:
        what = f"{run} was trained by {ranks} processes, whose sums have an order of their own"
        raise ArgumentError(f"{what}: what is to be verified by one trains with --reproducible.")
    made = recipe.make()
    same(first.get("made_of", {}), made_of(made.split.train, None, made.loss), folder.folder)
    trainer = recipe.trainer(made, Cluster(recipe.reproducible))
    verdict = replay(trainer, folder, made.split.test, steps)
    states = f" and the weights of {', '.join(verdict.checkpoints)}" if verdict.checkpoints else ""
    compared = f"{verdict.steps:,} steps: their losses{states}"
    if verdict.difference:
        tell(f"other bits: {verdict.difference}\ncompared {compared}", bold="other bits")
        if not verdict.checkpoints:
            click.echo("no checkpoint is within these steps, to name the parameter: leave out --steps")
        return 1
    tell(f"the bits agree in {compared}", bold="the bits agree")
    if (
        total := max((record.get("step", 0) for record in History.read(folder.history)), default=0)
    ) > verdict.steps:
        resumed = " (the run was resumed for other epochs)" if first is not config else ""
        weights = "" if verdict.checkpoints else "; nor weights, which are kept from later steps alone"
        tell(f"not compared: {total - verdict.steps:,} steps after them, of {total:,}{resumed}{weights}")
    return 0
