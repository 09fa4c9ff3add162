"""Element types and tensor types."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nnc.ir.index import Size, product

if TYPE_CHECKING:
    import numpy as np


class DType(enum.Enum):
    """An element type. ``u32`` and ``u64`` exist only inside programs (random bits)."""

    F64 = "f64"
    F32 = "f32"
    F16 = "f16"
    BF16 = "bf16"
    I64 = "i64"
    I32 = "i32"
    I8 = "i8"
    U64 = "u64"
    U32 = "u32"
    U8 = "u8"
    BOOL = "bool"

    # That of Enum is a call into Python, and types are part of every expression's hash.
    __hash__ = object.__hash__

    @property
    def is_float(self) -> bool:
        """Whether values are floating-point numbers."""
        return self in _FLOATS

    @property
    def is_int(self) -> bool:
        """Whether values are whole numbers (truth values are not)."""
        return not self.is_float and self is not DType.BOOL

    @property
    def zero(self) -> float | int | bool:
        """The number 0 of this type."""
        if self is DType.BOOL:
            return False
        return 0.0 if self.is_float else 0

    @property
    def bytes(self) -> int:
        """Size of one element in memory, in bytes."""
        return _BYTES[self]

    @property
    def numpy(self) -> np.dtype[np.generic]:
        """The NumPy type of the same layout (bf16 is kept as its 16 bits)."""
        import numpy

        return numpy.dtype(_NUMPY[self])

    def __str__(self) -> str:
        return self.value


_FLOATS = frozenset({DType.F64, DType.F32, DType.F16, DType.BF16})
_BYTES = {
    DType.F64: 8, DType.F32: 4, DType.F16: 2, DType.BF16: 2, DType.I64: 8, DType.I32: 4,
    DType.I8: 1, DType.U64: 8, DType.U32: 4, DType.U8: 1, DType.BOOL: 1,
}  # fmt: skip
_NUMPY = {
    DType.F64: "f8", DType.F32: "f4", DType.F16: "f2", DType.BF16: "u2", DType.I64: "i8",
    DType.I32: "i4", DType.I8: "i1", DType.U64: "u8", DType.U32: "u4", DType.U8: "u1",
    DType.BOOL: "?",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TensorType:
    """Element type and shape; a dim is an int or a polynomial in symbolic dims."""

    dtype: DType
    shape: tuple[Size, ...] = ()

    @property
    def rank(self) -> int:
        """Number of dims."""
        return len(self.shape)

    @property
    def size(self) -> Size:
        """Number of elements."""
        return product(self.shape)

    def __str__(self) -> str:
        dims = ", ".join(str(d) for d in self.shape)
        return f"{self.dtype}[{dims}]"
