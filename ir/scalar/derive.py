"""The chain rule over scalar expressions."""

from __future__ import annotations

from collections.abc import Callable

from nnc.ir.expr import Apply, Expr, walk
from nnc.ir.scalar import make


def tangent(expr: Expr, seed: Callable[[Expr], Expr | None]) -> Expr | None:
    """Return the derivative of ``expr`` in the direction that ``seed`` gives; None is zero.

    ``seed`` is asked for the tangent of each leaf (a read, most often) and of each ``Apply``
    before its own rule is tried; None leaves it to the rule, and is zero for a leaf. For the
    derivative by one read r: ``tangent(body, lambda e: const(1, e.dtype) if e == r else None)``.
    A side of ``select`` that is not taken contributes nothing, not even 0 * inf.
    """
    found: dict[Expr, Expr | None] = {}
    for e in walk(expr):
        given = seed(e)
        if given is None and isinstance(e, Apply):
            given = _chain(e, tuple(found[a] for a in e.args))
        found[e] = given
    return found[expr]


def _chain(e: Apply, tangents: tuple[Expr | None, ...]) -> Expr | None:
    from nnc.ir.scalar import OPS

    if all(t is None for t in tangents):
        return None
    rule = OPS[e.op]
    if rule.tangent is not None:
        return rule.tangent(e.args, tangents, e)
    total: Expr | None = None
    for partial, inner in zip(rule.derivative(e.args, e), tangents, strict=True):
        if partial is not None and inner is not None:
            term = make.mul(partial, make.cast(inner, e.dtype))
            total = term if total is None else make.add(total, term)
    return total
