"""Where lines begin and end: the writer's own breaks, but for a few that the style settles.

A block of several lines has its braces at the ends of lines; ``else`` and ``with gradient`` follow
the brace before them; blank lines stand alone, never at the edge of a block, and always around a
declaration of several lines.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from nnc.frontend.layout.words import CLOSING, OPENING, Gap, Text

_JOINED = frozenset({"ELSE", "WITH"})


@dataclass(slots=True)
class Line:
    """Words ``first`` to ``last`` (exclusive) on one line, and the comment that ends it.

    ``above`` are the comments and blank lines before it. ``frame`` is the opening bracket that it
    stands in (-1 outside all); ``continues`` tells that it does not begin a statement there.
    """

    first: int
    last: int
    above: list[str]
    frame: int
    continues: bool
    comment: str | None = None
    comment_column: int = 0
    columns: dict[int, int] = field(default_factory=dict)
    """For each word, its place from the line's first word."""
    comment_at: int = 0
    indent: int = 0
    inner: int = 0
    """Where comments above a closing bracket stand."""


def break_lines(text: Text) -> tuple[list[Line], list[str]]:
    """Return the lines of code, and the comments and blank lines after the last."""
    lines: list[Line] = []
    stack: list[int] = []
    items = _items_of_several_lines(text)
    for k, word in enumerate(text.words):
        gap = text.gaps[k]
        if word.kind in CLOSING and not _breaks(text, k):
            stack.pop()
        if k == 0 or _breaks(text, k):
            if lines:
                lines[-1].last = k
                lines[-1].comment = gap.trailing
                lines[-1].comment_column = gap.trailing_column
            above = _tidy(gap, opens=_opens(text, k), closes=word.kind in CLOSING)
            if k in items and lines and "" not in above:
                above.insert(0, "")
            frame = stack[-1] if stack else -1
            continues = word.heads != "statement" and word.kind not in CLOSING
            lines.append(Line(k, len(text.words), above, frame, continues))
            if word.kind in CLOSING:
                stack.pop()
        if word.kind in OPENING:
            stack.append(k)
    end = text.gaps[-1]
    if lines:
        lines[-1].comment, lines[-1].comment_column = end.trailing, end.trailing_column
    return lines, _tidy(end, opens=not lines, closes=True)


def _opens(text: Text, k: int) -> bool:
    return k == 0 or text.words[k - 1].kind in OPENING


def _tidy(gap: Gap, *, opens: bool, closes: bool) -> list[str]:
    """Return a gap's lines with single blank ones, and none where a block opens or closes."""
    kept: list[str] = []
    for line in gap.lines:
        if line or (kept[-1] if kept else not opens):
            kept.append(line)
    while closes and kept and not kept[-1]:
        kept.pop()
    return kept


def _breaks(text: Text, k: int) -> bool:
    """Whether word ``k`` begins a line."""
    if k == 0:
        return False
    word, before, gap = text.words[k], text.words[k - 1], text.gaps[k]
    if gap.has_comments:
        return True
    if before.kind == "LBRACE" and word.kind == "RBRACE":
        return False
    if word.kind in _JOINED and before.kind == "RBRACE" and before.holds_statements:
        return False
    for brace, at in ((before, k - 1), (word, k)):
        edge = brace.kind == ("LBRACE" if at < k else "RBRACE")
        if edge and brace.holds_statements and _spreads(text, at):
            return True
    return gap.broken


def _spreads(text: Text, brace: int) -> bool:
    """Whether a block is written on several lines."""
    first, last = sorted((brace, text.partner[brace]))
    return any(gap.broken for gap in text.gaps[first + 1 : last + 1])


def _items_of_several_lines(text: Text) -> set[int]:
    """Return the first words of declarations that want a blank line before them."""
    depth, heads = 0, []
    for k, word in enumerate(text.words):
        if word.heads == "statement" and depth == 0:
            heads.append(k)
        depth += (word.kind in OPENING) - (word.kind in CLOSING)
    ends = [*heads, len(text.words)][1:]
    spread = [
        any(_breaks(text, k) for k in range(start + 1, end))
        for start, end in zip(heads, ends, strict=True)
    ]
    return {heads[n] for n in range(1, len(heads)) if spread[n] or spread[n - 1]}
