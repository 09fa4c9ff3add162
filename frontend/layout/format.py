"""The formatter: a file's words, broken into lines, indented, and written out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nnc.frontend import ast
from nnc.frontend.layout.columns import set_columns
from nnc.frontend.layout.lines import Line, break_lines
from nnc.frontend.layout.spacing import loose_products
from nnc.frontend.layout.words import CLOSING, Text, Word, read_words
from nnc.frontend.source import Source

if TYPE_CHECKING:
    from lark import Token, Tree

INDENT = 4


def format_source(text: str, name: str = "model.nn") -> str:
    """Return a model file's text in the one style; ``docs/editors.md`` describes it.

    What the text means, its words and its comments stay. Raises SourceError, with every syntax
    error, where it is not a program.
    """
    from nnc.frontend.parser import parse_tree

    source = Source(name, text)
    tree, file = parse_tree(source)
    result = lay_out(source, tree)
    if result != source.text:
        _, again = parse_tree(Source(name, result))
        if not ast.same(file, again):
            raise AssertionError(f"formatting {name} would change its meaning")
    return result


def lay_out(source: Source, tree: Tree[Token]) -> str:
    """Return the text of a parsed file, laid out."""
    text = read_words(source, tree)
    lines, below = break_lines(text)
    if lines:
        set_columns(text, lines, loose_products(text.words))
    _Indenter(text, lines).run()
    return _written(text, lines, below)


def _written(text: Text, lines: Sequence[Line], below: Sequence[str]) -> str:
    rows: list[str] = []
    for line in lines:
        inner = line.indent
        if text.words[line.first].kind in CLOSING:
            inner = line.inner
        rows += [" " * inner + row if row else "" for row in line.above]
        rows.append(" " * line.indent + _row(text.words, line))
    rows += below
    return "".join(row + "\n" for row in rows)


def _row(words: Sequence[Word], line: Line) -> str:
    parts: list[str] = []
    at = 0
    for k in range(line.first, line.last):
        parts.append(" " * (line.columns[k] - at) + words[k].text)
        at = line.columns[k] + len(words[k].text)
    if line.comment is not None:
        parts.append(" " * (line.comment_at - at) + line.comment)
    return "".join(parts)


class _Indenter:
    """Settles where each line begins, from the first to the last.

    A line in a block stands one step in from the block's own; one that goes on with a statement,
    a step further. Inside brackets lines stand under the first word after the bracket, or a step
    in from the line of the bracket where that ends its line, or where they were written further
    to the left than it.
    """

    def __init__(self, text: Text, lines: Sequence[Line]) -> None:
        self._words = text.words
        self._partner = text.partner
        self._lines = lines
        self._line_of = {k: line for line in lines for k in range(line.first, line.last)}
        self._content: dict[int, tuple[int, int]] = {}
        self._block_of = self._blocks()
        self._header: dict[int, int] = {}

    def run(self) -> None:
        """Fill in ``indent`` of every line."""
        statement = 0
        for line in self._lines:
            head = self._words[line.first]
            block = self._block_of[line.first]
            if head.heads == "statement":
                statement = line.first
            if line.frame >= 0 and not self._words[line.frame].holds_statements:
                closing, content = self._inside(line)
                line.inner = content
                line.indent = closing if head.kind in CLOSING else content
            elif head.kind in CLOSING:
                line.indent, line.inner = block, block + INDENT
            else:
                line.indent = block + (self._further(line, statement) if line.continues else 0)

    def _blocks(self) -> list[int]:
        """Return for every word how far the statements of its block are indented."""
        depth, found = 0, []
        for word in self._words:
            if word.holds_statements and word.kind == "RBRACE":
                depth -= 1
            found.append(depth * INDENT)
            if word.holds_statements and word.kind == "LBRACE":
                depth += 1
        return found

    def _at(self, k: int) -> int:
        """Return the column of a word whose line is settled."""
        line = self._line_of[k]
        return line.indent + line.columns[k]

    def _inside(self, line: Line) -> tuple[int, int]:
        """Return where the bracket around a line closes, and where its lines stand."""
        frame = line.frame
        if frame not in self._content:
            outer = self._line_of[frame]
            bracket, head = self._words[frame], self._words[line.first]
            hanging = outer.last == frame + 1
            near = outer.columns[frame] <= INDENT
            if hanging or (not near and head.column < bracket.column):
                self._content[frame] = (outer.indent, outer.indent + INDENT)
            else:
                self._content[frame] = (self._at(frame), self._at(frame + 1))
        return self._content[frame]

    def _further(self, line: Line, statement: int) -> int:
        """Return how much further in a line stands that goes on with a statement."""
        head, block = self._words[line.first], self._block_of[line.first]
        before = self._words[line.first - 1]
        if head.kind in ("ELSE", "WITH") and before.kind == "RBRACE":
            return 0 if before.holds_statements else INDENT
        if head.kind in ("CARRY", "UNTIL"):
            scan = next(k for k in range(line.first, -1, -1) if self._words[k].kind == "SCAN")
            return self._at(scan) - block
        if head.kind == "LPAR" and head.rule == "params":
            self._header[statement] = line.first
            return self._at(self._partner[line.first - 1]) - block
        if head.kind == "ARROW" and statement in self._header:
            return self._at(self._header[statement]) - len("-> ") - block
        return INDENT
