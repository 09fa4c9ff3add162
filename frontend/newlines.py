"""Which newlines end a statement.

A newline does not count inside ``( )`` and ``[ ]``, nor after a token that cannot end a statement.
Those before a token that cannot begin one are left out by the grammar itself (``_CONT``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from lark import Token

OPENING = {"LPAR": ")", "LSQB": "]", "LBRACE": "}"}
CLOSING = frozenset({"RPAR", "RSQB", "RBRACE"})
# after these a statement goes on
_OPEN_ENDED = frozenset({
    "EQUAL", "COMMA", "LT", "CMP", "PLUS", "MINUS", "MUL", "POWER", "AND", "OR", "NOT", "THEN",
    "ELSE", "PIPE", "ARROW",
})  # fmt: skip


class KeepNewlines:
    """Tells Lark's contextual lexer to look for newlines everywhere, and changes nothing."""

    always_accept: ClassVar[tuple[str, ...]] = ("_NL",)

    def process(self, stream: Iterator[Token]) -> Iterator[Token]:
        """Return the tokens as they are; the reader drops newlines, which needs its state."""
        return stream


class Newlines:
    """Follows the brackets of one parse and tells which newline tokens to drop."""

    def __init__(self) -> None:
        self._open: list[str] = []
        self._previous = ""

    def drops(self, token: Token) -> bool:
        """Whether ``token`` is a newline that ends nothing."""
        if token.type != "_NL":
            return False
        inside = bool(self._open) and self._open[-1] != "LBRACE"
        return inside or self._previous in _OPEN_ENDED

    def shift(self, token: Token) -> None:
        """Take note of a token that the parser has accepted."""
        self._previous = token.type
        if token.type in OPENING:
            self._open.append(token.type)
        elif token.type in CLOSING and self._open:
            self._open.pop()

    def reset(self, open_brackets: Iterable[str]) -> None:
        """Go on after an error, inside these brackets (token types, outermost first)."""
        self._open = list(open_brackets)
        self._previous = ""
