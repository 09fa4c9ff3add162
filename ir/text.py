"""Prints graphs as text that ``parse_graph`` reads back.

    graph step
      %0 = leaf input:image : f32[batch, 64]
      %1 = leaf state:fc.weight : f32[64, 128]
      %2 = sum[b < batch, j < 128, p < 64] out[b, j] (%0[b, p] * %1[p, j]) : f32[batch, 128]
      output output:h = %2

A form reads ``reduction[axes] out[subscripts] where (filter) (body)``. ``drops`` after the
subscripts lets stores fall outside. In a body ``%0[i - 1]`` is a read, ``(%0[i - 1] else 0)`` a
guarded one, ``f32(x)`` a cast, ``f32{i + 1}`` a subscript as a number, ``1.0f32`` a literal, and
``(!0 = a * b; !0 + !0)`` names what is used more than once. Operands that are not in the order
of their first use are listed after the reduction; where one occurs twice, reads say ``#k`` for
operand number k. A name that could be an axis or a dim is an axis of the form, unless spelled
``$name`` (a dim) or ``@name`` (an axis). ``loop L < n carry (h) reverse`` declares a loop, ``&L``
is its counter and ``leaf carry:L.h`` its carry; ``last L.h (inits) (nexts)``, ``history L.h ...``
and ``stack L (inits) (nexts) %5`` are its results. From ``#`` and a
space to the end of a line is comment.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nnc.ir.expr import Apply, Const, Expr, Loaded, Number, Position, Read, walk
from nnc.ir.graph import Custom, Derivative, Form, Graph, Leaf, Literal, Loop, Node, Reshape, Scan
from nnc.ir.index import Atom, Axis, Dim, FloorDiv, Mod, Poly, Size
from nnc.ir.index import Counter as Turn
from nnc.ir.text_parse import INFIX, RESERVED, GraphSyntaxError, parse_graph
from nnc.ir.types import TensorType

__all__ = ["GraphSyntaxError", "parse_graph", "print_expr", "print_graph", "print_node"]

DEEPEST = 40
"""Expressions nested deeper than this are named, so that lines and the parser stay shallow."""

_PLAIN = re.compile(r"[A-Za-z_][\w.']*")
_PLACE = re.compile(r"[\w.*:/+-]+")
_OPERAND = re.compile(r"%\d+|#\d+")
_ATOMIC = 9


def print_graph(graph: Graph, *, spans: bool = False) -> str:
    """Return the text of ``graph``; with ``spans``, where each node was written as a comment."""
    order = everything(graph)
    numbers = {node: k for k, node in enumerate(order)}
    lines = [f"graph {_word(graph.name)}"]
    loops = dict.fromkeys(n.op.loop for n in order if isinstance(n.op, Scan))
    lines += [_loop(loop) for loop in loops]
    lines += [f"  fact {_size(fact, _Scope())}" for fact in graph.facts]
    for node in order:
        span = f"  # {node.span.file}:{node.span.start}" if spans and node.span else ""
        lines.append(f"  {print_node(node, numbers)}{span}")
    lines += [f"  output {_place(o.space, o.name)} = %{numbers[o.node]}" for o in graph.outputs]
    return "\n".join(lines) + "\n"


def _loop(loop: Loop) -> str:
    carries = ", ".join(_word(c) for c in loop.carries)
    words = "".join(f" {w}" for w in ("reverse", "until") if getattr(loop, w))
    return f"  loop {_word(loop.name)} < {_size(loop.extent, _Scope())} carry ({carries}){words}"


def everything(graph: Graph) -> list[Node]:
    """All nodes, operands and the written derivatives of ``Custom`` before their users."""
    order: dict[Node, None] = {}
    stack = [(o.node, False) for o in reversed(graph.outputs)]
    while stack:
        node, ready = stack.pop()
        if node in order:
            continue
        if ready:
            order[node] = None
            continue
        written = node.op.gradients if isinstance(node.op, Custom) else ()
        below = (*node.inputs, *(g for g in written if g is not None))
        stack.append((node, True))
        stack.extend((i, False) for i in reversed(below) if i not in order)
    return list(order)


def print_node(node: Node, numbers: dict[Node, int]) -> str:
    """Return the line of one node; nodes without a number print as ``%?``."""
    number = numbers.get(node, "?")
    operands = [f"%{numbers.get(i, '?')}" for i in node.inputs]
    name = f" {json.dumps(node.name)}" if node.name != _usual_name(node) else ""
    return f"%{number} = {_op(node, operands, numbers)} : {_type(node.type)}{name}"


def print_expr(expr: Expr, operands: Sequence[str] = (), axes: Iterable[str] = ()) -> str:
    """Return the text of an expression; ``operands`` are names to print for its reads."""
    return _expr(expr, _Scope(frozenset(axes), tuple(operands)))


def _usual_name(node: Node) -> str:
    return node.op.name if isinstance(node.op, Leaf) else ""


def _op(node: Node, operands: list[str], numbers: dict[Node, int]) -> str:
    match node.op:
        case Leaf(space, name):
            return f"leaf {_place(space, name)}"
        case Literal(values):
            return f"literal [{', '.join(_number(v) for v in values)}]"
        case Derivative():
            return f"derivative {', '.join(operands)}"
        case Reshape():
            return f"reshape {', '.join(operands)}"
        case Custom(name, gradients):
            written = ("-" if g is None else f"%{numbers.get(g, '?')}" for g in gradients)
            return f"custom {json.dumps(name)} ({', '.join(operands)}) ({', '.join(written)})"
        case Scan(loop, result, carry):
            n = len(loop.carries)
            parts = [f"{result} {_word(f'{loop.name}.{carry}' if carry else loop.name)}"]
            parts += [f"({', '.join(part)})" for part in (operands[:n], operands[n : 2 * n])]
            return " ".join([*parts, *operands[2 * n :]])
        case Form() as form:
            return _form(form, operands)


def _form(form: Form, operands: list[str]) -> str:
    distinct = len(set(operands)) == len(operands)
    names = operands if distinct else [f"#{k}" for k in range(len(operands))]
    scope = _Scope(frozenset(name for name, _ in form.axes), tuple(names))
    axes = ", ".join(f"{_word(name)} < {_size(extent, _Scope())}" for name, extent in form.axes)
    parts = [f"[{axes}] out[{_sizes(form.out, scope)}]"]
    if form.drops:
        parts.append("drops")
    if form.where is not None:
        parts.append(f"where ({_expr(form.where, scope)})")
    parts.append(f"({_expr(form.body, scope)})")
    text = " ".join(parts)
    plain = distinct and list(dict.fromkeys(_OPERAND.findall(text))) == names
    listed = "" if plain else f"({', '.join(operands)})"
    return f"{form.reduce}{listed}{text}"


# ----------------------------------------------------------------------------- subscripts


@dataclass(frozen=True, slots=True)
class _Scope:
    """Names in reach of a subscript."""

    axes: frozenset[str] = frozenset()
    operands: tuple[str, ...] = ()

    def operand(self, number: int) -> str:
        return self.operands[number] if number < len(self.operands) else f"#{number}"


def _type(type: TensorType) -> str:
    return f"{type.dtype}[{_sizes(type.shape, _Scope())}]"


def _sizes(values: Iterable[Size], scope: _Scope) -> str:
    return ", ".join(_size(v, scope) for v in values)


def _size(value: Size, scope: _Scope) -> str:
    if isinstance(value, int):
        return str(value)
    text = ""
    for monomial, c in sorted(value.terms, key=lambda t: (not t[0], [a.key for a in t[0]])):
        factors = [_atom(a, scope) for a in monomial]
        if abs(c) != 1 or not factors:
            factors.insert(0, str(abs(c)))
        sign = " - " if c < 0 else " + "
        text += (sign if text else sign.strip(" +")) + "*".join(factors)
    return text


def _atom(atom: Atom, scope: _Scope) -> str:
    match atom:
        case Turn(name):
            return f"&{_word(name)}"
        case Dim(name):
            return f"${_word(name)}" if name in scope.axes else _word(name)
        case Axis(name):
            return _word(name) if name in scope.axes else f"@{_word(name)}"
        case FloorDiv(value, by):
            return f"({_dividend(value, scope)} // {by})"
        case Mod(value, by):
            return f"({_dividend(value, scope)} % {by})"
        case Loaded(read):
            return _read(read, scope)
    raise TypeError(f"no text for {atom!r}")


def _dividend(value: Poly, scope: _Scope) -> str:
    single = len(value.terms) == 1 and value.terms[0][1] > 0
    return _size(value, scope) if single else f"({_size(value, scope)})"


def _read(read: Read, scope: _Scope) -> str:
    operand = scope.operand(read.operand)
    text = f"{operand}[{_sizes(read.index, scope)}]"
    return text if read.outside is None else f"({text} else {_number(read.outside)})"


# ---------------------------------------------------------------------------- expressions


def _expr(expr: Expr, scope: _Scope) -> str:
    order = list(walk(expr))
    uses = Counter(a for e in order if isinstance(e, Apply) for a in e.args)
    texts: dict[Expr, tuple[str, int]] = {}
    depth: dict[Expr, int] = {}
    lets: list[str] = []
    for e in order:
        texts[e] = _one(e, texts, scope)
        if isinstance(e, Apply):
            depth[e] = 1 + max((depth.get(a, 0) for a in e.args), default=0)
            if e is not order[-1] and (uses[e] > 1 or depth[e] >= DEEPEST):
                lets.append(f"!{len(lets)} = {texts[e][0]}; ")
                texts[e], depth[e] = (f"!{len(lets) - 1}", _ATOMIC), 0
    return "".join(lets) + texts[expr][0]


def _one(e: Expr, texts: dict[Expr, tuple[str, int]], scope: _Scope) -> tuple[str, int]:
    """Return the text of ``e`` and how tightly it binds."""
    match e:
        case Const(value, dtype):
            if isinstance(value, bool):
                return _number(value), _ATOMIC
            dot = "." if _number(value)[-1].isalpha() else ""
            return f"{_number(value)}{dot}{dtype}", _ATOMIC
        case Position(index, dtype):
            return f"{dtype}{{{_size(index, scope)}}}", _ATOMIC
        case Read():
            return _read(e, scope), _ATOMIC
        case Apply("cast", (arg,), dtype):
            return f"{dtype}({_inside(arg, 0, texts)})", _ATOMIC
        case Apply("bitcast", (arg,), dtype):
            return f"bitcast[{dtype}]({_inside(arg, 0, texts)})", _ATOMIC
        case Apply("select", (c, a, b)):
            parts = [_inside(x, 1, texts) for x in (c, a, b)]
            return f"if {parts[0]} then {parts[1]} else {parts[2]}", 0
        case Apply(op, (a, b)) if op in INFIX:
            sign, level = INFIX[op]
            return f"{_inside(a, level, texts)} {sign} {_inside(b, level + 1, texts)}", level
        case Apply(op, args):
            return f"{op}({', '.join(_inside(a, 0, texts) for a in args)})", _ATOMIC


def _inside(e: Expr, level: int, texts: dict[Expr, tuple[str, int]]) -> str:
    text, own = texts[e]
    return text if own >= level else f"({text})"


def _number(value: Number) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _word(name: str) -> str:
    return name if _PLAIN.fullmatch(name) and name not in RESERVED else f"`{name}`"


def _place(space: str, name: str) -> str:
    return f"{space}:{name if _PLACE.fullmatch(name) else json.dumps(name)}"
