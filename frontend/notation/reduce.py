"""Reductions in index notation: ``sum[i, j < n where c](body)``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnc.frontend import ast
from nnc.frontend.elaborate.convert import Operand, natural_type, not_a_number, to_expr
from nnc.frontend.elaborate.faults import fault
from nnc.frontend.elaborate.operators import truth
from nnc.frontend.elaborate.scope import Scope
from nnc.frontend.elaborate.types import DEFAULT_INT, NARROW
from nnc.frontend.elaborate.values import (
    POISON,
    Element,
    Int,
    Tensor,
    Value,
    describe,
    is_poisoned,
)
from nnc.frontend.notation.bind import bind_reduction, binder
from nnc.frontend.notation.box import Box, Level, Reduction, Session
from nnc.frontend.notation.emit import prepare
from nnc.frontend.notation.exact import axes_in, exact
from nnc.ir import scalar
from nnc.ir.expr import Expr
from nnc.ir.span import Span
from nnc.ir.types import DType

if TYPE_CHECKING:
    from nnc.frontend.elaborate.elaborator import Elaborator

REDUCTIONS = frozenset(
    {"sum", "prod", "max", "min", "mean", "argmax", "argmin", "any", "all"}
)  # fmt: skip


def reduce(elab: Elaborator, scope: Scope, kind: str, call: ast.Call) -> Value:
    """Evaluate ``kind[indices where filter](body)``; ``call.func`` is the subscript.

    Within index notation the result is an element; outside, a scalar tensor. Raises Fault.
    """
    assert isinstance(call.func, ast.Subscript)
    outer = scope.box
    if isinstance(outer, Box):
        return _element(elab, scope, outer, kind, call)
    session = Session(elab, set())
    box = root(session, call.span)
    made = _element(elab, scope, box, kind, call)
    if is_poisoned(made):
        return POISON
    assert isinstance(made, Element)
    return Tensor(prepare(session).form((), (), (), made.expr, call.span))


def root(session: Session, span: Span) -> Box:
    """The box of what stands outside of any index."""
    level = Level(span)
    session.levels.append(level)
    return Box(session, level, {})


def _element(elab: Elaborator, scope: Scope, box: Box, kind: str, call: ast.Call) -> Value:
    assert isinstance(call.func, ast.Subscript)
    body = _only_argument(kind, call)
    names = binder(elab, scope, box.session, call.span)
    bind_reduction(names, call.func.subs, kind)
    inside = names.open(box)
    where: Expr | None = None
    if call.func.where is not None:
        operand = elab.operand(call.func.where, inside)
        if is_poisoned(operand.value):
            return POISON
        truth(operand)
        where = exact(to_expr(elab, inside, operand, DType.BOOL))
        assert isinstance(inside.box, Box)
        inside = inside.inside(inside.box.filtered(where))
    operand = elab.operand(body, inside)
    if is_poisoned(operand.value):
        return POISON
    expr = _body(elab, inside, kind, operand)
    own = {i.axis for i in names.level.indices()}
    axes = axes_in(expr) | (axes_in(where) if where is not None else frozenset())
    dtype = DType.I32 if kind in ("argmax", "argmin") else expr.dtype
    deps = box.session.order(axes - own, call.span)
    return box.session.element(Reduction(kind, names.level, expr, where, dtype, deps))


def _only_argument(kind: str, call: ast.Call) -> ast.Expr:
    if len(call.args) != 1 or call.kwargs:
        raise fault(
            "E0309",
            f"{kind}[...] takes one expression",
            call.span,
            f"{len(call.args) + len(call.kwargs)} given",
            hint=f"write {kind}[i](x[i]); whole tensors are reduced by {kind}(x, axis = 0)",
        )
    return call.args[0]


def _body(elab: Elaborator, scope: Scope, kind: str, operand: Operand) -> Expr:
    """The body as an expression of a type that ``kind`` reduces."""
    dtype = natural_type(elab, operand.value)
    if dtype is None:
        not_a_number(operand)
    if kind in ("any", "all"):
        truth(operand)
        return to_expr(elab, scope, operand, DType.BOOL)
    if kind == "mean":
        return _averaged(elab, scope, operand, dtype)
    expr = to_expr(elab, scope, operand, dtype)
    if kind in ("sum", "prod") and dtype in NARROW:
        raise fault(
            "E0313",
            f"a {kind} of {dtype} would soon not fit into {dtype}",
            operand.span,
            f"this is {describe(operand.value)}",
            hint="convert first: i32(x), or float(x)",
        )
    if dtype is not DType.BOOL:
        return expr
    if kind == "sum":
        return scalar.cast(expr, DEFAULT_INT)
    raise fault(
        "E0313",
        f"{kind} does not take truth values",
        operand.span,
        f"this is {describe(operand.value)}",
        hint="any, all and sum do; float(x) is 0 or 1",
    )


def _averaged(elab: Elaborator, scope: Scope, operand: Operand, dtype: DType) -> Expr:
    untyped = isinstance(operand.value, Int) or (
        isinstance(operand.value, Element) and operand.value.weak
    )
    if dtype.is_float or untyped:
        return to_expr(elab, scope, operand, dtype if dtype.is_float else elab.precision)
    if dtype is DType.BOOL:
        return scalar.cast(to_expr(elab, scope, operand, dtype), elab.precision)
    raise fault(
        "E0313",
        "mean does not take whole numbers",
        operand.span,
        f"this is {describe(operand.value)}",
        hint="a mean is a decimal: mean[...](float(x))",
    )
