"""Arithmetic, comparisons and choice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from nnc.ir.expr import Const, Expr
from nnc.ir.scalar import make
from nnc.ir.scalar.table import (
    Exprs,
    Partials,
    Sample,
    ScalarOp,
    ScalarTypeError,
    by_numpy,
    comparison,
    flat,
    floating,
    number,
    whole,
)
from nnc.ir.types import DType

if TYPE_CHECKING:
    from nnc.ir.scalar.table import Array

F64, I32 = DType.F64, DType.I32
WIDE = (-3.0, 3.0)


def floats(*ranges: tuple[float, float]) -> Sample:
    """Return a sample of f64 operands in these ranges."""
    return Sample((F64,) * len(ranges), ranges)


def _one(like: Expr) -> Expr:
    return Const(1, like.dtype)


# ------------------------------------------------------------------------ derivative rules


def _d_div(args: Exprs, result: Expr) -> Partials:
    a, b = args
    return make.div(_one(a), b), make.neg(make.div(result, b))


def _d_abs(args: Exprs, _: Expr) -> Partials:
    (a,) = args
    zero, one = Const(0, a.dtype), _one(a)
    below = make.select(make.apply("lt", a, zero), make.neg(one), zero)
    return (make.select(make.apply("gt", a, zero), one, below),)


def _extremum(compare: str) -> tuple[Callable[..., Partials], Callable[..., Expr | None]]:
    """Rules of max and min: on a tie, and with NaN, the second operand takes all."""

    def derivative(args: Exprs, _: Expr) -> Partials:
        first = make.apply(compare, *args)
        zero, one = Const(0, args[0].dtype), _one(args[0])
        return make.select(first, one, zero), make.select(first, zero, one)

    def tangent(args: Exprs, tangents: Partials, _: Expr) -> Expr | None:
        return choose(make.apply(compare, *args), tangents[0], tangents[1])

    return derivative, tangent


def choose(condition: Expr, a: Expr | None, b: Expr | None) -> Expr | None:
    """Select between tangents; the side not taken contributes nothing."""
    if a is None and b is None:
        return None
    given = a if a is not None else b
    assert given is not None
    zero = Const(0, given.dtype)
    return make.select(condition, zero if a is None else a, zero if b is None else b)


def _select_type(types: tuple[DType, ...], _: DType | None) -> DType:
    if types[0] is not DType.BOOL or types[1] is not types[2]:
        raise ScalarTypeError(
            f"bool and two of one type expected, not {', '.join(map(str, types))}"
        )
    return types[1]


def _d_select(args: Exprs, result: Expr) -> Partials:
    if not result.dtype.is_float:
        return None, None, None
    zero, one = Const(0, result.dtype), Const(1, result.dtype)
    return None, make.select(args[0], one, zero), make.select(args[0], zero, one)


def _t_select(args: Exprs, tangents: Partials, _: Expr) -> Expr | None:
    return choose(args[0], tangents[1], tangents[2])


# ----------------------------------------------------------------------------- evaluation


def _mad(args: Sequence[Array], _: tuple[DType, ...]) -> Array:
    return args[0] * args[1] + args[2]


_d_max, _t_max = _extremum("gt")
_d_min, _t_min = _extremum("lt")
TWO = (WIDE, WIDE)
COUNTS = Sample((I32, I32), ((-20, 20), (1, 9)))

OPS = (
    ScalarOp("add", 2, number, lambda a, r: (_one(r), _one(r)), by_numpy("add"), floats(*TWO)),
    ScalarOp(
        "sub",
        2,
        number,
        lambda a, r: (_one(r), make.neg(_one(r))),
        by_numpy("subtract"),
        floats(*TWO),
    ),
    ScalarOp("mul", 2, number, lambda a, r: (a[1], a[0]), by_numpy("multiply"), floats(*TWO)),
    ScalarOp("div", 2, floating, _d_div, by_numpy("divide"), floats(WIDE, (0.3, 3.0))),
    ScalarOp("mad", 3, number, lambda a, r: (a[1], a[0], _one(r)), _mad, floats(WIDE, WIDE, WIDE)),
    ScalarOp(
        "neg", 1, number, lambda a, r: (make.neg(_one(r)),), by_numpy("negative"), floats(WIDE)
    ),
    ScalarOp("abs", 1, number, _d_abs, by_numpy("absolute"), floats((0.1, 3.0))),
    ScalarOp("max", 2, number, _d_max, by_numpy("maximum"), floats(*TWO), tangent=_t_max),
    ScalarOp("min", 2, number, _d_min, by_numpy("minimum"), floats(*TWO), tangent=_t_min),
    # By 0 both are 0, as NumPy has it.
    ScalarOp("floordiv", 2, whole, flat, by_numpy("floor_divide"), COUNTS),
    ScalarOp("mod", 2, whole, flat, by_numpy("remainder"), COUNTS),
    ScalarOp("floor", 1, floating, flat, by_numpy("floor"), floats((0.1, 0.9))),
    ScalarOp("ceil", 1, floating, flat, by_numpy("ceil"), floats((0.1, 0.9))),
    # Halves go to the even neighbour, as IEEE has it.
    ScalarOp("round", 1, floating, flat, by_numpy("rint"), floats((0.6, 1.4))),
    *(
        ScalarOp(name, 2, comparison, flat, by_numpy(function), floats(*TWO))
        for name, function in (
            ("eq", "equal"),
            ("ne", "not_equal"),
            ("lt", "less"),
            ("le", "less_equal"),
            ("gt", "greater"),
            ("ge", "greater_equal"),
        )
    ),
    ScalarOp(
        "select",
        3,
        _select_type,
        _d_select,
        by_numpy("where"),
        Sample((DType.BOOL, F64, F64), ((0, 2), WIDE, WIDE)),
        tangent=_t_select,
    ),
)
