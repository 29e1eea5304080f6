"""Surfaces to race on: a height at every point of a plane, as arithmetic that autograd differentiates.

`surfaces` is the table of those that are here; `load_surface("my_file.py:function")` makes one of a user's.
"""

import math
import runpy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from microgradx.eager.creation import tensor
from microgradx.eager.mode import no_grad
from microgradx.eager.tensor import Tensor, wrap
from microgradx.errors import ArgumentError, one_of
from microgradx.scalars import cos, exp, sin, sqrt, square

Point = tuple[float, float]
Height = Callable[[Tensor, Tensor], Tensor]
Window = tuple[float, float, float, float]
"""Left, right, bottom, top."""


@dataclass(frozen=True)
class Surface:
    """A function of x and y, the part of the plane to look at, and a race that shows what it is like.

    >>> bowl = Surface("bowl", lambda x, y: x * x + y * y, (-1, 1, -1, 1), (0.5, 0.5), rate=0.3, stride=0.1)
    >>> bowl.heights(np.array([[0.5, 0.5], [0.0, 1.0]]))
    array([0.5, 1. ])
    """

    name: str
    height: Height
    window: Window
    start: Point
    rate: float  # a gradient follower's first step, per gradient
    stride: float  # how far a step goes whose length does not depend on the gradient's
    minima: tuple[Point, ...] = ()  # the lowest points, where there are any and they are known
    steps: int = 200
    noise: float = 0.0
    curvature: np.ndarray | None = None  # (2, 2) of ½ pᵀ C p, where that is all there is to it

    @property
    def about(self) -> str:
        """What it is: the first line of the function's docstring."""
        return (self.height.__doc__ or self.name).strip().splitlines()[0]

    @property
    def diagonal(self) -> float:
        """From corner to corner of the window."""
        left, right, bottom, top = self.window
        return math.hypot(right - left, top - bottom)

    @property
    def place(self) -> str:
        """The window in words."""
        left, right, bottom, top = self.window
        return f"x from {left:g} to {right:g}, y from {bottom:g} to {top:g}"

    @property
    def floor(self) -> float | None:
        """The height of the lowest points; None where they are not known."""
        return float(self.heights(np.array(self.minima[0], np.float64))) if self.minima else None

    def heights(self, points: np.ndarray) -> np.ndarray:
        """(..., 2) -> (...)"""
        with no_grad(), np.errstate(all="ignore"):  # what has left for infinity has no height
            z = self.height(wrap(points[..., 0].copy()), wrap(points[..., 1].copy()))
        found = z.numpy() if isinstance(z, Tensor) else z
        return np.broadcast_to(found, points.shape[:-1]).astype(np.float64)

    def grid(self, columns: int, rows: int) -> np.ndarray:
        """The middles of equal cells of the window: (rows, columns, 2), from the bottom left."""
        left, right, bottom, top = self.window
        x = left + (right - left) * (np.arange(columns) + 0.5) / columns
        y = bottom + (top - bottom) * (np.arange(rows) + 0.5) / rows
        return np.stack(np.meshgrid(x, y), axis=-1)

    def inside(self, points: np.ndarray, margin: float = 0.0) -> np.ndarray:
        """(..., 2) -> (...): which points are in the window, or beside it by at most so much of its sides."""
        left, right, bottom, top = self.window
        x, y = points[..., 0], points[..., 1]
        dx, dy = margin * (right - left), margin * (top - bottom)
        return (left - dx <= x) & (x <= right + dx) & (bottom - dy <= y) & (y <= top + dy)

    def levels(self, count: int = 22) -> np.ndarray:
        """Heights of contour lines that part the window into stripes, narrower ones towards the lowest."""
        heights = self.heights(self.grid(120, 120))
        finite = heights[np.isfinite(heights)]
        share = np.linspace(0, 1, count + 2)[1:-1] ** 1.4
        levels = np.unique(np.quantile(finite, share)) if finite.size else finite
        if len(levels) < 2:
            raise ArgumentError(f"{self.name} has no contour lines in {self.place}: choose another window.")
        return levels


def rotated(small: float, large: float, degrees: float) -> np.ndarray:
    """(2, 2): curvature `small` along a direction so many degrees above the x axis, `large` across it."""
    angle = math.radians(degrees)
    x, y = math.cos(angle), math.sin(angle)
    along, across = np.array([x, y]), np.array([-y, x])
    return small * np.outer(along, along) + large * np.outer(across, across)


VALLEY, SADDLE = rotated(0.01, 1, 20), np.diag([1.0, -1.0])


def quadratic(c: np.ndarray, x: Tensor, y: Tensor) -> Tensor:
    """½ pᵀ C p at p = (x, y)"""
    (a, b), (_, d) = c.tolist()
    return 0.5 * a * x * x + b * x * y + 0.5 * d * y * y


def valley(x: Tensor, y: Tensor) -> Tensor:
    """A long valley, 100 times as steep across as along"""
    return quadratic(VALLEY, x, y)


def saddle(x: Tensor, y: Tensor) -> Tensor:
    """A saddle, ½x² - ½y²"""
    return quadratic(SADDLE, x, y)


def hollow(x: Tensor, y: Tensor) -> Tensor:
    """A shallow hollow on the way to a deep one"""
    shallow = 1.1 * exp(-(square(x + 1.1) + square(y - 0.7)) / 0.5)
    deep = 3 * exp(-(square(x - 1.4) + square(y + 0.7)) / 2.5)
    return 0.12 * (square(x - 1.4) + square(y + 0.7)) - shallow - deep


def beale(x: Tensor, y: Tensor) -> Tensor:
    """Beale (1958): a flat floor between steep walls"""
    return square(1.5 - x + x * y) + square(2.25 - x + x * y * y) + square(2.625 - x + x * y * y * y)


def rosenbrock(x: Tensor, y: Tensor) -> Tensor:
    """Rosenbrock (1960): a valley that bends, (1-x)² + 100(y-x²)²"""
    return square(1 - x) + 100 * square(y - x * x)


def rastrigin(x: Tensor, y: Tensor) -> Tensor:
    """Rastrigin (1974): a bowl full of dents, 20 + x² + y² - 10cos(2πx) - 10cos(2πy)"""
    return 20 + x * x + y * y - 10 * (cos(2 * math.pi * x) + cos(2 * math.pi * y))


def himmelblau(x: Tensor, y: Tensor) -> Tensor:
    """Himmelblau (1972): four equal minima, (x²+y-11)² + (x+y²-7)²"""
    return square(x * x + y - 11) + square(x + y * y - 7)


def ravine(x: Tensor, y: Tensor) -> Tensor:
    """A ravine that winds, and gradients with noise"""
    return 2 * sqrt(0.02 + square(y - 0.8 * sin(x))) + 0.06 * square(x)


HOLLOW = ((1.3999996919117965, -0.6999998274706061),)
HIMMELBLAU = (
    (3.0, 2.0),
    (-2.805118086952745, 3.131312518250573),
    (-3.779310253377747, -3.283185991286169),
    (3.5844283403304917, -1.8481265269644034),
)

surfaces: dict[str, Surface] = {
    s.name: s
    for s in (
        Surface("valley", valley, (-6, 6, -4, 4), (-5.2, 0.4), 0.6, 0.1, ((0, 0),), curvature=VALLEY),
        Surface("saddle", saddle, (-2, 2, -2, 2), (-1.6, 1e-6), 0.1, 0.05, steps=120, curvature=SADDLE),
        Surface("hollow", hollow, (-3, 3.6, -3, 2.6), (-2.3, 1.9), 0.05, 0.05, HOLLOW, steps=160),
        Surface("beale", beale, (-1.5, 4.5, -2.5, 2.5), (0.8, 1.7), 4e-3, 0.06, ((3, 0.5),), steps=200),
        Surface("rosenbrock", rosenbrock, (-2, 2, -1, 3), (-0.9, 2.4), 6e-4, 0.12, ((1, 1),), steps=400),
        Surface("rastrigin", rastrigin, (-3, 3, -3, 3), (-1.4, 2.3), 2.5e-3, 0.25, ((0, 0),)),
        Surface(
            "himmelblau", himmelblau, (-5.5, 5.5, -5.5, 5.5), (-0.1, -0.8), 4e-3, 0.1, HIMMELBLAU, steps=100
        ),
        Surface("ravine", ravine, (-5, 5, -3, 3), (-4.3, 2), 0.05, 0.08, ((0, 0),), noise=0.6),
    )
}
"""The surfaces by name; a race on one is as its row says unless told otherwise."""


def load_surface(given: str, window: Window | None = None) -> Surface:
    """A surface by its name, or of a user's function, "my_file.py:function"; seen through another window.

    window: left, right, bottom, top. Raises ArgumentError for an unknown name, a window without an inside,
    and a function that is no surface.

    >>> load_surface("himmelblau", (0, 5, 0, 5)).minima
    ((3.0, 2.0),)
    """
    path, _, name = given.rpartition(":")
    if given in surfaces:
        found = surfaces[given]
    elif path.endswith(".py"):
        found = own_surface(Path(path), name, window or (-2, 2, -2, 2))
    else:
        raise ArgumentError(one_of("surface", given, [*surfaces, "my_file.py:function"]))
    if window is None:
        return found
    left, right, bottom, top = window
    if not (left < right and bottom < top and np.isfinite(window).all()):
        raise ArgumentError(f"window {window}: it is left < right and bottom < top, such as -2, 2, -1, 3.")
    seen = replace(found, window=window)
    return replace(seen, minima=tuple(p for p in found.minima if seen.inside(np.array(p))))


def own_surface(path: Path, name: str, window: Window) -> Surface:
    """A user's function of x and y: tried at one point, started from near the window's upper left corner."""
    if not path.is_file():
        raise ArgumentError(f"no file {path}: --surface takes my_file.py:function.")
    try:
        space = runpy.run_path(str(path))
    except Exception as error:
        raise ArgumentError(f"{path} cannot be run: {type(error).__name__}: {error}.") from None
    functions = {k: f for k, f in space.items() if callable(f) and k[:1] != "_"}
    if name not in functions:
        raise ArgumentError(f"{path} has no function {name!r}; it has {', '.join(functions) or 'none'}.")
    left, right, bottom, top = window
    start = (left + 0.15 * (right - left), top - 0.2 * (top - bottom))
    stride = math.hypot(right - left, top - bottom) / 80
    if problem := trouble(functions[name], start):
        advice = "It takes two Tensors and computes with mg.sin, mg.exp, ..., not math's or NumPy's."
        raise ArgumentError(f"{path}:{name} {problem}. {advice}")
    return Surface(name, functions[name], window, start, 0.01, stride)


def trouble(function: Height, start: Point) -> str:
    """What keeps a function from being a surface; nothing if a gradient leads from two heights to x and y."""
    x, y = (tensor([value, value], requires_grad=True) for value in start)
    try:
        z = function(x, y)
    except Exception as error:
        problem = f"{type(error).__name__}: {error}".rstrip(".")
        return f"fails at x, y = {start[0]:g}, {start[1]:g}: {problem}"
    if not isinstance(z, Tensor):
        return f"returns a value of type {type(z).__name__}, not a Tensor"
    if z.shape != x.shape:
        return f"returns shape {z.shape} where x and y have shape {x.shape}"
    return "" if z.requires_grad else "returns a Tensor that was not computed from x and y"
