"""Faults of what a user gave: data, weights, arguments. Never a bug of ours."""

from __future__ import annotations


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
        lines = [f"error[{self.code}]: {self.message}"]
        lines += [f"   = {note}" for note in self.notes]
        if self.hint:
            lines.append(f"help: {self.hint}")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.render()


def nearest(name: str, known: list[str]) -> str | None:
    """Return the known name that ``name`` was probably meant to be."""
    import difflib

    found = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return found[0] if found else None
