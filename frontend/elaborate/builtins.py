"""The primitive functions: what the standard library is written in, beside index notation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nnc.frontend import ast
from nnc.frontend.elaborate import (
    arrangement,
    casts,
    copies,
    derivative,
    mathematics,
    random,
    reductions,
)
from nnc.frontend.elaborate.convert import Operand, common_type, lift
from nnc.frontend.elaborate.elaborator import later
from nnc.frontend.elaborate.faults import did_you_mean, fault
from nnc.frontend.elaborate.operators import binary, number
from nnc.frontend.elaborate.parameters import Arguments, count
from nnc.frontend.elaborate.types import NAMED
from nnc.frontend.elaborate.values import Bool, Element, Float, Int, Value
from nnc.ir import scalar
from nnc.ir.expr import Expr
from nnc.ir.index import Size
from nnc.ir.span import Span
from nnc.ir.types import DType

if TYPE_CHECKING:
    from nnc.frontend.elaborate.elaborator import Elaborator
    from nnc.frontend.elaborate.scope import Scope

LATER = ("whole", "check_gradient")
"""Functions of the language that this version of the compiler does not have."""


@dataclass(frozen=True, slots=True)
class Use:
    """One application of a primitive: where, and the shape that its result must fit, if known."""

    elab: Elaborator
    scope: Scope
    name: str
    span: Span
    expected: tuple[Size, ...] | None
    site: ast.Expr


@dataclass(frozen=True, slots=True)
class Signature:
    """Names of the parameters, of which the first ``needed`` have no default; ``many`` first."""

    names: tuple[str, ...]
    needed: int
    run: Callable[[Use, Mapping[str, Operand]], Value]
    many: bool = False


def apply(
    elab: Elaborator, scope: Scope, name: str, arguments: Arguments, site: ast.Expr,
    expected: tuple[Size, ...] | None,
) -> Value:  # fmt: skip
    """Apply the primitive ``name``. Raises Fault where the arguments do not fit."""
    use = Use(elab, scope, name, site.span, expected, site)
    if name in LATER:
        raise later(f"{name}()", site.span)
    signature = TABLE[name]
    if signature.many:
        return _many(use, arguments)
    return signature.run(use, _assign(use, signature, arguments))


def _assign(use: Use, signature: Signature, arguments: Arguments) -> dict[str, Operand]:
    names = signature.names
    if len(arguments.positional) > len(names):
        extra = arguments.positional[len(names)]
        raise fault(
            "E0209",
            f"{use.name} takes {count(len(names), 'argument')}, not {len(arguments.positional)}",
            extra.span,
            "one too many",
            notes=[f"its parameters are {', '.join(names)}"],
        )
    given = dict(zip(names, arguments.positional, strict=False))
    for name, (ident, operand) in arguments.named.items():
        if name not in names:
            hint, fix = did_you_mean(name, names, ident.span)
            raise fault(
                "E0209", f"{use.name} has no parameter {name}", ident.span, "unknown",
                hint=hint, fix=fix, notes=[f"its parameters are {', '.join(names)}"],
            )  # fmt: skip
        if name in given:
            raise fault("E0209", f"{name} is given twice", ident.span, "the second")
        given[name] = operand
    missing = [n for n in names[: signature.needed] if n not in given]
    if missing:
        raise fault("E0209", f"{use.name} needs {', '.join(missing)}", use.span, "not given here")
    return given


def _many(use: Use, arguments: Arguments) -> Value:
    """Apply ``concat`` or ``stack``: any number of tensors, then ``axis = ...``."""
    stray = next((n for n in arguments.named if n != "axis"), None)
    if stray is not None:
        ident = arguments.named[stray][0]
        raise fault("E0209", f"{use.name} has no parameter {stray}", ident.span, "unknown")
    axis = arguments.named["axis"][1] if "axis" in arguments.named else None
    parts = arguments.positional
    if not parts:
        raise fault("E0209", f"{use.name} needs a tensor", use.span, "nothing is given")
    join = arrangement.concat if use.name == "concat" else arrangement.stack
    return join(use.elab, parts, axis, use.span)


# scalar functions -------------------------------------------------------------------------------


def _function(use: Use, given: Mapping[str, Operand]) -> Value:
    operand = given["x"]
    value = number(operand.value)
    if value is not None:
        return Float(mathematics.known(use.name, float(value)))
    dtype = _decimal_type(use, operand)

    def make(x: Expr) -> Expr:
        return scalar.apply(use.name, x)

    return lift(use.elab, use.scope, ((operand, dtype),), make, use.span)


def _decimal_type(use: Use, operand: Operand) -> DType:
    """The type at which a function of decimals takes its operand: sizes become decimals."""
    value = operand.value
    if isinstance(value, Int) or (isinstance(value, Element) and value.weak):
        return use.elab.precision
    dtype = common_type(use.elab, (operand,), use.span)
    if not dtype.is_float:
        raise fault(
            "E0205",
            f"{use.name} takes decimals, not {dtype}",
            operand.span,
            hint=f"convert it: float({operand.text or '...'})",
        )
    return dtype


def _abs(use: Use, given: Mapping[str, Operand]) -> Value:
    operand = given["x"]
    match operand.value:
        case Int(size) if isinstance(size, int):
            return Int(abs(size))
        case Float(x):
            return Float(abs(x))
    dtype = common_type(use.elab, (operand,), use.span)
    if dtype is DType.BOOL:
        raise fault("E0202", "abs does not take truth values", operand.span)

    def make(x: Expr) -> Expr:
        return scalar.apply("abs", x)

    return lift(use.elab, use.scope, ((operand, dtype),), make, use.span)


def _extreme(use: Use, given: Mapping[str, Operand]) -> Value:
    """Apply ``max`` or ``min``: of two values, else of all elements of one tensor."""
    if "y" not in given:
        return reductions.reduce(use.elab, use.name, given, use.span)
    if "axis" in given or "keep" in given:
        raise fault(
            "E0209", f"{use.name} of two values has no axis", use.span,
            hint=f"{use.name}(x, axis = ...) reduces one tensor",
        )  # fmt: skip
    left, right = given["x"], given["y"]
    a, b = number(left.value), number(right.value)
    pick = max if use.name == "max" else min
    if a is not None and b is not None:
        chosen = pick(a, b)
        whole = isinstance(left.value, Int) and isinstance(right.value, Int)
        return Int(int(chosen)) if whole else Float(float(chosen))
    dtype = common_type(use.elab, (left, right), use.span)
    if dtype is DType.BOOL:
        raise fault("E0202", f"{use.name} does not take truth values", use.span,
                    hint="or and and do")  # fmt: skip
    if isinstance(left.value, Int) and isinstance(right.value, Int):
        dtype = DType.I64
    make = scalar.maximum if use.name == "max" else scalar.minimum
    made = lift(use.elab, use.scope, ((left, dtype), (right, dtype)), make, use.span)
    weak = isinstance(left.value, Int | Float) and isinstance(right.value, Int | Float)
    return Element(made.expr, weak=True) if weak and isinstance(made, Element) else made


def _power(use: Use, given: Mapping[str, Operand]) -> Value:
    return binary(use.elab, use.scope, "^", given["x"], given["y"], use.span)


def _stop_gradient(use: Use, given: Mapping[str, Operand]) -> Value:
    operand = given["x"]
    if isinstance(operand.value, Int | Float | Bool):
        return operand.value
    dtype = common_type(use.elab, (operand,), use.span)
    if not dtype.is_float:
        return operand.value

    def make(x: Expr) -> Expr:
        return scalar.apply("stop_gradient", x)

    return lift(use.elab, use.scope, ((operand, dtype),), make, use.span)


# the table --------------------------------------------------------------------------------------


def _reduction(use: Use, given: Mapping[str, Operand]) -> Value:
    return reductions.reduce(use.elab, use.name, given, use.span)


def _cast(use: Use, given: Mapping[str, Operand]) -> Value:
    return casts.cast(use.elab, use.scope, use.name, given["x"], use.span)


def _draw(use: Use, given: Mapping[str, Operand]) -> Value:
    shape = given.get("shape")
    if use.scope.home.box is not None:
        raise fault(
            "E0202",
            "random numbers cannot be drawn element by element",
            use.span,
            f"{use.scope.body.owner} is applied to an element",
            hint="apply it to the whole tensor, or draw a tensor and subscript it",
        )
    trace = use.scope.body.trace_of(use.scope.body.sites.get(use.site) or use.name)
    return random.draw(use.elab, use.name, shape, use.expected, trace, use.span)


def _arrange(use: Use, given: Mapping[str, Operand]) -> Value:
    return arrangement.FUNCTIONS[use.name](use.elab, given, use.span)


TABLE: dict[str, Signature] = {
    **{name: Signature(("x",), 1, _function) for name in mathematics.FUNCTIONS},
    "abs": Signature(("x",), 1, _abs),
    "max": Signature(("x", "y", "axis", "keep"), 1, _extreme),
    "min": Signature(("x", "y", "axis", "keep"), 1, _extreme),
    "pow": Signature(("x", "y"), 2, _power),
    "copy": Signature(("net",), 1, copies.copy),
    "grad": Signature(("y", "x"), 2, derivative.grad),
    "stop_gradient": Signature(("x",), 1, _stop_gradient),
    **{name: Signature(("x", "axis", "keep"), 1, _reduction) for name in reductions.NAMES},
    "var": Signature(("x", "axis", "keep", "sample"), 1, _reduction),
    "std": Signature(("x", "axis", "keep", "sample"), 1, _reduction),
    **{name: Signature(("x",), 1, _cast) for name in (*NAMED, "float", "int")},
    "random_uniform": Signature(("shape",), 0, _draw),
    "random_normal": Signature(("shape",), 0, _draw),
    "reshape": Signature(("x", "shape"), 2, _arrange),
    "transpose": Signature(("x", "axes"), 1, _arrange),
    "split": Signature(("x", "parts", "axis"), 2, _arrange),
    "pad": Signature(("x", "before", "after", "axis", "value"), 3, _arrange),
    "shape": Signature(("x", "axis", "size"), 1, _arrange),
    "size": Signature(("x",), 1, _arrange),
    "rank": Signature(("x",), 1, _arrange),
    "concat": Signature((), 0, _arrange, many=True),
    "stack": Signature((), 0, _arrange, many=True),
}

NAMES = (*TABLE, *LATER)
