"""From values to scalar expressions and to nodes, at the element type that is wanted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from nnc.frontend.elaborate.faults import Cascade, fault
from nnc.frontend.elaborate.types import (
    DEFAULT_INT,
    broadcast,
    broadcast_all,
    decide,
    equal,
    spell,
    type_name,
)
from nnc.frontend.elaborate.values import (
    Bool,
    Element,
    Float,
    Int,
    ListValue,
    Tensor,
    Value,
    describe,
    is_poisoned,
)
from nnc.ir import build, scalar
from nnc.ir.expr import Const, Expr, Read
from nnc.ir.graph import Node
from nnc.ir.index import Size
from nnc.ir.span import Span
from nnc.ir.types import DType

if TYPE_CHECKING:
    from nnc.frontend.elaborate.elaborator import Elaborator
    from nnc.frontend.elaborate.scope import Scope


@dataclass(frozen=True, slots=True)
class Operand:
    """A value and what to call it in an error: where it is used, as what, and where it is from."""

    value: Value
    span: Span
    text: str = ""
    origin: Span | None = None

    @property
    def related(self) -> tuple[Span, str]:
        """The place and the words that tell where the operand comes from."""
        words = describe(self.value)
        return self.origin or self.span, f"{self.text}: {words}" if self.text else words


def strong_type(value: Value) -> DType | None:
    """Return the element type that ``value`` insists on, None where it takes what it meets."""
    match value:
        case Tensor(node):
            return node.type.dtype
        case Element(expr, weak):
            return None if weak else expr.dtype
        case _:
            return None


def natural_type(elab: Elaborator, value: Value) -> DType | None:
    """Return the element type that ``value`` has when it meets no other."""
    match value:
        case Tensor(node):
            return node.type.dtype
        case Element(expr, weak):
            return DEFAULT_INT if weak and expr.dtype.is_int else expr.dtype
        case Int():
            return DEFAULT_INT
        case Float():
            return elab.precision
        case Bool():
            return DType.BOOL
        case ListValue(numbers):
            if numbers and all(isinstance(n, bool) for n in numbers):
                return DType.BOOL
            whole = all(isinstance(n, int) for n in numbers)
            return DEFAULT_INT if whole else elab.precision
        case _:
            return None


def common_type(elab: Elaborator, operands: Sequence[Operand], span: Span) -> DType:
    """Return the one element type of several operands; raise Fault where there is none."""
    for operand in operands:
        if natural_type(elab, operand.value) is None:
            not_a_number(operand)
    strong = [o for o in operands if strong_type(o.value) is not None]
    if not strong:
        weak = [t for o in operands if (t := natural_type(elab, o.value)) is not None]
        return next((t for t in weak if t.is_float), weak[0])
    first, *rest = strong
    dtype = strong_type(first.value)
    assert dtype is not None
    for other in rest:
        if strong_type(other.value) is not dtype:
            mixed_types(first, other, span)
    return dtype


def not_a_number(operand: Operand) -> NoReturn:
    """Raise the fault for a value that has no elements."""
    if is_poisoned(operand.value):
        raise Cascade
    raise fault(
        "E0202",
        f"{describe(operand.value)} is not a number or a tensor",
        operand.span,
        "a number or a tensor is needed here",
    )


def mixed_types(a: Operand, b: Operand, span: Span) -> NoReturn:
    """Raise the fault for two tensors of different element types."""
    one, two = strong_type(a.value), strong_type(b.value)
    assert one is not None
    assert two is not None
    cast = one if one.is_float or not two.is_float else two
    wrong = b if cast is one else a
    name = wrong.text or "x"
    raise fault(
        "E0205",
        f"tensors of two types, {type_name(one)} and {type_name(two)}, do not mix",
        span,
        f"{type_name(one)} on one side, {type_name(two)} on the other",
        related=[a.related, b.related],
        hint=f"convert one of them: {type_name(cast)}({name})",
    )


def to_expr(elab: Elaborator, scope: Scope, operand: Operand, dtype: DType) -> Expr:
    """Return a scalar value as an expression of type ``dtype``; raise Fault where it is none."""
    match operand.value:
        case Int(size):
            if dtype is DType.BOOL:
                not_convertible(operand, dtype)
            if isinstance(size, int):
                return whole_constant(operand, size, dtype)
            return scalar.cast(scalar.position(size), dtype)
        case Float(value) if dtype.is_float:
            return Const(float(value), dtype)
        case Bool(truth) if dtype is DType.BOOL:
            return Const(truth, dtype)
        case Element(expr, weak):
            if expr.dtype is dtype:
                return expr
            if weak and dtype is not DType.BOOL and (dtype.is_float or expr.dtype.is_int):
                return scalar.cast(expr, dtype)
            not_convertible(operand, dtype)
        case Tensor(node) if not node.type.shape and scope.box is not None:
            return to_expr(
                elab, scope, Operand(scope.box.read(node, ()), operand.span, operand.text), dtype
            )
        case _:
            not_convertible(operand, dtype)


def whole_constant(operand: Operand, value: int, dtype: DType) -> Const:
    """Return a whole number as a literal of ``dtype``; raise Fault where it does not fit."""
    if dtype.is_float:
        return Const(float(value), dtype)
    bits = 8 * dtype.bytes
    unsigned = dtype in (DType.U8, DType.U32, DType.U64)
    low, high = (0, 1 << bits) if unsigned else (-(1 << (bits - 1)), 1 << (bits - 1))
    if not low <= value < high:
        raise fault(
            "E0205",
            f"{value} does not fit into {dtype}",
            operand.span,
            f"{dtype} holds {low} to {high - 1}",
        )
    return Const(value, dtype)


def not_convertible(operand: Operand, dtype: DType) -> NoReturn:
    """Raise the fault for a value that is no scalar of type ``dtype``."""
    if is_poisoned(operand.value):
        raise Cascade
    found = describe(operand.value)
    if isinstance(operand.value, Tensor) and operand.value.shape:
        raise fault(
            "E0202",
            "a tensor stands where one element is needed",
            operand.span,
            f"this is {found}",
            hint="inside index notation everything is a scalar: subscript the tensor",
        )
    hint = None
    if isinstance(operand.value, Tensor | Element | Float | Int | Bool):
        hint = f"convert it: {type_name(dtype)}({operand.text or '...'})"
    raise fault(
        "E0205",
        f"{found} is not of type {type_name(dtype)}",
        operand.span,
        f"{type_name(dtype)} needed",
        hint=hint,
    )


def to_node(
    elab: Elaborator,
    operand: Operand,
    dtype: DType | None = None,
    shape: Sequence[Size] | None = None,
) -> Node:
    """Return a value as a tensor, of ``dtype`` and repeated to ``shape`` where they are given.

    Raises Fault where the value is of another type or does not stretch to ``shape``.
    """
    dtype = dtype or natural_type(elab, operand.value)
    if dtype is None:
        not_a_number(operand)
    match operand.value:
        case Tensor(node):
            if node.type.dtype is not dtype:
                not_convertible(operand, dtype)
        case ListValue():
            node = list_node(operand, dtype)
        case _:
            expr = to_expr(elab, elab.outside, operand, dtype)
            if shape is not None:
                axes = build.axes_for(shape)
                at = build.subscripts(axes)
                return build.form(axes, at, expr, (), shape, span=operand.span)
            if isinstance(expr, Const):
                return build.literal((expr.value,), (), dtype, operand.span)
            return build.form((), (), expr, (), (), span=operand.span)
    return node if shape is None else stretch(elab, node, operand, shape)


def list_node(operand: Operand, dtype: DType) -> Node:
    """Return a written list as a constant tensor."""
    assert isinstance(operand.value, ListValue)
    numbers = operand.value.numbers
    if dtype is DType.BOOL and not all(isinstance(n, bool) for n in numbers):
        not_convertible(operand, dtype)
    if dtype.is_int and any(isinstance(n, float) for n in numbers):
        not_convertible(operand, dtype)
    if not dtype.is_float:
        values = [
            n if isinstance(n, bool) else whole_constant(operand, int(n), dtype).value
            for n in numbers
        ]
    else:
        values = [float(n) for n in numbers]
    return build.literal(values, operand.value.shape, dtype, operand.span)


def stretch(elab: Elaborator, node: Node, operand: Operand, shape: Sequence[Size]) -> Node:
    """Return ``node`` repeated to ``shape``, itself where it has it; Fault where it cannot."""
    own = node.type.shape
    if len(own) == len(shape) and all(
        equal(a, b, elab.facts) for a, b in zip(own, shape, strict=True)
    ):
        return node
    joint = broadcast(own, shape, elab.facts)
    if joint is None or len(joint) != len(shape) or len(own) > len(shape):
        raise fault(
            "E0204",
            f"a tensor of shape {spell(own)} does not stretch to {spell(shape)}",
            operand.span,
            describe(operand.value),
        )
    axes = build.axes_for(shape)
    here = build.subscripts(axes)
    body = read_aligned(elab, node, 0, here, shape)
    return build.form(axes, here, body, (node,), shape, span=operand.span)


def read_aligned(
    elab: Elaborator, node: Node, operand: int, here: Sequence[Size], shape: Sequence[Size]
) -> Read:
    """Read ``node`` at the point ``here`` of a box of ``shape``: its dims are the last ones."""
    own = node.type.shape
    skip = len(shape) - len(own)
    index: list[Size] = [
        0 if size == 1 and wanted != 1 else at
        for size, wanted, at in zip(own, shape[skip:], here[skip:], strict=True)
    ]
    return build.read(node, operand, *index)


def lift(
    elab: Elaborator,
    scope: Scope,
    operands: Sequence[tuple[Operand, DType]],
    make: Callable[..., Expr],
    span: Span,
) -> Value:
    """Apply a scalar function to values that broadcast; each is taken at the given type.

    Inside index notation, and where no operand is a tensor, the result is an ``Element``;
    otherwise a form over the joint shape. Raises Fault where shapes or types do not fit.
    """
    tensors = [
        o for o, _ in operands if isinstance(o.value, Tensor | ListValue)
    ]  # a list takes part as the constant tensor that it is
    whole = any(isinstance(o.value, ListValue) or _rank(o.value) for o in tensors)
    if not tensors or (scope.box is not None and not whole):
        return Element(make(*(to_expr(elab, scope, o, t) for o, t in operands)))
    nodes = {
        k: to_node(elab, o, t)
        for k, (o, t) in enumerate(operands)
        if isinstance(o.value, Tensor | ListValue)
    }
    shape = broadcast_all([n.type.shape for n in nodes.values()], elab.facts)
    if shape is None:
        no_broadcast([operands[k][0] for k in nodes], elab, span)
    axes = build.axes_for(shape)
    here = build.subscripts(axes)
    numbers = {k: i for i, k in enumerate(nodes)}
    args = [
        read_aligned(elab, nodes[k], numbers[k], here, shape)
        if k in nodes
        else to_expr(elab, elab.outside, _free(operand), dtype)
        for k, (operand, dtype) in enumerate(operands)
    ]
    return Tensor(build.form(axes, here, make(*args), list(nodes.values()), shape, span=span))


def _rank(value: Value) -> int:
    return len(value.shape) if isinstance(value, Tensor) else 0


def _free(operand: Operand) -> Operand:
    """Refuse an element of index notation next to a whole tensor."""
    value = operand.value
    varies = (isinstance(value, Int) and value.is_index) or (
        isinstance(value, Element) and varies_over_box(value.expr)
    )
    if varies:
        raise fault(
            "E0202",
            "an element and a whole tensor do not mix",
            operand.span,
            describe(value),
            hint="inside index notation everything is a scalar: subscript the tensor",
        )
    return operand


def varies_over_box(expr: Expr) -> bool:
    """Whether an expression has a value only inside index notation."""
    from nnc.ir.expr import sizes_in, walk
    from nnc.ir.index import axes_of

    return any(isinstance(e, Read) for e in walk(expr)) or any(axes_of(s) for s in sizes_in(expr))


def no_broadcast(operands: Sequence[Operand], elab: Elaborator, span: Span) -> NoReturn:
    """Raise the fault for shapes that do not go together."""
    shapes = [o.value.shape for o in operands if isinstance(o.value, Tensor | ListValue)]
    clash = next(
        (
            (operands[i], operands[j])
            for j in range(len(shapes))
            for i in range(j)
            if broadcast(shapes[i], shapes[j], elab.facts) is None
        ),
        (operands[0], operands[-1]),
    )
    a, b = (o.value.shape for o in clash if isinstance(o.value, Tensor | ListValue))
    raise fault(
        "E0204",
        "these two shapes do not go together",
        span,
        f"{spell(a)} and {spell(b)}",
        related=[o.related for o in clash],
        notes=["at equal rank a dim written 1 stretches; otherwise one shape must end the other"],
        hint=_broadcast_hint(a, b, elab),
        about=_about(a, b, elab),
    )


def _about(a: Sequence[Size], b: Sequence[Size], elab: Elaborator) -> dict[str, object]:
    """Return the two sizes that keep shapes apart, and what would make them one."""
    pairs = zip(reversed(a), reversed(b), strict=False)
    apart = [(m, n) for m, n in pairs if not equal(m, n, elab.facts)]
    if len(apart) != 1:
        return {}
    ((m, n),) = apart
    return {"one": m, "two": n, "require": f"{m} == {n}"}


def _broadcast_hint(a: Sequence[Size], b: Sequence[Size], elab: Elaborator) -> str | None:
    short, long = sorted((a, b), key=len)
    if len(long) == 2 and len(short) == 1 and long[0] == short[0]:
        return f"to go along the first dim, {spell(short)} must be reshaped to [{short[0]}, 1]"
    pairs = zip(reversed(short), reversed(long), strict=False)
    apart = [(m, n) for m, n in pairs if not equal(m, n, elab.facts)]
    if len(apart) == 1 and decide("eq", *apart[0], elab.facts) is None:
        return f"if they are equal in every call, say so: require {apart[0][0]} == {apart[0][1]}"
    return None
