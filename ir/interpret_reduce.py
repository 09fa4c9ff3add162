"""How the interpreter gathers the values that a form stores."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

import numpy as np

from nnc.ir.scalar import numbers
from nnc.ir.types import DType

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]


class Accumulator(Protocol):
    """Takes stores and gives the flat result."""

    def add(self, place: Array, values: Array, rank: Array) -> None:
        """Store ``values`` to the elements ``place``; ``rank`` orders points for argmax."""
        ...

    def finish(self) -> Array:
        """Return the elements, in the representation of ``scalar.numbers``."""
        ...


class Assign:
    """No reduction: every element is stored at most once, and is 0 otherwise."""

    def __init__(self, dtype: DType, size: int) -> None:
        self.result: Array = np.zeros(size, numbers.computing(dtype))
        self.owner = np.full(size, -1, np.int64)
        self.stores = 0

    def add(self, place: Array, values: Array, rank: Array) -> None:
        """Store; raises ValueError for a second store to an element."""
        mark = np.arange(self.stores, self.stores + len(place))
        taken = np.any(self.owner[place] >= 0)
        self.owner[place] = mark
        if taken or np.any(self.owner[place] != mark):
            raise ValueError("a form without reduction stores an element twice")
        self.stores += len(place)
        self.result[place] = values

    def finish(self) -> Array:
        """Return the elements."""
        return self.result


class Combine:
    """A reduction by a NumPy ufunc. Floats are summed and multiplied in f64, rounded once."""

    def __init__(self, ufunc: np.ufunc, start: Any, kept: Any, dtype: DType, size: int) -> None:
        self.ufunc = ufunc
        self.dtype = dtype
        self.result: Array = np.full(size, start, kept)

    def add(self, place: Array, values: Array, rank: Array) -> None:
        """Combine."""
        self.ufunc.at(self.result, place, values.astype(self.result.dtype, copy=False))

    def finish(self) -> Array:
        """Return the elements, rounded to their type."""
        return numbers.rounded(self.result, self.dtype)


class Best:
    """argmax and argmin: the rank of the first best point, NaN being best; of nothing, 0."""

    def __init__(self, least: bool, dtype: DType, size: int) -> None:
        self.least = least
        self.values: Array = np.zeros(size, numbers.computing(dtype))
        self.rank = np.zeros(size, np.int64)
        self.seen = np.zeros(size, np.bool_)

    def add(self, place: Array, values: Array, rank: Array) -> None:
        """Compare the first best of these points to the best so far."""
        # The best so far joins as one more point of its element; sorting by element, then value,
        # then rank brings each element's winner to its front.
        old = np.unique(place)
        old = old[self.seen[old]]
        place = np.concatenate([place, old])
        values = np.concatenate([values, self.values[old]])
        rank = np.concatenate([rank, self.rank[old]])
        order = np.lexsort((rank, *self._keys(values), place))
        winners, first = np.unique(place[order], return_index=True)
        chosen = order[first]
        self.values[winners], self.rank[winners] = values[chosen], rank[chosen]
        self.seen[winners] = True

    def _keys(self, values: Array) -> tuple[Array, Array]:
        """Return sort keys under which the best comes first, least significant key first."""
        if values.dtype.kind == "f":
            number = ~np.isnan(values)
            clean = np.where(number, values, 0)
            return clean if self.least else -clean, number
        # The complement turns the order of whole numbers round without overflow.
        return values if self.least else ~values, np.zeros(len(values), np.bool_)

    def finish(self) -> Array:
        """Return the ranks as i32."""
        return self.rank.astype(np.int32)


def accumulator(kind: str, body: DType, result: DType, size: int) -> Accumulator:
    """Return the accumulator of reduction ``kind`` for values of type ``body``."""
    kept = numbers.computing(body)
    wide = np.dtype(np.float64) if body.is_float else kept
    match kind:
        case "none":
            return Assign(result, size)
        case "sum":
            return Combine(np.add, 0, wide, body, size)
        case "prod":
            return Combine(np.multiply, 1, wide, body, size)
        case "max":
            return Combine(np.maximum, extreme(body, least=True), kept, body, size)
        case "min":
            return Combine(np.minimum, extreme(body, least=False), kept, body, size)
        case "any":
            return Combine(np.logical_or, False, kept, body, size)
        case "all":
            return Combine(np.logical_and, True, kept, body, size)
        case "argmax" | "argmin":
            return Best(kind == "argmin", body, size)
    raise ValueError(f"no reduction {kind!r}")


def extreme(dtype: DType, *, least: bool) -> int | float:
    """Return the least or greatest value of a type: the identity of ``max`` or ``min``."""
    if dtype.is_float:
        return -np.inf if least else np.inf
    limits = np.iinfo(dtype.numpy.name)
    return int(limits.min if least else limits.max)
