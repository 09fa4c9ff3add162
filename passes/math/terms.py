"""Loop expressions written with Python's operators, and the formats of the two float types."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, Union

from nnc.ir.expr import Const
from nnc.ir.loops import Expr, Op
from nnc.ir.types import DType

Operand: TypeAlias = Union["Term", int, float]


@dataclass(frozen=True, slots=True)
class Term:
    """A loop expression; a Python number beside one takes its type."""

    expr: Expr

    @property
    def dtype(self) -> DType:
        """The element type."""
        return self.expr.dtype

    def _lift(self, other: Operand) -> Expr:
        return other.expr if isinstance(other, Term) else Const(other, self.dtype)

    def _op(self, name: str, other: Operand) -> Term:
        return Term(Op(name, (self.expr, self._lift(other)), self.dtype))

    def _from(self, name: str, other: Operand) -> Term:
        return Term(Op(name, (self._lift(other), self.expr), self.dtype))

    def _compare(self, name: str, other: Operand) -> Term:
        return Term(Op(name, (self.expr, self._lift(other)), DType.BOOL))

    def __add__(self, other: Operand) -> Term:
        return self._op("add", other)

    def __radd__(self, other: Operand) -> Term:
        return self._from("add", other)

    def __sub__(self, other: Operand) -> Term:
        return self._op("sub", other)

    def __rsub__(self, other: Operand) -> Term:
        return self._from("sub", other)

    def __mul__(self, other: Operand) -> Term:
        return self._op("mul", other)

    def __rmul__(self, other: Operand) -> Term:
        return self._from("mul", other)

    def __truediv__(self, other: Operand) -> Term:
        return self._op("div", other)

    def __rtruediv__(self, other: Operand) -> Term:
        return self._from("div", other)

    def __neg__(self) -> Term:
        return Term(Op("neg", (self.expr,), self.dtype))

    def __abs__(self) -> Term:
        return Term(Op("abs", (self.expr,), self.dtype))

    def __and__(self, other: Operand) -> Term:
        return self._op("and", other)

    def __or__(self, other: Operand) -> Term:
        return self._op("or", other)

    def __xor__(self, other: Operand) -> Term:
        return self._op("xor", other)

    def __invert__(self) -> Term:
        return Term(Op("not", (self.expr,), self.dtype))

    def __lshift__(self, other: Operand) -> Term:
        return self._op("shl", other)

    def __rshift__(self, other: Operand) -> Term:
        return self._op("shr", other)

    def __lt__(self, other: Operand) -> Term:
        return self._compare("lt", other)

    def __le__(self, other: Operand) -> Term:
        return self._compare("le", other)

    def __gt__(self, other: Operand) -> Term:
        return self._compare("gt", other)

    def __ge__(self, other: Operand) -> Term:
        return self._compare("ge", other)

    def equals(self, other: Operand) -> Term:
        """Whether the two are equal, element by element."""
        return self._compare("eq", other)

    def max(self, other: Operand) -> Term:
        """The greater of two."""
        return self._op("max", other)

    def min(self, other: Operand) -> Term:
        """The lesser of two."""
        return self._op("min", other)

    def mulhi(self, other: Operand) -> Term:
        """The upper half of the product of two u32."""
        return self._op("mulhi", other)

    def floor(self) -> Term:
        """The greatest whole number that is not above."""
        return Term(Op("floor", (self.expr,), self.dtype))

    def sqrt(self) -> Term:
        """The square root, correctly rounded."""
        return Term(Op("sqrt", (self.expr,), self.dtype))

    def cast(self, dtype: DType) -> Term:
        """Convert to ``dtype``."""
        return self if dtype is self.dtype else Term(Op("cast", (self.expr,), dtype))

    def bitcast(self, dtype: DType) -> Term:
        """The same bits as another type."""
        return Term(Op("bitcast", (self.expr,), dtype))


def literal(value: float, like: Term) -> Term:
    """A literal of the type of ``like``."""
    return Term(Const(value, like.dtype))


def mad(a: Term, b: Operand, c: Operand) -> Term:
    """``a * b + c``, rounded once or twice as the target has it."""
    return Term(Op("mad", (a.expr, a._lift(b), a._lift(c)), a.dtype))


def select(condition: Term, a: Operand, b: Operand) -> Term:
    """``a`` where ``condition``, else ``b``; one of the two is a Term."""
    like = a if isinstance(a, Term) else b
    assert isinstance(like, Term)
    return Term(Op("select", (condition.expr, like._lift(a), like._lift(b)), like.dtype))


def horner(x: Term, coefficients: Sequence[float]) -> Term:
    """The polynomial with ``coefficients`` from the constant term up."""
    total: Term | None = None
    for c in reversed(coefficients):
        total = Term(Const(c, x.dtype)) if total is None else mad(total, x, c)
    assert total is not None
    return total


@dataclass(frozen=True, slots=True)
class Format:
    """A float type's layout: its whole-number types, stored mantissa bits, exponent bias.

    ``smallest`` is the least normal number, ``magic`` a number whose last bit has the weight 1.
    """

    dtype: DType
    signed: DType
    unsigned: DType
    mantissa: int
    bias: int

    @property
    def smallest(self) -> float:
        """The least positive normal number."""
        return 2.0 ** (1 - self.bias)

    @property
    def magic(self) -> float:
        """1.5 times the power of 2 from which on numbers are whole."""
        return 1.5 * 2.0**self.mantissa

    def bits_of(self, value: float) -> int:
        """The bits of a literal."""
        pack = "<f" if self.dtype is DType.F32 else "<d"
        return int.from_bytes(struct.pack(pack, value), "little")

    def power_of_two(self, exponent: Term) -> Term:
        """2 to a whole power between ``2 - bias`` and ``bias``."""
        return ((exponent + self.bias) << self.mantissa).bitcast(self.dtype)

    def nearest(self, x: Term) -> tuple[Term, Term]:
        """The nearest whole number to ``x`` (well below 2^mantissa), as float and as integer."""
        shifted = x + self.magic
        return shifted - self.magic, shifted.bitcast(self.signed) - self.bits_of(self.magic)

    def with_sign(self, magnitude: Term, sign: Term) -> Term:
        """``magnitude`` (not negative) with the sign of ``sign``, zeros and all."""
        top = 1 << (8 * self.dtype.bytes - 1)
        kept = sign.bitcast(self.unsigned) & top
        return (magnitude.bitcast(self.unsigned) | kept).bitcast(self.dtype)

    def split(self, x: Term) -> tuple[Term, Term]:
        """``x = m * 2^k`` with m in [sqrt(1/2), sqrt(2)); positive finite ``x``, subnormals too.

        Returns k as a float, and m.
        """
        up = self.mantissa + 2
        tiny = x < self.smallest
        bits = select(tiny, x * 2.0**up, x).bitcast(self.signed)
        k = (bits - self.bits_of(math.sqrt(0.5))) >> self.mantissa
        m = (bits - (k << self.mantissa)).bitcast(self.dtype)
        exponent = k.cast(DType.I32).cast(self.dtype)
        return exponent - select(tiny, literal(up, x), 0.0), m


FORMATS = {
    DType.F32: Format(DType.F32, DType.I32, DType.U32, 23, 127),
    DType.F64: Format(DType.F64, DType.I64, DType.U64, 52, 1023),
}
