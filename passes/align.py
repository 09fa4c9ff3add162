"""Matches the axes of two forms by where they read and store.

Flat subscripts tell it all: two axes are the same where their steps through one tensor and their
extents are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from nnc.ir.expr import Const, Position
from nnc.ir.index import Axis, Poly, Size, axes_of, linear_in_axes, substitute
from nnc.ir.loops import Load, Op
from nnc.ir.prove import Facts, proves_less, proves_nonneg
from nnc.ir.types import DType
from nnc.passes.schedule.exprs import walk
from nnc.passes.schedule.stage import Stage, volume

Axes = tuple[tuple[str, Size], ...]


def unify(
    place: Size,
    extents: Mapping[str, Size],
    other: Size,
    others: Mapping[str, Size],
    *,
    part: bool = False,
) -> dict[str, str] | None:
    """Match axes so that two flat subscripts become equal: axes of ``other`` to those of ``place``.

    Axes go together where their steps and extents are equal. With ``part``, ``other`` may have
    further terms.
    """
    one, two = linear_in_axes(place), linear_in_axes(other)
    if one is None or two is None:
        return None
    if not part and (one[1] != two[1] or len(one[0]) != len(two[0])):
        return None
    names: dict[str, str] = {}
    left = dict(two[0])
    for axis, step in one[0].items():
        fit = [a for a, s in left.items() if s == step and others.get(a) == extents.get(axis)]
        if len(fit) != 1:
            return None
        names[fit[0]] = axis
        del left[fit[0]]
    return names


def row_begin(place: Size, outer: Axes) -> Size:
    """Where the row of ``place`` begins: its inner axes at 0."""
    inner = axes_of(place) - {a for a, _ in outer}
    return substitute(place, {Axis(a): 0 for a in inner})


def in_row(made: Stage, load: Load, outer: Axes) -> bool:
    """Whether ``load`` stays in the part of ``made`` that is computed at its own outer point.

    So it does where it differs only in what is added to the row's begin, and that is masked or
    proven to be less than what a row holds.
    """
    start = row_begin(made.offset, outer)
    rest = load.index[0] - start
    span = volume([(a, n) for a, n in made.axes if a in axes_of(made.offset - start)])
    axes = [*((a, n) for a, n in made.axes), *_masked(load)]
    facts = Facts(tuple(axes))
    within = linear_in_axes(made.offset - start)
    if within is None or axes_of(rest) & {a for a, _ in outer}:
        return False
    last = within[1] + _sum_of(c * (dict(made.axes)[a] - 1) for a, c in within[0].items())
    if not proves_nonneg(span - 1 - last, facts):
        return False
    return proves_nonneg(rest, facts) and proves_less(rest, span, facts)


def _sum_of(sizes: Iterable[Size]) -> Size:
    """Add sizes."""
    total: Size = 0
    for size in sizes:
        total = total + size
    return total


def _masked(load: Load) -> Iterator[tuple[str, Size]]:
    """Axes that the mask of a load bounds from both sides."""
    tests = [] if load.mask is None else [e for e in walk([load.mask]) if isinstance(e, Op)]
    if any(e.name not in {"and", "ge", "lt"} for e in tests):
        return
    low = {e.args[0] for e in tests if e.name == "ge" and e.args[1] == Const(0, DType.I64)}
    for test in tests:
        match test:
            case Op("lt", (Position(Poly((((Axis(name),), 1),))), bound)) if test.args[0] in low:
                if isinstance(bound, Position):
                    yield name, bound.index
                elif isinstance(bound, Const):
                    yield name, int(bound.value)
