"""Which launches touch the same memory, and where barriers must stand between them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from nnc.ir.index import product
from nnc.ir.loops import Barrier, Buffer, Kernel, Launch, Repeat, Step, When


@dataclass(frozen=True, slots=True)
class Touched:
    """Names of the buffers that a step reads and writes."""

    reads: frozenset[str]
    writes: frozenset[str]


class Memory:
    """Buffers, and which of them overlap through a block that they are part of."""

    def __init__(self, buffers: Iterable[Buffer]) -> None:
        by_name = {b.name: b for b in buffers}
        self._parts = {name: _part(b, by_name) for name, b in by_name.items()}

    def is_known(self, name: str) -> bool:
        """Whether ``name`` is one of the buffers."""
        return name in self._parts

    def overlap(self, a: str, b: str) -> bool:
        """Whether writing to one may change the other."""
        if a == b:
            return True
        if a not in self._parts or b not in self._parts:
            return False
        (block, start, end), (other, first, last) = self._parts[a], self._parts[b]
        return block == other and start < last and first < end

    def place(self, name: str) -> tuple[str, int, int]:
        """The outermost block around a buffer, and where in it the buffer begins and ends."""
        return self._parts.get(name, (name, 0, 1))


@dataclass(slots=True)
class _Touches:
    """Places touched since the last barrier, by block."""

    memory: Memory
    places: dict[str, set[tuple[int, int]]] = field(default_factory=dict)

    def add(self, names: Iterable[str]) -> None:
        """Touch ``names`` too."""
        for name in names:
            block, begin, end = self.memory.place(name)
            self.places.setdefault(block, set()).add((begin, end))

    def overlap(self, names: Iterable[str]) -> bool:
        """Whether any of ``names`` is touched."""
        for name in names:
            block, begin, end = self.memory.place(name)
            if any(b < end and begin < e for b, e in self.places.get(block, ())):
                return True
        return False


def _part(buffer: Buffer, by_name: Mapping[str, Buffer]) -> tuple[str, int, int]:
    size = product(buffer.extents)
    start = 0
    block = buffer
    while block.inside is not None:
        if isinstance(block.offset, int):
            start += block.offset
        else:
            start, size = 0, block.offset
        block = by_name[block.inside]
    return block.name, start, start + size if isinstance(size, int) else 1 << 62


def touched(step: Step, kernels: Mapping[str, Kernel]) -> Touched:
    """What ``step`` reads and writes, on whichever way it takes."""
    reads: set[str] = set()
    writes: set[str] = set()
    for launch in launches_in((step,)):
        for view, param in zip(launch.views, kernels[launch.kernel].params, strict=True):
            if "r" in param.access:
                reads.add(view)
            if "w" in param.access:
                writes.add(view)
    return Touched(frozenset(reads), frozenset(writes))


def launches_in(steps: Iterable[Step]) -> Iterator[Launch]:
    """Every launch of ``steps``, those of both ways of a choice too."""
    for step in steps:
        match step:
            case Launch():
                yield step
            case Repeat(steps=inner):
                yield from launches_in(inner)
            case When(steps=then, otherwise=otherwise):
                yield from launches_in((*then, *otherwise))
            case _:
                pass


def renamed(step: Step, change: Callable[[Launch], Launch]) -> Step:
    """Change every launch of ``step``."""
    match step:
        case Launch():
            return change(step)
        case Repeat(steps=inner):
            return replace(step, steps=tuple(renamed(s, change) for s in inner))
        case When(steps=then, otherwise=otherwise):
            return replace(
                step,
                steps=tuple(renamed(s, change) for s in then),
                otherwise=tuple(renamed(s, change) for s in otherwise),
            )
    return step


def with_barriers(
    steps: Iterable[Step], kernels: Mapping[str, Kernel], memory: Memory
) -> tuple[Step, ...]:
    """Put a barrier before each step that depends on one since the barrier before."""
    result: list[Step] = []
    reads, writes = _Touches(memory), _Touches(memory)
    for step in steps:
        use = touched(step, kernels)
        if writes.overlap(use.reads | use.writes) or reads.overlap(use.writes):
            result.append(Barrier())
            reads, writes = _Touches(memory), _Touches(memory)
        reads.add(use.reads)
        writes.add(use.writes)
        result.append(_inside(step, kernels, memory))
    return tuple(result)


def _inside(step: Step, kernels: Mapping[str, Kernel], memory: Memory) -> Step:
    """``step`` with barriers in both ways of a choice, and between and after a loop's steps."""
    if isinstance(step, Repeat):
        return replace(step, steps=(*with_barriers(step.steps, kernels, memory), Barrier()))
    if not isinstance(step, When):
        return step
    then, otherwise = (with_barriers(s, kernels, memory) for s in (step.steps, step.otherwise))
    return When(step.conditions, then, otherwise)
