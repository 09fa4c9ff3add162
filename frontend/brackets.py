"""Brackets and quotes are matched before anything is parsed.

A bracket left open makes a parser fail far from the mistake, so this goes first: it reports each
bracket and quote without its partner at both ends, and mends the text (keeping a map back to the
original) so that the parser can find the file's other errors.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from nnc.frontend.diagnostics import Diagnostic, Diagnostics
from nnc.frontend.edits import replacing
from nnc.frontend.source import Source

MAX_DEPTH = 100
FOUND_FIRST = "this is found first"
_MAX_ERRORS = 50
_MAX_UNCLOSED = 5  # a text that leaves more open than this is not worth a line for each
_PAIRS = {"(": ")", "[": "]", "{": "}"}
# the head of a top-level item at the start of a line: nothing can be open there
_ITEM = r"(?m:^)(?:import|model|train|fn|layer|optimizer|schedule|test)(?=[ \t]+[A-Za-z_\"])"
_BLANK = re.compile(r"[ \t]*")
_TOKEN = re.compile(rf'"(?:[^"\\\n]|\\.)*"|"[^\n]*|#[^\n]*|[()\[\]{{}}]|{_ITEM}')


@dataclass(frozen=True, slots=True)
class Repaired:
    """A text with matched brackets, and the way back to the text it was made from.

    ``edits`` are (start, end, replacement) in the original, in order. ``doubtful`` are stretches
    of the original in which further errors are likely to follow from one already reported.
    """

    text: str
    edits: tuple[tuple[int, int, str], ...] = ()
    doubtful: tuple[tuple[int, int], ...] = ()

    def original(self, offset: int) -> int:
        """Return the place in the original text of a place in this one."""
        shift = 0
        for start, end, new in self.edits:
            if offset + shift < start:
                break
            if offset + shift < start + len(new):
                return min(start, end)
            shift += (end - start) - len(new)
        return offset + shift

    def trusted(self, offset: int) -> bool:
        """Whether an error at this place of the original is worth reporting."""
        return not any(start <= offset <= end for start, end in self.doubtful)


@dataclass(frozen=True, slots=True)
class _Open:
    """An opening bracket, and the indentation of its line."""

    sign: str
    at: int
    indent: int


@dataclass(slots=True)
class _Matcher:
    source: Source
    diagnostics: Diagnostics
    stack: list[_Open] = field(default_factory=list)
    edits: list[tuple[int, int, str]] = field(default_factory=list)
    doubtful: list[tuple[int, int]] = field(default_factory=list)
    unclosed: int = 0

    def run(self) -> bool:
        """Match everything; False where so much is wrong that the rest is not worth reading."""
        for match in _TOKEN.finditer(self.source.text):
            self._token(match)
            if len(self.diagnostics) >= _MAX_ERRORS:
                return False
        self._leave_all(len(self.source.text), "the file ends here")
        return True

    def _token(self, match: re.Match[str]) -> None:
        text, at = match.group(), match.start()
        if text in _PAIRS:
            self.stack.append(_Open(text, at, self._indent(at)))
        elif text in ")]}":
            self._close(text, at)
        elif text[0] == '"':
            if len(text) == 1 or text[-1] != '"' or not _whole_string(text):
                self._open_string(text, at)
        elif text[0] != "#":
            self._leave_all(at, "another declaration begins here")

    def _close(self, sign: str, at: int) -> None:
        self._leave_deeper_blocks(sign, at)
        if self.stack and _PAIRS[self.stack[-1].sign] == sign:
            self.stack.pop()
        elif any(_PAIRS[o.sign] == sign for o in self.stack):
            while _PAIRS[self.stack[-1].sign] != sign:
                self._leave(at, FOUND_FIRST)
            self.stack.pop()
        elif self.stack:
            self._wrong_pair(self.stack.pop(), sign, at)
        else:
            self._nothing_open(sign, at)

    def _leave_deeper_blocks(self, sign: str, at: int) -> None:
        """Where a `}` stands under the line of an outer `{`, the inner ones lack theirs."""
        indent = at - self._line_start(at)
        if sign != "}" or self.source.text[at - indent : at].strip():
            return
        blocks = [o for o in self.stack if o.sign == "{"]
        if any(o.indent == indent for o in blocks):
            while self.stack and self.stack[-1].indent > indent:
                inner = self.stack[-1].sign == "{"
                self._leave(at, "this `}` is indented as an outer one" if inner else FOUND_FIRST)

    def _leave_all(self, at: int, why: str) -> None:
        while self.stack:
            self._leave(at, why)

    def _leave(self, at: int, why: str) -> None:
        """Report the innermost open bracket as never closed, found out at ``at``."""
        opening = self.stack.pop()
        closing = _PAIRS[opening.sign]
        here = self.source.span(at, min(at + 1, len(self.source.text)))
        self.unclosed += 1
        if self.unclosed <= _MAX_UNCLOSED:
            self.diagnostics.add(
                Diagnostic(
                    "E0103",
                    f"this `{opening.sign}` is never closed",
                    self.source.span(opening.at, opening.at + 1),
                    f"no `{closing}` for it",
                    ((here, why),),
                )
            )
        if opening.sign == "{":
            before_line = at > 0 and self.source.text[at - 1] == "\n"
            self.edits.append((at, at, "}\n" if before_line else "}"))
        else:
            end = min(self._end_of_indented(opening), at)
            self.edits.append((end, end, closing))
            self.doubtful.append((opening.at, at))

    def _wrong_pair(self, opening: _Open, sign: str, at: int) -> None:
        closing = _PAIRS[opening.sign]
        span = self.source.span(at, at + 1)
        self.diagnostics.add(
            Diagnostic(
                "E0104",
                f"`{opening.sign}` is closed by `{sign}`",
                span,
                f"expected `{closing}`",
                ((self.source.span(opening.at, opening.at + 1), "opened here"),),
                fix=replacing(span, closing),
            )
        )
        self.edits.append((at, at + 1, closing))

    def _nothing_open(self, sign: str, at: int) -> None:
        span = self.source.span(at, at + 1)
        self.diagnostics.add(
            Diagnostic(
                "E0105",
                f"this `{sign}` closes nothing",
                span,
                "no bracket is open here",
                hint="remove it, or open the bracket that it should close",
                fix=replacing(span, ""),
            )
        )
        self.edits.append((at, at + 1, ""))

    def _open_string(self, text: str, at: int) -> None:
        length = len(re.sub(r"[ \t,)\]}]*$", "", text)) or 1
        self.diagnostics.add(
            Diagnostic(
                "E0106",
                "this text has no closing quote",
                self.source.span(at, at + length),
                'expected `"` before the end of the line',
                fix=replacing(self.source.span(at + length, at + length), '"', "close it"),
            )
        )
        if length > 1 and text[length - 1] == "\\":
            self.edits.append((at + length - 1, at + length, '"'))
        else:
            self.edits.append((at + length, at + length, '"'))
        for match in _TOKEN.finditer(self.source.text, at + length, at + len(text)):
            self._token(match)

    def _line_start(self, at: int) -> int:
        return self.source.text.rfind("\n", 0, at) + 1

    def _indent(self, at: int) -> int:
        start = self._line_start(at)
        blank = _BLANK.match(self.source.text, start)
        return blank.end() - start if blank else 0

    def _end_of_indented(self, opening: _Open) -> int:
        """Return the end of the last line from the bracket's that is indented deeper than it."""
        text = self.source.text
        end = _line_end(text, opening.at)
        while end < len(text):
            following = _line_end(text, end + 1)
            line = text[end + 1 : following]
            if not line.strip() or len(line) - len(line.lstrip(" \t")) <= opening.indent:
                break
            end = following
        return _before_comment(text, opening.at, end)


def _line_end(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def _before_comment(text: str, start: int, end: int) -> int:
    for match in _TOKEN.finditer(text, max(start, text.rfind("\n", 0, end) + 1), end):
        if match.group()[0] == "#":
            end = match.start()
    return len(text[:end].rstrip())


def _whole_string(text: str) -> bool:
    return re.fullmatch(r'"(?:[^"\\\n]|\\.)*"', text) is not None


def _balance(text: str) -> Iterator[tuple[int, bool]]:
    """Yield (depth, fits) for each bracket, and at the end whether all is closed."""
    stack: list[str] = []
    for match in _TOKEN.finditer(text):
        sign = match.group()
        if sign in _PAIRS:
            stack.append(_PAIRS[sign])
            yield len(stack), True
        elif sign in ")]}":
            yield len(stack), bool(stack) and stack.pop() == sign
        elif sign[0] == '"':
            yield len(stack), _whole_string(sign)
        elif sign[0] != "#":
            yield len(stack), not stack
    yield 0, not stack


def repair(source: Source, diagnostics: Diagnostics) -> Repaired | None:
    """Match brackets and quotes, report those that have no partner, and mend the text.

    Returns None where nesting is so deep, or so much wrong, that the rest is not read at all.
    """
    fits = True
    for depth, fit in _balance(source.text):
        if depth > MAX_DEPTH:
            diagnostics.add(_too_deep(source))
            return None
        fits = fits and fit
    if fits:
        return Repaired(source.text)
    matcher = _Matcher(source, diagnostics)
    if not matcher.run():
        return None
    edits = sorted(matcher.edits, key=lambda e: (e[0], e[1]))
    pieces, last = [], 0
    for start, end, new in edits:
        pieces += [source.text[last:start], new]
        last = end
    text = "".join([*pieces, source.text[last:]])
    return Repaired(text, tuple(edits), tuple(matcher.doubtful))


def _too_deep(source: Source) -> Diagnostic:
    depth = 0
    for match in _TOKEN.finditer(source.text):
        sign = match.group()
        depth += (sign in _PAIRS) - (sign in (")", "]", "}"))
        if depth > MAX_DEPTH:
            break
    return Diagnostic(
        "E0107",
        "brackets are nested too deeply",
        source.span(match.start(), match.end()),
        f"this is level {MAX_DEPTH + 1}; at most {MAX_DEPTH} are allowed",
        hint="give a part of it a name of its own",
    )
