"""Algebra of index forms that several passes share: substitution, operands, injectivity, views."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from nnc.ir.build import axes_for, subscripts, tidy_operands
from nnc.ir.expr import (
    Apply,
    Const,
    Expr,
    Position,
    Read,
    loads_in,
    map_reads,
    map_sizes,
    reads,
    sizes_in,
)
from nnc.ir.graph import Form, Node, form_reads
from nnc.ir.index import Atom, Axis, Poly, Size, axes_of, linear_in_axes, substitute
from nnc.ir.prove import Facts, facts_of, proves_nonneg
from nnc.ir.scalar import make
from nnc.ir.span import Span
from nnc.ir.types import DType, TensorType

# ---------------------------------------------------------------------------- substitution


def substitute_axes(expr: Expr, replace_axes: Mapping[str, Size]) -> Expr:
    """Return ``expr`` with axes replaced in every subscript; a position that is whole folds."""
    mapping: dict[Atom, Size] = {Axis(name): size for name, size in replace_axes.items()}
    return _fold_positions(map_sizes(expr, lambda size: substitute(size, mapping)))


def _fold_positions(expr: Expr) -> Expr:
    """Turn positions that came to a constant into literals."""
    memo: dict[Expr, Expr] = {}

    def go(e: Expr) -> Expr:
        done = memo.get(e)
        if done is None:
            match e:
                case Position(int() as index, dtype):
                    done = Const(index, dtype)
                case Apply(op, args, dtype):
                    done = Apply(op, tuple(go(a) for a in args), dtype)
                case _:
                    done = e
            memo[e] = done
        return done

    return go(expr)


def substitute_form(
    form: Form, replace_axes: Mapping[str, Size], axes: Iterable[tuple[str, Size]]
) -> Form:
    """Return ``form`` over the box ``axes`` with its old axes replaced by functions of them."""
    mapping: dict[Atom, Size] = {Axis(name): size for name, size in replace_axes.items()}
    return Form(
        tuple(axes),
        tuple(substitute(o, mapping) for o in form.out),
        form.reduce,
        substitute_axes(form.body, replace_axes),
        None if form.where is None else substitute_axes(form.where, replace_axes),
        form.drops,
    )


def fresh(base: str, taken: set[str]) -> str:
    """Return ``base``, or ``base_2``, ``base_3``, ..., whichever is free, and mark it taken."""
    name, count = base, 1
    while name in taken:
        count += 1
        name = f"{base}_{count}"
    taken.add(name)
    return name


# -------------------------------------------------------------------------------- operands


def form_node(
    form: Form,
    operands: Sequence[Node],
    type_: TensorType,
    span: Span | None = None,
    name: str = "",
) -> Node:
    """Make a node of ``form``, keeping only the operands it reads, each once."""
    kept, inputs = tidy_operands(form, operands)
    return Node(kept, inputs, type_, span, name)


def sum_of(nodes: Sequence[Node], span: Span | None = None, name: str = "") -> Node:
    """Add tensors of one type, element by element, in the order given."""
    if len(nodes) == 1:
        return nodes[0]
    type_ = nodes[0].type
    axes = tuple(axes_for(type_.shape))
    out = subscripts(axes)
    body: Expr = Read(0, out, type_.dtype)
    for k in range(1, len(nodes)):
        body = make.add(body, Read(k, out, type_.dtype))
    return form_node(Form(axes, out, "none", body), nodes, type_, span, name)


# ------------------------------------------------------------------------------ properties


def conjuncts(condition: Expr | None) -> Iterator[Expr]:
    """The conditions that ``condition`` joins by ``and``; of None, none."""
    match condition:
        case None:
            pass
        case Apply("and", (a, b), DType.BOOL):
            yield from conjuncts(a)
            yield from conjuncts(b)
        case _:
            yield condition


def conjunction(conditions: Iterable[Expr]) -> Expr | None:
    """Join conditions by ``and``; of none, None."""
    result: Expr | None = None
    for condition in conditions:
        result = condition if result is None else make.and_(result, condition)
    if isinstance(result, Const) and result.value:
        return None
    return result


def axes_in(expr: Expr | None) -> frozenset[str]:
    """Names of the axes that ``expr`` depends on."""
    if expr is None:
        return frozenset()
    return frozenset(name for size in sizes_in(expr) for name in axes_of(size))


def is_empty(form: Form) -> bool:
    """Whether the box is known to hold no point."""
    return any(extent == 0 for _, extent in form.axes)


def reduced_axes(form: Form) -> tuple[tuple[str, Size], ...]:
    """The axes that the result's subscripts do not mention, in order."""
    kept = frozenset(name for o in form.out for name in axes_of(o))
    return tuple((name, extent) for name, extent in form.axes if name not in kept)


def inside(index: Sequence[Size], shape: Sequence[Size], facts: Facts) -> bool:
    """Whether every subscript is proven to lie within ``shape``."""
    return all(
        proves_nonneg(i, facts) and proves_nonneg(n - 1 - i, facts)
        for i, n in zip(index, shape, strict=True)
    )


def is_injective(form: Form, known: Iterable[Size] = ()) -> bool:
    """Whether no two points of the box store to one element, as far as can be shown."""
    return not undetermined(form, known)


def undetermined(form: Form, known: Iterable[Size] = ()) -> frozenset[str]:
    """The axes of the box that the place of a store does not tell, as far as can be shown.

    Dims are taken one at a time: where what is left of a dim, once the axes that other dims
    determine are known, is a mixed-radix number in the remaining axes, it determines those too.
    """
    extents = {name: extent for name, extent in form.axes if extent != 1}
    facts = Facts(form.axes, tuple(known))
    left = set(extents)
    pending = list(form.out)
    progress = True
    while left and progress:
        progress = False
        for o in list(pending):
            found = _determined(o, left, extents, facts)
            if found is not None:
                left -= found
                pending.remove(o)
                progress = True
    return frozenset(left)


def _determined(
    subscript: Size, left: set[str], extents: Mapping[str, Size], facts: Facts
) -> set[str] | None:
    """The unknown axes that ``subscript`` determines, or None where it does not."""
    if isinstance(subscript, int) or any(True for _ in loads_in(subscript)):
        return None
    linear = linear_in_axes(subscript)
    if linear is None:
        return None
    terms = [(name, c) for name, c in linear[0].items() if name in left]
    known = mixed_radix(terms, extents, facts) or long_axis(terms, extents) is not None
    return {name for name, _ in terms} if known else None


def mixed_radix(
    terms: Sequence[tuple[str, Size]], extents: Mapping[str, Size], facts: Facts
) -> bool:
    """Whether ``sum of c * axis`` differs at any two points.

    It does where each weight exceeds what the lighter terms reach together.
    """
    remaining: list[tuple[str, Size]] = []
    for name, c in terms:
        if proves_nonneg(c, facts):
            remaining.append((name, c))
        elif proves_nonneg(-c, facts):
            remaining.append((name, -c))
        else:
            return False
    reach: Size = 0
    while remaining:
        light = next((t for t in remaining if _lightest(t[1], remaining, facts)), None)
        if light is None or not proves_nonneg(light[1] - reach - 1, facts):
            return False
        remaining.remove(light)
        reach = reach + light[1] * (extents[light[0]] - 1)
    return True


def long_axis(terms: Sequence[tuple[str, Size]], extents: Mapping[str, Size]) -> str | None:
    """The axis of a term ``s * axis`` modulo whose weight all other terms' values differ.

    The others, which must be short, are residues: they and the axis are told by the sum.
    """
    for long, s in terms:
        others = [(c, extents[name]) for name, c in terms if name != long]
        if isinstance(s, int) and _differ_modulo(others, abs(s)):
            return long
    return None


def _differ_modulo(terms: Sequence[tuple[Size, Size]], s: int) -> bool:
    values = [0]
    for c, extent in terms:
        if not (isinstance(c, int) and isinstance(extent, int) and len(values) * extent <= s):
            return False
        values = [v + c * k for v in values for k in range(extent)]
    return len({v % s for v in values}) == len(values)


def _lightest(weight: Size, terms: Sequence[tuple[str, Size]], facts: Facts) -> bool:
    return all(proves_nonneg(c - weight, facts) for _, c in terms)


def owns(form: Form, known: Iterable[Size] = ()) -> bool:
    """Whether no two points that differ in the result's own axes store to one element."""
    kept = frozenset(name for o in form.out for name in axes_of(o))
    own = tuple((name, extent) for name, extent in form.axes if name in kept)
    return is_injective(replace(form, axes=own), known)


def identity_axes(form: Form, shape: Sequence[Size]) -> tuple[str, ...] | None:
    """The axis of each dim, where the form stores once to each element at its axes' place.

    That is: nothing is reduced, filtered or dropped, and dim d of the result is an axis of that
    dim's extent (or the constant 0 where the extent is 1).
    """
    if form.reduce != "none" or form.where is not None or form.drops:
        return None
    extents = dict(form.axes)
    names: list[str] = []
    for o, n in zip(form.out, shape, strict=True):
        match o:
            case 0 if n == 1:
                names.append("")
            case Poly(((((Axis(name),)), 1),)) if extents[name] == n and name not in names:
                names.append(name)
            case _:
                return None
    used = set(names)
    return tuple(names) if all(a in used or e == 1 for a, e in form.axes) else None


def element(node: Node, index: Sequence[Size]) -> Expr | None:
    """The element at ``index`` of a tensor that reads no other, as an expression; else None."""
    match node.op:
        case Form() as form if next(form_reads(form), None) is None:
            names = identity_axes(form, node.type.shape)
            if names is None or any(True for s in sizes_in(form.body) for _ in loads_in(s)):
                return None
            at: dict[str, Size] = {a: 0 for a, _ in form.axes}
            at.update({name: i for name, i in zip(names, index, strict=True) if name})
            return substitute_axes(form.body, at)
    return None


# -------------------------------------------------------------------------------- tidying


def tidy(form: Form, shape: Sequence[Size], known: Iterable[Size] = ()) -> Form:
    """Return an equal form in its plainest shape.

    Axes of extent 1 and axes that nothing mentions go; a sum in which each element is stored to
    once is no reduction; a guard that never holds back a store goes.
    """
    known = tuple(known)
    form = drop_dead_axes(drop_unit_axes(form), known)
    if form.drops and inside(form.out, shape, facts_of(form, known)):
        form = replace(form, drops=False)
    if form.reduce == "sum" and is_injective(form, known):
        form = replace(form, reduce="none")
    return form


def drop_unit_axes(form: Form) -> Form:
    """Replace axes of extent 1 by 0, except where an argmax would lose all that it ranges over."""
    unit = {name: 0 for name, extent in form.axes if extent == 1}
    if not unit or (form.reduce in ("argmax", "argmin") and len(unit) == len(form.axes)):
        return form
    return substitute_form(form, unit, [(a, e) for a, e in form.axes if a not in unit])


def drop_dead_axes(form: Form, known: Iterable[Size] = ()) -> Form:
    """Drop axes that neither body, nor filter, nor result mentions: a sum takes their extent."""
    live = axes_in(form.body) | axes_in(form.where)
    live |= frozenset(name for o in form.out for name in axes_of(o))
    dead = [(name, extent) for name, extent in form.axes if name not in live]
    if not dead or form.reduce in ("none", "argmax", "argmin"):
        return form
    facts = Facts((), tuple(known))
    # With an extent of 0 nothing is stored, and what was shown of the box need not hold outside.
    if not all(proves_nonneg(extent - 1, facts) for _, extent in dead):
        return form
    body = form.body
    for _, extent in dead:
        match form.reduce:
            case "sum":
                body = times(body, make.cast(make.position(extent), body.dtype))
            case "prod" if body.dtype.is_float:
                body = make.pow_(body, make.cast(make.position(extent), body.dtype))
            case "max" | "min" | "any" | "all":
                pass
            case _:
                return form
    gone = {name for name, _ in dead}
    return replace(form, axes=tuple(a for a in form.axes if a[0] not in gone), body=body)


def times(a: Expr, b: Expr) -> Expr:
    """Return ``a * b``; a factor ``1/c`` becomes one division, which rounds once."""
    match a, b:
        case _, Apply("div", (Const(value), c)) if value == 1 and not isinstance(a, Const):
            return make.div(a, c)
        case _, Apply("neg", (inner,)) if a.dtype.is_float:
            return make.neg(times(a, inner))
        case Const(x, dtype), Const(y) if dtype.is_float and (x in (1, -1) or y in (1, -1)):
            return Const(x * y, dtype)
    return make.mul(a, b)


def map_form_reads(form: Form, change: Mapping[Read, Expr]) -> Form:
    """Return ``form`` with value reads replaced in body and filter."""

    def at(read: Read) -> Expr:
        return change.get(read, read)

    where = None if form.where is None else map_reads(form.where, at)
    return replace(form, body=map_reads(form.body, at), where=where)


def value_reads(form: Form) -> list[Read]:
    """Distinct value reads of the body, in order."""
    return list(reads(form.body))
