"""Tensors defined element by element: ``y[.., i] = e[.., i] / sum[j](e[.., j])``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nnc.frontend import ast
from nnc.frontend.elaborate.convert import natural_type, not_a_number, to_expr
from nnc.frontend.elaborate.faults import fault
from nnc.frontend.elaborate.scope import Scope
from nnc.frontend.elaborate.values import POISON, Tensor, Value, is_poisoned
from nnc.frontend.notation.bind import Place, bind_left, binder
from nnc.frontend.notation.box import Box, Level, Reduction, Session, is_bare
from nnc.frontend.notation.emit import Emitter, extent_of, prepare
from nnc.frontend.notation.injective import injective
from nnc.frontend.notation.reduce import root
from nnc.ir.expr import Expr, Read
from nnc.ir.graph import Node
from nnc.ir.index import Size
from nnc.ir.prove import bounds, proves_less, proves_nonneg
from nnc.ir.span import Span

if TYPE_CHECKING:
    from nnc.frontend.elaborate.elaborator import Elaborator


@dataclass(frozen=True, slots=True)
class Stored:
    """A left-hand side with its ranges: where elements go, and the shape that they fill."""

    out: tuple[Size, ...]
    shape: tuple[Size, ...]
    spans: tuple[Span, ...]
    drops: bool


def define(elab: Elaborator, scope: Scope, statement: ast.Define) -> Value:
    """Bind the tensor that ``name[subs] = expression`` defines, and return it. Raises Fault."""
    value = _defined(elab, scope, statement)
    scope.bind(statement.name, value)
    return value


def _defined(elab: Elaborator, scope: Scope, statement: ast.Define) -> Value:
    outer = scope.box
    if isinstance(outer, Box):
        parent = outer.session
        start = parent.start + len(parent.operands)
        session = Session(elab, set(parent.taken), start=start)
    else:
        session = Session(elab, set())
    box = root(session, statement.span)
    names = binder(elab, scope, session, statement.span)
    places = bind_left(names, statement.subs, box)
    inside = names.open(box)
    operand = elab.operand(statement.value, inside)
    if is_poisoned(operand.value):
        return POISON
    dtype = natural_type(elab, operand.value)
    if dtype is None:
        not_a_number(operand)
    body = to_expr(elab, inside, operand, dtype)
    emitter = prepare(session)
    stored = _stored(emitter, places)
    return Tensor(_store(emitter, names.level, stored, body, statement))


def _stored(emitter: Emitter, places: Sequence[Place]) -> Stored:
    out: list[Size] = []
    shape: list[Size] = []
    spans: list[Span] = []
    drops = False
    for place in places:
        if place.rest is not None:
            for index in place.rest.forwards():
                out.append(index.poly)
                shape.append(extent_of(index))
                spans.append(place.span)
            continue
        size, falls = _dim(emitter, place)
        out.append(place.value)
        shape.append(size)
        spans.append(place.span)
        drops = drops or falls
    return Stored(tuple(out), tuple(shape), tuple(spans), drops)


def _dim(emitter: Emitter, place: Place) -> tuple[Size, bool]:
    """The size of one dim of the result, and whether stores may fall outside it."""
    name = is_bare(place.value)
    if name is not None:
        return extent_of(emitter.session.indices[name]), False
    facts, text = emitter.facts, emitter.session.spell(place.value)
    below = not proves_nonneg(place.value, facts)
    if place.size is not None:
        return place.size, below or not proves_less(place.value, place.size, facts)
    _, high = bounds(place.value, facts)
    if below or high is None:
        raise fault(
            "E0312",
            "an element may be stored below 0" if below else "this dim has no size",
            place.span,
            f"{text} is not shown to be at least 0" if below else f"{text} has no greatest value",
            hint=f"write the size of this dim, {text} < n: what falls outside is dropped",
        )
    return high + 1, False


def _store(
    emitter: Emitter, level: Level, stored: Stored, body: Expr, statement: ast.Define
) -> Node:
    session = emitter.session
    indices = level.indices()
    direct = _direct(session, body)
    one_to_one = injective(stored.out, emitter.facts)
    plain = len(indices) == len(stored.out) and all(is_bare(o) for o in stored.out) and one_to_one
    name = statement.name.text
    if direct is not None and (
        set(direct.deps) == {i.axis for i in indices} if plain else direct.kind == "sum"
    ):
        return emitter.form(
            [*indices, *direct.level.indices()],
            stored.out,
            stored.shape,
            direct.body,
            statement.span,
            reduce=direct.kind,
            where=direct.where,
            dtype=direct.dtype,
            drops=stored.drops,
            name=name,
        )
    if not one_to_one:
        raise _stored_twice(stored, statement)
    return emitter.form(
        indices, stored.out, stored.shape, body, statement.span, drops=stored.drops, name=name
    )


def _direct(session: Session, body: Expr) -> Reduction | None:
    """The reduction that the right-hand side is, with nothing around it."""
    if not isinstance(body, Read):
        return None
    source = session.operands.get(body.operand)
    return source if isinstance(source, Reduction) and source.kind != "mean" else None


def _stored_twice(stored: Stored, statement: ast.Define) -> Exception:
    spans = [s for o, s in zip(stored.out, stored.spans, strict=True) if is_bare(o) is None]
    return fault(
        "E0311",
        "several elements may be stored at one place",
        spans[0] if spans else statement.span,
        "different indices come to the same place here",
        notes=["where the right-hand side is a sum[...](...), such elements add up"],
        hint="let the place be an index and sum what comes to it: "
        "y[v < n] = sum[i, u where i + u == v](...)",
    )
