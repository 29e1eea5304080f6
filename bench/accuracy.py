"""Errors in ulp at extreme inputs: values, first and second derivatives, eager and compiled, against mpmath.

The exact result is the definition itself in hundreds of digits, and its derivatives are central differences
there. An ulp is the distance of neighbours at the exact result; of a function of rows (a reduction, a loss)
at the largest number of the row; of a function in `REASONS` at the size that stands there, if that is larger.
"""

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import mpmath
import numpy as np
from mpmath import mp, mpf

import microgradx as mg
from microgradx import nn, scalars
from microgradx.scalars import Elementwise

METHOD = "Errors in ulp, the largest of all points, and where it is; the bound is 6."
DIGITS = {"float32": 250, "float64": 500}
ORDERS = ("value", "first", "second")
TOGETHER = 8  # functions in one compiled step

TENS = [10.0**k for k in (-44, -40, -38, -30, -20, -10, -6, -4, -2)]
DAYS = [
    0.1,
    0.3,
    0.5,
    0.7,
    0.9,
    1 - 2**-20,
    1.0,
    1 + 2**-20,
    1.3,
    1.5707964,
    2.0,
    3.0,
    3.1415927,
    4.0,
    5.0,
    6.0,
]
FAR = [
    8.0,
    9.0,
    10.0,
    13.0,
    16.0,
    17.0,
    20.0,
    37.0,
    50.0,
    80.0,
    86.0,
    100.0,
    1e3,
    1e5,
    1e10,
    1e19,
    1e30,
    3e38,
]
DOUBLE = [1e-150, 1e-100, 300.0, 700.0, 708.0, 740.0, 1e100, 1e154, 1e200]
PAIRS = [1e-40, 1e-20, 1e-3, 0.5, 1.0, 2.0, 7.3, 1e3, 1e20, 1e38]


def grid(inputs: int, dtype: str, coarse: bool = False) -> list[tuple[float, ...]]:
    """Points of every sign, tiny, huge and everyday; fewer in each direction for several inputs."""
    sizes = TENS + DAYS + FAR + DOUBLE * (dtype == "float64") if inputs == 1 else PAIRS
    sizes = [float(np.dtype(dtype).type(x)) for x in (sizes[::2] if coarse else sizes)]
    points = itertools.product([*sizes, *(-x for x in sizes)], repeat=inputs)
    return [point for point in points if len({*point}) == inputs]  # at ties there are kinks


# Exact results


def exact(function: Elementwise) -> Callable[..., Any]:
    """A definition on numbers of mpmath; the functions that it calls as well."""
    inner = function.function
    if function.name == "absolute":
        return abs
    called = set(inner.__code__.co_names) - {function.name}
    names = {n for n in called if isinstance(inner.__globals__.get(n), Elementwise)}
    world = inner.__globals__ | {n: exact(inner.__globals__[n]) for n in names} | {"math": Maths}
    return FunctionType(inner.__code__, world, function.name, inner.__defaults__)


class Maths:
    """The module math, of numbers of mpmath."""

    sqrt, exp, expm1, log, log1p = mpmath.sqrt, mpmath.exp, mpmath.expm1, mpmath.log, mpmath.log1p
    sin, cos, tanh, erf, pi = mpmath.sin, mpmath.cos, mpmath.tanh, mpmath.erf, mpmath.pi


def derivatives(f: Callable[..., Any], x: tuple, directions: Iterable[tuple]) -> list[list[Any]]:
    """Value, slopes, and the slopes' slopes in each direction, of a function that returns a list."""
    rows = len(x) > 2  # whose numbers are moved alike
    size = min(map(abs, x))
    h = [min(size if rows else abs(v), 1) * mpf(10) ** -25 for v in x]
    total = lambda x: mpmath.fsum(w * y for w, y in zip(weights(), f(x), strict=False))
    units = [tuple(h[k] * (i == k) for i in range(len(x))) for k in range(len(x))]
    move = lambda x, by, sign: tuple(v + sign * d for v, d in zip(x, by, strict=True))
    noise = abs(total(x)) * mpf(10) ** (10 - mp.dps)
    known = lambda d: mpf(0) if abs(d) <= noise else d
    along = lambda x, by: known(total(move(x, by, 1)) - total(move(x, by, -1)))
    first = [along(x, unit) / (2 * h[k]) for k, unit in enumerate(units)]
    second = []
    for direction in directions:
        step = max(size for size, d in zip(h, direction, strict=True) if d)
        by = tuple(step * mpf(d) for d in direction)
        for k, unit in enumerate(units):
            turn = along(move(x, unit, 1), by) - along(move(x, unit, -1), by)
            second.append(known(turn) / (4 * h[k] * step))
    return [f(x), first, second]


def weights() -> Iterable[float]:
    """What the results of a row are multiplied with, before their sum is differentiated."""
    return itertools.cycle((1.0, -0.5, 0.25, 1.5))


# Subjects


@dataclass(frozen=True)
class Subject:
    """A function to be measured: of columns of numbers, or of rows."""

    name: str
    run: Callable[..., Any]
    exact: Callable[..., Any]
    points: list[tuple[float, ...]]
    rows: bool = False

    @property
    def directions(self) -> list[tuple[float, ...]]:
        """In which second derivatives are taken: along every input, or one across the row."""
        n = len(self.points[0])
        return [(1.0, -0.5, 0.25, 2.0, 0.75)[:n]] if self.rows else [tuple(row) for row in np.eye(n)]

    def arrays(self, dtype: str) -> list[np.ndarray]:
        """What the function is called with."""
        points = np.array(self.points, dtype)
        return [points] if self.rows else list(np.ascontiguousarray(points.T))

    def __call__(self, *xs: Any) -> list[Any]:
        """Value, slopes and second slopes: Tensors with the points along the first axis."""
        free = tuple(range(len(xs)))

        def total(*xs):
            y = self.run(*xs)
            w = np.fromiter(itertools.islice(weights(), y.shape[-1]), y.dtype) if y.ndim > 1 else 1.0
            return (y * w).sum()

        slopes = lambda *xs: mg.grad(total, argnums=free)(*xs)
        found = [self.run(*xs), *slopes(*xs)]
        for direction in self.directions:
            by = [np.array(direction, xs[0].dtype)] if self.rows else direction
            along = lambda *xs, by=by: sum(
                ((s * d).sum() for s, d in zip(slopes(*xs), by, strict=True) if np.any(d)), start=mg.zeros(())
            )
            found += mg.grad(along, argnums=free)(*xs)
        return found


def functions(dtype: str, coarse: bool = False) -> list[Subject]:
    """Every elementwise function with a slope; of `where`, the side that the condition takes."""
    found = []
    for op in scalars.differentiable():
        first = (np.array(True),) if op.name == "where" else ()
        one = lambda *x, op=op, first=first: op(*first, *x)
        known = exact(op)
        many = lambda x, f=known, first=first: [f(*first, *x)]
        found.append(Subject(op.name, one, many, grid(len(op.inputs) - len(first), dtype, coarse)))
    return found


def shifted(x: tuple) -> list[Any]:
    """log softmax"""
    total = mpmath.log(mpmath.fsum(map(mpmath.exp, x)))
    return [v - total for v in x]


def spread(x: tuple, ddof: int = 0) -> Any:
    """The variance"""
    middle = mpmath.fsum(x) / len(x)
    return mpmath.fsum((v - middle) ** 2 for v in x) / (len(x) - ddof)


def log1pexp(x: Any) -> Any:
    """log(1 + eˣ)"""
    return mpmath.log1p(mpmath.exp(x))


def normal(x: tuple, eps: float = 1e-5) -> list[Any]:
    """Mean 0 and variance 1"""
    middle, scale = mpmath.fsum(x) / len(x), mpmath.sqrt(spread(x) + mpf(eps))
    return [(v - middle) / scale for v in x]


def huber(d: Any, delta: float = 1.3) -> Any:
    """½d², or a line beyond delta"""
    return d * d / 2 if d <= delta else mpf(delta) * (d - mpf(delta) / 2)


TARGETS = (0.0, 1.0, 0.25, 0.5, 1.0)
BASE = (0.3, -1.2, 2.5, 0.7, -0.4)
POINTS = [
    *(tuple(scale * v + shift for v in BASE) for scale, shift in [
        (1, 0), (1e-3, 0), (1e-15, 0), (10, 0), (30, 0), (1, 1e3), (1, 1e4), (1, 1e5), (1, -1e5), (1e4, 0),
        (1e8, 0),
    ]),
    (88.0, -88.0, 0.5, 1e-30, 3.0), (1e-38, 3e-38, -2e-38, 1e-3, 5e-39), (20.0, 50.0, -60.0, -17.0, 40.0),
]  # fmt: skip

LABELS = np.full(len(POINTS), 2)

ROWS: dict[str, tuple[Callable[..., Any], Callable[[tuple], list[Any]]]] = {
    "sum": (lambda x: x.sum(1), lambda x: [mpmath.fsum(x)]),
    "mean": (lambda x: x.mean(1), lambda x: [mpmath.fsum(x) / len(x)]),
    "var": (lambda x: x.var(1), lambda x: [spread(x)]),
    "std": (lambda x: x.std(1, ddof=1), lambda x: [mpmath.sqrt(spread(x, 1))]),
    "max": (lambda x: x.max(1), lambda x: [max(x)]),
    "min": (lambda x: x.min(1), lambda x: [min(x)]),
    "norm": (lambda x: mg.norm(x, 1), lambda x: [mpmath.sqrt(mpmath.fsum(v * v for v in x))]),
    "prod": (lambda x: x.prod(1), lambda x: [mpmath.fprod(x)]),
    "cumsum": (lambda x: x.cumsum(1), lambda x: list(itertools.accumulate(x))),
    "logsumexp": (lambda x: mg.logsumexp(x, 1), lambda x: [x[2] - shifted(x)[2]]),
    "softmax": (lambda x: mg.softmax(x, 1), lambda x: list(map(mpmath.exp, shifted(x)))),
    "log_softmax": (lambda x: mg.log_softmax(x, 1), shifted),
    "cross_entropy": (lambda x: nn.cross_entropy(x, LABELS, reduction="none"), lambda x: [-shifted(x)[2]]),
    "nll_loss": (lambda x: nn.nll_loss(x, LABELS, reduction="none"), lambda x: [-x[2]]),
    "mse_loss": (
        lambda x: nn.mse_loss(x, against(x), reduction="none"),
        lambda x: [(v - t) ** 2 for v, t in zip(x, TARGETS, strict=True)],
    ),
    "l1_loss": (
        lambda x: nn.l1_loss(x, against(x), reduction="none"),
        lambda x: [abs(v - t) for v, t in zip(x, TARGETS, strict=True)],
    ),
    "huber_loss": (
        lambda x: nn.huber_loss(x, against(x), reduction="none", delta=1.3),
lambda x: [huber(abs(v - t)) for v, t in zip(x, TARGETS, strict=True)],
    ),
    "binary_cross_entropy_with_logits": (
        lambda x: nn.binary_cross_entropy_with_logits(x, against(x), reduction="none"),
        lambda x: [t * log1pexp(-v) + (1 - t) * log1pexp(v) for v, t in zip(x, TARGETS, strict=True)],
    ),
    "kl_div": (
        lambda x: nn.kl_div(x, against(x), reduction="none"),
        lambda x: [t * (mpmath.log(t or 1) - v) for v, t in zip(x, TARGETS, strict=True)],
    ),
    "layer_norm": (lambda x: nn.LayerNorm(5, elementwise_affine=False)(x), normal),
}  # fmt: skip
"""Functions of rows of five numbers: reductions, normalisations, losses."""


def against(x: Any) -> np.ndarray:
    """Targets for every row."""
    return np.broadcast_to(np.array(TARGETS, x.dtype), x.shape).copy()


def rows(dtype: str) -> list[Subject]:
    """Every reduction, normalisation and loss."""
    points = [tuple(np.array(p, dtype).astype(float).tolist()) for p in POINTS]
    return [Subject(name, run, many, points, rows=True) for name, (run, many) in ROWS.items()]


# Errors


def run_all(subjects: list[Subject], dtype: str, compiled: bool) -> list[list[np.ndarray]]:
    """What the library makes of all subjects; compiled, several in one step."""
    found = []
    for k in range(0, len(subjects), TOGETHER):
        part = subjects[k : k + TOGETHER]
        arrays = [s.arrays(dtype) for s in part]

        def step(*groups, part=part):
            return [s(*group) for s, group in zip(part, groups, strict=True)]

        tensors = [[mg.Tensor(a) for a in group] for group in arrays]
        with np.errstate(all="ignore"):
            results = (mg.jit(step) if compiled else step)(*tensors)
        found += [[t.numpy() for t in result] for result in results]
    return found


def truths(subject: Subject, dtype: str) -> list[list[list[Any]] | None]:
    """The exact results at every point; None where there are none, at poles and outside of the domain."""
    found: list[list[list[Any]] | None] = []
    with mp.workdps(DIGITS[dtype]):
        for point in subject.points:
            try:
                orders = derivatives(subject.exact, tuple(map(mpf, point)), subject.directions)
                whole = all(
                    isinstance(v, mpf | float | int) and mpmath.isfinite(v) for o in orders for v in o
                )
            except (ZeroDivisionError, ValueError, OverflowError):
                whole = False
            found.append(orders if whole else None)
    return found


def ulps(got: Iterable[Any], wanted: list[Any], dtype: str, floor: float) -> float:
    """The largest distance, in ulps of the exact results or of the floor."""
    worst = 0.0
    kind = np.dtype(dtype).type
    if floor == math.inf:
        return 0.0
    with np.errstate(over="ignore"):
        for g, w in zip(got, wanted, strict=True):
            near = kind(float(w))
            if g == near:
                continue
            if not (np.isfinite(g) and np.isfinite(near)):
                return math.inf
            unit = float(np.spacing(kind(max(abs(float(near)), floor))))
            with mp.workdps(40):
                worst = max(worst, float(abs(mpf(float(g)) - w) / mpf(unit)))
    return worst


def errors(subject: Subject, found: list[np.ndarray], exact: list, dtype: str) -> list[tuple[float, tuple]]:
    """Per order the largest error, and where."""
    n, points = len(subject.points[0]), range(len(subject.points))
    value = np.asarray(found[0]).reshape(len(points), -1)
    if subject.rows:
        parts = [value, np.asarray(found[1]), np.asarray(found[2])]
    else:
        parts = [value, np.stack(found[1 : 1 + n], 1), np.stack(found[1 + n :], 1)]
    result = []
    for order, part in enumerate(parts):
        worst: tuple[float, tuple] = (0.0, ())
        for p in points:
            if exact[p] is None:
                continue
            wanted = exact[p][order]
            floor = floor_of(subject, order, subject.points[p], wanted)
            worst = max(worst, (ulps(part[p], wanted, dtype, floor), subject.points[p]), key=lambda e: e[0])
        result.append(worst)
    return result


BOUND = 6.0
"""Ulps that no error is above; where `REASONS` has a function, an ulp is taken at its floor at least."""

ONE = lambda point: 1.0
wide = lambda a, b: abs(math.log10(abs(a))) * (abs(b) + 2)
REASONS: dict[str, tuple[str, str, Callable[[tuple], float]]] = {
    "power": ("first second", "b - 1 is rounded, 1 + b log a cancels: ulps of 1, without large b or b log a",
              lambda point: math.inf if abs(point[1]) > 100 or wide(*point) > 6 else 1.0),
    "erf": ("first second", "exp(-x²) of a rounded x²: ulps of 1", ONE),
    "tanh": ("first second", "1 - y², without a second exponential, as PyTorch's: ulps of 1", ONE),
    "sigmoid": ("first second", "y (1 - y), without a second exponential, as PyTorch's: ulps of 1", ONE),
    "softplus": ("second", "sigmoid's slope: ulps of 1", ONE),
    "silu": ("value first second", "x times a sigmoid that may be denormal, and x (1 - σ): ulps of x / 4",
             lambda point: 1 + min(abs(point[0]), 40) / 4),
    "gelu": ("value first second", "1 + erf(x / √2) where they cancel, as PyTorch's: ulps of 1", ONE),
    "gelu_tanh": ("value first second", "the argument of exp is rounded, and x³ (1 - σ): ulps of x³ / 4",
                  lambda point: 1 + min(abs(point[0]), 40) ** 3 / 4),
    "binary_cross_entropy_with_logits": ("second", "sigmoid's slope: ulps of 1", ONE),
    "logsumexp": ("second", "softmax's slope: ulps of 1", ONE),
    "softmax": ("first second", "p (g - Σ g p), and Σ p = 1: ulps of 1", ONE),
    "log_softmax": ("second", "softmax's slope: ulps of 1", ONE),
    "cross_entropy": ("value first second", "log Σ with a sum near 1, and p - 1: ulps of 1", ONE),
} | dict.fromkeys(
    ("var", "std", "layer_norm"),
    ("value first second", "the mean is rounded: ulps of the largest input", lambda x: max(map(abs, x))),
)  # fmt: skip
"""Per function the orders, the reason and the floor, at a point, where errors are not below the bound."""


def floor_of(subject: Subject, order: int, point: tuple, wanted: list[Any]) -> float:
    """The size at which an ulp is taken, at least."""
    orders, _, floor = REASONS.get(subject.name, ("", "", ONE))
    largest = float(max(map(abs, wanted))) if subject.rows else 0.0
    return max(largest, floor(point)) if ORDERS[order] in orders.split() else largest


def run(quick: bool = False) -> list[dict[str, object]]:
    """A row per function and dtype."""
    table = []
    for dtype in ("float32", "float64"):
        for subjects in (functions(dtype, quick), rows(dtype)):
            exacts = [truths(subject, dtype) for subject in subjects]
            ways = {name: run_all(subjects, dtype, name == "compiled") for name in ("eager", "compiled")}
            for k, subject in enumerate(subjects):
                row: dict[str, object] = {"function": subject.name, "dtype": dtype}
                for way, found in ways.items():
                    worst = errors(subject, found[k], exacts[k], dtype)
                    for order, (size, where) in zip(ORDERS, worst, strict=True):
                        at = ", ".join(f"{v:.7g}" for v in where)
                        row[f"{way} {order}"] = f"{size:.2g}" + (
                            f" at {at}" if size > 0.5 and not subject.rows else ""
                        )
                if subject.name in REASONS:
                    row["explained"] = "{}: {}".format(*REASONS[subject.name])
                table.append(row)
    return table
