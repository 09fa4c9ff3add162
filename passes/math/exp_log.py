"""exp, expm1, log and log1p of f32 and f64.

The ways of reducing the argument are those of FDLIBM (Sun Microsystems, 1993); the polynomials are
from ``benchmarks/fit_math.py``. ``docs/math.md`` lists the measured errors.
"""

from __future__ import annotations

import math

from nnc.ir.types import DType
from nnc.passes.math.terms import FORMATS, Format, Operand, Term, horner, literal, mad, select

# ln 2 in two parts, the first with zeros at its end: its product with an exponent is exact.
LN2 = {
    DType.F32: (0.693359375, -2.12194440e-4),
    DType.F64: (6.93147180369123816490e-01, 1.90821492927058770002e-10),
}
LOG2_E = math.log2(math.e)

# Beyond these, exp is 0 or infinite; below the second bound, expm1 is -1.
EXP_RANGE = {DType.F32: (-104.0, 89.0), DType.F64: (-746.0, 710.0)}
EXPM1_LEAST = {DType.F32: -20.0, DType.F64: -40.0}

# (exp(r) - 1 - r) / r^2 on |r| <= ln(2) / 2
EXP_F32 = (
    0.5, 0.16666514, 0.04166645, 0.00836941, 0.0013936145,
)  # fmt: skip
EXP_F64 = (
    0.5, 0.16666666666666685, 0.041666666666666685, 0.008333333333315868, 0.001388888888887325,
    0.0001984126989901065, 2.480158734932678e-05, 2.755723242427787e-06, 2.755725166790374e-07,
    2.511283732575837e-08, 2.092182919366018e-09,
)  # fmt: skip
EXP = {DType.F32: EXP_F32, DType.F64: EXP_F64}

# (log(1 + f) - f + f^2 / 2) / f^3 for 1 + f in [sqrt(1/2), sqrt(2)]
LOG_F32 = (
    0.3333331, -0.25, 0.20002227, -0.16668527, 0.14218122, -0.12396421, 0.11888593, -0.11725829,
    0.06804918,
)  # fmt: skip

# 2 (atanh(s) / s - 1) / s^2 by s^2, for (1 + s) / (1 - s) in [sqrt(1/2), sqrt(2)]
LOG_F64 = (
    0.6666666666666666, 0.40000000000004904, 0.2857142856941803, 0.22222222606077457,
    0.18181778410272584, 0.1538698717764673, 0.13252170561811408, 0.132346985449542,
)  # fmt: skip


def clamp(x: Term, low: float, high: float) -> Term:
    """``x`` within bounds; NaN stays."""
    x = select(x < low, low, x)
    return select(x > high, high, x)


def reduce_exp(fmt: Format, x: Term) -> tuple[Term, Term]:
    """Write ``x`` as ``k ln 2 + r``: k as an integer, and ``exp(r) - 1``."""
    high, low = LN2[fmt.dtype]
    n, k = fmt.nearest(x * LOG2_E)
    whole = mad(n, -high, x)
    r = mad(n, -low, whole)
    lost = mad(n, -low, whole - r)
    square = r * r
    return k, r + mad(horner(r, EXP[fmt.dtype]), square, lost)


def scale(fmt: Format, x: Term, k: Term) -> Term:
    """``x * 2^k`` for ``x`` near 1, in two steps so that it overflows and rounds as it should."""
    half = k >> 1
    return x * fmt.power_of_two(half) * fmt.power_of_two(k - half)


def exp_within(fmt: Format, x: Term) -> Term:
    """Exponential of ``x`` within ``EXP_RANGE``."""
    k, less_one = reduce_exp(fmt, x)
    return scale(fmt, less_one + 1.0, k)


def exp(x: Term) -> Term:
    """Exponential."""
    return exp_within(FORMATS[x.dtype], clamp(x, *EXP_RANGE[x.dtype]))


def expm1(x: Term) -> Term:
    """``exp(x) - 1`` without cancellation."""
    fmt = FORMATS[x.dtype]
    k, less_one = reduce_exp(fmt, clamp(x, EXPM1_LEAST[x.dtype], EXP_RANGE[x.dtype][1]))
    half = fmt.power_of_two(k - 1)
    result = mad(half, less_one, half - 0.5)
    near = select(x.equals(0.0), x, less_one)
    return select(k.equals(0), near, result + result)


def log_of_parts(k: Term, f: Term, lost: Operand) -> Term:
    """``k ln 2 + log(1 + f) + lost`` for 1 + f in [sqrt(1/2), sqrt(2)) and a tiny ``lost``."""
    high, low = LN2[f.dtype]
    main = mad(k, high, f)  # the product is exact
    rest = f - (main - k * high)
    small = mad(k, low, lost)
    half_square = f * f * 0.5
    if f.dtype is DType.F32:
        tail = mad(f * f * f, horner(f, LOG_F32), -half_square)
    else:
        s = f / (f + 2.0)
        z = s * s
        tail = mad(s, mad(z, horner(z, LOG_F64), half_square), -half_square)
    return main + (tail + (rest + small))


def log_domain(x: Term, result: Term) -> Term:
    """``result`` for positive finite ``x``, and the logarithm of all else."""
    result = select(x < math.inf, result, x)
    return select(x > 0.0, result, select(x.equals(0.0), literal(-math.inf, x), math.nan))


def log(x: Term) -> Term:
    """Natural logarithm."""
    k, m = FORMATS[x.dtype].split(x)
    return log_domain(x, log_of_parts(k, m - 1.0, 0.0))


def log1p(x: Term) -> Term:
    """``log(1 + x)`` without cancellation."""
    u = x + 1.0
    k, m = FORMATS[x.dtype].split(u)
    lost = select(x < 1.0, x - (u - 1.0), 1.0 - (u - x)) / u
    near = k.equals(0.0)
    result = log_of_parts(k, select(near, x, m - 1.0), select(near, 0.0, lost))
    return select(x.equals(0.0), x, log_domain(u, result))


def rsqrt(x: Term) -> Term:
    """One over the square root."""
    return 1.0 / x.sqrt()
