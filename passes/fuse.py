"""Groups forms into kernels: the pair of groups that saves most bytes is merged, again and again.

What may be merged is told in ``group``; here is what it gains, and that no path leaves a group and
returns.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from nnc.ir.index import axes_of
from nnc.passes.group import Group, Member, full_reduction, merge
from nnc.passes.schedule.stage import volume
from nnc.passes.schedule.tiles import typical

LAUNCH_BYTES = 4096
"""What a launch and its barrier cost, in bytes not moved."""

NEIGHBOURS = 5
"""How many readers of one tensor, on either side, a group is compared with."""


@dataclass(frozen=True, slots=True)
class Fused:
    """A partition of a graph's forms, and why each edge between two groups was not fused."""

    groups: tuple[Group, ...]
    reasons: tuple[tuple[str, str, str], ...] = ()


def fuse(
    groups: Sequence[Group], results: Iterable[str], *, join: bool = True, reasons: bool = False
) -> Fused:
    """Merge ``groups`` (one form each, in the graph's order) while that saves memory traffic.

    ``results`` names the tensors that must be in memory whatever happens. Without ``join`` the
    groups are only put in order; ``reasons`` asks why edges were left.
    """
    fuser = _Fuser({}, frozenset(results))
    for group in groups:
        fuser.add(group)
    if join:
        fuser.run()
    return Fused(tuple(fuser.in_order()), tuple(fuser.reasons()) if reasons else ())


def explain(fused: Fused) -> str:
    """Say which forms were fused, and for each edge left why it was not."""
    lines: list[str] = []
    for k, group in enumerate(fused.groups):
        axes = ", ".join(str(n) for _, n in group.outer)
        names = [_title(m) for m in group.members]
        lines.append(f"group {k} over [{axes}]: {'; '.join(names)}")
    lines += [f"not fused: {a} into {b}: {why}" for a, b, why in fused.reasons]
    return "\n".join(lines) + "\n"


def _title(member: Member) -> str:
    name = member.node.name or member.stage.target
    return name if member.stage.reduce == "none" else f"{name} ({member.stage.reduce})"


@dataclass(slots=True)
class _Fuser:
    """Groups by number; who computes and who reads each tensor; and pairs by what they gain."""

    groups: dict[int, Group]
    results: frozenset[str]
    home: dict[str, int] = field(default_factory=dict)
    readers: dict[str, set[int]] = field(default_factory=dict)
    boxes: dict[object, set[int]] = field(default_factory=dict)
    ranked: list[tuple[float, int, int, int]] = field(default_factory=list)
    merged: list[tuple[Group, Group, Group]] = field(default_factory=list)

    def add(self, group: Group) -> None:
        """Take in a group."""
        number = group.number
        self.groups[number] = group
        self.home.update(dict.fromkeys(group.targets, number))
        for source in group.sources:
            self.readers.setdefault(source, set()).add(number)
        box = full_reduction(group)
        if box is not None:
            self.boxes.setdefault(box, set()).add(number)

    def drop(self, group: Group) -> None:
        """Forget a group."""
        number = group.number
        del self.groups[number]
        for source in group.sources:
            self.readers[source].discard(number)
        for numbers in self.boxes.values():
            numbers.discard(number)

    def run(self) -> None:
        """Merge the best pair until none gains."""
        for number in sorted(self.groups):
            self._rank(number, only_later=True)
        while self.ranked:
            _, first, second, k = heapq.heappop(self.ranked)
            a, b, joined = self.merged[k]
            current = self.groups.get(first) is a and self.groups.get(second) is b
            if not current or self._around(second, first) or self._reaches(first, second):
                continue
            self.drop(a)
            self.drop(b)
            self.add(joined)
            self._rank(joined.number, only_later=False)

    def _rank(self, number: int, *, only_later: bool) -> None:
        """Find what merging ``number`` with each of its neighbours gains."""
        for first, second in sorted(self._pairs(number)):
            if only_later and number != min(first, second):
                continue
            a, b = self.groups[first], self.groups[second]
            joined = merge(a, b)
            if not isinstance(joined, str):
                self.merged.append((a, b, joined))
                gain = self._gain(a, b, joined)
                heapq.heappush(self.ranked, (-gain, first, second, len(self.merged) - 1))

    def _pairs(self, number: int) -> set[tuple[int, int]]:
        """Its producers, its consumers, and groups that read a tensor with it."""
        group = self.groups[number]
        if group.closed:
            return set()
        pairs = {(p, number) for p in self._needs(number)}
        pairs |= {(number, c) for t in group.targets for c in self.readers.get(t, ())}
        pairs.discard((number, number))
        beside: set[int] = set()
        for source in group.sources:
            beside |= self._near(number, self.readers[source])
        box = full_reduction(group)
        if box is not None:
            beside |= self._near(number, self.boxes[box])
        for other in beside:
            pair = (min(number, other), max(number, other))
            if pair not in pairs and pair[::-1] not in pairs:
                pairs.add(pair)
        return pairs

    def _near(self, number: int, others: Iterable[int]) -> set[int]:
        before = sorted((n for n in others if n < number), reverse=True)
        after = sorted(n for n in others if n > number)
        return {*before[:NEIGHBOURS], *after[:NEIGHBOURS]}

    def _gain(self, first: Group, second: Group, joined: Group) -> float:
        """Bytes that need not be moved, at typical sizes."""
        total = float(LAUNCH_BYTES)
        for target, stage in first.targets.items():
            if target in second.sources:
                nbytes = typical(stage.size) * stage.dtype.bytes
                outside = self.readers[target] - {first.number, second.number}
                total += nbytes * (1 if target in self.results or outside else 2)
        shared = {(e.source, e.index, e.dtype) for m in first.members for e in m.stage.loads}
        moved = [m for m in joined.members if m.stage.target in second.targets]
        again = {(e.source, e.index, e.dtype) for m in moved for e in m.stage.loads}
        for source, index, dtype in shared & again:
            if source not in joined.targets:
                extents = dict(a for m in joined.members for a in m.stage.axes)
                axes = axes_of(index[0]) & extents.keys()
                total += typical(volume([(a, extents[a]) for a in axes])) * dtype.bytes
        return total

    # the order of groups --------------------------------------------------------------------

    def _needs(self, number: int) -> set[int]:
        """The groups that ``number`` reads from."""
        sources = self.groups[number].sources
        return {self.home[s] for s in sources if s in self.home} - {number}

    def _around(self, top: int, bottom: int) -> bool:
        """Whether ``top`` depends on ``bottom`` through others."""
        return any(self._reaches(n, bottom) for n in self._needs(top) - {bottom})

    def _reaches(self, top: int, bottom: int) -> bool:
        """Whether ``top`` is ``bottom`` or depends on it."""
        pending, seen = [top], {top}
        while pending:
            n = pending.pop()
            if n == bottom:
                return True
            new = self._needs(n) - seen
            seen |= new
            pending.extend(new)
        return False

    def in_order(self) -> list[Group]:
        """The groups, each after those that it reads."""
        order: list[Group] = []
        done: set[int] = set()
        for root in sorted(self.groups):
            stack = [(root, False)]
            while stack:
                number, ready = stack.pop()
                if number in done:
                    continue
                if ready:
                    done.add(number)
                    order.append(self.groups[number])
                    continue
                stack.append((number, True))
                stack.extend((n, False) for n in sorted(self._needs(number), reverse=True))
        return order

    # reasons --------------------------------------------------------------------------------

    def reasons(self) -> Iterator[tuple[str, str, str]]:
        """For each edge between groups: its ends, and why they are apart."""
        for number in sorted(self.groups):
            for source in sorted(self._needs(number)):
                a, b = self.groups[source], self.groups[number]
                found = merge(a, b)
                around = "what is between them would have to run inside"
                why = found if isinstance(found, str) else around
                made = next(m for m in a.members if m.stage.target in b.sources)
                user = next(m for m in b.members if made.stage.target in m.stage.sources)
                yield _title(made), _title(user), why
