"""Losses and metrics over a whole split, from what its batches give."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Summary:
    """A metric or loss over a whole split: what each batch gives, and what follows at the end.

    ``combine`` has one word per partial (add, mul, max, min, or, and). With ``by_rows`` the
    value does not divide over batches, so its batches' values are averaged by their rows.
    """

    name: str
    kind: str
    combine: tuple[str, ...]
    by_rows: bool = False

    def partial(self, number: int) -> str:
        """The name of one of its partials."""
        return f"{self.kind}.{self.name}.{number}"
