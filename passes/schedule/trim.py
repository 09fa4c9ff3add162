"""Cuts loops to where a filter can hold, so that a causal mask costs half.

The filter itself stays with each point: here only whole ranges that it rules out are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from nnc.ir.expr import Const, Position
from nnc.ir.index import Atom, Axis, Size, axes_of, linear_in_axes, substitute
from nnc.ir.loops import Expr, Op
from nnc.ir.types import DType
from nnc.passes.schedule.code import Code
from nnc.passes.schedule.exprs import op, position
from nnc.passes.schedule.stage import Stage

Part = tuple[str, Size, Size]


def trimmed(
    parts: Sequence[Part],
    stages: Sequence[Stage],
    env: Mapping[Atom, Size],
    unknown: frozenset[str],
    code: Code,
) -> list[Part]:
    """Narrow ``parts`` of axes (name, start, count) to where all filters of ``stages`` may hold.

    Only conditions are used in which the other axes are known before the loops begin: those in
    ``unknown`` are not. ``env`` replaces axes as at each point.
    """
    common = None
    for stage in stages:
        found = set(_conditions(stage.where))
        common = found if common is None else common & found
    if not common:
        return list(parts)
    inner = {name for name, _, _ in parts}
    result: list[Part] = []
    for name, start, count in parts:
        lows: list[Size] = []
        highs: list[Size] = []
        for size in sorted(common, key=str):
            bound = _bound(size, name, env)
            if bound is not None and not axes_of(bound[1]) & (inner | unknown):
                (lows if bound[0] > 0 else highs).append(bound[1])
        result.append((name, *_cut(start, count, lows, highs, code)))
    return result


def _cut(
    start: Size, count: Size, lows: Sequence[Size], highs: Sequence[Size], code: Code
) -> tuple[Size, Size]:
    if not lows and not highs:
        return start, count
    first, end = position(start), position(start + count)
    for low in lows:
        first = op("max", first, position(low))
    for high in highs:
        end = op("min", end, position(high + 1))
    begin = code.whole(first)
    return begin, code.whole(op("max", op("sub", end, position(begin)), Const(0, DType.I64)))


def _bound(size: Size, name: str, env: Mapping[Atom, Size]) -> tuple[int, Size] | None:
    """The least (1) or greatest (-1) value of an axis that leaves ``size`` at least 0."""
    split = linear_in_axes(size)
    if split is None or split[0].get(name) not in (1, -1):
        return None
    sign = 1 if split[0][name] == 1 else -1
    rest = substitute(substitute(size, {Axis(name): 0}), env)
    return sign, rest * -sign


def _conditions(where: Expr | None) -> Iterator[Size]:
    """Sizes that are at least 0 wherever ``where`` holds."""
    match where:
        case Op("and", (a, b)):
            yield from _conditions(a)
            yield from _conditions(b)
        case Op("lt" | "le" | "gt" | "ge" | "eq" as name, (a, b)):
            x, y = _size(a), _size(b)
            if x is not None and y is not None:
                yield from _differences(name, x, y)


def _differences(name: str, x: Size, y: Size) -> Iterator[Size]:
    if name in {"le", "eq"}:
        yield y - x
    if name in {"ge", "eq"}:
        yield x - y
    if name == "lt":
        yield y - x - 1
    if name == "gt":
        yield x - y - 1


def _size(e: Expr) -> Size | None:
    match e:
        case Position(index, DType.I64):
            return index
        case Const(int() as value, DType.I64):
            return value
    return None
