"""`microgradx race`: optimizers on a surface, as an animation, a page or a picture; or their basins."""

from itertools import chain, count
from pathlib import Path

import click

from microgradx import study
from microgradx.cli.options import SEED, Number, Value, Whole, option
from microgradx.cli.terminal import tell
from microgradx.errors import ArgumentError
from microgradx.optim import optimizers as known
from microgradx.study import FIELD, surfaces
from microgradx.study.racing.surfaces import Point, Window


def numbers(count: int) -> Value:
    """So many numbers with commas between them: `1.5,-2`."""

    def read(text: str) -> tuple[float, ...]:
        found = tuple(map(float, text.split(",")))
        if len(found) != count:
            raise ValueError
        return found

    like = ",".join(["1.5", "-2", "0.5", "3"][:count])
    return Value("numbers", read, f"{{option}} takes {count} numbers like {like}, got {{value!r}}.")


def rate(text: str) -> tuple[str, float]:
    """A learning rate of one optimizer: `adam=0.1`."""
    name, _, value = text.partition("=")
    return name, float(value)


def names(text: str) -> tuple[str, ...]:
    """Names with commas between them; whether there are such is known once a surface's file has been read."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


OWN = f"A function of your own, in arithmetic and mg.sin, ...; or {', '.join(surfaces)}."
SURFACE = Value("surface", str, choices=lambda: surfaces, files=True)
NAMES = Value("names", names, choices=lambda: known)
RATE = Value("rate", rate, "--lr takes values like adam=0.1, got {value!r}.")
OPTIONS = [
    option("--surface", "NAME|FILE.py:F", OWN, "hollow", type=SURFACE),
    option("--optimizers", "NAME,NAME", "Names of `microgradx optimizers`.", ",".join(FIELD), type=NAMES),
    option("--start", "X,Y", "Where all start.", type=numbers(2)),
    option("--window", "X,X,Y,Y", "What to look at: left, right, bottom, top.", type=numbers(4)),
    option("--lr", "NAME=X", "An optimizer's learning rate; may be said for each.", multiple=True, type=RATE),
    option("--steps", "N", "How many."),
    option("--noise", "X", "Deviation of noise on every gradient.", type=Number(min=0)),
    option("--seed", "N", "Of the noise.", 0, type=SEED),
    option("--basins", None, "Colour every start by where it ends and how fast."),
    option("--cells", "N", "Starts of --basins along the longer side.", 160, type=Whole(2, 1000)),
    option("--device", "cpu|cuda", "Where to compute.", "cpu"),
    option("--out", "FILE", "A .gif, .html, .png, .svg or .pdf.  [default: race.gif; basins.png]"),
]


@click.command(params=OPTIONS)
def race(
    surface: str, optimizers: tuple[str, ...], start: Point | None, window: Window | None,
    lr: tuple[tuple[str, float], ...], steps: int | None, noise: float | None, seed: int, basins: bool,
    cells: int, device: str, out: Path | None,
) -> None:  # fmt: skip
    """Let optimizers race on a surface, by the library's own rules, kernels and gradients.

    Learning rates, steps, start and noise are as the surface has them unless given.
    """
    chosen = study.load_surface(surface, window)
    done: study.Race | study.Basins
    if basins:
        if start:
            raise ArgumentError("--basins starts from everywhere: leave out --start.")
        done = study.basins(chosen, optimizers, dict(lr), steps, noise, seed, cells, device)
        rows = [(basin.name, basin.lr, basin.summary()) for basin in done.maps]
    else:
        done = study.race(chosen, optimizers, start, dict(lr), steps, noise, seed, device)
        rows = [(racer.name, racer.lr, racer.outcome) for racer in done.racers]
    out = out or free("basins.png" if basins else "race.gif")
    replaced = ", in place of the one before" * out.exists()
    done.save(out)
    width = max(len(name) for name, _, _ in rows)
    tell(chosen.about)
    for name, rate, outcome in rows:
        tell(f"  {name:<{width}}  lr {rate:<8.3g} {outcome}", bold=name)
    tell(f"{done.caption()}\nin {out}{replaced}")


def free(name: str) -> Path:
    """The first of race.gif, race-2.gif ... that is not there yet."""
    first = Path(name)
    more = (first.with_stem(f"{first.stem}-{n}") for n in count(2))
    return next(path for path in chain([first], more) if not path.exists())
