"""Computes what is constant while compiling, by the same NumPy rules as the interpreter."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from nnc.ir.build import full
from nnc.ir.expr import Apply, Const, Expr, Number, Read
from nnc.ir.graph import Form, Graph, Literal, Node, Rebuilder, Reshape, counters_in, with_inputs
from nnc.ir.index import Size
from nnc.ir.scalar import OPS
from nnc.ir.types import DType
from nnc.passes.forms import element, form_node, map_form_reads, value_reads


@dataclass(frozen=True, slots=True)
class FoldOptions:
    """Limits: elements of a folded tensor, and points of the box that it takes to compute it."""

    elements: int = 4096
    points: int = 65536


def fold(graph: Graph, options: FoldOptions = FoldOptions()) -> Graph:
    """Return ``graph`` with constant reads and small constant tensors computed."""
    return Rebuilder(lambda node, inputs: fold_node(with_inputs(node, inputs), options))(graph)


def fold_apply(e: Apply) -> Expr | None:
    """Compute an operation of literals; None where an operand is none, or the result is NaN."""
    if not e.args or not all(isinstance(a, Const) for a in e.args):
        return None
    import numpy as np

    from nnc.ir.scalar import numbers

    values = [numbers.literal(a.value, a.dtype) for a in e.args if isinstance(a, Const)]
    types = (*(a.dtype for a in e.args), e.dtype)
    with np.errstate(all="ignore"):
        result = numbers.rounded(OPS[e.op].evaluate(values, types), e.dtype)
    number: Number = result.item()
    # A NaN is equal to nothing, itself included, and expressions are compared by structure.
    return None if isinstance(number, float) and math.isnan(number) else Const(number, e.dtype)


def fold_node(node: Node, options: FoldOptions = FoldOptions()) -> Node:
    """Return ``node`` with its constant operands read while compiling, or itself."""
    match node.op:
        case Reshape() if isinstance(node.inputs[0].op, Literal):
            return Node(node.inputs[0].op, (), node.type, node.span, node.name)
        case Form() as form:
            node = _read_constants(node, form)
            return _computed(node, options)
        case Literal(values) if len(values) > 1 and _uniform(values):
            return replace(full(node.type.shape, values[0], node.type.dtype), span=node.span)
    return node


def _uniform(values: tuple[Number, ...]) -> bool:
    first = values[0]
    return all(v == first and math.copysign(1, v) == math.copysign(1, first) for v in values)


def _read_constants(node: Node, form: Form) -> Node:
    """Replace reads of constant tensors, where the place does not matter or is constant."""
    found: dict[Read, Expr] = {}
    for read in (*value_reads(form), *value_reads(replace(form, body=form.where or form.body))):
        value = constant_at(node.inputs[read.operand], read)
        if value is not None:
            found[read] = value
    if not found:
        return node
    return form_node(map_form_reads(form, found), node.inputs, node.type, node.span, node.name)


def constant_at(source: Node, read: Read) -> Expr | None:
    """The literal that ``read`` of ``source`` always gives, or None."""
    inside = all(i == 0 or (isinstance(i, int) and isinstance(n, int) and 0 <= i < n)
                 for i, n in zip(read.index, source.type.shape, strict=True))  # fmt: skip
    if read.outside is None or inside:
        value = element(source, read.index)
        if isinstance(value, Const):
            return value
    match source.op:
        case Literal(values) if inside:
            place: Size = 0
            for i, n in zip(read.index, source.type.shape, strict=True):
                place = place * n + i
            return Const(values[place], read.dtype) if isinstance(place, int) else None
    return None


def _computed(node: Node, options: FoldOptions) -> Node:
    """Compute a small form of literals (or of nothing but its axes, where it varies)."""
    form, size = node.op, node.type.size
    assert isinstance(form, Form)
    points: Size = 1
    for _, extent in form.axes:
        points = points * extent
    if not (isinstance(size, int) and isinstance(points, int)):
        return node
    if size > options.elements or points > options.points or size == 0:
        return node
    if not all(isinstance(i.op, Literal) for i in node.inputs) or _is_uniform(form):
        return node
    if node.type.dtype in (DType.F16, DType.BF16) or not node.inputs or counters_in(node):
        return node
    from nnc.ir.interpret import evaluate_nodes

    values = tuple(evaluate_nodes([node], {})[0].ravel().tolist())
    if any(isinstance(v, float) and math.isnan(v) for v in values):
        return node
    made = Node(Literal(values), (), node.type, node.span, node.name)
    return fold_node(made, options)


def _is_uniform(form: Form) -> bool:
    return isinstance(form.body, Const) and form.reduce == "none" and form.where is None
