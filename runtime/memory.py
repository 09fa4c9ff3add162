"""Memory for programs: aligned blocks, and views of them by buffer."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from nnc.ir.index import evaluate
from nnc.ir.loops import Buffer
from nnc.runtime.arrays import Array
from nnc.runtime.layout import ALIGN, byte_size

Allocator = Callable[[int], Array]


def aligned(size: int) -> Array:
    """Return ``size`` zero bytes that begin on a 64-byte boundary."""
    raw = np.zeros(size + ALIGN, np.uint8)
    start = -address(raw) % ALIGN
    return raw[start : start + size]


def address(array: Array) -> int:
    """Return the address of an array's first element."""
    return int(array.__array_interface__["data"][0])


def view(block: Array, buffer: Buffer, dims: Mapping[str, int], start: int = 0) -> Array:
    """Return the part of ``block`` (bytes) that is ``buffer``, as an array of its shape."""
    shape = tuple(evaluate(extent, dims) for extent in buffer.extents)
    size = byte_size(buffer, dims)
    flat = block[start : start + size].view(buffer.dtype.numpy)
    return flat.reshape(shape)
