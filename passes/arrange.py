"""Arranges the members of a group into phases: passes over a row, each with its loops.

What a phase computes at a point, its later members read at once. A reduction is known after its
phase. A tensor along a row that a later phase reads is computed again there if that is cheap,
else it is kept in memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from nnc.ir.loops import Expr, Load, Op
from nnc.passes.align import Axes
from nnc.passes.group import Group
from nnc.passes.schedule.exprs import rewrite, walk
from nnc.passes.schedule.nested import Nested, Phase
from nnc.passes.schedule.stage import Stage, rename_axes

CHEAP_OPS = frozenset(
    {"add", "sub", "mul", "neg", "abs", "max", "min", "mad", "and", "or", "not", "xor", "select"}
    | {"eq", "ne", "lt", "le", "gt", "ge", "cast"}
)
MOST_OPS = 4
"""A value of at most this many cheap operations is computed again rather than kept."""


def arrange(group: Group, kept: frozenset[str], hint: str) -> Nested:
    """Return the phases of ``group``; ``kept`` are the targets that others read."""
    return _Arranger(group, kept, hint).nested()


@dataclass(slots=True)
class _Arranger:
    group: Group
    kept: frozenset[str]
    hint: str
    stages: dict[str, Stage] = field(default_factory=dict)
    levels: dict[str, int] = field(default_factory=dict)

    def nested(self) -> Nested:
        """Return the arranged group."""
        for member in self.group.members:
            stage = self._with_levels(member.stage)
            self.stages[stage.target] = stage
        self._drop_unread()
        self._delay()
        phases = self._phases()
        kept = self.kept & self.stages.keys()
        return Nested(self.hint, self.group.outer, phases, kept)

    def _with_levels(self, stage: Stage) -> Stage:
        """Find the phase of ``stage``, and repeat in it what is cheap and made earlier."""
        while True:
            loads = [e for e in stage.loads if e.source in self.stages]
            level = max((self._after(self.stages[e.source], stage, e) for e in loads), default=0)
            earlier = {e.source for e in loads if self._again(e, level)}
            if not earlier:
                self.levels[stage.target] = level
                return stage
            stage = self._repeated(stage, earlier)

    def _again(self, load: Load, level: int) -> bool:
        """Whether a stage of phase ``level`` had better compute what it loads once more."""
        made = self.stages[load.source]
        here = self.levels[load.source] < level and load.index[0] == made.offset
        return here and self._repeatable(made)

    def _after(self, made: Stage, stage: Stage, load: Load) -> int:
        """The first phase in which ``stage`` may read ``made`` so."""
        level = self.levels[made.target]
        same = made.reduce == "none" and self._box(made) == self._box(stage)
        same = same and load.index[0] == made.offset
        return level if same else level + 1

    def _box(self, stage: Stage) -> frozenset[str]:
        return frozenset(a for a, _ in self.group.inner(stage))

    def _repeatable(self, made: Stage) -> bool:
        if made.reduce != "none" or not self._box(made) or made.where is not None:
            return False
        if made.whole or made.guards:
            return False
        ops = [e for e in walk([made.value]) if isinstance(e, Op)]
        return len(ops) <= MOST_OPS and all(e.name in CHEAP_OPS for e in ops)

    def _repeated(self, stage: Stage, earlier: set[str]) -> Stage:
        memo: dict[Expr, Expr] = {}

        def load(e: Load) -> Expr:
            made = self.stages.get(e.source)
            again = made is not None and e.source in earlier and e.index[0] == made.offset
            return made.value if made is not None and again else e

        def change(e: Expr) -> Expr:
            return rewrite(e, lambda s: s, load, memo)

        return replace(
            stage,
            value=change(stage.value),
            where=None if stage.where is None else change(stage.where),
            inside=None if stage.inside is None else change(stage.inside),
            whole=tuple(replace(w, value=change(w.value)) for w in stage.whole),
            guards=tuple(replace(g, ok=change(g.ok), value=change(g.value)) for g in stage.guards),
        )

    def _drop_unread(self) -> None:
        """Drop members that were repeated wherever they were read."""
        for target in reversed(list(self.stages)):
            read = {e.source for s in self.stages.values() for e in s.loads}
            if target not in read and target not in self.kept:
                del self.stages[target]

    def _delay(self) -> None:
        """Compute what is not along rows as late as it is read: after a contraction, not before."""
        last = max((self.levels[s.target] for s in self.stages.values()), default=0)
        for target, stage in reversed(self.stages.items()):
            if stage.reduce != "none" or self._box(stage):
                continue
            latest = last
            for user in self.stages.values():
                if target in user.sources:
                    same = self._box(user) == self._box(stage)
                    latest = min(latest, self.levels[user.target] - (0 if same else 1))
            self.levels[target] = max(self.levels[target], latest)

    def _phases(self) -> tuple[Phase, ...]:
        found: dict[tuple[int, frozenset[str]], list[Stage]] = {}
        for level in sorted(set(self.levels.values())):
            boxes: dict[tuple[object, ...], Axes] = {}
            for stage in self.stages.values():
                if self.levels[stage.target] != level:
                    continue
                inner = self.group.inner(stage)
                names = self._names_as(boxes, inner)
                renamed = rename_axes(stage, names)
                key = (level, self._box(renamed))
                found.setdefault(key, []).append(renamed)
        return tuple(Phase(self.group.inner(stages[0]), tuple(stages)) for stages in found.values())

    def _names_as(self, boxes: dict[tuple[object, ...], Axes], inner: Axes) -> Mapping[str, str]:
        """Give equal boxes of one level the same axes, so that they share a pass."""
        for axes in boxes.values():
            if {a for a, _ in axes} == {a for a, _ in inner}:
                return {}
        first = boxes.setdefault(tuple(n for _, n in inner), inner)
        return {a: b for (a, _), (b, _) in zip(inner, first, strict=True)}
