"""The race: optimizers from one start on one surface, by the library's own rules, kernels and gradients.

    run = race("hollow", ["sgd", "sgd_momentum", "adam"], lr={"adam": 0.1})
    run.save("race.gif")     # needs the extra `plot`; race.html, a page to play with, does not

Where no learning rate is given, a rule that follows the gradient gets one whose first step is, to a power of
ten, `surface.rate` · gradient; any other gets one that goes `surface.stride` a step on a constant slope,
but not less than a 25th of that, from which the steps of rprop grow.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from microgradx.compiler import jit
from microgradx.eager.creation import tensor
from microgradx.errors import ArgumentError, one_of
from microgradx.optim import Optimizer
from microgradx.rules import Rule, rules
from microgradx.study.racing.exact import exact
from microgradx.study.racing.surfaces import Point, Surface, load_surface

FIELD = ("sgd", "sgd_momentum", "sgd_nesterov", "adagrad", "rmsprop", "adam")
"""Who races unless told otherwise."""

LAYERS = {"lars", "lamb", "muon", "adafactor", "lbfgs"}
"""Rules that leave the rest to their class: to norms, matrices or a history, which a point has not."""

NEAR = 0.015
"""How close to a minimum counts as there, as a share of the window's diagonal."""


@dataclass(frozen=True)
class Racer:
    """One optimizer's way."""

    rule: Rule
    lr: float
    path: np.ndarray  # (steps + 1, 2)
    heights: np.ndarray  # (steps + 1,)
    last: int  # the step that leaves the picture, or the last one
    outcome: str
    deviation: float | None  # the largest distance from the exact solution, where there is one

    @property
    def name(self) -> str:
        """The rule's."""
        return self.rule.name


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
            from microgradx.study.racing.page import write_page

            write_page(self, path)
        else:
            from microgradx.study.racing import scene

            (scene.animation if suffix == ".gif" else scene.picture)(self, path)


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

    `noise` is the deviation of what is added to every gradient, in each step the same for all.
    """
    surface = load_surface(surface) if isinstance(surface, str) else surface
    field = contestants(optimizers)
    rates = learning_rates(surface, field, lr)
    tilts = noise_of(surface, steps, noise, seed)
    first = np.array([surface.start if start is None else start], np.float64)
    if not surface.inside(first).all():
        x, y = first[0].tolist()
        raise ArgumentError(
            f"start ({x:g}, {y:g}) is outside of the window, {surface.place}: choose another."
        )
    racers = []
    for rule in field:
        path = descend(surface, rule, first, tilts, rates[rule.name], device)[:, 0]
        racers.append(judge(surface, rule, rates[rule.name], path, bool(tilts.any())))
    return Race(surface, tuple(racers), len(tilts), surface.noise if noise is None else noise, tilts)


def descend(
    surface: Surface,
    rule: Rule,
    starts: np.ndarray,
    tilts: np.ndarray,
    lr: float,
    device: str = "cpu",
    compiled: bool = False,
) -> np.ndarray:
    """(n, 2) starts, (steps, 2) of noise -> (steps + 1, n, 2): the way of one rule from all starts at once.

    Noise on a gradient is a tilt of the surface, so autograd adds it. `compiled` runs the whole way, from all
    starts, as one program without returning to Python.
    """
    x, y = (tensor(c.copy(), device=device, requires_grad=True) for c in starts.T)
    optimizer = Optimizer([x, y], rule, lr=lr)

    def step(tilt):
        optimizer.zero_grad()
        height = surface.height(x, y) + x * tilt[0, 0] + y * tilt[0, 1]
        height.sum().backward()
        optimizer.step()
        return x.detach(), y.detach()

    if compiled:
        xs, ys = jit(step).scan(tilts, batch_size=1)
        way = np.stack([xs.numpy(), ys.numpy()], axis=-1)
    else:
        points = (step(tensor(tilt[None], device=device)) for tilt in tilts)
        way = np.stack([np.stack([x.numpy(), y.numpy()], axis=-1) for x, y in points])  # copies
    return np.concatenate([starts[None], way])


def contestants(optimizers: Sequence[str | Rule]) -> list[Rule]:
    """The rules of these names, each once."""
    able = {name: rule for name, rule in rules.items() if name not in LAYERS}
    found = dict.fromkeys(one if isinstance(one, Rule) else able.get(one, one) for one in optimizers)
    if not found:
        raise ArgumentError(f"a race needs an optimizer. Choose from {', '.join(able)}.")
    for one in found:
        if one in LAYERS:
            needs = "norms or the matrix of a whole layer, or the history of all"
            raise ArgumentError(f"{one} needs {needs}; a racer is two numbers.")
        if not isinstance(one, Rule):
            raise ArgumentError(one_of("optimizer", str(one), able))
    return [one for one in found if isinstance(one, Rule)]


def learning_rates(surface: Surface, field: Sequence[Rule], lr: Mapping[str, float] | None):
    """The learning rate of each rule by its name: as given, or as the surface makes it."""
    given = dict(lr or {})
    if strange := given.keys() - {rule.name for rule in field}:
        names = ", ".join(rule.name for rule in field)
        raise ArgumentError(f"lr for {', '.join(sorted(strange))}: the optimizers of this race are {names}.")
    fair = {r.name: fair_lr(r, surface.rate, surface.stride) for r in field if r.name not in given}
    return {rule.name: (fair | given)[rule.name] for rule in field}


def noise_of(surface: Surface, steps: int | None, noise: float | None, seed: int) -> np.ndarray:
    """(steps, 2): what is added to the gradients, which is part of the surface unless given."""
    steps = surface.steps if steps is None else steps
    noise = surface.noise if noise is None else noise
    if steps < 1 or not 0 <= noise < np.inf:
        raise ArgumentError(f"steps {steps}, noise {noise}: at least 1 step, and a noise of 0 or more.")
    return noise * np.random.default_rng(seed).normal(size=(steps, 2))


def fair_lr(rule: Rule, rate: float, stride: float) -> float:
    """The learning rate of a rule that was given none, from its way over constant slopes; see above."""
    if "lr" not in rule.hyperparameters:
        raise ArgumentError(f"{rule.name} has no hyperparameter lr, which a race sets.")
    flat, steep = (slope_way(rule, slope) for slope in (1.0, 100.0))
    if steep[-1] > 50 * flat[-1]:  # it follows the gradient
        return rate / 10.0 ** round(math.log10(flat[0]))
    return max(stride * len(flat) / flat[-1], stride / 25)


def slope_way(rule: Rule, slope: float, steps: int = 100) -> list[float]:
    """How far a rule has come down a constant slope after every step, as multiples of a small lr."""
    p, way, held = 0.0, [], len(rule.state)
    numbers = [0.0] * (held + len(rule.carried))
    for t in range(1, steps + 1):
        carried = dict(zip(rule.carried, numbers[held:], strict=True))
        p, *numbers = np.atleast_1d(rule(p, slope, *numbers[:held], t=t, lr=1e-3, **carried)).tolist()
        way.append(-p / 1e-3)
    return way


def judge(surface: Surface, rule: Rule, lr: float, path: np.ndarray, noisy: bool) -> Racer:
    """How a racer fared."""
    heights = surface.heights(path)
    outside = np.flatnonzero(~surface.inside(path, margin=0.02))
    last = int(outside[0]) if len(outside) else len(path) - 1
    far = distance(path[: last + 1], surface.minima) > NEAR * surface.diagonal
    arrival = int(np.flatnonzero(far)[-1]) + 1 if far.any() else 0
    recent = path[max(0, last - len(path) // 10) : last + 1]
    if len(outside):
        outcome = f"left at step {last}"
    elif not far[-1]:
        outcome = f"there at step {arrival}"
    elif not noisy and np.ptp(recent, axis=0).max() < 2e-3 * surface.diagonal:
        known = len(surface.minima)  # of a surface of one's own it may be the minimum
        outcome = f"{'stuck' if known else 'at rest'} at {heights[last]:.3g}"
    else:
        outcome = f"at {heights[last]:.3g}"
    deviation = None
    if surface.curvature is not None and not noisy:
        solution = exact(rule, surface.curvature, path[0], last, lr=lr)
        if solution is not None:
            deviation = float(np.hypot(*(path[: last + 1] - solution).T).max())
    return Racer(rule, lr, path, heights, last, outcome, deviation)


def distance(points: np.ndarray, minima: Sequence[Point]) -> np.ndarray:
    """(n, 2) -> (n,): to the nearest minimum; infinite where none is known."""
    ways = [np.hypot(*(points - minimum).T) for minimum in minima]
    return np.min([np.full(len(points), np.inf), *ways], axis=0)
