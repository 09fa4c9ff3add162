"""Whether a left-hand side stores each element at most once."""

from __future__ import annotations

from collections.abc import Sequence

from nnc.ir.index import Axis, FloorDiv, Mod, Poly, Size, axes_of, linear_in_axes
from nnc.ir.prove import Facts, proves_nonneg


def injective(out: Sequence[Size], facts: Facts) -> bool:
    """Whether different points of the axes in ``out`` go to different places.

    Axes that ``out`` does not mention are not looked at. Works by solving for axes one by one:
    one alone in a dim; several in one dim as the digits of a number (``i*4 + u`` with u < 4);
    and ``i // 4`` beside ``i % 4``. False means "not shown".
    """
    pending = {a for size in out for a in axes_of(size)}
    extents = dict(facts.axes)
    changed = True
    while pending and changed:
        before = len(pending)
        for size in out:
            pending -= _digits(size, pending, extents, facts)
        pending -= _split(out)
        changed = len(pending) < before
    return not pending


def _digits(size: Size, pending: set[str], extents: dict[str, Size], facts: Facts) -> set[str]:
    """Axes that the value of ``size`` tells, where the others in it are known."""
    linear = linear_in_axes(size)
    if linear is None:
        return set()
    weights = [(a, _positive(c, facts)) for a, c in linear[0].items() if a in pending]
    if any(w is None for _, w in weights):
        return set()
    ordered = [(a, w) for a, w in weights if w is not None]
    if len(ordered) == 1:
        return {ordered[0][0]}
    found: set[str] = set()
    reach: Size = 0
    while ordered:
        low = next(
            (p for p in ordered if all(proves_nonneg(q[1] - p[1], facts) for q in ordered)), None
        )
        if low is None or not proves_nonneg(low[1] - reach - 1, facts):
            return set()
        found.add(low[0])
        reach = reach + low[1] * (extents[low[0]] - 1)
        ordered.remove(low)
    return found


def _positive(c: Size, facts: Facts) -> Size | None:
    """The size of a coefficient whose sign is known, None where it is not."""
    if proves_nonneg(c - 1, facts):
        return c
    return -c if proves_nonneg(-c - 1, facts) else None


def _split(out: Sequence[Size]) -> set[str]:
    """Axes that one dim holds as ``i // k`` and another as ``i % k``."""
    quotients: set[tuple[str, int]] = set()
    remainders: set[tuple[str, int]] = set()
    for size in out:
        match size:
            case Poly(terms=(((FloorDiv(Poly(terms=(((Axis(name),), 1),)), by),), 1),)):
                quotients.add((name, by))
            case Poly(terms=(((Mod(Poly(terms=(((Axis(name),), 1),)), by),), 1),)):
                remainders.add((name, by))
    return {name for name, _ in quotients & remainders}
