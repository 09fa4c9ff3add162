"""Where buffers lie in a block of memory, for given dims."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

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
