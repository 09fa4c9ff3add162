"""The syntax tree of model files: one frozen class per construct of the language.

Nodes compare and hash by identity, so that a call site can be the key of a table; ``same``
compares two trees by structure. Every node carries the span it was written at. Nothing here is
resolved: ``sum[i](x[i])`` is a ``Call`` of a ``Subscript`` of a ``Name``, whatever ``sum`` is.
"""

from __future__ import annotations

from typing import TypeAlias, Union

from nnc.frontend.node import CLASSES, Node, children, same, walk
from nnc.ir.span import Span

__all__ = ["CLASSES", "Node", "children", "same", "walk"]  # and every class below


class Ident(Node):
    """A name where it is declared, or one that follows a dot."""

    text: str

    def __str__(self) -> str:
        return self.text


# expressions ------------------------------------------------------------------------------------


class Name(Node):
    """A use of a name."""

    id: str


class Int(Node):
    """A whole literal, ``64`` or ``1_000``."""

    value: int


class Float(Node):
    """A decimal literal, ``0.5`` or ``1e-3``."""

    value: float


class Bool(Node):
    """``true`` or ``false``."""

    value: bool


class String(Node):
    """A text in double quotes, escapes undone."""

    value: str


class SizeLiteral(Node):
    """An amount of memory, ``1.5GiB``; ``bytes`` is rounded to a whole number."""

    bytes: int


class List(Node):
    """``[a, b, c]``."""

    items: tuple[Expr, ...]


class Tuple(Node):
    """``(a, b)``, or ``a, b`` after ``=``, ``return`` and ``yield``. At least two items."""

    items: tuple[Expr, ...]


class RecordEntry(Node):
    """``key = value`` inside a record; a pattern of paths is a ``String``."""

    key: Ident | String
    value: Expr


class Record(Node):
    """``{ key = value, "pattern" = value }``; entries part by comma or newline."""

    entries: tuple[RecordEntry, ...]


class Unary(Node):
    """``-x`` (op ``-``) or ``not x`` (op ``not``)."""

    op: str
    operand: Expr


class Binary(Node):
    """``left op right``; op is one of ``+ - * / // % @ ^``, and ``op_span`` where it stands."""

    op: str
    left: Expr
    right: Expr
    op_span: Span


class Compare(Node):
    """A chain of comparisons: ``a < b <= c`` has operands (a, b, c) and ops (``<``, ``<=``)."""

    operands: tuple[Expr, ...]
    ops: tuple[str, ...]


class BoolOp(Node):
    """``a and b and c`` or ``a or b``: one op, at least two operands."""

    op: str
    operands: tuple[Expr, ...]


class IfExpr(Node):
    """``if condition then yes else no``."""

    condition: Expr
    yes: Expr
    no: Expr


class Keyword(Node):
    """``name = value`` among the arguments of a call."""

    name: Ident
    value: Expr


class Call(Node):
    """``func(args, name = value)``. ``func`` may be a subscript: ``sum[i where c](x)``."""

    func: Expr
    args: tuple[Expr, ...]
    kwargs: tuple[Keyword, ...]


class Subscript(Node):
    """``base[subs]`` or ``base[subs where condition]``.

    A sub is an expression (``i < n`` binds an index with its range), a ``Slice`` or a ``Rest``.
    """

    base: Expr
    subs: tuple[Sub, ...]
    where: Expr | None


class Slice(Node):
    """``start:stop:step`` with any part left out."""

    start: Expr | None
    stop: Expr | None
    step: Expr | None


class Rest(Node):
    """``..`` or ``..s``: any number of dims."""

    name: str | None


class Field(Node):
    """``base.name``: a parameter of an instance, or a declaration of an imported file."""

    base: Expr
    name: Ident


class Pipe(Node):
    """``first |> stage |> stage``; each stage is a name, a field or a call."""

    first: Expr
    stages: tuple[Expr, ...]


class Hole(Node):
    """``...``: left to be written. Also a statement, and the value of a declaration."""


class Scan(Node):
    """``scan index < bound carry (...) until done { ... }``; also a statement."""

    index: Ident
    bound: Expr
    reverse: bool
    carry: tuple[Parameter, ...]
    until: Expr | None
    body: Block


class Repeat(Node):
    """``repeat index < bound { ... }``: a statement, or the value of a binding where it yields."""

    index: Ident
    bound: Expr
    body: Block


# types ------------------------------------------------------------------------------------------


class TensorTypeExpr(Node):
    """``float[batch, ..s, 2*n]``; ``dims`` is None without a bracket (``int``, ``fn``)."""

    name: Ident
    dims: tuple[Expr, ...] | None


class CallableType(Node):
    """``layer(float[..s, n]) -> float[..s, m]``; ``kind`` is the word before the bracket."""

    kind: Ident
    params: tuple[TypeExpr, ...]
    result: TypeExpr


class TupleType(Node):
    """``(float[a], float[b])``: the types of several results."""

    items: tuple[TypeExpr, ...]


# statements -------------------------------------------------------------------------------------


class Block(Node):
    """Statements between braces."""

    statements: tuple[Stmt, ...]


class Target(Node):
    """One name on the left of ``=``, with the type that may be declared for it."""

    name: Ident
    type: TypeExpr | None


class Bind(Node):
    """``a = value`` or ``a, b: float[n] = value``."""

    targets: tuple[Target, ...]
    value: Expr


class Define(Node):
    """``name[subs] = value``: a tensor, element by element."""

    name: Ident
    subs: tuple[Sub, ...]
    value: Expr


class PortDecl(Node):
    """``input name: type in low..high``; ``kind`` is ``input`` or ``target``."""

    kind: str
    name: Ident
    type: TypeExpr
    low: Expr | None
    high: Expr | None


class Output(Node):
    """``output name = value``; without a value, the output is what the name is bound to."""

    name: Ident
    value: Expr | None


class Loss(Node):
    """``loss value`` or ``loss name = value``."""

    name: Ident | None
    value: Expr


class Metric(Node):
    """``metric name = value``."""

    name: Ident
    value: Expr


class ParamDecl(Node):
    """``param name: type = init``: trained state of a layer."""

    name: Ident
    type: TypeExpr
    init: Expr


class BufferDecl(Node):
    """``buffer name: type = init``: state that is not trained."""

    name: Ident
    type: TypeExpr
    init: Expr


class StateDecl(Node):
    """``state name: type = init``: an optimizer's state; shaped as its parameter without a type."""

    name: Ident
    type: TypeExpr | None
    init: Expr


class Update(Node):
    """``update name = value``: the next value of a buffer."""

    name: Ident
    value: Expr


class IfBlock(Node):
    """``if condition { } else { }``; ``else if`` is an ``otherwise`` holding one ``IfBlock``."""

    condition: Expr
    then: Block
    otherwise: Block | None


class Return(Node):
    """``return value``."""

    value: Expr


class Yield(Node):
    """``yield value``."""

    value: Expr


class Require(Node):
    """``require condition, "message"``."""

    condition: Expr
    message: String | None


class Assert(Node):
    """``assert condition within tolerance``; only in tests."""

    condition: Expr
    within: Expr | None


# top level --------------------------------------------------------------------------------------


class Parameter(Node):
    """One entry of a parameter list, ``name: type = default``."""

    name: Ident
    type: TypeExpr | None
    default: Expr | None


class Import(Node):
    """``import "path"`` or ``import "path" as alias``."""

    path: String
    alias: Ident | None


class Model(Node):
    """``model Name(config) { ... }``."""

    name: Ident
    config: tuple[Parameter, ...]
    body: Block


class Gradient(Node):
    """``with gradient(dy) { return ... }``: a written derivative; one name per result."""

    names: tuple[Ident, ...]
    body: Block


class Fn(Node):
    """``fn name(params) -> type = expr`` or with a block; ``params`` also hold its settings."""

    name: Ident
    params: tuple[Parameter, ...]
    result: TypeExpr | None
    body: Block | Expr
    gradient: Gradient | None


class Layer(Node):
    """``layer name(config)(params) -> type { ... }``."""

    name: Ident
    config: tuple[Parameter, ...]
    params: tuple[Parameter, ...]
    result: TypeExpr | None
    body: Block | Expr


class Optimizer(Node):
    """``optimizer name(config)(w, g, t) { ... }``."""

    name: Ident
    config: tuple[Parameter, ...]
    params: tuple[Parameter, ...]
    body: Block | Expr


class Schedule(Node):
    """``schedule name(config)(t) = expr`` or with a block."""

    name: Ident
    config: tuple[Parameter, ...]
    params: tuple[Parameter, ...]
    body: Block | Expr


class Setting(Node):
    """``key = value`` in a ``train`` or ``step`` block."""

    key: Ident
    value: Expr


class StepBlock(Node):
    """``step name { key = value ... }`` in a ``train`` block."""

    name: Ident
    settings: tuple[Setting, ...]


class Train(Node):
    """``train Model(config) as name { ... }``; ``kwargs`` set the model's config."""

    model: Ident
    args: tuple[Expr, ...]
    kwargs: tuple[Keyword, ...]
    alias: Ident | None
    entries: tuple[Setting | StepBlock, ...]


class Test(Node):
    """``test "name" { ... }``."""

    name: String
    body: Block


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
