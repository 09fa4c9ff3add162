"""The static plan: where each scratch buffer of an entry lies, from the ranges it is alive in.

A plan belongs to one value of the symbolic dims. It is made when an entry is bound, in Python;
compiled code is given addresses only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

    What a turn of a ``Repeat`` leaves in scratch, the next turn does not read.
    """
    spans: dict[str, _Span] = {}
    _walk(steps, 0, spans)
    return tuple(
        Live(b.name, product((*b.extents, b.dtype.bytes)), spans[b.name].first, spans[b.name].last)
        for b in program.buffers
        if b.space == "scratch" and b.name in spans
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


def _walk(steps: Sequence[Step], section: int, spans: dict[str, _Span]) -> int:
    for step in steps:
        match step:
            case Barrier():
                section += 1
            case Launch(views=views):
                for view in views:
                    span = spans.setdefault(view, _Span(section, section))
                    span.first, span.last = min(span.first, section), max(span.last, section)
            case Repeat(steps=inner):
                section = _walk(inner, section, spans)
            case When(steps=then, otherwise=otherwise):
                section = _walk(otherwise, _walk(then, section, spans), spans)
    return section


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
