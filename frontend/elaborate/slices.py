"""Subscripts and slices outside index notation: ``x[:, a:b]``, ``x[0]``, ``x[.., -1]``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nnc.frontend import ast
from nnc.frontend.elaborate.convert import Operand
from nnc.frontend.elaborate.elaborator import wrong_value
from nnc.frontend.elaborate.faults import Cascade, Fault, fault
from nnc.frontend.elaborate.types import at_least, spell
from nnc.frontend.elaborate.values import (
    POISON,
    Element,
    Float,
    Int,
    ListValue,
    Tensor,
    TupleValue,
    Value,
    is_poisoned,
)
from nnc.ir import build
from nnc.ir.graph import Node
from nnc.ir.index import Size, ceildiv, counters_of
from nnc.ir.span import Span

if TYPE_CHECKING:
    from nnc.frontend.elaborate.elaborator import Elaborator
    from nnc.frontend.elaborate.scope import Scope

Cut = tuple[Size, Size | None, int]
"""Where a dim is read from, how many places (None: one, and the dim goes), how far apart."""


def subscript(elab: Elaborator, scope: Scope, node: ast.Subscript) -> Value:
    """Evaluate a subscript. Raises Fault where it does not fit, or is not proven inside."""
    if scope.box is not None:
        from nnc.frontend import notation

        found = notation.subscript(elab, scope, node)
        if found is not None:
            return found
    base = elab.operand(node.base, scope)
    match base.value:
        case value if is_poisoned(value):
            return POISON
        case Element() | Int() | Float() if all(isinstance(s, ast.Rest) for s in node.subs):
            return base.value  # a scalar has no dims for `..` to stand for
        case TupleValue(items):
            return _item(elab, scope, items, node)
        case Tensor() | ListValue():
            return Tensor(_cut(elab, scope, elab.node(base.value, base.span), base, node))
    raise fault(
        "E0223",
        "only tensors and tuples have parts",
        node.span,
        related=[base.related],
    )


def _item(elab: Elaborator, scope: Scope, items: Sequence[Value], node: ast.Subscript) -> Value:
    (sub,) = node.subs if len(node.subs) == 1 else (None,)
    if sub is None or isinstance(sub, ast.Slice | ast.Rest):
        raise fault("E0223", "a tuple takes one subscript", node.span)
    value = elab.evaluate(sub, scope)
    if not isinstance(value, Int) or not isinstance(value.size, int):
        raise wrong_value("a whole number known at compile time", value, sub.span)
    if not -1 <= value.size < len(items):
        raise fault("E0223", f"there is no part {value.size} of {len(items)}", sub.span)
    return items[value.size]


def _cut(elab: Elaborator, scope: Scope, node: Node, base: Operand, expr: ast.Subscript) -> Node:
    if expr.where is not None:
        raise fault("E0223", "only a reduction takes a `where`", expr.where.span)
    shape = node.type.shape
    subs = _spread(expr, len(shape), base)
    cuts = [_dim_cut(elab, scope, sub, size, base) for sub, size in zip(subs, shape, strict=True)]
    kept = [extent for _, extent, _ in cuts if extent is not None]
    axes = build.axes_for(kept)
    here = iter(build.subscripts(axes))
    index = [start if extent is None else start + step * next(here) for start, extent, step in cuts]
    body = build.read(node, 0, *index)
    return build.form(axes, build.subscripts(axes), body, (node,), kept, span=expr.span)


def _spread(expr: ast.Subscript, rank: int, base: Operand) -> list[ast.Sub | None]:
    """Give each dim its subscript; dims under ``..`` and those not mentioned are kept whole."""
    rests = [k for k, s in enumerate(expr.subs) if isinstance(s, ast.Rest)]
    written = len(expr.subs) - len(rests)
    if len(rests) > 1:
        raise fault("E0223", "`..` stands once among subscripts", expr.subs[rests[1]].span)
    if written > rank:
        raise fault(
            "E0223", f"{written} subscripts for {rank} dims", expr.span, related=[base.related]
        )
    at = rests[0] if rests else len(expr.subs)
    whole: list[ast.Sub | None] = [None] * (rank - written)
    return [*expr.subs[:at], *whole, *expr.subs[at + 1 :]]


def _dim_cut(elab: Elaborator, scope: Scope, sub: ast.Sub | None, size: Size, base: Operand) -> Cut:
    if sub is None:
        return 0, size, 1
    if isinstance(sub, ast.Slice):
        return _range(elab, scope, sub, size, base)
    assert not isinstance(sub, ast.Rest)
    at = _bound(elab, scope, sub, size)
    if not (at_least(at, 0, elab.facts) and at_least(size, at + 1, elab.facts)):
        raise _outside(at, size, sub.span, base)
    return at, None, 1


def _range(elab: Elaborator, scope: Scope, sub: ast.Slice, size: Size, base: Operand) -> Cut:
    start = _bound(elab, scope, sub.start, size) if sub.start is not None else 0
    stop = _bound(elab, scope, sub.stop, size) if sub.stop is not None else size
    step = 1
    if sub.step is not None:
        found = _bound(elab, scope, sub.step, size)
        if not isinstance(found, int) or found < 1:
            raise fault("E0223", "a step is a constant of at least 1", sub.step.span)
        step = found
    for low, high, part in ((0, start, sub.start), (start, stop, sub.stop), (stop, size, sub.stop)):
        if not at_least(high, low, elab.facts):
            span = part.span if part is not None else sub.span
            raise _outside(stop if part is sub.stop else start, size, span, base)
    return start, ceildiv(stop - start, step), step


def _bound(elab: Elaborator, scope: Scope, expr: ast.Expr, size: Size) -> Size:
    """Evaluate one number of a subscript; the literal -1 is the last place."""
    if isinstance(expr, ast.Unary) and expr.op == "-" and isinstance(expr.operand, ast.Int):
        if expr.operand.value == 1:
            return size - 1
        raise fault(
            "E0223", "only a literal -1 counts from the end", expr.span,
            hint=f"write the size less {expr.operand.value}",
        )  # fmt: skip
    value = elab.evaluate(expr, scope)
    if is_poisoned(value):
        raise Cascade
    if isinstance(value, Int) and not value.is_index:
        return value.size
    hint = None
    if isinstance(value, Tensor):
        hint = "reading where the data says goes by index notation: y[i] = table[ids[i]]"
    raise wrong_value("a whole number known in sizes", value, expr.span, hint)


def _how_to_keep_inside(at: Size, size: Size) -> str:
    if counters_of(at):
        return f"index notation guards a read: if {at} < {size} then ... else 0"
    return f"say what every call keeps to: require {at} < {size}"


def _outside(at: Size, size: Size, span: Span, base: Operand) -> Fault:
    known = isinstance(at, int) and isinstance(size, int)
    return fault(
        "E0223",
        f"{at} lies outside a dim of {size}" if known else f"{at} may lie outside a dim of {size}",
        span,
        f"in the shape {spell(base.value.shape)}" if isinstance(base.value, Tensor) else "",
        related=[base.related],
        hint=None if known else _how_to_keep_inside(at, size),
    )
