"""Lines of the text of a loop program: tokens, names, types and sizes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from nnc.ir.index import Size, axis, dim, floordiv, mod
from nnc.ir.span import Span
from nnc.ir.types import DType

# Each infix operation: its sign and how tightly it binds.
INFIX = {
    "or": ("|", 1), "xor": ("^", 2), "and": ("&", 3),
    "eq": ("==", 4), "ne": ("!=", 4), "lt": ("<", 4), "le": ("<=", 4), "gt": (">", 4),
    "ge": (">=", 4), "shl": ("<<", 5), "shr": (">>", 5), "add": ("+", 6), "sub": ("-", 6),
    "mul": ("*", 7), "div": ("/", 7), "floordiv": ("//", 7), "mod": ("%", 7),
}  # fmt: skip
SIGNS = {sign: (op, level) for op, (sign, level) in INFIX.items()}
DTYPES = {dtype.value: dtype for dtype in DType}
# Words that cannot be names where a statement or an operand begins.
RESERVED = frozenset(
    {*DTYPES, "true", "false", "inf", "nan", "if", "else", "for", "let", "cell", "check", "call"}
    | {"sync"}
)

_TOKEN = re.compile(
    r"""(?P<space>[ ]+)|(?P<named>![0-9]+)|(?P<string>"(?:[^"\\]|\\.)*")
    |(?P<special>(?:inf|nan)\.(?:f64|f32|f16|bf16))\b
    |(?P<number>[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?)(?P<suffix>(?:b?f[0-9]{2}|[iu][0-9]{1,2})\b)?
    |(?P<word>[A-Za-z_][\w.]*)
    |(?P<sign>//|==|!=|<=|>=|<<|>>|[-+*/%<>=()\[\]{},;:$@|&^~])""",
    re.VERBOSE,
)
T = TypeVar("T")


class LoopSyntaxError(ValueError):
    """Text that is not a loop program; the message tells the line and quotes it."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token: its kind, its text, and the type at the end of a number."""

    kind: str
    text: str
    suffix: str = ""


@dataclass(slots=True)
class Scope:
    """What names stand for: axes, values with their types, tensors with theirs."""

    axes: frozenset[str] = frozenset()
    values: dict[str, DType] = field(default_factory=dict)
    tensors: dict[str, DType] = field(default_factory=dict)

    def inner(self, *axes: str) -> Scope:
        """A scope for a nested block, with these axes besides."""
        return Scope(self.axes.union(axes), dict(self.values), dict(self.tensors))


class Line:
    """One line: its indentation, and a cursor over its tokens."""

    def __init__(self, number: int, raw: str) -> None:
        self.number, self.raw = number, raw
        self.indent = len(raw) - len(raw.lstrip(" "))
        self.tokens: list[Token] = []
        self.at = 0
        place = self.indent
        while place < len(raw):
            match = _TOKEN.match(raw, place)
            if match is None:
                raise self.fault(f"unexpected {raw[place]!r}")
            kind = next(k for k, v in match.groupdict().items() if v is not None)
            if kind != "space":
                self.tokens.append(Token(kind, match[kind], match["suffix"] or ""))
            place = match.end()

    def fault(self, what: str) -> LoopSyntaxError:
        """The error that ``what`` is wrong on this line."""
        return LoopSyntaxError(f"line {self.number}: {what}: {self.raw.strip()}")

    @property
    def next(self) -> Token:
        """The token that comes next; of kind ``end`` at the end."""
        return self.tokens[self.at] if self.at < len(self.tokens) else Token("end", "")

    def take(self) -> Token:
        """Pass over the next token and return it."""
        token = self.next
        self.at += 1
        return token

    def accept(self, text: str) -> bool:
        """Pass over ``text`` if it comes next (a quoted name does not count)."""
        if self.next.kind in ("sign", "word") and self.next.text == text:
            self.at += 1
            return True
        return False

    def expect(self, text: str) -> None:
        """Pass over ``text``. Raises LoopSyntaxError if something else comes."""
        if not self.accept(text):
            raise self.fault(f"{text!r} expected, not {self.next.text!r}")

    def end(self) -> None:
        """Raise LoopSyntaxError unless the line is read to its end."""
        if self.next.kind != "end":
            raise self.fault(f"unexpected {self.next.text!r}")

    def name(self) -> str:
        """Read a name, quoted or not."""
        token = self.take()
        if token.kind == "string":
            return str(json.loads(token.text))
        if token.kind == "word" and token.text not in RESERVED:
            return token.text
        raise self.fault(f"a name expected, not {token.text!r}")

    def word(self) -> str:
        """Read a word, reserved or not."""
        token = self.take()
        if token.kind != "word":
            raise self.fault(f"a word expected, not {token.text!r}")
        return token.text

    def whole(self) -> int:
        """Read a whole number without a type."""
        token = self.take()
        if token.kind != "number" or token.suffix or not token.text.isdigit():
            raise self.fault(f"a whole number expected, not {token.text!r}")
        return int(token.text)

    def listed(self, item: Callable[[], T], close: str = "") -> tuple[T, ...]:
        """Items between commas, up to ``close`` if there is one."""
        if close and self.accept(close):
            return ()
        found = [item()]
        while self.accept(","):
            found.append(item())
        if close:
            self.expect(close)
        return tuple(found)

    def names(self, before: str) -> tuple[str, ...]:
        """Read names between commas if the word ``before`` comes."""
        return self.listed(self.name) if self.accept(before) else ()

    def span(self) -> Span | None:
        """Read ``at "file":start:end`` if it comes."""
        if not self.accept("at"):
            return None
        file = self.name()
        self.expect(":")
        start = self.whole()
        self.expect(":")
        return Span(file, start, self.whole())

    def dtype(self) -> DType:
        """Read an element type."""
        text = self.word()
        if text not in DTYPES:
            raise self.fault(f"an element type expected, not {text!r}")
        return DTYPES[text]

    # sizes --------------------------------------------------------------------------------

    def size(self, scope: Scope) -> Size:
        """Read a sum of products of names, whole numbers, quotients and remainders."""
        total: Size = -self._product(scope) if self.accept("-") else self._product(scope)
        while self.next.text in ("+", "-"):
            minus = self.take().text == "-"
            term = self._product(scope)
            total = total - term if minus else total + term
        return total

    def _product(self, scope: Scope) -> Size:
        total = self._factor(scope)
        while self.next.text in ("*", "//", "%"):
            sign = self.take().text
            if sign == "*":
                total = total * self._factor(scope)
            else:
                total = (floordiv if sign == "//" else mod)(total, self.whole())
        return total

    def _factor(self, scope: Scope) -> Size:
        if self.accept("("):
            inner = self.size(scope)
            self.expect(")")
            return inner
        if self.accept("$"):
            return dim(self.name())
        if self.accept("@"):
            return axis(self.name())
        if self.next.kind == "number":
            return self.whole()
        name = self.name()
        return axis(name) if name in scope.axes else dim(name)

    def sizes(self, scope: Scope, close: str) -> tuple[Size, ...]:
        """Read sizes between commas, up to ``close``."""
        return self.listed(lambda: self.size(scope), close)

    def tensor(self, scope: Scope) -> tuple[DType, tuple[Size, ...]]:
        """Read an element type and the extents that may follow it in brackets."""
        dtype = self.dtype()
        return dtype, self.sizes(scope, "]") if self.accept("[") else ()
