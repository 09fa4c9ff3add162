"""Moves nodes between loops: other values for what a body reads, and all turns at once.

What all passes on loops share; the loops themselves are ``ir.graph.Scan``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from nnc.ir.expr import Apply, Expr, Loaded, Read, map_reads, map_sizes, walk
from nnc.ir.graph import (
    Form,
    Graph,
    Leaf,
    Loop,
    Node,
    Output,
    Rebuilder,
    Reshape,
    Scan,
    postorder,
    with_inputs,
)
from nnc.ir.index import Atom, Counter, Size, axis, substitute, substitute_atoms
from nnc.ir.regions import carry_of, dependence
from nnc.ir.scan import Results, at, fresh_loop
from nnc.ir.types import TensorType
from nnc.passes.forms import form_node, fresh
from nnc.passes.schedule.stage import volume
from nnc.passes.schedule.tiles import typical

TURN = "t"

COSTLY = frozenset(
    {"exp", "expm1", "log", "log1p", "sqrt", "rsqrt", "tanh", "erf", "sin", "cos", "pow", "philox"}
    | {"div", "floordiv", "mod", "sigmoid"}
)


def is_costly(node: Node) -> bool:
    """Whether a node had better be computed once and kept than computed again."""
    match node.op:
        case Form() as form:
            ops = (e.op for e in walk(form.body) if isinstance(e, Apply))
            return form.reduce != "none" or any(op in COSTLY for op in ops)
        case Scan():
            return True
    return False


def map_form_sizes(form: Form, atoms: Mapping[Atom, Size]) -> Form:
    """Return ``form`` with atoms replaced in every size."""

    def size(s: Size) -> Size:
        return substitute(s, atoms)

    return Form(
        tuple((a, size(n)) for a, n in form.axes),
        tuple(map(size, form.out)),
        form.reduce,
        map_sizes(form.body, size),
        None if form.where is None else map_sizes(form.where, size),
        form.drops,
    )


@dataclass(slots=True)
class Substitution:
    """Rebuilds nodes with others in the place of some, and counters by other sizes.

    A loop whose body changes becomes a loop of its own.
    """

    done: dict[Node, Node]
    counters: dict[Atom, Size] = field(default_factory=dict)

    def __call__(self, roots: Sequence[Node]) -> list[Node]:
        """Return ``roots`` rebuilt."""
        order = self._needed(roots)
        changed = self._changed(order)
        self._rename_loops(order, changed)
        for node in order:
            if node not in self.done:
                self.done[node] = self._rebuilt(node) if node in changed else node
        return [self.done[r] for r in roots]

    def _needed(self, roots: Sequence[Node]) -> list[Node]:
        """What is to be rebuilt: nothing below what is given."""
        order: dict[Node, None] = {}
        stack = [(r, False) for r in reversed(roots)]
        while stack:
            node, ready = stack.pop()
            if node in order or node in self.done:
                continue
            if ready:
                order[node] = None
                continue
            stack.append((node, True))
            stack.extend((i, False) for i in reversed(node.inputs))
        return list(order)

    def _changed(self, order: Iterable[Node]) -> set[Node]:
        found = {a for a, b in self.done.items() if a is not b}
        for node in order:
            if any(i in found for i in node.inputs) or self._mentions(node):
                found.add(node)
        return found

    def _mentions(self, node: Node) -> bool:
        if not isinstance(node.op, Form) or not self.counters:
            return False
        return map_form_sizes(node.op, self.counters) != node.op

    def _rename_loops(self, order: Sequence[Node], changed: set[Node]) -> None:
        """Give the loops that change new names, and rebuild what is in them."""
        loops = {n.op.loop for n in order if isinstance(n.op, Scan) and n in changed}
        if not loops:
            return
        names = {loop.name: fresh_loop(loop.name) for loop in sorted(loops, key=lambda k: k.name)}
        for loop in loops:
            new = Counter(names[loop.name], loop.extent).as_poly()
            self.counters[Counter(loop.name, loop.extent)] = new
        for node in order:
            if isinstance(node.op, Leaf) and node.op.space == "carry":
                loop_name, _, carry = node.op.name.partition(".")
                if loop_name in names:
                    leaf = f"{names[loop_name]}.{carry}"
                    self.done[node] = replace(node, op=Leaf("carry", leaf), name=leaf)
        # what depends on them changes too, results of these loops that did not change as well
        for node in order:
            own = isinstance(node.op, Scan) and node.op.loop.name in names
            if (
                own
                or any(self.done.get(i, i) is not i or i in changed for i in node.inputs)
                or self._mentions(node)
            ):
                changed.add(node)

    def _rebuilt(self, node: Node) -> Node:
        inputs = tuple(self.done.get(i, i) for i in node.inputs)
        op = node.op
        match op:
            case Form():
                op = map_form_sizes(op, self.counters) if self.counters else op
            case Scan(loop, result, carry):
                counter = self.counters.get(Counter(loop.name, loop.extent))
                if counter is not None and not isinstance(counter, int):
                    new = next(iter(counter.atoms()))
                    assert isinstance(new, Counter)
                    op = Scan(replace(loop, name=new.name), result, carry)
            case _:
                pass
        return Node(op, inputs, node.type, node.span, node.name)


@dataclass(slots=True)
class Batch:
    """Computes nodes of a loop that do not read its carries for all turns at once, outside.

    ``inside`` tells for each node whether it varies with the loop.
    """

    loop: Loop
    depends: Mapping[Node, frozenset[str]]
    done: dict[Node, Node | None] = field(default_factory=dict)

    def __call__(self, root: Node) -> Node | None:
        """Return ``root`` of every turn along a first dim; None where that cannot be."""
        for node in self._order(root):
            scan = isinstance(node.op, Scan)
            self.done[node] = None if scan else self._batched(node)
        return self.done[root]

    def inside(self, node: Node) -> bool:
        """Whether a node varies with the loop."""
        return self.loop.name in self.depends[node]

    def _order(self, root: Node) -> list[Node]:
        order: dict[Node, None] = {}
        stack = [(root, False)]
        while stack:
            node, ready = stack.pop()
            if node in order or node in self.done:
                continue
            if ready:
                order[node] = None
                continue
            stack.append((node, True))
            if not isinstance(node.op, Scan):
                stack.extend((i, False) for i in reversed(node.inputs) if self.inside(i))
        return list(order)

    def _batched(self, node: Node) -> Node | None:
        kind = TensorType(node.type.dtype, (self.loop.extent, *node.type.shape))
        found = [self.done[i] if self.inside(i) else i for i in node.inputs]
        inputs = tuple(n for n in found if n is not None)
        if len(inputs) < len(found):
            return None
        match node.op:
            case Reshape():
                return Node(Reshape(), inputs, kind, node.span, node.name)
            case Form() as form:
                spread = [self.inside(i) for i in node.inputs]
                made = over_turns(form, self.loop, spread, stacked=True)
                return form_node(made, inputs, kind, node.span, node.name)
        return None


def over_turns(form: Form, loop: Loop, spread: Sequence[bool], *, stacked: bool) -> Form:
    """Return ``form`` with the turns of ``loop`` as an axis of its box.

    Operands that are ``spread`` have the turns as their first dim; so has the result, if
    ``stacked``.
    """
    taken = {a for a, _ in form.axes}
    name = fresh(TURN, taken)
    here = axis(name)
    counter = Counter(loop.name, loop.extent)

    def size(s: Size) -> Size:
        return substitute(s, {counter: here})

    moved = map_form_sizes(form, {counter: here})
    moved = _spread_reads(moved, spread, here)
    out = (here, *moved.out) if stacked else moved.out
    return replace(moved, axes=((name, size(loop.extent)), *moved.axes), out=out)


def _spread_reads(form: Form, spread: Sequence[bool], here: Size) -> Form:
    """Read operands that have the turns as their first dim at ``here``, in subscripts too."""

    def place(r: Read) -> Read:
        index = tuple(size(i) for i in r.index)
        return replace(r, index=(here, *index) if spread[r.operand] else index)

    def change(atom: Atom) -> Size:
        if isinstance(atom, Loaded):
            return Loaded(place(atom.read)).as_poly()
        return atom.rebuild(change)

    def size(s: Size) -> Size:
        return substitute_atoms(s, change)

    def expr(e: Expr) -> Expr:
        lifted = map_sizes(e, size)
        return map_reads(
            lifted, lambda r: replace(r, index=(here, *r.index)) if spread[r.operand] else r
        )

    return replace(
        form,
        out=tuple(map(size, form.out)),
        body=expr(form.body),
        where=None if form.where is None else expr(form.where),
    )


def hoist(graph: Graph) -> Graph:
    """Compute what is costly and reads no carry of its loop for all turns at once, outside.

    Loops that may end early are left alone: what they never reach must not be computed.
    """
    roots = [o.node for o in graph.outputs]
    loops = {n.op.loop: None for n in graph.nodes() if isinstance(n.op, Scan)}
    for _ in range(2 * len(loops) + 2):
        before = list(roots)
        for loop in loops:
            if not loop.until:
                roots = _hoisted(roots, loop)
        if all(a is b for a, b in zip(before, roots, strict=True)):
            break
    outputs = (Output(o.space, o.name, n) for o, n in zip(graph.outputs, roots, strict=True))
    return Graph(graph.name, tuple(outputs), graph.facts)


def _hoisted(roots: list[Node], loop: Loop) -> list[Node]:
    """Move out of one loop what need not be in it."""
    order = postorder(roots)
    depends = dependence(order)
    results = [n for n in order if isinstance(n.op, Scan) and n.op.loop == loop]
    around = frozenset({loop.name}).union(*(depends[r] for r in results))
    carried = _carried(order, loop)
    batch = Batch(loop, depends)
    swap: dict[Node, Node] = {}
    for node in order:
        if node in carried:
            continue
        if batch.inside(node) and depends[node] <= around and is_costly(node):
            made = batch(node)
            if made is not None:
                swap[node] = at(made, loop.counter, node.name)
        elif node in results and isinstance(node.op, Scan) and node.op.result == "stack":
            source = node.inputs[-1]
            if source not in carried and depends[source] <= around and batch.inside(source):
                made = batch(source)
                if made is not None:
                    swap[node] = made
    if not swap:
        swap = _after(order, results, depends, batch)
    if not swap:
        return roots
    done: dict[Node, Node] = {}
    for node in order:
        done[node] = swap.get(node) or with_inputs(node, tuple(done[i] for i in node.inputs))
    return [done[r] for r in roots]


def _after(
    order: Sequence[Node],
    results: Sequence[Node],
    depends: Mapping[Node, frozenset[str]],
    batch: Batch,
) -> dict[Node, Node]:
    """Stacks of sums that no later turn reads: summed once, after the loop, over what is stacked.

    An output layer in a loop, or the gradient of what a loop reads at its counter, is then one
    product of matrices for all turns.
    """
    if not results:
        return {}
    first = results[0]
    assert isinstance(first.op, Scan)
    loop = first.op.loop
    handed = set(postorder(first.op.nexts(first)))
    around = frozenset({loop.name}).union(*(depends[r] for r in results))
    makes = Results.of(first)
    swap: dict[Node, Node] = {}
    for node in results:
        source = node.inputs[-1]
        stacked = isinstance(node.op, Scan) and node.op.result == "stack"
        if not stacked or source in handed or not isinstance(source.op, Form):
            continue
        inner = [i for i in source.inputs if batch.inside(i)]
        if not is_product(source, inner) or any(not depends[i] <= around for i in inner):
            continue
        spread = [batch.inside(i) for i in source.inputs]
        operands = [
            (batch(i) or makes.stack(i, i.name)) if inside else i
            for i, inside in zip(source.inputs, spread, strict=True)
        ]
        form = over_turns(source.op, loop, spread, stacked=True)
        swap[node] = form_node(form, operands, node.type, node.span, node.name)
    return swap


def is_product(node: Node, read: Sequence[Node]) -> bool:
    """Whether a sum has many more points than it reads elements of ``read``: a contraction."""
    form = node.op
    if not isinstance(form, Form) or form.reduce != "sum":
        return False
    elements = sum(typical(i.type.size) for i in read)
    return typical(volume(form.axes)) >= 2 * max(elements, 1)


def _carried(order: Sequence[Node], loop: Loop) -> set[Node]:
    """The nodes in a loop that read its carries."""
    found: set[Node] = set()
    for node in order:
        if isinstance(node.op, Scan) and node.op.loop == loop:
            continue
        own = isinstance(node.op, Leaf) and carry_of(node) == loop.name
        if own or any(i in found for i in node.inputs):
            found.add(node)
    return found


def prune(graph: Graph) -> Graph:
    """Return ``graph`` with loops carrying only what some result needs."""
    order = graph.nodes()
    results: dict[Loop, list[Node]] = {}
    for node in order:
        if isinstance(node.op, Scan):
            results.setdefault(node.op.loop, []).append(node)
    kept = {loop: _needed_carries(loop, nodes) for loop, nodes in results.items()}
    if all(len(kept[loop]) == len(loop.carries) for loop in results):
        return graph

    def change(node: Node, inputs: tuple[Node, ...]) -> Node:
        if not isinstance(node.op, Scan):
            return with_inputs(node, inputs)
        loop = node.op.loop
        places = [k for k, c in enumerate(loop.carries) if c in kept[loop]]
        n = len(loop.carries)
        chosen = [inputs[k] for k in places] + [inputs[n + k] for k in places]
        less = replace(loop, carries=tuple(loop.carries[k] for k in places))
        op = replace(node.op, loop=less)
        return Node(op, (*chosen, *inputs[2 * n :]), node.type, node.span, node.name)

    return prune(Rebuilder(change)(graph))


def _needed_carries(loop: Loop, results: Sequence[Node]) -> set[str]:
    """The carries that the results are made from, through any number of turns."""
    first = results[0]
    assert isinstance(first.op, Scan)
    nexts = dict(zip(loop.carries, first.op.nexts(first), strict=True))
    needed = {r.op.carry for r in results if isinstance(r.op, Scan) and r.op.carry}
    roots = [r.inputs[-1] for r in results if isinstance(r.op, Scan) and r.op.result == "stack"]
    while True:
        found = {
            n.op.name.partition(".")[2]
            for n in postorder([*roots, *(nexts[c] for c in needed)])
            if isinstance(n.op, Leaf) and carry_of(n) == loop.name
        }
        if found <= needed:
            return needed
        needed |= found
