"""The general kernel: tasks over outer points, at each point the stages of a group in turn.

One schedule serves maps, row and column reductions, and row groups such as softmax. What differs
is the axis that vector lanes run along: an outer axis (lanes are neighbouring results, reduced
axes are loops) or an inner one (lanes are neighbouring elements of a reduction, joined by a fixed
tree at its end).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from nnc.ir.expr import Const
from nnc.ir.index import Axis, Size, ceildiv, substitute
from nnc.ir.loops import Expr, Load
from nnc.passes.schedule.code import Code
from nnc.passes.schedule.exprs import cast, conjunction, mentions, rewrite
from nnc.passes.schedule.lanes import Lanes
from nnc.passes.schedule.nest import LANE, Env, Nest, Point
from nnc.passes.schedule.nested import Axes, Phase
from nnc.passes.schedule.reduce import (
    AnyAccumulator,
    Pairwise,
    accumulator,
    is_ordered,
    levels_for,
    wide,
)
from nnc.passes.schedule.stage import Guard, Stage, volume
from nnc.passes.schedule.tiles import BLOCK_ELEMENTS, BLOCK_ROWS, Tile, block_of
from nnc.passes.schedule.trim import Part, trimmed

Known = dict[tuple[str, Size], Expr]


@dataclass(slots=True)
class RowCode:
    """Writes the body of the general kernel.

    ``source`` names the parameter of a tensor; ``kept`` are the targets that go to memory.
    ``narrow``: a row is no longer than a vector, so what one phase computes along it the next has
    at hand. ``known`` holds what was computed at this outer point, by tensor and flat place.
    """

    nest: Nest
    lanes: Lanes
    phases: Sequence[Phase]
    source: Callable[[str], str]
    site: Callable[[Guard], int]
    kept: frozenset[str]
    narrow: bool = False
    known: Known = field(default_factory=dict)

    @property
    def code(self) -> Code:
        """Where it is written."""
        return self.nest.code

    def write(self, tiles: Sequence[Tile]) -> None:
        """Write the whole body, for tasks cut as ``tiles`` say (the lanes' axis last)."""
        with ExitStack() as stack:
            if self.lanes.axis is not None or self.lanes.inner:
                stack.enter_context(self.code.loop(LANE, self.lanes.width, "vector"))
            for tile in tiles:
                start, count = self.nest.part(tile)
                if tile.axis == self.lanes.axis:
                    self.nest.chunks(tile.axis, start, count, {}, self._row)
                    return
                if tile.block != 1:
                    stack.enter_context(self.code.loop(tile.axis, count, start=start))
            self._row({}, None)

    def finished(self, stage: Stage, env: Env, mask: Expr | None, value: Expr) -> None:
        """Take the finished result of ``stage`` at an outer point, and write all phases there."""
        self.known = {}
        _PhaseCode(self, Phase((), (stage,)), env, mask).take(stage, self.code.bind(value))
        for phase in self.phases:
            _PhaseCode(self, phase, env, mask).write()

    # one outer point ------------------------------------------------------------------------

    def _row(self, env: Env, mask: Expr | None) -> None:
        self.known = {}
        for phase in self.phases:
            _PhaseCode(self, phase, env, mask).write()


@dataclass(slots=True)
class _PhaseCode:
    """Writes one phase at one outer point (or a vector of them, where ``mask`` holds)."""

    row: RowCode
    phase: Phase
    env: Env
    mask: Expr | None
    running: dict[str, AnyAccumulator] = field(default_factory=dict)
    along: str | None = None

    def write(self) -> None:
        """Write the phase."""
        phase, lanes = self.phase, self.row.lanes
        vectors = lanes.inner and not phase.pairwise
        self.along = lanes.along(phase.inner, phase.stages) if vectors else None
        reductions = [s for s in phase.stages if s.reduce != "none"]
        ordered = [s for s in reductions if is_ordered(s.reduce, s.value.dtype)]
        axes = tuple(sorted(phase.inner, key=lambda a: a[0] == self.along))
        cut = self._cut(axes)
        if cut is None or not ordered:
            ordered = []
            self._start(reductions)
            self._loops(self._trimmed([self._part(a, n) for a, n in axes]), self.env, self._point)
        else:
            self._blocks(axes, cut, reductions, ordered)
        for stage in reductions:
            if stage not in ordered:
                self.take(stage, self.running[stage.target].result())

    def _cut(self, axes: Axes) -> tuple[int, int] | None:
        """The axis along which a sum goes block by block, and how many points a block has."""
        if self.phase.part is not None:
            return None
        if self.phase.pairwise:
            return len(axes) - 1, 1
        return block_of(axes, BLOCK_ROWS if self.row.lanes.axis is not None else BLOCK_ELEMENTS)

    def _part(self, axis: str, extent: Size) -> tuple[str, Size, Size]:
        """Where the loop over an inner axis starts, and how long it is."""
        part = self.phase.part
        if part is None or part.axis != axis:
            return axis, 0, extent
        start = Axis(part.number).as_poly() * part.block
        return axis, start, self.row.nest.length(extent, start, part.block)

    def _start(self, stages: Sequence[Stage]) -> None:
        lanes = self.row.lanes.axis is not None or self.along is not None
        for s in stages:
            self.running[s.target] = accumulator(
                self.row.code, s.reduce, s.value.dtype, lanes=lanes, folded=self.along is not None
            )
            self.running[s.target].start()

    def _blocks(
        self,
        axes: Axes,
        cut: tuple[int, int],
        reductions: Sequence[Stage],
        ordered: Sequence[Stage],
    ) -> None:
        """Sum block by block, and the blocks' results in pairs."""
        code, lanes = self.row.code, self.row.lanes.axis is not None
        place, block = cut
        name, extent = axes[place]
        blocks = ceildiv(extent, block)
        levels = levels_for(volume([*axes[:place], (name, blocks)]))
        totals = {
            s.target: Pairwise(code, s.reduce, wide(s.value.dtype), lanes, levels) for s in ordered
        }
        for total in totals.values():
            total.start()
        self._start([s for s in reductions if s not in ordered])
        with ExitStack() as stack:
            for axis, n in axes[:place]:
                stack.enter_context(code.loop(axis, n))
            number = code.fresh(f"{name}_block")
            stack.enter_context(code.loop(number, blocks))
            self._start(ordered)
            start = Axis(number).as_poly() * block
            count = self.row.nest.length(extent, start, block)
            parts = [(name, start, count), *((a, 0, n) for a, n in axes[place + 1 :])]
            self._loops(self._trimmed(parts), self.env, self._point)
            for s in ordered:
                running = self.running[s.target]
                assert not hasattr(running, "place")
                totals[s.target].push(running.partial())
        for s in ordered:
            self.take(s, code.bind(cast(totals[s.target].result(), s.dtype)))

    def _trimmed(self, parts: Sequence[Part]) -> list[Part]:
        """Leave out what every stage's filter rules out, as far as it is known before the loops."""
        row = self.row
        lanes = frozenset({LANE, *(w.name for s in self.phase.stages for w in s.whole)})
        return trimmed(parts, self.phase.stages, self.env, lanes, row.code)

    def _loops(self, parts: Sequence[tuple[str, Size, Size]], env: Env, body: Point) -> None:
        """Nest loops over parts of axes (name, start, count), the lanes' axis innermost."""
        if not parts:
            body(env, self.mask)
            return
        (axis, start, count), *rest = parts
        if axis == self.along:
            self.row.nest.chunks(axis, start, count, env, body)
            return
        with self.row.code.loop(axis, count, start=start):
            self._loops(rest, env, body)

    # one point ------------------------------------------------------------------------------

    def _point(self, env: Env, mask: Expr | None) -> None:
        """Compute every stage here: store it, or add it to its reduction."""
        values: Known = dict(self.row.known)
        for stage in self.phase.stages:
            self._stage(stage, env, mask, values)

    def _stage(self, stage: Stage, env: Env, mask: Expr | None, values: Known) -> None:
        code = self.row.code
        env = dict(env)

        def size(s: Size) -> Size:
            return substitute(s, env)

        def load(e: Load) -> Expr:
            return self._load(e, mask, values)

        for whole in stage.whole:
            env[Axis(whole.name)] = code.whole(rewrite(whole.value, size, load))
        for guard in stage.guards:
            ok, shown = rewrite(guard.ok, size, load), rewrite(guard.value, size, load)
            code.check(ok, self.row.site(guard), shown)
        value = rewrite(stage.value, size, load)
        where = None if stage.where is None else rewrite(stage.where, size, load)
        if stage.reduce != "none":
            taken = conjunction(mask if self.along else None, where)
            self.running[stage.target].update(value, size(stage.place), taken)
            return
        at = size(stage.offset)
        values[stage.target, at] = bound = code.bind(value)
        if stage.target in self.row.kept:
            inside = None if stage.inside is None else rewrite(stage.inside, size, load)
            self._store(stage, at, bound, mask, inside, where)
        if not self.phase.inner or self.row.narrow:
            self.row.known[stage.target, at] = bound

    def _load(self, e: Load, mask: Expr | None, values: Known) -> Expr:
        found = values.get((e.source, e.index[0]))
        if found is not None:
            return found
        source = self.row.source(e.source)
        if mask is None or not mentions(Load(source, e.index, e.dtype), LANE):
            return Load(source, e.index, e.dtype, e.mask, e.other)
        other = Const(0, e.dtype) if e.other is None else e.other
        return Load(source, e.index, e.dtype, conjunction(mask, e.mask), other)

    def take(self, stage: Stage, result: Expr) -> None:
        """Hand a reduction's result to the stages after it, and store it."""

        def size(s: Size) -> Size:
            return substitute(s, self.env)

        at = size(stage.offset)
        self.row.known[stage.target, at] = result
        if stage.target in self.row.kept:
            inside = None if stage.inside is None else rewrite(stage.inside, size)
            self._store(stage, at, result, self.mask, inside, None)

    def _store(
        self,
        stage: Stage,
        at: Size,
        value: Expr,
        mask: Expr | None,
        inside: Expr | None,
        where: Expr | None,
    ) -> None:
        self.row.code.store(
            self.row.source(stage.target), (at,), value, conjunction(mask, inside, where)
        )
