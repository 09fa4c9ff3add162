"""Errors as data: a diagnostic says what, where, why, and what would mend it.

Everything that finds a fault makes a ``Diagnostic``; ``render`` is the only place that turns one
into text, and ``to_json`` the only one that turns it into what editors read (the shapes of the
Language Server Protocol, https://microsoft.github.io/language-server-protocol/).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from nnc.frontend.source import Source
from nnc.ir.span import Span

Severity = Literal["error", "warning", "note"]
LONGEST = 160
"""Characters of a line that are shown; of a longer one, those around what is underlined."""
_CUT = "..."
_LSP_SEVERITY = {"error": 1, "warning": 2, "note": 3}


@dataclass(frozen=True, slots=True)
class Fix:
    """An edit that would mend the fault: the text at ``span`` becomes ``replacement``."""

    span: Span
    replacement: str


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One fault.

    ``message`` heads it in a few words and ``label`` says beside the underlined ``span`` what is
    wrong there. ``related`` are other places and their words (where the other type came from);
    ``notes`` are further facts, ``hint`` what to do, ``fix`` the edit that would do it.
    """

    code: str
    message: str
    span: Span | None
    label: str = ""
    related: tuple[tuple[Span, str], ...] = ()
    notes: tuple[str, ...] = ()
    hint: str | None = None
    severity: Severity = "error"
    fix: Fix | None = None


class SourceError(Exception):
    """A file is at fault: carries every diagnostic found, in the order of the file."""

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        self.diagnostics: tuple[Diagnostic, ...] = tuple(diagnostics)
        self.sources: Mapping[str, Source] = {}
        """The texts that the diagnostics point into, once whoever opened the file adds them."""
        super().__init__("\n".join(summary(d) for d in self.diagnostics))

    def __str__(self) -> str:
        return render_all(self.diagnostics, self.sources) if self.sources else super().__str__()


@dataclass(slots=True)
class Diagnostics:
    """Collects diagnostics; the same one at the same place is kept once."""

    _found: dict[tuple[str, str, Span | None], Diagnostic] = field(default_factory=dict)

    def add(self, diagnostic: Diagnostic) -> None:
        """Keep ``diagnostic`` unless it is there already."""
        key = (diagnostic.code, diagnostic.message, diagnostic.span)
        self._found.setdefault(key, diagnostic)

    def extend(self, diagnostics: Iterable[Diagnostic]) -> None:
        """Add several."""
        for diagnostic in diagnostics:
            self.add(diagnostic)

    def sorted(self) -> tuple[Diagnostic, ...]:
        """All that was found, by file and place; those without a place come first."""
        return tuple(sorted(self._found.values(), key=_place))

    @property
    def has_errors(self) -> bool:
        """Whether anything found is an error, not a warning or a note."""
        return any(d.severity == "error" for d in self._found.values())

    def check(self) -> None:
        """Raise SourceError with everything found if any of it is an error."""
        if self.has_errors:
            raise SourceError(self.sorted())

    def __iter__(self) -> Iterator[Diagnostic]:
        return iter(self.sorted())

    def __len__(self) -> int:
        return len(self._found)


def _place(d: Diagnostic) -> tuple[str, int, int]:
    return (d.span.file, d.span.start, d.span.end) if d.span else ("", 0, 0)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that ``word`` is most likely a slip for, or None."""
    import difflib

    found = difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.7)
    return found[0] if found else None


def summary(d: Diagnostic) -> str:
    """Return a diagnostic as one line without its place's text."""
    return f"{d.severity}[{d.code}]: {d.message}" + (f" ({d.label})" if d.label else "")


# rendering ----------------------------------------------------------------------------------------


def render(d: Diagnostic, sources: Mapping[str, Source]) -> str:
    """Return a diagnostic as the text that a terminal shows.

    The main span is underlined with ``^`` and the related ones of the same file with ``-``, in
    the order of their lines; related spans elsewhere get an excerpt of their own.
    """
    lines = [f"{d.severity}[{d.code}]: {d.message}"]
    source = sources.get(d.span.file) if d.span else None
    if d.span is not None and source is not None:
        lines += _excerpts(d, d.span, source, sources)
    elif d.span is not None:
        lines.append(f"  --> {d.span.file}")
    lines += [f"   = {_hang(note, 5)}" for note in d.notes]
    if d.hint:
        lines.append(f"help: {_hang(d.hint, 6)}")
    return "\n".join(line.rstrip() for line in lines)


def render_all(diagnostics: Iterable[Diagnostic], sources: Mapping[str, Source]) -> str:
    """Render several with an empty line between, and a last line that counts the errors."""
    found = list(diagnostics)
    texts = [render(d, sources) for d in found]
    errors = sum(d.severity == "error" for d in found)
    if errors > 1:
        texts.append(f"{errors} errors")
    return "\n\n".join(texts)


def _excerpts(
    d: Diagnostic, main: Span, source: Source, sources: Mapping[str, Source]
) -> list[str]:
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
            lines.append(f"  --> {mark.span.file}: {mark.label}")
        else:
            lines += _excerpt(other, [mark], mark.span)
    return lines


@dataclass(frozen=True, slots=True)
class _Mark:
    """A span to underline with ``sign``, and the words beside it."""

    span: Span
    label: str
    sign: str


def _excerpt(source: Source, marks: Sequence[_Mark], main: Span) -> list[str]:
    """Return the lines of ``source`` that carry marks, underlined, under a ``-->`` line."""
    by_line: dict[int, list[_Mark]] = {}
    for mark in marks:
        by_line.setdefault(source.position(mark.span.start)[0], []).append(mark)
    width = len(str(max(by_line)))
    bar = " " * (width + 2) + "|"
    line, column = source.position(main.start)
    result = [f"{' ' * (width + 1)}--> {source.name}:{line}:{column}", bar]
    previous: int | None = None
    for number in sorted(by_line):
        if previous is not None and number > previous + 3:
            result.append(" " * (width + 1) + "...")
        elif previous is not None:
            for between in range(previous + 1, number):
                text = source.line(between)
                result.append(f" {between:>{width}} | {_cut(text, range(min(len(text), LONGEST)))}")
        window = _window(source, number, by_line[number])
        result.append(f" {number:>{width}} | {_cut(source.line(number), window)}")
        for rows in _underlines(source, number, by_line[number], window):
            result += [f"{bar} {row}" for row in rows.split("\n")]
        previous = number
    return result


def _underlines(
    source: Source, number: int, marks: Sequence[_Mark], window: range
) -> Iterator[str]:
    """Yield the rows under a line: one for each label, main span first, then from the left.

    Marks without a label share the first row; where two overlap there, the main one shows.
    """
    ordered = sorted(marks, key=lambda m: (m.sign != "^", m.span.start))
    labelled = [m for m in ordered if m.label]
    silent = [m for m in ordered if not m.label]
    first = labelled[:1] + silent if labelled else silent
    yield _row(source, number, first, window)
    for mark in labelled[1:]:
        yield _row(source, number, [mark], window)


def _row(source: Source, number: int, marks: Sequence[_Mark], window: range) -> str:
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
    return row + (f" {_hang(marks[0].label, len(row) + 1)}" if marks[0].label else "")


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


def _hang(text: str, indent: int) -> str:
    return text.replace("\n", "\n" + " " * indent)


# editors ------------------------------------------------------------------------------------------


def to_json(d: Diagnostic, sources: Mapping[str, Source]) -> dict[str, Any]:
    """Return a diagnostic in the shape of the Language Server Protocol.

    Places count from 0, columns in UTF-16 units. ``data`` adds notes, hint and fix.
    """
    data: dict[str, Any] = {"notes": list(d.notes), "hint": d.hint, "label": d.label}
    if d.fix is not None:
        data["fix"] = {"range": _range(d.fix.span, sources), "newText": d.fix.replacement}
    return {
        "file": d.span.file if d.span else None,
        "range": _range(d.span, sources),
        "severity": _LSP_SEVERITY[d.severity],
        "code": d.code,
        "source": "nnc",
        "message": d.message,
        "relatedInformation": [
            {"location": {"uri": span.file, "range": _range(span, sources)}, "message": text}
            for span, text in d.related
        ],
        "data": data,
    }


def _range(span: Span | None, sources: Mapping[str, Source]) -> dict[str, Any]:
    source = sources.get(span.file) if span else None
    if span is None or source is None:
        return {"start": {"line": 0, "character": 0}, "end": {"line": 0, "character": 0}}
    return {"start": _lsp(source, span.start), "end": _lsp(source, span.end)}


def _lsp(source: Source, offset: int) -> dict[str, int]:
    line, column = source.position(offset)
    before = source.line(line)[: column - 1]
    return {"line": line - 1, "character": len(before.encode("utf-16-le")) // 2}
