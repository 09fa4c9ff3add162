"""Random numbers as scalar expressions, with the same bits on every backend.

The bits are those of Philox4x32-10 (J. Salmon, M. Moraes, R. Dror, D. Shaw, "Parallel random
numbers: as easy as 1, 2, 3", SC 2011), keyed by seed, step, stream and the element's number, so an
element does not depend on how work is divided. Uniform and normal numbers are made of them by
conversions, bit operations, products and sums alone, whose results IEEE 754 fixes.

``seed`` and ``index`` are expressions of type u64, ``step`` one of type u32.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from nnc.ir.expr import Const, Expr
from nnc.ir.scalar import add, apply, cast, const, mul, neg, not_, select, sub
from nnc.ir.types import DType

F32, F64, I32, I64, U32, U64 = (
    DType.F32, DType.F64, DType.I32, DType.I64, DType.U32, DType.U64,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Quantile:
    """How normal numbers of one type are made; polynomials are from ``benchmarks/fit_math.py``.

    With ``x`` the distance of the uniform number from the middle (0 to 1) and ``w = -log(1 - x^2)``
    the normal number is ``x`` times a smooth function of ``w`` (M. Giles, "Approximating the erfinv
    function", GPU Computing Gems, 2010), here a polynomial on each of the ranges that ``ends``
    divide, by ``w`` less the middle of the range. ``log`` is log(1 + f) / f.
    """

    whole: DType
    mantissa: int
    log: Sequence[float]
    ends: Sequence[float]
    pieces: Sequence[Sequence[float]]


_QUANTILES = {
    F32: _Quantile(
        I32,
        23,
        (
            1.0, -0.49999985, 0.3333396, -0.250022, 0.19962102, -0.16561806, 0.14909144,
            -0.14359483, 0.08819692,
        ),
        (0.0, 6.5, 21.5),
        (
            (
                2.38094, 0.33745432, -0.008902435, -0.0009181422, 0.00025227817, -2.1064052e-05,
                -1.6736934e-06, 5.8219126e-07, -1.7298754e-08, -6.140566e-09,
            ),
            (
                5.0615973, 0.19061525, -0.003351618, 0.00011539069, -4.795642e-06, 2.108028e-07,
                -1.244654e-08, 6.584444e-10, 4.6547086e-11, -5.971789e-12,
            ),
        ),
    ),
    F64: _Quantile(
        I64,
        52,
        (
            1.0, -0.4999999999999996, 0.3333333333332792, -0.2500000000001591,
            0.20000000001779827, -0.16666666665932023, 0.14285714084045675, -0.12499999844112576,
            0.11111122148908789, -0.1000001788556096, 0.09090580188345834, -0.08332554747918237,
            0.07697753650525267, -0.07160264908185265, 0.066212725389213, -0.060408619893000705,
            0.05974831558080925, -0.06788677132609006, 0.0632339486017529, -0.028273905555580226,
        ),
        (0.0, 5.5, 15.5, 43.7),
        (
            (
                2.210118263343407, 0.3455351659972537, -0.0071219452054319095,
                -0.0014687766343888387, 0.00029566435127415517, -1.3415304591749387e-05,
                -3.6328812793199035e-06, 6.829986203776784e-07, -1.1623882452536324e-08,
                -1.1716961839196047e-08, 1.5752644600137976e-09, 4.717843145875381e-11,
                -3.627637598067826e-11, 3.227971700124938e-12, 3.5162578190795334e-13,
                -1.0533751978979563e-13, 4.576295400287298e-15, 1.6815776532141087e-15,
                -2.367730475365216e-16, -1.2364943121101273e-17, 3.4198353394883593e-18,
            ),
            (
                4.347583562884488, 0.21934268891938566, -0.00503790073024953,
                0.00021990318090271758, -1.078776644533999e-05, 4.3767175171645014e-07,
                2.7575231277434594e-10, -2.9885926775020513e-09, 4.4828751579802715e-10,
                -4.5473035910086024e-11, 3.509748385774167e-12, -1.928581404323409e-13,
                3.780025665008124e-15, 7.482471556243927e-16, -1.2589572023031163e-16,
                1.1611387794767321e-17, -8.552763734827155e-19, 6.969830510869504e-20,
                -1.6643414361925316e-21, -6.903647665556461e-22, 5.865648690192602e-23,
            ),
            (
                7.48824683565491, 0.1312783380221881, -0.0011129384127576106,
                1.8675930828573715e-05, -3.894452245153021e-07, 9.059155615607312e-09,
                -2.2511113495702642e-10, 5.8463094492699154e-12, -1.5669945892641453e-13,
                4.303230136777245e-15, -1.203924994878109e-16, 3.3639668983058317e-18,
                -9.426752334768083e-20, 3.1657288181933583e-21, -1.0384303867435192e-22,
                -1.2727832596022207e-25, 7.613986723064038e-26, 9.297460077370269e-27,
                -4.32224496673683e-28, -1.4168279445754812e-29, 7.077544146393585e-31,
            ),
        ),
    ),
}  # fmt: skip


def stream_of(path: str) -> int:
    """The stream of an application path: its CRC-32."""
    return zlib.crc32(path.encode())


def bits(seed: Expr, step: Expr, stream: int, index: Expr) -> Expr:
    """Random word number ``index`` (u32) of a stream."""
    return apply("philox", seed, step, const(stream, U32), index)


def _two_words(seed: Expr, step: Expr, stream: int, index: Expr) -> tuple[Expr, Expr]:
    first = mul(index, const(2, U64))
    second = add(first, const(1, U64))
    return bits(seed, step, stream, first), bits(seed, step, stream, second)


def _shr(word: Expr, count: int) -> Expr:
    return apply("shr", word, const(count, word.dtype))


def uniform(seed: Expr, step: Expr, stream: int, index: Expr, dtype: DType) -> Expr:
    """A number of [0, 1), a whole multiple of 2^-24 (f64: 2^-53, f16: 2^-11, bf16: 2^-8).

    Raises:
        ValueError: ``dtype`` is not a float.
    """
    if dtype is F64:
        upper, lower = (
            cast(cast(_shr(word, drop), I32), F64)
            for word, drop in zip(_two_words(seed, step, stream, index), (5, 6), strict=True)
        )
        whole = add(mul(upper, const(2.0**26, F64)), lower)
        return mul(whole, const(2.0**-53, F64))
    kept = {F32: 24, DType.F16: 11, DType.BF16: 8}.get(dtype)
    if kept is None:
        raise ValueError(f"random numbers of type {dtype}")
    word = _shr(bits(seed, step, stream, index), 32 - kept)
    return mul(cast(cast(word, I32), dtype), const(2.0**-kept, dtype))


def normal(seed: Expr, step: Expr, stream: int, index: Expr, dtype: DType) -> Expr:
    """A standard normal number: the quantile of a uniform one of 32 bits (f64: 64).

    f32 reaches 6.2 standard deviations and f64 9.1. Against the exact quantile f32 is within
    1e-6 and f64 within 2e-14, relatively; f16 and bf16 are rounded from f32.

    Raises:
        ValueError: ``dtype`` is not a float.
    """
    if dtype in (DType.F16, DType.BF16):
        return cast(normal(seed, step, stream, index, F32), dtype)
    if dtype is F64:
        upper, lower = (cast(w, U64) for w in _two_words(seed, step, stream, index))
        word = apply("or", apply("shl", upper, const(32, U64)), lower)
    elif dtype is F32:
        word = bits(seed, step, stream, index)
    else:
        raise ValueError(f"random numbers of type {dtype}")
    return quantile(word, dtype)


def quantile(word: Expr, dtype: DType) -> Expr:
    """The normal quantile of ``(word + 1/2) / 2^width`` for a u32 (f32) or u64 (f64)."""
    rule = _QUANTILES[dtype]
    width = 8 * dtype.bytes
    signed = apply("bitcast", word, dtype=rule.whole)
    upper = apply("lt", signed, const(0, rule.whole))
    place = select(upper, not_(signed), signed)
    from_middle = sub(const(2 ** (width - 1) - 1, rule.whole), place)
    half = const(0.5, dtype)
    tail = mul(add(cast(place, dtype), half), const(2.0**-width, dtype))
    x = mul(add(cast(from_middle, dtype), half), const(2.0 ** (1 - width), dtype))
    inside = mul(mul(tail, const(4.0, dtype)), sub(const(1.0, dtype), tail))
    size = mul(x, _by_range(neg(_log(inside, rule)), rule))
    return select(upper, size, neg(size))


def _log(y: Expr, rule: _Quantile) -> Expr:
    """Logarithm of a positive normal number."""
    whole, count = rule.whole, const(rule.mantissa, rule.whole)
    bias = (1 << (8 * whole.bytes - 2 - rule.mantissa)) - 1
    root = const((bias << rule.mantissa) - _below_one(rule.mantissa), whole)
    as_whole = apply("bitcast", y, dtype=whole)
    k = apply("shr", sub(as_whole, root), count)
    mantissa = apply("bitcast", sub(as_whole, apply("shl", k, count)), dtype=y.dtype)
    f = sub(mantissa, const(1.0, y.dtype))
    exponent = cast(cast(k, I32), y.dtype)
    return add(mul(exponent, const(math.log(2), y.dtype)), mul(f, _polynomial(f, rule.log)))


def _below_one(mantissa: int) -> int:
    """How many numbers lie between sqrt(1/2) and 1."""
    return round((1 - math.sqrt(0.5)) * (2 << mantissa))


def _by_range(w: Expr, rule: _Quantile) -> Expr:
    """The polynomial of the range in which ``w`` lies."""

    def pick(values: Sequence[float]) -> Expr:
        chosen: Expr = Const(values[-1], w.dtype)
        for end, value in zip(reversed(rule.ends[1:-1]), reversed(values[:-1]), strict=True):
            chosen = select(apply("lt", w, const(end, w.dtype)), const(value, w.dtype), chosen)
        return chosen

    middles = [(a + b) / 2 for a, b in zip(rule.ends, rule.ends[1:], strict=False)]
    t = sub(w, pick(middles))
    total = pick([piece[-1] for piece in rule.pieces])
    for k in reversed(range(len(rule.pieces[0]) - 1)):
        total = add(mul(total, t), pick([piece[k] for piece in rule.pieces]))
    return total


def _polynomial(x: Expr, coefficients: Sequence[float]) -> Expr:
    total: Expr = Const(coefficients[-1], x.dtype)
    for c in reversed(coefficients[:-1]):
        total = add(mul(total, x), const(c, x.dtype))
    return total
