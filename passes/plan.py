"""The static plan: where each scratch buffer of an entry lies, from the ranges it is alive in.

A plan belongs to one value of the symbolic dims. It is made when an entry is bound, in Python;
compiled code is given addresses only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from nnc.ir.index import evaluate
from nnc.ir.loops import Barrier, Buffer, Launch, Program, Repeat, Step, When

ALIGN_BYTES = 64


@dataclass(frozen=True, slots=True)
class Plan:
    """Byte offsets of an entry's scratch buffers in one block of ``total`` bytes."""

    offsets: dict[str, int]
    total: int


@dataclass(slots=True)
class _Span:
    """From the first to the last section between barriers in which a buffer is used."""

    first: int
    last: int


def plan(program: Program, entry: str, dims: Mapping[str, int]) -> Plan:
    """Place the scratch buffers of ``entry`` for these values of the symbolic dims.

    Buffers that are never alive at once share memory. The largest is placed first, each at the
    lowest place that is free for all of its life. Raises KeyError for an unknown entry or a dim
    without a value.
    """
    steps = {e.name: e.steps for e in program.entries}[entry]
    spans = lifetimes(steps)
    chosen = [b for b in program.buffers if b.space == "scratch" and b.name in spans]
    sizes = {b.name: _bytes(b, dims) for b in chosen}
    placed: list[tuple[int, int, _Span]] = []
    offsets: dict[str, int] = {}
    for name in sorted(sizes, key=lambda n: (-sizes[n], spans[n].first, n)):
        at = _first_fit(sizes[name], spans[name], placed)
        placed.append((at, at + sizes[name], spans[name]))
        offsets[name] = at
    return Plan(offsets, max((end for _, end, _ in placed), default=0))


def lifetimes(steps: Sequence[Step]) -> dict[str, _Span]:
    """The sections in which each buffer is used; those inside a ``Repeat`` last all of it."""
    spans: dict[str, _Span] = {}
    _walk(steps, 0, spans)
    return spans


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
                end = _walk(inner, section, spans)
                for view in set(_views(inner)):
                    spans[view].first = min(spans[view].first, section)
                    spans[view].last = max(spans[view].last, end)
                section = end
            case When(steps=then, otherwise=otherwise):
                section = _walk(otherwise, _walk(then, section, spans), spans)
    return section


def _views(steps: Sequence[Step]) -> Iterator[str]:
    for step in steps:
        match step:
            case Launch(views=views):
                yield from views
            case Repeat(steps=inner):
                yield from _views(inner)
            case When(steps=then, otherwise=otherwise):
                yield from _views((*then, *otherwise))
            case _:
                pass


def _bytes(buffer: Buffer, dims: Mapping[str, int]) -> int:
    size = buffer.dtype.bytes
    for extent in buffer.extents:
        size *= evaluate(extent, dims)
    return -(-size // ALIGN_BYTES) * ALIGN_BYTES


def _first_fit(size: int, span: _Span, placed: Sequence[tuple[int, int, _Span]]) -> int:
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
