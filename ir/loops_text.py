"""Prints loop programs as text that ``parse_program`` reads back.

    program mlp dims batch
    buffer "input:x": f32[batch, 64] input
    kernel scale(r x: f32[batch, 64], w y: f32[batch, 64]) dims batch grid b
      for j < 64 vector
        let v = x[b, j] * 2.0f32
        y[b, j] = v + f32{j} where v > 0.0f32
    entry infer dims batch
      launch scale("input:x", "output:y") over batch

An expression has the type of its operands: a literal is written ``1.0f32``, a cast ``f32(x)``, a
change of type ``bits.u32(x)``, a subscript as a number ``i64{j + 1}``, a masked load
``(x[j] if m else 0.0f32)``, a fold ``fold.add(v)``; ``(!0 = a * b; !0 + !0)`` names what is used
more than once. In subscripts a name is an axis where one is in scope and else a dim; ``$name`` is
a dim and ``@name`` an axis whatever is in scope. Names that are not words are quoted.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from nnc.ir import loops
from nnc.ir.expr import Const, Position
from nnc.ir.index import Atom, Axis, Dim, FloorDiv, Mod, Size
from nnc.ir.loops_lines import INFIX, RESERVED, LoopSyntaxError
from nnc.ir.loops_parse import parse_program
from nnc.ir.loops_walk import Numbering
from nnc.ir.scalar import ScalarTypeError, result_type
from nnc.ir.span import Span
from nnc.ir.types import DType

__all__ = [
    "LoopSyntaxError",
    "parse_program",
    "print_function",
    "print_kernel",
    "print_program",
    "print_statement",
]

DEEPEST = 60
"""Expressions nested deeper than this are named, so that the parser does not recurse deeply."""

_WORD = re.compile(r"[A-Za-z_][\w.]*")
_ATOMIC = 10
_PREFIX = {"neg": "-", "not": "~"}


def print_program(program: loops.Program) -> str:
    """Return the text of a whole program."""
    lines = [f"program {_word(program.name)}{_dims(program.dims)}"]
    lines += [_site(site) for site in program.sites]
    lines += [_buffer(buffer) for buffer in program.buffers]
    text = "\n".join(lines) + "\n"
    text += "".join(print_function(f) for f in program.functions)
    text += "".join(print_kernel(k) for k in program.kernels)
    for entry in program.entries:
        head = f"entry {_word(entry.name)}{_dims(entry.dims)}"
        text += "\n".join([head, *_steps(entry.steps, 1, frozenset())]) + "\n"
    return text


def print_kernel(kernel: loops.Kernel) -> str:
    """Return the text of a kernel."""
    params = ", ".join(_param(p, frozenset()) for p in kernel.params)
    grid = f" grid {_words(kernel.grid)}" if kernel.grid else ""
    head = f"kernel {_word(kernel.name)}({params}){_dims(kernel.dims)}{grid}{_at(kernel.span)}"
    return "\n".join([head, *_block(kernel.body, 1, _Scope(frozenset(kernel.grid)))]) + "\n"


def print_function(function: loops.Function) -> str:
    """Return the text of a shared function."""
    scope = _Scope(frozenset(function.sizes))
    params = ", ".join(_param(p, frozenset(function.sizes)) for p in function.params)
    sizes = f" sizes {_words(function.sizes)}" if function.sizes else ""
    head = f"function {_word(function.name)}({params}){sizes}"
    return "\n".join([head, *_block(function.body, 1, scope)]) + "\n"


def print_statement(stmt: loops.Stmt) -> str:
    """Return the text of a statement by itself; names that it does not bind count as axes."""
    return "\n".join(_block([stmt], 0, _Scope(None)))


# ----------------------------------------------------------------------------- declarations


def _word(name: str) -> str:
    return name if _WORD.fullmatch(name) and name not in RESERVED else json.dumps(name)


def _words(names: Iterable[str]) -> str:
    return ", ".join(_word(n) for n in names)


def _dims(names: Sequence[str]) -> str:
    return f" dims {_words(names)}" if names else ""


def _at(span: Span | None) -> str:
    return f" at {json.dumps(span.file)}:{span.start}:{span.end}" if span else ""


def _tensor(dtype: DType, extents: Sequence[Size], axes: frozenset[str] | None) -> str:
    inside = ", ".join(_size(e, axes) for e in extents)
    return f"{dtype}[{inside}]" if extents else str(dtype)


def _param(param: loops.Param, axes: frozenset[str]) -> str:
    return f"{param.access} {_word(param.name)}: {_tensor(param.dtype, param.extents, axes)}"


def _site(site: loops.Site) -> str:
    what, tensor = json.dumps(site.what), json.dumps(site.tensor)
    return f"site {what} of {tensor} limit {_size(site.limit, frozenset())}{_at(site.span)}"


def _buffer(buffer: loops.Buffer) -> str:
    text = f"buffer {_word(buffer.name)}: {_tensor(buffer.dtype, buffer.extents, frozenset())}"
    inside = ""
    if buffer.inside is not None:
        inside = f" inside {_word(buffer.inside)} + {_size(buffer.offset, frozenset())}"
    return f"{text} {buffer.space}{inside}"


def _steps(steps: Sequence[loops.Step], depth: int, axes: frozenset[str]) -> Iterator[str]:
    pad = "  " * depth
    for step in steps:
        match step:
            case loops.Launch(kernel, views, extents):
                over = f" over {', '.join(_size(e, axes) for e in extents)}" if extents else ""
                yield f"{pad}launch {_word(kernel)}({_words(views)}){over}"
            case loops.Barrier():
                yield f"{pad}barrier"
            case loops.Repeat(axis, extent, body):
                yield f"{pad}repeat {_word(axis)} < {_size(extent, axes)}"
                yield from _steps(body, depth + 1, axes | {axis})
            case loops.When(conditions, then, otherwise):
                tests = ", ".join(f"{_size(c, axes)} >= 0" for c in conditions)
                yield f"{pad}when {tests}".rstrip()
                yield from _steps(then, depth + 1, axes)
                if otherwise:
                    yield f"{pad}else"
                    yield from _steps(otherwise, depth + 1, axes)


# ------------------------------------------------------------------------------- statements


@dataclass(frozen=True, slots=True)
class _Scope:
    """The axes in scope; None where that is not known."""

    axes: frozenset[str] | None

    def also(self, name: str) -> _Scope:
        return self if self.axes is None else _Scope(self.axes | {name})


def _block(body: Sequence[loops.Stmt], depth: int, scope: _Scope) -> Iterator[str]:
    pad = "  " * depth
    for stmt in body:
        match stmt:
            case loops.For(axis, extent, kind, inner, start):
                size = _size(extent, scope.axes)
                first = f"= {_size(start, scope.axes)} count" if start != 0 else "<"
                yield f"{pad}for {_word(axis)} {first} {size} {kind}"
                yield from _block(inner, depth + 1, scope.also(axis))
            case loops.If(condition, then, otherwise):
                yield f"{pad}if {_expr(condition, scope)}"
                yield from _block(then, depth + 1, scope)
                if otherwise:
                    yield f"{pad}else"
                    yield from _block(otherwise, depth + 1, scope)
            case loops.Let(name, value):
                yield f"{pad}let {_word(name)} = {_expr(value, scope)}"
                scope = scope.also(name) if value.dtype is DType.I64 else scope
            case _:
                yield pad + _simple(stmt, scope)


def _simple(stmt: loops.Stmt, scope: _Scope) -> str:
    match stmt:
        case loops.Cell(name, dtype, extents, init, space, lanes):
            kind = "" if space == "register" else f" {space}"
            start = "" if init is None else f" = {_expr(init, scope)}"
            type_ = _tensor(dtype, extents, scope.axes)
            return f"cell {_word(name)}: {type_}{kind}{' lanes' if lanes else ''}{start}"
        case loops.Store(target, index, value, mask):
            where = "" if mask is None else f" where {_expr(mask, scope)}"
            return f"{_element(target, index, scope)} = {_expr(value, scope)}{where}"
        case loops.Check(ok, site, value):
            return f"check {_expr(ok, scope)} site {site} value {_expr(value, scope)}"
        case loops.Call(function, views, sizes):
            args = ", ".join(_element(name, start, scope) for name, start in views)
            rest = f"; {', '.join(_size(s, scope.axes) for s in sizes)}" if sizes else ""
            return f"call {_word(function)}({args}{rest})"
    return "sync"


def _element(name: str, index: Sequence[Size], scope: _Scope) -> str:
    return f"{_word(name)}[{', '.join(_size(i, scope.axes) for i in index)}]"


# ------------------------------------------------------------------------------ expressions


@dataclass(slots=True)
class _Printer:
    """Prints the expressions of a numbering; ``names`` holds what stands for some."""

    numbering: Numbering
    scope: _Scope
    names: dict[int, str] = field(default_factory=dict)

    def print(self, number: int, level: int = 0) -> str:
        """Print an expression, in parentheses if it binds less tightly than ``level``."""
        if number in self.names:
            return self.names[number]
        e, inner = self.numbering.exprs[number], self.numbering.parts[number]
        match e:
            case Const():
                return _literal(e)
            case Position(index, dtype):
                return f"{dtype}{{{_size(index, self.scope.axes)}}}"
            case loops.Local(name):
                return _word(name)
            case loops.Load(source, index, _, mask, other):
                text = _element(source, index, self.scope)
                if mask is None:
                    return text
                rest = "" if other is None else f" else {self.print(inner[-1])}"
                return f"({text} if {self.print(inner[0])}{rest})"
            case loops.Fold(op):
                return f"fold.{op}({self.print(inner[0])})"
            case loops.Op():
                return self.operation(e, inner, level)

    def operation(self, e: loops.Op, inner: tuple[int, ...], level: int) -> str:
        """Print an operation: infix where it has a sign, else as a call."""
        args = ", ".join(self.print(a) for a in inner)
        if e.name in ("cast", "bitcast") and len(inner) == 1:
            return f"{'' if e.name == 'cast' else 'bits.'}{e.dtype}({args})"
        if not _is_plain(e):
            return f"{e.name}:{e.dtype}({args})"
        if e.name in INFIX and len(inner) == 2:
            sign, own = INFIX[e.name]
            left = self.print(inner[0], own + 1 if sign in _COMPARISONS else own)
            text = f"{left} {sign} {self.print(inner[1], own + 1)}"
            return text if own >= level else f"({text})"
        if e.name in _PREFIX and not isinstance(e.args[0], Const):
            return _PREFIX[e.name] + self.print(inner[0], _ATOMIC)
        return f"{e.name}({args})"


def _expr(root: loops.Expr, scope: _Scope) -> str:
    """Print an expression; what it uses twice, and what is too deep, is named first."""
    numbering = Numbering()
    last = numbering.number(root)
    uses = Counter(p for inner in numbering.parts for p in inner)
    depth: list[int] = []
    printer, lets = _Printer(numbering, scope), ""
    for number, inner in enumerate(numbering.parts):
        depth.append(max((depth[p] for p in inner), default=0) + 1)
        if inner and number != last and (uses[number] > 1 or depth[number] > DEEPEST):
            lets += f"!{len(printer.names)} = {printer.print(number)}; "
            printer.names[number] = f"!{len(printer.names)}"
            depth[number] = 0
    text = printer.print(last)
    return f"({lets}{text})" if lets else text


_COMPARISONS = frozenset({"==", "!=", "<", "<=", ">", ">="})


def _is_plain(e: loops.Op) -> bool:
    """Whether the type of an operation is the one that its operands give it."""
    try:
        return result_type(e.name, tuple(a.dtype for a in e.args)) is e.dtype
    except (ScalarTypeError, KeyError):
        return False


def _literal(e: Const) -> str:
    if e.dtype is DType.BOOL:
        return "true" if e.value else "false"
    if isinstance(e.value, float) and not math.isfinite(e.value):
        return f"{e.value!r}.{e.dtype}"
    return f"{e.value!r}{e.dtype}"


# ------------------------------------------------------------------------------------ sizes


def _size(size: Size, axes: frozenset[str] | None) -> str:
    if isinstance(size, int):
        return str(size)
    text = ""
    for monomial, c in sorted(size.terms, key=lambda t: (not t[0], [a.key for a in t[0]])):
        factors = [_atom(a, axes) for a in monomial]
        if abs(c) != 1 or not factors:
            factors.insert(0, str(abs(c)))
        sign = ("-" if c < 0 else "") if not text else (" - " if c < 0 else " + ")
        text += sign + "*".join(factors)
    return text


def _atom(atom: Atom, axes: frozenset[str] | None) -> str:
    match atom:
        case Axis(name):
            return _word(name) if axes is None or name in axes else f"@{_word(name)}"
        case Dim(name):
            return f"${_word(name)}" if axes is None or name in axes else _word(name)
        case FloorDiv(value, by):
            return f"(({_size(value, axes)})//{by})"
        case Mod(value, by):
            return f"(({_size(value, axes)})%{by})"
    raise ValueError(f"{atom.key} does not occur in loops")
