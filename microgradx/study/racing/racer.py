"""One optimizer's way over a surface: how it fared, and how far it is from the exact solution."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from microgradx.rules import Rule
from microgradx.study.racing.exact import exact
from microgradx.study.racing.surfaces import Point, Surface

NEAR = 0.015
"""How close to a minimum counts as there, as a share of the window's diagonal."""


@dataclass(frozen=True)
class Racer:
    """One optimizer's way over a surface.

    >>> racer = study.race("hollow", ["sgd"], steps=20).racers[0]
    >>> racer.name, racer.path.shape, racer.last
    ('sgd', (21, 2), 20)
    """

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
