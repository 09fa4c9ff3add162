"""Which parameters a gradient can reach from the losses, and what cuts off the others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from nnc.ir.expr import Apply, Expr, Read
from nnc.ir.graph import Custom, Derivative, Form, Leaf, Node, Reshape, Scan, postorder

_FLAT = frozenset({
    "stop_gradient", "floor", "ceil", "round", "eq", "ne", "lt", "le", "gt", "ge", "and", "or",
    "xor", "not", "floordiv", "mod",
})  # fmt: skip
"""Scalar operations whose derivative is 0 everywhere."""


def unreached(goals: Sequence[Node], paths: Iterable[str]) -> Iterator[tuple[str, list[Node]]]:
    """Yield each parameter that no gradient of ``goals`` reaches.

    With it come the nodes that do depend on it and at which the gradient ends; none where no goal
    depends on it at all.
    """
    order = postorder(goals)
    reached = _reached(goals)
    leaves = {n.op.name: n for n in order if isinstance(n.op, Leaf) and n.op.space == "state"}
    for path in paths:
        leaf = leaves.get(path)
        if leaf is None:
            yield path, []
        elif leaf not in reached:
            depends = _dependents(order, leaf)
            lost = depends.difference(reached)
            yield path, [n for n in reached if any(i in lost for i in n.inputs)]


def cut_off(goal: Node, by: Node) -> list[Node] | None:
    """Return where the gradient of ``goal`` by another node ends, None where it arrives.

    Of a node that ``goal`` is not made from there are none.
    """
    key = by.op if isinstance(by.op, Leaf) else None
    reached = _reached([goal])
    if any(n is by or (key is not None and n.op == key) for n in reached):
        return None
    order = postorder([goal])
    starts = {n for n in order if n is by or (key is not None and n.op == key)}
    lost = _dependents(order, *starts).difference(reached) if starts else set()
    return [n for n in reached if any(i in lost for i in n.inputs)]


def _reached(goals: Sequence[Node]) -> dict[Node, None]:
    """Return the nodes that a gradient reaches, in the order in which it does."""
    found: dict[Node, None] = dict.fromkeys(goals)
    stack = list(goals)
    while stack:
        for node in _differentiable(stack.pop()):
            if node not in found:
                found[node] = None
                stack.append(node)
    return found


def _dependents(order: Sequence[Node], *leaves: Node) -> set[Node]:
    found = set(leaves)
    for node in order:
        if any(i in found for i in node.inputs):
            found.add(node)
    return found


def _differentiable(node: Node) -> Iterator[Node]:
    """Yield the operands that a node's gradient passes to."""
    match node.op:
        case Reshape() | Derivative() | Scan():  # made from all that its operands are
            yield from node.inputs
        case Custom(_, gradients):
            pairs = zip(node.inputs[1:], gradients, strict=True)
            yield from (operand for operand, gradient in pairs if gradient is not None)
        case Form() as form if form.reduce not in ("argmax", "argmin", "any", "all"):
            operands = {read.operand for read in _smooth_reads(form.body)}
            yield from (node.inputs[k] for k in sorted(operands))
        case _:
            pass


def _smooth_reads(body: Expr) -> Iterator[Read]:
    stack, seen = [body], {body}
    while stack:
        e = stack.pop()
        if isinstance(e, Read):
            if e.dtype.is_float:
                yield e
        elif isinstance(e, Apply) and e.op not in _FLAT and e.dtype.is_float:
            # a written derivative passes to what it is taken with respect to, not to the value
            parts = e.args[1::2] if e.op == "with_gradient" else e.args
            fresh = [a for a in parts if a not in seen]
            seen.update(fresh)
            stack += fresh
