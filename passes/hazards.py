"""Which launches touch the same memory, and where barriers must stand between them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from nnc.ir.index import product
from nnc.ir.loops import Barrier, Buffer, Kernel, Launch, Step


@dataclass(frozen=True, slots=True)
class Touched:
    """Names of the buffers that a launch reads and writes."""

    reads: frozenset[str]
    writes: frozenset[str]


class Memory:
    """Buffers, and which of them overlap through a block that they are part of."""

    def __init__(self, buffers: Iterable[Buffer]) -> None:
        by_name = {b.name: b for b in buffers}
        self._parts = {name: _part(b, by_name) for name, b in by_name.items()}

    def overlap(self, a: str, b: str) -> bool:
        """Whether writing to one may change the other."""
        if a == b:
            return True
        if a not in self._parts or b not in self._parts:
            return False
        (block, start, end), (other, first, last) = self._parts[a], self._parts[b]
        return block == other and start < last and first < end

    def clash(self, names: Iterable[str], others: Iterable[str]) -> bool:
        """Whether any of ``names`` overlaps any of ``others``."""
        rest = list(others)
        return any(self.overlap(a, b) for a in names for b in rest)


def _part(buffer: Buffer, by_name: Mapping[str, Buffer]) -> tuple[str, int, int]:
    size = product(buffer.extents)
    start = 0
    block = buffer
    while block.inside is not None:
        start += block.offset
        block = by_name[block.inside]
    return block.name, start, start + size if isinstance(size, int) else 1 << 62


def touched(launch: Launch, kernel: Kernel) -> Touched:
    """What ``launch`` reads and writes."""
    pairs = list(zip(launch.views, kernel.params, strict=True))
    return Touched(
        frozenset(v for v, p in pairs if "r" in p.access),
        frozenset(v for v, p in pairs if "w" in p.access),
    )


def with_barriers(
    launches: Sequence[Launch], kernels: Mapping[str, Kernel], memory: Memory
) -> list[Step]:
    """Put a barrier before each launch that depends on one since the barrier before."""
    steps: list[Step] = []
    reads: set[str] = set()
    writes: set[str] = set()
    for launch in launches:
        use = touched(launch, kernels[launch.kernel])
        if (
            memory.clash(use.reads, writes)
            or memory.clash(use.writes, writes)
            or memory.clash(use.writes, reads)
        ):
            steps.append(Barrier())
            reads, writes = set(), set()
        reads |= use.reads
        writes |= use.writes
        steps.append(launch)
    return steps
