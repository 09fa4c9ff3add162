"""Where the values of a loop lie: carries in slots of one buffer, stacks slice by slice.

A carry has two slots, used in turns, or where every turn's value is asked for one for each turn
and one more: then a turn reads where the last one wrote, and nothing is ever copied. A slot is a
buffer inside another whose offset holds the turn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from nnc.ir.graph import Form, Graph, Leaf, Loop, Node, Rebuilder, Scan, with_inputs
from nnc.ir.index import Atom, Counter, Size, mod
from nnc.ir.regions import Region
from nnc.ir.scan import Results, at
from nnc.ir.types import DType
from nnc.passes.schedule.stage import root

NewScratch = Callable[[str, DType, Size], str]
NewPart = Callable[[str, Size, Size], str]


def with_histories(graph: Graph) -> Graph:
    """Read a carry's values in all turns from its slots, where they are stacked."""
    stacks = [n for n in graph.nodes() if isinstance(n.op, Scan) and n.op.result == "stack"]
    wanted = {(n.op.loop, c) for n in stacks if isinstance(n.op, Scan) and (c := _carry(n, n.op))}
    if not wanted:
        return graph

    def change(node: Node, inputs: tuple[Node, ...]) -> Node:
        new = with_inputs(node, inputs)
        op = new.op
        if not isinstance(op, Scan):
            return new
        loop = op.loop
        if op.result == "last" and (loop, op.carry) in wanted:
            history = Results.of(new).history(op.carry)
            return at(history, 0 if loop.reverse else loop.extent, node.name)
        carry = _carry(new, op) if op.result == "stack" else None
        if carry is None:
            return new
        before = isinstance(new.inputs[-1].op, Leaf)
        return _slots(Results.of(new).history(carry), loop, int(before is loop.reverse), node)

    return Rebuilder(change)(graph)


def _carry(node: Node, op: Scan) -> str | None:
    """The carry whose value, before or after a turn, is stacked."""
    source = node.inputs[-1]
    for carry, new in zip(op.loop.carries, op.nexts(node), strict=True):
        if source is new or source.op == Leaf("carry", f"{op.loop.name}.{carry}"):
            return carry
    return None


def _slots(history: Node, loop: Loop, first: int, like: Node) -> Node:
    """The slots from ``first`` on, one for each turn."""
    from nnc.ir.build import axes_for, form, read, subscripts

    axes = axes_for(like.type.shape)
    here = subscripts(axes)
    body = read(history, 0, here[0] + first, *here[1:])
    shape = like.type.shape
    return form(axes, here, body, (history,), shape, span=like.span, name=like.name)


@dataclass(slots=True)
class LoopMemory:
    """Names the memory of one loop's values.

    ``turn`` is the atom that counts turns from 0 upwards; ``place`` the counter in terms of it.
    """

    region: Region
    depth: int
    scratch: NewScratch
    part: NewPart
    keys: dict[Node, str]
    brought: list[tuple[Node, str]] = field(default_factory=list)
    first: list[tuple[Node, str]] = field(default_factory=list)

    @property
    def loop(self) -> Loop:
        """The loop."""
        assert self.region.loop is not None
        return self.region.loop

    @property
    def axis(self) -> str:
        """What the turns are counted by."""
        return f"turn{self.depth}"

    @property
    def turn(self) -> Size:
        """The number of the turn, from 0 on."""
        return Counter(self.axis, self.loop.extent).as_poly()

    @property
    def counters(self) -> dict[Atom, Size]:
        """What the loop's counter is in terms of the turn."""
        turn = self.turn
        place = self.loop.extent - 1 - turn if self.loop.reverse else turn
        return {Counter(self.loop.name, self.loop.extent): place}

    def name_all(self) -> None:
        """Give carries, what they become, and stacks their places."""
        own = {n for n in self.region.items if isinstance(n, Node)}
        for carry, (init, new) in self.region.carried().items():
            self._carry(carry, init, new, own)
        (counter,) = self.counters.values()
        for result in self.region.results:
            if isinstance(result.op, Scan) and result.op.result == "stack":
                source = result.inputs[-1]
                stem = result.name or source.name
                whole = self.scratch(stem, result.type.dtype, result.type.size)
                self.keys[result] = whole
                slot = self.part(whole, source.type.size, counter * source.type.size)
                self._put(source, slot, own)

    def _carry(self, carry: str, init: Node, new: Node, own: set[Node]) -> None:
        loop = self.loop
        size = init.type.size
        results = [
            (r, r.op.result)
            for r in self.region.results
            if isinstance(r.op, Scan) and r.op.carry == carry
        ]
        kept = any(kind == "history" for _, kind in results)
        slots = loop.extent + 1 if kept else 2
        whole = self.scratch(carry, init.type.dtype, slots * size)

        def slot(after: Size) -> str:
            """The slot of the value after so many turns."""
            if not kept:
                return self.part(whole, size, mod(after, 2) * size)
            return self.part(whole, size, (loop.extent - after if loop.reverse else after) * size)

        self.first.append((init, slot(0)))
        leaf = Leaf("carry", f"{loop.name}.{carry}")
        before = slot(self.turn)
        for node in own:
            if node.op == leaf:
                self.keys[node] = before
        for result, kind in results:
            self.keys[result] = whole if kind == "history" else slot(loop.extent)
        self._put(new, slot(self.turn + 1), own)

    def _put(self, node: Node, slot: str, own: set[Node]) -> None:
        """Let ``node`` be computed in ``slot``, or copied there at the end of the turn."""
        made = root(node)
        if isinstance(made.op, Form) and made in own and made not in self.keys:
            self.keys[made] = slot
        else:
            self.brought.append((node, slot))
