"""Sums and products of f64 without rounding, as unevaluated pairs.

T. J. Dekker, "A floating-point technique for extending the available precision", Numerische
Mathematik 18, 1971. They use ``add``, ``sub`` and ``mul`` alone, whose rounding is the same on
every target, and split operands by masking, which does not overflow.
"""

from __future__ import annotations

from dataclasses import dataclass

from nnc.ir.types import DType
from nnc.passes.math.terms import Term

_UPPER = ~((1 << 27) - 1) & (2**64 - 1)


@dataclass(frozen=True, slots=True)
class Pair:
    """The sum of two f64, the second at most half a unit in the last place of the first."""

    high: Term
    low: Term

    def __add__(self, other: Pair) -> Pair:
        """Sum; this one must be the larger, or zero."""
        total = fast_two_sum(self.high, other.high)
        return fast_two_sum(total.high, total.low + (self.low + other.low))

    def __mul__(self, other: Pair) -> Pair:
        """Product, to about 2^-102."""
        main = two_product(self.high, other.high)
        cross = self.high * other.low + self.low * other.high
        return fast_two_sum(main.high, main.low + cross)


def fast_two_sum(a: Term, b: Term) -> Pair:
    """``a + b`` exactly, where ``|a| >= |b|`` or ``a`` is zero."""
    total = a + b
    return Pair(total, b - (total - a))


def halves(x: Term) -> tuple[Term, Term]:
    """``x`` as two terms of 26 bits (the second may have 27)."""
    upper = (x.bitcast(DType.U64) & _UPPER).bitcast(DType.F64)
    return upper, x - upper


def two_product(a: Term, b: Term) -> Pair:
    """``a * b`` exactly, but where the parts leave the normal numbers."""
    product = a * b
    (a1, a2), (b1, b2) = halves(a), halves(b)
    return Pair(product, ((a1 * b1 - product) + a1 * b2 + a2 * b1) + a2 * b2)


def quotient(a: Term, b: Pair) -> Pair:
    """``a / b`` to about 2^-102."""
    main = a / b.high
    back = two_product(main, b.high)
    return Pair(main, (((a - back.high) - back.low) - main * b.low) / b.high)
