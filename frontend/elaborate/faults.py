"""How the elaborator gives up on a statement: a diagnostic, thrown to whoever can carry on.

Each statement catches faults, records them, and binds its names to ``Poison``; so every statement
of a file is looked at, and one mistake is told once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nnc.frontend.diagnostics import Diagnostic
from nnc.frontend.edits import Fix, replacing
from nnc.frontend.names import nearest
from nnc.ir.span import Span


class Fault(Exception):
    """Something is wrong with the program; ``diagnostic`` says what.

    ``traced`` tells that the diagnostic names the calls that led to the fault.
    """

    def __init__(self, diagnostic: Diagnostic) -> None:
        self.diagnostic = diagnostic
        self.traced = False
        super().__init__(diagnostic.message)


class Cascade(Fault):
    """A fault that only follows from one that has been reported: nobody is told of it."""

    def __init__(self) -> None:
        super().__init__(Diagnostic("E0200", "the result of an error is used", None))


def fault(
    code: str,
    message: str,
    span: Span | None,
    label: str = "",
    *,
    related: Iterable[tuple[Span | None, str]] = (),
    notes: Iterable[str] = (),
    hint: str | None = None,
    fix: Fix | None = None,
    about: Mapping[str, object] | None = None,
) -> Fault:
    """Return the fault to raise; related places that have no span become notes.

    ``about`` are facts by name for whoever looks for a fix (``Diagnostic.about``).
    """
    places = [(s, t) for s, t in related if s is not None]
    extra = [t for s, t in related if s is None]
    return Fault(
        Diagnostic(
            code,
            message,
            span,
            label,
            tuple(places),
            (*notes, *extra),
            hint=hint,
            fix=fix,
            about=tuple((name, str(value)) for name, value in (about or {}).items()),
        )
    )


def did_you_mean(
    word: str, known: Iterable[str], span: Span | None
) -> tuple[str | None, Fix | None]:
    """Return the hint and the edit for a word that is a slip for one of ``known``, if it is."""
    close = nearest(word, known)
    if close is None:
        return None, None
    return f"did you mean {close}?", replacing(span, close) if span is not None else None
