"""Which axis the lanes of a vector run along, and how many lanes there are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nnc.ir.index import Size, axes_of, linear_in_axes
from nnc.ir.loops import VECTOR_BYTES, Expr, Load, Op
from nnc.passes.schedule.exprs import mentions, walk
from nnc.passes.schedule.stage import Stage
from nnc.passes.schedule.tiles import typical

Axes = Sequence[tuple[str, Size]]
NEVER = 1e18


@dataclass(frozen=True, slots=True)
class Lanes:
    """``axis``: the outer axis of the lanes; ``inner``: each phase has its own, along its loops.

    With neither, the kernel works element by element.
    """

    axis: str | None
    inner: bool
    width: int

    def along(self, inner: Axes, stages: Sequence[Stage]) -> str | None:
        """The inner axis of a phase that lanes run along."""
        ranked = [(cost(a, n, stages, self.width), -k, a) for k, (a, n) in enumerate(inner)]
        best = min(ranked, default=(NEVER, 0, None))
        return best[2] if best[0] < NEVER else None


def choose(outer: Axes, stages: Sequence[Stage]) -> Lanes:
    """Pick the cheaper of lanes along an outer axis and lanes along the inner ones."""
    width = lane_count(stages)
    scalar = _scalar_cost(stages, width)
    across = min(
        ((cost(a, n, stages, width), -k, a) for k, (a, n) in enumerate(outer)),
        default=(NEVER, 0, None),
    )
    names = {a for a, _ in outer}
    inner_cost = 0.0
    for stage in stages:
        inner = [(a, n) for a, n in stage.axes if a not in names]
        best = min((cost(a, n, [stage], width) for a, n in inner), default=NEVER)
        inner_cost += min(best, _scalar_cost([stage], width)) if inner else 0.0
    has_inner = any(a not in names for s in stages for a, _ in s.axes)
    if has_inner and inner_cost < min(scalar, across[0]):
        return Lanes(None, True, width)
    if across[0] < scalar:
        return Lanes(across[2], False, width)
    return Lanes(None, False, width)


def cost(axis: str, extent: Size, stages: Sequence[Stage], width: int) -> float:
    """About how many memory operations a vector's worth of points takes along ``axis``."""
    total = 0.0
    for stage in stages:
        if any(mentions(w.value, axis) for w in stage.whole):
            return NEVER
        if any(mentions(e, axis) for g in stage.guards for e in (g.ok, g.value)):
            return NEVER
        total += 1.0 + sum(_access(i, axis, width) for i in _accesses(stage))
    n = typical(extent)
    used = n / (-(-n // width) * width) if n > 0 else 1.0
    return total / used


def _scalar_cost(stages: Sequence[Stage], width: int) -> float:
    return width * sum(1.0 + sum(1 for _ in _accesses(s)) for s in stages)


def _access(index: Size, axis: str, width: int) -> float:
    if axis not in axes_of(index):
        return 0.5
    split = linear_in_axes(index)
    if split is not None and split[0].get(axis) == 1:
        return 1.0
    return float(width)


def _accesses(stage: Stage) -> Iterator[Size]:
    """The flat subscript of every load, and of the store of a result per point."""
    exprs: list[Expr] = [stage.value] if stage.where is None else [stage.value, stage.where]
    for e in walk(exprs):
        if isinstance(e, Load):
            yield from e.index
    if stage.owners is not None:
        yield stage.offset


def lane_count(stages: Sequence[Stage]) -> int:
    """Lanes of a vector: 64 bytes of the widest type that memory or arithmetic has.

    Subscripts, which are 64 bits wide, do not count, nor do scalars.
    """
    widest = 1
    for stage in stages:
        exprs = [stage.value] if stage.where is None else [stage.value, stage.where]
        loads = [e for e in walk(exprs) if isinstance(e, Load) and any(map(axes_of, e.index))]
        types = {stage.dtype, *(e.dtype for e in loads)}
        types |= {e.dtype for e in walk(exprs) if isinstance(e, Op) and e.dtype.is_float}
        widest = max(widest, *(t.bytes for t in types))
    return VECTOR_BYTES // widest
