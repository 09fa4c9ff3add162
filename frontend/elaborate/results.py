"""What a body returns meets the type that its header declares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nnc.frontend import ast
from nnc.frontend.elaborate.convert import Operand, to_node, varies_over_box
from nnc.frontend.elaborate.element_types import typed
from nnc.frontend.elaborate.faults import Fault, fault
from nnc.frontend.elaborate.parameters import count, plain, shape_of
from nnc.frontend.elaborate.shapes import Matcher, Pattern, declared_shape, pattern
from nnc.frontend.elaborate.types import CONFIG_TYPES
from nnc.frontend.elaborate.values import (
    POISON,
    Element,
    ListValue,
    Tensor,
    TupleValue,
    Value,
    describe,
    is_poisoned,
)
from nnc.ir.index import Size

if TYPE_CHECKING:
    from nnc.frontend.elaborate.elaborator import Elaborator
    from nnc.frontend.elaborate.scope import Scope


def declare_results(
    elab: Elaborator,
    scope: Scope,
    declared: Sequence[ast.TypeExpr],
    expected: Sequence[Size] | None,
) -> None:
    """Bind dims that only the result names from the shape that it must fit.

    Raises Fault where the shape that is wanted and the one declared cannot be one.
    """
    if expected is None or len(declared) != 1:
        return
    (only,) = declared
    if isinstance(only, ast.TensorTypeExpr) and only.dims is not None:
        dims = pattern(only.dims, only.span)
        if _settled(scope, dims):
            return
        operand = Operand(POISON, only.span, "the result")
        matcher = Matcher(elab, scope)
        matcher.match(dims, expected, operand)
        matcher.finish()


def _settled(scope: Scope, declared: Pattern) -> bool:
    """Whether every name in a declared shape is bound already."""
    names = [
        n.id
        for d in (*declared.front, *declared.back)
        for n in ast.walk(d)
        if isinstance(n, ast.Name)
    ]
    if declared.rest is not None and declared.rest.name is not None:
        names.append(declared.rest.name)
    return all(scope.find(name) is not None for name in names)


def expected_result(
    elab: Elaborator, scope: Scope, declared: Sequence[ast.TypeExpr]
) -> tuple[Size, ...] | None:
    """Return the shape that the one result must have, where it is known already."""
    if len(declared) != 1:
        return None
    (only,) = declared
    if not isinstance(only, ast.TensorTypeExpr) or only.dims is None:
        return None
    dims = pattern(only.dims, only.span)
    return declared_shape(elab, scope, dims) if _settled(scope, dims) else None


def fit_results(
    elab: Elaborator, scope: Scope, declared: Sequence[ast.TypeExpr], operand: Operand
) -> Value:
    """Return what a body returns as the declared type. Raises Fault where it does not fit."""
    value = operand.value
    if not declared or is_poisoned(value):
        return value
    if len(declared) == 1:
        return fit(elab, scope, declared[0], operand)
    if not isinstance(value, TupleValue) or len(value.items) != len(declared):
        raise fault(
            "E0226",
            f"{count(len(declared), 'value')} must be returned",
            operand.span,
            describe(value),
        )
    return TupleValue(
        tuple(
            fit(elab, scope, t, Operand(v, operand.span))
            for t, v in zip(declared, value.items, strict=True)
        )
    )


def fit(elab: Elaborator, scope: Scope, declared: ast.TypeExpr, operand: Operand) -> Value:
    """Return a value as a declared type, its shape checked and numbers made tensors of it."""
    value = operand.value
    if is_poisoned(value):
        return value
    if not isinstance(declared, ast.TensorTypeExpr):
        raise fault("E0208", "a result is a tensor or a number", declared.span)
    if declared.dims is None:
        return _scalar(elab, scope, declared, operand)
    found = typed(elab, scope, declared, operand)
    dims = pattern(declared.dims, declared.span)
    if not shape_of(found.value) and _settled(scope, dims):
        # A number fills whatever is declared: `fn zeros() -> float[..s] = 0`.
        shape = declared_shape(elab, scope, dims)
        if isinstance(found.value, Tensor) and shape:
            raise _unfit(declared, dims, operand, None)
        if not shape:
            return found.value
        if isinstance(found.value, Element) and varies_over_box(found.value.expr):
            raise _unfit(declared, dims, operand, None)
        return Tensor(to_node(elab, found, shape=shape))
    if not isinstance(found.value, Tensor | Element) and not _settled(scope, dims):
        raise fault(
            "E0207",
            f"the shape of the result is not known: {dims}",
            operand.span,
            "a number alone does not tell it",
            hint=f"give it where the function is called: {_called(scope)}[n]()",
        )
    matcher = Matcher(elab, scope)
    try:
        matcher.match(dims, shape_of(found.value), found)
        matcher.finish()
    except Fault as error:
        raise _unfit(declared, dims, operand, error) from None
    return found.value


def _called(scope: Scope) -> str:
    return scope.body.owner.split()[-1]


def _scalar(
    elab: Elaborator, scope: Scope, declared: ast.TensorTypeExpr, operand: Operand
) -> Value:
    value = operand.value
    numeric = isinstance(value, Tensor | Element | ListValue)
    if declared.name.text in CONFIG_TYPES and not (
        numeric and declared.name.text in ("float", "bool")
    ):
        return plain(elab, declared, operand)
    found = typed(elab, scope, declared, operand)
    if shape_of(found.value):
        raise fault(
            "E0208",
            "the result has dims that the declaration does not have",
            operand.span,
            describe(value),
            related=[(declared.span, f"declared {declared.name}, one number")],
        )
    return found.value


def _unfit(
    declared: ast.TensorTypeExpr, dims: Pattern, operand: Operand, cause: Fault | None
) -> Fault:
    notes = [cause.diagnostic.message] if cause is not None else []
    related = [(declared.span, f"declared {declared.name}{dims}")]
    if cause is not None:
        related += [place for place in cause.diagnostic.related if place[0] != declared.span]
    return fault(
        "E0208",
        "the value does not have the shape that is declared",
        operand.span,
        describe(operand.value),
        related=related,
        notes=notes,
    )
