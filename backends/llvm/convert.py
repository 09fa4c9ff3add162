"""Conversions between element types."""

from __future__ import annotations

from nnc.backends.llvm.builder import Builder
from nnc.backends.llvm.values import HALVES, SIGNED, Value, constant, register_type, vector
from nnc.ir.types import DType

F64, F32, F16, BF16, BOOL = DType.F64, DType.F32, DType.F16, DType.BF16, DType.BOOL
I32, U32 = DType.I32, DType.U32


def cast(b: Builder, value: Value, to: DType) -> Value:
    """Convert to another element type.

    Float to whole number truncates and stays within the type's limits, NaN becoming 0; number to
    truth value is ``!= 0``; whole numbers wrap.
    """
    source = value.dtype
    if source is to:
        return value
    if source is F16 or source is BF16:
        return cast(b, _from_half(b, value), to)
    if to is BF16:
        return _to_bf16(b, cast(b, value, F32))
    if to is F16:
        return _to_f16(b, _f64_to_f32_odd(b, value) if source is F64 else cast(b, value, F32))
    if to is BOOL:
        zero = constant(0, source, value.lanes)
        compare = "fcmp une" if source.is_float else "icmp ne"
        return _make(b, BOOL, f"{compare} {value.typed}, {zero.ref}", value)
    if source.is_float:
        return _float_to_float(b, value, to) if to.is_float else _float_to_int(b, value, to)
    if to.is_float:
        name = "sitofp" if source in SIGNED else "uitofp"
    elif source is BOOL or source.bytes < to.bytes:
        name = "sext" if source in SIGNED else "zext"
    elif source.bytes > to.bytes:
        name = "trunc"
    else:
        return Value(value.ref, to, value.lanes, value.depth)
    return _convert(b, name, value, to)


def bitcast(b: Builder, value: Value, to: DType) -> Value:
    """Read the same bits as another type of the same width."""
    if register_type(value.dtype) == register_type(to):
        return Value(value.ref, to, value.lanes, value.depth)
    return _convert(b, "bitcast", value, to)


def compute_type(dtype: DType) -> DType:
    """Return the type in which arithmetic on ``dtype`` is done: f32 for the 16-bit floats.

    For add, sub, mul, div and sqrt, rounding to f32 and then to 16 bits gives the number that one
    rounding gives (Figueroa, "When is double rounding innocuous?", 1995).
    """
    return F32 if dtype in HALVES else dtype


def _make(b: Builder, dtype: DType, text: str, *operands: Value) -> Value:
    return b.make(dtype, operands[0].lanes, text, operands)


def _convert(b: Builder, name: str, value: Value, to: DType) -> Value:
    return _make(b, to, f"{name} {value.typed} to {register_type(to, value.lanes)}", value)


def _float_to_float(b: Builder, value: Value, to: DType) -> Value:
    return _convert(b, "fpext" if to.bytes > value.dtype.bytes else "fptrunc", value, to)


def _float_to_int(b: Builder, value: Value, to: DType) -> Value:
    name = "llvm.fptosi.sat" if to in SIGNED else "llvm.fptoui.sat"
    result = register_type(to, value.lanes)
    callee = b.intrinsic(name, result, [value.type], [result, value.type])
    return _make(b, to, f"call {callee}({value.typed})", value)


def _ints(b: Builder, name: str, x: Value, y: Value | int) -> Value:
    other = constant(y, x.dtype, x.lanes) if isinstance(y, int) else y
    return _make(b, x.dtype, f"{name} {x.typed}, {other.ref}", x, other)


def _test(b: Builder, name: str, x: Value, y: Value | int) -> Value:
    other = constant(y, x.dtype, x.lanes) if isinstance(y, int) else y
    return _make(b, BOOL, f"{name} {x.typed}, {other.ref}", x, other)


def _select(b: Builder, test: Value, yes: Value, no: Value) -> Value:
    return _make(b, yes.dtype, f"select {test.typed}, {yes.typed}, {no.typed}", yes, no, test)


def _f64_to_f32_odd(b: Builder, value: Value) -> Value:
    """Round f64 to f32 toward zero, the last bit set where inexact: a second rounding is right."""
    near = _convert(b, "fptrunc", value, F32)
    back = _convert(b, "fpext", near, F64)
    bits = bitcast(b, near, I32)
    size, back_size = (
        _make(b, F64, f"call {b.intrinsic('llvm.fabs', v.type, [v.type], [v.type])}({v.typed})", v)
        for v in (value, back)
    )
    above = _test(b, "fcmp ogt", back_size, size)
    toward_zero = _select(b, above, _ints(b, "sub", bits, 1), bits)
    inexact = _test(b, "fcmp one", back, value)
    odd = _select(b, inexact, _ints(b, "or", toward_zero, 1), bits)
    return bitcast(b, odd, F32)


def _from_half(b: Builder, value: Value) -> Value:
    lanes = value.lanes
    if value.dtype is F16 and b.target.half:
        half = vector("half", lanes)
        ref, _ = b.pure(f"bitcast {value.typed} to {half}", value.depth)
        return b.make(F32, lanes, f"fpext {half} {ref} to {vector('float', lanes)}", [value])
    wide = _make(b, U32, f"zext {value.typed} to {vector('i32', lanes)}", value)
    if value.dtype is BF16:
        return bitcast(b, _ints(b, "shl", wide, 16), F32)
    return _from_f16_by_bits(b, wide)


def _from_f16_by_bits(b: Builder, h: Value) -> Value:
    """After F. Giesen's ``half_to_float``: move the exponent, repair its two extreme values."""
    moved = _ints(b, "shl", _ints(b, "and", h, 0x7FFF), 13)
    exponent = _ints(b, "and", moved, 0x7C00 << 13)
    normal = _ints(b, "add", moved, (127 - 15) << 23)
    special = _ints(b, "add", normal, (128 - 16) << 23)
    shifted = bitcast(b, _ints(b, "add", normal, 1 << 23), F32)
    magic = constant(2.0**-14, F32, h.lanes)
    tiny = bitcast(b, _make(b, F32, f"fsub {shifted.typed}, {magic.ref}", shifted), U32)
    out = _select(b, _test(b, "icmp eq", exponent, 0x7C00 << 13), special, normal)
    out = _select(b, _test(b, "icmp eq", exponent, 0), tiny, out)
    sign = _ints(b, "shl", _ints(b, "and", h, 0x8000), 16)
    return bitcast(b, _ints(b, "or", out, sign), F32)


def _to_f16(b: Builder, value: Value) -> Value:
    lanes = value.lanes
    if b.target.half:
        half = vector("half", lanes)
        ref, _ = b.pure(f"fptrunc {value.typed} to {half}", value.depth)
        return b.make(F16, lanes, f"bitcast {half} {ref} to {vector('i16', lanes)}", [value])
    bits = bitcast(b, value, U32)
    sign = _ints(b, "and", bits, 1 << 31)
    size = _ints(b, "xor", bits, sign)
    big = _select(
        b, _test(b, "icmp ugt", size, 0x7F800000), constant(0x7E00, U32, lanes),
        constant(0x7C00, U32, lanes),
    )  # fmt: skip
    # Adding 0.5 lets the addition itself round a result that f16 holds as a denormal.
    half_one = constant(0.5, F32, lanes)
    small = bitcast(b, size, F32)
    rounded = bitcast(b, _make(b, F32, f"fadd {small.typed}, {half_one.ref}", small), U32)
    tiny = _ints(b, "sub", rounded, 0x3F000000)
    odd = _ints(b, "and", _ints(b, "lshr", size, 13), 1)
    near = _ints(b, "add", _ints(b, "add", size, (((15 - 127) << 23) & 0xFFFFFFFF) + 0xFFF), odd)
    out = _select(b, _test(b, "icmp ult", size, 113 << 23), tiny, _ints(b, "lshr", near, 13))
    out = _select(b, _test(b, "icmp uge", size, (127 + 16) << 23), big, out)
    out = _ints(b, "or", out, _ints(b, "lshr", sign, 16))
    return _make(b, F16, f"trunc {out.typed} to {vector('i16', lanes)}", out)


def _to_bf16(b: Builder, value: Value) -> Value:
    bits = bitcast(b, value, U32)
    odd = _ints(b, "and", _ints(b, "lshr", bits, 16), 1)
    near = _ints(b, "add", _ints(b, "add", bits, 0x7FFF), odd)
    quiet = _ints(b, "or", bits, 0x400000)
    nan = _make(b, BOOL, f"fcmp uno {value.typed}, {value.ref}", value)
    top = _ints(b, "lshr", _select(b, nan, quiet, near), 16)
    return _make(b, BF16, f"trunc {top.typed} to {vector('i16', value.lanes)}", top)
