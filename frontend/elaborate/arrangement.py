"""Primitives that move elements: reshape, transpose, split, pad, concat, stack; and sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from nnc.frontend.elaborate.convert import Operand, common_type, to_expr, to_node
from nnc.frontend.elaborate.elaborator import wrong_value
from nnc.frontend.elaborate.faults import fault
from nnc.frontend.elaborate.reductions import place, tensor
from nnc.frontend.elaborate.types import at_least, equal, spell, type_name
from nnc.frontend.elaborate.values import Element, Float, Int, Tensor, TupleValue, Value, describe
from nnc.ir import build, scalar
from nnc.ir.expr import Const, Expr, Number
from nnc.ir.graph import Node, Reshape
from nnc.ir.index import Size, exact_div, product
from nnc.ir.span import Span
from nnc.ir.types import TensorType

if TYPE_CHECKING:
    from nnc.frontend.elaborate.elaborator import Elaborator

Given = Mapping[str, Operand]


def sizes(operand: Operand) -> tuple[Size, ...]:
    """Return a tuple of whole numbers, or one of them, as sizes."""
    value = operand.value
    items = value.items if isinstance(value, TupleValue) else (value,)
    found: list[Size] = []
    for item in items:
        if not isinstance(item, Int):
            raise wrong_value("a size, or several in brackets", value, operand.span)
        found.append(item.size)
    return tuple(found)


def reshape(elab: Elaborator, given: Given, span: Span) -> Value:
    """Give the same elements another shape; one dim may be -1, which takes what is left."""
    node = tensor(elab, given["x"])
    shape = list(sizes(given["shape"]))
    total = node.type.size
    if -1 in shape:
        at = shape.index(-1)
        rest = exact_div(total, product(shape[:at] + shape[at + 1 :]))
        if rest is None or -1 in shape[at + 1 :]:
            raise _no_reshape(given, node, shape, span)
        shape[at] = rest
    if any(isinstance(d, int) and d < 0 for d in shape):
        raise fault("E0211", "a dim is negative", given["shape"].span, spell(shape))
    wanted = product(shape)
    if not equal(total, wanted, elab.facts):
        raise _no_reshape(given, node, shape, span)
    if total == wanted:
        return Tensor(build.reshape(node, shape, span))
    return Tensor(Node(Reshape(), (node,), TensorType(node.type.dtype, tuple(shape)), span))


def _no_reshape(given: Given, node: Node, shape: Sequence[Size], span: Span) -> Exception:
    return fault(
        "E0204",
        f"{spell(node.type.shape)} has not as many elements as {spell(shape)}",
        span,
        f"{node.type.size} and {product(shape)}",
        related=[given["x"].related],
    )


def transpose(elab: Elaborator, given: Given, span: Span) -> Value:
    """Swap the last two dims, or order all dims as ``axes`` says."""
    operand = given["x"]
    node = tensor(elab, operand)
    rank = node.type.rank
    if "axes" not in given:
        if rank < 2:
            raise fault("E0229", "transpose needs two dims", operand.span, describe(operand.value))
        return Tensor(build.transpose(node, [*range(rank - 2), rank - 1, rank - 2], span))
    axes = given["axes"]
    items = axes.value.items if isinstance(axes.value, TupleValue) else (axes.value,)
    order = [place(item, rank, axes, operand) for item in items]
    if sorted(order) != list(range(rank)):
        raise fault(
            "E0229", "each axis must be named once", axes.span, f"{rank} axes are to be ordered",
            related=[operand.related],
        )  # fmt: skip
    return Tensor(build.transpose(node, order, span))


def _axis(given: Given, node: Node, default: int = -1) -> int:
    operand = given.get("axis")
    of = given["x"]
    if node.type.rank == 0:
        raise fault("E0229", "a scalar has no axes", of.span, describe(of.value))
    if operand is None:
        return default % node.type.rank
    return place(operand.value, node.type.rank, operand, of)


def cut(
    node: Node, along: int, start: Size, extent: Size, span: Span | None, step: int = 1
) -> Node:
    """Return ``extent`` places of dim ``along`` from ``start``, every ``step``-th."""
    shape = list(node.type.shape)
    if start == 0 and step == 1 and shape[along] == extent:
        return node
    shape[along] = extent
    axes = build.axes_for(shape)
    here = build.subscripts(axes)
    index: list[Size] = list(here)
    index[along] = start + step * here[along]
    return build.form(axes, here, build.read(node, 0, *index), (node,), shape, span=span)


def split(elab: Elaborator, given: Given, span: Span) -> Value:
    """Cut a dim, by default the last, into a number of equal parts or parts of given sizes."""
    node = tensor(elab, given["x"])
    along = _axis(given, node)
    whole = node.type.shape[along]
    operand = given["parts"]
    if isinstance(operand.value, TupleValue):
        parts = sizes(operand)
        total: Size = 0
        for part in parts:
            total = total + part
        if not equal(total, whole, elab.facts):
            raise fault(
                "E0204", f"the parts make {total} together, the dim is {whole}", operand.span,
                related=[given["x"].related],
            )  # fmt: skip
    else:
        parts = _equal_parts(operand, whole, given)
    pieces: list[Value] = []
    start: Size = 0
    for part in parts:
        pieces.append(Tensor(cut(node, along, start, part, span)))
        start = start + part
    return TupleValue(tuple(pieces))


def _equal_parts(operand: Operand, whole: Size, given: Given) -> tuple[Size, ...]:
    n = operand.value.size if isinstance(operand.value, Int) else None
    if not isinstance(n, int) or n < 1:
        raise wrong_value("a number of parts, at least 1", operand.value, operand.span)
    part = exact_div(whole, n)
    if part is None:
        raise fault(
            "E0210", f"a dim of {whole} does not divide into {n} equal parts", operand.span,
            related=[given["x"].related],
        )  # fmt: skip
    return (part,) * n


def pad(elab: Elaborator, given: Given, span: Span) -> Value:
    """Put ``before`` and ``after`` places of ``value`` (0) round a dim, by default the last."""
    node = tensor(elab, given["x"])
    along = _axis(given, node)
    before, after = (_amount(elab, given[side]) for side in ("before", "after"))
    fill = _fill(elab, given.get("value"), node)
    shape = list(node.type.shape)
    shape[along] = before + shape[along] + after
    axes = build.axes_for(shape)
    here = build.subscripts(axes)
    index: list[Size] = list(here)
    index[along] = here[along] - before
    body = build.read(node, 0, *index, outside=fill)
    return Tensor(build.form(axes, here, body, (node,), shape, span=span))


def _amount(elab: Elaborator, operand: Operand) -> Size:
    value = operand.value
    if not isinstance(value, Int) or not at_least(value.size, 0, elab.facts):
        raise wrong_value("a size, at least 0", value, operand.span)
    return value.size


def _fill(elab: Elaborator, operand: Operand | None, node: Node) -> Number:
    if operand is None:
        return node.type.dtype.zero
    value = to_expr(elab, elab.outside, operand, node.type.dtype)
    if not isinstance(value, Const):
        raise wrong_value("a number known at compile time", operand.value, operand.span)
    return value.value


def shape_of(elab: Elaborator, given: Given, span: Span) -> Value:
    """Return the dims of a tensor as whole numbers; of one axis; or with another size there."""
    dims = _shape(elab, given["x"])
    if "axis" not in given:
        if "size" in given:
            raise fault("E0209", "the size of which axis?", given["size"].span,
                        hint="shape(x, axis = ..., size = ...)")  # fmt: skip
        return TupleValue(tuple(Int(size) for size in dims))
    at = place(given["axis"].value, len(dims), given["axis"], given["x"])
    if "size" not in given:
        return Int(dims[at])
    return TupleValue(tuple(Int(d) for d in (*dims[:at], *sizes(given["size"]), *dims[at + 1 :])))


def size_of(elab: Elaborator, given: Given, span: Span) -> Value:
    """Return the number of elements of a tensor."""
    return Int(product(_shape(elab, given["x"])))


def rank_of(elab: Elaborator, given: Given, span: Span) -> Value:
    """Return the number of dims of a tensor."""
    return Int(len(_shape(elab, given["x"])))


def _shape(elab: Elaborator, operand: Operand) -> tuple[Size, ...]:
    if isinstance(operand.value, Element | Float | Int):
        return ()
    return tensor(elab, operand).type.shape


def _parts(
    elab: Elaborator, operands: Sequence[Operand], axis_given: Operand | None, span: Span
) -> list[Node]:
    parts: list[Operand] = []
    for operand in operands:
        items = operand.value.items if isinstance(operand.value, TupleValue) else None
        if items is None:
            parts.append(operand)
        else:
            parts.extend(Operand(item, operand.span) for item in items)
    dtype = common_type(elab, parts, span)
    return [to_node(elab, p, dtype) for p in parts]


def concat(
    elab: Elaborator, operands: Sequence[Operand], axis_given: Operand | None, span: Span
) -> Value:
    """Join tensors along a dim, by default the last; their other dims are equal."""
    nodes = _parts(elab, operands, axis_given, span)
    first = nodes[0].type.shape
    given = {"x": operands[0]} | ({"axis": axis_given} if axis_given is not None else {})
    along = _axis(given, nodes[0])
    for k, node in enumerate(nodes[1:], 1):
        other = node.type.shape
        fits = len(other) == len(first) and all(
            d == along or equal(a, b, elab.facts)
            for d, (a, b) in enumerate(zip(first, other, strict=True))
        )
        if not fits:
            blamed = operands[min(k, len(operands) - 1)]
            raise fault(
                "E0204",
                f"{spell(other)} cannot follow {spell(first)} along axis {along}",
                span,
                "the other dims must be equal",
                related=[operands[0].related, blamed.related],
            )
    return Tensor(_join(nodes, along, span))


def _join(nodes: Sequence[Node], along: int, span: Span) -> Node:
    shape = list(nodes[0].type.shape)
    starts: list[Size] = [0]
    for node in nodes:
        starts.append(starts[-1] + node.type.shape[along])
    shape[along] = starts[-1]
    axes = build.axes_for(shape)
    here = build.subscripts(axes)
    guard = nodes[0].type.dtype.zero if len(nodes) > 1 else None
    parts: list[Expr] = []
    for k, node in enumerate(nodes):
        index: list[Size] = list(here)
        index[along] = here[along] - starts[k]
        parts.append(build.read(node, k, *index, outside=guard))
    body = _choose(parts, starts, here[along])
    return build.form(axes, here, body, nodes, shape, span=span)


def _choose(parts: Sequence[Expr], starts: Sequence[Size], at: Size) -> Expr:
    """Return the part whose range ``at`` lies in: part k begins at ``starts[k]``.

    The choices are halved, so that their depth is small however many there are.
    """
    if len(parts) == 1:
        return parts[0]
    middle = len(parts) // 2
    before = scalar.apply("lt", scalar.position(at), scalar.position(starts[middle]))
    low = _choose(parts[:middle], starts[:middle], at)
    high = _choose(parts[middle:], starts[middle:], at)
    return scalar.select(before, low, high)


def stack(
    elab: Elaborator, operands: Sequence[Operand], axis_given: Operand | None, span: Span
) -> Value:
    """Join tensors of one shape along a new dim, by default the first."""
    nodes = _parts(elab, operands, axis_given, span)
    return Tensor(stacked(elab, nodes, axis_given, operands[0], span))


def stacked(
    elab: Elaborator, nodes: Sequence[Node], axis_given: Operand | None, of: Operand, span: Span
) -> Node:
    """Join nodes of one shape along a new dim; Fault where their shapes differ."""
    first = nodes[0].type
    for node in nodes[1:]:
        same = (
            node.type.dtype is first.dtype
            and node.type.rank == first.rank
            and all(
                equal(a, b, elab.facts) for a, b in zip(first.shape, node.type.shape, strict=True)
            )
        )
        if not same:
            raise fault(
                "E0204", "tensors of different shapes cannot be stacked", span,
                f"{type_name(first)} and {type_name(node.type)}",
            )  # fmt: skip
    along = 0
    if axis_given is not None:
        along = place(axis_given.value, first.rank + 1, axis_given, of)
    shape = [*first.shape[:along], len(nodes), *first.shape[along:]]
    axes = build.axes_for(shape)
    here = build.subscripts(axes)
    index = [*here[:along], *here[along + 1 :]]
    parts: list[Expr] = [build.read(node, k, *index) for k, node in enumerate(nodes)]
    body = _choose(parts, range(len(nodes)), here[along])
    return build.form(axes, here, body, nodes, shape, span=span)


FUNCTIONS: dict[str, Callable[[Elaborator, Given, Span], Value]] = {
    "reshape": reshape,
    "transpose": transpose,
    "split": split,
    "pad": pad,
    "shape": shape_of,
    "size": size_of,
    "rank": rank_of,
}
