"""Diagnostics as the text that a terminal shows: 100 columns, in colour where that is asked."""

from __future__ import annotations

import difflib
import re
import textwrap
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from nnc.frontend.diagnostics import Diagnostic
from nnc.frontend.edits import Fix, applied, by_file
from nnc.frontend.source import Source
from nnc.ir.span import Span

WIDTH = 100
"""Columns of a message; only a single word, a path say, may be longer."""
LONGEST = 88
"""Characters of a line that are shown; of a longer one, those around what is underlined."""
MOST_CHANGED = 12
"""Lines of a fix that are shown."""
_NARROW = 24
"""A label that has fewer columns than this beside its underline stands below it."""
_CUT = "..."
_ENDLESS = re.compile(r"\S{2000,}")
"""No path is as long, nor anything else that one would read."""
_INK = {
    "error": "1;31", "warning": "1;33", "note": "1;36", "place": "34", "gutter": "34",
    "^": "1;31", "-": "34", "help": "1;36", "removed": "31", "added": "32",
}  # fmt: skip
"""ANSI's codes (ECMA-48, 8.3.117) by what a line is."""


@dataclass(frozen=True, slots=True)
class _Line:
    """One line and what it is; its first ``gutter`` characters are painted apart."""

    kind: str
    text: str
    gutter: int = 0

    def shown(self, colour: bool) -> str:
        text = self.text.rstrip()
        if not colour or not text:
            return text
        return _painted(text[: self.gutter], "gutter") + _painted(text[self.gutter :], self.kind)


def _painted(text: str, kind: str) -> str:
    code = _INK.get(kind)
    return f"\x1b[{code}m{text}\x1b[0m" if code and text else text


def render(d: Diagnostic, sources: Mapping[str, Source], *, colour: bool = False) -> str:
    """Return a diagnostic as the text that a terminal shows.

    The main span is underlined with ``^`` and the related ones of the same file with ``-``, in
    the order of their lines; related spans elsewhere get an excerpt of their own. A fix is shown
    as the lines that it takes away and those that it puts there.
    """
    d = _readable(d)
    lines = [_Line(d.severity, f"{d.severity}[{d.code}]: {d.message}")]
    source = sources.get(d.span.file) if d.span else None
    if d.span is not None and source is not None:
        lines += _excerpts(d, d.span, source, sources)
    elif d.span is not None:
        lines.append(_Line("place", f"  --> {d.span.file}"))
    for note in d.notes:
        # about a file it is mostly its path, which is not to be broken
        rows = _wrapped(f"   = {note}", 5) if d.span else [f"   = {_hang(note, 5)}"]
        lines += [_Line("text", t) for t in rows]
    advice = d.hint or (d.fix.title if d.fix is not None else None)
    if advice:
        lines += [_Line("help", t, 0) for t in _wrapped(f"help: {advice}", 6)]
    if d.fix is not None:
        lines += _changes(d.fix, sources, d.span)
    return "\n".join(line.shown(colour) for line in lines)


def _readable(d: Diagnostic) -> Diagnostic:
    """Return a diagnostic whose words, a name of a megabyte among them, are not endless."""
    return replace(
        d,
        message=_short(d.message),
        label=_short(d.label),
        related=tuple((span, _short(text)) for span, text in d.related),
        notes=tuple(map(_short, d.notes)),
        hint=_short(d.hint) if d.hint is not None else None,
    )


def _short(text: str) -> str:
    return _ENDLESS.sub(lambda m: f"{m[0][:40]}{_CUT}{m[0][-20:]}", text)


def render_all(
    diagnostics: Iterable[Diagnostic], sources: Mapping[str, Source], *, colour: bool = False
) -> str:
    """Render several with an empty line between, and a last line that counts the errors."""
    found = list(diagnostics)
    texts = [render(d, sources, colour=colour) for d in found]
    errors = sum(d.severity == "error" for d in found)
    if errors > 1:
        texts.append(f"{errors} errors")
    return "\n\n".join(texts)


def _wrapped(text: str, indent: int) -> list[str]:
    """Return a text as lines of at most ``WIDTH`` columns; those after the first are indented."""
    rows: list[str] = []
    for row in text.split("\n"):
        before = " " * indent if rows else ""
        rows += textwrap.wrap(
            before + row, WIDTH, subsequent_indent=" " * indent, break_long_words=False,
            break_on_hyphens=False, drop_whitespace=True,
        ) or [before]  # fmt: skip
    return rows


def _hang(text: str, indent: int) -> str:
    return text.replace("\n", "\n" + " " * indent)


# excerpts -----------------------------------------------------------------------------------------


def _excerpts(
    d: Diagnostic, main: Span, source: Source, sources: Mapping[str, Source]
) -> list[_Line]:
    marks = [_Mark(main, d.label, "^")]
    elsewhere: list[tuple[Source | None, _Mark]] = []
    for span, text in d.related:
        mark = _Mark(span, text, "-")
        if span.file == main.file:
            marks.append(mark)
        else:
            elsewhere.append((sources.get(span.file), mark))
    lines = _excerpt(source, marks, main)
    for other, mark in elsewhere:
        if other is None:
            lines.append(_Line("place", f"  --> {mark.span.file}: {mark.label}"))
        else:
            lines += _excerpt(other, [mark], mark.span)
    return lines


@dataclass(frozen=True, slots=True)
class _Mark:
    """A span to underline with ``sign``, and the words beside it."""

    span: Span
    label: str
    sign: str


def _excerpt(source: Source, marks: Sequence[_Mark], main: Span) -> list[_Line]:
    """Return the lines of ``source`` that carry marks, underlined, under a ``-->`` line."""
    by_line: dict[int, list[_Mark]] = {}
    for mark in marks:
        by_line.setdefault(source.position(mark.span.start)[0], []).append(mark)
    width = len(str(max(by_line)))
    bar = " " * (width + 2) + "|"
    line, column = source.position(main.start)
    result = [
        _Line("place", f"{' ' * (width + 1)}--> {source.name}:{line}:{column}"),
        _Line("gutter", bar),
    ]

    def quoted(number: int, window: range) -> _Line:
        text = f" {number:>{width}} | {_cut(source.line(number), window)}"
        return _Line("text", text, width + 3)

    previous: int | None = None
    for number in sorted(by_line):
        if previous is not None and number > previous + 3:
            result.append(_Line("gutter", " " * (width + 1) + "..."))
        elif previous is not None:
            for between in range(previous + 1, number):
                result.append(quoted(between, range(min(len(source.line(between)), LONGEST))))
        window = _window(source, number, by_line[number])
        result.append(quoted(number, window))
        for sign, row in _underlines(source, number, by_line[number], window, len(bar) + 1):
            result.append(_Line(sign, f"{bar} {row}", len(bar)))
        previous = number
    return result


def _underlines(
    source: Source, number: int, marks: Sequence[_Mark], window: range, indent: int
) -> Iterator[tuple[str, str]]:
    """Yield the rows under a line: one for each label, main span first, then from the left.

    Marks without a label share the first row; where two overlap there, the main one shows.
    """
    ordered = sorted(marks, key=lambda m: (m.sign != "^", m.span.start))
    labelled = [m for m in ordered if m.label]
    silent = [m for m in ordered if not m.label]
    first = labelled[:1] + silent if labelled else silent
    for group in (first, *([mark] for mark in labelled[1:])):
        for row in _rows(source, number, group, window, indent):
            yield group[0].sign, row


def _rows(
    source: Source, number: int, marks: Sequence[_Mark], window: range, indent: int
) -> list[str]:
    text = source.line(number)[window.start : window.stop]
    before = len(_CUT) if window.start else 0
    cells: list[str] = []
    for mark in sorted(marks, key=lambda m: m.sign == "^"):
        first = source.position(mark.span.start)[1] - 1 - window.start
        last = max(min(first + mark.span.end - mark.span.start, len(text)), first + 1)
        start = before + _columns(text[: max(first, 0)])
        end = max(before + _columns(text[: max(last, 0)]), start + 1)
        cells += " " * (end - len(cells))
        cells[start:end] = mark.sign * (end - start)
    row = "".join(cells)
    return _labelled(row, marks[0].label, WIDTH - indent) if marks[0].label else [row]


def _labelled(row: str, label: str, width: int) -> list[str]:
    """Return an underline with its label beside it, or below it where there is no room."""
    room = width - len(row) - 1
    if len(label) <= room or room >= _NARROW:
        lines = [t for part in label.split("\n") for t in _parts(part, room)]
        return [f"{row} {lines[0]}", *(" " * (len(row) + 1) + t for t in lines[1:])]
    start = min(len(row) - len(row.lstrip()), width // 2)
    lines = [t for part in label.split("\n") for t in _parts(part, width - start)]
    return [row, *(" " * start + t for t in lines)]


def _parts(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]


def _window(source: Source, number: int, marks: Sequence[_Mark]) -> range:
    """Return the part of a line to show: around its first mark, where it is long."""
    length = len(source.line(number))
    if length <= LONGEST:
        return range(length)
    main = min(marks, key=lambda m: (m.sign != "^", m.span.start))
    middle = source.position(main.span.start)[1] - 1
    start = max(0, min(middle - LONGEST // 2, length - LONGEST))
    return range(start, start + LONGEST)


def _cut(text: str, window: range) -> str:
    shown = _shown(text[window.start : window.stop])
    return (_CUT if window.start else "") + shown + (_CUT if window.stop < len(text) else "")


def _shown(text: str) -> str:
    """Return a line as it is printed: tabs as four columns, control characters as ``?``."""
    return "".join(_glyph(c) for c in text)


def _glyph(c: str) -> str:
    if c == "\t":
        return "    "
    return "?" if unicodedata.category(c) in ("Cc", "Cf") else c


def _columns(text: str) -> int:
    """Columns that a text takes on a terminal."""
    return sum(_width(c) for c in _shown(text))


def _width(c: str) -> int:
    if unicodedata.combining(c):
        return 0
    return 2 if unicodedata.east_asian_width(c) in "WF" else 1


# fixes --------------------------------------------------------------------------------------------


def _changes(fix: Fix, sources: Mapping[str, Source], near: Span | None) -> list[_Line]:
    """Return the lines that a fix takes away and puts there, each with its number."""
    lines: list[_Line] = []
    for file, edits in by_file(fix.edits).items():
        source = sources.get(file)
        if source is None:
            continue
        old, new = source.text.split("\n"), applied(source.text, edits).split("\n")
        width = len(str(max(len(old), len(new))))
        if near is None or near.file != file:
            number = source.position(edits[0].span.start)[0]
            lines.append(_Line("place", f"{' ' * (width + 1)}--> {file}:{number}"))
        lines += _difference(old, new, width)
    return lines[:MOST_CHANGED]


def _difference(old: list[str], new: list[str], width: int) -> Iterator[_Line]:
    """Yield the lines in which two texts differ; equal heads and tails are not compared twice."""
    first = 0
    while first < min(len(old), len(new)) and old[first] == new[first]:
        first += 1
    last = 0
    while last < min(len(old), len(new)) - first and old[-1 - last] == new[-1 - last]:
        last += 1
    a, b = old[first : len(old) - last], new[first : len(new) - last]
    for tag, i, j, k, m in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if tag == "equal":
            continue
        for kind, sign, part, start in (
            ("removed", "-", a[i:j], first + i), ("added", "+", b[k:m], first + k),
        ):  # fmt: skip
            for number, text in enumerate(part, start + 1):
                shown = _cut(text, range(min(len(text), LONGEST)))
                yield _Line(kind, f" {number:>{width}} {sign} {shown}", width + 2)
