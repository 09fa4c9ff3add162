"""The scalar operations that a target computes itself, on scalars and on vectors alike.

Operations with a longer definition (exp, tanh, philox, ...) are expanded before a backend runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nnc.backends.llvm.builder import Builder
from nnc.backends.llvm.convert import bitcast, cast, compute_type
from nnc.backends.llvm.values import (
    HALVES,
    SIGNED,
    EmitError,
    Value,
    constant,
    register_type,
    vector,
)
from nnc.ir.types import DType

BOOL = DType.BOOL

_FLOAT = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}
_FLOAT_TEST = {"eq": "oeq", "ne": "une", "lt": "olt", "le": "ole", "gt": "ogt", "ge": "oge"}
_INT = {"add": "add", "sub": "sub", "mul": "mul", "and": "and", "or": "or", "xor": "xor"}
_INT_TEST = {"eq": "eq", "ne": "ne", "lt": "lt", "le": "le", "gt": "gt", "ge": "ge"}
_ROUNDING = {"floor": "llvm.floor", "ceil": "llvm.ceil", "round": "llvm.roundeven"}


def apply(b: Builder, name: str, args: Sequence[Value], dtype: DType) -> Value:
    """Write operation ``name``; scalars among vectors are repeated.

    Raises EmitError for a name that should have been expanded, or operands of wrong type.
    """
    if name == "cast":
        return cast(b, args[0], dtype)
    if name == "bitcast":
        return bitcast(b, args[0], dtype)
    if name == "select":
        return select(b, *args)
    lanes = max(v.lanes for v in args)
    first = args[0].dtype
    if any(v.dtype is not first for v in args):
        raise EmitError(f"{name} of {', '.join(str(v.dtype) for v in args)}")
    if first in HALVES:
        wide = apply(b, name, [cast(b, v, DType.F32) for v in args], compute_type(dtype))
        return cast(b, wide, dtype)
    operands = [b.widen(v, lanes) for v in args]
    table = _FLOAT_OPS if first.is_float else _INT_OPS
    emit = table.get(name)
    if emit is None:
        raise EmitError(f"no native operation {name} on {first}")
    return emit(b, name, operands)


def select(b: Builder, test: Value, yes: Value, no: Value) -> Value:
    """Take lanes of one of two values; a scalar test takes all of one."""
    lanes = max(test.lanes, yes.lanes, no.lanes)
    if yes.lanes != no.lanes or test.lanes > 1:
        yes, no = b.widen(yes, lanes), b.widen(no, lanes)
    if yes.dtype is not no.dtype or test.dtype is not BOOL:
        raise EmitError(f"select of {test.dtype}, {yes.dtype}, {no.dtype}")
    text = f"select {test.typed}, {yes.typed}, {no.typed}"
    return b.make(yes.dtype, yes.lanes, text, (test, yes, no))


def fold(b: Builder, name: str, value: Value) -> Value:
    """Join the lanes: lane i with lane i + n/2, until one is left."""
    while value.lanes > 1:
        half = value.lanes // 2
        low, high = (_part(b, value, at, half) for at in (0, half))
        value = apply(b, name, (low, high), value.dtype)
    return value


def extract(b: Builder, value: Value, lane: int) -> Value:
    """Return one lane as a scalar."""
    if value.lanes == 1:
        return value
    return b.make(value.dtype, 1, f"extractelement {value.typed}, i64 {lane}", [value])


def call(b: Builder, name: str, dtype: DType, *args: Value) -> Value:
    """Call an intrinsic overloaded on the type of its operands and result."""
    kind = args[0].type
    callee = b.intrinsic(name, kind, [kind] * len(args), [kind])
    inside = ", ".join(v.typed for v in args)
    return b.make(dtype, args[0].lanes, f"call {callee}({inside})", args)


def binary(b: Builder, name: str, x: Value, y: Value, dtype: DType | None = None) -> Value:
    """Write a plain two-operand instruction."""
    return b.make(dtype or x.dtype, x.lanes, f"{name} {x.typed}, {y.ref}", (x, y))


def _part(b: Builder, value: Value, at: int, count: int) -> Value:
    if count == 1:
        return extract(b, value, at)
    mask = ", ".join(f"i32 {at + i}" for i in range(count))
    text = f"shufflevector {value.typed}, {value.type} poison, <{count} x i32> <{mask}>"
    return b.make(value.dtype, count, text, [value])


def _like(value: Value, number: float) -> Value:
    return constant(number, value.dtype, value.lanes)


# floats -----------------------------------------------------------------------------------------


def _float_arithmetic(b: Builder, name: str, args: list[Value]) -> Value:
    return binary(b, _FLOAT[name], args[0], args[1])


def _float_test(b: Builder, name: str, args: list[Value]) -> Value:
    return binary(b, f"fcmp {_FLOAT_TEST[name]}", args[0], args[1], BOOL)


def _float_neg(b: Builder, _name: str, args: list[Value]) -> Value:
    return b.make(args[0].dtype, args[0].lanes, f"fneg {args[0].typed}", args)


def _float_abs(b: Builder, _name: str, args: list[Value]) -> Value:
    return call(b, "llvm.fabs", args[0].dtype, args[0])


def _sqrt(b: Builder, _name: str, args: list[Value]) -> Value:
    return call(b, "llvm.sqrt", args[0].dtype, args[0])


def _float_extremum(b: Builder, name: str, args: list[Value]) -> Value:
    """Max or min that keeps NaN, in the shapes that x86 has an instruction for.

    ``select(p > q, p, q)`` is one ``max`` and gives q where either is NaN: with a constant as p
    that is right already; else the NaN of the other operand is put back.
    """
    x, y = args
    test = "fcmp ogt" if name == "max" else "fcmp olt"
    p, q = (y, x) if y.is_constant else (x, y)
    result = select(b, binary(b, test, p, q, BOOL), p, q)
    if p.is_constant:
        return result
    return select(b, binary(b, "fcmp uno", p, p, BOOL), p, result)


def _mad(b: Builder, _name: str, args: list[Value]) -> Value:
    x, y, z = args
    if b.target.fma:
        return call(b, "llvm.fma", x.dtype, x, y, z)
    return binary(b, "fadd", binary(b, "fmul", x, y), z)


def _rounded(b: Builder, name: str, args: list[Value]) -> Value:
    x = args[0]
    if b.target.rounding:
        return call(b, _ROUNDING[name], x.dtype, x)
    near = _round_by_addition(b, x)
    if name == "round":
        return near
    test, step = ("fcmp ogt", "fsub") if name == "floor" else ("fcmp olt", "fadd")
    stepped = binary(b, step, near, _like(x, 1))
    moved = select(b, binary(b, test, near, x, BOOL), stepped, near)
    return call(b, "llvm.copysign", x.dtype, moved, x)


def _round_by_addition(b: Builder, x: Value) -> Value:
    """Round to even by adding and taking away 2^23 (2^52), for machines without the instruction."""
    whole = 2.0**23 if x.dtype is DType.F32 else 2.0**52
    size = _float_abs(b, "abs", [x])
    big = _like(x, whole)
    near = binary(b, "fsub", binary(b, "fadd", size, big), big)
    signed = call(b, "llvm.copysign", x.dtype, near, x)
    return select(b, binary(b, "fcmp olt", size, big, BOOL), signed, x)


# whole numbers and truth values -----------------------------------------------------------------


def _int_arithmetic(b: Builder, name: str, args: list[Value]) -> Value:
    return binary(b, _INT[name], args[0], args[1])


def _int_test(b: Builder, name: str, args: list[Value]) -> Value:
    sign = "" if name in ("eq", "ne") else ("s" if args[0].dtype in SIGNED else "u")
    return binary(b, f"icmp {sign}{_INT_TEST[name]}", args[0], args[1], BOOL)


def _int_neg(b: Builder, _name: str, args: list[Value]) -> Value:
    return binary(b, "sub", _like(args[0], 0), args[0])


def _int_abs(b: Builder, _name: str, args: list[Value]) -> Value:
    x = args[0]
    if x.dtype not in SIGNED:
        return x
    callee = b.intrinsic("llvm.abs", x.type, [x.type, "i1"], [x.type])
    return b.make(x.dtype, x.lanes, f"call {callee}({x.typed}, i1 false)", args)


def _int_extremum(b: Builder, name: str, args: list[Value]) -> Value:
    if args[0].dtype is BOOL:
        return binary(b, "or" if name == "max" else "and", args[0], args[1])
    sign = "s" if args[0].dtype in SIGNED else "u"
    return call(b, f"llvm.{sign}{name}", args[0].dtype, *args)


def _int_mad(b: Builder, _name: str, args: list[Value]) -> Value:
    return binary(b, "add", binary(b, "mul", args[0], args[1]), args[2])


def _not(b: Builder, _name: str, args: list[Value]) -> Value:
    return binary(b, "xor", args[0], _like(args[0], 1 if args[0].dtype is BOOL else -1))


def _divide(b: Builder, name: str, args: list[Value]) -> Value:
    """Floor division and its remainder; by zero both are 0, and nothing traps."""
    x, y = args
    quotient = name == "floordiv"
    if x.dtype not in SIGNED:
        by = y if _surely_nonzero(y) else select(b, _is(b, y, 0), _like(y, 1), y)
        plain = binary(b, "udiv" if quotient else "urem", x, by)
        return plain if by is y else select(b, _is(b, y, 0), _like(y, 0), plain)
    if _surely_nonzero(y):
        return _floor(b, x, y, quotient)
    # Dividing the least number by -1 traps like a division by zero: take the negative instead.
    zero, minus = _is(b, y, 0), _is(b, y, -1)
    by = select(b, binary(b, "or", zero, minus), _like(y, 1), y)
    result = _floor(b, x, by, quotient)
    if quotient:
        result = select(b, minus, _int_neg(b, "neg", [x]), result)
    return select(b, zero, _like(x, 0), result)


def _floor(b: Builder, x: Value, y: Value, quotient: bool) -> Value:
    q = binary(b, "sdiv", x, y)
    r = binary(b, "sub", x, binary(b, "mul", q, y))
    apart = binary(b, "icmp slt", binary(b, "xor", r, y), _like(x, 0), BOOL)
    below = binary(b, "and", apart, binary(b, "icmp ne", r, _like(x, 0), BOOL))
    if quotient:
        return select(b, below, binary(b, "add", q, _like(x, -1)), q)
    return select(b, below, binary(b, "add", r, y), r)


def _is(b: Builder, value: Value, number: int) -> Value:
    return binary(b, "icmp eq", value, _like(value, number), BOOL)


def _number(value: Value) -> int | None:
    """Return the whole number that a literal stands for."""
    if not value.is_constant or value.ref.startswith("<"):
        return None
    return int(value.ref.removesuffix(")").split(" ")[-1])


def _surely_nonzero(value: Value) -> bool:
    return _number(value) not in (None, 0, -1)


def _shift(b: Builder, name: str, args: list[Value]) -> Value:
    """Shift; by the type's width or more everything is shifted out."""
    x, count = args
    bits = 8 * x.dtype.bytes
    signed_right = name == "shr" and x.dtype in SIGNED
    instruction = "shl" if name == "shl" else ("ashr" if signed_right else "lshr")
    number = _number(count)
    if number is not None and 0 <= number < bits:
        return binary(b, instruction, x, count)
    inside = binary(b, "icmp ult", count, _like(count, bits), BOOL)
    most = _like(count, bits - 1)
    if signed_right:
        return binary(b, "ashr", x, select(b, inside, count, most))
    shifted = binary(b, instruction, x, binary(b, "and", count, most))
    return select(b, inside, shifted, _like(x, 0))


def _mulhi(b: Builder, _name: str, args: list[Value]) -> Value:
    """Return the upper half of a product of twice the width."""
    x, y = args
    bits = 8 * x.dtype.bytes
    if x.lanes > 1 and x.dtype is DType.U32:
        return _mulhi_pairs(b, x, y)
    wide = vector(f"i{2 * bits}", x.lanes)
    extend = "sext" if x.dtype in SIGNED else "zext"
    wx, wy = (b.pure(f"{extend} {v.typed} to {wide}", v.depth)[0] for v in (x, y))
    depth = max(x.depth, y.depth)
    product, _ = b.pure(f"mul {wide} {wx}, {wy}", depth)
    width = f"splat (i{2 * bits} {bits})" if x.lanes > 1 else str(bits)
    high, _ = b.pure(f"lshr {wide} {product}, {width}", depth)
    text = f"trunc {wide} {high} to {register_type(x.dtype, x.lanes)}"
    return b.make(x.dtype, x.lanes, text, args)


def _mulhi_pairs(b: Builder, x: Value, y: Value) -> Value:
    """Multiply even and odd lanes apart, each where it lies in a lane of 64 bits.

    Half of the instructions that widening, narrowing and joining take. Even lanes are the low
    halves of pairs on the little-endian machines that there are.
    """
    pairs = x.lanes // 2
    wide = DType.U64
    low, width = constant(2**32 - 1, wide, pairs), constant(32, wide, pairs)
    high = constant(2**64 - 2**32, wide, pairs)
    p, q = (
        b.make(wide, pairs, f"bitcast {v.typed} to {register_type(wide, pairs)}", [v])
        for v in (x, y)
    )
    even = binary(b, "mul", binary(b, "and", p, low), binary(b, "and", q, low))
    odd = binary(b, "mul", binary(b, "lshr", p, width), binary(b, "lshr", q, width))
    joined = binary(b, "or", binary(b, "lshr", even, width), binary(b, "and", odd, high))
    text = f"bitcast {joined.typed} to {register_type(x.dtype, x.lanes)}"
    return b.make(x.dtype, x.lanes, text, [joined])


_Emit = Callable[[Builder, str, list[Value]], Value]
_FLOAT_OPS: dict[str, _Emit] = {
    **dict.fromkeys(_FLOAT, _float_arithmetic),
    **dict.fromkeys(_FLOAT_TEST, _float_test),
    **dict.fromkeys(("max", "min"), _float_extremum),
    **dict.fromkeys(_ROUNDING, _rounded),
    "neg": _float_neg,
    "abs": _float_abs,
    "mad": _mad,
    "sqrt": _sqrt,
}
_INT_OPS: dict[str, _Emit] = {
    **dict.fromkeys(_INT, _int_arithmetic),
    **dict.fromkeys(_INT_TEST, _int_test),
    **dict.fromkeys(("max", "min"), _int_extremum),
    **dict.fromkeys(("floordiv", "mod"), _divide),
    **dict.fromkeys(("shl", "shr"), _shift),
    "neg": _int_neg,
    "abs": _int_abs,
    "mad": _int_mad,
    "not": _not,
    "mulhi": _mulhi,
}
NATIVE = frozenset(_FLOAT_OPS) | frozenset(_INT_OPS) | {"cast", "bitcast", "select"}
