"""The static plan: where each scratch buffer of an entry lies, from the ranges it is alive in.

A plan belongs to one value of the symbolic dims. It is made when an entry is bound, in Python;
compiled code is given addresses only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from nnc.ir.index import Size, evaluate, product
from nnc.ir.loops import Barrier, Launch, Program, Repeat, Step, When

ALIGN_BYTES = 64


@dataclass(frozen=True, slots=True)
class Plan:
    """Byte offsets of an entry's scratch buffers in one block of ``total`` bytes."""

    offsets: dict[str, int]
    total: int


@dataclass(frozen=True, slots=True)
class Live:
    """A scratch buffer of ``size`` bytes, used from section ``first`` to section ``last``.

    Sections are the runs of launches between barriers.
    """

    name: str
    size: Size
    first: int
    last: int


@dataclass(slots=True)
class _Span:
    first: int
    last: int


def plan(program: Program, entry: str, dims: Mapping[str, int]) -> Plan:
    """Place the scratch buffers of ``entry`` for these values of the symbolic dims.

    Raises KeyError for an unknown entry or a dim without a value.
    """
    steps = {e.name: e.steps for e in program.entries}[entry]
    return assign(live_ranges(program, steps), dims)


def live_ranges(program: Program, steps: Sequence[Step]) -> tuple[Live, ...]:
    """The scratch buffers that ``steps`` use, and when.

    What a turn of a ``Repeat`` leaves in scratch, the next turn does not read, unless it is used
    outside the ``Repeat`` too: then it is kept through all of the turns.
    """
    roots = {b.name: b.name if b.inside is None else b.inside for b in program.buffers}
    spans: dict[str, _Span] = {}
    _Walk(roots, spans).run(steps)
    return tuple(
        Live(b.name, product((*b.extents, b.dtype.bytes)), spans[b.name].first, spans[b.name].last)
        for b in program.buffers
        if b.space == "scratch" and b.inside is None and b.name in spans
    )


def assign(lives: Sequence[Live], dims: Mapping[str, int]) -> Plan:
    """Place buffers for these values of the symbolic dims.

    Buffers that are never alive at once share memory. The largest is placed first, each at the
    lowest place that is free for all of its life.
    """
    sizes = {b.name: _rounded(evaluate(b.size, dims)) for b in lives}
    placed: list[tuple[int, int, Live]] = []
    offsets: dict[str, int] = {}
    for live in sorted(lives, key=lambda b: (-sizes[b.name], b.first, b.name)):
        at = _first_fit(sizes[live.name], live, placed)
        placed.append((at, at + sizes[live.name], live))
        offsets[live.name] = at
    return Plan(offsets, max((end for _, end, _ in placed), default=0))


@dataclass(slots=True)
class _Walk:
    """Finds the first and the last section in which each buffer is used."""

    roots: Mapping[str, str]
    spans: dict[str, _Span]
    section: int = 0

    def run(self, steps: Sequence[Step]) -> set[str]:
        """Walk through steps; return the buffers that they use."""
        used: set[str] = set()
        turns: list[tuple[int, int, set[str]]] = []
        outside: dict[str, int] = {}
        for step in steps:
            found: set[str] = set()
            begin = self.section
            match step:
                case Barrier():
                    self.section += 1
                case Launch(views=views):
                    found = {self.roots[v] for v in views}
                    self._touch(found, self.section, self.section)
                case Repeat(steps=inner):
                    found = self.run(inner)
                    turns.append((begin, self.section, found))
                case When(steps=then, otherwise=otherwise):
                    found = self.run(then) | self.run(otherwise)
            for name in found:
                outside[name] = outside.get(name, 0) + 1
            used |= found
        for begin, end, found in turns:
            self._touch((n for n in found if outside[n] > 1), begin, end)
        return used

    def _touch(self, names: Iterable[str], first: int, last: int) -> None:
        for name in names:
            span = self.spans.setdefault(name, _Span(first, last))
            span.first, span.last = min(span.first, first), max(span.last, last)


def _rounded(size: int) -> int:
    return -(-size // ALIGN_BYTES) * ALIGN_BYTES


def _first_fit(size: int, span: Live, placed: Sequence[tuple[int, int, Live]]) -> int:
    busy = sorted(
        (start, end)
        for start, end, other in placed
        if other.first <= span.last and span.first <= other.last
    )
    at = 0
    for start, end in busy:
        if at + size <= start:
            break
        at = max(at, end)
    return at
