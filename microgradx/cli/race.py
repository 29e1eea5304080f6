"""`microgradx race`: optimizers on a surface, as an animation, a page or a picture; or their basins."""

from itertools import chain, count
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from microgradx import study
from microgradx.cli.options import completed
from microgradx.errors import ArgumentError
from microgradx.optim import optimizers as known
from microgradx.study import FIELD, surfaces


class Numbers(click.ParamType):
    """So many numbers with commas between them: `1.5,-2`."""

    name = "numbers"

    def __init__(self, count: int):
        self.count = count

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple:
        """The numbers."""
        try:
            numbers = tuple(float(part) for part in value.split(","))
        except ValueError:
            numbers = ()
        if len(numbers) != self.count:
            option = param.opts[0] if param else self.name
            like = ",".join(["1.5", "-2", "0.5", "3"][: self.count])
            raise click.UsageError(f"{option} takes {self.count} numbers like {like}, got {value!r}.", ctx)
        return numbers


class Rate(click.ParamType):
    """A learning rate of one optimizer: `adam=0.1`."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple:
        """The name and the number."""
        name, _, text = value.partition("=")
        try:
            return name, float(text)
        except ValueError:
            raise click.UsageError(f"--lr takes values like adam=0.1, got {value!r}.", ctx) from None


class Names(click.ParamType):
    """Names with commas between them: `sgd,adam`."""

    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple:
        """The names; whether there are such optimizers is known once a surface's file has been read."""
        parts = value if isinstance(value, tuple) else value.split(",")
        return tuple(part.strip() for part in parts if part.strip())

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The library's own; those of a file are not known yet."""
        return completed(known, incomplete)


file = click.Path(path_type=Path, dir_okay=False)
OPTIONS = [
    click.Option(["--surface"], metavar="NAME|FILE.py:F", default="hollow", show_default=True,
        shell_complete=lambda ctx, param, incomplete: completed(surfaces, incomplete, files=True),
        help=f"A function of your own, in arithmetic and mg.sin, ...; or {', '.join(surfaces)}."),
    click.Option(["--optimizers"], type=Names(), metavar="NAME,NAME", default=FIELD,
        help=f"Who races: names of `microgradx optimizers`.  [default: {', '.join(FIELD)}]"),
    click.Option(["--start"], type=Numbers(2), metavar="X,Y", help="Where all start."),
    click.Option(["--window"], type=Numbers(4), metavar="X,X,Y,Y",
        help="What to look at: left, right, bottom, top."),
    click.Option(["--lr"], type=Rate(), multiple=True, metavar="NAME=X",
        help="An optimizer's learning rate; may be said for each."),
    click.Option(["--steps"], type=click.IntRange(min=1), metavar="N", help="How many."),
    click.Option(["--noise"], type=click.FloatRange(min=0), metavar="X",
        help="Deviation of noise on every gradient."),
    click.Option(["--seed"], type=click.IntRange(min=0), default=0, metavar="N", help="Of the noise."),
    click.Option(["--basins"], is_flag=True, help="Colour every start by where it ends and how fast."),
    click.Option(["--cells"], type=click.IntRange(2, 1000), default=160, show_default=True, metavar="N",
        help="Starts of --basins along the longer side."),
    click.Option(["--device"], type=click.Choice(["cpu", "cuda"]), default="cpu", help="Where to compute."),
    click.Option(["--out"], type=file, metavar="FILE",
        help="A .gif, .html, .png, .svg or .pdf.  [default: race.gif; basins.png]"),
]  # fmt: skip


@click.command(params=OPTIONS)
def race(surface, optimizers, start, window, lr, basins, cells, out, **options) -> None:
    """Let optimizers race on a surface, by the library's own rules, kernels and gradients.

    Learning rates, steps, start and noise are as the surface has them unless given.
    """
    chosen = study.load_surface(surface, window)
    options["lr"] = dict(lr)
    done: study.Race | study.Basins
    if basins:
        if start:
            raise ArgumentError("--basins starts from everywhere: leave out --start.")
        done = study.basins(chosen, optimizers, cells=cells, **options)
        rows = [(basin.name, basin.lr, basin.summary()) for basin in done.maps]
    else:
        done = study.race(chosen, optimizers, start, **options)
        rows = [(racer.name, racer.lr, racer.outcome) for racer in done.racers]
    out = out or free("basins.png" if basins else "race.gif")
    replaced = ", in place of the one before" * out.exists()
    done.save(out)
    width = max(len(name) for name, _, _ in rows)
    click.echo(chosen.about)
    for name, rate, outcome in rows:
        click.echo(f"  {click.style(f'{name:<{width}}', bold=True)}  lr {rate:<8.3g} {outcome}")
    click.echo(f"{done.caption()}\nin {out}{replaced}")


def free(name: str) -> Path:
    """The first of race.gif, race-2.gif ... that is not there yet."""
    first = Path(name)
    more = (first.with_stem(f"{first.stem}-{n}") for n in count(2))
    return next(path for path in chain([first], more) if not path.exists())
