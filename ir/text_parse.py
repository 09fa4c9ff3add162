"""Reads the text of a graph that ``text.print_graph`` writes; see there for the notation."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from nnc.ir.expr import Const, Expr, Loaded, Number, Position, Read
from nnc.ir.graph import (
    REDUCTIONS,
    Custom,
    Derivative,
    Form,
    Graph,
    Leaf,
    Literal,
    Loop,
    Node,
    Op,
    Output,
    Reshape,
    Scan,
)
from nnc.ir.index import Size, axis, dim, floordiv, mod
from nnc.ir.scalar import ScalarTypeError, apply
from nnc.ir.types import DType, TensorType

# Each infix operation: its sign and how tightly it binds.
INFIX = {
    "or": ("or", 1), "and": ("and", 2),
    "eq": ("==", 3), "ne": ("!=", 3), "lt": ("<", 3), "le": ("<=", 3), "gt": (">", 3),
    "ge": (">=", 3), "add": ("+", 5), "sub": ("-", 5), "mul": ("*", 6), "div": ("/", 6),
    "floordiv": ("//", 6), "mod": ("%", 6),
}  # fmt: skip
_SIGNS = {sign: (op, level) for op, (sign, level) in INFIX.items()}
_DTYPES = {dtype.value: dtype for dtype in DType}
RESERVED = frozenset(
    {*_DTYPES, "true", "false", "inf", "nan", "if", "then", "else", "and", "or", "where", "drops"}
    | {"out", "leaf", "literal", "reshape", "custom", "output", "graph", "fact", "loop"}
    | {"last", "stack", "history"}
)

_TOKEN = re.compile(
    r"""(?P<space>\s+|\#\s[^\n]*)
    |(?P<node>%\d+)|(?P<operand>\#\d+)|(?P<let>!\d+)
    |(?P<string>"(?:[^"\\]|\\.)*")
    |(?P<place>[A-Za-z_]\w*:(?:[\w.*:/+-]+|"(?:[^"\\]|\\.)*"))
    |(?P<special>(?:inf|nan)(?:\.(?:f64|f32|f16|bf16))?\b)
    |(?P<number>\d+(?:\.\d+)?(?:e[+-]?\d+)?)(?P<suffix>(?:b?f\d\d|[iu]\d\d?)\b)?
    |(?P<word>[$@&]?(?:[A-Za-z_][\w.']*|`[^`]*`))
    |(?P<sign>//|==|!=|<=|>=|[-+*/%<>=()\[\]{},;:])""",
    re.VERBOSE,
)
T = TypeVar("T")


class GraphSyntaxError(ValueError):
    """Text that is not a graph; the message tells line and column."""


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    suffix: str
    place: int


def parse_graph(text: str) -> Graph:
    """Return the graph written in ``text``. Raises GraphSyntaxError where it is none."""
    return _Parser(text, _tokens(text)).graph()


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise GraphSyntaxError(_where(text, at) + f"unexpected {text[at]!r}")
        kind = next(k for k, v in match.groupdict().items() if v is not None)
        if kind != "space":
            suffix = match["suffix"] or ""
            lexeme = match["number"] if kind == "number" else match.group()
            tokens.append(_Token(kind, lexeme, suffix, at))
        at = match.end()
    tokens.append(_Token("end", "", "", at))
    return tokens


def _where(text: str, at: int) -> str:
    line = text.count("\n", 0, at) + 1
    return f"line {line}, column {at - text.rfind(chr(10), 0, at)}: "


@dataclass(slots=True)
class _Scope:
    """What names and operands mean inside one form."""

    axes: frozenset[str] = frozenset()
    operands: list[Node] = field(default_factory=list)
    lets: dict[str, Expr] = field(default_factory=dict)


class _Parser:
    """Recursive descent over statements and subscripts; operator precedence over expressions."""

    def __init__(self, text: str, tokens: list[_Token]) -> None:
        self.text = text
        self.tokens = tokens
        self.at = 0
        self.nodes: dict[str, Node] = {}
        self.scope = _Scope()
        self.loops: dict[str, Loop] = {}

    # tokens ---------------------------------------------------------------------------------

    @property
    def next(self) -> _Token:
        return self.tokens[self.at]

    def error(self, message: str, token: _Token | None = None) -> GraphSyntaxError:
        return GraphSyntaxError(_where(self.text, (token or self.next).place) + message)

    def take(self) -> _Token:
        token = self.next
        self.at += token.kind != "end"
        return token

    def accept(self, text: str) -> bool:
        found = self.next.text == text and self.next.kind in ("sign", "word")
        self.at += found
        return found

    def expect(self, text: str) -> None:
        if not self.accept(text):
            raise self.error(f"expected {text!r}, found {self.next.text!r}")

    def kind(self, kind: str) -> _Token:
        if self.next.kind != kind:
            raise self.error(f"expected a {kind}, found {self.next.text!r}")
        return self.take()

    def listed(self, item: Callable[[], T], opening: str, closing: str) -> list[T]:
        self.expect(opening)
        items: list[T] = []
        while not self.accept(closing):
            if items:
                self.expect(",")
            items.append(item())
        return items

    def name(self) -> str:
        return self.kind("word").text.strip("`")

    def place(self) -> tuple[str, str]:
        space, _, name = self.kind("place").text.partition(":")
        return space, json.loads(name) if name.startswith('"') else name

    def node(self) -> Node:
        token = self.kind("node")
        if token.text not in self.nodes:
            raise self.error(f"{token.text} is not defined above", token)
        return self.nodes[token.text]

    def dtype(self) -> DType:
        token = self.kind("word")
        if token.text not in _DTYPES:
            raise self.error(f"no element type {token.text!r}", token)
        return _DTYPES[token.text]

    def number(self) -> Number:
        sign = -1 if self.accept("-") else 1
        token = self.take()
        match token.kind, token.text:
            case "number", text if not token.suffix:
                return sign * (int(text) if text.isdigit() else float(text))
            case "special", "inf" | "nan":
                return sign * float(token.text)
            case "word", "true" | "false" if sign == 1:
                return token.text == "true"
        raise self.error(f"expected a number, found {token.text!r}", token)

    # statements -----------------------------------------------------------------------------

    def graph(self) -> Graph:
        self.expect("graph")
        name, facts, outputs = self.name(), list[Size](), list[Output]()
        while self.next.kind != "end":
            if self.accept("loop"):
                self.loop()
            elif self.accept("fact"):
                facts.append(self.size())
            elif self.accept("output"):
                place = self.place()
                self.expect("=")
                outputs.append(Output(*place, self.node()))
            else:
                self.definition()
        return Graph(name, tuple(outputs), tuple(facts))

    def loop(self) -> None:
        name = self.name()
        self.expect("<")
        extent = self.size()
        self.expect("carry")
        carries = tuple(self.listed(self.name, "(", ")"))
        self.loops[name] = Loop(name, extent, carries, self.accept("reverse"), self.accept("until"))

    def scan(self, result: str) -> tuple[Op, tuple[Node, ...]]:
        token = self.next
        name, _, carry = (self.name(), "", "") if result == "stack" else self.name().partition(".")
        if name not in self.loops:
            raise self.error(f"no loop {name!r}", token)
        inputs = [*self.listed(self.node, "(", ")"), *self.listed(self.node, "(", ")")]
        if result == "stack":
            inputs.append(self.node())
        return Scan(self.loops[name], result, carry), tuple(inputs)

    def definition(self) -> None:
        token = self.kind("node")
        if token.text in self.nodes:
            raise self.error(f"{token.text} is defined twice", token)
        self.expect("=")
        self.scope = _Scope()
        op, inputs = self.op()
        self.scope = _Scope()
        self.expect(":")
        dtype = self.dtype()
        shape = self.listed(self.size, "[", "]")
        name = op.name if isinstance(op, Leaf) else ""
        if self.next.kind == "string":
            name = json.loads(self.take().text)
        self.nodes[token.text] = Node(op, inputs, TensorType(dtype, tuple(shape)), None, name)

    def op(self) -> tuple[Op, tuple[Node, ...]]:
        token = self.kind("word")
        match token.text:
            case "leaf":
                return Leaf(*self.place()), ()
            case "literal":
                return Literal(tuple(self.listed(self.number, "[", "]"))), ()
            case "reshape":
                return Reshape(), (self.node(),)
            case "derivative":
                y = self.node()
                self.expect(",")
                return Derivative(), (y, self.node())
            case "custom":
                name = json.loads(self.kind("string").text)
                inputs = self.listed(self.node, "(", ")")
                written = self.listed(lambda: None if self.accept("-") else self.node(), "(", ")")
                return Custom(name, tuple(written)), tuple(inputs)
            case "last" | "stack" | "history" as result:
                return self.scan(result)
            case reduce if reduce in REDUCTIONS:
                return self.form(reduce)
        raise self.error(f"no operation {token.text!r}", token)

    def form(self, reduce: str) -> tuple[Form, tuple[Node, ...]]:
        operands = self.listed(self.node, "(", ")") if self.next.text == "(" else []
        axes = self.listed(self.axis, "[", "]")
        self.scope = _Scope(frozenset(name for name, _ in axes), operands)
        self.expect("out")
        out = self.listed(self.size, "[", "]")
        drops = self.accept("drops")
        where = self.block() if self.accept("where") else None
        body = self.block()
        form = Form(tuple(axes), tuple(out), reduce, body, where, drops)
        return form, tuple(self.scope.operands)

    def axis(self) -> tuple[str, Size]:
        name = self.name()
        self.expect("<")
        return name, self.size()

    # subscripts -----------------------------------------------------------------------------

    def size(self) -> Size:
        negative = self.accept("-")
        total = -self.term() if negative else self.term()
        while self.next.text in ("+", "-"):
            total = total + self.term() if self.take().text == "+" else total - self.term()
        return total

    def term(self) -> Size:
        value = self.factor()
        while self.next.text in ("*", "//", "%"):
            sign = self.take().text
            token, by = self.next, self.factor()
            if sign == "*":
                value = value * by
            elif isinstance(by, int) and by > 0:
                value = floordiv(value, by) if sign == "//" else mod(value, by)
            else:
                raise self.error("expected a positive number to divide by", token)
        return value

    def factor(self) -> Size:
        if self.next.kind == "number" and self.next.text.isdigit() and not self.next.suffix:
            return int(self.take().text)
        if self.next.kind in ("node", "operand"):
            return Loaded(self.read()).as_poly()
        if self.accept("("):
            if self.next.kind in ("node", "operand"):
                return self.size_from_read()
            value = self.size()
            self.expect(")")
            return value
        token = self.kind("word")
        if token.text[0] == "&":
            name = token.text[1:].strip("`")
            if name not in self.loops:
                raise self.error(f"no loop {name!r}", token)
            return self.loops[name].counter
        if token.text[0] in "$@":
            name = token.text[1:].strip("`")
            return dim(name) if token.text[0] == "$" else axis(name)
        name = token.text.strip("`")
        return axis(name) if name in self.scope.axes else dim(name)

    def size_from_read(self) -> Size:
        """Read what follows ``(`` and begins with a read: guarded, or the start of a size."""
        start = self.at
        read = self.read()
        if self.accept("else"):
            guarded = Read(read.operand, read.index, read.dtype, self.number())
            self.expect(")")
            return Loaded(guarded).as_poly()
        self.at = start
        value = self.size()
        self.expect(")")
        return value

    def read(self) -> Read:
        token = self.next
        if token.kind == "operand":
            operand = int(self.take().text[1:])
            if operand >= len(self.scope.operands):
                raise self.error(f"there is no operand {token.text}", token)
        else:
            operand = self.operand(self.node())
        index = self.listed(self.size, "[", "]")
        return Read(operand, tuple(index), self.scope.operands[operand].type.dtype)

    def operand(self, node: Node) -> int:
        if node not in self.scope.operands:
            self.scope.operands.append(node)
        return self.scope.operands.index(node)

    # expressions ----------------------------------------------------------------------------

    def block(self) -> Expr:
        self.expect("(")
        self.scope.lets = {}
        while self.next.kind == "let" and self.tokens[self.at + 1].text == "=":
            name = self.take().text
            self.expect("=")
            self.scope.lets[name] = self.expr(0)
            self.expect(";")
        value = self.expr(0)
        self.expect(")")
        return value

    def expr(self, level: int) -> Expr:
        left = self.primary()
        while self.next.text in _SIGNS and self.next.kind in ("sign", "word"):
            op, own = _SIGNS[self.next.text]
            if own < level:
                break
            token = self.take()
            left = self.apply(token, op, (left, self.expr(own + 1)))
        return left

    def apply(
        self, token: _Token, op: str, args: tuple[Expr, ...], dtype: DType | None = None
    ) -> Expr:
        try:
            return apply(op, *args, dtype=dtype)
        except KeyError:
            raise self.error(f"no operation {op!r}", token) from None
        except ScalarTypeError as error:
            raise self.error(str(error), token) from None

    def primary(self) -> Expr:
        token = self.next
        match token.kind:
            case "node" | "operand":
                return self.read()
            case "let":
                self.take()
                if token.text not in self.scope.lets:
                    raise self.error(f"{token.text} is not defined above", token)
                return self.scope.lets[token.text]
            case "number" | "special":
                return self.constant(1)
        if self.accept("-"):
            return self.constant(-1)
        if self.accept("("):
            return self.group()
        return self.word()

    def constant(self, sign: int) -> Expr:
        token = self.take()
        if token.kind == "special" and "." in token.text:
            text, _, dtype = token.text.partition(".")
            return Const(sign * float(text), _DTYPES[dtype])
        if token.kind == "number" and token.suffix in _DTYPES:
            exact = token.text.isdigit()
            return Const(
                sign * (int(token.text) if exact else float(token.text)), _DTYPES[token.suffix]
            )
        raise self.error(f"expected a literal with its type, found {token.text!r}", token)

    def group(self) -> Expr:
        inner = self.expr(0)
        if isinstance(inner, Read) and inner.outside is None and self.accept("else"):
            inner = Read(inner.operand, inner.index, inner.dtype, self.number())
        self.expect(")")
        return inner

    def word(self) -> Expr:
        token = self.kind("word")
        match token.text:
            case "true" | "false":
                return Const(token.text == "true", DType.BOOL)
            case "if":
                condition = self.expr(1)
                self.expect("then")
                first = self.expr(1)
                self.expect("else")
                return self.apply(token, "select", (condition, first, self.expr(1)))
            case "bitcast":
                (dtype,) = self.listed(self.dtype, "[", "]")
                return self.apply(token, "bitcast", self.arguments(), dtype)
            case text if text in _DTYPES:
                if self.accept("{"):
                    index = self.size()
                    self.expect("}")
                    return Position(index, _DTYPES[text])
                return self.apply(token, "cast", self.arguments(), _DTYPES[text])
        return self.apply(token, token.text, self.arguments())

    def arguments(self) -> tuple[Expr, ...]:
        return tuple(self.listed(lambda: self.expr(0), "(", ")"))
