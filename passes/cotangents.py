"""Cotangents gathered per tensor while a graph is walked backwards."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from nnc.ir.graph import Leaf, Node
from nnc.passes.forms import sum_of

Key: TypeAlias = "Leaf | Node"


class NotDifferentiable(Exception):
    """A tensor whose derivative is asked for but has no rule; ``node`` says which and where."""

    def __init__(self, node: Node, reason: str) -> None:
        super().__init__(reason)
        self.node = node


def key_of(node: Node) -> Key:
    """What stands for a tensor: leaves of one space and name are one."""
    return node.op if isinstance(node.op, Leaf) else node


def derived(node: Node) -> str:
    """What to call a cotangent of ``node``."""
    return f"d_{node.name}" if node.name else ""


@dataclass(slots=True)
class Sums:
    """Cotangents per tensor, in the order given."""

    parts: dict[Key, list[Node]] = field(default_factory=dict)
    nodes: dict[Key, Node] = field(default_factory=dict)

    def give(self, node: Node, cotangent: Node) -> None:
        """Add a part of the cotangent of ``node``."""
        key = key_of(node)
        self.nodes.setdefault(key, node)
        self.parts.setdefault(key, []).append(cotangent)

    def total(self, node: Node) -> Node | None:
        """The sum of what was given so far; None of nothing."""
        parts = self.parts.get(key_of(node))
        if parts is None:
            return None
        if len(parts) > 1:
            parts[:] = [sum_of(parts, node.span, derived(node))]
        return parts[0]
