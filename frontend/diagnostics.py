"""Errors as data: a diagnostic says what, where, why, and what would mend it.

Everything that finds a fault makes a ``Diagnostic``; ``rendering`` is the only place that turns one
into text, and ``lsp`` the only one that turns it into what editors read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from nnc.frontend.edits import Fix
from nnc.frontend.source import Source
from nnc.ir.span import Span

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One fault.

    ``message`` heads it in a few words and ``label`` says beside the underlined ``span`` what is
    wrong there. ``related`` are other places and their words (where the other type came from);
    ``notes`` are further facts, ``hint`` what to do, ``fix`` the edits that would do it. ``about``
    are facts by name for whoever looks for a fix: sizes and shapes as one would write them.
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
    about: tuple[tuple[str, str], ...] = ()


class SourceError(Exception):
    """A file is at fault: carries every diagnostic found, in the order of the file."""

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        self.diagnostics: tuple[Diagnostic, ...] = tuple(diagnostics)
        self.sources: Mapping[str, Source] = {}
        """The texts that the diagnostics point into, once whoever opened the file adds them."""
        super().__init__("\n".join(summary(d) for d in self.diagnostics))

    def __str__(self) -> str:
        from nnc.frontend.rendering import render_all

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


def summary(d: Diagnostic) -> str:
    """Return a diagnostic as one line without its place's text."""
    return f"{d.severity}[{d.code}]: {d.message}" + (f" ({d.label})" if d.label else "")
