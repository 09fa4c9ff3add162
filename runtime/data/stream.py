"""Rows that are read while training goes on: how they are ordered, cut and read ahead.

Data of a file is either ``Indexed``, so that any row can be read at once (mapped files, images,
windows of tokens), or ``Pieced``, so that it is read piece by piece from the beginning of each
(row groups of parquet, stretches of a csv file). What fits into the memory allowed is read once
and held; what does not is streamed:

- indexed rows in exactly the order that they would have in memory;
- pieces in an order drawn anew for each epoch, their rows one after the other, cut into pools of
  as many rows as fit into a third of the memory; the rows of each pool are shuffled.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np

from nnc.runtime.arrays import Array
from nnc.runtime.data.ahead import ahead
from nnc.runtime.data.source import Draw, Order, Portion, Source, Split, order_of, shuffled
from nnc.runtime.errors import UserError

DEFAULT_MEMORY = 1 << 30
"""Bytes of a split's rows that may be held at once, where the data key does not say."""
PORTION_BYTES = 1 << 25
"""The most that is read in one go of indexed rows; more would not make training quicker."""
POOLS = 3
"""Pools that may be in memory: one in use, one that is being filled, one just let go of."""
Blocks = Generator[Split, None, None]


class Indexed(ABC):
    """Data of which any rows can be read at once."""

    rows: int

    @abstractmethod
    def take(self, rows: Order) -> Split:
        """Read these rows, in this order, and check them."""


class Pieced(ABC):
    """Data that is read in pieces, each from its beginning."""

    pieces: Sequence[int]
    """The rows of each piece."""

    @abstractmethod
    def read(self, piece: int, start: int) -> Blocks:
        """Read a piece from its row ``start`` on, in checked blocks."""


Data = Indexed | Pieced | Split


def rows_of(data: Data) -> int:
    """Return how many rows there are."""
    return sum(data.pieces) if isinstance(data, Pieced) else data.rows


def row_bytes(block: Split) -> int:
    """Return the bytes of one row in memory."""
    return max(1, sum(a.nbytes for a in block.cut.values()) // max(block.rows, 1))


def settle(data: Data, memory: int) -> Split | Indexed | Pieced:
    """Return data as it will be used: read into memory where it fits there."""
    rows = rows_of(data)
    if isinstance(data, Split) or rows == 0:
        return data
    first = _first_block(data)
    if rows * row_bytes(first) > memory:
        return data
    if isinstance(data, Pieced):
        return _joined(_sequence(data, range(len(data.pieces)), 0), rows)
    return data.take(np.arange(rows))


def source_of(data: Data, memory: int) -> Source:
    """Return settled data as what training and evaluation draw from."""
    if isinstance(data, Split):
        return data
    size = row_bytes(_first_block(data))
    if isinstance(data, Pieced):
        return PieceStream(data, max(1, memory // POOLS // size))
    return IndexedStream(data, max(1, min(memory // 4, PORTION_BYTES) // size))


def _first_block(data: Indexed | Pieced) -> Split:
    if isinstance(data, Indexed):
        return data.take(np.arange(1))
    piece = next(k for k, rows in enumerate(data.pieces) if rows)
    blocks = data.read(piece, 0)
    try:
        return next(blocks)
    finally:
        blocks.close()


# held-out rows --------------------------------------------------------------------------------


def held_rows(rows: int, fraction: float, seed: int) -> tuple[Order, Order]:
    """Draw the rows to hold out by ``seed``; return (kept, held), each in their own order."""
    held = round(rows * fraction)
    if not 0 < held < rows:
        raise UserError(
            "E0622", f"a validation share of {fraction} of {rows} rows leaves one side empty"
        )
    order = np.random.Generator(np.random.Philox(key=seed)).permutation(rows)
    return np.sort(order[held:]), np.sort(order[:held])


def divide(data: Data, fraction: float, seed: int) -> tuple[Data, Data]:
    """Hold out ``fraction`` of the rows, drawn by ``seed``; return (training, validation)."""
    parts = held_rows(rows_of(data), fraction, seed)
    if isinstance(data, Split):
        return data.take(parts[0]), data.take(parts[1])
    if isinstance(data, Indexed):
        return Chosen(data, parts[0]), Chosen(data, parts[1])
    mask = np.zeros(rows_of(data), np.bool_)
    mask[parts[1]] = True
    return Masked(data, ~mask), Masked(data, mask)


class Chosen(Indexed):
    """Some rows of indexed data."""

    def __init__(self, data: Indexed, chosen: Order) -> None:
        self._data = data
        self._chosen = chosen
        self.rows = len(chosen)

    def take(self, rows: Order) -> Split:
        """Read these rows (see ``Indexed``)."""
        return self._data.take(self._chosen[rows])


class Masked(Pieced):
    """Those rows of pieced data at which ``mask`` is true."""

    def __init__(self, data: Pieced, mask: Array) -> None:
        self._data = data
        ends = np.cumsum(data.pieces)
        self._masks = np.split(mask, ends[:-1])
        self.pieces = [int(m.sum()) for m in self._masks]

    def read(self, piece: int, start: int) -> Blocks:
        """Read a piece (see ``Pieced``)."""
        mask = self._masks[piece]
        places = np.flatnonzero(mask)
        if start >= len(places):
            return
        at = int(places[start])
        blocks = self._data.read(piece, at)
        try:
            for block in blocks:
                chosen = np.flatnonzero(mask[at : at + block.rows])
                at += block.rows
                if len(chosen):
                    yield block.take(chosen)
        finally:
            blocks.close()


class Joined(Pieced):
    """Several files of pieced data, one after the other."""

    def __init__(self, parts: Sequence[Pieced]) -> None:
        self._places = [(part, k) for part in parts for k in range(len(part.pieces))]
        self.pieces = [part.pieces[k] for part, k in self._places]

    def read(self, piece: int, start: int) -> Blocks:
        """Read a piece (see ``Pieced``)."""
        part, number = self._places[piece]
        return part.read(number, start)


# streams --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class IndexedStream:
    """Indexed rows as a source: exactly the order that they would have in memory."""

    data: Indexed
    most: int
    """Rows to read in one go."""

    @property
    def rows(self) -> int:
        """Rows of an epoch (see ``Source``)."""
        return self.data.rows

    def epoch(self, draw: Draw) -> Generator[Portion, None, None]:
        """Give an epoch's rows, read ahead (see ``Source``)."""
        order = order_of(self.rows, draw.group, draw.seed, draw.epoch)[draw.start :]
        return ahead(self._read(order, draw), depth=2)

    def in_order(self, batch: int) -> Generator[Portion, None, None]:
        """Give all rows in their own order, read ahead (see ``Source``)."""
        return ahead(self._read(np.arange(self.rows), Draw(0, 0, batch)), depth=2)

    def _read(self, order: Order, draw: Draw) -> Generator[Portion, None, None]:
        size = max(1, self.most // draw.group) * draw.group
        for first in range(0, len(order), size):
            block = self.data.take(order[first : first + size])
            yield Portion(block, np.arange(block.rows), draw.batch)


@dataclass(frozen=True)
class PieceStream:
    """Pieces as a source: drawn piece by piece, and shuffled in pools of ``capacity`` rows."""

    data: Pieced
    capacity: int

    @property
    def rows(self) -> int:
        """Rows of an epoch (see ``Source``)."""
        return rows_of(self.data)

    def epoch(self, draw: Draw) -> Generator[Portion, None, None]:
        """Give an epoch's rows, a pool read ahead (see ``Source``)."""
        return ahead(self._pools(draw, mixed=self.rows > draw.group))

    def in_order(self, batch: int) -> Generator[Portion, None, None]:
        """Give all rows in their own order, a pool read ahead (see ``Source``)."""
        return ahead(self._pools(Draw(0, 0, batch), mixed=False))

    def _pools(self, draw: Draw, mixed: bool) -> Generator[Portion, None, None]:
        """Give pools as portions; rows that make no whole step go before those of the next."""
        number, skipped = divmod(draw.start, self.capacity)
        first = number * self.capacity
        count = len(self.data.pieces)
        pieces = shuffled(count, draw.seed, draw.epoch) if mixed else np.arange(count)
        stream = _Stream(_sequence(self.data, [int(p) for p in pieces], first))
        kept: Split | None = None
        try:
            while first < self.rows:
                rows = min(self.capacity, self.rows - first)
                pool, before = stream.fill(rows, kept), kept.rows if kept is not None else 0
                order = np.arange(rows)
                if mixed:
                    order = shuffled(rows, draw.seed, draw.epoch, number + 1)
                order = np.concatenate([np.arange(before), before + order[skipped:]])
                first, number, skipped = first + rows, number + 1, 0
                left = len(order) % draw.group if first < self.rows else 0
                cut = len(order) - left
                kept = pool.take(order[cut:]) if left else None
                if cut:
                    yield Portion(pool, order[:cut], draw.batch)
                del pool
        finally:
            stream.close()


def _sequence(data: Pieced, pieces: Sequence[int], skip: int) -> Blocks:
    """Read pieces one after the other, but for the first ``skip`` rows."""
    for piece in pieces:
        if skip >= data.pieces[piece]:
            skip -= data.pieces[piece]
            continue
        blocks = data.read(piece, skip)
        skip = 0
        try:
            yield from blocks
        finally:
            blocks.close()


class _Stream:
    """Blocks of any size as rows to fill pools from."""

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks
        self._block: Split | None = None
        self._at = 0

    def close(self) -> None:
        self._blocks.close()

    def fill(self, rows: int, before: Split | None = None) -> Split:
        """Return the next ``rows`` rows, behind the rows ``before`` where there are any."""
        done = 0
        whole = {}
        into: dict[str, Array] = {}
        room = rows + (before.rows if before is not None else 0)
        while done < room:
            if before is not None and not done:
                part, start, stop = before, 0, before.rows
            else:
                part = self._next()
                start, stop = self._at, min(part.rows, self._at + room - done)
                self._at = stop
            if not into:
                into = {n: np.empty((room, *a.shape[1:]), a.dtype) for n, a in part.cut.items()}
            for name, array in part.cut.items():
                _check_same(name, array, into[name])
                into[name][done : done + stop - start] = array[start:stop]
            whole = dict(part.whole)
            done += stop - start
        return Split(into, whole, room)

    def _next(self) -> Split:
        while self._block is None or self._at == self._block.rows:
            self._block, self._at = next(self._blocks, None), 0
            if self._block is None:
                raise UserError("E0618", "a file became shorter while it was read")
        return self._block


def _check_same(name: str, array: Array, first: Array) -> None:
    if array.shape[1:] != first.shape[1:]:
        raise UserError(
            "E0607",
            f"rows of '{name}' have the sizes {list(first.shape[1:])} and {list(array.shape[1:])}",
            ("rows that are read together have one size",),
        )


def _joined(blocks: Blocks, rows: int) -> Split:
    stream = _Stream(blocks)
    try:
        return stream.fill(rows)
    finally:
        stream.close()
