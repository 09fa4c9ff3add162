"""Puts expressions, forms and views in their plainest shape, changing no value.

Scalar algebra is in ``rules``; here are the rules that need to know a form's box and operands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from nnc.ir.build import full
from nnc.ir.expr import (
    Apply,
    Const,
    Expr,
    Loaded,
    Position,
    Read,
    map_reads,
    map_sizes,
    reads,
    sizes_in,
)
from nnc.ir.graph import Form, Graph, Node, Rebuilder, Reshape, form_reads, with_inputs
from nnc.ir.index import Axis, Poly, Size, axes_of, axis, linear_in_axes
from nnc.ir.prove import Facts, assumptions, facts_of
from nnc.ir.scalar import make
from nnc.ir.types import DType
from nnc.passes.fold import fold_apply
from nnc.passes.forms import (
    axes_in,
    conjunction,
    conjuncts,
    drop_unit_axes,
    form_node,
    identity_axes,
    is_empty,
    map_form_reads,
    substitute_axes,
    substitute_form,
    tidy,
)
from nnc.passes.guards import absorb, always_outside, implied, refuted, relax
from nnc.passes.rewrite import rewrite
from nnc.passes.rules import holds, scalar_step
from nnc.passes.solve import settle

IDENTITY = {"sum": 0, "none": 0, "prod": 1, "any": False, "all": True}


@dataclass(frozen=True, slots=True)
class SimplifyOptions:
    """``select_points``: whether ``sum[v where ids[e] == v]`` becomes one pass over e."""

    select_points: bool = True


def simplify(graph: Graph, options: SimplifyOptions = SimplifyOptions()) -> Graph:
    """Return an equal graph in which every node is in its plainest shape."""
    known = graph.facts

    def change(node: Node, inputs: tuple[Node, ...]) -> Node:
        return simplify_node(with_inputs(node, inputs), known, options)

    return Rebuilder(change)(graph)


def simplify_node(
    node: Node, known: Sequence[Size] = (), options: SimplifyOptions = SimplifyOptions()
) -> Node:
    """Return an equal node, given that its operands are simplified already."""
    match node.op:
        case Form():
            return _simplify_form(node, tuple(known), options)
        case Reshape():
            (source,) = node.inputs
            while isinstance(source.op, Reshape):
                (source,) = source.inputs
            if source.type == node.type:
                return source
            return with_inputs(node, (source,))
    return node


# ------------------------------------------------------------------------------- one form


ROUNDS = 6
"""A rule may make room for one before it; forms settle in two rounds, this is for safety."""


def _simplify_form(node: Node, known: tuple[Size, ...], options: SimplifyOptions) -> Node:
    form = node.op
    assert isinstance(form, Form)
    for _ in range(ROUNDS):
        if is_empty(form):
            return _identity(node, form) if form.reduce in IDENTITY else node
        plain = drop_unit_axes(form)
        made = replace(node, op=plain)
        if len(set(node.inputs)) < len(node.inputs):
            # Operands that became one node are one operand, so that equal reads are seen equal.
            made = form_node(plain, node.inputs, node.type, node.span, node.name)
        made = _through_views(made)
        assert isinstance(made.op, Form)
        found = _one_round(made.op, made, known, options)
        if found is None:
            return _identity(node, form)
        settled = found == form
        node, form = replace(made, op=found), found
        if settled:
            break
    return _without_identity(form_node(form, node.inputs, node.type, node.span, node.name))


def _identity(node: Node, form: Form) -> Node:
    """A form that stores nothing leaves its reduction's identity."""
    constant = full(node.type.shape, IDENTITY[form.reduce], node.type.dtype, node.span)
    assert isinstance(constant.op, Form)
    return replace(constant, op=drop_unit_axes(constant.op))


def _one_round(
    form: Form, node: Node, known: tuple[Size, ...], options: SimplifyOptions
) -> Form | None:
    """Try every rule once; None where the form stores nothing but the identity."""
    box = Facts(form.axes, known)
    where = None if form.where is None else simplify_expr(form.where, box, node.inputs)
    form = replace(form, where=conjunction(conjuncts(where)))
    if form.where is not None and refuted(form.where, box) and form.reduce in IDENTITY:
        return None
    form = replace(form, out=tuple(settle(o, box) for o in form.out))
    form = replace(form, body=simplify_expr(form.body, facts_of(form, known), node.inputs))
    form = _filter_of_choice(form)
    if options.select_points:
        form = _select_point(form, node, known)
    form = relax(form, node.inputs, known)
    return tidy(absorb(form, node.inputs, known), node.type.shape, known)


def simplify_expr(expr: Expr, facts: Facts, inputs: Sequence[Node] = ()) -> Expr:
    """Return an equal expression, given what is known of its axes and dims.

    ``inputs`` are the operands that its reads number; without them guards of reads stay.
    """
    settled = map_sizes(expr, lambda size: settle(size, facts))

    def step(e: Expr) -> Expr | None:
        found = scalar_step(e)
        if found is None and isinstance(e, Apply):
            found = fold_apply(e)
        if found is None and e.dtype is DType.BOOL and not isinstance(e, Const):
            found = _decided(e, facts)
        if found is None and inputs:
            found = _guarded_choice(e, facts, inputs)
        return found

    return rewrite(settled, step)


def _decided(e: Expr, facts: Facts) -> Expr | None:
    """A comparison that the facts prove, or prove false."""
    if not isinstance(e, Apply) or e.op not in ("lt", "le", "gt", "ge", "eq", "ne"):
        return None
    if not all(isinstance(a, Position | Const) for a in e.args):
        return None
    if implied(e, facts):
        return Const(True, DType.BOOL)
    return Const(False, DType.BOOL) if refuted(e, facts) else None


def _guarded_choice(e: Expr, facts: Facts, inputs: Sequence[Node]) -> Expr | None:
    """``if c then x[i] else v`` is the read with ``v`` outside, where failing ``c`` means outside.

    Conditions of ``c`` that say more stay. The read has the value ``v`` outside already.
    """
    match e:
        case Apply("select", (c, Read(outside=value) as read, Const(other))) if value == other:
            pass
        case _:
            return None
    shape = inputs[read.operand].type.shape
    kept: list[Expr] = []
    for condition in conjuncts(c):
        sizes = assumptions(condition)
        exact = isinstance(condition, Apply) and condition.op in ("lt", "le", "gt", "ge", "eq")
        means_outside = all(always_outside(read, shape, facts.assume((-1 - s,))) for s in sizes)
        if not (exact and sizes and means_outside):
            kept.append(condition)
    if len(kept) == len(list(conjuncts(c))):
        return None
    rest = conjunction(kept)
    return read if rest is None else make.select(rest, read, Const(other, e.dtype))


def _filter_of_choice(form: Form) -> Form:
    """``sum(if c then x else 0)`` is the sum of x where c, for a condition on the box alone."""
    match form:
        case Form(reduce="sum", body=Apply("select", (c, x, Const(0)))) if _is_static(c):
            return replace(form, body=x, where=conjunction([*conjuncts(form.where), *conjuncts(c)]))
        case Form(reduce="sum", body=Apply("select", (c, Const(0), x))) if _is_static(c):
            no = make.not_(c)
            return replace(form, body=x, where=conjunction([*conjuncts(form.where), no]))
    return form


def _is_static(condition: Expr) -> bool:
    return not any(True for _ in reads(condition)) and not any(
        isinstance(a, Loaded) for s in _sizes(condition) for a in s.all_atoms()
    )


def _sizes(expr: Expr) -> list[Poly]:
    return [s for s in sizes_in(expr) if isinstance(s, Poly)]


# -------------------------------------------------------------------------- one-point rule


def _select_point(form: Form, node: Node, known: tuple[Size, ...]) -> Form:
    """Of a sum over points where ``axis == e``, keep the one: ``axis`` becomes ``e``.

    ``sum[e where ids[e] == v](x[e])`` for each v stores x[e] at ids[e]: a scatter, in one pass;
    ``sum[v where v == ids[e]](x[v])`` reads x at ids[e]: a gather. Points out of range are dropped.
    """
    if form.reduce != "sum" or form.where is None:
        return form
    conditions = list(conjuncts(form.where))
    for condition in conditions:
        for name, value in _equated(condition, dict(form.axes)):
            rest = conjunction(c for c in conditions if c is not condition)
            found = _at_point(replace(form, where=rest), name, value, node, known)
            if found is not None:
                return _select_point(found, node, known)
    return form


def _equated(condition: Expr, extents: Mapping[str, Size]) -> list[tuple[str, Size]]:
    """What the condition says that an axis equals: pairs of axis and value."""
    match condition:
        case Apply("eq", (a, b)):
            x, y = _whole(a, extents), _whole(b, extents)
        case _:
            return []
    if x is None or y is None:
        return []
    linear = linear_in_axes(x - y) if not _has_loads(x - y) else None
    if linear is None:
        pairs = [(x, y), (y, x)]
        return [(n, q) for p, q in pairs for n in _lone_axis(p) if n not in axes_of(q)]
    found = []
    for name, c in linear[0].items():
        if c in (1, -1):
            others = (x - y) * -c + axis(name)
            found.append((name, others))
    return found


def _has_loads(size: Size) -> bool:
    return isinstance(size, Poly) and any(isinstance(a, Loaded) for a in size.all_atoms())


def _lone_axis(size: Size) -> list[str]:
    match size:
        case Poly((((Axis(name),), 1),)):
            return [name]
    return []


def _whole(e: Expr, extents: Mapping[str, Size]) -> Size | None:
    """A whole number as a subscript, where that is exact: a position or a loaded integer."""
    match e:
        case Position(index, dtype) if dtype.is_int:
            return index
        case Const(int() as value, dtype) if dtype.is_int:
            return value
        case Read(dtype=dtype) if dtype.is_int and dtype is not DType.U64:
            return Loaded(e).as_poly()
        case Apply("cast", (inner,), target) if target.is_int and holds(inner.dtype, target):
            return _whole(inner, extents)
        case Apply("cast", (Position(index),), target) if _places_fit(index, target, extents):
            return index
    return None


def _places_fit(index: Size, target: DType, extents: Mapping[str, Size]) -> bool:
    """Whether places keep their number in a type. Those of a dim fit 32 bits, in any program."""
    if not target.is_int or target.bytes >= DType.I32.bytes:
        return target.is_int
    lone = _lone_axis(index)
    extent = extents[lone[0]] if lone else None
    return isinstance(extent, int) and extent <= 1 << (8 * target.bytes - 1)


def _at_point(
    form: Form, name: str, value: Size, node: Node, known: tuple[Size, ...]
) -> Form | None:
    """The form with ``axis = value``; None where range or filter cannot be kept so."""
    extent = dict(form.axes)[name]
    rest = [(a, e) for a, e in form.axes if a != name]
    changed = substitute_form(form, {name: value}, rest)
    facts = Facts(tuple(rest), known)
    needed = [
        make.apply("le", make.position(0), make.position(value)),
        make.apply("lt", make.position(value), make.position(extent)),
    ]
    if isinstance(value, Poly) and _has_loads(value):
        if axis(name) in form.out:
            # The result's own bounds are the axis's, so a store out of range is dropped.
            dim = form.out.index(axis(name))
            if form.out.count(axis(name)) > 1 or node.type.shape[dim] != extent:
                return None
            if name in axes_in(form.body) | axes_in(form.where):
                return None
            return replace(changed, drops=True)
        if any(name in axes_of(o) for o in form.out):
            return None
        changed = _guard_all(changed, value)
    unproven = [c for c in needed if not implied(c, facts)]
    return replace(changed, where=conjunction([*conjuncts(changed.where), *unproven]))


def _guard_all(form: Form, value: Poly) -> Form:
    """Guard the reads at ``value``, which may lie outside where the filter does not hold."""
    wanted = [a for a in value.all_atoms() if isinstance(a, Loaded)]

    def guard(read: Read) -> Expr:
        here = any(a in wanted for i in read.index if isinstance(i, Poly) for a in i.all_atoms())
        return replace(read, outside=0) if here and read.outside is None else read

    where = None if form.where is None else map_reads(form.where, guard)
    return replace(form, body=map_reads(form.body, guard), where=where)


# ------------------------------------------------------------------------- views of views


def _without_identity(node: Node) -> Node:
    """A form that copies its operand as it is, is its operand."""
    form = node.op
    if not isinstance(form, Form) or not isinstance(form.body, Read) or len(node.inputs) != 1:
        return node
    (source,) = node.inputs
    names = identity_axes(form, node.type.shape)
    if names is None or source.type != node.type:
        return node
    places = tuple(axis(n) if n else 0 for n in names)
    same = all(i in (p, 0) and (i == p or n == 1) for i, p, n in zip(
        form.body.index, places, node.type.shape, strict=True
    ))  # fmt: skip
    return source if same else node


def _through_views(node: Node) -> Node:
    """Read what is behind a view instead of the view, at the place that it shows."""
    form = node.op
    if not isinstance(form, Form):
        return node
    operands = list(node.inputs)
    found: dict[Read, Expr] = {}
    for read in form_reads(form):
        behind = None if read.outside is not None else _behind(node.inputs[read.operand], read)
        if behind is not None:
            source, index = behind
            found[read] = replace(read, operand=len(operands), index=index)
            operands.append(source)
    if not found:
        return node
    changed = map_form_reads(form, found)
    return form_node(changed, operands, node.type, node.span, node.name)


def _behind(view: Node, read: Read) -> tuple[Node, tuple[Size, ...]] | None:
    """The tensor and the place in it that ``read`` of ``view`` comes to, if it is a view.

    A view reads one element of one tensor for each of its own, by subscripts free of data and
    without a guard.
    """
    form = view.op
    if not isinstance(form, Form) or not isinstance(form.body, Read) or len(view.inputs) != 1:
        return None
    names = identity_axes(form, view.type.shape)
    if names is None or form.body.outside is not None or any(map(_has_loads, form.body.index)):
        return None
    at: dict[str, Size] = {a: 0 for a, _ in form.axes}
    at.update({n: i for n, i in zip(names, read.index, strict=True) if n})
    behind = substitute_axes(form.body, at)
    assert isinstance(behind, Read)
    return view.inputs[0], behind.index
