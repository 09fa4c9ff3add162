"""Cutting a box of independent points into tasks, and loops into blocks of a given order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nnc.ir.index import Atom, Dim, Size, ceildiv, evaluate, substitute

TASK_BYTES = 128 * 1024
"""What a task should read and write: above the cost of claiming it, within a core's cache."""

TYPICAL_DIM = 64
"""What a symbolic dim is taken to be where a choice of speed, never of meaning, depends on it."""

BLOCK_ELEMENTS = 4096
"""Elements that one accumulator sums before partial sums are combined in pairs."""

BLOCK_ROWS = 64
"""The same where a vector of neighbouring results is summed row by row."""


@dataclass(frozen=True, slots=True)
class Tile:
    """How one axis is cut. ``block`` None: all of it in each task; else ``block`` at a time."""

    axis: str
    extent: Size
    block: int | None

    @property
    def tasks(self) -> Size:
        """The number of tasks along this axis."""
        return 1 if self.block is None else ceildiv(self.extent, self.block)


def typical(size: Size) -> int:
    """A size with its dims at a typical value."""
    if isinstance(size, int):
        return size
    dims: dict[Atom, Size] = {a: TYPICAL_DIM for a in size.all_atoms() if isinstance(a, Dim)}
    fixed = substitute(size, dims)
    return max(1, fixed if isinstance(fixed, int) else evaluate(fixed, {}))


def tiles(axes: Sequence[tuple[str, Size]], budget: int, step: int = 1) -> list[Tile]:
    """Cut ``axes`` (outermost first) into tasks of about ``budget`` points.

    ``step``: blocks of the innermost axis are multiples of it. Tasks hold whole inner axes as far
    as the budget goes; an axis of symbolic extent is always cut, since it may be long.
    """
    result: list[Tile] = []
    left = max(budget, 1)
    for place, (axis, extent) in enumerate(reversed(axes)):
        unit = step if place == 0 else 1
        if isinstance(extent, int) and extent <= left:
            result.append(Tile(axis, extent, None))
            left //= max(extent, 1)
            continue
        block = 1 << max(left, 1).bit_length() - 1
        result.append(Tile(axis, extent, -(-block // unit) * unit))
        left = 0
    return result[::-1]


def block_of(axes: Sequence[tuple[str, Size]], limit: int) -> tuple[int, int] | None:
    """Where a reduction over ``axes`` is cut into blocks of at most ``limit`` points.

    Returns the number of the axis that is cut, and into pieces of how many; axes after it are
    whole in each block. None where one block holds all. Part of what fixes the bits.
    """
    inside = 1
    for k in range(len(axes) - 1, -1, -1):
        extent = axes[k][1]
        if isinstance(extent, int) and inside * extent <= limit:
            inside *= max(extent, 1)
            continue
        return k, max(1, limit // inside)
    return None
