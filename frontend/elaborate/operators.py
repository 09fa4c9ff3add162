"""The operators, on every kind of value: sizes, decimals, elements and tensors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from nnc.frontend.elaborate.convert import Operand, common_type, lift
from nnc.frontend.elaborate.faults import Fault, fault
from nnc.frontend.elaborate.matmul import matmul
from nnc.frontend.elaborate.types import decide
from nnc.frontend.elaborate.values import (
    POISON,
    Bool,
    Element,
    Float,
    Int,
    Text,
    TupleValue,
    Value,
    describe,
    is_poisoned,
)
from nnc.ir import scalar
from nnc.ir.expr import Const, Expr
from nnc.ir.index import FloorDiv, Mod, Size, axes_of, exact_div, floordiv, mod
from nnc.ir.prove import proves_equal
from nnc.ir.span import Span
from nnc.ir.types import DType

if TYPE_CHECKING:
    from nnc.frontend.elaborate.elaborator import Elaborator
    from nnc.frontend.elaborate.scope import Scope

COMPARISONS = {"==": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}
MOST_FACTORS = 16
"""Whole powers up to this are multiplications."""
MOST_PARTS = 256
"""Terms of a symbolic size, those inside quotients and remainders too, each of which counts 8."""


def binary(
    elab: Elaborator, scope: Scope, op: str, left: Operand, right: Operand, span: Span
) -> Value:
    """Apply ``+ - * / // % @ ^``. Raises Fault where the operands do not fit."""
    a, b = left.value, right.value
    if is_poisoned(a, b):
        return POISON
    if op == "@":
        return matmul(elab, left, right, span)
    match a, b:
        case Int(x), Int(y):
            if op == "*" and _parts(x) * _parts(y) > MOST_PARTS**2:
                raise _too_large(span)
            return _kept(_whole(elab, op, x, y, right, span), span)
        case TupleValue(x), TupleValue(y) if op == "+":
            return TupleValue(x + y)
    numbers = _decimals(a, b)
    if numbers is not None:
        return _decimal(op, *numbers, right, span)
    if op == "^":
        return power(elab, scope, left, right, span)
    dtype = common_type(elab, (left, right), span)
    _check_arithmetic(op, dtype, left, right, span)
    made = lift(elab, scope, ((left, dtype), (right, dtype)), _maker(op, dtype), span)
    return _weaken(made, a, b)


def _weaken(made: Value, *parts: Value) -> Value:
    """Mark an element as untyped where everything that it was made of is."""
    untyped = all(isinstance(p, Int | Float) or (isinstance(p, Element) and p.weak) for p in parts)
    return Element(made.expr, weak=True) if untyped and isinstance(made, Element) else made


def _decimals(a: Value, b: Value) -> tuple[float, float] | None:
    """Both values as decimals, where they are known numbers."""
    x, y = number(a), number(b)
    return None if x is None or y is None else (float(x), float(y))


def number(value: Value) -> int | float | None:
    """Return the number that is known at compile time, or None."""
    match value:
        case Int(size) if isinstance(size, int):
            return size
        case Float(x):
            return x
        case _:
            return None


# whole numbers --------------------------------------------------------------------------------


def _kept(value: Value, span: Span) -> Value:
    """Return a whole number that programs can hold. Raises Fault where it is none."""
    if isinstance(value, Int):
        size = value.size
        if isinstance(size, int) and not -(2**63) <= size < 2**63:
            raise _too_large(span)
        if _parts(size) > MOST_PARTS:
            raise _too_large(span)
    return value


def _too_large(span: Span) -> Fault:
    return fault(
        "E0210", "this whole number is too large", span,
        f"numbers have 64 bits, symbolic sizes at most {MOST_PARTS} terms",
    )  # fmt: skip


def _parts(size: Size) -> int:
    if isinstance(size, int):
        return 1
    nested = [atom.value for atom in size.atoms() if isinstance(atom, FloorDiv | Mod)]
    return len(size.terms) + sum(8 + _parts(value) for value in nested)


def _whole(elab: Elaborator, op: str, x: Size, y: Size, right: Operand, span: Span) -> Value:
    match op:
        case "+":
            return Int(x + y)
        case "-":
            return Int(x - y)
        case "*":
            return Int(x * y)
        case "/":
            return _exact(elab, x, y, right, span)
        case "//" | "%":
            if not isinstance(y, int) or y < 1:
                raise fault(
                    "E0210",
                    f"{op} of whole numbers needs a constant divisor of at least 1",
                    right.span,
                    f"this is {y}" if isinstance(y, int) or not axes_of(y) else "this is an index",
                )
            return Int(floordiv(x, y) if op == "//" else mod(x, y))
        case _:
            return _whole_power(x, y, right)


def _exact(elab: Elaborator, x: Size, y: Size, right: Operand, span: Span) -> Value:
    if y == 0:
        raise fault("E0210", "division by zero", right.span, "this is 0")
    found = exact_div(x, y)
    if found is not None:
        return Int(found)
    if isinstance(y, int):
        by, sign = (y, 1) if y > 0 else (-y, -1)
        if not isinstance(x, int) and proves_equal(mod(x, by), 0, elab.facts):
            return Int(sign * floordiv(x, by))
    if isinstance(x, int) and isinstance(y, int):
        hint = f"write {float(x)}/{y} for a decimal, or {x}//{y} to round down"
    else:
        hint = f"`require {_grouped(x)} % {_grouped(y)} == 0` says that it does; // rounds down"
    raise fault(
        "E0210",
        f"{x} / {y} does not come out whole",
        span,
        "a quotient of whole numbers must be whole",
        hint=hint,
        about={"require": f"{_grouped(x)} % {_grouped(y)} == 0"},
    )


def _grouped(size: Size) -> str:
    spelled = str(size)
    return spelled if spelled.isidentifier() or spelled.isdigit() else f"({spelled})"


def _whole_power(x: Size, y: Size, right: Operand) -> Value:
    if not isinstance(y, int):
        raise fault("E0210", "a whole number's exponent must be known", right.span, f"this is {y}")
    if y < 0:
        if isinstance(x, int) and x:
            return Float(float(x) ** y)
        raise fault("E0210", "a negative power of a whole number", right.span, f"this is {y}")
    if y > (MOST_FACTORS if not isinstance(x, int) else 512 if abs(x) > 1 else y):
        raise fault("E0210", "the exponent is too large", right.span, f"this is {y}")
    result: Size = 1
    for _ in range(y):
        result = result * x
    return Int(result)


# decimals -------------------------------------------------------------------------------------


def _decimal(op: str, x: float, y: float, right: Operand, span: Span) -> Value:
    try:
        match op:
            case "+":
                return Float(x + y)
            case "-":
                return Float(x - y)
            case "*":
                return Float(x * y)
            case "/":
                return Float(x / y)
            case "//":
                return Float(float(math.floor(x / y)))
            case "%":
                return Float(x - y * math.floor(x / y))
            case _:
                return Float(math.pow(x, y))
    except ZeroDivisionError:
        raise fault("E0210", "division by zero", right.span, "this is 0") from None
    except (ValueError, OverflowError):
        raise fault("E0210", f"{x} {op} {y} is not a number", span) from None


# elements and tensors ---------------------------------------------------------------------------


def _check_arithmetic(op: str, dtype: DType, left: Operand, right: Operand, span: Span) -> None:
    places = [left.related, right.related]
    if dtype is DType.BOOL:
        raise fault(
            "E0202",
            f"{op} does not take truth values",
            span,
            related=places,
            hint="convert them: float(x) is 0 or 1; or use and, or, not",
        )
    if op == "/" and not dtype.is_float:
        raise fault(
            "E0202",
            f"/ does not take whole numbers ({dtype})",
            span,
            related=places,
            hint="// rounds down; float(x) / y gives a decimal",
        )
    decimal = next((o for o in (left, right) if isinstance(o.value, Float)), None)
    if decimal is not None and not dtype.is_float:
        raise fault(
            "E0205",
            f"a decimal does not go with a tensor of {dtype}",
            span,
            related=places,
            hint=f"convert the tensor: float({_other(left, right, decimal).text or 'x'})",
        )


def _other(left: Operand, right: Operand, one: Operand) -> Operand:
    return right if one is left else left


def _maker(op: str, dtype: DType) -> Callable[[Expr, Expr], Expr]:
    match op:
        case "+":
            return scalar.add
        case "-":
            return scalar.sub
        case "*":
            return scalar.mul
        case "/":
            return scalar.div
        case "//":
            return _floor_quotient if dtype.is_float else _op("floordiv")
        case _:
            return _float_remainder if dtype.is_float else _op("mod")


def _op(name: str) -> Callable[[Expr, Expr], Expr]:
    return lambda a, b: scalar.apply(name, a, b)


def _floor_quotient(a: Expr, b: Expr) -> Expr:
    return scalar.apply("floor", scalar.div(a, b))


def _float_remainder(a: Expr, b: Expr) -> Expr:
    return scalar.sub(a, scalar.mul(_floor_quotient(a, b), b))


def power(elab: Elaborator, scope: Scope, left: Operand, right: Operand, span: Span) -> Value:
    """Raise to a power; a small whole exponent becomes multiplications."""
    dtype = common_type(elab, (left, right), span)
    if isinstance(right.value, Int) and isinstance(right.value.size, int):
        n = right.value.size
        base = common_type(elab, (left,), span)
        _check_arithmetic("^", base, left, right, span)
        if 0 <= n <= MOST_FACTORS or (base.is_float and -MOST_FACTORS <= n < 0):
            made = lift(elab, scope, ((left, base),), lambda x: _repeated(x, n), span)
            return _weaken(made, left.value)
    _check_arithmetic("^", dtype, left, right, span)
    if not dtype.is_float:
        raise fault(
            "E0202",
            f"^ of whole numbers ({dtype}) needs a constant exponent from 0 to {MOST_FACTORS}",
            span,
            related=[left.related, right.related],
            hint="convert the base: float(x)",
        )
    return lift(elab, scope, ((left, dtype), (right, dtype)), scalar.pow_, span)


def _repeated(x: Expr, n: int) -> Expr:
    one = Const(1.0 if x.dtype.is_float else 1, x.dtype)
    if n < 0:
        return scalar.div(one, _repeated(x, -n))
    result: Expr | None = None
    while n:
        if n & 1:
            result = x if result is None else scalar.mul(result, x)
        n >>= 1
        if n:
            x = scalar.mul(x, x)
    return one if result is None else result


def negate(elab: Elaborator, scope: Scope, operand: Operand, span: Span) -> Value:
    """Return ``-x``."""
    match operand.value:
        case Int(size):
            return Int(-size)
        case Float(x):
            return Float(-x)
        case value if is_poisoned(value):
            return POISON
    dtype = common_type(elab, (operand,), span)
    _check_arithmetic("-", dtype, operand, operand, span)
    return _weaken(lift(elab, scope, ((operand, dtype),), scalar.neg, span), operand.value)


# comparisons and logic --------------------------------------------------------------------------


def compare(
    elab: Elaborator, scope: Scope, op: str, left: Operand, right: Operand, span: Span
) -> Value:
    """Apply ``== != < <= > >=``; the result is known where the operands are."""
    a, b = left.value, right.value
    name = COMPARISONS[op]
    match a, b:
        case _ if is_poisoned(a, b):
            return POISON
        case Int(x), Int(y):
            known = decide(name, x, y, elab.facts)
            if known is not None:
                return Bool(known)
            return Element(scalar.apply(name, scalar.position(x), scalar.position(y)))
        case (Text(x), Text(y)) | (Bool(x), Bool(y)) if op in ("==", "!="):
            return Bool((x == y) == (op == "=="))
        case TupleValue(x), TupleValue(y) if op in ("==", "!="):
            return _compare_tuples(elab, scope, op, left, right, span)
    numbers = _decimals(a, b)
    if numbers is not None:
        return Bool(_compare_numbers(name, *numbers))
    dtype = common_type(elab, (left, right), span)
    if not dtype.is_float and any(isinstance(o, Float) for o in (a, b)):
        _check_arithmetic(op, dtype, left, right, span)
    if dtype is DType.BOOL and name not in ("eq", "ne"):
        _check_arithmetic(op, dtype, left, right, span)
    return lift(elab, scope, ((left, dtype), (right, dtype)), _op(name), span)


def _compare_numbers(name: str, x: float, y: float) -> bool:
    return {
        "eq": x == y, "ne": x != y, "lt": x < y, "le": x <= y, "gt": x > y, "ge": x >= y,
    }[name]  # fmt: skip


def _compare_tuples(
    elab: Elaborator, scope: Scope, op: str, left: Operand, right: Operand, span: Span
) -> Value:
    assert isinstance(left.value, TupleValue)
    assert isinstance(right.value, TupleValue)
    x, y = left.value.items, right.value.items
    result: Value = Bool(len(x) == len(y))
    if len(x) == len(y):
        for p, q in zip(x, y, strict=True):
            part = compare(elab, scope, "==", Operand(p, left.span), Operand(q, right.span), span)
            both = Operand(result, span), Operand(part, span)
            result = logic(elab, scope, "and", *both, span)
    return result if op == "==" else negation(elab, scope, Operand(result, span), span)


def logic(
    elab: Elaborator, scope: Scope, op: str, left: Operand, right: Operand, span: Span
) -> Value:
    """Apply ``and`` or ``or``; a known side settles it or drops out."""
    if is_poisoned(left.value, right.value):
        return POISON
    settles = op == "or"
    for one, other in ((left, right), (right, left)):
        if isinstance(one.value, Bool):
            truth(other)
            return one.value if one.value.value is settles else other.value
    truth(left)
    truth(right)
    made = scalar.or_ if settles else scalar.and_
    return lift(elab, scope, ((left, DType.BOOL), (right, DType.BOOL)), made, span)


def negation(elab: Elaborator, scope: Scope, operand: Operand, span: Span) -> Value:
    """Return ``not x``."""
    match operand.value:
        case Bool(known):
            return Bool(not known)
        case value if is_poisoned(value):
            return POISON
    truth(operand)
    return lift(elab, scope, ((operand, DType.BOOL),), scalar.not_, span)


def truth(operand: Operand) -> None:
    """Raise Fault unless the operand is a truth value, or a tensor of them."""
    value = operand.value
    dtype = getattr(value, "dtype", None)
    if is_poisoned(value) or isinstance(value, Bool) or dtype is DType.BOOL:
        return
    raise fault(
        "E0202",
        "a truth value is needed here",
        operand.span,
        f"this is {describe(value)}",
        hint=f"compare it with something: {operand.text or 'x'} != 0",
    )


def choose(
    elab: Elaborator,
    scope: Scope,
    condition: Operand,
    yes: Operand,
    no: Operand,
    span: Span,
) -> Value:
    """Return ``if condition then yes else no`` for a condition that the data decides."""
    if is_poisoned(condition.value, yes.value, no.value):
        return POISON
    dtype = common_type(elab, (yes, no), span)
    for side in (yes, no):
        if isinstance(side.value, Float) and not dtype.is_float:
            _check_arithmetic("if", dtype, yes, no, span)
    parts = ((condition, DType.BOOL), (yes, dtype), (no, dtype))
    if all(isinstance(o.value, Int) or _weak_whole(o.value) for o in (yes, no)):
        # Untyped whole numbers stay exact, as positions, until they meet a type.
        parts = ((condition, DType.BOOL), (yes, DType.I64), (no, DType.I64))
    made = lift(elab, scope, parts, scalar.select, span)
    return _weaken(made, yes.value, no.value)


def _weak_whole(value: Value) -> bool:
    return isinstance(value, Element) and value.weak and value.dtype.is_int
