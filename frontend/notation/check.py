"""Every read proven inside its tensor, or checked as it runs, or refused."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from nnc.frontend.elaborate.faults import Fault, fault
from nnc.frontend.notation.box import Condition, Session, Use, is_bare
from nnc.frontend.notation.ranges import largest
from nnc.ir.expr import loads_in
from nnc.ir.index import Size, axes_of
from nnc.ir.prove import Facts, assumptions, bounds, proves_less, proves_nonneg
from nnc.ir.span import Span

Verdict = Literal["inside", "guarded", "data"]
"""``inside`` always; ``guarded``: inside where the conditions hold; ``data``: known only later."""


@dataclass(frozen=True, slots=True)
class Dim:
    """One subscript of a read and the dim that it must stay inside."""

    value: Size
    size: Size
    span: Span


def verdict(session: Session, use: Use, facts: Facts) -> Verdict:
    """Decide how a read is known to stay inside. Raises Fault where it is not."""
    sure = with_conditions(facts, use.sure)
    found: Verdict = "inside"
    for dim in _dims(use):
        if _is_whole_dim(session, dim) or _inside(dim, sure):
            continue
        if _inside(dim, with_conditions(facts, use.conditions)):
            found = "guarded" if found == "inside" else found
        elif any(True for _ in loads_in(dim.value)):
            found = "data"
        else:
            raise outside(session, use, dim, sure)
    return found


def with_conditions(facts: Facts, conditions: Iterable[Condition]) -> Facts:
    """What is known where ``conditions`` hold too."""
    for condition in conditions:
        facts = facts.assume(assumptions(condition.expr, condition.holds))
    return facts


def _dims(use: Use) -> list[Dim]:
    return [
        Dim(v, s, w.span)
        for v, s, w in zip(use.read.index, use.node.type.shape, use.written, strict=True)
    ]


def _is_whole_dim(session: Session, dim: Dim) -> bool:
    name = is_bare(dim.value)
    return name is not None and session.indices[name].extent == dim.size


def _inside(dim: Dim, facts: Facts) -> bool:
    return proves_nonneg(dim.value, facts) and proves_less(dim.value, dim.size, facts)


def outside(session: Session, use: Use, dim: Dim, facts: Facts) -> Fault:
    """Return the fault for a read that may fall outside, with the extremes it comes to."""
    text = session.spell(dim.value)
    low, high = bounds(dim.value, facts)
    below = not proves_nonneg(dim.value, facts)
    above = not proves_less(dim.value, dim.size, facts)
    notes = [f"the dim has size {dim.size}: its subscripts are 0 to {dim.size - 1}"]
    if low is not None and high is not None and axes_of(dim.value):
        notes.append(f"{text} comes to {session.spell(low)} to {session.spell(high)}")
    if use.conditions:
        notes.append("the conditions around it do not keep it inside")
    sources = [
        index.source
        for name, index in session.indices.items()
        if name in axes_of(dim.value) and index.source is not None
    ]
    return fault(
        "E0306",
        f"{use.text} may be read outside",
        dim.span,
        _label(text, dim, low if below else None, high if above else None),
        related=[s for s in sources if s[0] != dim.span],
        notes=notes,
        hint=_hint(session, use, dim, below, above),
        about=_about(session, dim, below, above),
    )


def _about(session: Session, dim: Dim, below: bool, above: bool) -> dict[str, object]:
    """Return what would keep a read inside: a guard or a ``require``, and a shorter range."""
    needed = _needed(session, dim, below, above)
    if not axes_of(dim.value):
        return {"require": needed}
    range_ = None if below else _narrower(session, dim)
    index, _, extent = range_.partition(" < ") if range_ is not None else ("", "", "")
    whole = _needed(session, dim, True, True)
    found: dict[str, object] = {"guard": needed, "inside": whole}
    return found | ({"index": index, "extent": extent} if range_ else {})


def _needed(session: Session, dim: Dim, below: bool, above: bool) -> str:
    text = session.spell(dim.value)
    if below and above:
        return f"0 <= {text} < {dim.size}"
    return f"{text} >= 0" if below else f"{text} < {dim.size}"


def _label(text: str, dim: Dim, low: Size | None, high: Size | None) -> str:
    reach = [str(s) for s in (low, high) if s is not None]
    if reach and axes_of(dim.value):
        return f"{text} reaches {' and '.join(reach)}, and the dim has size {dim.size}"
    return f"{text} is not shown to lie between 0 and {dim.size - 1}"


def _hint(session: Session, use: Use, dim: Dim, below: bool, above: bool) -> str:
    text = session.spell(dim.value)
    if not axes_of(dim.value):
        needed = f"{text} >= 0" if below else f"{text} < {dim.size}"
        return f"`require {needed}` makes each call check it first"
    guard = _needed(session, dim, below, above)
    parts = ", ".join(session.spell(i) for i in use.read.index)
    guarded = f"guard it: if {guard} then {use.text}[{parts}] else 0"
    narrower = None if below else _narrower(session, dim)
    return guarded if narrower is None else f"{guarded}; or bind {narrower}"


def _narrower(session: Session, dim: Dim) -> str | None:
    """A range that would keep the subscript inside, for the one index in it."""
    axes = axes_of(dim.value)
    if len(axes) != 1:
        return None
    (name,) = axes
    found = largest(session, name, dim.value, dim.size)
    return f"{session.indices[name].text} < {found[0]}" if found else None
