"""sin and cos of f32 and f64, right for every argument.

The argument is reduced in whole numbers (M. Payne and R. Hanek, "Radian reduction for trigonometric
functions", SIGNUM Newsletter 18, 1983): of the product of the mantissa with 2/pi only the bits that
matter modulo 4 are computed. One way serves all magnitudes, so that lanes need not part.
"""

from __future__ import annotations

import math
from itertools import pairwise

from nnc.ir.expr import Const
from nnc.ir.types import DType
from nnc.passes.math.exact import Pair, fast_two_sum
from nnc.passes.math.terms import FORMATS, Format, Term, horner, literal, mad, select

# The bits of 2/pi after the point, 32 to a word.
TWO_OVER_PI = (
    0xA2F9836E, 0x4E441529, 0xFC2757D1, 0xF534DDC0, 0xDB629599, 0x3C439041, 0xFE5163AB,
    0xDEBBC561, 0xB7246E3A, 0x424DD2E0, 0x06492EEA, 0x09D1921C, 0xFE1DEB1C, 0xB129A73E,
    0xE88235F5, 0x2EBB4484, 0xE99C7026, 0xB45F7E41, 0x3991D639, 0x835339F4, 0x9C845F8B,
    0xBDF9283B, 0x1FF897FF, 0xDE05980F, 0xEF2F118B, 0x5A0A6D1F, 0x6D367ECF, 0x27CB09B7,
    0x4F463F66, 0x9E5FEA2D, 0x7527BAC7, 0xEBE5F17B, 0x3D0739F7, 0x8A5292EA, 0x6BFB5FB1,
    0x1F8D5D08, 0x56033046, 0xFC7B6BAB, 0xF0CFBC20,
)  # fmt: skip
WORD, LOW_31 = 2**32 - 1, 2**31 - 1
HALF_PI = (1.5707963267948966, 6.123233995736766e-17)

# (sin(r) / r - 1) / r^2 and (cos(r) - 1 + r^2 / 2) / r^4 by r^2, for |r| <= pi / 4
SIN_F32 = (
    -0.16666667, 0.008333373, -0.000198503, 2.8044437e-06,
)  # fmt: skip
SIN_F64 = (
    -0.16666666666666666, 0.008333333333333097, -0.0001984126984105181, 2.7557319126292835e-06,
    -2.5052085182129566e-08, 1.6056149622234832e-10, -7.480077613520197e-13,
)  # fmt: skip
COS_F32 = (
    0.041666646, -0.0013887313, 2.4432959e-05,
)  # fmt: skip
COS_F64 = (
    0.041666666666666664, -0.0013888888888888434, 2.480158730124212e-05, -2.755731909197488e-07,
    2.087672965992158e-09, -1.146776460675612e-11, 4.6340498503139026e-14,
)  # fmt: skip
SIN = {DType.F32: SIN_F32, DType.F64: SIN_F64}
COS = {DType.F32: COS_F32, DType.F64: COS_F64}


def window(fmt: Format, a: Term, zeros: int, count: int) -> tuple[list[Term], Term]:
    """The words of 2/pi that matter for ``a`` modulo 4, and its mantissa as a whole number.

    Words are u64 below 2^32. ``zeros`` words of zeros precede 2/pi; the first bit of the window
    is that whose product with the mantissa's unit is 2.
    """
    bits = a.bitcast(fmt.unsigned)
    mantissa = (bits & ((1 << fmt.mantissa) - 1)) | (1 << fmt.mantissa)
    least = fmt.bias + fmt.mantissa + 2 - 32 * zeros  # the exponent at which the window starts at 0
    exponent = (bits >> fmt.mantissa).cast(DType.U32)
    start = exponent.max(least) - least
    table = (0,) * zeros + TWO_OVER_PI
    words: list[Term] = [Term(Const(w, DType.U32)) for w in table]
    word = start >> 5
    longest = (2 * fmt.bias + 1 - least) >> 5
    for level in reversed(range(longest.bit_length())):
        step = 1 << level
        stays = (word & step).equals(0)
        needed = min(len(words), count + step)
        words = [
            select(stays, words[i], words[i + step]) if i + step < len(words) else words[i]
            for i in range(needed)
        ]
    wide = [w.cast(DType.U64) for w in words[: count + 1]]
    shift = (start & 31).cast(DType.U64)
    parts = [((((high << 32) | low) << shift) >> 32) for high, low in pairwise(wide)]
    return parts, mantissa.cast(DType.U64)


def quarter_turns_f32(a: Term) -> Term:
    """``a * 2/pi`` modulo 4 as a u64 with 62 bits after the point."""
    (first, second, third), m = window(FORMATS[DType.F32], a, 1, 3)
    return ((m * first) << 32) + m * second + ((m * third) >> 32)


def quarter_turns_f64(a: Term) -> tuple[Term, Term]:
    """``a * 2/pi`` modulo 4 as two u64, with 62 and then 64 more bits after the point."""
    parts, m = window(FORMATS[DType.F64], a, 2, 6)
    low = [(m & WORD) * part for part in parts]
    high = [(m >> 32) * part for part in parts]
    carry: Term = (low[5] >> 32) + (low[4] & WORD) + (high[5] & WORD)
    words = []
    for k in (3, 2, 1, 0):
        carry = (carry >> 32) + (low[k] & WORD) + (low[k + 1] >> 32)
        carry = carry + (high[k + 1] & WORD) + (high[k + 2] >> 32)
        words.append(carry & WORD)
    return (words[3] << 32) | words[2], (words[1] << 32) | words[0]


def nearest_quarter(turns: Term) -> tuple[Term, Term]:
    """The nearest whole number of quarter turns (u64, modulo 4) and what is left (i64)."""
    n = (turns + (1 << 61)) >> 62
    return n, (turns - (n << 62)).bitcast(DType.I64)


def as_float(bits: Term, weight: float) -> Term:
    """An integer that fits in 32 bits, times a power of two, as f64."""
    return bits.cast(DType.I32).cast(DType.F64) * weight


def reduce_f32(a: Term) -> tuple[Term, Pair]:
    """Quarter turns in ``a``, modulo 4, and the rest in radians."""
    n, rest = nearest_quarter(quarter_turns_f32(a))
    turns = as_float(rest >> 31, 2.0**-31) + as_float(rest & LOW_31, 2.0**-62)
    radians = turns * HALF_PI[0]
    high = radians.cast(DType.F32)
    return n, Pair(high, (radians - high.cast(DType.F64)).cast(DType.F32))


def reduce_f64(a: Term) -> tuple[Term, Pair]:
    """Quarter turns in ``a``, modulo 4, and the rest in radians."""
    upper, lower = quarter_turns_f64(a)
    n, rest = nearest_quarter(upper)
    turns = fast_two_sum(as_float(rest >> 31, 2.0**-31), as_float(rest & LOW_31, 2.0**-62))
    further = as_float(lower >> 33, 2.0**-93) + as_float((lower >> 2) & LOW_31, 2.0**-124)
    turns = fast_two_sum(turns.high, turns.low + further)
    return n, turns * Pair(literal(HALF_PI[0], a), literal(HALF_PI[1], a))


def sine(r: Pair) -> Term:
    """Sine of a pair within an eighth of a turn."""
    h, z = r.high, r.high * r.high
    low = r.low * mad(z, -0.5, 1.0)
    return h + mad(z * h, horner(z, SIN[h.dtype]), low)


def cosine(r: Pair) -> Term:
    """Cosine of a pair within an eighth of a turn."""
    z = r.high * r.high
    half = z * 0.5
    main = 1.0 - half
    rest = mad(z * z, horner(z, COS[z.dtype]), -(r.high * r.low))
    return main + (((1.0 - main) - half) + rest)


def shifted_sine(x: Term, quarters: int, sign: Term) -> Term:
    """Sine of ``|x|`` plus ``quarters`` right angles, negated where ``sign`` has its top bit."""
    fmt, a = FORMATS[x.dtype], abs(x)
    n, far = (reduce_f32 if x.dtype is DType.F32 else reduce_f64)(a)
    near = a < math.pi / 4
    n = select(near, 0, n) + quarters
    r = Pair(select(near, a, far.high), select(near, 0.0, far.low))
    value = select((n & 1).equals(0), sine(r), cosine(r))
    flip = (n.cast(fmt.unsigned) & 2) << (8 * x.dtype.bytes - 2)
    value = (value.bitcast(fmt.unsigned) ^ flip ^ sign).bitcast(x.dtype)
    return select(a < math.inf, value, math.nan)


def sin(x: Term) -> Term:
    """Sine."""
    fmt = FORMATS[x.dtype]
    return shifted_sine(x, 0, x.bitcast(fmt.unsigned) & (1 << (8 * x.dtype.bytes - 1)))


def cos(x: Term) -> Term:
    """Cosine."""
    return shifted_sine(x, 1, Term(Const(0, FORMATS[x.dtype].unsigned)))
