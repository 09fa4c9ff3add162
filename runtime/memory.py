"""Memory for programs: aligned blocks, and views of them by buffer."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from nnc.ir.index import evaluate
from nnc.ir.loops import Buffer
from nnc.runtime.arrays import Array
from nnc.runtime.errors import UserError
from nnc.runtime.layout import ALIGN, byte_size

Allocator = Callable[[int], Array]


def aligned(size: int) -> Array:
    """Return ``size`` zero bytes that begin on a 64-byte boundary.

    Raises UserError where there are not so many: sizes come from models and data.
    """
    try:
        raw = np.zeros(size + ALIGN, np.uint8)
    except (MemoryError, ValueError, OverflowError):  # ValueError: beyond any array
        raise UserError(
            "E0656",
            f"there is no memory for {size} bytes",
            ("that is what the model needs for arrays of these sizes",),
            "`nnc check` prints what the model needs; try a smaller batch",
        ) from None
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
