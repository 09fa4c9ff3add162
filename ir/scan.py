"""Builds loops: their carries, their results, and views of tensors at the counter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count

from nnc.ir.build import axes_for, form, read, subscripts
from nnc.ir.graph import Leaf, Loop, Node, Scan
from nnc.ir.index import Size
from nnc.ir.span import Span
from nnc.ir.types import TensorType

_NUMBERS = count(1)
QUOTE = "'"


def fresh_loop(stem: str = "loop") -> str:
    """Return a name that no other loop has."""
    return f"{stem.partition(QUOTE)[0]}{QUOTE}{next(_NUMBERS)}"


def carry_leaf(loop: str, name: str, type: TensorType, span: Span | None = None) -> Node:
    """Return the value of a carry within a turn."""
    return Node(Leaf("carry", f"{loop}.{name}"), (), type, span, f"{loop}.{name}")


class Results:
    """A loop whose body is known: makes its results."""

    def __init__(
        self,
        loop: Loop,
        inits: Sequence[Node],
        nexts: Sequence[Node],
        span: Span | None = None,
    ) -> None:
        self.loop = loop
        self.operands = (*inits, *nexts)
        self.span = span

    @staticmethod
    def of(node: Node) -> Results:
        """The loop that ``node`` is a result of."""
        assert isinstance(node.op, Scan)
        return Results(node.op.loop, node.op.inits(node), node.op.nexts(node), node.span)

    def _type(self, carry: str) -> TensorType:
        return self.operands[self.loop.carries.index(carry)].type

    def last(self, carry: str, name: str = "") -> Node:
        """The last value of a carry."""
        op = Scan(self.loop, "last", carry)
        return Node(op, self.operands, self._type(carry), self.span, name)

    def history(self, carry: str, name: str = "") -> Node:
        """A carry before each turn, and after the last one."""
        type = self._type(carry)
        kind = TensorType(type.dtype, (self.loop.extent + 1, *type.shape))
        return Node(Scan(self.loop, "history", carry), self.operands, kind, self.span, name)

    def stack(self, node: Node, name: str = "") -> Node:
        """What ``node`` is in every turn, along a new first dim."""
        kind = TensorType(node.type.dtype, (self.loop.extent, *node.type.shape))
        op = Scan(self.loop, "stack")
        return Node(op, (*self.operands, node), kind, node.span or self.span, name)


def at(tensor: Node, place: Size, name: str = "") -> Node:
    """Return ``tensor[place, ...]``."""
    axes = axes_for(tensor.type.shape[1:])
    here = subscripts(axes)
    body = read(tensor, 0, place, *here)
    shape = tensor.type.shape[1:]
    return form(axes, here, body, (tensor,), shape, span=tensor.span, name=name)


def copied(node: Node, name: str = "") -> Node:
    """Return a tensor of its own that equals ``node``."""
    axes = axes_for(node.type.shape)
    here = subscripts(axes)
    body = read(node, 0, *here)
    return form(axes, here, body, (node,), node.type.shape, span=node.span, name=name or node.name)


def renamed(loop: Loop, name: str, carries: Mapping[str, str] | None = None) -> Loop:
    """Return ``loop`` under another name."""
    return Loop(name, loop.extent, loop.carries, loop.reverse, loop.until)
