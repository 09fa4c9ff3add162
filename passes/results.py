"""Gives each result of a graph its place: computed there where that is safe, else copied."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from nnc.ir.loops import Buffer, Launch
from nnc.passes.hazards import Memory, renamed, touched
from nnc.passes.schedule.kernel import Work
from nnc.passes.schedule.nested import Nested
from nnc.passes.schedule.strategies import copy


def place_results(
    work: Work,
    results: Sequence[tuple[str, str]],
    layout: Mapping[str, Buffer],
    pointwise: set[tuple[str, str]],
) -> None:
    """Bring each (value, target) of ``results`` to its target.

    A value in scratch that may as well be computed in its target is; the others are copied at the
    end. ``pointwise`` holds what ``pointwise_pairs`` tells of the groups.
    """
    homes: dict[str, str] = {}
    copies: list[tuple[str, str]] = []
    memory = Memory(layout.values())
    for value, target in results:
        if value == target:
            continue
        if value in homes or value in layout or not _safe(value, target, work, memory, pointwise):
            copies.append((homes.get(value, value), target))
            continue
        homes[value] = target
        names = {value: target}

        def move(launch: Launch, names: Mapping[str, str] = names) -> Launch:
            return replace(launch, views=tuple(names.get(v, v) for v in launch.views))

        work.steps[:] = [renamed(s, move) for s in work.steps]
    for source, target in copies:
        copy(source, target, work)


def _safe(
    value: str, target: str, work: Work, memory: Memory, pointwise: set[tuple[str, str]]
) -> bool:
    """Whether ``value`` can be computed in ``target`` itself.

    From the step that writes it on, nothing else may touch ``target``'s memory, but that step may
    read it element by element.
    """
    kernels = {k.name: k for k in work.kernels}
    uses = [touched(s, kernels) for s in work.steps]
    writers = [k for k, use in enumerate(uses) if value in use.writes]
    for k, use in enumerate(uses):
        if not writers or k < writers[0]:
            continue
        reads = use.reads
        if writers == [k] and (value, target) in pointwise:
            reads = reads - {target}
        if memory.clash((target,), reads | use.writes):
            return False
    return True


def pointwise_pairs(group: Nested) -> Iterator[tuple[str, str]]:
    """Pairs (result, tensor): the tensor is read only where and before the result is stored.

    Then the result may be stored in the tensor's own memory.
    """
    stages = group.stages
    for k, stage in enumerate(stages):
        if stage.target not in group.kept or stage.owners is None or not stage.covers:
            continue
        before = [e for s in stages[: k + 1] for e in s.loads]
        after = {e.source for s in stages[k + 1 :] for e in s.loads}
        for source in {e.source for e in before} - after:
            if all(e.index[0] == stage.offset for e in before if e.source == source):
                yield stage.target, source
