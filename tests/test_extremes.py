"""Losses, softmax, logarithms and normalisations where numbers overflow, vanish or cancel, against mpmath.

Each row is a function, the same in mpmath, and points; values and gradients are compared, in both precisions,
line by line; and emitted programs give the same (`test_accuracy` compiles their parts to machine code).
"""

import math

import numpy as np
import pytest

import microgradx as mg
from microgradx import nn

mp = pytest.importorskip("mpmath", reason="mpmath is in the extra 'test'")

WIDE = [
    (1e4, 0.0, -1e4), (88.5, 88.75, 89.0), (-1e30, 0.0, 1e30), (1e-30, 0.0, -1e-30), (-745.0, -746.0, -744.0),
    (0.0, 0.0, 0.0), (1e38, 1e38, -1e38), (16.0, 16.0, -16.0), (-104.0, 0.0, 0.5),
]  # fmt: skip
LOGITS = [(x,) for x in (-1e30, -1e4, -104.0, -88.0, -17.0, -1e-30, 0.0, 1e-30, 17.0, 88.0, 104.0, 1e4, 1e30)]
FLAT = [(5.0,) * 4, (0.0,) * 4, (1e4,) * 4, (1e-30,) * 4, (1e-20, 1e-20, -1e-20, 0.0)]
FAR = [(3e38, -3e38), (1e30, 0.5), (-1e20, 0.0), (1e-30, -1e-30), (0.25, -0.75)]


def total(x):
    return mp.fsum(mp.exp(e) for e in x)


def likely(x, k=0):
    """log softmax of one class."""
    return x[k] - mp.log(total(x))


def soft(x):
    return mp.log1p(mp.exp(x))


def normal(x, k):
    """The k-th of numbers normalised to mean 0 and deviation 1, with PyTorch's eps."""
    mean = mp.fsum(x) / len(x)
    var = mp.fsum((e - mean) ** 2 for e in x) / len(x)
    return (x[k] - mean) / mp.sqrt(var + mp.mpf(1e-5))


def huber(x):
    return mp.fsum(e * e / 2 if abs(e) <= 1 else abs(e) - mp.mpf(1) / 2 for e in x)


def bce(target, weight=1):
    theirs = lambda x: weight * target * soft(-x[0]) + (1 - target) * soft(x[0])
    ours = lambda x: nn.binary_cross_entropy_with_logits(
        x, np.full(1, target), pos_weight=None if weight == 1 else np.full(1, weight)
    )
    return ours, theirs, LOGITS


def both(loss, **options):
    return lambda x: loss(x.reshape(1, -1), np.zeros(1, int), **options)


layer = nn.LayerNorm(4, elementwise_affine=False)
ROWS = {
    "softmax": (lambda x: mg.softmax(x)[0], lambda x: mp.exp(likely(x)), WIDE),
    "log_softmax": (lambda x: mg.log_softmax(x)[1], lambda x: likely(x, 1), WIDE),
    "logsumexp": (mg.logsumexp, lambda x: mp.log(total(x)), WIDE),
    "cross_entropy": (both(nn.cross_entropy), lambda x: -likely(x), WIDE),
    "nll_loss": (lambda x: both(nn.nll_loss)(mg.log_softmax(x)), lambda x: -likely(x), WIDE),
    "smoothed": (both(nn.cross_entropy, label_smoothing=0.25),
                 lambda x: -likely(x) * 0.75 - mp.fsum(likely(x, k) for k in range(3)) / 12,
                 WIDE[1:2] + WIDE[3:]),
    "sigmoid": (lambda x: mg.sigmoid(x).sum(), lambda x: 1 / (1 + mp.exp(-x[0])), LOGITS),
    "softplus": (lambda x: mg.softplus(x).sum(), lambda x: soft(x[0]), LOGITS),
    "silu": (lambda x: mg.silu(x).sum(), lambda x: x[0] / (1 + mp.exp(-x[0])), LOGITS),
    "BCE of 0": bce(0.0), "BCE of 1": bce(1.0), "BCE of 1/4": bce(0.25), "BCE, weighed": bce(1.0, 8.0),
    "LayerNorm": (lambda x: layer(x.reshape(1, -1))[0, 0], lambda x: normal(x, 0), FLAT),
    "BatchNorm1d": (lambda x: nn.BatchNorm1d(1, affine=False)(x.reshape(-1, 1))[0, 0],
                    lambda x: normal(x, 0), FLAT),
    "huber_loss": (lambda x: nn.huber_loss(x, np.zeros(2), "sum"), huber, FAR),
    "l1_loss": (lambda x: nn.l1_loss(x, np.zeros(2), "sum"), lambda x: abs(x[0]) + abs(x[1]), FAR[1:3]),
    "kl_div": (lambda x: nn.kl_div(mg.log_softmax(x), np.array([0.0, 1.0, 0.0]), "sum"),
               lambda x: -likely(x, 1), WIDE),
    "log1p": (lambda x: mg.log1p(x).sum(), lambda x: mp.log1p(x[0]), [(-1 + 2.0**-20,), (1e-30,), (1e30,)]),
    "expm1": (lambda x: mg.expm1(x).sum(), lambda x: mp.expm1(x[0]), [(-1e4,), (-1e-30,), (1e-30,), (88.0,)]),
}  # fmt: skip


def exact(theirs, point):
    """The value and the slopes, of the numbers as they are in the precision."""
    with mp.workdps(120):
        x = [mp.mpf(float(e)) for e in point]
        slope = lambda k: mp.diff(lambda e: theirs([*x[:k], e, *x[k + 1 :]]), x[k], h=mp.mpf(10) ** -60)
        return theirs(x), [slope(k) for k in range(len(x))]


def points(dtype):
    for name, (ours, theirs, rows) in ROWS.items():
        for row in rows:
            yield name, ours, theirs, np.array(row, dtype)


def close(found, wanted, dtype, size=0.0):
    """Whether some numbers are right to a few units in the last place, of `size` where that is larger."""
    limits = np.finfo(dtype)
    wanted = [float(w) if abs(w) < limits.max else math.copysign(math.inf, w) for w in wanted]
    for one, right in zip(np.ravel(found).tolist(), wanted, strict=True):
        if one != right and not abs(one - right) <= 8 * limits.eps * max(abs(right), size) + 8 * limits.tiny:
            return False
    return True


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_and_slopes_at_the_extremes(dtype):
    wrong = []
    for name, ours, theirs, point in points(dtype):
        value, slope = mg.value_and_grad(ours)(point)
        right, slopes = exact(theirs, point)
        scale = 1.0 if name == "sigmoid" else max(float(abs(s)) for s in slopes)  # its slope is y (1 - y)
        if not close(value.data, [right], dtype) or not close(slope.data, slopes, dtype, scale):
            wrong.append(
                f"{name}{point}: {value.data}, {slope.data}; {mp.nstr(right, 9)}, {mp.nstr(slopes, 9)}"
            )
    assert not wrong, "\n".join(wrong)


AT_ZERO = {
    "norm": (mg.norm, [0.0, 0.0], 0.0, [0.0, 0.0]),
    "norm, part": (
        lambda x: mg.norm(x.reshape(2, 2), axis=1).sum(),
        [0.0, 0.0, 3.0, 4.0],
        5.0,
        [0.0, 0.0, 0.6, 0.8],
    ),
    "std": (mg.std, [2.0, 2.0], 0.0, [0.0, 0.0]),
    "var": (mg.var, [2.0, 2.0], 0.0, [0.0, 0.0]),
    "sqrt": (lambda x: mg.sqrt(x).sum(), [0.0], 0.0, [math.inf]),
    "log": (lambda x: mg.log(x).sum(), [0.0], -math.inf, [math.inf]),
    "log, masked": (
        lambda x: mg.where(x > 0, mg.log(mg.where(x > 0, x, 1)), 0).sum(),
        [0.0, 1.0],
        0.0,
        [0.0, 1.0],
    ),
    "kl_div of 0": (lambda x: nn.kl_div(x, np.zeros(2), "sum"), [-5.0, 0.0], 0.0, [0.0, 0.0]),
    "prod": (mg.prod, [0.0, 2.0, 3.0], 0.0, [6.0, 0.0, 0.0]),
    "power": (lambda x: (x**2).sum() + (x**0).sum(), [0.0], 1.0, [0.0]),
    "softmax of -inf": (lambda x: mg.softmax(x)[0], [0.0, -math.inf, 0.0], 0.5, [0.25, 0.0, -0.25]),
    "logsumexp of -inf": (mg.logsumexp, [0.0, -math.inf], 0.0, [1.0, 0.0]),
}
"""What is agreed on where a slope has no one value, or none: as in PyTorch."""


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", AT_ZERO)
def test_slopes_that_are_agreed_on(name, dtype):
    function, at, right, slopes = AT_ZERO[name]
    value, slope = mg.value_and_grad(function)(np.array(at, dtype))
    assert value.item() == right
    np.testing.assert_allclose(slope.data, slopes, rtol=4 * np.finfo(dtype).eps)


def alike(functions, given, dtype):
    """Values and slopes of one step, line by line and compiled."""

    def step(*given):
        return [mg.value_and_grad(function)(x) for function, x in zip(functions, given, strict=True)]

    for (value, slope), (compiled, slopes) in zip(step(*given), mg.jit(step)(*given), strict=True):
        finite = np.abs(slope.data[np.isfinite(slope.data)])
        same = close(slopes.data, slope.data.tolist(), dtype, finite.max(initial=0))
        if not same or not close(compiled.data, [value.item()], dtype):
            yield f"{value.data}, {slope.data}; compiled {compiled.data}, {slopes.data}"


@pytest.mark.interpreted
def test_emitted_rows_are_those_of_eager():
    wrong, dtype = [], np.float32
    for name, (ours, _, rows) in ROWS.items():
        given = [np.array(row, dtype) for row in rows[:2]]
        wrong += [f"{name}: {text}" for text in alike([ours] * len(given), given, dtype)]
    agreed = AT_ZERO.values()
    wrong += alike([row[0] for row in agreed], [np.array(row[1], dtype) for row in agreed], dtype)
    assert not wrong, "\n".join(wrong)
