"""From Lark's tree to ours, bottom-up and without recursion.

One method for each rule of ``grammar/nnc.lark``. It is given the values of the rule's children
(tokens, finished nodes, or a ``_Part`` where a rule only groups things) and the span of them all.
"""
# ruff: noqa: D102 - the grammar says what each rule's method is about

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from lark import Token, Tree

from nnc.frontend import ast
from nnc.frontend.literals import Children, Literals
from nnc.ir.span import Span

_NodeT = TypeVar("_NodeT", bound=ast.Node)


@dataclass(frozen=True, slots=True)
class _Part:
    """What a rule without a node of its own hands up: ``items``, ``extra``, or both."""

    rule: str
    items: tuple[Any, ...]
    span: Span
    extra: Any = None


def _nodes(children: Iterable[Any]) -> list[Any]:
    return [c for c in children if isinstance(c, ast.Node)]


def _only(children: Iterable[Any], kind: type[_NodeT]) -> list[_NodeT]:
    return [c for c in children if isinstance(c, kind)]


def _part(children: Iterable[Any], rule: str) -> _Part | None:
    return next((c for c in children if isinstance(c, _Part) and c.rule == rule), None)


def _items(children: Iterable[Any], rule: str) -> tuple[Any, ...]:
    part = _part(children, rule)
    return part.items if part else ()


def _has(children: Iterable[Any], token_type: str) -> bool:
    return any(isinstance(c, Token) and c.type == token_type for c in children)


class Builder(Literals):
    """Builds the syntax tree of one source.

    ``original`` maps a place in the text that was parsed to its place in the source.
    """

    def build(self, tree: Tree[Token]) -> ast.File:
        """Return the file that ``tree`` stands for; adds what is wrong beyond the grammar."""
        work: list[tuple[Tree[Token] | Token, bool]] = [(tree, False)]
        values: list[Any] = []
        while work:
            node, ready = work.pop()
            if isinstance(node, Token):
                values.append(node)
            elif not ready:
                work.append((node, True))
                work.extend((child, False) for child in reversed(node.children))
            else:
                count = len(node.children)
                children = values[len(values) - count :]
                del values[len(values) - count :]
                values.append(getattr(self, str(node.data))(children, self._extent(children)))
        file = values.pop()
        assert isinstance(file, ast.File)
        return file

    # top level --------------------------------------------------------------------------------

    def start(self, children: Children, span: Span) -> ast.File:
        version = _part(children, "version")
        items = tuple(c for c in _nodes(children) if not isinstance(c, ast.Hole))
        number = version.extra if version else None
        if version is not None and number != 1:
            self._error(
                "E0117",
                f"version {number} of the language is not known",
                version.span,
                "this compiler reads version 1",
            )
        return ast.File(self._source.name, number, items, span=span)

    def version(self, children: Children, span: Span) -> _Part:
        written = self._extent(children[:2])
        return _Part("version", (), written, int(children[1].value.replace("_", "")[:9]))

    def broken(self, children: Children, span: Span) -> ast.Hole:
        return ast.Hole(span=span)

    def import_(self, children: Children, span: Span) -> ast.Import:
        alias = _only(children, ast.Ident)
        return ast.Import(self._text(children[1]), alias[0] if alias else None, span=span)

    def model(self, children: Children, span: Span) -> ast.Model:
        return ast.Model(children[1], _items(children, "params"), children[-1], span=span)

    def train(self, children: Children, span: Span) -> ast.Train:
        names = _only(children, ast.Ident)
        arguments = _part(children, "args")
        args, kwargs = arguments.extra if arguments else ((), ())
        alias = names[1] if len(names) > 1 else None
        entries = _items(children, "entries")
        return ast.Train(names[0], args, kwargs, alias, entries, span=span)

    def fn(self, children: Children, span: Span) -> ast.Fn:
        result, gradient = _part(children, "ret"), _only(children, ast.Gradient)
        body = next(c for c in _nodes(children[2:]) if not isinstance(c, ast.Gradient))
        return ast.Fn(
            children[1],
            _items(children, "params"),
            result.extra if result else None,
            body,
            gradient[0] if gradient else None,
            span=span,
        )

    def gradient(self, children: Children, span: Span) -> ast.Gradient:
        return ast.Gradient(tuple(_only(children, ast.Ident)), children[-1], span=span)

    def layer(self, children: Children, span: Span) -> ast.Layer:
        config, params = self._lists(children)
        result = _part(children, "ret")
        type_ = result.extra if result else None
        return ast.Layer(children[1], config, params, type_, children[-1], span=span)

    def optimizer(self, children: Children, span: Span) -> ast.Optimizer:
        config, params = self._lists(children)
        return ast.Optimizer(children[1], config, params, children[-1], span=span)

    def schedule(self, children: Children, span: Span) -> ast.Schedule:
        config, params = self._lists(children)
        return ast.Schedule(children[1], config, params, children[-1], span=span)

    def _lists(self, children: Children) -> tuple[Any, Any]:
        config, params = (c.items for c in children if isinstance(c, _Part) and c.rule == "params")
        self._distinct([*config, *params])
        return config, params

    def test(self, children: Children, span: Span) -> ast.Test:
        return ast.Test(self._text(children[1]), children[2], span=span)

    def equals(self, children: Children, span: Span) -> Any:
        return children[1]

    def ret(self, children: Children, span: Span) -> _Part:
        return _Part("ret", (), span, children[1])

    def entries(self, children: Children, span: Span) -> _Part:
        kept = (c for c in _nodes(children) if not isinstance(c, ast.Hole))
        return _Part("entries", tuple(kept), span)

    def setting(self, children: Children, span: Span) -> ast.Setting:
        return ast.Setting(children[0], children[2], span=span)

    def step_block(self, children: Children, span: Span) -> ast.StepBlock:
        settings = tuple(_only(_items(children, "entries"), ast.Setting))
        for entry in _only(_items(children, "entries"), ast.StepBlock):
            self._error("E0118", "a step block cannot hold another", entry.span, "inside a step")
        return ast.StepBlock(children[1], settings, span=span)

    def params(self, children: Children, span: Span) -> _Part:
        params = tuple(_nodes(children))
        self._distinct(params)
        return _Part("params", params, span)

    def _distinct(self, params: Iterable[ast.Parameter]) -> None:
        seen: dict[str, ast.Parameter] = {}
        for param in params:
            first = seen.setdefault(param.name.text, param)
            if first is not param:
                self._error(
                    "E0114",
                    f"two parameters are called `{param.name.text}`",
                    param.name.span,
                    "the second",
                    related=((first.name.span, "the first"),),
                )

    def param(self, children: Children, span: Span) -> ast.Parameter:
        type_ = default = None
        for sign, value in zip(children[1::2], children[2::2], strict=True):
            if sign.type == "EQUAL":
                default = value
            else:
                type_ = value
        return ast.Parameter(children[0], type_, default, span=span)

    # types ------------------------------------------------------------------------------------

    def tensor_type(self, children: Children, span: Span) -> ast.TensorTypeExpr:
        dims = _part(children, "dims")
        return ast.TensorTypeExpr(children[0], dims.items if dims else None, span=span)

    def callable_type(self, children: Children, span: Span) -> ast.CallableType:
        types = _nodes(children[1:])
        return ast.CallableType(children[0], tuple(types[:-1]), types[-1], span=span)

    def tuple_type(self, children: Children, span: Span) -> ast.TupleType:
        return ast.TupleType(tuple(_nodes(children)), span=span)

    def dims(self, children: Children, span: Span) -> _Part:
        return _Part("dims", tuple(_nodes(children)), span)

    def rest(self, children: Children, span: Span) -> ast.Rest:
        return ast.Rest(children[1].text if len(children) > 1 else None, span=span)

    # statements -------------------------------------------------------------------------------

    def block(self, children: Children, span: Span) -> ast.Block:
        statements: list[Any] = []
        for child in children:
            if isinstance(child, _Part):
                statements += child.items
            elif isinstance(child, ast.Node):
                statements.append(child)
        return ast.Block(tuple(statements), span=span)

    def hole_stmt(self, children: Children, span: Span) -> _Part:
        hole = ast.Hole(span=self._span(children[0]))
        after: list[Any] = []
        for child in children[1:]:
            after += child.items if isinstance(child, _Part) else [child]
        return _Part("statements", (hole, *after), span)

    def binding(self, children: Children, span: Span) -> ast.Bind | ast.Define:
        targets = [c for c in children[:-1] if not isinstance(c, Token)]
        elements = [t for t in targets if isinstance(t, _Part)]
        if not elements:
            return ast.Bind(tuple(targets), children[-1], span=span)
        if len(targets) > 1:
            self._error(
                "E0112",
                "a tensor defined by its elements stands alone on the left",
                elements[0].span,
                "defined element by element",
                hint="write one definition for each tensor",
            )
        name, subs = elements[0].items
        return ast.Define(name, subs, children[-1], span=span)

    def target(self, children: Children, span: Span) -> ast.Target:
        return ast.Target(children[0], children[2] if len(children) > 1 else None, span=span)

    def element(self, children: Children, span: Span) -> _Part:
        subs = children[2]
        if subs.extra is not None:
            self._error(
                "E0113",
                "a filter belongs to a reduction, not to a definition",
                subs.extra.span,
                "an element that is defined always has a value",
                hint="write `if condition then value else 0` on the right",
            )
        return _Part("element", (children[0], subs.items), span)

    def port(self, children: Children, span: Span) -> ast.PortDecl:
        kind = str(children[0].value)
        bounds = _part(children, "bounds")
        low, high = bounds.items if bounds else (None, None)
        return ast.PortDecl(kind, children[1], children[3], low, high, span=span)

    def bounds(self, children: Children, span: Span) -> _Part:
        return _Part("bounds", tuple(_nodes(children)), span)

    def output(self, children: Children, span: Span) -> ast.Output:
        return ast.Output(children[1], children[3] if len(children) > 2 else None, span=span)

    def loss(self, children: Children, span: Span) -> ast.Loss:
        return ast.Loss(None, children[1], span=span)

    def named_loss(self, children: Children, span: Span) -> ast.Loss:
        return ast.Loss(children[1], children[3], span=span)

    def metric(self, children: Children, span: Span) -> ast.Metric:
        return ast.Metric(children[1], children[3], span=span)

    def param_decl(self, children: Children, span: Span) -> ast.ParamDecl:
        return ast.ParamDecl(children[1], children[3], children[5], span=span)

    def buffer_decl(self, children: Children, span: Span) -> ast.BufferDecl:
        return ast.BufferDecl(children[1], children[3], children[5], span=span)

    def state_decl(self, children: Children, span: Span) -> ast.StateDecl:
        type_ = children[3] if len(children) > 4 else None
        return ast.StateDecl(children[1], type_, children[-1], span=span)

    def update(self, children: Children, span: Span) -> ast.Update:
        return ast.Update(children[1], children[3], span=span)

    def if_block(self, children: Children, span: Span) -> ast.IfBlock:
        condition, then, *rest = _nodes(children)
        other = rest[0] if rest else None
        if isinstance(other, ast.IfBlock):
            other = ast.Block((other,), span=other.span)
        return ast.IfBlock(condition, then, other, span=span)

    def range_(self, children: Children, span: Span) -> _Part:
        return _Part("range_", (children[0], children[2]), span)

    def repeat(self, children: Children, span: Span) -> ast.Repeat:
        index, bound = children[1].items
        return ast.Repeat(index, bound, children[-1], span=span)

    def scan(self, children: Children, span: Span) -> ast.Scan:
        index, bound = _items(children, "range_")
        until = _part(children, "until")
        return ast.Scan(
            index,
            bound,
            _has(children, "REVERSE"),
            _items(children, "carry"),
            until.extra if until else None,
            children[-1],
            span=span,
        )

    def carry(self, children: Children, span: Span) -> _Part:
        return _Part("carry", children[1].items, span)

    def until(self, children: Children, span: Span) -> _Part:
        return _Part("until", (), span, children[1])

    def return_(self, children: Children, span: Span) -> ast.Return:
        return ast.Return(children[1], span=span)

    def yield_(self, children: Children, span: Span) -> ast.Yield:
        return ast.Yield(children[1], span=span)

    def require(self, children: Children, span: Span) -> ast.Require:
        message = self._text(children[3]) if len(children) > 2 else None
        return ast.Require(children[1], message, span=span)

    def assert_(self, children: Children, span: Span) -> ast.Assert:
        within = children[3] if len(children) > 2 else None
        return ast.Assert(children[1], within, span=span)

    # expressions ------------------------------------------------------------------------------

    def bare_tuple(self, children: Children, span: Span) -> ast.Tuple:
        return ast.Tuple(tuple(_nodes(children)), span=span)

    tuple_ = bare_tuple

    def if_expr(self, children: Children, span: Span) -> ast.IfExpr:
        return ast.IfExpr(*_nodes(children), span=span)

    def pipe(self, children: Children, span: Span) -> ast.Pipe:
        first, *stages = _nodes(children)
        return ast.Pipe(first, tuple(stages), span=span)

    def bool_op(self, children: Children, span: Span) -> ast.BoolOp:
        return ast.BoolOp(str(children[1].value), tuple(_nodes(children)), span=span)

    def unary(self, children: Children, span: Span) -> ast.Unary:
        return ast.Unary(str(children[0].value), children[1], span=span)

    def compare(self, children: Children, span: Span) -> ast.Compare:
        ops = tuple(str(token.value) for token in children[1::2])
        return ast.Compare(tuple(children[::2]), ops, span=span)

    def binary(self, children: Children, span: Span) -> ast.Binary:
        left, op, right = children
        return ast.Binary(str(op.value), left, right, self._span(op), span=span)

    def call(self, children: Children, span: Span) -> ast.Call:
        args, kwargs = children[1].extra
        return ast.Call(children[0], args, kwargs, span=span)

    def args(self, children: Children, span: Span) -> _Part:
        positional: list[Any] = []
        named: dict[str, ast.Keyword] = {}
        for arg in _nodes(children):
            if not isinstance(arg, ast.Keyword):
                if named:
                    self._late_positional(arg, next(iter(named.values())))
                positional.append(arg)
            elif named.setdefault(arg.name.text, arg) is not arg:
                first = named[arg.name.text].span
                self._error(
                    "E0115",
                    f"`{arg.name.text}` is given twice",
                    arg.span,
                    "the second",
                    related=((first, "the first"),),
                )
        return _Part("args", (), span, (tuple(positional), tuple(named.values())))

    def _late_positional(self, arg: ast.Node, named: ast.Keyword) -> None:
        self._error(
            "E0116",
            "an argument without a name comes after one with a name",
            arg.span,
            "which parameter is this for?",
            related=((named.span, "named here"),),
            hint="put it first, or name it too",
        )

    def keyword(self, children: Children, span: Span) -> ast.Keyword:
        return ast.Keyword(children[0], children[2], span=span)

    def subscript(self, children: Children, span: Span) -> ast.Subscript:
        subs = children[2]
        return ast.Subscript(children[0], subs.items, subs.extra, span=span)

    def subs(self, children: Children, span: Span) -> _Part:
        where = _part(children, "filter_")
        return _Part("subs", tuple(_nodes(children)), span, where.extra if where else None)

    def filter_(self, children: Children, span: Span) -> _Part:
        return _Part("filter_", (), span, children[1])

    def slice_(self, children: Children, span: Span) -> ast.Slice:
        bounds: list[Any] = [None]
        for child in children:
            if isinstance(child, Token):
                bounds.append(None)
            else:
                bounds[-1] = child
        start, stop, step = [*bounds, None][:3]
        return ast.Slice(start, stop, step, span=span)

    def field(self, children: Children, span: Span) -> ast.Field:
        return ast.Field(children[0], children[2], span=span)

    def ref(self, children: Children, span: Span) -> ast.Name:
        return ast.Name(str(children[0].value), span=span)

    def hole(self, children: Children, span: Span) -> ast.Hole:
        return ast.Hole(span=span)

    def group(self, children: Children, span: Span) -> ast.Node:
        inner = children[1]
        assert isinstance(inner, ast.Node)
        return inner.but(span=span)

    def list_(self, children: Children, span: Span) -> ast.List:
        return ast.List(tuple(_nodes(children)), span=span)

    def record(self, children: Children, span: Span) -> ast.Record:
        return ast.Record(tuple(_nodes(children)), span=span)

    def record_entry(self, children: Children, span: Span) -> ast.RecordEntry:
        key = self._text(children[0]) if isinstance(children[0], Token) else children[0]
        return ast.RecordEntry(key, children[2], span=span)

    def name(self, children: Children, span: Span) -> ast.Ident:
        return ast.Ident(str(children[0].value), span=span)
