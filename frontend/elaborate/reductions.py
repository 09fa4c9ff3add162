"""``sum(x)``, ``mean(x, axis = 1, keep = true)`` and their like, on whole tensors.

A reduction that index forms have is one form. The others are made of such: each is a row of
``MADE``, a function of the tensor, the axes and whether dims of 1 are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nnc.frontend.elaborate.convert import Operand, common_type, to_node
from nnc.frontend.elaborate.elaborator import wrong_value
from nnc.frontend.elaborate.faults import fault
from nnc.frontend.elaborate.types import DEFAULT_INT, NARROW
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
from nnc.ir.index import Size, product
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
    task = Task(
        tuple(_axes(kind, given.get("axis"), node, operand)),
        _flag(given.get("keep")),
        span,
        sample=_flag(given.get("sample")),
    )
    made = MADE.get(kind)
    if made is not None:
        return Tensor(made(node, task))
    return Tensor(build.reduce(node, task.axes, kind, keep=task.keep, span=span))


# reductions made of others ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Task:
    """How to reduce; ``sample``: a variance is that of a sample, over the count less one."""

    axes: Sequence[int]
    keep: bool
    span: Span
    sample: bool = False

    def count(self, node: Node) -> Size:
        """How many elements become one."""
        return product(node.type.shape[k] for k in self.axes)


def _over(total: Node, count: Size, span: Span) -> Node:
    def divide(x: Expr) -> Expr:
        return scalar.div(x, scalar.cast(scalar.position(count), x.dtype))

    return build.elementwise(divide, total, span=span)


def _mean(node: Node, task: Task) -> Node:
    total = build.reduce(node, task.axes, "sum", keep=task.keep, span=task.span)
    return _over(total, task.count(node), task.span)


def _var(node: Node, task: Task) -> Node:
    """Sum the squared distances from the mean: in two passes, so that nothing cancels."""
    middle = _mean(node, Task(task.axes, True, task.span))
    axes = build.axes_for(node.type.shape)
    here = build.subscripts(axes)
    index = [0 if k in task.axes else at for k, at in enumerate(here)]
    distance = scalar.sub(build.read(node, 0, *here), build.read(middle, 1, *index))
    square = scalar.mul(distance, distance)
    squares = build.form(axes, here, square, (node, middle), node.type.shape, span=task.span)
    total = build.reduce(squares, task.axes, "sum", keep=task.keep, span=task.span)
    return _over(total, task.count(node) - task.sample, task.span)


def _std(node: Node, task: Task) -> Node:
    return build.elementwise("sqrt", _var(node, task), span=task.span)


MADE: dict[str, Callable[[Node, Task], Node]] = {"mean": _mean, "var": _var, "std": _std}
NAMES = ("sum", "prod", "any", "all", "argmax", "argmin", *MADE)


def _prepared(elab: Elaborator, kind: str, node: Node, dtype: DType, operand: Operand) -> Node:
    """Check the element type; truth values count as 0 and 1."""
    name = operand.text or "x"
    if kind in ("any", "all"):
        if dtype is not DType.BOOL:
            raise wrong_value("a tensor of truth values", operand.value, operand.span,
                              hint=f"compare it with something: {kind}({name} != 0)")  # fmt: skip
        return node
    if dtype is DType.BOOL:
        if kind == "sum" or kind in MADE:
            return build.cast(node, elab.precision if kind in MADE else DEFAULT_INT)
        raise fault(
            "E0202", f"{kind} does not take truth values", operand.span,
            hint=f"any and all do; or convert: {kind}(i32({name}))",
        )  # fmt: skip
    if kind in ("sum", "prod") and dtype in NARROW:
        raise fault(
            "E0205", f"a {kind} of {dtype} would soon not fit into {dtype}", operand.span,
            hint=f"convert first: {kind}(i32({name}))",
        )  # fmt: skip
    if kind in MADE and not dtype.is_float:
        raise fault(
            "E0205", f"{kind} does not take whole numbers ({dtype})", operand.span,
            hint=f"convert them: {kind}(float({name}))",
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
