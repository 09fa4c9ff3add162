"""Constructors of scalar expressions, with the simplifications that change no bit.

``x + 0`` is kept for floats, where it makes 0 of -0; so is ``x * 0``, which may be NaN.
"""

from __future__ import annotations

from nnc.ir.expr import Apply, Const, Expr, Number, Position
from nnc.ir.index import Size
from nnc.ir.types import DType


def apply(op: str, *args: Expr, dtype: DType | None = None) -> Expr:
    """Apply ``op`` to ``args``; ``dtype`` is the target of ``cast`` and ``bitcast``.

    Raises ``ScalarTypeError`` where the operand types do not fit, KeyError for an unknown name.
    """
    from nnc.ir.scalar import result_type

    return Apply(op, args, result_type(op, tuple(a.dtype for a in args), dtype))


def const(value: Number, dtype: DType) -> Const:
    """Return the literal ``value`` of type ``dtype``."""
    return Const(value, dtype)


def position(index: Size, dtype: DType = DType.I64) -> Expr:
    """Return the whole number that ``index`` comes to; a literal where it is one."""
    if isinstance(index, int):
        return Const(index, dtype)
    return Position(index, dtype)


def is_const(e: Expr, value: float) -> bool:
    """Whether ``e`` is the literal ``value`` (0 is either zero)."""
    return isinstance(e, Const) and e.value == value


def add(a: Expr, b: Expr) -> Expr:
    """Return ``a + b``."""
    if a.dtype.is_int and is_const(a, 0):
        return b
    if a.dtype.is_int and is_const(b, 0):
        return a
    return apply("add", a, b)


def sub(a: Expr, b: Expr) -> Expr:
    """Return ``a - b``."""
    if is_const(b, 0) and b == Const(0, b.dtype):
        return a
    return apply("sub", a, b)


def mul(a: Expr, b: Expr) -> Expr:
    """Return ``a * b``."""
    if is_const(a, 1):
        return b
    if is_const(b, 1):
        return a
    if is_const(a, -1):
        return neg(b)
    if is_const(b, -1):
        return neg(a)
    return apply("mul", a, b)


def div(a: Expr, b: Expr) -> Expr:
    """Return ``a / b`` of floats."""
    if is_const(b, 1):
        return a
    return apply("div", a, b)


def neg(a: Expr) -> Expr:
    """Return ``-a``."""
    match a:
        case Const(value, dtype) if dtype.is_float:
            return Const(-value, dtype)
        case Apply("neg", (inner,)):
            return inner
    return apply("neg", a)


def maximum(a: Expr, b: Expr) -> Expr:
    """Return the greater of two; NaN where either is."""
    return a if a == b else apply("max", a, b)


def minimum(a: Expr, b: Expr) -> Expr:
    """Return the lesser of two; NaN where either is."""
    return a if a == b else apply("min", a, b)


def pow_(a: Expr, b: Expr) -> Expr:
    """Return ``a`` to the power ``b``."""
    return a if is_const(b, 1) else apply("pow", a, b)


def select(condition: Expr, a: Expr, b: Expr) -> Expr:
    """Return ``a`` where ``condition``, else ``b``."""
    if isinstance(condition, Const):
        return a if condition.value else b
    return a if a == b else apply("select", condition, a, b)


def and_(a: Expr, b: Expr) -> Expr:
    """Return the conjunction of two truth values, or the common bits of two whole numbers."""
    if a.dtype is DType.BOOL:
        for x, y in ((a, b), (b, a)):
            if isinstance(x, Const):
                return y if x.value else x
    return a if a == b else apply("and", a, b)


def or_(a: Expr, b: Expr) -> Expr:
    """Return the disjunction of two truth values, or the joint bits of two whole numbers."""
    if a.dtype is DType.BOOL:
        for x, y in ((a, b), (b, a)):
            if isinstance(x, Const):
                return x if x.value else y
    return a if a == b else apply("or", a, b)


def not_(a: Expr) -> Expr:
    """Return the negation of a truth value, or a whole number's complement."""
    match a:
        case Const(value, DType.BOOL):
            return Const(not value, DType.BOOL)
        case Apply("not", (inner,)):
            return inner
    return apply("not", a)


def cast(a: Expr, dtype: DType) -> Expr:
    """Return ``a`` converted to ``dtype``; literals and positions that stay exact take it."""
    if a.dtype is dtype:
        return a
    match a:
        case Const(value, source) if not source.is_float and _exact(value, dtype):
            return Const(value, dtype)
        case Const(value, DType.F64 | DType.F32) if dtype.is_float and value in (0, 1, -1, 0.5, 2):
            return Const(value, dtype)
    return apply("cast", a, dtype=dtype)


def _exact(value: Number, dtype: DType) -> bool:
    bits = _WHOLE_BITS[dtype]
    least = 0 if dtype in _UNSIGNED else -(1 << bits)
    return least <= value < 1 << bits


# How many bits of a whole number every value of the type has room for, the sign aside.
_WHOLE_BITS = {
    DType.F64: 53, DType.F32: 24, DType.F16: 11, DType.BF16: 8, DType.I64: 63, DType.I32: 31,
    DType.I8: 7, DType.U64: 64, DType.U32: 32, DType.U8: 8, DType.BOOL: 1,
}  # fmt: skip
_UNSIGNED = frozenset({DType.U64, DType.U32, DType.U8, DType.BOOL})


def with_value(value: Expr, *terms: tuple[Expr, Expr]) -> Expr:
    """Return ``value`` whose derivative is the sum of ``c * d a`` over the ``terms`` (a, c)."""
    return apply("with_gradient", value, *(e for term in terms for e in term))
