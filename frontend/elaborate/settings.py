"""Config that comes from outside the file: from the command, from Python, from a train block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nnc.frontend import ast
from nnc.frontend.diagnostics import SourceError
from nnc.frontend.elaborate.convert import Operand
from nnc.frontend.elaborate.faults import did_you_mean, fault
from nnc.frontend.elaborate.parameters import Arguments
from nnc.frontend.elaborate.scope import Scope
from nnc.frontend.elaborate.types import NAMED, PRECISIONS
from nnc.frontend.elaborate.values import Bool, Float, Int, Text, TupleValue, Value
from nnc.ir.types import DType


def precision_type(name: str | None) -> DType:
    """Return the working type called ``name``, f32 if None. Raises SourceError."""
    if name is None:
        return DType.F32
    if name in PRECISIONS:
        return NAMED[name]
    hint, _ = did_you_mean(name, PRECISIONS, None)
    error = fault("E0224", f"there is no precision {name}", None,
                  notes=[f"it is one of {', '.join(PRECISIONS)}"], hint=hint)  # fmt: skip
    raise SourceError([error.diagnostic])


def config_arguments(
    decl: ast.Model, config: Mapping[str, Any], given: Arguments | None, scope: Scope
) -> Arguments:
    """Join config given by name from outside with what a train block gives; outside wins.

    ``scope`` is the file's, in which the names of functions are looked up. Raises Fault for a name
    that the model does not have, or a value of no use.
    """
    named = dict(given.named) if given is not None else {}
    positional = given.positional if given is not None else ()
    params = {p.name.text: p for p in decl.config}
    for place, operand in zip(decl.config, positional, strict=False):
        named.setdefault(place.name.text, (place.name, operand))
    for name, value in config.items():
        param = params.get(name)
        if param is None:
            hint, _ = did_you_mean(name, params, None)
            raise fault(
                "E0224",
                f"the model {decl.name} has no config {name}",
                decl.name.span,
                notes=[f"its config is {', '.join(params)}"] if params else ["it has none"],
                hint=hint,
            )
        operand = Operand(outside_value(param, value, scope), param.span, name)
        named[name] = (param.name, operand)
    extra = positional[len(decl.config) :]
    return Arguments(extra, named)


def outside_value(param: ast.Parameter, value: Any, scope: Scope) -> Value:
    """Return a Python value, or the text that the command was given, as a value."""
    return _outside(param, param.type, value, scope)


def _outside(
    param: ast.Parameter, declared: ast.TypeExpr | None, value: Any, scope: Scope
) -> Value:
    kind = declared.name.text if isinstance(declared, ast.TensorTypeExpr) else None
    if isinstance(declared, ast.TupleType):
        parts = value.split(",") if isinstance(value, str) else value
        if not isinstance(parts, Sequence):
            return _outside(param, declared.items[0], value, scope)
        types = (*declared.items, *(declared.items[-1:] * len(parts)))
        items = [_outside(param, t, v, scope) for t, v in zip(types, parts, strict=False)]
        return items[0] if len(items) == 1 else TupleValue(tuple(items))
    if isinstance(value, str) and kind == "fn":
        found = scope.find_callable(value)
        if found is None:
            hint, _ = did_you_mean(value, scope.known(), None)
            raise fault(
                "E0224", f"the config {param.name} is a function, and {value!r} names none",
                param.span, hint=hint,
            )  # fmt: skip
        return found.value
    if isinstance(value, str) and kind not in ("text", None):
        value = _read(param, kind, value)
    match value:
        case bool():
            return Bool(value)
        case int():
            return Int(value)
        case float():
            return Float(value)
        case str():
            return Text(value)
    if hasattr(value, "__index__"):
        return Int(value.__index__())
    if hasattr(value, "__float__"):
        return Float(float(value))
    raise fault("E0224", f"{value!r} is no value for the config {param.name}", param.span)


def _read(param: ast.Parameter, kind: str | None, text: str) -> Any:
    words = {"true": True, "false": False}
    if text in words:
        return words[text]
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            continue
    raise fault(
        "E0224",
        f"{text!r} is no value for the config {param.name}",
        param.span,
        f"declared {kind}",
    )


def settled_config(bound: Mapping[str, Value]) -> dict[str, Any]:
    """Return config as plain Python values; what is none (a function) is left out."""
    found = {name: _settled(value) for name, value in bound.items()}
    return {name: value for name, value in found.items() if value is not None}


def _settled(value: Value) -> Any:
    match value:
        case Int(size) if isinstance(size, int):
            return size
        case Float(number):
            return number
        case Bool(truth):
            return truth
        case Text(text):
            return text
        case TupleValue(items):
            parts = tuple(_settled(item) for item in items)
            return None if None in parts else parts
        case _:
            return None
