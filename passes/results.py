"""Gives each result of a graph its place: computed there where that is safe, else copied."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
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
    divided: Collection[str] = (),
) -> None:
    """Bring each (value, target) of ``results`` to its target.

    A value in scratch that may as well be computed in its target is; the others are copied at the
    end. ``pointwise`` holds what ``pointwise_pairs`` tells of the groups. Tensors that are
    ``divided`` into parts, and these parts, stay where they are.
    """
    placer = _Placer(work, Memory(layout.values()), pointwise)
    copies: list[tuple[str, str]] = []
    for value, target in results:
        if value == target:
            continue
        fixed = value in layout or value in divided
        if fixed or not placer.try_to_move(value, target):
            copies.append((placer.homes.get(value, value), target))
    placer.share(frozenset(source for source, _ in copies))
    for source, target in copies:
        copy(source, target, work)


class _Placer:
    """Moves values from scratch to their targets; ``uses`` tells where each tensor is touched."""

    def __init__(self, work: Work, memory: Memory, pointwise: set[tuple[str, str]]) -> None:
        self.work = work
        self.memory = memory
        self.pointwise = pointwise
        self.homes: dict[str, str] = {}
        self.kernels = {k.name: k for k in work.kernels}
        self.touched = [touched(s, self.kernels) for s in work.steps]
        self.uses: dict[str, list[int]] = {}
        for k, use in enumerate(self.touched):
            for name in use.reads | use.writes:
                self.uses.setdefault(name, []).append(k)

    def try_to_move(self, value: str, target: str) -> bool:
        """Compute ``value`` in ``target``, where that is safe."""
        if value in self.homes or not self._safe(value, target):
            return False
        self._move(value, target)
        return True

    def share(self, needed: frozenset[str]) -> None:
        """Compute a tensor in the memory of one that is read for the last time as it is made.

        Both are scratch of one type and size, and the one is read only where the other is made.
        ``needed`` at the end are tensors to leave alone.
        """
        layout, tensor = self.memory, self.work.tensor
        for value, source in sorted(self.pointwise):
            if value in self.homes or source in self.homes:
                continue
            if layout.is_known(value) or layout.is_known(source) or needed & {value, source}:
                continue
            made, read = self.uses.get(value, []), self.uses.get(source, [])
            if not made or not read or made[0] != read[-1]:
                continue
            a, b = tensor(value), tensor(source)
            writes = value in self.touched[made[0]].writes
            if writes and (a.dtype, a.size) == (b.dtype, b.size):
                self._move(value, source)

    def _move(self, value: str, target: str) -> None:
        self.homes[value] = target
        names = {value: target}

        def move(launch: Launch) -> Launch:
            return replace(launch, views=tuple(names.get(v, v) for v in launch.views))

        moved = self.uses.pop(value, [])
        for k in moved:
            self.work.steps[k] = renamed(self.work.steps[k], move)
            self.touched[k] = touched(self.work.steps[k], self.kernels)
        self.uses[target] = sorted({*self.uses.get(target, []), *moved})

    def _safe(self, value: str, target: str) -> bool:
        """Whether ``value`` can be computed in ``target`` itself.

        From the step that writes it on, nothing else may touch ``target``'s memory, but that step
        may read it element by element.
        """
        writers = [k for k in self.uses.get(value, []) if value in self.touched[k].writes]
        if not writers:
            return True
        for name in [n for n in self.uses if self.memory.overlap(target, n)]:
            for k in (k for k in self.uses[name] if k >= writers[0]):
                alone = writers == [k] and (value, target) in self.pointwise
                if name != target or name in self.touched[k].writes or not alone:
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
