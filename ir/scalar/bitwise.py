"""Truth values and bits, conversions between types, and random bits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nnc.ir.expr import Expr
from nnc.ir.scalar import make
from nnc.ir.scalar.table import (
    Exprs,
    Partials,
    Sample,
    ScalarOp,
    ScalarTypeError,
    by_numpy,
    flat,
    logical,
    whole,
)
from nnc.ir.types import DType

if TYPE_CHECKING:
    from nnc.ir.scalar.table import Array

F64, F32, I32, U32, U64 = DType.F64, DType.F32, DType.I32, DType.U32, DType.U64


def _u32(types: tuple[DType, ...], _: DType | None) -> DType:
    if types != (U32, U32):
        raise ScalarTypeError(f"two u32 expected, not {', '.join(map(str, types))}")
    return U32


def _philox_type(types: tuple[DType, ...], _: DType | None) -> DType:
    if types != (U64, U32, U32, U64):
        raise ScalarTypeError(
            f"seed u64, step u32, stream u32, index u64 expected, not {', '.join(map(str, types))}"
        )
    return U32


def _cast_type(types: tuple[DType, ...], target: DType | None) -> DType:
    if target is None:
        raise ScalarTypeError("a cast needs a target type")
    return target


def _bitcast_type(types: tuple[DType, ...], target: DType | None) -> DType:
    if target is None or target.bytes != types[0].bytes or DType.BOOL in (target, types[0]):
        raise ScalarTypeError(f"the bits of {types[0]} are not those of a {target}")
    return target


def _mulhi(args: Sequence[Array], _: tuple[DType, ...]) -> Array:
    import numpy as np

    wide = args[0].astype(np.uint64) * args[1].astype(np.uint64)
    return np.asarray(wide >> np.uint64(32)).astype(np.uint32)


def _d_cast(args: Exprs, result: Expr) -> Partials:
    both = args[0].dtype.is_float and result.dtype.is_float
    return (make.const(1, result.dtype) if both else None,)


def _t_cast(args: Exprs, tangents: Partials, result: Expr) -> Expr | None:
    (tangent,) = tangents
    if tangent is None or not result.dtype.is_float:
        return None
    return make.cast(tangent, result.dtype)


def _philox(args: Sequence[Array], _: tuple[DType, ...]) -> Array:
    from nnc.ir.scalar.philox import philox4x32

    return philox4x32(*args)


def _cast(args: Sequence[Array], types: tuple[DType, ...]) -> Array:
    from nnc.ir.scalar.numbers import convert

    return convert(args[0], types[0], types[-1])


def _bitcast(args: Sequence[Array], types: tuple[DType, ...]) -> Array:
    from nnc.ir.scalar.numbers import bits

    return bits(args[0], types[0], types[-1])


def _any_type(types: tuple[DType, ...], _: DType | None) -> DType:
    return types[0]


def _with_gradient_type(types: tuple[DType, ...], _: DType | None) -> DType:
    if len(types) % 2 == 0 or not all(t.is_float for t in types):
        raise ScalarTypeError("a float value and pairs of a float and its coefficient expected")
    if any(c is not types[0] for c in types[2::2]):
        raise ScalarTypeError(f"coefficients of type {types[0]} expected")
    return types[0]


def _d_with_gradient(args: Exprs, _: Expr) -> Partials:
    by_pairs = (p for c in args[2::2] for p in (c, None))
    return None, *by_pairs


def _first(args: Sequence[Array], _: tuple[DType, ...]) -> Array:
    return args[0]


BYTES = ((0, 200), (0, 200))
SHIFT = Sample((U32, U32), ((0, 2**32), (0, 32)))

OPS = (
    ScalarOp("and", 2, logical, flat, by_numpy("bitwise_and"), Sample((I32, I32), BYTES)),
    ScalarOp("or", 2, logical, flat, by_numpy("bitwise_or"), Sample((I32, I32), BYTES)),
    ScalarOp("xor", 2, logical, flat, by_numpy("bitwise_xor"), Sample((I32, I32), BYTES)),
    ScalarOp("not", 1, logical, flat, by_numpy("invert"), Sample((I32,), ((-50, 50),))),
    ScalarOp("shl", 2, whole, flat, by_numpy("left_shift"), SHIFT),
    ScalarOp("shr", 2, whole, flat, by_numpy("right_shift"), SHIFT),
    ScalarOp("mulhi", 2, _u32, flat, _mulhi, Sample((U32, U32), ((0, 2**32), (0, 2**32)))),
    ScalarOp(
        "cast", 1, _cast_type, _d_cast, _cast, Sample((F64,), ((-3, 3),), F64), tangent=_t_cast
    ),
    ScalarOp("bitcast", 1, _bitcast_type, flat, _bitcast, Sample((F32,), ((-3, 3),), U32)),
    ScalarOp(
        "philox",
        4,
        _philox_type,
        flat,
        _philox,
        Sample((U64, U32, U32, U64), ((0, 2**63), (0, 2**32), (0, 2**32), (0, 2**40))),
        native=False,
    ),
    ScalarOp(
        "stop_gradient",
        1,
        _any_type,
        flat,
        _first,
        Sample((F64,), ((-3, 3),)),
        native=False,
    ),
    ScalarOp(
        "with_gradient",
        1,
        _with_gradient_type,
        _d_with_gradient,
        _first,
        Sample((F64, F64, F64), ((-3, 3), (-3, 3), (-3, 3))),
        native=False,
        variadic=True,
    ),
)
