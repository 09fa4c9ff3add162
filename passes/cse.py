"""Common subexpression elimination: nodes that compute the same tensor become one."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field

from nnc.ir.expr import Apply, Const, Expr, Position, Read, map_operands, sizes_in
from nnc.ir.graph import Form, Graph, Leaf, Literal, Node, Output, Reshape, Scan, with_inputs
from nnc.ir.index import Axis, Size, axis
from nnc.passes.forms import substitute_form
from nnc.passes.rewrite import COMMUTATIVE


def cse(graph: Graph) -> Graph:
    """Return an equal graph in which no two nodes compute the same by the same operations.

    Forms are the same up to the names of their axes, the order of reduced axes where it does not
    matter, and the order of operands of commutative operations; leaves by space and name. The
    first written stays, with its span and name.
    """
    table = _Table()
    done: dict[Node, Node] = {}
    for node in graph.nodes():
        new = with_inputs(node, tuple(done[i] for i in node.inputs))
        done[node] = table.first(new)
    outputs = tuple(Output(o.space, o.name, done[o.node]) for o in graph.outputs)
    return Graph(graph.name, outputs, graph.facts)


@dataclass(slots=True)
class _Table:
    """Nodes by structure; every structure met has a number, so that keys stay small."""

    nodes: dict[Hashable, Node] = field(default_factory=dict)
    place: dict[Node, int] = field(default_factory=dict)
    numbers: dict[Hashable, int] = field(default_factory=dict)

    def first(self, node: Node) -> Node:
        """The node that was first seen to compute the same."""
        found = self.nodes.setdefault(self._key(node), node)
        self.place.setdefault(found, len(self.place))
        return found

    def _key(self, node: Node) -> Hashable:
        inputs = tuple(self.place[i] for i in node.inputs)
        match node.op:
            case Leaf(space, name):
                return "leaf", space, name, node.type
            case Literal(values):
                return "literal", tuple(repr(v) for v in values), node.type
            case Reshape():
                return "reshape", inputs, node.type
            case Scan() as scan:
                return scan, inputs, node.type
            case Form() as form:
                return "form", self._form(form, inputs), node.type
        return "itself", id(node)

    def _form(self, form: Form, inputs: tuple[int, ...]) -> Hashable:
        order = list(dict.fromkeys([*_axes_met(form), *(a for a, _ in form.axes)]))
        if form.reduce.startswith("arg"):
            order = [a for a, _ in form.axes]
        extents = dict(form.axes)
        names = {a: f"{k}" for k, a in enumerate(order)}
        renamed = substitute_form(
            form, {a: axis(n) for a, n in names.items()}, [(names[a], extents[a]) for a in order]
        )
        out = tuple(self._size(o, inputs) for o in renamed.out)
        where = None if renamed.where is None else self._expr(renamed.where, inputs)
        body = self._expr(renamed.body, inputs)
        return renamed.axes, out, form.reduce, body, where, form.drops

    def _size(self, size: Size, inputs: tuple[int, ...]) -> Size:
        moved = map_operands(Position(size), inputs.__getitem__)
        assert isinstance(moved, Position)
        return moved.index

    def _expr(self, expr: Expr, inputs: tuple[int, ...]) -> int:
        """A number that equal expressions share."""
        memo: dict[Expr, int] = {}

        def go(e: Expr) -> int:
            done = memo.get(e)
            if done is None:
                done = memo[e] = self._number(key(e))
            return done

        def key(e: Expr) -> Hashable:
            match e:
                case Const(value, dtype):
                    # By text: 0 and -0 are equal numbers, but not the same.
                    return "const", repr(value), dtype
                case Position(index, dtype):
                    return "position", self._size(index, inputs), dtype
                case Read(operand, index, dtype, outside):
                    at = tuple(self._size(i, inputs) for i in index)
                    return "read", inputs[operand], at, dtype, repr(outside)
                case Apply(op, args, dtype):
                    parts = [go(a) for a in args]
                    return op, tuple(sorted(parts) if op in COMMUTATIVE else parts), dtype

        return go(expr)

    def _number(self, key: Hashable) -> int:
        return self.numbers.setdefault(key, len(self.numbers))


def _axes_met(form: Form) -> Iterator[str]:
    """Axes in the order in which the result and the reads of the body mention them."""
    for size in (*form.out, *sizes_in(form.body)):
        if not isinstance(size, int):
            for atom in size.all_atoms():
                if isinstance(atom, Axis):
                    yield atom.name
