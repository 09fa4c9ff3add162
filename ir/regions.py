"""Which nodes of a graph each loop computes, and in what order.

A node belongs to the innermost loop whose carries or counter it depends on; one that depends on
none is computed once, whatever loop reads it. Thus moving work out of loops needs no pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, Union

from nnc.ir.graph import Leaf, Loop, Node, Scan, counters_in, postorder


class LoopError(ValueError):
    """Nodes that no nest of loops computes; ``node`` is one of them."""

    def __init__(self, node: Node, reason: str) -> None:
        super().__init__(reason)
        self.node = node


@dataclass(slots=True)
class Region:
    """What one loop computes in a turn; of the whole graph, ``loop`` is None.

    ``items`` are in order, loops inside among them; ``results`` are the nodes by which a loop's
    values are known outside.
    """

    loop: Loop | None
    items: list[Item] = field(default_factory=list)
    results: list[Node] = field(default_factory=list)

    def nodes(self) -> list[Node]:
        """All nodes computed in it, those of loops inside and their results too, in order."""
        found: list[Node] = []
        for item in self.items:
            if isinstance(item, Region):
                found += [*item.nodes(), *item.results]
            else:
                found.append(item)
        return found

    def carried(self) -> dict[str, tuple[Node, Node]]:
        """The first value of each carry, and the one after a turn."""
        node = self.results[0]
        assert isinstance(node.op, Scan)
        op = node.op
        pairs = zip(op.inits(node), op.nexts(node), strict=True)
        return dict(zip(op.loop.carries, pairs, strict=True))


Item: TypeAlias = Union[Node, Region]  # noqa: UP007 - recursive


def carry_of(node: Node) -> str | None:
    """The loop whose carry a leaf is."""
    if isinstance(node.op, Leaf) and node.op.space == "carry":
        return node.op.name.partition(".")[0]
    return None


def dependence(order: Sequence[Node]) -> dict[Node, frozenset[str]]:
    """The loops whose turns each node of a postorder varies with."""
    around: dict[str, frozenset[str]] = {}
    while True:
        found = _dependence(order, around)
        new = dict(around)
        for node in order:
            if isinstance(node.op, Scan):
                name = node.op.loop.name
                new[name] = new.get(name, frozenset()) | found[node]
        if new == around:
            return found
        around = new


def _dependence(
    order: Iterable[Node], around: Mapping[str, frozenset[str]]
) -> dict[Node, frozenset[str]]:
    """``around`` tells the loops that each loop is known to be in: so are all of its results."""
    found: dict[Node, frozenset[str]] = {}
    none: frozenset[str] = frozenset()
    for node in order:
        mine = none.union(*(found[i] for i in node.inputs)) if node.inputs else none
        if isinstance(node.op, Scan):
            name = node.op.loop.name
            mine = (mine | around.get(name, none)) - {name}
        elif isinstance(node.op, Leaf):
            loop = carry_of(node)
            mine = none if loop is None else frozenset({loop})
        else:
            mine |= counters_in(node)
        found[node] = mine
    return found


def regions(roots: Iterable[Node], *, inside: bool = False) -> Region:
    """Return the nest of loops that computes ``roots``. Raises LoopError where there is none.

    With ``inside`` the roots may be within a turn of loops around them, which are left out.
    """
    order = postorder(roots)
    top = Region(None)
    if not any(isinstance(n.op, Scan) for n in order):
        stray = next((n for n in order if carry_of(n) or counters_in(n)), None)
        if stray is not None and not inside:
            raise LoopError(stray, "it depends on a loop that it is not in")
        top.items += order
        return top
    depends = dependence(order)
    if inside:
        known = {n.op.loop.name for n in order if isinstance(n.op, Scan)}
        depends = {n: loops & known for n, loops in depends.items()}
    return _Nest(order, depends, top).run()


@dataclass(slots=True)
class _Nest:
    order: Sequence[Node]
    depends: Mapping[Node, frozenset[str]]
    top: Region
    loops: dict[str, Region] = field(default_factory=dict)
    around: dict[str, frozenset[str]] = field(default_factory=dict)

    def run(self) -> Region:
        for node in self.order:
            if isinstance(node.op, Scan):
                loop = node.op.loop
                region = self.loops.setdefault(loop.name, Region(loop))
                if region.results and not _alike(region.results[0], node):
                    raise LoopError(node, f"the results of {loop.name} differ in their loop")
                region.results.append(node)
                around = self.around.get(loop.name, frozenset())
                self.around[loop.name] = around | self.depends[node]
        units = {node: self._path(node) for node in self.order}
        edges: dict[object, dict[object, None]] = {}
        members: dict[object, list[object]] = {None: []}
        for node, path in units.items():
            self._note(node, path, members)
            for source in node.inputs:
                self._edge(path, units[source], edges)
        for name, region in (("", self.top), *self.loops.items()):
            region.items += self._sorted(members.get(name or None, []), edges)
        return self.top

    def _path(self, node: Node) -> tuple[object, ...]:
        """The loops around a node from outside, then what stands for it there."""
        mine = self.depends[node]
        if mine - self.loops.keys():
            raise LoopError(node, "it depends on a loop that it is not in")
        chain: list[object] = []
        inner = frozenset[str]().union(mine, *(self._outer(n) for n in mine))
        for name in sorted(inner, key=lambda n: (len(self._outer(n)), n)):
            if self._outer(name) != frozenset(chain):
                raise LoopError(node, "it depends on two loops of which neither is in the other")
            chain.append(name)
        unit = node.op.loop.name if isinstance(node.op, Scan) else node
        return (*chain, unit)

    def _outer(self, name: str) -> frozenset[str]:
        found, pending = set[str](), [name]
        while pending:
            for other in self.around.get(pending.pop(), ()):
                if other == name:
                    raise LoopError(self.loops[name].results[0], "a loop inside itself")
                if other not in found:
                    found.add(other)
                    pending.append(other)
        return frozenset(found)

    def _note(
        self, node: Node, path: tuple[object, ...], members: dict[object, list[object]]
    ) -> None:
        home = path[-2] if len(path) > 1 else None
        listed = members.setdefault(home, [])
        if path[-1] not in listed[-1:]:
            listed.append(path[-1])

    def _edge(
        self,
        user: tuple[object, ...],
        source: tuple[object, ...],
        edges: dict[object, dict[object, None]],
    ) -> None:
        """Order what stands for two nodes in the innermost loop around both."""
        level = len(source) - 1
        if len(user) > level and user[:level] == source[:level] and user[level] != source[level]:
            edges.setdefault(user[level], {})[source[level]] = None

    def _sorted(
        self, members: Sequence[object], edges: Mapping[object, dict[object, None]]
    ) -> list[Item]:
        order: list[Item] = []
        done: set[object] = set()
        open_: set[object] = set()
        for root in members:
            stack = [(root, False)]
            while stack:
                unit, ready = stack.pop()
                if unit in done:
                    continue
                if ready:
                    done.add(unit)
                    order.append(self.loops[unit] if isinstance(unit, str) else self._node(unit))
                    continue
                if unit in open_:
                    raise LoopError(self._example(unit), "a loop needs a result of its own")
                open_.add(unit)
                stack.append((unit, True))
                needs = [n for n in edges.get(unit, ()) if n not in done]
                stack.extend((n, False) for n in reversed(needs))
        return order

    def _node(self, unit: object) -> Node:
        assert isinstance(unit, Node)
        return unit

    def _example(self, unit: object) -> Node:
        return self.loops[unit].results[0] if isinstance(unit, str) else self._node(unit)


def _alike(a: Node, b: Node) -> bool:
    assert isinstance(a.op, Scan)
    assert isinstance(b.op, Scan)
    n = 2 * len(a.op.loop.carries)
    return a.op.loop == b.op.loop and a.inputs[:n] == b.inputs[:n]
