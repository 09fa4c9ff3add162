"""Faults of what a user gave: data, weights, arguments. Never a bug of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nnc.frontend.diagnostics import Diagnostic


class UserError(Exception):
    """A fault in data, weights or arguments, told as an error of the compiler is told.

    ``code`` names its page in ``docs/errors``; ``notes`` say where each side came from;
    ``hint`` says what would mend it.
    """

    def __init__(
        self, code: str, message: str, notes: tuple[str, ...] = (), hint: str | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.notes = notes
        self.hint = hint

    def render(self) -> str:
        """Return the whole message as text for a terminal."""
        from nnc.frontend.rendering import render

        return render(self.diagnostic, {})

    @property
    def diagnostic(self) -> Diagnostic:
        """The fault as the compiler's own are, without a place in a program."""
        from nnc.frontend.diagnostics import Diagnostic

        return Diagnostic(self.code, self.message, None, notes=self.notes, hint=self.hint)

    def __str__(self) -> str:
        return self.render()


def nearest(name: str, known: list[str]) -> str | None:
    """Return the known name that ``name`` was probably meant to be."""
    import difflib

    found = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return found[0] if found else None
