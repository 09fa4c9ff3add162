"""Forms whose points may meet in one element: the tasks own columns of the result.

A task fills its columns with the identity and then takes all points in the order of the form, so
that no two tasks touch one element and the order of additions is that of the input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nnc.ir.index import Axis, Size, substitute
from nnc.ir.loops import Expr, Load
from nnc.passes.schedule.code import Code
from nnc.passes.schedule.exprs import cast, conjunction, mentions, op, rewrite
from nnc.passes.schedule.kernel import Params, Work, finish
from nnc.passes.schedule.lanes import NEVER, cost, lane_count
from nnc.passes.schedule.nest import LANE, Env, Nest, Point
from nnc.passes.schedule.reduce import OPS, identity
from nnc.passes.schedule.stage import Stage, flat
from nnc.passes.schedule.tiles import TASK_BYTES, Tile, tiles, typical


class Unsupported(Exception):
    """A form that no schedule takes; the message says which and why."""


def scatter(stage: Stage, hint: str, reserved: frozenset[str], work: Work) -> None:
    """Add the kernel of a form whose result subscripts are loaded, or not told apart.

    Raises:
        Unsupported: argmax or argmin over such subscripts.
    """
    if stage.reduce.startswith("arg"):
        raise Unsupported(f"{stage.reduce} into places that depend on data")
    columns = {a: n for a, n in stage.axes if a in dict(stage.columns)}
    width = lane_count([stage])
    lanes = _lanes(stage, columns, width)
    order = [(a, n) for a, n in columns.items() if a != lanes]
    order += [(a, columns[a]) for a in columns if a == lanes]
    points = max(1, TASK_BYTES // _column_bytes(stage, columns))
    cut = tiles(order, points, width if lanes else 1)
    code, params = Code(reserved=reserved), Params(work.tensor)
    code.scopes[0].names |= {t.axis if t.block == 1 else f"{t.axis}_task" for t in cut}
    target = params(stage.target)
    code.changing.add(target)
    writer = _Scatter(Nest(code, width), stage, lanes, params, work, cut)
    if lanes is None:
        writer.write()
    else:
        with code.loop(LANE, width, "vector"):
            writer.write()
    finish(work, hint, code, params, cut, stage.span)


def _lanes(stage: Stage, columns: dict[str, Size], width: int) -> str | None:
    ranked = [(cost(a, n, [stage], width), a) for a, n in columns.items()]
    best = min(ranked, default=(NEVER, ""))
    scalar = width * 2.0
    return best[1] if best[0] < min(NEVER, scalar) else None


def _column_bytes(stage: Stage, columns: dict[str, Size]) -> int:
    points = 1
    for a, n in stage.axes:
        if a not in columns:
            points *= typical(n)
    return max(1, points) * 3 * stage.dtype.bytes


@dataclass(slots=True)
class _Scatter:
    nest: Nest
    stage: Stage
    lanes: str | None
    params: Params
    work: Work
    cut: Sequence[Tile]

    def write(self) -> None:
        """Fill this task's columns, then combine every point into them."""
        stage = self.stage
        parts = {t.axis: self.nest.part(t) for t in self.cut}
        by_dim = {k: a for a, k in stage.columns if a in parts}
        index: list[Size] = []
        dims: list[tuple[str, Size, Size]] = []
        for k, extent in enumerate(stage.shape):
            name = by_dim.get(k) or self.nest.code.fresh("row")
            start, count = parts.get(name, (0, extent))
            index.append(Axis(name).as_poly())
            dims.append((name, start, count))
        start_value = identity(stage.reduce, stage.dtype)

        def fill(env: Env, mask: Expr | None) -> None:
            at = substitute(flat(index, stage.shape), env)
            self.nest.code.store(self.params(stage.target), (at,), start_value, mask)

        self._loops(self._last(dims), {}, None, fill)
        axes = [(a, *parts.get(a, (0, n))) for a, n in stage.axes]
        self._loops(self._last(axes), {}, None, self._point)

    def _last(self, parts: list[tuple[str, Size, Size]]) -> list[tuple[str, Size, Size]]:
        return sorted(parts, key=lambda p: p[0] == self.lanes)

    def _loops(
        self,
        parts: Sequence[tuple[str, Size, Size]],
        env: Env,
        mask: Expr | None,
        body: Point,
    ) -> None:
        if not parts:
            body(env, mask)
            return
        (axis, start, count), *rest = parts
        if axis == self.lanes:
            self.nest.chunks(axis, start, count, env, body)
        elif any(t.axis == axis and t.block == 1 for t in self.cut):
            self._loops(rest, env, mask, body)
        else:
            with self.nest.code.loop(axis, count, start=start):
                self._loops(rest, env, mask, body)

    def _point(self, env: Env, mask: Expr | None) -> None:
        code, stage, env = self.nest.code, self.stage, dict(env)

        def size(s: Size) -> Size:
            return substitute(s, env)

        def load(e: Load) -> Expr:
            moved = Load(self.params(e.source), e.index, e.dtype, e.mask, e.other)
            if mask is None or not mentions(moved, LANE):
                return moved
            other = identity("none", e.dtype) if e.other is None else e.other
            return Load(moved.source, e.index, e.dtype, conjunction(mask, e.mask), other)

        for whole in stage.whole:
            env[Axis(whole.name)] = code.whole(rewrite(whole.value, size, load))
        for guard in stage.guards:
            shown = rewrite(guard.value, size, load)
            code.check(rewrite(guard.ok, size, load), self.work.sites(guard.site), shown)
        value = cast(rewrite(stage.value, size, load), stage.dtype)
        tests = [rewrite(e, size, load) for e in (stage.where, stage.inside) if e is not None]
        taken = conjunction(mask, *tests)
        at = (size(stage.offset),)
        target = self.params(stage.target)
        if stage.reduce != "none":
            zero = None if taken is None else identity("none", stage.dtype)
            value = op(OPS[stage.reduce], Load(target, at, stage.dtype, taken, zero), value)
        code.store(target, at, value, taken)
