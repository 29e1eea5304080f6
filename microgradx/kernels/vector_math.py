"""exp, tanh, ... for compiled steps: arithmetic without branches, of which LLVM makes vectors.

Of float32 alone; other numbers go to libm. Each function follows a known method: reduce the argument,
evaluate a polynomial, put the result together. The coefficients are fitted for it: least squares, reweighted
until the largest relative error no longer falls (Lawson, 1961), and rounded to float32 one after another.

An ulp is the distance of neighbours at the exact result; NaN, inf, overflow and denormals are as in NumPy.

    Moshier (1992), Cephes: exp, tanh, log, sin, cos - https://www.netlib.org/cephes
    Sun Microsystems (1993), FDLIBM: expm1, log1p - https://www.netlib.org/fdlibm
    Payne & Hanek (1983), Radian reduction for trigonometric functions
"""

import math
from collections.abc import Callable

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import overload, register_jitable
from numpy import float32, float64, int32, int64, uint64

from microgradx.kernels.intrinsics import Builder, Context, Intrinsic, Kind, Value, call, intrinsic, lowered

inf, nan = math.inf, math.nan
f32, number32 = ir.FloatType(), types.float32


# What Python has no words for


def multiply_add(builder: Builder, *values: Value) -> Value:
    """x * y + z, rounded once where the processor can: the same bits wherever it is compiled."""
    return call(builder, "llvm.fmuladd.f32", f32, values)


@intrinsic
def fma(typing: Context, x: Kind, y: Kind, z: Kind) -> Intrinsic:
    """x * y + z"""
    return lowered(number32(number32, number32, number32), multiply_add)


@intrinsic
def polynomial(typing: Context, x: Kind, coefficients: Kind) -> Intrinsic:
    """c[0] + c[1] * x + c[2] * x**2 + ..."""

    def write(builder: Builder, x: Value, coefficients: Value) -> Value:
        *rest, total = cgutils.unpack_tuple(builder, coefficients)
        for c in reversed(rest):
            total = multiply_add(builder, total, x, c)
        return total

    return lowered(number32(number32, types.UniTuple(number32, len(coefficients))), write)


@intrinsic
def select(typing: Context, condition: Kind, a: Kind, b: Kind) -> Intrinsic:
    """a where the condition holds, else b, both of which are computed."""
    return lowered(number32(types.boolean, number32, number32), Builder.select)


@intrinsic
def bits(typing: Context, x: Kind) -> Intrinsic:
    """The bits of a float32, as an integer."""
    return lowered(types.int32(number32), lambda builder, x: builder.bitcast(x, ir.IntType(32)))


@intrinsic
def number(typing: Context, i: Kind) -> Intrinsic:
    """The float32 of the lower 32 bits of an integer."""
    return lowered(number32(types.int32), lambda builder, i: builder.bitcast(i, f32))


@register_jitable
def signed(y: float32, x: float32) -> float32:
    """y, and -y where x is negative or -0"""
    return number(bits(y) ^ bits(x) & -(2**31))


def single(function: Callable[[float32], float32]) -> Callable[..., float]:
    """What compiled code means by the function's name: itself for float32, and libm's for other numbers."""
    libm = getattr(math, function.__name__)

    def plain(x: float32) -> float:
        return libm(x)

    def choose(x: float32) -> Callable[..., object]:  # of the type, but Numba wants parameters alike
        return function if x == types.float32 else plain

    # What is fused here says so: the callers' settings must not change the bits
    overload(plain, jit_options={"fastmath": False, "error_model": "numpy"})(choose)
    plain.__name__, plain.__doc__ = function.__name__, function.__doc__
    return plain


# Exponentials

LOG2E = 1 / math.log(2)
LN2 = 0.693145751953125, 1.42860682030941723e-6  # the first has 15 bits: times a whole number it is exact
WHOLE = float32(1.5 * 2**23)  # what is added to this is rounded to a whole number, which the last bits hold


@register_jitable
def doublings(x: float32) -> tuple[int64, float32]:
    """n and r, where x = n ln 2 + r and |r| <= ln(2) / 2"""
    t = fma(x, LOG2E, WHOLE)
    n = t - WHOLE
    return bits(t) - bits(WHOLE), fma(-n, LN2[1], fma(-n, LN2[0], x))


@single
def exp(x: float32) -> float32:
    """eˣ = 2ⁿ eʳ, within 1.2 ulp"""
    n, r = doublings(select(x > 89, 89, select(x < -104, -104, x)))
    p = polynomial(r, (1, 1, 0.49999994, 0.16666517, 0.04166828, 0.008369248, 0.0013820742))
    half = n >> 1  # 2ⁿ itself may be too large or too small
    return p * number((half + 127) << 23) * number((n - half + 127) << 23)


@single
def expm1(x: float32) -> float32:
    """eˣ - 1 = 2ⁿ (eʳ - 1) + 2ⁿ - 1, within 1.5 ulp"""
    n, r = doublings(select(x > 89, 89, select(x < -18, -18, x)))
    p = polynomial(r, (0.5, 0.16666666, 0.041666485, 0.008333541, 0.0013933228, 0.00019766994))
    half = number((n + 126) << 23)  # 2ⁿ⁻¹
    y = float32(2) * fma(half, fma(r * r, p, r), half - float32(0.5))
    return select(abs(x) < 2**-25, x, y)


@single
def tanh(x: float32) -> float32:
    """x + x³ P(x²) near 0, else 1 - 2 / (e²ˣ + 1); within 1.4 ulp"""
    a = abs(x)
    z = a * a
    p = polynomial(z, (-0.3333328, 0.13331397, -0.053735156, 0.020622042, -0.0056838333))
    y = float32(1) - float32(2) / (exp(a + a) + float32(1))
    return signed(select(a < 0.625, fma(a * z, p, a), y), x)


@single
def erf(x: float32) -> float32:
    """x + x P(x²) near 0, else 1 - exp(P(x)); within 1.3 ulp"""
    a = abs(x)
    z = a * a
    p = polynomial(z, (0.12837915, -0.3761249, 0.11281731, -0.026762966, 0.004987352, -0.00059595786))
    t = select(a > 3.95, 3.95, a)
    c = -0.0002070171, -1.1276274, -0.6372658, -0.10385631, 0.022189723, -0.0030336694, 0.00019494297
    y = float32(1) - exp(polynomial(t, c))
    return signed(select(a < 0.92, fma(a, p, a), y), x)


# Logarithms


@register_jitable
def doubled(x: float32) -> int64:
    """k, where x = 2ᵏ m and √½ <= m < √2"""
    return (bits(x) - 0x3F3504F3) >> 23


@register_jitable
def logarithm(f: float32, k: float32) -> float32:
    """ln(1 + f) + k ln 2, where the first is f - f²/2 + f³ P(f)"""
    z = f * f
    c = 0.33333331, -0.25000837, 0.20001285, -0.16622774, 0.14199834, -0.13164231, 0.12778337, -0.0764511
    y = fma(-0.5, z, fma(k, LN2[1], f * z * polynomial(f, c)))
    return fma(k, LN2[0], f + y)


@single
def log(x: float32) -> float32:
    """ln x = ln m + k ln 2, within 0.9 ulp"""
    small = x < 2**-126  # denormal
    y = select(small, x * float32(2**23), x)
    k = doubled(y)
    m = number(bits(y) - (k << 23))
    y = logarithm(m - float32(1), float32(int32(k)) - select(small, 23, 0))
    return select(x > 0, select(x < inf, y, x), select(x == 0, -inf, nan))


@single
def log1p(x: float32) -> float32:
    """ln(1 + x) = ln(1 + f) + k ln 2, where f = 2⁻ᵏ x + 2⁻ᵏ - 1; within 1.5 ulp"""
    y = x + float32(1)
    k = doubled(y)
    scale, m = number((127 - k) << 23), number(bits(y) - (k << 23))
    f = select(x < 2**24, fma(scale, x, scale - float32(1)), m - float32(1))
    y = select(x < inf, logarithm(f, float32(int32(k))), x)
    return select(x > -1, select(abs(x) < 2**-25, x, y), select(x == -1, -inf, nan))


# Waves

TWO_OVER_PI = 0xA2F9836E4E441529FC2757D1F534DDC0DB6295993C439041FE5163ABDEBBC561B7246E3A424DD2E0
TURNS = tuple((TWO_OVER_PI << 8 * j >> 440) % 2**32 for j in range(40))
"""32 bits of 2/π from every byte on; the first 15 bytes are zeros before its 320 bits."""


@register_jitable
def quarters(x: float32) -> tuple[int64, float32]:
    """n and r, where x = n π/2 + r and |r| <= π/4

    x = m 2ᵉ, and m times those bits of 2/π that 2ᵉ moves behind the point of whole turns is all that counts.
    """
    i = bits(abs(x))
    m = uint64((i & 0x7FFFFF | 0x800000) << (i >> 23 & 7))
    j = i >> 26 & 31  # which it is anyway, but an old LLVM does not see it
    high, middle, low = m * uint64(TURNS[j]), m * uint64(TURNS[j + 4]), m * uint64(TURNS[j + 8])
    turn = (high << uint64(32)) + middle + (low >> uint64(32))  # 2⁶⁴ is a whole one
    n = (turn + uint64(2**61)) >> uint64(62)
    r = float64(int64(turn - (n << uint64(62)))) * (math.pi / 2**63)
    return int64(n), float32(r)


@register_jitable
def wave(n: int64, r: float32) -> float32:
    """sin(n π/2 + r)"""
    z = r * r
    sine = fma(r * z, polynomial(z, (-0.16666655, 0.00833219, -0.00019518408)), r)
    cosine = polynomial(z, (1, -0.5, 0.041666646, -0.0013887301, 2.4430668e-5))
    y = select(n & 1 != 0, cosine, sine)
    return select(n & 2 != 0, -y, y)


@single
def sin(x: float32) -> float32:
    """sin(n π/2 + r), within 1.6 ulp"""
    n, r = quarters(x)
    y = wave(n, r)
    return select(abs(x) < 2**-12, x, select(abs(x) < inf, signed(y, x), nan))


@single
def cos(x: float32) -> float32:
    """sin((n + 1) π/2 + r), within 1.6 ulp"""
    n, r = quarters(x)
    return select(abs(x) < inf, wave(n + 1, r), nan)
