"""Substitutes tensors into the forms that read them, so that they are never stored.

A form without a reduction is a formula for each of its elements. Where reading it costs no more
than computing it (a view, a constant, a scalar), or where nobody else reads it and each element is
read once, the formula takes the place of the read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace

from nnc.ir.expr import (
    Apply,
    Const,
    Expr,
    Loaded,
    Position,
    Read,
    loads_in,
    map_operands,
    map_reads,
    reads,
    walk,
)
from nnc.ir.graph import (
    Custom,
    Form,
    Graph,
    Leaf,
    Node,
    Rebuilder,
    Reshape,
    form_loads,
    with_inputs,
)
from nnc.ir.index import (
    Atom,
    Axis,
    FloorDiv,
    Mod,
    Size,
    axes_of,
    exact_div,
    floordiv,
    mod,
    substitute,
)
from nnc.ir.prove import Facts, facts_of, proves_less, proves_nonneg
from nnc.ir.regions import dependence
from nnc.ir.scalar import make
from nnc.ir.types import DType
from nnc.passes.forms import form_node, identity_axes, substitute_axes

MOST_NODES = 400
"""Bodies do not grow beyond this many distinct subexpressions."""

MOST_SCALAR_NODES = 80
"""A scalar's formula of at most this size is repeated by every task that needs it."""


def inline(graph: Graph) -> Graph:
    """Return an equal graph without the tensors that are better computed where they are read."""
    order = graph.nodes()
    uses = Counter(i for node in order for i in node.inputs)
    depends = dependence(order)
    checked = {key for node in graph.nodes() for key in _checks(node)}
    for output in graph.outputs:
        uses[output.node] += MOST_NODES

    def change(node: Node, inputs: tuple[Node, ...]) -> Node:
        new = with_inputs(node, inputs)
        if isinstance(node.op, Custom):
            new = inputs[0]
        elif isinstance(node.op, Form):
            pairs = zip(node.inputs, inputs, strict=True)
            # what is computed once must not be computed again in every turn of a loop
            alone = {n for o, n in pairs if depends[o] == depends[node] and _lone(o, uses)}
            new = _Inliner(new, alone, graph.facts, checked).run()
        return new

    return Rebuilder(change)(graph)


def load_key(node: Node, load: Loaded) -> Hashable:
    """What a loaded integer of ``node`` is read from; equal for all integers of one leaf."""
    source = node.inputs[load.read.operand]
    return source.op if isinstance(source.op, Leaf) else source


def _checks(node: Node) -> Iterator[tuple[Hashable, Size]]:
    """The loaded integers that ``node`` checks wherever it reads, and below what they must be."""
    if not isinstance(node.op, Form) or node.op.where is not None:
        return
    for read in _value_reads(node.op):
        for subscript, n in zip(read.index, node.inputs[read.operand].type.shape, strict=True):
            for load in loads_in(subscript):
                if read.outside is None and subscript == load.as_poly():
                    yield load_key(node, load), n


def _renumbered(form: Form, by: int) -> Form:
    """``form`` with its operands numbered from ``by`` on."""

    def change(e: Expr) -> Expr:
        return map_operands(e, lambda k: k + by)

    def size(s: Size) -> Size:
        moved = change(Position(s))
        assert isinstance(moved, Position)
        return moved.index

    where = None if form.where is None else change(form.where)
    return replace(form, out=tuple(map(size, form.out)), body=change(form.body), where=where)


def _at_points(form: Form, source: Node, index: Sequence[Size]) -> Expr | None:
    """The element ``index`` of a form that stores at one place along some dims.

    ``out[b, ids[b]] = v`` read at [i, j] is ``v`` where ``ids[i] == j``, and else 0.
    """
    at: dict[str, Size] = {}
    extents = dict(form.axes)
    rest: list[tuple[Size, Size]] = []
    for o, i, n in zip(form.out, index, source.type.shape, strict=True):
        bare = next(iter(axes_of(o)), None)
        whole = bare is not None and o == Axis(bare).as_poly() and extents[bare] == n
        if whole and bare is not None and bare not in at:
            at[bare] = i
        else:
            rest.append((o, i))
    if form.reduce != "none" or at.keys() != extents.keys():
        return None
    atoms: dict[Atom, Size] = {Axis(a): i for a, i in at.items()}
    condition = None if form.where is None else substitute_axes(form.where, at)
    for o, i in rest:
        here = make.position(substitute(o, atoms))
        test = make.apply("eq", here, make.position(i))
        condition = test if condition is None else make.and_(condition, test)
    body = substitute_axes(form.body, at)
    return body if condition is None else make.select(condition, body, Const(0, body.dtype))


def _lone(node: Node, uses: Counter[Node]) -> bool:
    """Whether one form alone reads ``node``, through reshapes too."""
    while uses[node] == 1 and isinstance(node.op, Reshape):
        node = node.inputs[0]
    return uses[node] == 1


@dataclass(slots=True)
class _Inliner:
    """Rewrites one form.

    ``alone`` are the operands that nothing else reads; ``checked`` the loaded integers that some
    form checks to lie below a size.
    """

    node: Node
    alone: set[Node]
    known: Sequence[Size]
    checked: set[tuple[Hashable, Size]]

    def run(self) -> Node:
        """Return the form with what can be substituted substituted."""
        form = self.node.op
        assert isinstance(form, Form)
        inputs = list(self.node.inputs)
        change: dict[Read, Expr] = {}
        for read in dict.fromkeys(_value_reads(form)):
            found = self._substitute(form, read, len(inputs))
            if found is not None:
                change[read], more = found
                inputs.extend(more)
        if not change:
            return self.node

        def at(read: Read) -> Expr:
            return change.get(read, read)

        where = None if form.where is None else map_reads(form.where, at)
        body = map_reads(form.body, at)
        if sum(1 for _ in walk(body)) > MOST_NODES:
            return self.node
        new = replace(form, body=body, where=where)
        node = self.node
        return form_node(new, tuple(inputs), node.type, node.span, node.name)

    def _substitute(
        self, form: Form, read: Read, count: int
    ) -> tuple[Expr, tuple[Node, ...]] | None:
        """What stands for ``read``, with operands numbered from ``count`` on."""
        given = self.node.inputs[read.operand]
        located = _through_reshapes(given, read.index, Facts(form.axes, tuple(self.known)))
        if located is None:
            return None
        source, index = located
        if not isinstance(source.op, Form):
            return None
        if read.outside is not None and (source is not given or _has_loads(source.op)):
            return None
        if not self._worth(form, read, source, given):
            return None
        renumbered = _renumbered(source.op, count)
        names = identity_axes(renumbered, source.type.shape)
        if names is None:
            if read.outside is not None or not self._is_checked(source):
                return None
            point = _at_points(renumbered, source, index)
            return None if point is None else (point, source.inputs)
        at: dict[str, Size] = {a: 0 for a, _ in source.op.axes}
        at.update({name: i for name, i in zip(names, index, strict=True) if name})
        body = substitute_axes(renumbered.body, at)
        if read.outside is not None:
            body = _guarded(body, read, source, facts_of(form, self.known))
        return body, source.inputs

    def _is_checked(self, source: Node) -> bool:
        """Whether the integers in the subscripts of ``source`` are checked by others too.

        A form that is read through its subscripts no longer checks them itself.
        """
        form = source.op
        assert isinstance(form, Form)
        if form.drops:
            return True
        return all(
            (load_key(source, load), n) in self.checked
            for subscript, n in zip(form.out, source.type.shape, strict=True)
            for load in loads_in(subscript)
        )

    def _worth(self, form: Form, read: Read, source: Node, given: Node) -> bool:
        assert isinstance(source.op, Form)
        once = self._read_once(form, read)
        if _has_loads(source.op):  # in a reduction they would keep it from using vectors
            return once and given in self.alone and form.reduce == "none"
        if _is_view(source.op.body):
            return True
        if source.type.size == 1:
            return sum(1 for _ in walk(source.op.body)) <= MOST_SCALAR_NODES
        return once and given in self.alone

    def _read_once(self, form: Form, read: Read) -> bool:
        """Whether this is the form's one read of its operand, of one element at each point."""
        same = [r for r in _value_reads(form) if r.operand == read.operand]
        inside = any(r.operand == read.operand for r in _loaded_reads(form))
        mentioned = {a for i in read.index for a in axes_of(i)}
        every = all(a in mentioned for a, n in form.axes if n != 1)
        return set(same) == {read} and not inside and every


def _value_reads(form: Form) -> Iterator[Read]:
    yield from reads(form.body)
    if form.where is not None:
        yield from reads(form.where)


def _loaded_reads(form: Form) -> Iterator[Read]:
    for load in form_loads(form):
        yield load.read


def _has_loads(form: Form) -> bool:
    return next(form_loads(form), None) is not None


def _is_view(body: Expr) -> bool:
    """Whether a body computes nothing: an element, a constant, a position, or a cast."""
    match body:
        case Const() | Position() | Read():
            return True
        case Apply("cast", (inner,)):
            return not isinstance(inner, Apply)
    return False


def _through_reshapes(
    node: Node, index: Sequence[Size], facts: Facts
) -> tuple[Node, tuple[Size, ...]] | None:
    """The form behind reshapes, and where in it the element ``index`` of ``node`` lies."""
    at = tuple(index)
    while isinstance(node.op, Reshape):
        if any(True for i in at for _ in loads_in(i)):
            return None
        inner = node.inputs[0]
        found = unflatten(at, node.type.shape, inner.type.shape, facts)
        if found is None:
            return None
        node, at = inner, found
    return node, at


def unflatten(
    index: Sequence[Size], shape: Sequence[Size], into: Sequence[Size], facts: Facts
) -> tuple[Size, ...] | None:
    """Where the element ``index`` of a tensor of ``shape`` lies when it is seen as ``into``.

    None where a dim's part of the row-major place does not show.
    """
    place: Size = 0
    for i, n in zip(index, shape, strict=True):
        place = place * n + i
    found: list[Size] = []
    for n in reversed(into[1:]):
        split = _divmod(place, n, facts)
        if split is None:
            return None
        place, rest = split
        found.append(rest)
    return (place, *reversed(found)) if into else ()


def _divmod(place: Size, n: Size, facts: Facts) -> tuple[Size, Size] | None:
    """Quotient and remainder of ``place`` by the size ``n``."""
    if n == 1:
        return place, 0
    whole: Size = 0
    rest: Size = place
    if not isinstance(place, int):
        for monomial, c in place.terms:
            term: Size = c
            for atom in monomial:
                term = term * atom.as_poly()
            part = exact_div(term, n)
            if part is not None:
                whole, rest = whole + part, rest - term
    if proves_nonneg(rest, facts) and proves_less(rest, n, facts):
        return whole, rest
    if isinstance(n, int) and n > 1:
        quotient, rest = floordiv(place, n), mod(place, n)
        if not (_divides(quotient) or _divides(rest)):
            return quotient, rest
    return None


def _divides(size: Size) -> bool:
    return not isinstance(size, int) and any(
        isinstance(a, FloorDiv | Mod) for a in size.all_atoms()
    )


def _guarded(body: Expr, read: Read, source: Node, facts: Facts) -> Expr:
    """``body`` where ``read`` lies inside ``source``, else what it gives outside.

    The reads in ``body`` are proven only inside ``source``, so they get guards of their own.
    """
    assert read.outside is not None
    condition: Expr = Const(True, DType.BOOL)
    for i, n in zip(read.index, source.type.shape, strict=True):
        for test in _tests(i, n, facts):
            condition = test if isinstance(condition, Const) else make.and_(condition, test)
    if isinstance(condition, Const):
        return body
    safe = map_reads(body, lambda r: r if r.outside is not None else replace(r, outside=0))
    return make.select(condition, safe, Const(read.outside, read.dtype))


def _tests(index: Size, extent: Size, facts: Facts) -> Iterator[Expr]:
    if not proves_nonneg(index, facts):
        yield make.apply("ge", make.position(index), Const(0, DType.I64))
    if not proves_less(index, extent, facts):
        yield make.apply("lt", make.position(index), make.position(extent))
