"""`microgradx look`: pictures of what a trained network looks for, and of what it is wrong about."""

from pathlib import Path

import click

from microgradx import study
from microgradx.cli.options import LAST, RUN, option
from microgradx.cli.recipe import learned, restore
from microgradx.cli.terminal import tell
from microgradx.errors import DataError
from microgradx.training import Run

OUT = option("--out", "FOLDER", "Where to leave the pictures.  [default: RUN]")


@click.command(params=[RUN, OUT, LAST])
def look(run: Path, out: Path | None, last: bool) -> None:
    """Draw what the network in the folder RUN looks for, and what it is most wrong about.

    filters.png has the first layer's weights as images, mistakes.png the held-out images whose wrong answers
    are surest. For networks that are trained on images.
    """
    recipe, config, model = restore(Run(run), last)
    shape = config["image_shape"]
    if not shape:
        raise DataError(f"{run}: {recipe.data} has no images to show.")
    split = learned(Run(run), recipe, config)
    folder = out or run
    folder.mkdir(parents=True, exist_ok=True)
    study.filters(model, shape, folder / "filters.png")
    x, y = split.test
    wrong = study.mistakes(model, x, y, shape, folder / "mistakes.png", split.classes)
    click.echo(f"{wrong} of {len(x):,} held-out images are wrong")
    tell(f"in {folder}: filters.png, mistakes.png")
