"""The range of each index of a statement, once all its reads are known.

Written where the index is bound; else the size of each dim that it subscripts by itself; else
the largest that keeps its unguarded affine reads, all of one dim, inside.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nnc.frontend.elaborate.faults import fault
from nnc.frontend.notation.box import (
    Index,
    Rest,
    Session,
    Use,
    Written,
    axes_of_conditions,
    is_bare,
)
from nnc.ir.expr import loads_in
from nnc.ir.index import Axis, FloorDiv, Poly, Size, axes_of, floordiv, linear_in_axes
from nnc.ir.prove import bounds, proves_equal, proves_nonneg
from nnc.ir.span import Span


@dataclass(frozen=True, slots=True)
class Claim:
    """What one read says of an index: the ``extent`` it allows, and where it stands."""

    extent: Size
    dim: Size
    span: Span
    text: str


def settle(session: Session) -> None:
    """Give every index of the statement its range. Raises Fault where one has none, or two."""
    bare: dict[str, list[Claim]] = {}
    for use, value, size, written in _subscripts(session):
        name = is_bare(value)
        if name is not None and written.bare:
            bare.setdefault(name, []).append(Claim(size, size, written.span, use.text))
    for name, index in session.indices.items():
        if index.extent is None and name in bare:
            _from_bare(session, index, bare[name])
    for level in session.levels:
        for slot in level.slots:
            if isinstance(slot, Rest):
                for index in slot.indices:
                    if index.extent is None:  # every dim that it goes along is 1
                        index.extent = 1
    while any(_from_affine(session, i) for i in session.indices.values() if i.extent is None):
        pass
    for index in session.indices.values():
        if index.extent is None:
            raise _no_range(session, index)


def _subscripts(session: Session) -> Iterator[tuple[Use, Size, Size, Written]]:
    """Every subscript of every read, with the size of its dim."""
    for use in (*session.uses, *(g.use for g in session.gathers)):
        parts = zip(use.read.index, use.node.type.shape, use.written, strict=True)
        for value, size, written in parts:
            yield use, value, size, written


def _from_bare(session: Session, index: Index, claims: list[Claim]) -> None:
    first = claims[0]
    for other in claims[1:]:
        if not proves_equal(first.extent, other.extent, session.elab.facts):
            raise fault(
                "E0302",
                f"the index {index.text} has two ranges",
                other.span,
                f"a dim of {other.text} of size {other.extent}",
                related=[(first.span, f"a dim of {first.text} of size {first.extent}")],
                hint=f"if one is meant, write it where {index.text} is bound: "
                f"{index.text} < {first.extent}",
                about={"index": index.text, "extents": f"{first.extent}, {other.extent}"},
            )
    index.extent = first.extent
    index.source = (first.span, f"{index.text} runs over a dim of size {first.extent}")


def _from_affine(session: Session, index: Index) -> bool:
    """Infer a range from reads like ``x[2*i + u]``; False where some other range is needed."""
    claims: list[Claim] = []
    for use, value, size, written in _subscripts(session):
        if index.axis not in axes_of(value) or index.axis in axes_of_conditions(use.conditions):
            continue
        found = largest(session, index.axis, value, size)
        if found is None:
            return False
        if found != ():
            claims.append(Claim(found[0], size, written.span, use.text))
    if not claims:
        return False
    first = claims[0]
    facts = session.elab.facts
    for other in claims[1:]:
        if not proves_equal(first.dim, other.dim, facts):
            raise fault(
                "E0302",
                f"the range of {index.text} could follow from two dims",
                other.span,
                f"a dim of {other.text} of size {other.dim}",
                related=[(first.span, f"a dim of {first.text} of size {first.dim}")],
                hint=f"write it where {index.text} is bound: {index.text} < {first.extent}",
            )
    least = next(
        (c for c in claims if all(proves_nonneg(o.extent - c.extent, facts) for o in claims)), None
    )
    if least is None:
        return False
    index.extent = least.extent
    index.source = (least.span, f"{index.text} runs as far as this stays inside {least.dim}")
    return True


def largest(session: Session, axis: str, value: Size, size: Size) -> tuple[Size, ...] | None:
    """The largest extent of ``axis`` with ``0 <= value < size``.

    An empty tuple where the read says nothing (a remainder, data); None where it depends on an
    index whose range is not known yet.
    """
    if any(True for _ in loads_in(value)):
        return ()
    unknown = {a for a in axes_of(value) if session.indices[a].extent is None}
    if unknown - {axis}:
        return None
    undone = _undo_division(value, size)
    split = linear_in_axes(undone[0])
    if split is None:
        return ()
    slope = split[0].get(axis)
    if not isinstance(slope, int):
        return ()
    rest = undone[0] - Poly((((Axis(axis),), slope),))
    low, high = bounds(rest, session.facts)
    if slope > 0 and high is not None:
        return (floordiv(undone[1] - 1 - high, slope) + 1,)
    if slope < 0 and low is not None:
        return (floordiv(low, -slope) + 1,)
    return ()


def _undo_division(value: Size, size: Size) -> tuple[Size, Size]:
    """``v // by < size`` is ``v < by * size``."""
    while isinstance(value, Poly) and len(value.terms) == 1:
        match value.terms[0]:
            case ((FloorDiv(inner, by),), 1):
                value, size = inner, size * by
            case _:
                break
    return value, size


def _no_range(session: Session, index: Index) -> Exception:
    uses = [
        (use, written.span)
        for use, value, _, written in _subscripts(session)
        if index.axis in axes_of(value)
    ]
    related = [(span, f"this does not tell how far {index.text} goes") for _, span in uses[:2]]
    if not uses:
        reason = f"{index.text} subscripts nothing"
    elif all(index.axis in axes_of_conditions(u.conditions) for u, _ in uses):
        reason = f"every read by {index.text} is guarded"
    else:
        reason = f"no read by {index.text} tells one"
    return fault(
        "E0301",
        f"the index {index.text} has no range",
        index.span,
        reason,
        related=related,
        hint=f"write it here: {index.text} < n",
    )
