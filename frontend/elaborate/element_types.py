"""Which element type a declaration asks for, and whether a value has it.

``float`` is the working type. In the header of a function or layer two words stand for several
types: ``any[..s]`` is a tensor of any element type and ``int[..s]`` one of whole numbers of any
width. Each is one type throughout a header, settled anew at each use by what is given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from nnc.frontend import ast
from nnc.frontend.elaborate.convert import Operand, common_type, natural_type, strong_type, to_node
from nnc.frontend.elaborate.elaborator import wrong_value
from nnc.frontend.elaborate.faults import did_you_mean, fault
from nnc.frontend.elaborate.types import CONFIG_TYPES, GENERIC, NAMED, type_name
from nnc.frontend.elaborate.values import (
    Bool,
    Element,
    Float,
    Int,
    ListValue,
    Tensor,
    describe,
    is_poisoned,
)
from nnc.ir import scalar
from nnc.ir.span import Span
from nnc.ir.types import DType

if TYPE_CHECKING:
    from nnc.frontend.elaborate.elaborator import Elaborator
    from nnc.frontend.elaborate.scope import Scope


def unknown_type(name: ast.Ident | None) -> Exception:
    """Return the fault for a type that there is not."""
    assert name is not None
    known = [*NAMED, *dict.fromkeys((*GENERIC, *CONFIG_TYPES))]
    hint, fix = did_you_mean(name.text, known, name.span)
    hint = hint or f"the types are {', '.join(known)}"
    return fault("E0201", f"unknown type {name}", name.span, hint=hint, fix=fix)


def element_type(elab: Elaborator, declared: ast.TensorTypeExpr) -> DType:
    """Return the element type that a declaration names; ``float`` is the working type."""
    if declared.name.text == "float":
        return elab.precision
    found = NAMED.get(declared.name.text)
    if found is None:
        if declared.name.text in (*CONFIG_TYPES, *GENERIC):
            raise fault(
                "E0206", f"{declared.name} is not the type of a tensor", declared.name.span,
                hint="for whole numbers in tensors write i32 or i64"
                if declared.name.text == "int" else None,
            )  # fmt: skip
        raise unknown_type(declared.name)
    return found


def generic_name(declared: ast.TypeExpr | None) -> str | None:
    """Return the word of a declaration that stands for any of several element types.

    ``n: int`` without dims is a whole number known at compile time.
    """
    if isinstance(declared, ast.TensorTypeExpr) and declared.name.text in GENERIC:
        plain = declared.dims is None and declared.name.text in CONFIG_TYPES
        return None if plain else declared.name.text
    return None


def settle(
    elab: Elaborator,
    params: Sequence[ast.Parameter],
    given: Mapping[str, Operand],
    span: Span,
) -> dict[str, DType]:
    """Return the element type that each such word stands for at one use.

    Raises Fault where values given for one word have two types.
    """
    found: dict[str, DType] = {}
    for name in GENERIC:
        chosen = [(p, given[p.name.text]) for p in params if p.name.text in given]
        operands = [o for p, o in chosen if generic_name(p.type) == name]
        operands = [o for o in operands if not is_poisoned(o.value)]
        if operands:
            found[name] = common_type(elab, operands, span)
    return found


def declared_type(elab: Elaborator, scope: Scope, declared: ast.TensorTypeExpr) -> DType | None:
    """Return the element type that a declaration asks for, None where any would do."""
    if generic_name(declared) is None:
        return element_type(elab, declared)
    return scope.body.types.get(declared.name.text)


def typed(
    elab: Elaborator, scope: Scope, declared: ast.TensorTypeExpr, operand: Operand
) -> Operand:
    """Check the element type of an argument; numbers without one take the declared type."""
    value = operand.value
    if is_poisoned(value):
        return operand
    actual = natural_type(elab, value)
    if actual is None:
        raise wrong_value(f"a tensor of {declared.name}", value, operand.span)
    dtype = declared_type(elab, scope, declared) or actual
    if generic_name(declared) == "int" and not dtype.is_int:
        raise fault(
            "E0205",
            f"{operand.text or 'this'} has the type {type_name(actual)}, not one of whole numbers",
            operand.span,
            describe(value),
            related=[(declared.span, "declared here")],
            hint=f"convert it: i32({operand.text or '...'})",
        )
    found = strong_type(value)
    if found is dtype:
        return operand
    if found is None:
        match value:
            case ListValue():
                return replace(operand, value=Tensor(to_node(elab, operand, dtype)))
            case Int(size) if dtype.is_float and isinstance(size, int):
                return replace(operand, value=Float(float(size)))
            case Int() | Element() if dtype.is_float:
                assert isinstance(value, Int | Element)
                expr = value.expr if isinstance(value, Element) else scalar.position(value.size)
                return replace(operand, value=Element(scalar.cast(expr, dtype), weak=True))
            case Int() | Element() if dtype.is_int:
                return operand
            case Float() if dtype.is_float:
                return operand
            case Bool() if dtype is DType.BOOL:
                return operand
    cast = declared.name.text if generic_name(declared) is None else type_name(dtype)
    raise fault(
        "E0205",
        f"{operand.text or 'this'} has the type {type_name(actual)}, not {type_name(dtype)}",
        operand.span,
        describe(value),
        related=[(declared.span, "declared here")],
        hint=f"convert it: {cast}({operand.text or '...'})",
    )
