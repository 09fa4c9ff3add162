"""Edits of a text as data, and how several of them are applied together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from nnc.ir.span import Span


@dataclass(frozen=True, slots=True)
class Edit:
    """The text at ``span`` becomes ``text``; an empty span is where ``text`` is inserted."""

    span: Span
    text: str


@dataclass(frozen=True, slots=True)
class Fix:
    """What would mend a fault: edits that are made together, and a title that says what they do.

    A fix that is ``sure`` follows from the fault itself. Any other is a conjecture, offered only
    once the program that it makes has been checked (``frontend/mend``).
    """

    title: str
    edits: tuple[Edit, ...]
    sure: bool = True


def replacing(span: Span, text: str, title: str | None = None, *, sure: bool = True) -> Fix:
    """Return the fix that puts ``text`` in the place of ``span``."""
    return Fix(title or (f"write `{text}`" if text else "remove it"), (Edit(span, text),), sure)


def wrapping(span: Span, before: str, after: str, title: str, *, sure: bool = True) -> Fix:
    """Return the fix that puts something before and after ``span``."""
    start, end = (Span(span.file, at, at) for at in (span.start, span.end))
    return Fix(title, (Edit(start, before), Edit(end, after)), sure)


def overlap(a: Edit, b: Edit) -> bool:
    """Whether two edits cannot both be made: they share text, or one place to insert at."""
    if a.span.file != b.span.file:
        return False
    if a.span.start == b.span.start:
        return True
    first, second = sorted((a.span, b.span), key=lambda s: s.start)
    return second.start < first.end


def apart(edits: Sequence[Edit]) -> bool:
    """Whether all of ``edits`` can be made together."""
    ordered = sorted(edits, key=lambda e: (e.span.file, e.span.start, e.span.end))
    return not any(overlap(a, b) for a, b in pairwise(ordered))


def applied(text: str, edits: Iterable[Edit]) -> str:
    """Return ``text`` with the edits of one file made. Raises ValueError where two overlap."""
    ordered = sorted(edits, key=lambda e: (e.span.start, e.span.end))
    if not apart(ordered):
        raise ValueError("edits overlap")
    pieces, last = [], 0
    for edit in ordered:
        pieces += [text[last : edit.span.start], edit.text]
        last = edit.span.end
    return "".join([*pieces, text[last:]])


def by_file(edits: Iterable[Edit]) -> Mapping[str, list[Edit]]:
    """Return edits by the name of the file that they are made in."""
    found: dict[str, list[Edit]] = {}
    for edit in edits:
        found.setdefault(edit.span.file, []).append(edit)
    return found


def together(fixes: Iterable[Fix]) -> list[Fix]:
    """Return as many of ``fixes``, from the first on, as can be made together, each once."""
    chosen: list[Fix] = []
    for fix in fixes:
        same = any(fix.edits == other.edits for other in chosen)
        if not same and apart([*(e for f in chosen for e in f.edits), *fix.edits]):
            chosen.append(fix)
    return chosen
