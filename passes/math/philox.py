"""Philox4x32-10 as loop expressions (see ``ir.scalar.philox``)."""

from __future__ import annotations

from nnc.ir.scalar.philox import KEY_STEPS, MULTIPLIERS, ROUNDS
from nnc.ir.types import DType
from nnc.passes.math.terms import Term, select


def philox(seed: Term, step: Term, stream: Term, index: Term) -> Term:
    """Random word ``index`` (u32) of the stream, as ``ir.scalar`` defines it."""
    number = index >> 2
    low, high = number.cast(DType.U32), (number >> 32).cast(DType.U32)
    counter = (low, high, stream, step)
    key = (seed.cast(DType.U32), (seed >> 32).cast(DType.U32))
    for _ in range(ROUNDS):
        counter = one_round(counter, key)
        key = (key[0] + KEY_STEPS[0], key[1] + KEY_STEPS[1])
    place = index.cast(DType.U32) & 3
    even = select(place.equals(0), counter[0], counter[2])
    odd = select(place.equals(1), counter[1], counter[3])
    return select((place & 1).equals(0), even, odd)


def one_round(
    counter: tuple[Term, Term, Term, Term], key: tuple[Term, Term]
) -> tuple[Term, Term, Term, Term]:
    """Mix the four words once."""
    a, b, c, d = counter
    return (
        c.mulhi(MULTIPLIERS[1]) ^ b ^ key[0],
        c * MULTIPLIERS[1],
        a.mulhi(MULTIPLIERS[0]) ^ d ^ key[1],
        a * MULTIPLIERS[0],
    )
