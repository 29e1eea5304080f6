"""What stands between the layers of a network; those that cost a second exponential avoid it."""

import math

from microgradx.scalars.arithmetic import erf, exp, expm1, log1p
from microgradx.scalars.choices import clip, maximum, minimum, where
from microgradx.scalars.definition import elementwise


@elementwise(activation=True)
def tanh(x):
    """The hyperbolic tangent"""
    return math.tanh(x)


@tanh.slope
def _(_x, y):
    return 1 - y * y


@elementwise(activation=True)
def sigmoid(x):
    """1 / (1 + e⁻ˣ)"""
    return exp(minimum(x, 0)) / (1 + exp(-abs(x)))  # no exponential overflows


@sigmoid.slope
def _(_x, y):
    return y * (1 - y)  # in terms of y = sigmoid(x): no second exp


@elementwise(kinks=(0,), activation=True)
def relu(x):
    """max(x, 0), slope 0 at 0"""
    return maximum(x, 0)


@relu.slope
def _(_x, y):
    return y > 0  # True and False count as 1 and 0


@elementwise(kinks=(0,), activation=True)
def leaky_relu(x, negative_slope=0.01):
    """x where positive, else negative_slope · x, which is also the side that 0 belongs to"""
    return where(x > 0, x, negative_slope * x)


@leaky_relu.slope
def _(x, _y, negative_slope):
    return where(x > 0, 1, negative_slope)


@elementwise(kinks=(0,), activation=True)
def elu(x, alpha=1.0):
    """x where positive, else α(eˣ - 1)"""
    return where(x > 0, x, alpha * expm1(minimum(x, 0)))


@elu.slope
def _(x, _y, alpha):
    return where(x > 0, 1, alpha * exp(minimum(x, 0)))


@elementwise(activation=True)
def silu(x):
    """x · sigmoid(x), also called swish"""
    return x * sigmoid(x)


@silu.slope
def _(x, _y):
    s = sigmoid(x)
    return s * (1 + x * (1 - s))


@elementwise(activation=True)
def gelu(x):
    """x · Φ(x), Φ the normal distribution: arXiv 1606.08415, section 2"""
    return 0.5 * x * (1 + erf(x / math.sqrt(2)))


@gelu.slope
def _(x, _y):
    density = exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
    return 0.5 * (1 + erf(x / math.sqrt(2))) + x * density


@elementwise(activation=True)
def gelu_tanh(x):
    """The approximation of gelu by tanh: arXiv 1606.08415, section 2"""
    b = clip(x, -30, 30)  # farther out σ is 0 or 1
    return x * sigmoid(2 * math.sqrt(2 / math.pi) * (b + 0.044715 * b * b * b))  # ½(1 + tanh u) is σ(2u)


@gelu_tanh.slope
def _(x, _y):
    b = clip(x, -30, 30)
    s = sigmoid(2 * math.sqrt(2 / math.pi) * (b + 0.044715 * b * b * b))
    return s + b * s * (1 - s) * (2 * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * b * b))


@elementwise(activation=True)
def softplus(x):
    """log(1 + eˣ), without overflow"""
    return maximum(x, 0) + log1p(exp(-abs(x)))


@softplus.slope
def _(x, _y):
    return sigmoid(x)


@elementwise(kinks=(0,), activation=True)
def softsign(x):
    """x / (1 + |x|)"""
    return x / (1 + abs(x))


@softsign.slope
def _(x, _y):
    part = 1 / (1 + abs(x))
    return part * part
