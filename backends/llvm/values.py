"""LLVM types and constants for element types, and the values that emission passes around."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field

from nnc.ir.types import DType

_MEMORY = {
    DType.F64: "double", DType.F32: "float", DType.F16: "i16", DType.BF16: "i16",
    DType.I64: "i64", DType.I32: "i32", DType.I8: "i8", DType.U64: "i64", DType.U32: "i32",
    DType.U8: "i8", DType.BOOL: "i8",
}  # fmt: skip
SIGNED = frozenset({DType.I64, DType.I32, DType.I8})
HALVES = frozenset({DType.F16, DType.BF16})


class EmitError(Exception):
    """A loop program breaks a rule of loop IR, so no code can be made of it."""


@dataclass(frozen=True, slots=True)
class Value:
    """An operand of an instruction.

    ``ref`` is its text; ``lanes`` 1 a scalar, more a vector; ``depth`` the innermost scope of the
    builder it depends on. ``positive``: a whole number known to be at least 0. The two 16-bit
    float types are held as their bits.
    """

    ref: str
    dtype: DType
    lanes: int = 1
    depth: int = 0
    positive: bool = field(default=False, compare=False)

    @property
    def type(self) -> str:
        """The LLVM type of the value."""
        return register_type(self.dtype, self.lanes)

    @property
    def typed(self) -> str:
        """Type and text, as most instructions want them."""
        return f"{self.type} {self.ref}"

    @property
    def is_constant(self) -> bool:
        """Whether the text is a literal."""
        return self.ref[0] != "%"


def vector(element: str, lanes: int) -> str:
    """Return the type of ``lanes`` elements; of one, the element itself."""
    return element if lanes == 1 else f"<{lanes} x {element}>"


def memory_type(dtype: DType, lanes: int = 1) -> str:
    """Return the LLVM type of elements in memory."""
    return vector(_MEMORY[dtype], lanes)


def register_type(dtype: DType, lanes: int = 1) -> str:
    """Return the LLVM type of elements in registers: truth values are one bit wide."""
    return vector("i1" if dtype is DType.BOOL else _MEMORY[dtype], lanes)


def suffix(llvm_type: str) -> str:
    """Return how an overloaded intrinsic names a type: ``v16f32``, ``i64``, ``p0``."""
    if llvm_type.startswith("<"):
        lanes, _, element = llvm_type[1:-1].split(" ", 2)
        return f"v{lanes}{suffix(element)}"
    return {"float": "f32", "double": "f64", "half": "f16", "ptr": "p0"}.get(llvm_type, llvm_type)


def literal(value: float, dtype: DType) -> str:
    """Return the text of one constant; whole numbers wrap to the type's width."""
    if dtype is DType.BOOL:
        return "true" if value else "false"
    if dtype is DType.F64:
        return _hex64(float(value))
    if dtype is DType.F32:
        return _hex64(_as_f32(float(value)))
    if dtype is DType.F16:
        return str(int.from_bytes(struct.pack("<e", _as_f16(float(value))), "little", signed=True))
    if dtype is DType.BF16:
        return str(_bf16_bits(float(value)))
    bits = 8 * dtype.bytes
    wrapped = int(value) & ((1 << bits) - 1)
    return str(wrapped - (1 << bits) if wrapped >> (bits - 1) else wrapped)


def constant(value: float, dtype: DType, lanes: int = 1) -> Value:
    """Return a constant, repeated over ``lanes``."""
    text = literal(value, dtype)
    if lanes > 1:
        text = f"splat ({register_type(dtype)} {text})"
    return Value(text, dtype, lanes)


def iota(dtype: DType, lanes: int, step: int = 1) -> Value:
    """Return the constant vector 0, step, 2 step, ..."""
    element = register_type(dtype)
    inside = ", ".join(f"{element} {literal(i * step, dtype)}" for i in range(lanes))
    return Value(f"<{inside}>", dtype, lanes)


def _hex64(value: float) -> str:
    return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"


def _as_f32(value: float) -> float:
    try:
        return float(struct.unpack("<f", struct.pack("<f", value))[0])
    except OverflowError:
        return math.copysign(math.inf, value)


def _as_f16(value: float) -> float:
    try:
        struct.pack("<e", value)
    except OverflowError:
        return math.copysign(math.inf, value)
    return value


def _bf16_bits(value: float) -> int:
    if math.isnan(value):
        return 0x7FC0
    bits = int(struct.unpack("<I", struct.pack("<f", _as_f32(value)))[0])
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return rounded - (1 << 16) if rounded >> 15 else rounded
