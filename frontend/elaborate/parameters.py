"""Arguments meet parameters: which goes where, and whether each fits what is declared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

from nnc.frontend import ast
from nnc.frontend.elaborate.convert import Operand, stretch, to_node
from nnc.frontend.elaborate.elaborator import wrong_value
from nnc.frontend.elaborate.element_types import declared_type, settle, typed, unknown_type
from nnc.frontend.elaborate.faults import did_you_mean, fault
from nnc.frontend.elaborate.scope import Scope
from nnc.frontend.elaborate.shapes import Matcher, Pattern, declared_shape, pattern
from nnc.frontend.elaborate.types import CONFIG_TYPES, NAMED
from nnc.frontend.elaborate.values import (
    Bool,
    BuiltinValue,
    ConstantSchedule,
    Element,
    Float,
    FunctionValue,
    Instance,
    Int,
    LayerValue,
    ListValue,
    OptimizerValue,
    ScheduleValue,
    Tensor,
    Text,
    TupleValue,
    Value,
    describe,
    is_poisoned,
)
from nnc.ir import build, scalar
from nnc.ir.graph import Node
from nnc.ir.index import Size
from nnc.ir.span import Span

if TYPE_CHECKING:
    from nnc.frontend.elaborate.elaborator import Elaborator


Within: TypeAlias = "Callable[[Scope, ast.Expr, str], Scope]"
"""Gives the scope of what is given for a config: of a scope, the expression and the name."""


@dataclass(frozen=True, slots=True)
class Arguments:
    """The arguments of a call, evaluated."""

    positional: tuple[Operand, ...] = ()
    named: Mapping[str, tuple[ast.Ident, Operand]] = field(default_factory=dict)

    @property
    def poisoned(self) -> bool:
        """Whether some argument is the result of a reported error."""
        values = [o.value for o in self.positional] + [o.value for _, o in self.named.values()]
        return is_poisoned(*values)


def assign(
    owner: str, params: Sequence[ast.Parameter], arguments: Arguments, span: Span
) -> dict[str, Operand]:
    """Return the argument of each parameter that has one. Raises Fault where one has no place."""
    names = [p.name.text for p in params]
    if len(arguments.positional) > len(params):
        extra = arguments.positional[len(params)]
        raise fault(
            "E0209",
            f"{owner} takes {count(len(params), 'argument')}, not {len(arguments.positional)}",
            extra.span,
            "one too many",
            notes=[f"its parameters are {', '.join(names)}"] if names else (),
        )
    given = dict(zip(names, arguments.positional, strict=False))
    for name, (ident, operand) in arguments.named.items():
        if name not in names:
            hint, fix = did_you_mean(name, names, ident.span)
            listed = [f"its parameters are {', '.join(names)}"] if names else []
            raise fault(
                "E0209", f"{owner} has no parameter {name}", ident.span, "unknown",
                hint=hint, fix=fix, notes=listed,
            )  # fmt: skip
        if name in given:
            raise fault("E0209", f"{name} is given twice", ident.span, "the second")
        given[name] = operand
    missing = [p for p in params if p.name.text not in given and p.default is None]
    if missing:
        raise fault(
            "E0209",
            f"{owner} needs {', '.join(p.name.text for p in missing)}",
            span,
            "not given here",
            related=[(missing[0].span, "declared without a default")],
        )
    return given


def count(n: int, thing: str) -> str:
    """Return ``1 argument`` or ``2 arguments``."""
    return f"{n} {thing}" if n == 1 else f"{n} {thing}s"


def bind_config(
    elab: Elaborator, owner: str, params: Sequence[ast.Parameter], scope: Scope,
    arguments: Arguments, span: Span, within: Within | None = None,
) -> dict[str, Value]:  # fmt: skip
    """Bind config, whose values are known at compile time, in ``scope``; return them by name.

    ``within`` gives the scope of the default of a config, by its name.
    """
    given = assign(owner, params, arguments, span)
    config: dict[str, Value] = {}
    for param in params:
        operand = given.get(param.name.text)
        if operand is None:
            assert param.default is not None
            home = within(scope, param.default, param.name.text) if within is not None else scope
            operand = elab.argument(param.default, home, param.type)
        value = constant(elab, param, operand)
        scope.bind(param.name, value, "config")
        config[param.name.text] = value
    return config


def configure(
    elab: Elaborator, callee: ScheduleValue | OptimizerValue, arguments: Arguments, span: Span
) -> Value:
    """Give a schedule or an optimizer its config."""
    scope = Scope(callee.home.body, callee.home)
    owner = callee.decl.name.text
    config = bind_config(elab, owner, callee.decl.config, scope, arguments, span)
    return replace(callee, config=config)


def constant(elab: Elaborator, param: ast.Parameter, operand: Operand) -> Value:
    """Return a config value as its declared type. Raises Fault where it is not of it."""
    value = operand.value
    if is_poisoned(value):
        return value
    if isinstance(value, Tensor | Element | ListValue) or (
        isinstance(value, Int) and value.is_index
    ):
        raise fault(
            "E0224",
            f"the config {param.name} must be known at compile time",
            operand.span,
            f"this is {describe(value)}",
            related=[(param.span, "declared here")],
        )
    if param.type is None:
        return value
    return plain(elab, param.type, operand)


def plain(elab: Elaborator, declared: ast.TypeExpr, operand: Operand) -> Value:
    """Return a value that is no tensor as its declared type. Raises Fault where it is not of it."""
    value = operand.value
    if isinstance(declared, ast.CallableType):
        kind = declared.kind.text
    elif isinstance(declared, ast.TensorTypeExpr):
        kind = declared.name.text
        if declared.dims is not None:
            raise fault("E0224", "config has no dims", declared.span)
    else:
        return _several(elab, declared, operand)
    match kind, value:
        case ("int", Int()) | ("float", Float()) | ("bool", Bool()) | ("text", Text()):
            return value
        case "float", Int(size) if isinstance(size, int):
            return Float(float(size))
        case "float", Int(size):
            return Element(scalar.cast(scalar.position(size), elab.precision), weak=True)
        case (("fn" | "layer"), FunctionValue() | BuiltinValue() | Instance()):
            return value
        case "any", Int() | Float() | Bool():
            return value
        case "schedule", ScheduleValue(_, _, None):
            return configure(elab, value, Arguments(), operand.span)
        case "schedule", ScheduleValue() | ConstantSchedule():
            return value
        case "schedule", Float(number):
            return ConstantSchedule(number)
        case "schedule", Int(size) if isinstance(size, int):
            return ConstantSchedule(float(size))
        case "layer", LayerValue() if isinstance(declared, ast.TensorTypeExpr):
            return value
        case (("fn" | "layer"), LayerValue()):
            from nnc.frontend.elaborate.given import not_made

            raise not_made(value, operand)
    if kind not in CONFIG_TYPES and kind not in NAMED:
        raise unknown_type(
            declared.name if isinstance(declared, ast.TensorTypeExpr) else declared.kind
        )
    raise wrong_value(_article(kind), value, operand.span)


def _several(elab: Elaborator, declared: ast.TupleType, operand: Operand) -> TupleValue:
    """Return config of a type like ``(int, int)``; one value alone stands for each of them."""
    value = operand.value
    parts = value.items if isinstance(value, TupleValue) else (value,) * len(declared.items)
    if len(parts) != len(declared.items):
        raise fault(
            "E0224",
            f"{count(len(parts), 'value')} where {len(declared.items)} are declared",
            operand.span,
            related=[(declared.span, "declared here")],
            hint="one value alone stands for all of them",
        )
    pairs = zip(declared.items, parts, strict=True)
    return TupleValue(tuple(plain(elab, t, replace(operand, value=v)) for t, v in pairs))


def _article(kind: str) -> str:
    return {
        "int": "a whole number",
        "float": "a number",
        "bool": "true or false",
        "text": "a text",
        "fn": "a function",
        "layer": "a layer",
        "schedule": "a number or a schedule",
    }.get(kind, f"a value of type {kind}")


# tensors ------------------------------------------------------------------------------------------


def bind_tensors(
    elab: Elaborator, owner: str, params: Sequence[ast.Parameter], scope: Scope,
    arguments: Arguments, span: Span,
) -> None:  # fmt: skip
    """Bind the parameters of an application in ``scope``, with the dims that they bring.

    Those that are no tensors come first, so that dims may be arithmetic on them; then dims that
    stand alone, then arithmetic, then ``..s``; defaults last, which may use all of it.
    """
    given = assign(owner, params, arguments, span)
    scope.body.types = settle(elab, params, given, span)
    tensors: list[tuple[ast.Parameter, Pattern, Operand]] = []
    for param in params:
        operand = given.get(param.name.text)
        if operand is None:
            continue
        declared = param.type
        if isinstance(declared, ast.TensorTypeExpr) and declared.dims is not None:
            found = typed(elab, scope, declared, named(operand, param))
            tensors.append((param, pattern(declared.dims, declared.span), found))
        else:
            scope.bind(param.name, single(elab, scope, param, operand), "value")
    matcher = Matcher(elab, scope)
    for _, declared_dims, operand in tensors:
        if not is_poisoned(operand.value):
            matcher.match(declared_dims, shape_of(operand.value), operand)
    rests = matcher.finish()
    for param, declared_dims, operand in tensors:
        scope.bind(param.name, joined(elab, declared_dims, operand, rests), "value")
    for param in params:
        if param.name.text not in given:
            assert param.default is not None
            operand = elab.argument(param.default, scope, param.type)
            value = filled(elab, scope, param, single(elab, scope, param, operand), operand)
            scope.bind(param.name, value, "value")


def filled(
    elab: Elaborator, scope: Scope, param: ast.Parameter, value: Value, operand: Operand
) -> Value:
    """Return a default that is one number at every place of the shape that is declared."""
    declared = param.type
    if not isinstance(declared, ast.TensorTypeExpr) or declared.dims is None:
        return value
    dims = pattern(declared.dims, declared.span)
    names = [
        n.id for d in (*dims.front, *dims.back) for n in ast.walk(d) if isinstance(n, ast.Name)
    ]
    if dims.rest is not None:
        names.append(dims.rest.name or "")
    if is_poisoned(value) or shape_of(value) or any(scope.find(n) is None for n in names):
        return value
    dtype = declared_type(elab, scope, declared)
    shape = declared_shape(elab, scope, dims)
    return Tensor(to_node(elab, replace(operand, value=value), dtype, shape)) if shape else value


def named(operand: Operand, param: ast.Parameter) -> Operand:
    """Return the operand with the parameter's name where it has none of its own."""
    return operand if operand.text else replace(operand, text=param.name.text)


def shape_of(value: Value) -> tuple[Size, ...]:
    """Return the shape of a number or tensor."""
    return tuple(value.shape) if isinstance(value, Tensor | ListValue) else ()


def single(elab: Elaborator, scope: Scope, param: ast.Parameter, operand: Operand) -> Value:
    """Return an argument whose declaration has no dims: anything untyped, or one value."""
    declared = param.type
    value = operand.value
    if declared is None or is_poisoned(value):
        return value
    if isinstance(declared, ast.TupleType):
        return plain(elab, declared, operand)
    if isinstance(declared, ast.CallableType) or (
        declared.dims is None and declared.name.text in CONFIG_TYPES
    ):
        is_tensor = isinstance(value, Tensor | Element | ListValue)
        name = declared.kind.text if isinstance(declared, ast.CallableType) else declared.name.text
        if not (is_tensor and name in ("float", "bool")):
            return plain(elab, declared, operand)
    assert isinstance(declared, ast.TensorTypeExpr)
    if declared.dims is not None:
        found = typed(elab, scope, declared, operand)
        return found.value
    found = typed(elab, scope, declared, named(operand, param))
    if shape_of(found.value):
        raise fault(
            "E0206",
            f"{param.name} is one number",
            operand.span,
            describe(found.value),
            related=[(param.span, f"declared {declared.name}, without dims")],
        )
    return found.value


def joined(
    elab: Elaborator, declared: Pattern, operand: Operand, rests: Mapping[str, tuple[Size, ...]]
) -> Value:
    """Repeat an argument to what all arguments with the same ``..s`` make together."""
    value = operand.value
    name = declared.rest.name if declared.rest is not None else None
    if is_poisoned(value) or name is None:
        return value
    joint = rests[name]
    own = shape_of(value)
    fixed = len(declared.front) + len(declared.back)
    if len(own) == len(joint) + fixed and own[len(declared.front) :][: len(joint)] == joint:
        return value
    front, back = own[: len(declared.front)], own[len(own) - len(declared.back) :]
    shape = (*front, *joint, *back)
    if not declared.back or not isinstance(value, Tensor):
        return Tensor(stretch(elab, to_node(elab, operand), operand, shape))
    return Tensor(_stretch_middle(value, len(front), len(back), shape, operand.span))


def _stretch_middle(
    value: Tensor, front: int, back: int, shape: tuple[Size, ...], span: Span
) -> Node:
    own = value.shape
    axes = build.axes_for(shape)
    here = build.subscripts(axes)
    middle = len(own) - front - back
    first = len(shape) - back - middle
    places = [*range(front), *range(first, len(shape))]
    index: list[Size] = [
        0 if size == 1 and shape[place] != 1 else here[place]
        for size, place in zip(own, places, strict=True)
    ]
    return build.form(
        axes, here, build.read(value.node, 0, *index), (value.node,), shape, span=span
    )


def results(declared: ast.TypeExpr | None) -> tuple[ast.TypeExpr, ...]:
    """Return the declared types of a function's results, one each."""
    match declared:
        case None:
            return ()
        case ast.TupleType(items):
            return items
        case _:
            return (declared,)
