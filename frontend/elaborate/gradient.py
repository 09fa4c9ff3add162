"""``with gradient``: a function's value with the derivative that is written for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from nnc.frontend import ast
from nnc.frontend.elaborate.convert import Operand, strong_type, to_expr, to_node, varies_over_box
from nnc.frontend.elaborate.elaborator import later
from nnc.frontend.elaborate.faults import fault
from nnc.frontend.elaborate.parameters import count
from nnc.frontend.elaborate.scope import Binding, Scope
from nnc.frontend.elaborate.values import (
    POISON,
    Element,
    Tensor,
    TupleValue,
    Value,
    is_poisoned,
)
from nnc.ir import build, scalar
from nnc.ir.expr import Const, Expr
from nnc.ir.graph import Custom, Node

if TYPE_CHECKING:
    from nnc.frontend.elaborate.elaborator import Elaborator


def with_gradient(
    elab: Elaborator, scope: Scope, decl: ast.Fn, given: Mapping[str, Value], value: Value
) -> Value:
    """Return ``value`` with the derivative that ``decl`` writes for its parameters ``given``.

    The gradient's body sees the function's names and returns one cotangent for each parameter
    that is made of decimals, in their order. Raises Fault where it does not fit them.
    """
    assert decl.gradient is not None
    differentiable = {
        name: v
        for name, v in given.items()
        if isinstance(v, Tensor | Element) and (t := strong_type(v)) is not None and t.is_float
    }
    if not differentiable:
        return value
    if isinstance(value, TupleValue) or len(decl.gradient.names) != 1:
        raise later("a written gradient of several results", decl.gradient.span)
    match value:
        case Tensor(node):
            return _of_tensor(elab, scope, decl, differentiable, node)
        case Element(expr) if varies_over_box(expr):
            return _of_element(elab, scope, decl, differentiable, expr)
        case _:
            return value


def _of_tensor(
    elab: Elaborator, scope: Scope, decl: ast.Fn, given: Mapping[str, Value], value: Node
) -> Value:
    gradient = decl.gradient
    assert gradient is not None
    nodes: dict[str, Node] = {}
    for name, v in given.items():
        if not isinstance(v, Tensor):
            raise later("a written gradient with respect to an element", gradient.span)
        nodes[name] = v.node
    name = elab.unique(f"{scope.body.trace}:gradient")
    cotangent = build.leaf("cotangent", name, value.type, gradient.names[0].span)
    found = _run(elab, scope, gradient, given, Tensor(cotangent))
    if found is None:
        return POISON
    gradients = tuple(
        to_node(elab, replace(operand, text=text), node.type.dtype, node.type.shape)
        for (text, node), operand in zip(nodes.items(), found, strict=True)
    )
    inputs = (value, *nodes.values())
    return Tensor(Node(Custom(name, gradients), inputs, value.type, value.span, value.name))


def _of_element(
    elab: Elaborator, scope: Scope, decl: ast.Fn, given: Mapping[str, Value], value: Expr
) -> Value:
    """Inside index notation the derivative is linear in the cotangent: take it at 1."""
    gradient = decl.gradient
    assert gradient is not None
    one = Element(Const(1.0, value.dtype))
    found = _run(elab, scope, gradient, given, one)
    if found is None:
        return POISON
    terms = [
        (
            to_expr(elab, scope, Operand(v, gradient.span), value.dtype),
            to_expr(elab, scope, operand, value.dtype),
        )
        for v, operand in zip(given.values(), found, strict=True)
    ]
    return Element(scalar.with_value(value, *terms))


def _run(
    elab: Elaborator, scope: Scope, gradient: ast.Gradient, given: Mapping[str, Value], dy: Value
) -> list[Operand] | None:
    """Run the gradient's body; parameters have the values that the function was given."""
    from nnc.frontend.elaborate.statements import run_block

    body = replace(scope.body, trace=f"{scope.body.trace}:gradient", result=())
    names = {name: Binding(value, None) for name, value in given.items()}
    names[gradient.names[0].text] = Binding(dy, gradient.names[0].span)
    inner = Scope(body, scope, names, box=scope.box)
    before, elab.differentiating = elab.differentiating, True
    try:
        value = run_block(elab, inner, gradient.body)
    finally:
        elab.differentiating = before
    if value is None:
        raise fault("E0227", "the gradient returns nothing", gradient.span)
    values = value.items if isinstance(value, TupleValue) else (value,)
    if is_poisoned(*values):
        return None
    if len(values) != len(given):
        raise fault(
            "E0226",
            f"the gradient must return {count(len(given), 'value')}, not {len(values)}",
            gradient.span,
            f"one for each of {', '.join(given)}",
        )
    return [Operand(v, gradient.span) for v in values]
