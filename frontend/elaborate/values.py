"""What names and expressions stand for while a program is elaborated.

The elaborator runs a program's text once, at compile time. Sizes, config and index variables are
exact numbers then (``Int``), decimals are ``Float``, tensors are nodes of the graph that grows
(``Tensor``), and inside index notation a scalar at one point of the box is an ``Element``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, Union

from nnc.frontend.elaborate.types import type_name
from nnc.ir.expr import Expr, Number
from nnc.ir.graph import Node
from nnc.ir.index import Size, axes_of
from nnc.ir.span import Span
from nnc.ir.types import DType, TensorType

if TYPE_CHECKING:
    from nnc.frontend import ast
    from nnc.frontend.elaborate.scope import Scope


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor: a node of the graph, of any rank."""

    node: Node

    @property
    def type(self) -> TensorType:
        """Element type and shape."""
        return self.node.type

    @property
    def shape(self) -> tuple[Size, ...]:
        """The dims."""
        return self.node.type.shape

    @property
    def dtype(self) -> DType:
        """Element type."""
        return self.node.type.dtype


@dataclass(frozen=True, slots=True)
class Element:
    """A scalar that is computed when the program runs, not (yet) a tensor of its own.

    Inside index notation its reads are numbered by the box it was made in. Outside, it holds only
    numbers and symbolic dims (``batch * 0.5``, ``rows % 2 == 0``); it then has no reads. One that
    is ``weak`` is made of untyped numbers (``if c then 1 else 0``) and takes the type it meets.
    """

    expr: Expr
    weak: bool = False

    @property
    def dtype(self) -> DType:
        """Element type."""
        return self.expr.dtype


@dataclass(frozen=True, slots=True)
class Int:
    """An exact whole number: a literal, a dim, int config, a loop variable, an index variable."""

    size: Size

    @property
    def constant(self) -> int | None:
        """The number where it is known, None where it holds symbolic dims or axes."""
        return self.size if isinstance(self.size, int) else None

    @property
    def is_index(self) -> bool:
        """Whether it varies over a box, so has a value only inside index notation."""
        return bool(axes_of(self.size))


@dataclass(frozen=True, slots=True)
class Float:
    """A decimal: exact until it meets a tensor, whose type it takes."""

    value: float


@dataclass(frozen=True, slots=True)
class Bool:
    """A truth value known at compile time."""

    value: bool


@dataclass(frozen=True, slots=True)
class Text:
    """A string."""

    value: str


@dataclass(frozen=True, slots=True)
class TupleValue:
    """Several values: ``(a, b)``, a function's results, or the dims that ``..s`` stands for."""

    items: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class ListValue:
    """A list as written, ``[[1, 2], [3, 4]]``: a constant tensor once its type is known.

    ``numbers`` are in row-major order under ``shape``.
    """

    numbers: tuple[Number, ...]
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class BuiltinValue:
    """A primitive function, by name."""

    name: str


@dataclass(frozen=True, slots=True)
class FunctionValue:
    """A function and the scope of the file that declares it."""

    decl: ast.Fn
    home: Scope


@dataclass(frozen=True, slots=True)
class LayerValue:
    """A layer, with its config where it has been given: ``linear`` or ``linear(10)``."""

    decl: ast.Layer
    home: Scope
    config: Mapping[str, Value] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Instance:
    """A layer with its config and its place in the model: what it holds is named ``path.name``.

    ``path`` is None inside a function, where nothing can hold parameters; ``site`` is what the
    instance is called in the body that makes it.
    """

    layer: LayerValue
    path: str | None
    site: str
    span: Span

    @property
    def root(self) -> str | None:
        """The path that what it holds begins with."""
        return self.path

    @property
    def name(self) -> str:
        """The layer's own name."""
        return self.layer.decl.name.text


@dataclass(frozen=True, slots=True)
class ScheduleValue:
    """A schedule, with its config where it has been given: ``cosine`` or ``cosine(1e-3, 9)``."""

    decl: ast.Schedule
    home: Scope
    config: Mapping[str, Value] | None = None


@dataclass(frozen=True, slots=True)
class ConstantSchedule:
    """A number where a schedule is declared: the same at every step."""

    value: float


@dataclass(frozen=True, slots=True)
class OptimizerValue:
    """An optimizer, with its config where it has been given."""

    decl: ast.Optimizer
    home: Scope
    config: Mapping[str, Value] | None = None


@dataclass(frozen=True, slots=True)
class ModuleValue:
    """An imported file: ``import "a.nn" as a`` makes its declarations ``a.name``."""

    name: str
    scope: Scope


@dataclass(frozen=True, slots=True)
class Poison:
    """The result of what has been reported: it fits everywhere and causes no more errors."""


Value: TypeAlias = Union[  # noqa: UP007 - matched at run time
    Tensor,
    Element,
    Int,
    Float,
    Bool,
    Text,
    TupleValue,
    ListValue,
    BuiltinValue,
    FunctionValue,
    LayerValue,
    Instance,
    ScheduleValue,
    ConstantSchedule,
    OptimizerValue,
    ModuleValue,
    Poison,
]

POISON = Poison()


def is_scalar(value: Value) -> bool:
    """Whether ``value`` may stand where the notation needs one element."""
    match value:
        case Element() | Int() | Float() | Bool():
            return True
        case Tensor(node):
            return not node.type.shape
        case _:
            return False


def is_poisoned(*values: Value) -> bool:
    """Whether any of ``values``, or of the items of a tuple, is the result of a reported error."""
    return any(
        isinstance(v, Poison) or (isinstance(v, TupleValue) and is_poisoned(*v.items))
        for v in values
    )


def describe(value: Value) -> str:
    """Say what ``value`` is in an error message: ``float[batch, 64]``, ``the number 3``, ..."""
    match value:
        case Tensor(node):
            return type_name(node.type) + ("" if node.type.shape else " (a scalar)")
        case Element():
            return f"an element of type {type_name(value.dtype)}"
        case Int(size):
            return f"the whole number {size}"
        case Float(number):
            return f"the number {number}"
        case Bool(truth):
            return "true" if truth else "false"
        case Text(text):
            return f'the text "{text}"'
        case TupleValue(items):
            return f"{len(items)} values"
        case ListValue(_, shape):
            return f"a list of shape [{', '.join(map(str, shape))}]"
        case BuiltinValue(name):
            return f"the function {name}"
        case FunctionValue(decl):
            return f"the function {decl.name}"
        case LayerValue(decl):
            return f"the layer {decl.name}"
        case Instance():
            return f"an instance of the layer {value.name}"
        case ScheduleValue():
            return "a schedule"
        case ConstantSchedule(number):
            return f"the constant schedule {number}"
        case OptimizerValue(decl):
            return f"the optimizer {decl.name}"
        case ModuleValue(name):
            return f"the imported file {name}"
        case Poison():
            return "the result of an error"
