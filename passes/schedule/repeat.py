"""Recognises work that was scheduled before on other tensors, so that layers cost one layer."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace

from nnc.ir.index import Size
from nnc.ir.loops import Expr, Launch, Load, Step
from nnc.ir.types import DType
from nnc.passes.hazards import renamed
from nnc.passes.schedule.exprs import rewrite
from nnc.passes.schedule.kernel import Tensor, Work
from nnc.passes.schedule.nested import Nested
from nnc.passes.schedule.stage import Stage

Scratch = tuple[str, DType, Size]


@dataclass(frozen=True, slots=True)
class _Done:
    """What was scheduled: its tensors in order of use, further scratch, and the steps."""

    tensors: tuple[str, ...]
    scratch: tuple[Scratch, ...]
    steps: tuple[Step, ...]


@dataclass(slots=True)
class Known:
    """The groups scheduled so far."""

    done: dict[Hashable, _Done] = field(default_factory=dict)

    def schedule(
        self, group: Nested, work: Work, scheduler: Callable[[Nested, Work], None]
    ) -> None:
        """Schedule ``group``, or launch again what was scheduled for an equal one."""
        key, tensors = _signature(group, work.tensor)
        found = self.done.get(key)
        if found is None:
            made: list[Scratch] = []

            def scratch(stem: str, dtype: DType, size: Size) -> str:
                made.append((work.scratch(stem, dtype, size), dtype, size))
                return made[-1][0]

            inner = replace(work, steps=[], scratch=scratch)
            scheduler(group, inner)
            self.done[key] = _Done(tensors, tuple(made), tuple(inner.steps))
            work.steps += inner.steps
            return
        names = dict(zip(found.tensors, tensors, strict=True))
        for name, dtype, size in found.scratch:
            names[name] = work.scratch("partial", dtype, size)

        def move(launch: Launch) -> Launch:
            return replace(launch, views=tuple(names[v] for v in launch.views))

        work.steps += [renamed(step, move) for step in found.steps]


def _signature(group: Nested, tensor: Callable[[str], Tensor]) -> tuple[Hashable, tuple[str, ...]]:
    """What a group computes whatever its tensors are called; and their names in order of use."""
    numbers: dict[str, int] = {}
    for stage in group.stages:
        for name in (*(e.source for e in stage.loads), stage.target):
            numbers.setdefault(name, len(numbers))
    kinds = tuple((tensor(n).dtype, tensor(n).size) for n in numbers)
    phases = tuple(
        (p.inner, p.part, p.pairwise, tuple(_stage(s, numbers) for s in p.stages))
        for p in group.phases
    )
    kept = frozenset(numbers[t] for t in group.kept)
    return (group.outer, phases, kept, kinds), tuple(numbers)


def _stage(stage: Stage, numbers: Mapping[str, int]) -> Hashable:
    memo: dict[Expr, Expr] = {}

    def load(e: Load) -> Expr:
        return replace(e, source=f"#{numbers[e.source]}")

    def expr(e: Expr | None) -> Expr | None:
        return None if e is None else rewrite(e, lambda s: s, load, memo)

    return (
        *(numbers[stage.target], stage.dtype, stage.size, stage.axes, stage.offset),
        *(stage.covers, stage.reduce, stage.place, stage.owners, stage.shape, stage.columns),
        *(expr(stage.inside), expr(stage.value), expr(stage.where)),
        tuple((w.name, expr(w.value)) for w in stage.whole),
        tuple((expr(g.ok), g.site, expr(g.value)) for g in stage.guards),
    )
