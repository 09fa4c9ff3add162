"""Small graphs, and changes of graphs, that making a program's entries needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nnc.ir import build
from nnc.ir.graph import Graph, Leaf, Node, Output, postorder, with_inputs
from nnc.ir.types import DType, TensorType


def average(kind: TensorType, decay: float) -> Graph:
    """Keep a moving average of all trainable parameters; the first step's are where it begins.

    ``kind`` is the type of their block.

    Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", 1992.
    """
    before = build.leaf("state", "*ema", kind)
    now = build.leaf("state", "*trainable", kind)

    def share(value: float) -> Node:
        return build.full(kind.shape, value, kind.dtype)

    mixed = build.elementwise(
        "add",
        build.elementwise("mul", share(decay), before),
        build.elementwise("mul", share(1.0 - decay), now),
    )
    step = build.leaf("system", "step", TensorType(DType.I64))
    first = build.elementwise("le", step, build.full((), 1, DType.I64))
    first = build.broadcast(first, kind.shape)
    result = Output("state", "*ema", build.elementwise("select", first, now, mixed))
    return Graph("average", (result,))


def add_all(nodes: Sequence[Node]) -> Node:
    """Return the sum of scalars."""
    total = nodes[0]
    for node in nodes[1:]:
        total = build.elementwise("add", total, node)
    return total


def rename_leaves(roots: Sequence[Node], names: Mapping[Leaf, Leaf]) -> list[Node]:
    """Return ``roots`` reading other leaves."""
    done: dict[Node, Node] = {}
    for node in postorder(roots):
        if isinstance(node.op, Leaf) and node.op in names:
            done[node] = Node(names[node.op], (), node.type, node.span, node.name)
        else:
            done[node] = with_inputs(node, tuple(done[i] for i in node.inputs))
    return [done[root] for root in roots]
