"""Arithmetic, roots, exponentials, logarithms and waves."""

import math

from microgradx.scalars.choices import sign, where
from microgradx.scalars.definition import elementwise

# Arithmetic


@elementwise
def add(a, b):
    """a + b"""
    return a + b


@add.slope
def _(_a, _b, _y):
    return 1, 1


@elementwise
def subtract(a, b):
    """a - b"""
    return a - b


@subtract.slope
def _(_a, _b, _y):
    return 1, -1


@elementwise
def multiply(a, b):
    """a · b"""
    return a * b


@multiply.slope
def _(a, b, _y):
    return b, a


@elementwise(domain=((-3.0, 3.0), (0.5, 3.0)))
def divide(a, b):
    """a / b"""
    return a / b


@divide.slope
def _(_a, b, y):
    return 1 / b, -y / b


@elementwise(domain=((0.5, 3.0), (-2.0, 2.0)))
def power(a, b):
    """aᵇ"""
    return a**b


@power.slope
def _(a, b, y):
    # where b = 0, a does not matter, at a = 0 either; where a = 0 < b, b does not
    return where(b == 0, 0, b * a ** (b - 1)), where((a == 0) & (b >= 0), 0, y * log(a))


@elementwise
def negative(x):
    """-x"""
    return -x


@negative.slope
def _(_x, _y):
    return -1


@elementwise(kinks=(0,))
def absolute(x):
    """|x|, slope 0 at 0"""
    return abs(x)


@absolute.slope
def _(x, _y):
    return sign(x)


@elementwise
def square(x):
    """x²"""
    return x * x


@square.slope
def _(x, _y):
    return 2 * x


# Roots, exponentials, logarithms


@elementwise(domain=(0.2, 4.0))
def sqrt(x):
    """√x"""
    return math.sqrt(x)


@sqrt.slope
def _(_x, y):
    return 0.5 / y


@elementwise(domain=(0.2, 4.0))
def rsqrt(x):
    """1 / √x"""
    return 1 / sqrt(x)


@rsqrt.slope
def _(x, y):
    return -0.5 * y / x


@elementwise
def exp(x):
    """eˣ"""
    return math.exp(x)


@exp.slope
def _(_x, y):
    return y


@elementwise
def expm1(x):
    """eˣ - 1, exact near 0"""
    return math.expm1(x)


@expm1.slope
def _(x, _y):
    return exp(x)  # y + 1 would lose what is left of it where x is negative


@elementwise(domain=(0.2, 4.0))
def log(x):
    """The natural logarithm"""
    return math.log(x)


@log.slope
def _(x, _y):
    return 1 / x


@elementwise(domain=(-0.8, 4.0))
def log1p(x):
    """log(1 + x), exact near 0"""
    return math.log1p(x)


@log1p.slope
def _(x, _y):
    return 1 / (1 + x)


# Waves and the error function


@elementwise
def sin(x):
    """The sine of x radians"""
    return math.sin(x)


@sin.slope
def _(x, _y):
    return cos(x)


@elementwise
def cos(x):
    """The cosine of x radians"""
    return math.cos(x)


@cos.slope
def _(x, _y):
    return -sin(x)


@elementwise
def erf(x):
    """The error function, 2/√π ∫₀ˣ exp(-t²) dt"""
    return math.erf(x)


@erf.slope
def _(x, _y):
    return 2 / math.sqrt(math.pi) * exp(-x * x)
