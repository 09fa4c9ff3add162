"""What all classes of the syntax tree have in common, and walks over trees.

The tree has sixty small classes, and every start of the command makes them all. ``dataclass`` would
write and compile four functions for each; here they share those of one base.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from typing import Any, Self, cast, dataclass_transform

from nnc.ir.span import Span

CLASSES: dict[str, type[Node]] = {}
"""The classes of the tree by name."""


@dataclass_transform(eq_default=False, frozen_default=True, field_specifiers=(field,))
class NodeType(type):
    """Gives a class a slot for each annotated field; they are matched by position, in order."""

    fields: tuple[str, ...]

    def __new__(mcs, name: str, bases: tuple[type, ...], body: dict[str, Any]) -> NodeType:
        """Make a class of the tree."""
        slots = tuple(body.get("__annotations__", ()))
        fields = slots if bases else ()
        kept = {key: value for key, value in body.items() if key not in slots}
        made = super().__new__(
            mcs, name, bases, {**kept, "__slots__": slots, "__match_args__": fields}
        )
        made.fields = fields
        CLASSES[name] = cast("type[Node]", made)
        return made


class Node(metaclass=NodeType):
    """Anything written in a file. ``span`` is given by name, never by position.

    Nodes do not change, and are equal only to themselves.
    """

    span: Span = field(kw_only=True)

    def __init__(self, *values: Any, span: Span) -> None:
        fields = type(self).fields
        if len(values) != len(fields):
            raise TypeError(f"{type(self).__name__} has {len(fields)} fields, not {len(values)}")
        fill = object.__setattr__
        fill(self, "span", span)
        for name, value in zip(fields, values, strict=True):
            fill(self, name, value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} does not change")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} does not change")

    def __repr__(self) -> str:
        fields = (f"{name}={getattr(self, name)!r}" for name in type(self).fields)
        return f"{type(self).__name__}({', '.join(fields)})"

    def but(self, **changed: Any) -> Self:
        """Return this node with other values of some fields."""
        values = [changed.pop(name, getattr(self, name)) for name in type(self).fields]
        return type(self)(*values, **{"span": self.span, **changed})


def children(node: Node) -> Iterator[Node]:
    """Yield the nodes directly inside ``node``, in source order."""
    for name in type(node).fields:
        value = getattr(node, name)
        if isinstance(value, Node):
            yield value
        elif isinstance(value, tuple):
            yield from (v for v in value if isinstance(v, Node))


def walk(root: Node) -> Iterator[Node]:
    """Yield ``root`` and everything in it, a node before its parts, without recursion."""
    stack = [root]
    while stack:
        node = stack.pop()
        yield node
        stack.extend(reversed(list(children(node))))


def same(a: Node, b: Node) -> bool:
    """Whether two trees are equal but for their spans."""
    stack: list[tuple[Any, Any]] = [(a, b)]
    while stack:
        x, y = stack.pop()
        if type(x) is not type(y):
            return False
        if isinstance(x, Node):
            names = type(x).fields
            stack.extend((getattr(x, n), getattr(y, n)) for n in names)
        elif isinstance(x, tuple):
            if len(x) != len(y):
                return False
            stack.extend(zip(x, y, strict=True))
        elif not isinstance(x, Span) and x != y:
            return False
    return True
