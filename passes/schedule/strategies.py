"""Chooses how the stages of a group are computed, and adds the kernels to the work at hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nnc.ir.expr import Const
from nnc.ir.index import Size, axes_of, dims_of, linear_in_axes
from nnc.ir.loops import Load, Store, When
from nnc.passes.schedule.axes import tidy_axes
from nnc.passes.schedule.code import Code
from nnc.passes.schedule.contraction import as_contraction
from nnc.passes.schedule.exprs import loads_of
from nnc.passes.schedule.kernel import Params, Work, finish
from nnc.passes.schedule.lanes import Lanes, choose
from nnc.passes.schedule.nest import LANE, Nest, grid_axis
from nnc.passes.schedule.nested import Nested
from nnc.passes.schedule.plain import ELEMENT, plain
from nnc.passes.schedule.reduce import identity
from nnc.passes.schedule.rows import RowCode
from nnc.passes.schedule.scatter import scatter
from nnc.passes.schedule.split import split
from nnc.passes.schedule.stage import Stage, exprs_in_stage
from nnc.passes.schedule.tiled import Shape, Tiled
from nnc.passes.schedule.tiles import TASK_BYTES, tiles, typical


def schedule(group: Nested, work: Work) -> None:
    """Add kernels and launches that compute ``group``."""
    for stage in group.stages:
        if not stage.covers and stage.owners is not None and stage.target in group.kept:
            fill(stage.target, identity(stage.reduce, stage.dtype), stage.size, work)
    compute(group, work)


def compute(group: Nested, work: Work) -> None:
    """Add kernels for ``group``, by the first of the schedules that takes it.

    What its stages do not store to is left as it is, but for scatters, which fill their target.
    """
    for strategy in (scattered, tiled, divided):
        if strategy(group, work):
            return
    rows(group, choose(group.outer, group.stages), work)


def scattered(group: Nested, work: Work) -> bool:
    """Add the kernel of a form whose points may meet in one element, if ``group`` is that."""
    if all(s.owners is not None for s in group.stages):
        return False
    (stage,) = group.stages
    scatter(stage, group.hint, _reserved(group), work)
    return True


def divided(group: Nested, work: Work) -> bool:
    """Add two kernels in place of one for long reductions, if ``group`` has such."""
    lanes = choose(group.outer, group.stages)
    parts = split(group, lanes, work)
    if parts is None:
        return False
    if isinstance(parts.size, int) and parts.size < 0:
        return False
    two = replace(work, steps=[])
    rows(parts.first, lanes, two)
    rows(parts.second, lanes if lanes.axis else Lanes(None, False, lanes.width), two)
    if isinstance(parts.size, int):
        work.steps += two.steps
        return True
    one = replace(work, steps=[])
    rows(group, lanes, one)
    work.steps.append(When((parts.size,), tuple(two.steps), tuple(one.steps)))
    return True


def tiled(group: Nested, work: Work) -> bool:
    """Add the kernel of a contraction and what follows it elementwise, if ``group`` is that."""
    first, *after = group.phases
    if len(first.stages) != 1 or any(p.inner for p in after):
        return False
    stage = first.stages[0]
    product = as_contraction(stage)
    if product is None:
        return False
    code, params = Code(reserved=_reserved(group)), Params(work.tensor)
    writer = RowCode(
        nest=Nest(code, product.width),
        lanes=Lanes(product.n[0], False, product.width),
        phases=after,
        source=params,
        site=lambda guard: work.sites(guard.site),
        kept=group.kept,
    )
    kernel = Tiled(
        writer.nest,
        product,
        Shape.of(product),
        params,
        lambda env, mask, value: writer.finished(stage, env, mask, value),
    )
    cut = kernel.tiles()
    code.scopes[0].names |= {grid_axis(t) for t in cut}
    kernel.write(cut)
    finish(work, group.hint, code, params, cut, stage.span)
    return True


def rows(group: Nested, lanes: Lanes, work: Work) -> None:
    """Add the general kernel for ``group``."""
    order = _in_memory_order(group)
    order = sorted(order, key=lambda a: a[0] == lanes.axis)
    cut = tiles(order, TASK_BYTES // _point_bytes(group), lanes.width if lanes.axis else 1)
    code, params = Code(reserved=_reserved(group)), Params(work.tensor)
    code.scopes[0].names |= {grid_axis(t) for t in cut}
    narrow = lanes.inner and _is_narrow(group, lanes)
    again = _read_again(group, narrow)
    code.changing |= {params(t) for t in again}
    writer = RowCode(
        nest=Nest(code, lanes.width),
        lanes=lanes,
        phases=group.phases,
        source=params,
        site=lambda guard: work.sites(guard.site),
        kept=group.kept | again,
        narrow=narrow,
    )
    writer.write(cut)
    finish(work, group.hint, code, params, cut, group.stages[0].span)


def _is_narrow(group: Nested, lanes: Lanes) -> bool:
    """Whether every row is one vector at most, with the same lanes in every phase."""
    boxes = {p.inner for p in group.phases if p.inner}
    if len(boxes) != 1 or len(next(iter(boxes))) != 1:
        return False
    extent = next(iter(boxes))[0][1]
    vectors = all(lanes.along(p.inner, p.stages) for p in group.phases if p.inner)
    return vectors and isinstance(extent, int) and extent <= lanes.width


def _read_again(group: Nested, narrow: bool) -> frozenset[str]:
    """Tensors that the group itself reads back from memory.

    A value of one point (not along rows) is known to what follows where it reads that place; a
    subscript that depends on data does not say so.
    """
    made: dict[str, tuple[Stage, int]] = {}
    found: set[str] = set()
    for number, phase in enumerate(group.phases):
        for stage in phase.stages:
            for e in (e for x in exprs_in_stage(stage) for e in loads_of(x)):
                if e.source not in made:
                    continue
                earlier, at = made[e.source]
                passed = at != number and bool(group.phases[at].inner) and not narrow
                if passed or e.index[0] != earlier.offset:
                    found.add(e.source)
            if stage.reduce == "none":
                made[stage.target] = stage, number
    return frozenset(found)


def fill(target: str, value: Const, size: Size, work: Work) -> None:
    """Add a kernel that stores ``value`` to all ``size`` elements of ``target``."""
    compute(tidy_axes(plain("fill", target, value, size)), work)


def copy(source: str, target: str, work: Work) -> None:
    """Add a kernel that copies all of ``source`` to ``target``."""
    tensor = work.tensor(source)
    at = ELEMENT if tensor.size != 1 else 0
    value = Load(source, (at,), tensor.dtype)
    compute(tidy_axes(plain("copy", target, value, tensor.size)), work)


def literal(target: str, values: Sequence[int | float | bool], work: Work) -> None:
    """Add a kernel that stores constants."""
    code, params = Code(), Params(work.tensor)
    tensor = work.tensor(target)
    for place, value in enumerate(values):
        code.emit(Store(params(target), (place,), Const(value, tensor.dtype)))
    finish(work, "literal", code, params, (), None)


def _reserved(group: Nested) -> frozenset[str]:
    axes = {a for s in group.stages for a, _ in s.axes}
    dims = {d for s in group.stages for _, n in s.axes for d in dims_of(n)}
    return frozenset(axes | {f"{a}_task" for a in axes} | dims | {LANE})


def _in_memory_order(group: Nested) -> list[tuple[str, Size]]:
    """Outer axes, those with the longest steps through the first result outermost."""
    split = linear_in_axes(group.stages[0].offset)
    steps = {} if split is None else {a: abs(typical(c)) for a, c in split[0].items()}
    return sorted(group.outer, key=lambda a: -steps.get(a[0], 0))


def _point_bytes(group: Nested) -> int:
    """About what one outer point reads and writes, what is used again counted in part."""
    total = 0.0
    for phase in group.phases:
        points = 1
        for a, n in phase.inner:
            cut = phase.part is not None and phase.part.axis == a
            points *= phase.part.block if cut and phase.part is not None else typical(n)
        for stage in phase.stages:
            axes = {a for a, _ in (*group.outer, *phase.inner)}
            total += stage.dtype.bytes
            for e in loads_of(stage.value):
                share = 1.0 if axes <= axes_of(e.index[0]) else 0.125
                total += points * e.dtype.bytes * share
    return max(1, int(total))
