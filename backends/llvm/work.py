"""An estimate of a task's work, by which a launch too small to share is left to one thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nnc.ir.expr import Position
from nnc.ir.index import Atom, Axis, Dim, Size, product, substitute
from nnc.ir.loops import (
    Call,
    Cell,
    Check,
    Expr,
    Fold,
    For,
    Function,
    If,
    Kernel,
    Let,
    Load,
    Op,
    Stmt,
    Store,
)

DEFAULT_GRAIN = 32_768
"""Instructions that a launch must have to be worth a barrier: about ten microseconds."""

_SLOW = {"div": 8, "sqrt": 8, "floordiv": 20, "mod": 20}
_UNKNOWN_EXTENT = 16


def task_work(kernel: Kernel, functions: Mapping[str, Function]) -> Size:
    """Estimate the instructions of one task, as a size in the dims of its launch.

    A vector operation counts once. Where a loop's extent differs between tasks, that of the first
    is taken, or the largest if it is stated (``min`` with a constant).
    """
    axes: dict[Atom, Size] = dict.fromkeys((Axis(g) for g in kernel.grid), 0)
    return _body(kernel.body, axes, functions)


def _body(
    statements: Sequence[Stmt], axes: Mapping[Atom, Size], functions: Mapping[str, Function]
) -> Size:
    known = dict(axes)
    total: Size = 0
    for statement in statements:
        match statement:
            case For(axis, extent, _, body, start):
                inner = {**known, Axis(axis): substitute(start, known)}
                turns = 1 if statement.kind == "vector" else substitute(extent, known)
                total = total + turns * (_body(body, inner, functions) + 1)
            case If(condition, then, otherwise):
                total = total + _expression(condition) + _body(then, known, functions)
                total = total + _body(otherwise, known, functions)
            case Let(name, value):
                known[Axis(name)] = _extent(value, known)
                total = total + _expression(value)
            case Store(_, _, value, mask):
                total = total + 1 + _expression(value) + (_expression(mask) if mask else 0)
            case Cell(_, _, extents, init, "stack"):
                total = total + (product(extents) if init is not None else 0)
            case Check(ok, _, value):
                total = total + 1 + _expression(ok) + _expression(value)
            case Call(name, _, sizes):
                total = total + _call(functions[name], sizes, known, functions)
            case _:
                pass
    return total


def _call(
    function: Function,
    sizes: Sequence[Size],
    axes: Mapping[Atom, Size],
    functions: Mapping[str, Function],
) -> Size:
    given: dict[Atom, Size] = {}
    for name, size in zip(function.sizes, sizes, strict=True):
        given[Axis(name)] = given[Dim(name)] = substitute(size, axes)
    return _body(function.body, given, functions)


def _extent(value: Expr, axes: Mapping[Atom, Size]) -> Size:
    """Return about what a let-bound whole number is, as the extent of a loop."""
    match value:
        case Position(index):
            return substitute(index, axes)
        case Op("min", (first, second)):
            sides = (_extent(first, axes), _extent(second, axes))
            return next((s for s in sides if isinstance(s, int)), sides[0])
        case Op("max", (first, _)):
            return _extent(first, axes)
        case _:
            found = getattr(value, "value", None)
            return found if isinstance(found, int) else _UNKNOWN_EXTENT


def _expression(expr: Expr) -> int:
    """Count the operations and loads of an expression, shared parts once."""
    seen: set[int] = set()
    stack, total = [expr], 0
    while stack:
        top = stack.pop()
        if id(top) in seen:
            continue
        seen.add(id(top))
        match top:
            case Op(name, args):
                total += _SLOW.get(name, 1)
                stack += args
            case Load(mask=mask, other=other):
                total += 1
                stack += [part for part in (mask, other) if part is not None]
            case Fold(_, value):
                total += 8
                stack.append(value)
            case _:
                pass
    return total
