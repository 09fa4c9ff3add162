"""``a @ b``: products of matrices, the leading dims broadcast."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from nnc.frontend.elaborate.convert import (
    Operand,
    common_type,
    mixed_types,
    no_broadcast,
    not_a_number,
    read_aligned,
    to_node,
)
from nnc.frontend.elaborate.faults import fault
from nnc.frontend.elaborate.types import broadcast, equal, spell
from nnc.frontend.elaborate.values import ListValue, Tensor, Value, describe
from nnc.ir import build, scalar
from nnc.ir.graph import Node
from nnc.ir.index import Size, axis
from nnc.ir.span import Span
from nnc.ir.types import DType

if TYPE_CHECKING:
    from nnc.frontend.elaborate.elaborator import Elaborator


def matmul(elab: Elaborator, left: Operand, right: Operand, span: Span) -> Value:
    """Multiply ``[..s, k] @ [k, n]``, or ``[..s, m, k] @ [..t, k, n]`` with s and t broadcast.

    Raises Fault where the inner dims differ, the leading ones do not go together, or the element
    types are not one.
    """
    for side in (left, right):
        if not isinstance(side.value, Tensor | ListValue):
            if isinstance(side.value, ListValue | Tensor):
                not_a_number(side)
            raise fault(
                "E0203", "@ multiplies matrices", side.span, f"this is {describe(side.value)}"
            )
    dtype = common_type(elab, (left, right), span)
    if dtype is DType.BOOL:
        mixed_types(left, right, span)
    a, b = to_node(elab, left, dtype), to_node(elab, right, dtype)
    x, y = a.type.shape, b.type.shape
    if not x or len(y) < 2 or (len(y) > 2 and len(x) < 2):
        _wrong_rank(left, right, x, y, span)
    if not equal(x[-1], y[-2], elab.facts):
        _inner_dims(elab, left, right, x, y, span)
    if len(y) == 2:
        return Tensor(_by_matrix(a, b, span))
    lead = broadcast(x[:-2], y[:-2], elab.facts)
    if lead is None:
        no_broadcast((left, right), elab, span)
    return Tensor(_batched(elab, a, b, lead, span))


def _by_matrix(a: Node, b: Node, span: Span) -> Node:
    *lead, k = a.type.shape
    n = b.type.shape[1]
    axes = [*build.axes_for(lead), ("n", n), ("k", k)]
    here = build.subscripts(axes[:-2])
    body = scalar.mul(build.read(a, 0, *here, axis("k")), build.read(b, 1, axis("k"), axis("n")))
    out = [*here, axis("n")]
    return build.form(axes, out, body, (a, b), [*lead, n], reduce="sum", span=span)


def _batched(elab: Elaborator, a: Node, b: Node, lead: tuple[Size, ...], span: Span) -> Node:
    m, k = a.type.shape[-2:]
    n = b.type.shape[-1]
    axes = [*build.axes_for(lead), ("m", m), ("n", n), ("k", k)]
    here = build.subscripts(axes[:-3])
    x = read_aligned(elab, a, 0, [*here, axis("m"), axis("k")], [*lead, m, k])
    y = read_aligned(elab, b, 1, [*here, axis("k"), axis("n")], [*lead, k, n])
    out = [*here, axis("m"), axis("n")]
    body = scalar.mul(x, y)
    return build.form(axes, out, body, (a, b), [*lead, m, n], reduce="sum", span=span)


def _wrong_rank(
    left: Operand, right: Operand, x: tuple[Size, ...], y: tuple[Size, ...], span: Span
) -> NoReturn:
    hint = None
    if len(y) == 1 and x:
        hint = f"sum(a * b) for a vector on the right, or reshape it to [{y[0]}, 1]"
    raise fault(
        "E0203",
        "these two shapes do not multiply",
        span,
        f"{spell(x)} @ {spell(y)}: @ is [..s, k] @ [k, n] or [..s, m, k] @ [..s, k, n]",
        related=[left.related, right.related],
        hint=hint,
    )


def _inner_dims(
    elab: Elaborator,
    left: Operand,
    right: Operand,
    x: tuple[Size, ...],
    y: tuple[Size, ...],
    span: Span,
) -> NoReturn:
    hint = None
    if equal(x[-1], y[-1], elab.facts) and len(y) == 2:
        name = right.text or "the right side"
        hint = (
            f"{name} has its dims the other way round from what {left.text or 'the left'} needs; "
            f"declare it [{y[1]}, {y[0]}], or multiply by transpose({right.text or 'b'})"
        )
    elif len(x) >= 2 and equal(x[-2], y[-2], elab.facts):
        hint = f"transpose({left.text or 'a'}) @ {right.text or 'b'} would multiply"
    raise fault(
        "E0203",
        "these two shapes do not multiply",
        span,
        f"the inner dims must agree: {x[-1]} and {y[-2]}",
        related=[left.related, right.related],
        hint=hint,
        about={"one": x[-1], "two": y[-2]},
    )
