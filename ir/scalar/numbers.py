"""How NumPy computes with each element type.

Every type is computed in its own NumPy type but ``bf16``, which NumPy lacks: it is kept in memory
as 16 bits (``DType.numpy``) and computed in f32, rounded after each operation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnc.ir.types import DType

if TYPE_CHECKING:
    from nnc.ir.scalar.table import Array


def computing(dtype: DType) -> np.dtype[Any]:
    """Return the NumPy type in which values of ``dtype`` are computed."""
    return np.dtype(np.float32) if dtype is DType.BF16 else dtype.numpy


def decode(stored: Array, dtype: DType) -> Array:
    """Turn an array as it lies in memory into the values to compute with."""
    if dtype is not DType.BF16:
        return stored
    return (stored.astype(np.uint32) << np.uint32(16)).view(np.float32)


def encode(values: Array, dtype: DType) -> Array:
    """Turn computed values into the array that lies in memory; the inverse of ``decode``."""
    return _bf16_bits(values) if dtype is DType.BF16 else values.astype(dtype.numpy, copy=False)


def rounded(values: Array, dtype: DType) -> Array:
    """Round computed values to what ``dtype`` can hold, in the type it computes in."""
    if dtype is DType.BF16:
        return decode(_bf16_bits(values), dtype)
    return values.astype(dtype.numpy, copy=False)


def convert(values: Array, source: DType, target: DType) -> Array:
    """Cast values: floats truncate to whole numbers, whole numbers wrap, numbers test != 0.

    A float outside the range of a whole type gives its nearest end, and NaN gives 0, as
    ``llvm.fptosi.sat`` does. f64 goes to bf16 by way of f32.
    """
    if target is DType.BOOL:
        return np.asarray(values != 0)
    if source.is_float and target.is_int:
        return _saturated(values, target)
    with np.errstate(over="ignore"):
        return rounded(values.astype(computing(target)), target)


def _saturated(values: Array, target: DType) -> Array:
    limits = np.iinfo(target.numpy.name)
    wide = np.trunc(
        np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=np.inf, neginf=-np.inf)
    )
    below, above = wide <= float(limits.min), wide >= float(limits.max)
    inside = np.where(below | above, 0.0, wide).astype(target.numpy)
    high = np.array(limits.max, target.numpy)
    low = np.array(limits.min, target.numpy)
    return np.where(above, high, np.where(below, low, inside))


def bits(values: Array, source: DType, target: DType) -> Array:
    """Reinterpret the bits of values as another type of the same width."""
    stored = np.ascontiguousarray(encode(values, source))
    return decode(stored.view(target.numpy).reshape(values.shape), target)


def literal(value: float, dtype: DType) -> Array:
    """Return a Python number as a rank-0 array in the type that ``dtype`` computes in.

    Whole numbers wrap; floats are rounded to nearest.
    """
    if dtype.is_int:
        width = 8 * dtype.bytes
        word = np.array(int(value) & (2**width - 1), np.uint64).astype(f"u{dtype.bytes}")
        return word.view(dtype.numpy)
    with np.errstate(over="ignore"):
        return rounded(np.array(value, computing(dtype)), dtype)


def _bf16_bits(values: Array) -> Array:
    word = np.ascontiguousarray(values.astype(np.float32)).view(np.uint32).reshape(values.shape)
    nearest_even = np.uint32(0x7FFF) + ((word >> np.uint32(16)) & np.uint32(1))
    quiet = (word >> np.uint32(16)) | np.uint32(0x40)
    isnan = (word & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)
    return np.where(isnan, quiet, (word + nearest_even) >> np.uint32(16)).astype(np.uint16)
