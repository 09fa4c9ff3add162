"""pow of f32, f64 and whole numbers, with the special cases of C (ISO/IEC 9899 F.10.4.4)."""

from __future__ import annotations

import math

from nnc.ir.types import DType
from nnc.passes.math.exact import Pair, fast_two_sum, quotient, two_product
from nnc.passes.math.exp_log import EXP, EXP_RANGE, LN2, LOG2_E, clamp, scale
from nnc.passes.math.terms import FORMATS, Term, horner, literal, mad, select

UNSIGNED = frozenset({DType.U8, DType.U32, DType.U64})

# 2 atanh(s) / s / ln 2 by s^2, for (1 + s) / (1 - s) in [sqrt(1/2), sqrt(2)]
POW_LOG2_F32 = (
    2.885390081777927, 0.9617966939244081, 0.577078017229185, 0.41219840373867944,
    0.3206163087307851, 0.2614459847382074, 0.24290219904998384,
)  # fmt: skip

# 2^r for |r| <= 1/2
POW_EXP2_F32 = (
    0.9999999999594834, 0.6931472067420501, 0.24022651214217458, 0.055503271471715604,
    0.0096180255200148, 0.0013400458975083211, 0.00015469758512499197,
)  # fmt: skip

# 2 (atanh(s) / s - 1 - s^2 / 3) / s^4 by s^2
POW_LOG_F64 = (
    0.39999999999999974, 0.28571428571446694, 0.2222222221721108, 0.18181818905015118,
    0.15384554771347336, 0.13336390183866967, 0.11673471560320936, 0.1199934463524945,
)  # fmt: skip
TWO_THIRDS = (0.6666666666666666, 3.700743415417188e-17)
# ln 2 in two parts, the first of 42 bits: its product with any exponent is exact.
LONG_LN2 = (0.6931471805598903, 5.497923018708371e-14)


def pow_(x: Term, y: Term) -> Term:
    """``x`` to the power ``y``, of floats."""
    a = abs(x)
    magnitude = power_f32(a, y) if x.dtype is DType.F32 else power_f64(a, y)
    magnitude = select(a.equals(1.0), 1.0, magnitude)
    whole = y.floor().equals(y)
    half = y * 0.5
    odd = whole & ~half.floor().equals(half)
    fmt = FORMATS[x.dtype]
    top = 1 << (8 * x.dtype.bytes - 1)
    sign = select(odd, x.bitcast(fmt.unsigned) & top, 0)
    result = (magnitude.bitcast(fmt.unsigned) | sign).bitcast(x.dtype)
    finite_below = (x < 0.0) & (x > -math.inf)
    result = select(finite_below & ~whole, math.nan, result)
    return select(x.equals(1.0) | y.equals(0.0), 1.0, select(y.equals(y), result, y))


def logarithm_or_end(a: Term, logarithm: Term) -> Term:
    """``logarithm`` for positive finite ``a``; -inf of 0, inf of inf, NaN of NaN."""
    return select(a < math.inf, select(a > 0.0, logarithm, -math.inf), a)


def power_f32(a: Term, y: Term) -> Term:
    """``a`` to the power ``y`` for ``a`` of 0 or more, computed in f64."""
    fmt, wide = FORMATS[DType.F64], a.cast(DType.F64)
    k, m = fmt.split(wide)
    s = (m - 1.0) / (m + 1.0)
    log2 = logarithm_or_end(wide, mad(s, horner(s * s, POW_LOG2_F32), k))
    n, exponent = fmt.nearest(power := clamp(y.cast(DType.F64) * log2, -200.0, 200.0))
    result = horner(power - n, POW_EXP2_F32) * fmt.power_of_two(exponent)
    return result.cast(DType.F32)


def long_log(a: Term) -> Pair:
    """Natural logarithm of a positive f64, to about 2^-65."""
    k, m = FORMATS[DType.F64].split(a)
    above = fast_two_sum(literal(1.0, m), m)
    s = quotient(m - 1.0, above)
    z = s * s
    third = z * Pair(literal(TWO_THIRDS[0], a), literal(TWO_THIRDS[1], a))
    tail = z.high * z.high * horner(z.high, POW_LOG_F64)
    factor = Pair(literal(2.0, a), literal(0.0, a)) + Pair(third.high, third.low + tail)
    return Pair(k * LONG_LN2[0], k * LONG_LN2[1]) + s * factor


def power_f64(a: Term, y: Term) -> Term:
    """``a`` to the power ``y`` for ``a`` of 0 or more, through a logarithm of double length."""
    fmt, (least, most) = FORMATS[DType.F64], EXP_RANGE[DType.F64]
    log = long_log(a)
    exact = two_product(y, log.high)
    main = y * logarithm_or_end(a, log.high)
    power = clamp(main, least, most)
    inside = (main > least) & (main < most) & (a > 0.0) & (a < math.inf)
    low = select(inside, mad(y, log.low, exact.low), 0.0)
    n, k = fmt.nearest(power * LOG2_E)
    whole = mad(n, -LN2[DType.F64][0], power)
    r = mad(n, -LN2[DType.F64][1], whole)
    lost = mad(n, -LN2[DType.F64][1], whole - r) + low
    curve = horner(r, EXP[DType.F64]) * (r * r)
    return scale(fmt, mad(lost, r + curve + 1.0, curve) + r + 1.0, k)


def pow_whole(x: Term, y: Term) -> Term:
    """``x`` to the power ``y``, of whole numbers, wrapping; a negative power is truncated."""
    result, base = literal(1, x), x
    count = 8 * x.dtype.bytes - (0 if x.dtype in UNSIGNED else 1)
    for bit in range(count):
        taken = ((y >> bit) & 1).equals(1)
        result = select(taken, result * base, result)
        base = base * base
    if x.dtype in UNSIGNED:
        return result
    one, minus_one = x.equals(1), x.equals(-1)
    sign = select(minus_one & (y & 1).equals(0), literal(1, x), x)
    return select(y < 0, select(one | minus_one, sign, 0), result)


def pow_constant(x: Term, y: float) -> Term | None:
    """``x`` to a power that takes few multiplications, or None."""
    match y:
        case 0:
            return literal(1, x)
        case 1:
            return x
        case 2:
            return x * x
        case 3:
            return x * x * x
        case -1 if x.dtype.is_float:
            return 1.0 / x
        case 0.5 if x.dtype.is_float:
            return positive_root(x)
        case -0.5 if x.dtype.is_float:
            return 1.0 / positive_root(x)
    return None


def positive_root(x: Term) -> Term:
    """Square root, but 0 of -0 and infinite of -inf, as ``pow`` has it."""
    return select(x.equals(-math.inf), -x, x.sqrt() + 0.0)
