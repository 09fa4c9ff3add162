"""The one evaluator of expressions, inside index notation and outside."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nnc.frontend import ast
from nnc.frontend.elaborate import operators
from nnc.frontend.elaborate.calls import call, pipe
from nnc.frontend.elaborate.convert import Operand
from nnc.frontend.elaborate.elaborator import wrong_value
from nnc.frontend.elaborate.faults import Cascade, did_you_mean, fault
from nnc.frontend.elaborate.slices import subscript
from nnc.frontend.elaborate.values import (
    POISON,
    Bool,
    Element,
    Float,
    Instance,
    Int,
    ListValue,
    ModuleValue,
    Tensor,
    Text,
    TupleValue,
    Value,
    describe,
    is_poisoned,
)
from nnc.ir import build, scalar
from nnc.ir.expr import Const, Expr, Number
from nnc.ir.index import Size
from nnc.ir.span import Span
from nnc.ir.types import DType, TensorType

if TYPE_CHECKING:
    from nnc.frontend.elaborate.elaborator import Elaborator
    from nnc.frontend.elaborate.scope import Scope

Shape = tuple[Size, ...]
CONSTANTS = ("training", "step", "pi")
"""Names that the language gives a value; a function of that name is found when it is called."""


def evaluate(
    elab: Elaborator, scope: Scope, expr: ast.Expr, expected: Shape | None = None
) -> Value:
    """Return what ``expr`` stands for; ``expected`` is the shape it must fit, where it is known.

    Raises Fault where the expression is wrong.
    """
    match expr:
        case ast.Name():
            return _name(elab, scope, expr)
        case ast.Int(value):
            return Int(value)
        case ast.Float(number):
            return Float(number)
        case ast.Bool(truth):
            return Bool(truth)
        case ast.String(text):
            return Text(text)
        case ast.SizeLiteral(size):
            return Int(size)
        case ast.Unary() | ast.Binary() | ast.Compare() | ast.BoolOp() | ast.IfExpr():
            return _operation(elab, scope, expr, expected)
        case ast.Call():
            return call(elab, scope, expr, expected)
        case ast.Pipe():
            return pipe(elab, scope, expr, expected)
        case ast.Subscript():
            return subscript(elab, scope, expr)
        case ast.Field():
            return _field(elab, scope, expr)
        case ast.Tuple(items):
            return TupleValue(tuple(elab.evaluate(item, scope) for item in items))
        case ast.List(items):
            return _list(elab, scope, items, expr.span)
        case ast.Repeat():
            from nnc.frontend.elaborate.statements import repeat

            return repeat(elab, scope, expr, wanted=True)
        case ast.Scan():
            from nnc.frontend.elaborate.scans import scan

            return scan(elab, scope, expr, wanted=True)
        case ast.Hole():
            raise fault("E0230", "this is left to be written", expr.span, "... stands for nothing")
        case ast.Record():
            raise fault("E0202", "a record stands only in a train block", expr.span)


def _operation(
    elab: Elaborator, scope: Scope,
    expr: ast.Unary | ast.Binary | ast.Compare | ast.BoolOp | ast.IfExpr, expected: Shape | None,
) -> Value:  # fmt: skip
    match expr:
        case ast.Unary(op, inner):
            operand = elab.operand(inner, scope, expected)
            if op == "not":
                return operators.negation(elab, scope, operand, expr.span)
            return operators.negate(elab, scope, operand, expr.span)
        case ast.Binary(op, left, right):
            wanted = expected if op != "@" else None
            a = elab.operand(left, scope, wanted)
            b = elab.operand(right, scope, wanted)
            return operators.binary(elab, scope, op, a, b, expr.span)
        case ast.Compare():
            return _compare(elab, scope, expr)
        case ast.BoolOp():
            return _logic(elab, scope, expr)
        case ast.IfExpr():
            return _choice(elab, scope, expr, expected)


# names ------------------------------------------------------------------------------------------


def _name(elab: Elaborator, scope: Scope, expr: ast.Name) -> Value:
    found = scope.find(expr.id)
    if found is not None and (found.kind != "declaration" or expr.id not in CONSTANTS):
        return found.value
    match expr.id:
        case "training":
            return Bool(elab.training)
        case "step":
            return step(elab, expr.span)
        case "pi":
            return Float(math.pi)
    raise scope.unknown(expr.id, expr.span)


def step(elab: Elaborator, span: Span) -> Value:
    """Return the number of the training step, a decimal from 1."""
    counter = elab.leaf("system", "step", TensorType(DType.I64))

    def from_one(x: Expr) -> Expr:
        return scalar.add(scalar.cast(x, elab.precision), Const(1.0, elab.precision))

    return Tensor(build.elementwise(from_one, counter, span=span, name="step"))


def _field(elab: Elaborator, scope: Scope, expr: ast.Field) -> Value:
    """Evaluate ``fc.weight`` or ``gpt.decoder``; ``net.embed.table`` goes down the path."""
    names = [expr.name]
    root = expr.base
    while isinstance(root, ast.Field):
        names.insert(0, root.name)
        root = root.base
    value = evaluate(elab, scope, root)
    while isinstance(value, ModuleValue) and names:
        value = _member(value, names.pop(0))
    if not names or is_poisoned(value):
        return value
    if isinstance(value, Instance):
        return _held(elab, value, names)
    hint = None
    if isinstance(value, Tensor | Element) and names[0].text in ("shape", "size", "T"):
        hint = {"shape": "shape(x)", "size": "size(x)", "T": "transpose(x)"}[names[0].text]
    raise fault(
        "E0225",
        f"{describe(value)} has no parts with names",
        names[0].span,
        hint=f"write {hint}" if hint else None,
    )


def _member(value: ModuleValue, name: ast.Ident) -> Value:
    found = value.scope.names.get(name.text) or value.scope.rules.get(name.text)
    if found is not None:
        return found.value
    if value.scope.incomplete:
        raise Cascade
    hint, fix = did_you_mean(name.text, value.scope.declared(), name.span)
    raise fault("E0225", f"{value.name} has no {name}", name.span, hint=hint, fix=fix)


def _held(elab: Elaborator, instance: Instance, names: list[ast.Ident]) -> Value:
    """Return the parameter or buffer of an instance that was applied before."""
    from nnc.frontend.elaborate.copies import hold

    hold(elab, instance)
    prefix = f"{instance.path}." if instance.path else ""
    path = prefix + ".".join(n.text for n in names)
    found = elab.current.get(path)
    if found is not None:
        return Tensor(found)
    held = [p[len(prefix) :] for p in elab.current if p.startswith(prefix)]
    wanted = ".".join(n.text for n in names)
    span = names[0].span.to(names[-1].span)
    if not held and elab.diagnostics.has_errors:
        raise Cascade  # what was to apply it may be what is wrong
    if not held:
        raise fault(
            "E0225",
            f"{instance.site} has not been applied yet",
            span,
            "its parameters take their sizes from what it is applied to",
            related=[(instance.span, "made here")],
        )
    hint, fix = did_you_mean(wanted, held, span)
    raise fault(
        "E0225", f"{instance.site} has no parameter {wanted}", span,
        notes=[f"it holds {', '.join(held)}"], hint=hint, fix=fix,
    )  # fmt: skip


# logic --------------------------------------------------------------------------------------------


def _compare(elab: Elaborator, scope: Scope, expr: ast.Compare) -> Value:
    operands = [elab.operand(e, scope) for e in expr.operands]
    result: Value = Bool(True)
    for op, a, b in zip(expr.ops, operands, operands[1:], strict=False):
        span = a.span.to(b.span) if len(expr.ops) > 1 else expr.span
        part = operators.compare(elab, scope, op, a, b, span)
        result = operators.logic(
            elab, scope, "and", Operand(result, expr.span), Operand(part, span), expr.span
        )
    return result


def _logic(elab: Elaborator, scope: Scope, expr: ast.BoolOp) -> Value:
    """Evaluate ``and`` and ``or``; each operand is used only where those before leave it open."""
    first, *rest = expr.operands
    result = elab.operand(first, scope)
    operators.truth(result)
    for operand in rest:
        settled = result.value
        if isinstance(settled, Bool) and settled.value == (expr.op == "or"):
            return settled
        inner = under(scope, settled, expr.op == "and")
        other = elab.operand(operand, inner)
        value = operators.logic(elab, inner, expr.op, result, other, expr.span)
        result = Operand(value, expr.span)
    return result.value


def under(scope: Scope, condition: Value, holds: bool) -> Scope:
    """Return the scope of an expression that is used only where ``condition`` (not) holds."""
    if scope.box is None or not isinstance(condition, Element):
        return scope
    return scope.inside(scope.box.assuming(condition, holds))


def _choice(elab: Elaborator, scope: Scope, expr: ast.IfExpr, expected: Shape | None) -> Value:
    condition = elab.operand(expr.condition, scope)
    value = condition.value
    if is_poisoned(value):
        return POISON
    if isinstance(value, Bool):
        return evaluate(elab, scope, expr.yes if value.value else expr.no, expected)
    operators.truth(condition)
    if scope.box is not None and isinstance(value, Tensor) and not value.shape:
        value = scope.box.read(value.node, ())
        condition = Operand(value, condition.span, condition.text)
    yes = elab.operand(expr.yes, under(scope, value, True), expected)
    no = elab.operand(expr.no, under(scope, value, False), expected)
    return operators.choose(elab, scope, condition, yes, no, expr.span)


# lists -----------------------------------------------------------------------------------------


def _list(elab: Elaborator, scope: Scope, items: tuple[ast.Expr, ...], span: Span) -> Value:
    numbers: list[Number] = []
    shapes: list[tuple[int, ...]] = []
    for item in items:
        value = evaluate(elab, scope, item)
        match value:
            case Int(size) if isinstance(size, int):
                numbers.append(size)
                shapes.append(())
            case Float(x) | Bool(x):
                numbers.append(x)
                shapes.append(())
            case ListValue(inner, shape):
                numbers.extend(inner)
                shapes.append(shape)
            case _:
                raise wrong_value(
                    "a number known at compile time", value, item.span,
                    hint="stack(a, b) joins tensors",
                )  # fmt: skip
    if any(shape != shapes[0] for shape in shapes):
        raise fault("E0204", "the parts of a list must have one shape", span)
    mixed = {isinstance(n, bool) for n in numbers}
    if len(mixed) > 1:
        raise fault("E0205", "truth values and numbers do not mix in a list", span)
    return ListValue(tuple(numbers), (len(items), *shapes[0]))
