"""``float(x)``, ``i32(x)``: one element type becomes another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnc.frontend.elaborate.convert import Operand, lift, natural_type, not_a_number
from nnc.frontend.elaborate.elaborator import wrong_value
from nnc.frontend.elaborate.types import NAMED
from nnc.frontend.elaborate.values import Bool, Element, Float, Int, Value, is_poisoned
from nnc.ir import scalar
from nnc.ir.expr import Const, Expr
from nnc.ir.span import Span
from nnc.ir.types import DType

if TYPE_CHECKING:
    from nnc.frontend.elaborate.elaborator import Elaborator
    from nnc.frontend.elaborate.scope import Scope


def cast(elab: Elaborator, scope: Scope, name: str, operand: Operand, span: Span) -> Value:
    """Convert a value to the type ``name``. Numbers stay known at compile time."""
    value = operand.value
    if is_poisoned(value):
        return value
    if name == "int":
        return _whole(operand)
    dtype = elab.precision if name == "float" else NAMED[name]
    match value:
        case Int(size) if isinstance(size, int):
            return _constant(elab, float(size) if dtype.is_float else size, dtype)
        case Float(x):
            return _constant(elab, x, dtype)
        case Bool(truth):
            return value if dtype is DType.BOOL else _constant(elab, int(truth), dtype)
        case Int(size):
            return Element(scalar.cast(scalar.position(size), dtype))
        case Element(expr):
            return Element(scalar.cast(expr, dtype))
    source = natural_type(elab, value)
    if source is None:
        not_a_number(operand)

    def make(x: Expr) -> Expr:
        return scalar.cast(x, dtype)

    return value if source is dtype else lift(elab, scope, ((operand, source),), make, span)


def _constant(elab: Elaborator, number: int | float, dtype: DType) -> Value:
    """A number of a type of its own; of the working type it stays a plain decimal."""
    if dtype is elab.precision:
        return Float(float(number))
    if dtype.is_float:
        return Element(Const(float(number), dtype))
    if dtype is DType.BOOL:
        return Bool(number != 0)
    return Element(Const(int(number), dtype))


def _whole(operand: Operand) -> Value:
    match operand.value:
        case Int():
            return operand.value
        case Float(x) if abs(x) < float(1 << 63):
            return Int(int(x))
        case Bool(truth):
            return Int(int(truth))
    raise wrong_value(
        "a number known at compile time",
        operand.value,
        operand.span,
        hint="whole numbers in tensors are i32 or i64: i32(x)",
    )
