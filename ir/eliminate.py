"""Whether integers can satisfy inequalities: Fourier and Motzkin's elimination, with rounding.

Each distinct product of atoms is one integer variable. Variables are eliminated one by one; every
inequality is divided by the common factor of its coefficients and its constant rounded down
(Gomory's cut), so that ``2*q >= 1`` becomes ``q >= 1``. A contradiction proves that there are no
such integers; nothing else is ever concluded.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import gcd
from typing import TypeAlias

from nnc.ir.index import Monomial, Size

MOST_INEQUALITIES = 240
"""Elimination gives up beyond this many; proofs found in practice need fewer than 40."""

Terms: TypeAlias = tuple[tuple[Monomial, int], ...]
Row: TypeAlias = tuple[Terms, int]
"""``sum of coefficient * variable + constant >= 0``."""


def infeasible(sizes: Iterable[Size]) -> bool:
    """Whether no integers make all of ``sizes`` at least 0, as far as elimination shows."""
    rows: dict[Terms, int] = {}
    for size in sizes:
        if not _insert(rows, _row(size)):
            return True
    while rows:
        variable = _cheapest(rows)
        above: list[tuple[int, Row]] = []
        below: list[tuple[int, Row]] = []
        kept: dict[Terms, int] = {}
        for terms, constant in rows.items():
            c = next((c for m, c in terms if m == variable), 0)
            if c == 0:
                kept[terms] = constant
            else:
                (above if c > 0 else below).append((abs(c), (terms, constant)))
        for a, p in above:
            for b, n in below:
                if not _insert(kept, _combine(p, b, n, a)):
                    return True
        if len(kept) > MOST_INEQUALITIES:
            return False
        rows = kept
    return False


def _row(size: Size) -> Row:
    if isinstance(size, int):
        return (), size
    return _rounded({m: c for m, c in size.terms if m}, size.constant)


def _combine(p: Row, b: int, n: Row, a: int) -> Row:
    """``b*p + a*n``, in which one variable cancels."""
    total = {m: c * b for m, c in p[0]}
    for m, c in n[0]:
        total[m] = total.get(m, 0) + c * a
    return _rounded(total, p[1] * b + n[1] * a)


def _rounded(coefficients: dict[Monomial, int], constant: int) -> Row:
    """Divide by the common factor of the coefficients; the constant rounds down (the cut)."""
    kept = [(m, c) for m, c in coefficients.items() if c]
    if not kept:
        return (), constant
    common = gcd(*(c for _, c in kept))
    kept.sort(key=lambda t: tuple(a.key for a in t[0]))
    return tuple((m, c // common) for m, c in kept), constant // common


def _insert(rows: dict[Terms, int], row: Row) -> bool:
    """Add a row unless a tighter one is there; False where it cannot hold."""
    terms, constant = row
    if not terms:
        return constant >= 0
    old = rows.get(terms)
    rows[terms] = constant if old is None else min(old, constant)
    return True


def _cheapest(rows: dict[Terms, int]) -> Monomial:
    """The variable whose elimination makes the fewest new rows."""
    signs: dict[Monomial, list[int]] = {}
    for terms in rows:
        for m, c in terms:
            signs.setdefault(m, [0, 0])[c > 0] += 1
    return min(signs, key=lambda m: signs[m][0] * signs[m][1] - sum(signs[m]))
