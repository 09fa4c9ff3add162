"""Turn an elementwise graph over one shape into the same graph over a flat block.

An optimizer that only looks at elements in the same place, and at scalars, computes the same
numbers whether it sees a matrix or its elements in a row. Flat, one loop serves every parameter
that shares the rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nnc.ir.expr import Expr, Read, map_reads, map_sizes
from nnc.ir.graph import Form, Leaf, Node, postorder
from nnc.ir.index import Size, axes_of, axis
from nnc.ir.types import TensorType

AXIS = "e"


def flatten(
    roots: Sequence[Node], shape: tuple[Size, ...], size: int, leaves: Mapping[Leaf, Leaf]
) -> list[Node] | None:
    """Rebuild ``roots``, replacing ``shape`` by ``(size,)`` and renaming leaves.

    ``leaves`` are those of this shape. Returns None where something other than elements in the
    same place and scalars is read, or where the shape is a scalar's (it needs no flattening).
    """
    if shape == ():
        return None
    done: dict[Node, Node] = {}
    for node in postorder(roots):
        inputs = tuple(done[i] for i in node.inputs)
        match node.op:
            case Leaf() as leaf:
                kind = TensorType(node.type.dtype, (size,)) if leaf in leaves else node.type
                done[node] = Node(leaves.get(leaf, leaf), (), kind, node.span, node.name)
            case Form() as form if node.type.shape == shape:
                flat = _flat_form(form, node, shape, size)
                if flat is None:
                    return None
                kind = TensorType(node.type.dtype, (size,))
                done[node] = Node(flat, inputs, kind, node.span, node.name)
            case _ if node.type.shape == () and all(i.type.shape == () for i in node.inputs):
                done[node] = Node(node.op, inputs, node.type, node.span, node.name)
            case _:
                return None
    return [done[root] for root in roots]


def _flat_form(form: Form, node: Node, shape: tuple[Size, ...], size: int) -> Form | None:
    names = [name for name, _ in form.axes]
    places = tuple(axis(name) for name in names)
    extents = dict(form.axes)
    if form.reduce != "none" or form.where is not None or form.drops:
        return None
    if sorted(map(str, form.out)) != sorted(map(str, places)):
        return None
    if tuple(extents[next(iter(axes_of(o)))] for o in form.out) != shape:
        return None
    failed = False

    def read(r: Read) -> Expr:
        nonlocal failed
        operand = node.inputs[r.operand].type.shape
        if operand == shape and r.index == form.out:
            return Read(r.operand, (axis(AXIS),), r.dtype)
        failed |= operand != ()
        return r

    body = map_reads(form.body, read)

    def only_scalars(s: Size) -> Size:
        nonlocal failed
        failed |= bool(axes_of(s) - {AXIS})
        return s

    body = map_sizes(body, only_scalars)
    if failed:
        return None
    return Form(((AXIS, size),), (axis(AXIS),), "none", body)
