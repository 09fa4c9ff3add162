"""Shares one long reduction out among tasks: partial results first, then their combination.

The blocks are those that one task alone would sum, and their results are combined in the same
pairs, so a sum has the same bits whether it is split or not. Only speed decides.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from nnc.ir.index import Axis, Size, ceildiv, product
from nnc.ir.loops import Load
from nnc.ir.types import DType
from nnc.passes.schedule.kernel import Work
from nnc.passes.schedule.lanes import Lanes
from nnc.passes.schedule.nested import Axes, Nested, Phase, Slice
from nnc.passes.schedule.reduce import wide
from nnc.passes.schedule.stage import Stage, flat
from nnc.passes.schedule.tiles import BLOCK_ELEMENTS, BLOCK_ROWS, block_of, typical

FEW_POINTS = 4096
"""Up to so many results a reduction alone does not give every thread something to do."""

LEAST_ELEMENTS = 8 * BLOCK_ELEMENTS
LEAST_ROWS = 16 * BLOCK_ROWS


@dataclass(frozen=True, slots=True)
class Split:
    """Two groups in place of one, worth it where ``size`` is at least 0."""

    first: Nested
    second: Nested
    size: Size


def split(group: Nested, lanes: Lanes, work: Work) -> Split | None:
    """Split the reductions of ``group``, where they are all in its one pass over inner axes."""
    head, *after = group.phases
    if not head.inner or any(p.inner for p in after) or typical(group.volume) > FEW_POINTS:
        return None
    if any(s.reduce in {"none", "argmax", "argmin"} for s in head.stages):
        return None
    along = lanes.along(head.inner, head.stages) if lanes.inner else None
    axes = tuple(sorted(head.inner, key=lambda a: a[0] == along))
    cut = block_of(axes, BLOCK_ELEMENTS if lanes.axis is None else BLOCK_ROWS)
    if cut is None:
        return None
    place, block = cut
    name, extent = axes[place]
    blocks: Axes = (*axes[:place], (f"{name}_block", ceildiv(extent, block)))
    pairs = [_pair(s, group, blocks, work) for s in head.stages]
    first = Nested(
        group.hint,
        (*blocks, *group.outer),
        (Phase(axes[place:], tuple(a for a, _ in pairs), Slice(name, f"{name}_block", block)),),
        frozenset(a.target for a, _ in pairs),
    )
    combined = Phase(blocks, tuple(b for _, b in pairs), pairwise=True)
    second = replace(group, phases=(combined, *after))
    least = LEAST_ELEMENTS if lanes.axis is None else LEAST_ROWS
    return Split(first, second, product(n for _, n in axes) - least)


def _pair(stage: Stage, group: Nested, blocks: Axes, work: Work) -> tuple[Stage, Stage]:
    """The partial results of ``stage`` for each block, and their combination."""
    kind = _partial_type(stage)
    axes = (*blocks, *group.outer)
    at = flat([Axis(a).as_poly() for a, _ in axes], [n for _, n in axes])
    size = product(n for _, n in axes)
    partial = work.scratch("partial", kind, size)
    names = frozenset(a for a, _ in axes)
    first = replace(
        stage,
        target=partial,
        dtype=kind,
        size=size,
        axes=(*stage.axes, blocks[-1]),
        offset=at,
        owners=names,
        covers=True,
        inside=None,
    )
    second = replace(
        stage,
        axes=axes,
        value=Load(partial, (at,), kind),
        where=None,
        whole=(),
        guards=(),
    )
    return first, second


def _partial_type(stage: Stage) -> DType:
    return wide(stage.value.dtype)
