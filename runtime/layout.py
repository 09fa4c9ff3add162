"""Where buffers lie in a block of memory, for given dims."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from nnc.ir.index import evaluate
from nnc.ir.loops import Buffer

ALIGN = 64


def byte_size(buffer: Buffer, dims: Mapping[str, int]) -> int:
    """Return the bytes that a buffer takes for these dims."""
    count = 1
    for extent in buffer.extents:
        count *= evaluate(extent, dims)
    return count * buffer.dtype.bytes


def lay_out(buffers: Iterable[Buffer], dims: Mapping[str, int]) -> tuple[dict[str, int], int]:
    """Give each buffer a 64-byte aligned offset, in order; return offsets and the total."""
    offsets: dict[str, int] = {}
    total = 0
    for buffer in buffers:
        offsets[buffer.name] = total
        total += -(-byte_size(buffer, dims) // ALIGN) * ALIGN
    return offsets, total


INFERENCE_SYSTEM = ("system:seed", "system:step", "system:row")
"""Counters that draws depend on."""


def divide_state(
    buffers: Sequence[Buffer], paths: Iterable[str]
) -> tuple[list[Buffer], list[Buffer]]:
    """Part a program's state: what inference needs (parameters at ``paths``), and the rest.

    The rest (gradients, optimizer slots, sums) is what training adds. Buffers that lie inside
    another go with it and are not listed.
    """
    outer = {b.name: b.inside for b in buffers}

    def root(name: str) -> str:
        inside = outer[name]
        return name if inside is None else root(inside)

    kept = {root(f"state:{path}") for path in paths} | set(INFERENCE_SYSTEM)
    roots = [b for b in buffers if b.space == "state" and b.inside is None]
    return [b for b in roots if b.name in kept], [b for b in roots if b.name not in kept]
