"""Dead code elimination.

A graph holds only what its outputs reach, so what can be dead is an output that nobody asks for,
or an operand that its form no longer reads.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from nnc.ir.graph import Form, Graph, Node, Rebuilder, with_inputs
from nnc.passes.forms import form_node
from nnc.passes.loops import prune


@dataclass(frozen=True, slots=True)
class DceOptions:
    """``keep``: the outputs (space, name) that are asked for; None keeps all."""

    keep: Collection[tuple[str, str]] | None = None


def dce(graph: Graph, options: DceOptions = DceOptions()) -> Graph:
    """Return ``graph`` with only the outputs asked for, and forms with only what they read."""
    kept = tuple(
        o for o in graph.outputs if options.keep is None or (o.space, o.name) in options.keep
    )
    return prune(Rebuilder(_without_unread)(Graph(graph.name, kept, graph.facts)))


def _without_unread(node: Node, inputs: tuple[Node, ...]) -> Node:
    if isinstance(node.op, Form):
        made = form_node(node.op, inputs, node.type, node.span, node.name)
        if made.op != node.op or made.inputs != node.inputs:
            return made
        return node
    return with_inputs(node, inputs)
