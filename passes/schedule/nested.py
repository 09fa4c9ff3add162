"""What the schedules take: stages under common outer axes, in phases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from nnc.ir.index import Size
from nnc.passes.schedule.stage import Stage, volume

Axes: TypeAlias = tuple[tuple[str, Size], ...]


@dataclass(frozen=True, slots=True)
class Slice:
    """The part of an inner axis that one outer point takes: the ``number``-th ``block`` of it."""

    axis: str
    number: str
    block: int


@dataclass(frozen=True, slots=True)
class Phase:
    """Stages that share one pass over the same inner axes, an earlier one read at its point.

    With ``pairwise`` the pass is over the results of blocks, which are combined in pairs.
    """

    inner: Axes
    stages: tuple[Stage, ...]
    part: Slice | None = None
    pairwise: bool = False


@dataclass(frozen=True, slots=True)
class Nested:
    """A group of stages under common outer axes; ``kept`` are the targets that go to memory."""

    hint: str
    outer: Axes
    phases: tuple[Phase, ...]
    kept: frozenset[str]

    @property
    def stages(self) -> tuple[Stage, ...]:
        """All stages in order."""
        return tuple(s for p in self.phases for s in p.stages)

    @property
    def volume(self) -> Size:
        """The number of outer points."""
        return volume(self.outer)
