"""What the formatter works on: the words of a file in their order, and what stands between them.

A word is a token with the grammar rule that took it, which tells a minus that subtracts from one
that negates and a brace that holds statements from one that holds a record. Comments and blank
lines are no words: they lie in the gaps.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nnc.frontend.source import Source

if TYPE_CHECKING:
    from lark import Token, Tree

OPENING = {"LPAR": "RPAR", "LSQB": "RSQB", "LBRACE": "RBRACE"}
CLOSING = frozenset(OPENING.values())
_STATEMENTS = frozenset({"start", "block", "entries"})
_PART = re.compile(r"#[^\n]*|\n")


@dataclass(frozen=True, slots=True)
class Word:
    """One token: its type, text, rule, and where it stands in the source.

    ``column`` counts characters from the start of the line, ``blanks`` those before it that are
    blank. ``heads`` is ``statement`` or ``entry`` (of a record) where it is the first word of one.
    """

    kind: str
    text: str
    rule: str
    start: int
    end: int
    column: int
    blanks: int
    heads: str = ""

    @property
    def holds_statements(self) -> bool:
        """Whether this is a brace around statements or settings."""
        return self.rule in ("block", "entries") and self.kind in ("LBRACE", "RBRACE")


@dataclass(slots=True)
class Gap:
    """What stands between two words.

    ``trailing`` is the comment that ends the line of the word before; ``lines`` are the comments
    on lines of their own, and an empty text for each blank line.
    """

    trailing: str | None = None
    trailing_column: int = 0
    lines: list[str] = field(default_factory=list)
    broken: bool = False

    @property
    def has_comments(self) -> bool:
        """Whether any comment lies here."""
        return self.trailing is not None or any(self.lines)


@dataclass(frozen=True, slots=True)
class Text:
    """The words of a file, the gaps before each and after the last, and which brackets pair."""

    words: tuple[Word, ...]
    gaps: tuple[Gap, ...]
    partner: dict[int, int]
    """The place of the closing bracket by that of the opening one, and the other way round."""


def read_words(source: Source, tree: Tree[Token]) -> Text:
    """Return the words of a file without syntax errors."""
    words = _words(source, tree)
    ends = [0, *(word.end for word in words)]
    starts = [*(word.start for word in words), len(source.text)]
    gaps = tuple(
        _gap(source, start, end, first=k == 0)
        for k, (start, end) in enumerate(zip(ends, starts, strict=True))
    )
    return Text(words, gaps, _partners(words))


def _words(source: Source, tree: Tree[Token]) -> tuple[Word, ...]:
    from lark import Token

    found: list[Word] = []
    work: list[tuple[Tree[Token] | Token, str, str]] = [(tree, "", "")]
    while work:
        node, rule, heads = work.pop()
        if not isinstance(node, Token):
            inside = str(node.data)
            below = "statement" if inside in _STATEMENTS else ""
            first = "entry" if inside == "record_entry" else heads
            for k, child in reversed(list(enumerate(node.children))):
                own = below if not isinstance(child, Token) else ""
                work.append((child, inside, own or (first if k == 0 else "")))
        elif node.type != "_NL":
            start, end = node.start_pos or 0, node.end_pos or 0
            column = start - source.text.rfind("\n", 0, start) - 1
            previous = found[-1].end if found else 0
            blanks = min(column, start - previous)
            found.append(Word(node.type, str(node), rule, start, end, column, blanks, heads))
    return tuple(found)


def _gap(source: Source, start: int, end: int, *, first: bool) -> Gap:
    gap, line = Gap(), "" if first else None
    for match in _PART.finditer(source.text, start, end):
        if match[0] != "\n":
            line = match[0].rstrip()
            if not gap.broken and not first:
                gap.trailing, line = line, None
                gap.trailing_column = match.start() - source.text.rfind("\n", 0, match.start()) - 1
        else:
            if line is not None:
                gap.lines.append(line)
            line, gap.broken = "", True
    if line:
        gap.lines.append(line)
        gap.broken = True
    return gap


def _partners(words: tuple[Word, ...]) -> dict[int, int]:
    partner: dict[int, int] = {}
    stack: list[int] = []
    for k, word in enumerate(words):
        if word.kind in OPENING:
            stack.append(k)
        elif word.kind in CLOSING:
            opening = stack.pop()
            partner[opening], partner[k] = k, opening
    return partner
