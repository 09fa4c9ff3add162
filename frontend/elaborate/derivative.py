"""``grad(y, x)``: the gradient of a scalar by what it is made from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from nnc.frontend.elaborate.convert import Operand, to_node
from nnc.frontend.elaborate.elaborator import wrong_value
from nnc.frontend.elaborate.faults import fault
from nnc.frontend.elaborate.values import Tensor, TupleValue, Value, describe
from nnc.frontend.reach import cut_off
from nnc.ir.graph import Derivative, Leaf, Node

if TYPE_CHECKING:
    from nnc.frontend.elaborate.builtins import Use


def grad(use: Use, given: Mapping[str, Operand]) -> Value:
    """Return the gradient of ``y`` by ``x``, of x's type; of a tuple of tensors, one each.

    Raises Fault where y is no decimal scalar, x no tensor of decimals, or y is not made from x by
    something that has a derivative.
    """
    y = _scalar(use, given["y"])
    x = given["x"]
    if isinstance(x.value, TupleValue):
        parts = [Operand(v, x.span) for v in x.value.items]
        return TupleValue(tuple(Tensor(_by(use, y, part)) for part in parts))
    return Tensor(_by(use, y, x))


def _scalar(use: Use, operand: Operand) -> Node:
    value = operand.value
    if use.scope.box is not None:
        raise fault(
            "E0234", "grad takes whole tensors", use.span, "inside index notation",
            hint="take the gradient of a sum of the tensor before, and subscript that",
        )  # fmt: skip
    if not isinstance(value, Tensor):
        raise wrong_value("a scalar made from a tensor", value, operand.span)
    if value.shape:
        text = operand.text or "..."
        raise fault(
            "E0234", "only a scalar has a gradient", operand.span, f"this is {describe(value)}",
            related=[operand.related] if operand.origin else (),
            hint=f"grad(sum({text}), x) is the gradient of all its elements together",
        )  # fmt: skip
    if not value.dtype.is_float:
        raise fault("E0234", "only decimals have a gradient", operand.span,
                    f"this is {describe(value)}")  # fmt: skip
    return to_node(use.elab, operand)


def _by(use: Use, y: Node, operand: Operand) -> Node:
    value = operand.value
    if not isinstance(value, Tensor):
        raise wrong_value("a tensor to differentiate by", value, operand.span)
    if not value.dtype.is_float:
        raise fault("E0234", "a gradient is by decimals", operand.span,
                    f"this is {describe(value)}")  # fmt: skip
    x = value.node
    ends = cut_off(y, x)
    if ends is not None:
        _unreached(operand, ends)
    return Node(Derivative(), (y, x), x.type, use.span)


def _unreached(operand: Operand, ends: list[Node]) -> None:
    assert isinstance(operand.value, Tensor)
    what = operand.text or "this"
    places = dict.fromkeys(n.span for n in ends if n.span is not None)
    if places:
        raise fault(
            "E0234", f"no gradient passes to {what}", operand.span,
            related=[(p, "the gradient ends here") for p in list(places)[:3]],
        )  # fmt: skip
    bound = operand.text or isinstance(operand.value.node.op, Leaf)
    raise fault(
        "E0234", f"the scalar is not made from {what}", operand.span, "it does not come in there",
        hint=None if bound else "bind it to a name, make the scalar from that, and name it here",
    )  # fmt: skip
