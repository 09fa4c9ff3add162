"""Steps of training that take turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Turn:
    """A step of training: its losses, and how often it comes before the next has its turn."""

    name: str
    times: int
    losses: tuple[str, ...]

    def entry(self, kind: str) -> str:
        """Return what this step's own entry of a kind is called."""
        return f"{kind}.{self.name}" if self.name else kind


def turn_at(turns: Sequence[Turn], step: int) -> tuple[Turn, int]:
    """Return whose turn the step number ``step`` (from 0) is, and how many it has left of it."""
    place = step % sum(t.times for t in turns)
    for turn in turns:
        if place < turn.times:
            return turn, turn.times - place
        place -= turn.times
    raise AssertionError("the turns cover their round")
