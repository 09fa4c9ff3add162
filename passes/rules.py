"""Rows of scalar algebra. Each changes no bit of any result, unless its ``why`` says which.

Floats keep their zeros' signs, infinities and NaN: ``x + 0`` stays (it makes 0 of -0), as do
``x * 0``, ``x - x`` and ``x / x``. A NaN stays a NaN; which one is not kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from nnc.ir.expr import Apply, Const, Expr, Position
from nnc.ir.scalar import make
from nnc.ir.types import DType
from nnc.passes.rewrite import Rule, RuleSet

Bound = Mapping[str, Expr]


def _reciprocal(bound: Bound) -> Expr | None:
    """``x / c`` is ``x * (1/c)`` to the bit where ``1/c`` is exact: c is a power of two."""
    x, c = bound["x"], bound["C"]
    assert isinstance(c, Const)
    if c.value == 0 or not math.isfinite(c.value):
        return None
    mantissa, exponent = math.frexp(c.value)
    # The reciprocal must be a normal number, in the narrowest type that is computed with.
    if abs(mantissa) != 0.5 or not -14 <= exponent <= 14:
        return None
    return make.mul(x, Const(1 / c.value, c.dtype))


def _cast_of_cast(e: Apply) -> Expr | None:
    """A cast that loses nothing, under another cast, goes."""
    match e:
        case Apply("cast", (Apply("cast", (x,)) as inner,), target):
            if x.dtype is target and holds(x.dtype, inner.dtype):
                return x
            if holds(x.dtype, inner.dtype) and not (target.is_int and inner.dtype.is_float):
                return make.cast(x, target)
    return None


def holds(narrow: DType, wide: DType) -> bool:
    """Whether every value of ``narrow`` is a value of ``wide``."""
    if narrow is wide or narrow is DType.BOOL:
        return True
    if narrow.is_float:
        return (
            wide.is_float
            and _FLOAT_BITS[narrow][0] <= _FLOAT_BITS[wide][0]
            and (_FLOAT_BITS[narrow][1] <= _FLOAT_BITS[wide][1])
        )
    signed = narrow not in _UNSIGNED
    bits = 8 * narrow.bytes - signed
    if wide.is_float:
        return bits <= _FLOAT_BITS[wide][1]
    if wide is DType.BOOL or (signed and wide in _UNSIGNED):
        return False
    return bits <= 8 * wide.bytes - (wide not in _UNSIGNED)


# Exponent and significand bits.
_FLOAT_BITS = {DType.F64: (11, 53), DType.F32: (8, 24), DType.F16: (5, 11), DType.BF16: (8, 8)}
_UNSIGNED = frozenset({DType.U64, DType.U32, DType.U8})

RULES = (
    # sums
    Rule("x + 0", "x", on="int"),
    Rule("x + -0.0", "x", on="float", why="-0 is the neutral element of IEEE addition"),
    Rule("x - 0", "x"),
    Rule("x + -y", "x - y"),
    Rule("x - -y", "x + y"),
    Rule("x - x", "0", on="int"),
    Rule("-(-x)", "x"),
    # products
    Rule("x * 1", "x"),
    Rule("x * -1", "-x"),
    Rule("x * 0", "0", on="int"),
    Rule("-x * -y", "x * y"),
    Rule("x / 1", "x"),
    Rule("x / -1", "-x"),
    Rule("-x / -y", "x / y"),
    Rule("x / C", _reciprocal),
    Rule("mad(x, 1, y)", "x + y"),
    Rule("mad(1, x, y)", "x + y"),
    Rule("x // 1", "x"),
    Rule("x % 1", "0"),
    # powers
    Rule("x ** 0", "1"),
    Rule("x ** 1", "x"),
    Rule("x ** 2", "x * x", why="rounds once where a general power may round more"),
    Rule("x ** 3", "x * (x * x)", on="float", why="rounds twice; powers are good to some ulps"),
    Rule("x ** 4", "(x * x) * (x * x)", on="float", why="as the cube"),
    Rule("x ** -1", "1 / x", on="float"),
    Rule("x ** -2", "1 / (x * x)", on="float", why="as the cube"),
    # choice and order
    Rule("max(x, x)", "x"),
    Rule("min(x, x)", "x"),
    Rule("abs(abs(x))", "abs(x)"),
    Rule("abs(-x)", "abs(x)"),
    Rule("select(c, x, x)", "x"),
    Rule("select(not c, x, y)", "select(c, y, x)"),
    Rule("select(c, select(c, x, y), z)", "select(c, x, z)"),
    Rule("select(c, x, select(c, y, z))", "select(c, x, z)"),
    # truth
    Rule("not (not c)", "c"),
    Rule("c and c", "c"),
    Rule("c or c", "c"),
    Rule("c and True", "c", on="bool"),
    Rule("c and False", "False", on="bool"),
    Rule("c or True", "True", on="bool"),
    Rule("c or False", "c", on="bool"),
    Rule("not (c and d)", "not c or not d", on="bool"),
    Rule("not (c or d)", "not c and not d", on="bool"),
)

_ALGEBRA = RuleSet.of(RULES)
_NEGATED = {"lt": "ge", "ge": "lt", "gt": "le", "le": "gt", "eq": "ne", "ne": "eq"}


def scalar_step(e: Expr) -> Expr | None:
    """One step of algebra at the root of ``e``, facts aside; None where there is none."""
    match e:
        case Position(int() as value, dtype):
            return Const(value, dtype)
        case Apply("select", (Const(value), a, b)):
            return a if value else b
        case Apply("cast", (a,), target) if a.dtype is target:
            return a
        case Apply("cast"):
            found = _cast_of_cast(e)
            return found if found is not None else _cast_position(e)
        case Apply("not", (Apply(op, (a, b), DType.BOOL),)) if op in _NEGATED:
            # The opposite of an order is not its negation where a NaN is compared.
            if op in ("eq", "ne") or not a.dtype.is_float:
                return Apply(_NEGATED[op], (a, b), DType.BOOL)
        case Apply("add" | "sub" | "mul" | "neg"):
            found = _position_arithmetic(e)
            if found is not None:
                return found
    return _ALGEBRA.step(e) if isinstance(e, Apply) else None


def _cast_position(e: Apply) -> Expr | None:
    """A subscript as a wider whole number is the same subscript."""
    match e:
        case Apply("cast", (Position(index, source),), target) if target.is_int:
            return Position(index, target) if holds(source, target) else None
    return None


def _position_arithmetic(e: Apply) -> Expr | None:
    """Sums and multiples of 64-bit subscripts are subscripts, which the prover can judge."""
    sizes = []
    for a in e.args:
        match a:
            case Position(index, DType.I64):
                sizes.append(index)
            case Const(int() as value, DType.I64):
                sizes.append(value)
            case _:
                return None
    match e.op, sizes:
        case "add", [x, y]:
            return make.position(x + y)
        case "sub", [x, y]:
            return make.position(x - y)
        case "mul", [x, y]:
            return make.position(x * y)
        case "neg", [x]:
            return make.position(-x)
    return None
