"""Loops over parts of axes: a task's share of an axis, and a vector's worth of it at a time."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeAlias

from nnc.ir.index import Atom, Axis, Size, divides, floordiv, mod
from nnc.ir.loops import Expr
from nnc.passes.schedule.code import Code
from nnc.passes.schedule.exprs import compare, op, position
from nnc.passes.schedule.tiles import Tile

LANE = "lane"

Env: TypeAlias = dict[Atom, Size]
Point: TypeAlias = Callable[[Env, "Expr | None"], None]
"""Writes what happens at a point: the axes that lanes spell, and which lanes take part."""


def grid_axis(tile: Tile) -> str:
    """The name of the grid axis of a tile that is cut."""
    return tile.axis if tile.block == 1 else f"{tile.axis}_task"


@dataclass(slots=True)
class Nest:
    """Writes loops; ``width`` is the number of lanes."""

    code: Code
    width: int

    def part(self, tile: Tile) -> tuple[Size, Size]:
        """Where this task's part of an axis starts, and how long it is."""
        if tile.block is None:
            return 0, tile.extent
        if tile.block == 1:
            return Axis(tile.axis).as_poly(), 1
        start = Axis(grid_axis(tile)).as_poly() * tile.block
        return start, self.length(tile.extent, start, tile.block)

    def length(self, extent: Size, start: Size, block: int) -> Size:
        """How many of ``block`` places from ``start`` lie below ``extent``.

        Where all are whole vectors, so is the result to see.
        """
        if isinstance(extent, int) and extent % block == 0:
            return block
        unit = self.width if all(divides(s, self.width) for s in (extent, start, block)) else 1
        left = floordiv(extent - start, unit)
        return self.code.whole(op("min", position(block // unit), position(left))) * unit

    def chunks(self, axis: str, start: Size, count: Size, env: Env, body: Point) -> None:
        """Run ``body`` over ``count`` values of ``axis``, a vector at a time, the last masked."""
        width, lane = self.width, Axis(LANE).as_poly()
        full, rest = floordiv(count, width), mod(count, width)
        if full == 1:
            body({**env, Axis(axis): start + lane}, None)
        elif full != 0:
            chunk = self.code.fresh(f"{axis}_chunk")
            with self.code.loop(chunk, full):
                at = start + Axis(chunk).as_poly() * width + lane
                body({**env, Axis(axis): at}, None)
        if rest == 0:
            return
        with ExitStack() as stack:
            if not isinstance(rest, int):
                stack.enter_context(self.code.branch(compare("gt", rest, 0)))
            local = full * width + lane
            body({**env, Axis(axis): start + local}, compare("lt", local, count))
