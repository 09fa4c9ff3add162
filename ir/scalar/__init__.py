"""The scalar operations: one block per op, in families, and constructors of expressions.

``OPS[name]`` holds everything that is known of an operation (see ``table.ScalarOp``). The same
table serves the bodies of forms (``expr.Apply``) and of loops (``loops.Op``).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from nnc.ir.scalar import arithmetic, bitwise, elementary
from nnc.ir.scalar.derive import tangent
from nnc.ir.scalar.make import (
    add,
    and_,
    apply,
    cast,
    const,
    div,
    is_const,
    maximum,
    minimum,
    mul,
    neg,
    not_,
    or_,
    position,
    pow_,
    select,
    sub,
    with_value,
)
from nnc.ir.scalar.table import Sample, ScalarOp, ScalarTypeError
from nnc.ir.types import DType

__all__ = [
    "OPS",
    "Sample",
    "ScalarOp",
    "ScalarTypeError",
    "add",
    "and_",
    "apply",
    "cast",
    "const",
    "div",
    "is_const",
    "maximum",
    "minimum",
    "mul",
    "neg",
    "not_",
    "or_",
    "position",
    "pow_",
    "result_type",
    "select",
    "sub",
    "tangent",
    "with_value",
]

OPS: Mapping[str, ScalarOp] = MappingProxyType(
    {op.name: op for op in (*arithmetic.OPS, *elementary.OPS, *bitwise.OPS)}
)


def result_type(op: str, types: tuple[DType, ...], target: DType | None = None) -> DType:
    """Return the type of ``op`` on operands of ``types``; ``target`` as for ``cast``.

    Raises ``ScalarTypeError`` where the operation does not take them, KeyError for no such op.
    """
    rule = OPS[op]
    if len(types) < rule.arity or (len(types) > rule.arity and not rule.variadic):
        raise ScalarTypeError(f"{op} takes {rule.arity} operands, not {len(types)}")
    try:
        return rule.result(types, target)
    except ScalarTypeError as error:
        raise ScalarTypeError(f"{op}: {error}") from None
