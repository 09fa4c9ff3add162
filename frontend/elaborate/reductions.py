"""``sum(x)``, ``mean(x, axis = 1, keep = true)`` and their like, on whole tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from nnc.frontend.elaborate.convert import Operand, common_type, to_node
from nnc.frontend.elaborate.elaborator import wrong_value
from nnc.frontend.elaborate.faults import fault
from nnc.frontend.elaborate.types import DEFAULT_INT
from nnc.frontend.elaborate.values import (
    Bool,
    Element,
    Int,
    ListValue,
    Tensor,
    TupleValue,
    Value,
    describe,
)
from nnc.ir import build, scalar
from nnc.ir.expr import Expr
from nnc.ir.graph import Node
from nnc.ir.index import product
from nnc.ir.span import Span
from nnc.ir.types import DType

if TYPE_CHECKING:
    from nnc.frontend.elaborate.elaborator import Elaborator


def reduce(elab: Elaborator, kind: str, given: Mapping[str, Operand], span: Span) -> Value:
    """Reduce a tensor over ``axis``: all its dims, or the last one for argmax and argmin."""
    operand = given["x"]
    if isinstance(operand.value, Element | Int):
        raise fault(
            "E0202",
            f"{kind} needs a whole tensor",
            operand.span,
            f"this is {describe(operand.value)}",
            hint=f"over an index it is written {kind}[i](...)",
        )
    dtype = common_type(elab, (operand,), span)
    node = _prepared(elab, kind, to_node(elab, operand), dtype, operand)
    keep = _flag(given.get("keep"))
    axes = _axes(kind, given.get("axis"), node, operand)
    if kind != "mean":
        return Tensor(build.reduce(node, axes, kind, keep=keep, span=span))
    count = product(node.type.shape[k] for k in axes)
    total = build.reduce(node, axes, "sum", keep=keep, span=span)

    def average(x: Expr) -> Expr:
        return scalar.div(x, scalar.cast(scalar.position(count), x.dtype))

    return Tensor(build.elementwise(average, total, span=span))


def _prepared(elab: Elaborator, kind: str, node: Node, dtype: DType, operand: Operand) -> Node:
    """Check the element type; truth values count as 0 and 1."""
    name = operand.text or "x"
    if kind in ("any", "all"):
        if dtype is not DType.BOOL:
            raise wrong_value("a tensor of truth values", operand.value, operand.span,
                              hint=f"compare it with something: {kind}({name} != 0)")  # fmt: skip
        return node
    if dtype is DType.BOOL:
        if kind in ("sum", "mean"):
            return build.cast(node, DEFAULT_INT if kind == "sum" else elab.precision)
        raise fault(
            "E0202", f"{kind} does not take truth values", operand.span,
            hint=f"any and all do; or convert: {kind}(i32({name}))",
        )  # fmt: skip
    if kind == "mean" and not dtype.is_float:
        raise fault(
            "E0205", f"mean does not take whole numbers ({dtype})", operand.span,
            hint=f"convert them: mean(float({name}))",
        )  # fmt: skip
    return node


def _flag(operand: Operand | None) -> bool:
    if operand is None:
        return False
    if not isinstance(operand.value, Bool):
        raise wrong_value("true or false", operand.value, operand.span)
    return operand.value.value


def _axes(kind: str, operand: Operand | None, node: Node, of: Operand) -> list[int]:
    rank = node.type.rank
    if operand is None:
        if kind in ("argmax", "argmin"):
            if rank == 0:
                raise fault("E0229", f"{kind} of a scalar", of.span, describe(of.value))
            return [rank - 1]
        return list(range(rank))
    items = operand.value.items if isinstance(operand.value, TupleValue) else (operand.value,)
    found = [place(item, rank, operand, of) for item in items]
    if len(set(found)) < len(found):
        raise fault("E0229", "an axis is named twice", operand.span)
    if kind in ("argmax", "argmin") and len(found) != 1:
        raise fault("E0229", f"{kind} goes along one axis", operand.span)
    return found


def place(value: Value, rank: int, operand: Operand, of: Operand) -> int:
    """Return an axis, from 0; a negative one counts from the end."""
    if not isinstance(value, Int) or not isinstance(value.size, int):
        raise wrong_value("the number of an axis", value, operand.span)
    if not -rank <= value.size < rank:
        raise fault(
            "E0229",
            f"there is no axis {value.size}",
            operand.span,
            f"the axes are 0 to {rank - 1}" if rank else "a scalar has no axes",
            related=[of.related],
        )
    return value.size % rank


def tensor(elab: Elaborator, operand: Operand) -> Node:
    """Return a tensor or a written list as a node; raise Fault for anything else."""
    if not isinstance(operand.value, Tensor | ListValue):
        raise wrong_value("a tensor", operand.value, operand.span)
    return to_node(elab, operand)
