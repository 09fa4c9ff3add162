"""Sums of products with operands that differ in their axes: one template for all of them.

Matmul, batched or transposed, every convolution and the gradients of all these are sums over axes
K of a left factor times a right factor, for results with axes M (of the left factor only), N (of
the right only) and perhaps axes of both. A task computes a block of M x N: for each block of K it
brings a panel of the right factor into a small contiguous cell (through that operand's own
subscripts, so any layout, and any formula, will do), and the left factor too unless it can be read
in place; then register tiles run over them. What follows elementwise is computed on the finished
block.

The scheme of K. Goto, R. van de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008.
The K block fixes bits; tile and task sizes do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nnc.ir.expr import Const
from nnc.ir.index import Atom, Axis, Size, axes_of, floordiv, linear_in_axes, mod, substitute
from nnc.ir.loops import Expr, Load, Op
from nnc.ir.types import DType
from nnc.passes.schedule.exprs import mentions, op
from nnc.passes.schedule.lanes import lane_count
from nnc.passes.schedule.stage import Stage, volume
from nnc.passes.schedule.tiles import typical

Axes = tuple[tuple[str, Size], ...]

K_BLOCK = 256
"""Products that one accumulator sums before its sum joins the block's. Part of what fixes bits."""

LEAST_POINTS = 2048
"""Smaller contractions (in multiply-adds, at typical sizes) are left to the general kernel."""

ROW = "contraction.row"
"""The axis that runs through all of M, row-major."""


@dataclass(frozen=True, slots=True)
class Contraction:
    """A stage as ``result[b, m, n]``, the sum over k of ``left[b, m, k] * right[b, k, n]``.

    ``n`` is the axis that vector lanes run along; further axes of the right factor count as batch.
    """

    stage: Stage
    left: Expr
    right: Expr
    batch: Axes
    m: Axes
    n: tuple[str, Size]
    k: Axes
    width: int

    @property
    def rows(self) -> Size:
        """The size of M."""
        return volume(self.m)

    def row_axes(self, row: Size) -> dict[Atom, Size]:
        """The axes of M at row number ``row``."""
        found: dict[Atom, Size] = {}
        for name, extent in reversed(self.m[1:]):
            assert isinstance(extent, int), "checked by as_contraction"
            found[Axis(name)] = mod(row, extent)
            row = floordiv(row, extent)
        found[Axis(self.m[0][0])] = row
        return found

    def in_place(self) -> tuple[str, Size, Size] | None:
        """How the left factor is read without packing: tensor, row part and K part of its place.

        None where it is a formula, or guarded, or its place does not fall into such parts.
        """
        left = self.left
        if not isinstance(left, Load) or left.mask is not None:
            return None
        (place,) = left.index
        zero: dict[Atom, Size] = {Axis(name): 0 for name, _ in self.k}
        base = substitute(place, zero)
        along = place - base
        if axes_of(along) - {name for name, _ in self.k}:
            return None
        return left.source, base, along


def as_contraction(stage: Stage) -> Contraction | None:
    """Classify the axes of a sum of products; None where the template is not worth it."""
    if stage.reduce != "sum" or stage.owners is None or stage.where is not None:
        return None
    if stage.whole or stage.guards or stage.value.dtype not in (DType.F32, DType.F64):
        return None
    factors = _factors(stage.value)
    lane = _unit_axis(stage)
    if lane is None or len(factors) < 2:
        return None
    right = [f for f in factors if mentions(f, lane)]
    left = [f for f in factors if not mentions(f, lane)]
    inner = {name for name, _ in stage.reduced}
    if not any(_mentions_any(f, inner) for f in left):
        return None
    if not any(_mentions_any(f, inner) for f in right):
        return None
    shared = {a for f in right for a, _ in stage.kept if mentions(f, a)} - {lane}
    m = tuple((a, n) for a, n in stage.kept if a not in shared and a != lane)
    return _made(stage, left, right, lane, shared, m)


def _made(
    stage: Stage,
    left: Sequence[Expr],
    right: Sequence[Expr],
    lane: str,
    shared: set[str],
    m: Axes,
) -> Contraction | None:
    extents = dict(stage.axes)
    spill = next((k for k in range(len(m) - 1, 0, -1) if not isinstance(m[k][1], int)), 0)
    batch = tuple((a, n) for a, n in stage.kept if a in shared) + m[:spill]
    m = m[spill:]
    width = lane_count([stage])
    enough = typical(volume(m)) * typical(extents[lane]) * typical(volume(stage.reduced))
    if not m or typical(volume(m)) < 4 or 2 * typical(extents[lane]) < width:
        return None
    if enough < LEAST_POINTS:
        return None
    return Contraction(
        stage=stage,
        left=_product(left),
        right=_product(right),
        batch=batch,
        m=m,
        n=(lane, extents[lane]),
        # symbolic extents outermost, so that blocks hold whole constant ones
        k=tuple(sorted(stage.reduced, key=lambda a: isinstance(a[1], int))),
        width=width,
    )


def _factors(value: Expr) -> list[Expr]:
    found: list[Expr] = []
    stack = [value]
    while stack:
        e = stack.pop()
        if isinstance(e, Op) and e.name == "mul":
            stack.extend(reversed(e.args))
        else:
            found.append(e)
    return found


def _product(factors: Sequence[Expr]) -> Expr:
    result = factors[0]
    for factor in factors[1:]:
        result = op("mul", result, factor)
    return result


def _unit_axis(stage: Stage) -> str | None:
    """The axis along which neighbouring results lie next to one another."""
    split = linear_in_axes(stage.offset)
    if split is None:
        return None
    kept = {a for a, _ in stage.kept}
    return next((a for a, c in split[0].items() if c == 1 and a in kept), None)


def _mentions_any(expr: Expr, axes: set[str]) -> bool:
    return any(mentions(expr, a) for a in axes)


def zero(dtype: DType) -> Const:
    """The zero that sums begin with."""
    return Const(0.0, dtype)
