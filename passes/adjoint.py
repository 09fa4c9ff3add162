"""Reverse-mode differentiation of one scalar expression: the cotangent of each read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nnc.ir.expr import Apply, Const, Expr, Read, walk
from nnc.ir.scalar import OPS, make
from nnc.passes.forms import times


@dataclass(frozen=True, slots=True)
class _Term:
    """A cotangent that counts only where all ``guards`` hold.

    Guards are carried beside the value, not multiplied into it, so that a side of ``select`` that
    is not taken contributes 0 even where its derivative is infinite.
    """

    guards: tuple[Expr, ...]
    value: Expr

    def plain(self) -> Expr:
        """The cotangent as one expression."""
        if not self.guards:
            return self.value
        return make.select(_all(self.guards), self.value, Const(0, self.value.dtype))


def adjoints(body: Expr, seed: Expr, wanted: Callable[[Read], bool]) -> dict[Read, Expr]:
    """The cotangent of each wanted read of ``body``, given ``seed``, the cotangent of ``body``.

    Reads on which ``body`` depends only through whole numbers, truth values, conditions or
    ``stop_gradient`` have none. The result is ordered as the reads occur.
    """
    order = list(walk(body))
    active = _active(order, wanted)
    if body not in active:
        return {}
    terms: dict[Expr, _Term] = {body: _Term((), seed)}
    for e in reversed(order):
        term = terms.get(e)
        if term is None or not isinstance(e, Apply):
            continue
        for arg, contribution in _contributions(e, term, e == body):
            if arg in active:
                old = terms.get(arg)
                terms[arg] = contribution if old is None else _merge(old, contribution)
    return {e: terms[e].plain() for e in order if isinstance(e, Read) and e in terms}


def differentiable_reads(body: Expr) -> set[Read]:
    """The reads through which ``body`` has a derivative."""
    active = _active(list(walk(body)), lambda read: True)
    reached: set[Expr] = {body} & active
    for e in reversed(list(walk(body))):
        if e in reached and isinstance(e, Apply):
            reached.update(a for a in _differentiable_args(e) if a in active)
    return {e for e in reached if isinstance(e, Read)}


def _active(order: list[Expr], wanted: Callable[[Read], bool]) -> set[Expr]:
    active: set[Expr] = set()
    for e in order:
        match e:
            case Read() if e.dtype.is_float and wanted(e):
                active.add(e)
            case Apply() if e.dtype.is_float and any(a in active for a in _differentiable_args(e)):
                active.add(e)
    return active


def _differentiable_args(e: Apply) -> tuple[Expr, ...]:
    match e.op:
        case "stop_gradient" | "floor" | "ceil" | "round" | "bitcast":
            return ()
        case "with_gradient":
            return e.args[1::2]
        case "select":
            return e.args[1:]
    return e.args


def _contributions(e: Apply, term: _Term, is_body: bool) -> list[tuple[Expr, _Term]]:
    """What the cotangent of ``e`` gives to each operand."""
    guards, value = term.guards, term.value
    match e.op, e.args:
        case "select", (c, a, b):
            return [(a, _under(term, c)), (b, _under(term, make.not_(c)))]
        case "max" | "min", (a, b):
            # max(a, c) > c says the same as a > c, and needs the result only: what a rectifier
            # was applied to need not be kept.
            compared = e if is_body and isinstance(b, Const) else a
            first = make.apply("gt" if e.op == "max" else "lt", compared, b)
            return [(a, _under(term, first)), (b, _under(term, make.not_(first)))]
        case "cast", (a,):
            return [(a, _Term(guards, make.cast(value, a.dtype)))] if a.dtype.is_float else []
        case "with_gradient", args:
            pairs = zip(args[1::2], args[2::2], strict=True)
            return [(a, _Term(guards, times(value, c))) for a, c in pairs]
    partials = OPS[e.op].derivative(e.args, e)
    return [
        (a, _Term(guards, times(value, d)))
        for a, d in zip(e.args, partials, strict=True)
        if d is not None
    ]


def _under(term: _Term, condition: Expr) -> _Term:
    if condition in term.guards:
        return term
    return _Term((*term.guards, condition), term.value)


def _merge(a: _Term, b: _Term) -> _Term:
    """Add two cotangents of one expression, keeping guards outermost."""
    shared = 0
    while shared < min(len(a.guards), len(b.guards)) and a.guards[shared] == b.guards[shared]:
        shared += 1
    prefix, rest_a, rest_b = a.guards[:shared], a.guards[shared:], b.guards[shared:]
    if not rest_a and not rest_b:
        return _Term(prefix, make.add(a.value, b.value))
    if rest_a and rest_b:
        first, second = _all(rest_a), _all(rest_b)
        if first == make.not_(second):
            if isinstance(first, Apply) and first.op == "not":
                return _Term(prefix, make.select(second, b.value, a.value))
            return _Term(prefix, make.select(first, a.value, b.value))
        prefix = (*prefix, make.or_(first, second))
    total = make.add(_Term(rest_a, a.value).plain(), _Term(rest_b, b.value).plain())
    return _Term(prefix, total)


def _all(conditions: tuple[Expr, ...]) -> Expr:
    result = conditions[0]
    for condition in conditions[1:]:
        result = make.and_(result, condition)
    return result
