"""Memory for programs: aligned blocks, and views of them by buffer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from nnc.ir.index import evaluate
from nnc.ir.loops import Buffer
from nnc.runtime.arrays import Array

ALIGN = 64

Allocator = Callable[[int], Array]


def aligned(size: int) -> Array:
    """Return ``size`` zero bytes that begin on a 64-byte boundary."""
    raw = np.zeros(size + ALIGN, np.uint8)
    start = -address(raw) % ALIGN
    return raw[start : start + size]


def address(array: Array) -> int:
    """Return the address of an array's first element."""
    return int(array.__array_interface__["data"][0])


def byte_size(buffer: Buffer, dims: Mapping[str, int]) -> int:
    """Return the bytes that a buffer takes for these dims."""
    count = 1
    for extent in buffer.extents:
        count *= evaluate(extent, dims)
    return count * buffer.dtype.bytes


def view(block: Array, buffer: Buffer, dims: Mapping[str, int], start: int = 0) -> Array:
    """Return the part of ``block`` (bytes) that is ``buffer``, as an array of its shape."""
    shape = tuple(evaluate(extent, dims) for extent in buffer.extents)
    size = byte_size(buffer, dims)
    flat = block[start : start + size].view(buffer.dtype.numpy)
    return flat.reshape(shape)


def lay_out(buffers: Iterable[Buffer], dims: Mapping[str, int]) -> tuple[dict[str, int], int]:
    """Give each buffer a 64-byte aligned offset, in order; return offsets and the total."""
    offsets: dict[str, int] = {}
    total = 0
    for buffer in buffers:
        offsets[buffer.name] = total
        total += -(-byte_size(buffer, dims) // ALIGN) * ALIGN
    return offsets, total
