"""Whole-number expressions as subscripts, and comparisons of them without overflow.

A guard protects a read only if it compares the very number that subscripts: ``j < pos + t`` in
32 bits could wrap around where the subscript ``j - pos`` does not. So comparisons of whole
numbers are made of subscripts, which are 64 bits wide, on both sides.
"""

from __future__ import annotations

from functools import reduce

from nnc.ir import scalar
from nnc.ir.expr import Apply, Const, Expr, Loaded, Position, Read, sizes_in
from nnc.ir.index import Size, axes_of, floordiv, mod
from nnc.ir.types import DType

COMPARISONS = frozenset({"lt", "le", "gt", "ge", "eq", "ne"})


def as_size(expr: Expr) -> Size | None:
    """Return a whole-number expression as a subscript, or None where it is none.

    Elements of integer tensors become ``Loaded``.
    """
    match expr:
        case Const(bool()) | Const(float()):
            return None
        case Const(int() as value):
            return value
        case Position(index, dtype) if dtype.is_int:
            return index
        case Read(dtype=dtype) if dtype.is_int:
            return Loaded(expr).as_poly()
        case Apply("cast", (inner,), dtype) if dtype.is_int and inner.dtype.is_int:
            return as_size(inner)
        case Apply("neg", (inner,), dtype) if dtype.is_int:
            size = as_size(inner)
            return None if size is None else -size
        case Apply(op, (a, b), dtype) if dtype.is_int:
            return _binary(op, as_size(a), as_size(b))
    return None


def _binary(op: str, x: Size | None, y: Size | None) -> Size | None:
    if x is None or y is None:
        return None
    match op:
        case "add":
            return x + y
        case "sub":
            return x - y
        case "mul" if isinstance(x, int) or isinstance(y, int):
            return x * y
        case "floordiv" if isinstance(y, int) and y > 0:
            return floordiv(x, y)
        case "mod" if isinstance(y, int) and y > 0:
            return mod(x, y)
    return None


def exact(expr: Expr) -> Expr:
    """Make every comparison of whole numbers in ``expr`` one of subscripts.

    Equality of an element with something else stays as it is: nothing can wrap on its side, and
    passes look for it (``ids[e] == v`` is a gather or a scatter).
    """
    memo: dict[Expr, Expr] = {}

    def go(e: Expr) -> Expr:
        if not isinstance(e, Apply):
            return e
        done = memo.get(e)
        if done is None:
            args = tuple(go(a) for a in e.args)
            done = memo[e] = _comparison(e.op, args) or Apply(e.op, args, e.dtype)
        return done

    return go(expr)


def _comparison(op: str, args: tuple[Expr, ...]) -> Expr | None:
    if op not in COMPARISONS or not all(a.dtype.is_int for a in args):
        return None
    a, b = args
    if op in ("eq", "ne") and (isinstance(a, Read) or isinstance(b, Read)):
        return None
    x, y = as_size(a), as_size(b)
    if x is None or y is None:
        return None
    return scalar.apply(op, scalar.position(x), scalar.position(y))


def axes_in(expr: Expr) -> frozenset[str]:
    """Names of all axes that an expression depends on."""
    return reduce(frozenset.union, (axes_of(s) for s in sizes_in(expr)), frozenset[str]())


def conjuncts(expr: Expr) -> list[Expr]:
    """Split ``a and b and c``."""
    match expr:
        case Apply("and", (a, b), DType.BOOL):
            return conjuncts(a) + conjuncts(b)
    return [expr]
