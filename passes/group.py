"""Groups of forms, and when two may become one.

A group is a set of forms under common *outer* axes: at each outer point its members are computed
in turn, and what one computes the next reads at once. Members without a reduction may run over
further, *inner* axes; reductions run over inner axes and give one value for each outer point. That
covers chains of elementwise work, epilogues of contractions, row groups (softmax, layer norm: the
reductions of a row and what is made of them), sums that read one tensor together, and optimizers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from nnc.ir.graph import Node
from nnc.ir.index import Size, axes_of
from nnc.passes.align import Axes, in_row, row_begin, unify
from nnc.passes.schedule.exprs import loads_of
from nnc.passes.schedule.stage import Stage, rename_axes, volume
from nnc.passes.schedule.tiles import typical

ROW_BYTES = 256 * 1024
"""The most that one outer point of a row group may touch: what stays in a core's cache."""

SMALL = 16384
"""Elements that one task computes without regret."""

FEW_ROWS = 16
MANY_COLUMNS = 128
"""So many sums over a dim of unknown length give every thread some vectors of them."""

MOST_TENSORS = 40


@dataclass(frozen=True, slots=True)
class Member:
    """One form of a group."""

    number: int
    node: Node
    stage: Stage


@dataclass(frozen=True, eq=False)
class Group:
    """Forms that one kernel computes.

    ``fixed``: there are reductions, so the outer axes are theirs; otherwise they may be fewer.
    ``closed`` says why nothing may be added, where nothing may.
    """

    outer: Axes
    members: tuple[Member, ...]
    closed: str = ""

    @property
    def number(self) -> int:
        """The place of the first member in the graph."""
        return self.members[0].number

    @cached_property
    def fixed(self) -> bool:
        """Whether a reduction fixes the outer axes."""
        return any(m.stage.reduce != "none" for m in self.members)

    @cached_property
    def targets(self) -> dict[str, Stage]:
        """The members by the tensors that they compute."""
        return {m.stage.target: m.stage for m in self.members}

    @cached_property
    def sources(self) -> frozenset[str]:
        """The tensors that the members read, its own too."""
        return frozenset(s for m in self.members for s in m.stage.sources)

    @property
    def pieces(self) -> bool:
        """Whether the members compute parts of one tensor."""
        return len(self.members) != len(self.targets)

    @cached_property
    def contraction(self) -> bool:
        """Whether a member multiplies operands that are used again along other outer axes."""
        return any(_reuses(m.stage) for m in self.members)

    def inner(self, stage: Stage) -> Axes:
        """The axes of ``stage`` that are not outer."""
        outer = dict(self.outer)
        return tuple((a, n) for a, n in stage.axes if a not in outer)


def singleton(member: Member, closed: str = "") -> Group:
    """A group of one form."""
    stage = member.stage
    owners = stage.owners
    if not closed and owners is None:
        closed = "its elements are owned by columns (a scatter)"
    if not closed and not stage.covers:
        closed = "it does not store every element"
    outer = stage.axes if owners is None else stage.kept
    return Group(outer, (member,), closed)


def _reuses(stage: Stage) -> bool:
    """Whether two operands of a reduction each lack one of the result's axes."""
    if stage.reduce != "sum":
        return False
    kept = {a for a, _ in stage.kept}
    partial = {e.source for e in loads_of(stage.value) if not kept <= axes_of(e.index[0])}
    reduced = {a for a, _ in stage.reduced}
    along = [e for e in loads_of(stage.value) if reduced & axes_of(e.index[0])]
    return len(partial) >= 2 and sum(e.source in partial for e in along) >= 2


def full_reduction(group: Group) -> tuple[Size, ...] | None:
    """The box of a group that reduces one to nothing but a scalar."""
    boxes = {tuple(n for _, n in m.stage.axes) for m in group.members if m.stage.reduce != "none"}
    return next(iter(boxes)) if not group.outer and len(boxes) == 1 else None


def merge(first: Group, second: Group) -> Group | str:
    """Merge two groups, ``second`` not read by ``first``; or say why that cannot be.

    The axes of ``second`` get the names of those of ``first`` that they are.
    """
    for group in (first, second):
        if group.closed:
            return group.closed
    if second.contraction:
        return "a contraction reads its operands from memory"
    if first.contraction and second.fixed:
        return "what follows a contraction in its kernel is elementwise"
    names = _matched(first, second)
    if isinstance(names, str):
        return names
    outer = _common_outer(first, second, names)
    if isinstance(outer, str):
        return outer
    moved = [replace(m, stage=rename_axes(m.stage, names)) for m in second.members]
    members = tuple(sorted((*first.members, *moved), key=lambda m: m.number))
    merged = Group(outer, members)
    return _illegal(first, second, merged) or merged


def _matched(first: Group, second: Group) -> dict[str, str] | str:
    """For axes of ``second``, those of ``first`` that they must run with."""
    targets = first.targets
    one, two = _extents(first), _extents(second)
    names: dict[str, str] = {}
    edge = False
    for member in second.members:
        for load in member.stage.loads:
            made = targets.get(load.source)
            if made is None:
                continue
            edge = True
            found = unify(made.offset, one, load.index[0], two)
            if found is None and first.fixed and made.reduce == "none":
                found = unify(
                    row_begin(made.offset, first.outer), one, load.index[0], two, part=True
                )
            if found is None:
                return "it is read at other places than it is computed at"
            if not _consistent(names, found):
                return "it is read at several places"
            names.update(found)
    if not edge:
        _match_shared(first, second, names, one, two)
    return names


def _match_shared(
    first: Group,
    second: Group,
    names: dict[str, str],
    one: Mapping[str, Size],
    two: Mapping[str, Size],
) -> None:
    """Match the axes of groups that read one tensor, or that sum over equal boxes."""
    for member in second.members:
        for load in member.stage.loads:
            for other in (e for m in first.members for e in m.stage.loads):
                if other.source == load.source:
                    found = unify(other.index[0], one, load.index[0], two)
                    if found and _consistent(names, found):
                        names.update(found)
                        break
    box = full_reduction(first)
    if not names and box is not None and box == full_reduction(second):
        a = next(m.stage.axes for m in first.members if m.stage.reduce != "none")
        b = next(m.stage.axes for m in second.members if m.stage.reduce != "none")
        names.update({y: x for (x, _), (y, _) in zip(a, b, strict=True)})


def _consistent(names: Mapping[str, str], found: Mapping[str, str]) -> bool:
    """Whether ``found`` adds to the one-to-one matching ``names``."""
    back = {b: a for a, b in names.items()}
    return all(names.get(a, b) == b and back.get(b, a) == a for a, b in found.items())


def _extents(group: Group) -> dict[str, Size]:
    return {a: n for m in group.members for a, n in m.stage.axes}


def _common_outer(first: Group, second: Group, names: Mapping[str, str]) -> Axes | str:
    """The outer axes of both groups together, in the names of ``first``."""
    mine = {a for a, _ in first.outer}
    theirs = {names[a] for a, _ in second.outer if a in names}
    complete = len(theirs) == len(second.outer)
    if first.fixed and second.fixed:
        if not complete or theirs != mine:
            return "their reductions keep different axes"
        return first.outer
    if first.fixed:
        if not mine <= theirs:
            return "it is not made row by row from the reduction's results"
        return first.outer
    if second.fixed:
        if not complete or not theirs <= mine:
            return "the reduction keeps an axis that it does not have"
        return tuple((a, n) for a, n in first.outer if a in theirs)
    if not complete or theirs != mine:
        return "they run over different boxes"
    return first.outer


def _illegal(first: Group, second: Group, merged: Group) -> str:
    """Why ``merged`` must not be, or nothing."""
    targets = merged.targets
    for member in merged.members:
        for load in member.stage.loads:
            made = targets.get(load.source)
            if made is None or load.index[0] == made.offset:
                continue
            if made.reduce != "none" or not in_row(made, load, merged.outer):
                return "it is read at other places than it is computed at"
    inner = [merged.inner(m.stage) for m in merged.members]
    demoted = len(first.outer) > len(merged.outer) or len(second.outer) > len(merged.outer)
    if first.contraction and any(merged.inner(m.stage) for m in _of(merged, second)):
        return "what follows a contraction in its kernel is elementwise"
    if len(_tensors(merged)) > MOST_TENSORS:
        return "one kernel would need too many tensors"
    depends = any(t in first.targets for m in second.members for t in _sources(m.stage))
    if not any(inner) or not (demoted or depends):
        return ""
    if depends and not demoted and not any(merged.inner(m.stage) for m in _of(merged, second)):
        return ""
    return _row_reason(merged, [i for i in inner if i])


def _of(merged: Group, part: Group) -> list[Member]:
    numbers = {m.number for m in part.members}
    return [m for m in merged.members if m.number in numbers]


def _sources(stage: Stage) -> set[str]:
    return set(stage.sources)


def _tensors(group: Group) -> set[str]:
    return {s for m in group.members for s in (m.stage.target, *_sources(m.stage))}


def _row_reason(group: Group, inner: Sequence[Axes]) -> str:
    """Why the rows of a group do not fit a task each, or nothing."""
    rows = typical(volume(group.outer))
    elements = max(typical(volume(i)) for i in inner)
    if elements * 4 > ROW_BYTES:
        return "a row is larger than a core's cache"
    long = any(not isinstance(n, int) for i in inner for _, n in i)
    fixed = all(isinstance(n, int) for _, n in group.outer)
    few = rows < MANY_COLUMNS if long and fixed else rows < FEW_ROWS and rows * elements > SMALL
    return "there are too few rows to share out among the threads" if few else ""
