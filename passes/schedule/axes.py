"""Joins axes that run through memory one after the other, and gives axes plain names.

``x[b*64 + i]`` over b and i is ``x[e]`` over one axis: longer vectors, fewer loops, and one kernel
for elementwise work of any rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nnc.ir.index import Axis, Size, axes_of, dims_of, substitute
from nnc.passes.schedule.nested import Axes, Nested, Phase
from nnc.passes.schedule.stage import Stage, change_stage, rename_axes, sizes_in_stage

OUTER, INNER = "ijklmnop", "rstuvwxyz"


def tidy_axes(group: Nested) -> Nested:
    """Return ``group`` with axes joined where all its stages allow it, and renamed."""
    scatters = any(s.owners is None for s in group.stages)  # cut along single dims of the result
    return _named(group if scatters else _joined(group))


def _joined(group: Nested) -> Nested:
    outer, phases = group.outer, group.phases
    found = _pair(outer, group.stages)
    while found is not None:
        a, b = found
        outer = _without(outer, a, b)
        phases = tuple(Phase(p.inner, tuple(_join(s, a, b) for s in p.stages)) for p in phases)
        found = _pair(outer, [s for p in phases for s in p.stages])
    return replace(group, outer=outer, phases=tuple(_joined_phase(p) for p in phases))


def _joined_phase(phase: Phase) -> Phase:
    inner, stages = phase.inner, phase.stages
    found = _pair(inner, stages)
    while found is not None:
        a, b = found
        inner, stages = _without(inner, a, b), tuple(_join(s, a, b) for s in stages)
        found = _pair(inner, stages)
    return Phase(inner, stages)


def _without(axes: Axes, a: str, b: str) -> Axes:
    extents = dict(axes)
    joined = extents[a] * extents[b]
    return tuple((x, joined if x == b else n) for x, n in axes if x != a)


def _pair(axes: Axes, stages: Sequence[Stage]) -> tuple[str, str] | None:
    """Two axes of which every subscript depends through ``a * extent(b) + b`` alone."""
    for a, _ in axes:
        for b, n in axes:
            if a != b and all(_one(s, a, b, n) for stage in stages for s in _sizes(stage)):
                return a, b
    return None


def _sizes(stage: Stage) -> Sequence[Size]:
    return list(dict.fromkeys(sizes_in_stage(stage)))


def _one(size: Size, a: str, b: str, extent: Size) -> bool:
    mentioned = axes_of(size)
    if a not in mentioned and b not in mentioned:
        return True
    alone = _at_zero(size, a)
    return substitute(alone, {Axis(b): Axis(a).as_poly() * extent + Axis(b).as_poly()}) == size


def _at_zero(size: Size, a: str) -> Size:
    return substitute(size, {Axis(a): 0})


def _join(stage: Stage, a: str, b: str) -> Stage:
    extents = dict(stage.axes)
    if a not in extents:
        return stage
    axes = [(x, extents[a] * n if x == b else n) for x, n in stage.axes if x != a]
    return change_stage(stage, lambda s: _at_zero(s, a), axes)


def _named(group: Nested) -> Nested:
    """Call outer axes i, j, ... and inner axes r, s, ...: equal kernels then have equal names."""
    stages = group.stages
    taken = {d for s in stages for size in sizes_in_stage(s) for d in dims_of(size)}
    taken |= {d for s in stages for _, n in s.axes for d in dims_of(n)}
    names = {a: _free(OUTER, k, taken) for k, (a, _) in enumerate(group.outer)}
    phases: list[Phase] = []
    for phase in group.phases:
        own = {**names, **{a: _free(INNER, k, taken) for k, (a, _) in enumerate(phase.inner)}}
        inner = tuple((own[a], n) for a, n in phase.inner)
        phases.append(Phase(inner, tuple(rename_axes(s, own) for s in phase.stages)))
    outer = tuple((names[a], n) for a, n in group.outer)
    return replace(group, outer=outer, phases=tuple(phases))


def _free(letters: str, k: int, taken: set[str]) -> str:
    name = letters[k] if k < len(letters) else f"{letters[0]}{k}"
    while name in taken:
        name += "_"
    return name
