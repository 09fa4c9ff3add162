"""Elementary functions of floats. All but ``sqrt`` are expanded by ``passes.math``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nnc.ir.expr import Const, Expr
from nnc.ir.scalar import make
from nnc.ir.scalar.arithmetic import floats
from nnc.ir.scalar.table import Exprs, Partials, ScalarOp, by_numpy, floating, number
from nnc.ir.types import DType

if TYPE_CHECKING:
    from nnc.ir.scalar.table import Array


def _like(value: float, e: Expr) -> Expr:
    return Const(value, e.dtype)


def _d_log1p(args: Exprs, result: Expr) -> Partials:
    return (make.div(_like(1, result), make.add(_like(1, result), args[0])),)


def _d_rsqrt(args: Exprs, result: Expr) -> Partials:
    return (make.mul(_like(-0.5, result), make.mul(result, make.mul(result, result))),)


def _d_erf(args: Exprs, result: Expr) -> Partials:
    (a,) = args
    bell = make.apply("exp", make.neg(make.mul(a, a)))
    return (make.mul(_like(2 / math.sqrt(math.pi), result), bell),)


def _d_pow(args: Exprs, result: Expr) -> Partials:
    """Power rule; x^0 is flat, and 0^y does not vary with y, though the formulas give NaN."""
    a, b = args
    if not result.dtype.is_float:
        return None, None
    zero = _like(0, result)
    if isinstance(b, Const):
        if b.value == 0:
            return None, None
        return make.mul(b, make.pow_(a, _like(b.value - 1, b))), None
    less = make.pow_(a, make.sub(b, _like(1, b)))
    by_a = make.select(make.apply("eq", b, zero), zero, make.mul(b, less))
    slope = make.mul(result, make.apply("log", a))
    return by_a, make.select(make.apply("eq", a, zero), zero, slope)


def _erf(args: Sequence[Array], types: tuple[DType, ...]) -> Array:
    import numpy as np

    wide = np.frompyfunc(math.erf, 1, 1)(args[0].astype(np.float64))
    return np.asarray(wide, np.float64).astype(args[0].dtype)


def _rsqrt(args: Sequence[Array], types: tuple[DType, ...]) -> Array:
    import numpy as np

    root = np.sqrt(args[0].astype(np.float64))
    return np.asarray(np.divide(1.0, root)).astype(args[0].dtype)


def _pow(args: Sequence[Array], types: tuple[DType, ...]) -> Array:
    """Power; a negative power of a whole number is truncated toward zero."""
    import numpy as np

    a, b = np.broadcast_arrays(*args)
    if types[0].is_float:
        return np.asarray(np.power(a, b))
    below = b < 0
    power = np.power(a, np.where(below, 0, b).astype(a.dtype))
    sign = np.where((b % 2 == 0) | (a > 0), 1, -1)
    return np.where(below, np.where(np.abs(a) == 1, sign, 0), power).astype(a.dtype)


OPS = (
    ScalarOp("pow", 2, number, _d_pow, _pow, floats((0.3, 3.0), (-2.0, 2.0)), native=False),
    ScalarOp("exp", 1, floating, lambda a, r: (r,), by_numpy("exp"), floats((-3, 3)), native=False),
    ScalarOp(
        "log",
        1,
        floating,
        lambda a, r: (make.div(_like(1, r), a[0]),),
        by_numpy("log"),
        floats((0.2, 4.0)),
        native=False,
    ),
    ScalarOp("log1p", 1, floating, _d_log1p, by_numpy("log1p"), floats((-0.6, 3)), native=False),
    ScalarOp(
        "expm1",
        1,
        floating,
        lambda a, r: (make.apply("exp", a[0]),),
        by_numpy("expm1"),
        floats((-3, 3)),
        native=False,
    ),
    ScalarOp(
        "sqrt",
        1,
        floating,
        lambda a, r: (make.div(_like(0.5, r), r),),
        by_numpy("sqrt"),
        floats((0.3, 4.0)),
    ),
    ScalarOp("rsqrt", 1, floating, _d_rsqrt, _rsqrt, floats((0.3, 4.0)), native=False),
    ScalarOp(
        "tanh",
        1,
        floating,
        lambda a, r: (make.sub(_like(1, r), make.mul(r, r)),),
        by_numpy("tanh"),
        floats((-3, 3)),
        native=False,
    ),
    ScalarOp("erf", 1, floating, _d_erf, _erf, floats((-2, 2)), native=False),
    ScalarOp(
        "sin",
        1,
        floating,
        lambda a, r: (make.apply("cos", a[0]),),
        by_numpy("sin"),
        floats((-4, 4)),
        native=False,
    ),
    ScalarOp(
        "cos",
        1,
        floating,
        lambda a, r: (make.neg(make.apply("sin", a[0])),),
        by_numpy("cos"),
        floats((-4, 4)),
        native=False,
    ),
)
