"""The race: optimizers from one start on one surface, by the library's own rules, kernels and gradients.

run = race("hollow", ["sgd", "sgd_momentum", "adam"], lr={"adam": 0.1})
run.save("race.gif")     # needs the extra `plot`; race.html, a page to play with, does not
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from microgradx.errors import ArgumentError
from microgradx.rules import Rule
from microgradx.study.racing.descent import FIELD, descend, learning_rates, noise_of
from microgradx.study.racing.page import write_page
from microgradx.study.racing.racer import Racer, judge
from microgradx.study.racing.scene import Scene
from microgradx.study.racing.surfaces import Point, Surface, load_surface


@dataclass(frozen=True)
class Race:
    """Where everybody was after every step."""

    surface: Surface
    racers: tuple[Racer, ...]
    steps: int
    noise: float
    tilts: np.ndarray  # (steps, 2): what was added to the gradients

    def caption(self) -> str:
        """What was run, and how far the arithmetic is from the exact solution."""
        x, y = self.racers[0].path[0]
        text = f"{self.steps} steps from ({x:g}, {y:g})"
        text += f", noise of deviation {self.noise:g} on every gradient" if self.noise else ""
        known = {racer.name: racer.deviation for racer in self.racers if racer.deviation is not None}
        if known:
            largest = f"{max(known.values()):.1e} ({', '.join(known)})"
            text += f". Largest deviation from the exact solution: {largest}"
        return f"{text}."

    def save(self, path: str | Path) -> None:
        """As an animation (.gif), a page to play with (.html) or one picture, by the path's suffix."""
        suffix = Path(path).suffix.lower()
        if suffix == ".html":
            write_page(path, self.surface, self.racers, self.tilts, self.caption())
        else:
            scene = Scene(self.surface, self.racers, self.steps, self.caption())
            (scene.animate if suffix == ".gif" else scene.save)(path)


def race(
    surface: Surface | str,
    optimizers: Sequence[str | Rule] = FIELD,
    start: Point | None = None,
    lr: Mapping[str, float] | None = None,
    steps: int | None = None,
    noise: float | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> Race:
    """Let optimizers run from one point; what is not given is as the surface has it.

    surface: one of `surfaces`, "my_file.py:function" or a Surface. optimizers: rules or their names. lr: by
    name; who is not in it gets a fair one. `noise` is the deviation of what is added to every gradient, in
    each step the same for all. Raises ArgumentError for an unknown name or a start outside of the window.

    >>> run = race("hollow", ["sgd", "sgd_momentum"], steps=100)
    >>> {racer.name: racer.outcome for racer in run.racers}
    {'sgd': 'stuck at -0.345', 'sgd_momentum': 'there at step 57'}
    """
    surface = load_surface(surface) if isinstance(surface, str) else surface
    field = learning_rates(surface, optimizers, lr)
    tilts = noise_of(surface, steps, noise, seed)
    first = np.array([surface.start if start is None else start], np.float64)
    if not surface.inside(first).all():
        x, y = first[0].tolist()
        raise ArgumentError(
            f"start ({x:g}, {y:g}) is outside of the window, {surface.place}: choose another."
        )
    racers = []
    for rule, rate in field.items():
        path = descend(surface, rule, first, tilts, rate, device)[:, 0]
        racers.append(judge(surface, rule, rate, path, bool(tilts.any())))
    return Race(surface, tuple(racers), len(tilts), surface.noise if noise is None else noise, tilts)
