"""Reads the text of a loop program that ``loops_text.print_program`` writes; see there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from nnc.ir import loops
from nnc.ir.expr import Const, Position
from nnc.ir.index import Size
from nnc.ir.loops_lines import DTYPES, SIGNS, Line, LoopSyntaxError, Scope
from nnc.ir.scalar import ScalarTypeError, result_type
from nnc.ir.types import DType

S = TypeVar("S")


def parse_program(text: str) -> loops.Program:
    """Return the program written in ``text``. Raises LoopSyntaxError where it is none."""
    lines = [Line(number, raw) for number, raw in enumerate(text.splitlines(), 1) if raw.strip()]
    if not lines:
        raise LoopSyntaxError("line 1: a program expected")
    return _Reader(lines).program()


@dataclass(slots=True)
class _Expressions:
    """Reads one expression of a line."""

    line: Line
    scope: Scope
    named: dict[str, loops.Expr] = field(default_factory=dict)

    def expr(self, level: int = 0) -> loops.Expr:
        left = self._unary()
        while self.line.next.kind == "sign" and self.line.next.text in SIGNS:
            op, own = SIGNS[self.line.next.text]
            if own < max(level, 1):
                break
            self.line.take()
            left = self._op(op, (left, self.expr(own + 1)))
        return left

    def _op(self, name: str, args: tuple[loops.Expr, ...]) -> loops.Op:
        try:
            return loops.Op(name, args, result_type(name, tuple(a.dtype for a in args)))
        except (ScalarTypeError, KeyError) as e:
            raise self.line.fault(str(e)) from None

    def _unary(self) -> loops.Expr:
        if self.line.accept("-"):
            if self.line.next.kind in ("number", "special"):
                return self._literal(-1)
            return self._op("neg", (self._unary(),))
        if self.line.accept("~"):
            return self._op("not", (self._unary(),))
        return self._atom()

    def _literal(self, sign: int) -> Const:
        token = self.line.take()
        if token.kind == "special":
            value, _, suffix = token.text.partition(".")
            return Const(sign * float(value), DTYPES[suffix])
        if token.suffix not in DTYPES:
            raise self.line.fault(f"{token.text} needs a type")
        dtype = DTYPES[token.suffix]
        if dtype.is_float:
            return Const(sign * float(token.text), dtype)
        if not token.text.isdigit():
            raise self.line.fault(f"{token.text} is no {dtype}")
        return Const(sign * int(token.text), dtype)

    def _atom(self) -> loops.Expr:
        token = self.line.next
        if token.kind in ("number", "special"):
            return self._literal(1)
        if token.kind == "named":
            self.line.take()
            if token.text not in self.named:
                raise self.line.fault(f"{token.text} is not defined")
            return self.named[token.text]
        if self.line.accept("("):
            return self._inside()
        if token.kind == "word":
            if token.text in ("true", "false"):
                self.line.take()
                return Const(token.text == "true", DType.BOOL)
            if token.text in DTYPES:
                return self._typed(self.line.dtype())
        return self._by_name()

    def _inside(self) -> loops.Expr:
        """What stands after an opening parenthesis: definitions, a masked load, an expression."""
        while self.line.next.kind == "named" and self._defines():
            name = self.line.take().text
            self.line.expect("=")
            self.named[name] = self.expr()
            self.line.expect(";")
        value = self.expr()
        if self.line.accept("if"):
            if not isinstance(value, loops.Load):
                raise self.line.fault("only a load has a mask")
            mask = self.expr()
            other = self.expr() if self.line.accept("else") else None
            value = loops.Load(value.source, value.index, value.dtype, mask, other)
        self.line.expect(")")
        return value

    def _defines(self) -> bool:
        after = self.line.tokens[self.line.at + 1 : self.line.at + 2]
        return bool(after) and after[0].text == "="

    def _typed(self, dtype: DType) -> loops.Expr:
        if self.line.accept("{"):
            index = self.line.size(self.scope)
            self.line.expect("}")
            return Position(index, dtype)
        self.line.expect("(")
        value = self.expr()
        self.line.expect(")")
        return loops.Op("cast", (value,), dtype)

    def _by_name(self) -> loops.Expr:
        quoted = self.line.next.kind == "string"
        name = self.line.name()
        if self.line.accept("["):
            return self._load(name)
        if not quoted and self.line.accept("("):
            args = self.line.listed(self.expr, ")")
            kind, _, rest = name.partition(".")
            if kind == "fold" and rest:
                return loops.Fold(rest, args[0], args[0].dtype)
            if kind == "bits" and rest in DTYPES:
                return loops.Op("bitcast", args, DTYPES[rest])
            return self._op(name, args)
        if not quoted and self.line.accept(":"):
            dtype = self.line.dtype()
            self.line.expect("(")
            return loops.Op(name, self.line.listed(self.expr, ")"), dtype)
        if name not in self.scope.values:
            raise self.line.fault(f"no value is called {name}")
        return loops.Local(name, self.scope.values[name])

    def _load(self, name: str) -> loops.Load:
        if name not in self.scope.tensors:
            raise self.line.fault(f"no tensor or cell is called {name}")
        return loops.Load(name, self.line.sizes(self.scope, "]"), self.scope.tensors[name])


@dataclass(slots=True)
class _Reader:
    """Reads lines by their indentation."""

    lines: list[Line]
    at: int = 0

    def program(self) -> loops.Program:
        line = self.lines[0]
        line.expect("program")
        name, dims = line.name(), line.names("dims")
        line.end()
        self.at = 1
        read: dict[str, Callable[[Line], object]] = {
            "site": self._site, "buffer": self._buffer, "function": self._function,
            "kernel": self._kernel, "entry": self._entry,
        }  # fmt: skip
        found: dict[str, list[object]] = {kind: [] for kind in read}
        while self.at < len(self.lines):
            line = self.lines[self.at]
            self.at += 1
            kind = line.take().text
            if kind not in read or line.indent:
                raise line.fault("a declaration expected")
            found[kind].append(read[kind](line))
        of = {kind: tuple(items) for kind, items in found.items()}
        return loops.Program(
            name, dims, _only(of["buffer"], loops.Buffer), _only(of["function"], loops.Function),
            _only(of["kernel"], loops.Kernel), _only(of["entry"], loops.Entry),
            _only(of["site"], loops.Site),
        )  # fmt: skip

    def _nested(self, outer: Line) -> Iterator[Line]:
        """The lines directly inside ``outer``; the caller reads what is inside those."""
        indent = None
        while self.at < len(self.lines) and self.lines[self.at].indent > outer.indent:
            line = self.lines[self.at]
            indent = line.indent if indent is None else indent
            if line.indent != indent:
                raise line.fault("unexpected indentation")
            self.at += 1
            yield line
            line.end()

    def _follows(self, outer: Line, word: str) -> Line | None:
        """The next line if it is ``word`` alone, at the indentation of ``outer``."""
        if self.at < len(self.lines) and self.lines[self.at].indent == outer.indent:
            line = self.lines[self.at]
            if len(line.tokens) == 1 and line.accept(word):
                self.at += 1
                return line
        return None

    # declarations -------------------------------------------------------------------------

    def _site(self, line: Line) -> loops.Site:
        what = line.name()
        line.expect("of")
        tensor = line.name()
        line.expect("limit")
        limit = line.size(Scope())
        site = loops.Site(what, tensor, limit, line.span())
        line.end()
        return site

    def _buffer(self, line: Line) -> loops.Buffer:
        name = line.name()
        line.expect(":")
        dtype, extents = line.tensor(Scope())
        space, inside = line.word(), None
        offset: Size = 0
        if line.accept("inside"):
            inside = line.name()
            line.expect("+")
            offset = line.size(Scope())
        line.end()
        return loops.Buffer(name, dtype, extents, space, inside, offset)

    def _params(self, line: Line, scope: Scope) -> tuple[loops.Param, ...]:
        def param() -> loops.Param:
            access, name = line.word(), line.name()
            line.expect(":")
            dtype, extents = line.tensor(scope)
            scope.tensors[name] = dtype
            return loops.Param(name, dtype, extents, access)

        line.expect("(")
        return line.listed(param, ")")

    def _kernel(self, line: Line) -> loops.Kernel:
        name, scope = line.name(), Scope()
        params = self._params(line, scope)
        dims, grid = line.names("dims"), line.names("grid")
        span = line.span()
        line.end()
        body = self._block(line, scope.inner(*grid))
        return loops.Kernel(name, params, dims, grid, body, span)

    def _function(self, line: Line) -> loops.Function:
        name = line.name()
        start = line.at
        while line.next.kind != "end" and not line.accept("sizes"):
            line.take()  # the sizes are named last, but the parameters' extents use them
        sizes = line.listed(line.name) if line.next.kind != "end" else ()
        line.at = start
        scope = Scope(frozenset(sizes))
        params = self._params(line, scope)
        line.names("sizes")
        line.end()
        return loops.Function(name, params, sizes, self._block(line, scope))

    def _entry(self, line: Line) -> loops.Entry:
        name, dims = line.name(), line.names("dims")
        line.end()
        return loops.Entry(name, dims, self._steps(line, Scope()))

    def _steps(self, outer: Line, scope: Scope) -> tuple[loops.Step, ...]:
        return tuple(self._step(line, scope) for line in self._nested(outer))

    def _step(self, line: Line, scope: Scope) -> loops.Step:
        match line.word():
            case "launch":
                kernel = line.name()
                line.expect("(")
                views = line.listed(line.name, ")")
                over = line.listed(lambda: line.size(scope)) if line.accept("over") else ()
                return loops.Launch(kernel, views, over)
            case "barrier":
                return loops.Barrier()
            case "repeat":
                name = line.name()
                line.expect("<")
                extent = line.size(scope)
                return loops.Repeat(name, extent, self._steps(line, scope.inner(name)))
            case "when":
                conditions: list[Size] = []
                while line.next.kind != "end":
                    conditions.append(line.size(scope))
                    line.expect(">=")
                    if line.whole():
                        raise line.fault("sizes are compared with 0 alone")
                    if not line.accept(","):
                        break
                then = self._steps(line, scope)
                other = self._follows(line, "else")
                return loops.When(
                    tuple(conditions), then, self._steps(other, scope) if other else ()
                )
        raise line.fault("a step expected")

    # statements ---------------------------------------------------------------------------

    def _block(self, outer: Line, scope: Scope) -> tuple[loops.Stmt, ...]:
        scope = scope.inner()
        return tuple(self._statement(line, scope) for line in self._nested(outer))

    def _statement(self, line: Line, scope: Scope) -> loops.Stmt:
        read = _Expressions(line, scope).expr
        kind = line.next.text if line.next.kind == "word" else ""
        if kind not in ("for", "if", "let", "cell", "check", "call", "sync"):
            return self._store(line, scope)
        line.take()
        match kind:
            case "for":
                return self._for(line, scope)
            case "if":
                condition = read()
                then = self._block(line, scope)
                other = self._follows(line, "else")
                return loops.If(condition, then, self._block(other, scope) if other else ())
            case "let":
                name = line.name()
                line.expect("=")
                value = read()
                scope.values[name] = value.dtype
                if value.dtype is DType.I64:
                    scope.axes |= {name}
                return loops.Let(name, value)
            case "cell":
                return self._cell(line, scope)
            case "check":
                ok = read()
                line.expect("site")
                site = line.whole()
                line.expect("value")
                return loops.Check(ok, site, read())
            case "call":
                return self._call(line, scope)
        return loops.Sync()

    def _store(self, line: Line, scope: Scope) -> loops.Store:
        name = line.name()
        line.expect("[")
        index = line.sizes(scope, "]")
        line.expect("=")
        value = _Expressions(line, scope).expr()
        mask = _Expressions(line, scope).expr() if line.accept("where") else None
        return loops.Store(name, index, value, mask)

    def _for(self, line: Line, scope: Scope) -> loops.For:
        name = line.name()
        start: Size = 0
        if line.accept("="):
            start = line.size(scope)
            line.expect("count")
        else:
            line.expect("<")
        extent, kind = line.size(scope), line.word()
        return loops.For(name, extent, kind, self._block(line, scope.inner(name)), start)

    def _cell(self, line: Line, scope: Scope) -> loops.Cell:
        name = line.name()
        line.expect(":")
        dtype, extents = line.tensor(scope)
        space = "register"
        if line.next.kind == "word" and line.next.text != "lanes":
            space = line.word()
        lanes = line.accept("lanes")
        init = _Expressions(line, scope).expr() if line.accept("=") else None
        constant = tuple(e for e in extents if isinstance(e, int))
        if constant != extents:
            raise line.fault("the extents of a cell are constant")
        scope.tensors[name] = dtype
        return loops.Cell(name, dtype, constant, init, space, lanes)

    def _call(self, line: Line, scope: Scope) -> loops.Call:
        def view() -> tuple[str, tuple[Size, ...]]:
            name = line.name()
            line.expect("[")
            return name, line.sizes(scope, "]")

        function = line.name()
        line.expect("(")
        views = line.listed(view) if line.next.text not in (")", ";") else ()
        sizes = line.listed(lambda: line.size(scope)) if line.accept(";") else ()
        line.expect(")")
        return loops.Call(function, views, sizes)


def _only(items: tuple[object, ...], kind: type[S]) -> tuple[S, ...]:
    return tuple(item for item in items if isinstance(item, kind))
