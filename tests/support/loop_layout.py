"""A place for every leaf and output of a graph, for tests that lower it."""

from __future__ import annotations

from nnc.ir.graph import Graph, Leaf, postorder
from nnc.ir.loops import Buffer


def loop_layout(graph: Graph) -> list[Buffer]:
    types = {
        f"{node.op.space}:{node.op.name}": node.type
        for node in postorder(o.node for o in graph.outputs)
        if isinstance(node.op, Leaf)
    }
    types |= {f"{o.space}:{o.name}": o.node.type for o in graph.outputs}
    return [Buffer(key, t.dtype, t.shape, "state") for key, t in types.items()]
