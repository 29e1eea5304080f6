"""Choices, bounds, comparisons and logic. At a tie or a kink the slope follows PyTorch."""

from microgradx.scalars.definition import elementwise, inf


@elementwise
def where(condition, a, b):
    """a where the condition holds, else b"""
    return a if condition else b


@where.slope
def _(condition, _a, _b, _y):
    return None, condition != 0, condition == 0


@elementwise(kinks=(0,))
def sign(x):
    """-1, 0 or 1"""
    return where(x > 0, 1, where(x < 0, -1, 0 * x))


@sign.slope
def _(_x, _y):
    return 0


@elementwise
def maximum(a, b):
    """The larger of two; NaN if either is; a tie gives each half of the slope"""
    return a if a > b or a != a else b


@maximum.slope
def _(a, b, _y):
    # a NaN passes both slopes on
    return where(a == b, 0.5, where(a < b, 0, 1)), where(a == b, 0.5, where(a > b, 0, 1))


@elementwise
def minimum(a, b):
    """The smaller of two; NaN if either is; a tie gives each half of the slope"""
    return a if a < b or a != a else b


@minimum.slope
def _(a, b, _y):
    return where(a == b, 0.5, where(a > b, 0, 1)), where(a == b, 0.5, where(a < b, 0, 1))


@elementwise
def clip(x, min=-inf, max=inf):  # noqa: A002 - NumPy's names
    """x, no smaller than min and no larger than max; slope 1 on both bounds"""
    return minimum(maximum(x, min), max)


@clip.slope
def _(x, _y, min, max):  # noqa: A002
    return (x >= min) & (x <= max)


# Comparisons and logic: they give booleans and have no slope


@elementwise
def less(a, b):
    """a < b"""
    return a < b


@elementwise
def less_equal(a, b):
    """a <= b"""
    return a <= b


@elementwise
def greater(a, b):
    """a > b"""
    return a > b


@elementwise
def greater_equal(a, b):
    """a >= b"""
    return a >= b


@elementwise
def equal(a, b):
    """a == b"""
    return a == b


@elementwise
def not_equal(a, b):
    """a != b"""
    return a != b


@elementwise
def logical_and(a, b):
    """Both of two conditions"""
    return a & b


@elementwise
def logical_or(a, b):
    """Either of two conditions"""
    return a | b


@elementwise
def logical_not(a):
    """The opposite of a condition"""
    return a == False  # noqa: E712 - works on arrays and compiles to a comparison
