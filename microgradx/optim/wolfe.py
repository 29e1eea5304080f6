"""A line search: how far to go along a direction, so that the strong Wolfe conditions hold.

    φ(t) ≤ φ(0) + c₁ t φ'(0): the loss falls enough     |φ'(t)| ≤ c₂ |φ'(0)|: and along there hardly any more

Nocedal & Wright (2006), Numerical Optimization, Algorithms 3.5 and 3.6; interpolation and safeguards are
those of minFunc, as in PyTorch. The search turns back where the loss is infinite.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

FALL, FLAT = 1e-4, 0.9  # c₁ and c₂


class Point(NamedTuple):
    """The loss at t, its slope φ'(t) there, and the gradient that this is of."""

    t: float
    loss: float
    slope: float
    gradient: np.ndarray


def strong_wolfe(
    look: Callable[[float], Point], start: Point, t: float, reach: float, tolerance: float, most: int
) -> tuple[Point, int]:
    """A point where the conditions hold, if it is found in time, else the lowest; and how often it looked.

    `t` is the first guess; `reach` the most that a weight moves up to t = 1: a bracket in which none moves by
    `tolerance` is narrow enough. It looks `most` times after the first.
    """
    steep = lambda point: not point.loss <= start.loss + FALL * point.t * start.slope
    bracket, count, done = expand(look, start, t, steep, most)
    low = lower(bracket)
    stuck = False  # whether the last guess was close to an end
    while not done and count < most and not abs(bracket[1].t - bracket[0].t) * reach < tolerance:
        t, stuck = inside(bracket, stuck)
        new, count = look(t), count + 1
        high = 1 - low
        if steep(new) or new.loss >= bracket[low].loss:
            bracket[high] = new
            low = lower(bracket)
            continue
        done = level(new, start)
        if not done and new.slope * (bracket[high].t - bracket[low].t) >= 0:
            bracket[high] = bracket[low]
        bracket[low] = new
    return bracket[low], count + 1


def expand(
    look: Callable[[float], Point], start: Point, t: float, steep: Callable[[Point], bool], most: int
) -> tuple[list[Point], int, bool]:
    """Go further until a minimum is behind: two points around it, or (True) one where the conditions hold."""
    before, new, count = start, look(t), 0
    while count < most:
        if steep(new) or (count > 1 and new.loss >= before.loss):
            return [before, new], count, False
        if level(new, start):
            return [new], count, True
        if new.slope >= 0:
            return [before, new], count, False
        t = cubic(before, new, new.t + 0.01 * (new.t - before.t), 10 * new.t)
        before, new, count = new, look(t), count + 1
    return [start, new], count, False


def level(point: Point, start: Point) -> bool:
    """The second condition."""
    return abs(point.slope) <= -FLAT * start.slope


def lower(bracket: list[Point]) -> int:
    """Which of the points has the lower loss."""
    return 0 if bracket[0].loss <= bracket[-1].loss else 1


def inside(bracket: list[Point], stuck: bool) -> tuple[float, bool]:
    """The next guess between two points, and whether it is close to one: not twice, and never on it."""
    first, last = sorted(point.t for point in bracket)
    t, margin = cubic(bracket[0], bracket[1], first, last), 0.1 * (last - first)
    if min(last - t, t - first) >= margin:
        return t, False
    if not stuck and first < t < last:
        return t, True
    return (last - margin if abs(t - last) < abs(t - first) else first + margin), False


def cubic(a: Point, b: Point, low: float, high: float) -> float:
    """Where the cubic through both points and slopes is least, in [low, high]; else the middle of that.

    Nocedal & Wright (2006), equation 3.59.
    """
    a, b = (a, b) if a.t <= b.t else (b, a)
    try:
        one = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.t - b.t)
        two = math.sqrt(one * one - a.slope * b.slope)
    except (ValueError, ZeroDivisionError):  # it has no minimum, or they are one point
        return (low + high) / 2
    above, below = b.slope + two - one, b.slope - a.slope + 2 * two
    t = b.t - (b.t - a.t) * (
        above / below if below else math.copysign(math.inf, above)
    )  # on a line: far away
    return (low + high) / 2 if math.isnan(t) else min(max(t, low), high)
