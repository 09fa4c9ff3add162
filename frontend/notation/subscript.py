"""Reads inside index notation: ``x[.., 2*i + u, ids[b]]``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nnc.frontend import ast
from nnc.frontend.elaborate.convert import Operand, to_expr
from nnc.frontend.elaborate.faults import did_you_mean, fault
from nnc.frontend.elaborate.scope import Scope
from nnc.frontend.elaborate.values import (
    POISON,
    Element,
    Int,
    ListValue,
    Poison,
    Tensor,
    Value,
    describe,
)
from nnc.frontend.notation.box import (
    Box,
    Computed,
    Gather,
    Rest,
    Session,
    Use,
    Written,
    axes_of_conditions,
    varies,
)
from nnc.frontend.notation.exact import as_size, axes_in
from nnc.ir.expr import Loaded, Read, loads_in
from nnc.ir.index import Atom, Axis, FloorDiv, Mod, Poly, Size, axes_of
from nnc.ir.span import Span

if TYPE_CHECKING:
    from nnc.frontend.elaborate.elaborator import Elaborator


@dataclass(frozen=True, slots=True)
class Sub:
    """One evaluated subscript, or the dims of ``rest``."""

    span: Span
    value: Size = 0
    bare: bool = False
    rest: Rest | None = None


def subscript(elab: Elaborator, scope: Scope, expr: ast.Subscript) -> Value | None:
    """Read one element of a tensor at the current point; ``scope.box`` must be there.

    Returns None where no part depends on an index or on data and the tensor is only cut (slices,
    fewer subscripts than dims): that is then an ordinary slice. Raises Fault where a subscript is
    not affine or not whole, or their number does not fit.
    """
    box = _box(scope)
    base = elab.operand(expr.base, scope)
    match base.value:
        case Poison():
            return POISON
        case Tensor(node):
            pass
        case ListValue():
            node = elab.node(base.value, expr.base.span)
        case Int(size) if axes_of(size):
            raise fault(
                "E0307",
                "an index cannot be subscripted",
                expr.base.span,
                "this is an index variable",
                hint="give the index a name that no tensor has",
            )
        case _:
            return None
    if expr.where is not None:
        raise fault(
            "E0309",
            "a filter stands in a reduction, not in a read",
            expr.where.span,
            hint="write if ... then ... else ...",
        )
    subs = [s for s in expr.subs if not isinstance(s, ast.Slice)]
    found = [_sub(elab, scope, box, s) for s in subs]
    values = [v for v in found if v is not None]
    if len(values) < len(found):
        return POISON
    cut = len(subs) < len(expr.subs) or _too_few(values, node.type.rank)
    if cut and not any(v.rest or varies(v.value) for v in values):
        return None
    if len(subs) < len(expr.subs):
        _refuse_slice(expr)
    text = base.text or "the tensor"
    index, written = _align(box, values, base, node.type.shape, expr.span)
    read = Read(box.session.number(node), index, node.type.dtype)
    use = Use(read, node, box.level, box.conditions, expr.span, text, written)
    return _element(box, use)


def _box(scope: Scope) -> Box:
    assert isinstance(scope.box, Box)
    return scope.box


def _too_few(values: Sequence[Sub], rank: int) -> bool:
    return len(values) < rank and not any(v.rest for v in values)


def _refuse_slice(expr: ast.Subscript) -> None:
    cut = next(s for s in expr.subs if isinstance(s, ast.Slice))
    raise fault(
        "E0307",
        "a slice inside index notation",
        cut.span,
        "everything here is a scalar, and this is a tensor",
        hint="write an index for this dim, and a reduction over it",
    )


def _element(box: Box, use: Use) -> Element:
    """Note a read and return its element.

    A data-dependent one in one side of an ``if`` may have to become a tensor of its own.
    """
    session = box.session
    axes = {a for i in use.read.index for a in axes_of(i)}
    session.order(axes, use.span)
    loads = any(True for i in use.read.index for _ in loads_in(i))
    if loads and len(use.sure) < len(use.conditions):
        axes |= set(axes_of_conditions(use.conditions))
        gather = Gather(use, session.order(axes, use.span))
        session.gathers.append(gather)
        return session.element(gather)
    session.uses.append(use)
    return Element(use.read)


def _sub(elab: Elaborator, scope: Scope, box: Box, sub: ast.Expr | ast.Rest) -> Sub | None:
    """Evaluate one subscript; None where what it is made of is the result of an error."""
    if isinstance(sub, ast.Rest):
        name = sub.name or ""
        found = box.rests.get(name)
        if found is None:
            raise fault(
                "E0310",
                f"nothing binds `..{name}` here",
                sub.span,
                "its dims are not on the left, nor in a reduction around this",
                hint="write it on the left too: y[.., i] = ...; or reduce over it: sum[..](x[..])",
            )
        return Sub(sub.span, rest=found)
    _check_bound(scope, sub)
    operand = elab.operand(sub, scope)
    if isinstance(operand.value, Poison):
        return None
    value = _whole(elab, scope, box.session, operand, sub.span)
    bad = _not_affine(value)
    if bad is not None:
        raise fault(
            "E0304",
            "a subscript must be affine in the indices",
            sub.span,
            f"{box.session.spell(bad)} is a product of what varies",
            notes=["allowed are sums of indices times sizes, // and % by constants, and elements "
                   "of integer tensors"],
        )  # fmt: skip
    return Sub(sub.span, value, isinstance(sub, ast.Name))


def _check_bound(scope: Scope, sub: ast.Expr) -> None:
    """Refuse a name in a subscript that nothing binds: an index that was forgotten."""
    match sub:
        case ast.Unary(_, inner):
            _check_bound(scope, inner)
        case ast.Binary(_, left, right):
            _check_bound(scope, left)
            _check_bound(scope, right)
        case ast.Name(name) if scope.find(name) is None:
            bound = ((known, scope.find(known)) for known in scope.known())
            near = [known for known, found in bound if found and found.kind != "declaration"]
            _, fix = did_you_mean(name, near, sub.span)
            raise fault(
                "E0315",
                f"nothing binds the index {name}",
                sub.span,
                "used here as an index",
                hint=f"write it on the left, or reduce over it: sum[{name}](...)",
                fix=fix,
            )


def _whole(elab: Elaborator, scope: Scope, session: Session, operand: Operand, span: Span) -> Size:
    match operand.value:
        case Int(size):
            return size
        case Element(expr) if expr.dtype.is_int:
            pass
        case Tensor(node) if not node.type.shape and node.type.dtype.is_int:
            expr = to_expr(elab, scope, operand, node.type.dtype)
        case Tensor() | Element() as other:
            kind = describe(other)
            raise fault(
                "E0308",
                "a subscript must be a whole number",
                span,
                f"this is {kind}",
                hint="only elements of i64, i32, i8 and u8 tensors can be subscripts",
            )
        case other:
            raise fault(
                "E0308", "a subscript must be a whole number", span, f"this is {describe(other)}"
            )
    found = as_size(expr)
    if found is not None:
        return found
    deps = session.order(axes_in(expr), span)
    made = session.element(Computed(expr, deps)).expr
    assert isinstance(made, Read)
    return Loaded(made).as_poly()


def _not_affine(value: Size) -> Size | None:
    """The first product of two things that vary, or None."""
    if isinstance(value, int):
        return None
    for monomial, _ in value.terms:
        if sum(_varying(a) for a in monomial) > 1:
            return Poly(((monomial, 1),))
        for atom in monomial:
            if isinstance(atom, FloorDiv | Mod):
                found = _not_affine(atom.value)
                if found is not None:
                    return found
    return None


def _varying(atom: Atom) -> bool:
    return isinstance(atom, Axis | Loaded) or any(_varying(a) for a in atom.inner())


def _align(
    box: Box, values: Sequence[Sub], base: Operand, shape: Sequence[Size], span: Span
) -> tuple[tuple[Size, ...], tuple[Written, ...]]:
    """Spread subscripts over the dims; ``..`` takes those that the others leave."""
    rests = sum(v.rest is not None for v in values)
    spare = len(shape) - (len(values) - rests)
    if rests > 1:
        second = [v for v in values if v.rest is not None][1]
        raise fault("E0310", "`..` stands twice in one read", second.span, "again here")
    if spare < 0 or (spare > 0 and not rests):
        given = len(values) - rests
        raise fault(
            "E0305",
            f"{base.text or 'the tensor'} has {_count(len(shape), 'dim')}, "
            f"and {_count(given, 'subscript')} given",
            span,
            f"{'at least ' if rests else ''}{_count(given, 'subscript')} here",
            related=[base.related],
            hint="inside index notation each dim has its subscript, or `..` stands for several",
        )
    index: list[Size] = []
    written: list[Written] = []
    for v in values:
        sizes = shape[len(index) : len(index) + (spare if v.rest is not None else 1)]
        if v.rest is None:
            index.append(v.value)
        else:
            index.extend(_rest_index(box, v.rest, sizes))
        written.extend(Written(v.span, v.bare or v.rest is not None) for _ in sizes)
    return tuple(index), tuple(written)


def _rest_index(box: Box, rest: Rest, sizes: Sequence[Size]) -> list[Size]:
    """Subscripts for the dims under ``..``: aligned at the last, a dim of 1 stretches."""
    found: list[Size] = []
    for k, size in enumerate(sizes):
        index = box.session.rest_index(rest, len(sizes) - 1 - k)
        found.append(0 if size == 1 else index.poly)
    return found


def _count(n: int, what: str) -> str:
    return f"{n} {what}" + ("" if n == 1 else "s")
