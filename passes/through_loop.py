"""The derivative of a loop: a loop over the same turns the other way round.

Its carries are the cotangents of the carries. In a turn it has the values that the carries had
before that turn (the loop stacks them), what was costly to compute (stacked too), and computes the
rest again. What a turn gives to a tensor outside is a form; the sum of all turns' is that form
with the turns as one more axis, so it is computed at once, outside (the gradient of a weight is one
contraction over turns and batch; that of a sequence read at the counter is written slice by
slice). Only where that would keep more than a turn has anyhow is it added up in the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from nnc.ir.build import full
from nnc.ir.graph import Form, Leaf, Loop, Node, Scan, postorder
from nnc.ir.index import Counter, Size, counters_of
from nnc.ir.regions import Item, Region, dependence
from nnc.ir.scan import Results, at, carry_leaf, fresh_loop
from nnc.passes.cotangents import NotDifferentiable, Sums, derived
from nnc.passes.forms import form_node, sum_of, tidy
from nnc.passes.loops import Batch, Substitution, is_costly, is_product, over_turns
from nnc.passes.schedule.tiles import typical

Reverse = Callable[[Sequence[Item], Sums, set[Node], tuple[Size, ...]], None]


def through_loop(
    region: Region, sums: Sums, active: set[Node], known: tuple[Size, ...], reverse: Reverse
) -> Iterator[tuple[Node, Node]]:
    """Pairs of a tensor outside a loop and a part of its cotangent."""
    given = [(r, t) for r in region.results if r in active and (t := sums.total(r)) is not None]
    if not given:
        return
    loop = region.loop
    assert loop is not None
    if loop.until:
        raise NotDifferentiable(
            given[0][0], "a scan with until ends where its data says: it has no derivative"
        )
    yield from _Backward(region, loop, given, active, known).run(reverse)


@dataclass(slots=True)
class _Backward:
    region: Region
    loop: Loop
    given: Sequence[tuple[Node, Node]]
    active: set[Node]
    known: tuple[Size, ...]

    def run(self, reverse: Reverse) -> Iterator[tuple[Node, Node]]:
        loop, name = self.loop, fresh_loop(self.loop.name)
        counter = Counter(name, loop.extent).as_poly()
        carried = {
            c: pair
            for c, pair in self.region.carried().items()
            if pair[0].type.dtype.is_float and any(n in self.active for n in pair)
        }
        leaves = {c: carry_leaf(name, c, new.type, new.span) for c, (_, new) in carried.items()}
        inner = Sums()
        for c, (_, new) in carried.items():
            inner.give(new, leaves[c])
        for result, total in self.given:
            assert isinstance(result.op, Scan)
            if result.op.result == "stack":
                inner.give(result.inputs[-1], at(total, counter, total.name))
        reverse(self.region.items, inner, self.active, self.known)
        inside = {Leaf("carry", f"{loop.name}.{c}") for c in loop.carries}
        nexts = [self._carry_total(inner, c, init.type) for c, (init, _) in carried.items()]
        members = set(self.region.nodes())
        given = [
            (inner.nodes[key], part)
            for key, parts in inner.parts.items()
            if key not in inside
            and inner.nodes[key] not in members
            and inner.nodes[key] in self.active
            for part in parts
        ]
        moved = self._moved([*nexts, *(part for _, part in given)], name)
        nexts, parts = moved[: len(nexts)], moved[len(nexts) :]
        back = Loop(name, loop.extent, tuple(carried), not loop.reverse)
        inits = [self._last_total(c, init) for c, (init, _) in carried.items()]
        pairs = list(zip((n for n, _ in given), parts, strict=True))
        yield from self._results(back, carried, inits, nexts, pairs)

    def _carry_total(self, inner: Sums, carry: str, type: object) -> Node:
        node = self.region.carried()[carry][0]
        leaf = carry_leaf(self.loop.name, carry, node.type, node.span)
        return inner.total(leaf) or full(node.type.shape, 0, node.type.dtype, node.span)

    def _last_total(self, carry: str, init: Node) -> Node:
        for result, total in self.given:
            op = result.op
            if isinstance(op, Scan) and op.result == "last" and op.carry == carry:
                return total
        return full(init.type.shape, 0, init.type.dtype, init.span)

    def _moved(self, roots: Sequence[Node], name: str) -> list[Node]:
        """Bring what is computed of the loop's own values over to the loop called ``name``."""
        forward = Results.of(self.region.results[0])
        old, new = self.loop.counter, Counter(name, self.loop.extent).as_poly()
        depends = dependence(postorder(roots))
        results = postorder(self.region.results)
        around = dependence(results)
        mine = frozenset({self.loop.name}).union(*(around[r] for r in self.region.results))
        kept = mine - {self.loop.name} | {name}
        done = {n: n for n, loops in depends.items() if loops <= kept}
        seen: set[Node] = set()
        pending = list(roots)
        while pending:
            node = pending.pop()
            if node in seen or self.loop.name not in depends[node]:
                continue
            seen.add(node)
            carry = isinstance(node.op, Leaf)
            if depends[node] <= mine and (carry or is_costly(node)):
                done[node] = at(forward.stack(node, node.name), new, node.name)
            else:
                pending.extend(node.inputs)
        return Substitution(done, {next(old.atoms()): new})(roots)

    def _results(
        self,
        back: Loop,
        carried: dict[str, tuple[Node, Node]],
        inits: list[Node],
        nexts: list[Node],
        pairs: list[tuple[Node, Node]],
    ) -> Iterator[tuple[Node, Node]]:
        depends = dependence(postorder([*nexts, *(n for _, n in pairs)]))
        batch = Batch(back, depends)
        sunk: list[tuple[Node, Node]] = []
        added: list[tuple[Node, str]] = []
        names = list(back.carries)
        kept = set(nexts)
        for target, part in sorted(pairs, key=lambda p: not is_product(p[1], _within(p[1], batch))):
            if self._sinks(part, batch, kept, back):
                sunk.append((target, part))
                kept |= {i for i in part.inputs if batch.inside(i)}
                continue
            name = f"sum{len(added)}"
            names.append(name)
            leaf = carry_leaf(back.name, name, part.type, part.span)
            inits.append(full(part.type.shape, 0, part.type.dtype, part.span))
            nexts.append(sum_of([leaf, part], part.span, part.name))
            added.append((target, name))
        back = replace(back, carries=tuple(names))
        results = Results(back, inits, nexts, self.region.results[0].span)
        for c, (init, _) in carried.items():
            if init in self.active:
                yield init, results.last(c, derived(init))
        for target, name in added:
            yield target, results.last(name, derived(target))
        for target, part in sunk:
            yield target, self._sink(target, part, batch, results)

    def _sinks(self, part: Node, batch: Batch, kept: set[Node], back: Loop) -> bool:
        """Whether to sum what the turns give outside."""
        form = part.op
        if not isinstance(form, Form) or form.reduce not in ("sum", "none"):
            return False
        if not batch.inside(part) or any(back.name in counters_of(o) for o in form.out):
            return True
        if is_product(part, _within(part, batch)):
            return True
        fresh = [i for i in part.inputs if batch.inside(i) and i not in kept]
        stacked = sum(typical(i.type.size) for i in fresh if batch(i) is None)
        carried = sum(typical(n.type.size) for n in kept) or 1
        return stacked <= carried

    def _sink(self, target: Node, part: Node, batch: Batch, results: Results) -> Node:
        form = part.op
        assert isinstance(form, Form)
        spread = [batch.inside(i) for i in part.inputs]
        operands = [
            (batch(i) or results.stack(i, i.name)) if inside else i
            for i, inside in zip(part.inputs, spread, strict=True)
        ]
        made = over_turns(replace(form, reduce="sum"), results.loop, spread, stacked=False)
        plain = tidy(made, target.type.shape, self.known)
        return form_node(plain, operands, target.type, part.span, part.name)


def _within(part: Node, batch: Batch) -> list[Node]:
    """What a node reads that differs from turn to turn."""
    return [i for i in part.inputs if batch.inside(i)]
