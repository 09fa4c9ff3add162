"""The syntax tree of model files: one frozen class per construct of the language.

Nodes compare and hash by identity, so that a call site can be the key of a table; ``same``
compares two trees by structure. Every node carries the span it was written at. Nothing here is
resolved: ``sum[i](x[i])`` is a ``Call`` of a ``Subscript`` of a ``Name``, whatever ``sum`` is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any, TypeAlias, Union

from nnc.ir.span import Span


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """Anything written in a file. ``span`` is never part of a pattern's positions."""

    span: Span = field(kw_only=True, repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Ident(Node):
    """A name where it is declared, or one that follows a dot."""

    text: str

    def __str__(self) -> str:
        return self.text


# expressions ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Name(Node):
    """A use of a name."""

    id: str


@dataclass(frozen=True, slots=True, eq=False)
class Int(Node):
    """A whole literal, ``64`` or ``1_000``."""

    value: int


@dataclass(frozen=True, slots=True, eq=False)
class Float(Node):
    """A decimal literal, ``0.5`` or ``1e-3``."""

    value: float


@dataclass(frozen=True, slots=True, eq=False)
class Bool(Node):
    """``true`` or ``false``."""

    value: bool


@dataclass(frozen=True, slots=True, eq=False)
class String(Node):
    """A text in double quotes, escapes undone."""

    value: str


@dataclass(frozen=True, slots=True, eq=False)
class SizeLiteral(Node):
    """An amount of memory, ``1.5GiB``; ``bytes`` is rounded to a whole number."""

    bytes: int


@dataclass(frozen=True, slots=True, eq=False)
class List(Node):
    """``[a, b, c]``."""

    items: tuple[Expr, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Tuple(Node):
    """``(a, b)``, or ``a, b`` after ``=``, ``return`` and ``yield``. At least two items."""

    items: tuple[Expr, ...]


@dataclass(frozen=True, slots=True, eq=False)
class RecordEntry(Node):
    """``key = value`` inside a record; a pattern of paths is a ``String``."""

    key: Ident | String
    value: Expr


@dataclass(frozen=True, slots=True, eq=False)
class Record(Node):
    """``{ key = value, "pattern" = value }``; entries part by comma or newline."""

    entries: tuple[RecordEntry, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Unary(Node):
    """``-x`` (op ``-``) or ``not x`` (op ``not``)."""

    op: str
    operand: Expr


@dataclass(frozen=True, slots=True, eq=False)
class Binary(Node):
    """``left op right``; op is one of ``+ - * / // % @ ^``, and ``op_span`` where it stands."""

    op: str
    left: Expr
    right: Expr
    op_span: Span = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Compare(Node):
    """A chain of comparisons: ``a < b <= c`` has operands (a, b, c) and ops (``<``, ``<=``)."""

    operands: tuple[Expr, ...]
    ops: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class BoolOp(Node):
    """``a and b and c`` or ``a or b``: one op, at least two operands."""

    op: str
    operands: tuple[Expr, ...]


@dataclass(frozen=True, slots=True, eq=False)
class IfExpr(Node):
    """``if condition then yes else no``."""

    condition: Expr
    yes: Expr
    no: Expr


@dataclass(frozen=True, slots=True, eq=False)
class Keyword(Node):
    """``name = value`` among the arguments of a call."""

    name: Ident
    value: Expr


@dataclass(frozen=True, slots=True, eq=False)
class Call(Node):
    """``func(args, name = value)``. ``func`` may be a subscript: ``sum[i where c](x)``."""

    func: Expr
    args: tuple[Expr, ...]
    kwargs: tuple[Keyword, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Subscript(Node):
    """``base[subs]`` or ``base[subs where condition]``.

    A sub is an expression (``i < n`` binds an index with its range), a ``Slice`` or a ``Rest``.
    """

    base: Expr
    subs: tuple[Sub, ...]
    where: Expr | None


@dataclass(frozen=True, slots=True, eq=False)
class Slice(Node):
    """``start:stop:step`` with any part left out."""

    start: Expr | None
    stop: Expr | None
    step: Expr | None


@dataclass(frozen=True, slots=True, eq=False)
class Rest(Node):
    """``..`` or ``..s``: any number of dims."""

    name: str | None


@dataclass(frozen=True, slots=True, eq=False)
class Field(Node):
    """``base.name``: a parameter of an instance, or a declaration of an imported file."""

    base: Expr
    name: Ident


@dataclass(frozen=True, slots=True, eq=False)
class Pipe(Node):
    """``first |> stage |> stage``; each stage is a name, a field or a call."""

    first: Expr
    stages: tuple[Expr, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Hole(Node):
    """``...``: left to be written. Also a statement, and the value of a declaration."""


@dataclass(frozen=True, slots=True, eq=False)
class Scan(Node):
    """``scan index < bound carry (...) until done { ... }``; also a statement."""

    index: Ident
    bound: Expr
    reverse: bool
    carry: tuple[Parameter, ...]
    until: Expr | None
    body: Block


@dataclass(frozen=True, slots=True, eq=False)
class Repeat(Node):
    """``repeat index < bound { ... }``: a statement, or the value of a binding where it yields."""

    index: Ident
    bound: Expr
    body: Block


# types ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class TensorTypeExpr(Node):
    """``float[batch, ..s, 2*n]``; ``dims`` is None without a bracket (``int``, ``fn``)."""

    name: Ident
    dims: tuple[Expr, ...] | None


@dataclass(frozen=True, slots=True, eq=False)
class CallableType(Node):
    """``layer(float[..s, n]) -> float[..s, m]``; ``kind`` is the word before the bracket."""

    kind: Ident
    params: tuple[TypeExpr, ...]
    result: TypeExpr


@dataclass(frozen=True, slots=True, eq=False)
class TupleType(Node):
    """``(float[a], float[b])``: the types of several results."""

    items: tuple[TypeExpr, ...]


# statements -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Block(Node):
    """Statements between braces."""

    statements: tuple[Stmt, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Target(Node):
    """One name on the left of ``=``, with the type that may be declared for it."""

    name: Ident
    type: TypeExpr | None


@dataclass(frozen=True, slots=True, eq=False)
class Bind(Node):
    """``a = value`` or ``a, b: float[n] = value``."""

    targets: tuple[Target, ...]
    value: Expr


@dataclass(frozen=True, slots=True, eq=False)
class Define(Node):
    """``name[subs] = value``: a tensor, element by element."""

    name: Ident
    subs: tuple[Sub, ...]
    value: Expr


@dataclass(frozen=True, slots=True, eq=False)
class PortDecl(Node):
    """``input name: type in low..high``; ``kind`` is ``input`` or ``target``."""

    kind: str
    name: Ident
    type: TypeExpr
    low: Expr | None
    high: Expr | None


@dataclass(frozen=True, slots=True, eq=False)
class Output(Node):
    """``output name = value``; without a value, the output is what the name is bound to."""

    name: Ident
    value: Expr | None


@dataclass(frozen=True, slots=True, eq=False)
class Loss(Node):
    """``loss value`` or ``loss name = value``."""

    name: Ident | None
    value: Expr


@dataclass(frozen=True, slots=True, eq=False)
class Metric(Node):
    """``metric name = value``."""

    name: Ident
    value: Expr


@dataclass(frozen=True, slots=True, eq=False)
class ParamDecl(Node):
    """``param name: type = init``: trained state of a layer."""

    name: Ident
    type: TypeExpr
    init: Expr


@dataclass(frozen=True, slots=True, eq=False)
class BufferDecl(Node):
    """``buffer name: type = init``: state that is not trained."""

    name: Ident
    type: TypeExpr
    init: Expr


@dataclass(frozen=True, slots=True, eq=False)
class StateDecl(Node):
    """``state name: type = init``: an optimizer's state; shaped as its parameter without a type."""

    name: Ident
    type: TypeExpr | None
    init: Expr


@dataclass(frozen=True, slots=True, eq=False)
class Update(Node):
    """``update name = value``: the next value of a buffer."""

    name: Ident
    value: Expr


@dataclass(frozen=True, slots=True, eq=False)
class IfBlock(Node):
    """``if condition { } else { }``; ``else if`` is an ``otherwise`` holding one ``IfBlock``."""

    condition: Expr
    then: Block
    otherwise: Block | None


@dataclass(frozen=True, slots=True, eq=False)
class Return(Node):
    """``return value``."""

    value: Expr


@dataclass(frozen=True, slots=True, eq=False)
class Yield(Node):
    """``yield value``."""

    value: Expr


@dataclass(frozen=True, slots=True, eq=False)
class Require(Node):
    """``require condition, "message"``."""

    condition: Expr
    message: String | None


@dataclass(frozen=True, slots=True, eq=False)
class Assert(Node):
    """``assert condition within tolerance``; only in tests."""

    condition: Expr
    within: Expr | None


# top level --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Parameter(Node):
    """One entry of a parameter list, ``name: type = default``."""

    name: Ident
    type: TypeExpr | None
    default: Expr | None


@dataclass(frozen=True, slots=True, eq=False)
class Import(Node):
    """``import "path"`` or ``import "path" as alias``."""

    path: String
    alias: Ident | None


@dataclass(frozen=True, slots=True, eq=False)
class Model(Node):
    """``model Name(config) { ... }``."""

    name: Ident
    config: tuple[Parameter, ...]
    body: Block


@dataclass(frozen=True, slots=True, eq=False)
class Gradient(Node):
    """``with gradient(dy) { return ... }``: a written derivative; one name per result."""

    names: tuple[Ident, ...]
    body: Block


@dataclass(frozen=True, slots=True, eq=False)
class Fn(Node):
    """``fn name(params) -> type = expr`` or with a block; ``params`` also hold its settings."""

    name: Ident
    params: tuple[Parameter, ...]
    result: TypeExpr | None
    body: Block | Expr
    gradient: Gradient | None


@dataclass(frozen=True, slots=True, eq=False)
class Layer(Node):
    """``layer name(config)(params) -> type { ... }``."""

    name: Ident
    config: tuple[Parameter, ...]
    params: tuple[Parameter, ...]
    result: TypeExpr | None
    body: Block | Expr


@dataclass(frozen=True, slots=True, eq=False)
class Optimizer(Node):
    """``optimizer name(config)(w, g, t) { ... }``."""

    name: Ident
    config: tuple[Parameter, ...]
    params: tuple[Parameter, ...]
    body: Block | Expr


@dataclass(frozen=True, slots=True, eq=False)
class Schedule(Node):
    """``schedule name(config)(t) = expr`` or with a block."""

    name: Ident
    config: tuple[Parameter, ...]
    params: tuple[Parameter, ...]
    body: Block | Expr


@dataclass(frozen=True, slots=True, eq=False)
class Setting(Node):
    """``key = value`` in a ``train`` or ``step`` block."""

    key: Ident
    value: Expr


@dataclass(frozen=True, slots=True, eq=False)
class StepBlock(Node):
    """``step name { key = value ... }`` in a ``train`` block."""

    name: Ident
    settings: tuple[Setting, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Train(Node):
    """``train Model(config) as name { ... }``; ``kwargs`` set the model's config."""

    model: Ident
    args: tuple[Expr, ...]
    kwargs: tuple[Keyword, ...]
    alias: Ident | None
    entries: tuple[Setting | StepBlock, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Test(Node):
    """``test "name" { ... }``."""

    name: String
    body: Block


@dataclass(frozen=True, slots=True, eq=False)
class File(Node):
    """A whole file; ``version`` is what a first line ``language 1`` says, else None."""

    name: str
    version: int | None
    items: tuple[Item, ...]


Expr: TypeAlias = Union[  # noqa: UP007 - matched at run time
    Name, Int, Float, Bool, String, SizeLiteral, List, Tuple, Record, Unary, Binary, Compare,
    BoolOp, IfExpr, Call, Subscript, Field, Pipe, Hole, Scan, Repeat,
]  # fmt: skip
Sub: TypeAlias = Union[Expr, Slice, Rest]  # noqa: UP007
TypeExpr: TypeAlias = Union[TensorTypeExpr, CallableType, TupleType]  # noqa: UP007
Stmt: TypeAlias = Union[  # noqa: UP007
    Bind, Define, PortDecl, Output, Loss, Metric, ParamDecl, BufferDecl, StateDecl, Update, IfBlock,
    Repeat, Scan, Return, Yield, Require, Assert, Hole,
]  # fmt: skip
Item: TypeAlias = Union[Import, Model, Train, Fn, Layer, Optimizer, Schedule, Test]  # noqa: UP007


def children(node: Node) -> Iterator[Node]:
    """Yield the nodes directly inside ``node``, in source order."""
    for name in _FIELDS[type(node)]:
        value = getattr(node, name)
        if isinstance(value, Node):
            yield value
        elif isinstance(value, tuple):
            yield from (v for v in value if isinstance(v, Node))


def walk(root: Node) -> Iterator[Node]:
    """Yield ``root`` and everything in it, a node before its parts, without recursion."""
    stack = [root]
    while stack:
        node = stack.pop()
        yield node
        stack.extend(reversed(list(children(node))))


def same(a: Node, b: Node) -> bool:
    """Whether two trees are equal but for their spans."""
    stack: list[tuple[Any, Any]] = [(a, b)]
    while stack:
        x, y = stack.pop()
        if type(x) is not type(y):
            return False
        if isinstance(x, Node):
            names = _FIELDS[type(x)]
            stack.extend((getattr(x, n), getattr(y, n)) for n in names)
        elif isinstance(x, tuple):
            if len(x) != len(y):
                return False
            stack.extend(zip(x, y, strict=True))
        elif not isinstance(x, Span) and x != y:
            return False
    return True


CLASSES: dict[str, type[Node]] = {
    name: c for name, c in list(globals().items()) if isinstance(c, type) and issubclass(c, Node)
}
_FIELDS: dict[type[Node], tuple[str, ...]] = {
    c: tuple(f.name for f in fields(c) if f.name != "span") for c in CLASSES.values()
}
