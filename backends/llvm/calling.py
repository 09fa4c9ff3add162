"""Calling an entry with plain arrays: for tests and tools that want no more than that."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nnc.backends import base
from nnc.ir.index import evaluate, product
from nnc.ir.loops import Program

Entry = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)


@dataclass(frozen=True, slots=True)
class Result:
    """What a call left in the record: its code, and the first fault's site and value."""

    code: int
    faults: int
    site: int
    value: int


def call(
    code: base.Code,
    program: Program,
    entry: str,
    dims: Mapping[str, int],
    arrays: Mapping[str, npt.NDArray[Any]],
    team: int = 0,
) -> Result:
    """Run ``entry`` on arrays given by buffer name; buffers not given are made, filled with zeros.

    Arrays are contiguous and have their buffer's size and type. ``team`` is a ticket's address,
    0 for the caller's thread alone. Raises ValueError for an array that does not fit.
    """
    record = np.zeros(base.HEADER + len(program.buffers) + len(program.dims), np.int64)
    record[base.VERSION] = base.RECORD_VERSION
    record[base.TEAM] = team
    kept = []
    for i, buffer in enumerate(program.buffers):
        count = evaluate(product(buffer.extents), dims)
        array = arrays.get(buffer.name)
        if array is None:
            array = np.zeros(count, buffer.dtype.numpy)
        if array.size != count or array.dtype != buffer.dtype.numpy:
            raise ValueError(f"an array does not fit buffer {buffer.name}")
        if not array.flags.c_contiguous:
            raise ValueError(f"the array for buffer {buffer.name} is not contiguous")
        kept.append(array)
        record[base.HEADER + i] = array.ctypes.data
    first = base.HEADER + len(program.buffers)
    record[first:] = [dims.get(d, 0) for d in program.dims]
    status = Entry(code.entry(entry))(record.ctypes.data)
    count, site, value = (
        int(record[word]) for word in (base.FAULT_COUNT, base.FAULT_SITE, base.FAULT_VALUE)
    )
    return Result(status, count, site, value)
