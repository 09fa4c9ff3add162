"""Memory of the loop interpreter: bounds, undefined contents and races are all errors here.

Values are NumPy arrays of shape [tasks or 1, lanes or 1]. bf16 numbers are held as f32 arrays of
values that bf16 can hold, and as their 16 bits in memory.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from nnc.ir.types import DType

Value: TypeAlias = npt.NDArray[Any]
Ints: TypeAlias = npt.NDArray[np.int64]
Mask: TypeAlias = npt.NDArray[np.bool_]
Number: TypeAlias = "int | Ints"
"""A subscript: the same for all tasks and lanes (int), or one for each."""

_MANY = -2
"""Stands, less the epoch, for several tasks."""


class LoopError(Exception):
    """Something that a correct program never does, found while interpreting it."""


def poison(dtype: DType, size: int) -> Value:
    """Contents that no correct program reads: NaN, or whole numbers far outside any tensor."""
    if dtype is DType.BF16:
        return np.full(size, 0x7FC0, np.uint16)
    if dtype.is_float:
        return np.full(size, np.nan, dtype.numpy)
    return np.full(size * dtype.bytes, 0xA5, np.uint8).view(dtype.numpy)


@dataclass(slots=True)
class Memory:
    """One block of elements, and who touched each since the last barrier.

    ``writer`` and ``reader`` hold task numbers; those below the caller's ``epoch`` are stale.
    """

    name: str
    data: Value
    tracked: bool = False
    writer: Ints = field(init=False)
    reader: Ints = field(init=False)

    def __post_init__(self) -> None:
        size = self.data.size if self.tracked else 0
        self.writer = np.full(size, -1, np.int64)
        self.reader = np.full(size, -1, np.int64)

    def note_read(self, place: Ints, task: Ints, epoch: int) -> None:
        """Record reads of ``place`` by ``task``; raises LoopError if another task wrote there."""
        wrote = self.writer[place]
        self._clash((wrote >= epoch) & (wrote != task), place, "reads what another task writes")
        last, many = self.reader[place], _MANY - epoch
        self.reader[place] = np.where(_stale(last, epoch) | (last == task), task, many)
        now = self.reader[place]
        self.reader[place[(now != task) & (now != many)]] = many

    def note_write(self, place: Ints, task: Ints, epoch: int) -> None:
        """Record writes; raises LoopError if another task or lane touched the same element."""
        order = np.arange(place.size)
        self.writer_check(place, task, epoch)
        self.writer[place] = order
        self._clash(self.writer[place] != order, place, "is written twice at once")
        self.writer[place] = task

    def writer_check(self, place: Ints, task: Ints, epoch: int) -> None:
        """Raise LoopError where ``place`` was read or written by a task other than ``task``."""
        for who, what in ((self.writer, "writes"), (self.reader, "reads")):
            last = who[place]
            fresh = ~_stale(last, epoch)
            self._clash(fresh & (last != task), place, f"writes what another task {what}")

    def _clash(self, bad: Mask, place: Ints, what: str) -> None:
        if bad.any():
            raise LoopError(f"race: a task {what}: {self.name} element {place[bad][0]}")


def _stale(last: Ints, epoch: int) -> Mask:
    """Where the last touch, by one task or by many, lies before the barrier of ``epoch``."""
    return np.where(last <= _MANY, _MANY - last < epoch, last < epoch)


@dataclass(slots=True)
class View:
    """A tensor as a body sees it: part of a memory, row-major."""

    memory: Memory
    offset: Number
    extents: tuple[Number, ...]
    dtype: DType
    access: str
    name: str
    checked: bool = False

    def place(self, flat: Number, where: Mask | None) -> Number:
        """The element of the memory that element ``flat`` of the tensor is.

        Raises LoopError where a part that was passed to a function leaves the memory.
        """
        at = self.offset + flat
        if self.checked:
            row_major(self.memory.name, (at,), (self.memory.data.size,), where)
        return at

    def part(self, name: str, offset: Number, extents: tuple[Number, ...], access: str) -> View:
        """What a function sees of this tensor: ``extents`` from ``offset`` on."""
        return View(self.memory, offset, extents, self.dtype, access, name, True)


@dataclass(slots=True)
class CellStore:
    """A task's variables: ``data`` is [rows, elements, lanes or 1], ``row`` maps tasks to rows."""

    name: str
    dtype: DType
    extents: tuple[Number, ...]
    data: Value
    defined: Mask | None
    row: Ints
    lanes: str | None
    shared: bool
    depth: int
    offset: Number = 0

    @property
    def access(self) -> str:
        """Cells are read and written by their task alone."""
        return "rw"

    def place(self, flat: Number, where: Mask | None) -> Number:
        """The element of ``data`` that element ``flat`` of the cell is; raises LoopError."""
        at = self.offset + flat
        row_major(self.name, (at,), (self.data.shape[1],), where)
        return at

    def part(self, name: str, offset: Number, extents: tuple[Number, ...], _: str) -> CellStore:
        """What a function sees of this cell: ``extents`` from ``offset`` on."""
        return replace(self, name=name, offset=offset, extents=extents)


def row_major(
    name: str, index: tuple[Number, ...], extents: tuple[Number, ...], where: Mask | None
) -> Number:
    """Flatten subscripts, which must lie inside ``extents`` wherever ``where`` holds.

    Raises:
        LoopError: a subscript is outside, or there is not one per extent.
    """
    if len(index) != len(extents):
        raise LoopError(f"{name}: {len(index)} subscripts for {len(extents)} dims")
    flat: Number = 0
    for axis, (i, extent) in enumerate(zip(index, extents, strict=True)):
        outside = np.asarray((np.asarray(i) < 0) | (np.asarray(i) >= np.asarray(extent)))
        if where is not None:
            outside = outside & where
        if outside.any():
            at = np.broadcast_to(np.asarray(i), outside.shape)[outside].flat[0]
            raise LoopError(f"{name}: subscript {axis} is {at}, outside 0..{extent}")
        flat = flat * extent + i
    return flat


def _shape(where: Mask | None) -> tuple[int, ...]:
    return () if where is None else where.shape


def gather(
    memory: Memory, flat: Number, where: Mask | None, task: Ints | None, epoch: int
) -> Value:
    """Read elements; those where ``where`` is false are not touched and come back as zero."""
    if task is None:
        places, chosen = np.atleast_2d(flat), where
        owner = None
    else:
        shape = np.broadcast_shapes(np.shape(flat), task.shape, _shape(where))
        places = np.broadcast_to(np.asarray(flat), shape)
        owner = np.broadcast_to(task, shape)
        chosen = None if where is None else np.broadcast_to(where, shape)
    if chosen is None:
        if owner is not None:
            memory.note_read(places.ravel(), owner.ravel(), epoch)
        return np.asarray(memory.data[places])
    shape = np.broadcast_shapes(places.shape, chosen.shape)
    chosen = np.broadcast_to(chosen, shape)
    picked = np.broadcast_to(places, shape)[chosen]
    if owner is not None:
        memory.note_read(picked, np.broadcast_to(owner, shape)[chosen], epoch)
    result = np.zeros(shape, memory.data.dtype)
    result[chosen] = memory.data[picked]
    return result


def scatter(
    memory: Memory, flat: Number, value: Value, where: Mask | None, *, task: Ints, epoch: int
) -> None:
    """Write elements where ``where`` holds."""
    shape = np.broadcast_shapes(np.shape(flat), task.shape, _shape(where))
    if value.shape[1] > shape[1]:
        raise LoopError(f"{memory.name}: a vector is stored to one element")
    chosen = np.ones(shape, np.bool_) if where is None else np.broadcast_to(where, shape)
    places = np.broadcast_to(np.asarray(flat), shape)[chosen]
    if memory.tracked:
        memory.note_write(places, np.broadcast_to(task, shape)[chosen], epoch)
    memory.data[places] = np.broadcast_to(value, shape)[chosen]


def read_cell(cell: CellStore, flat: Number, where: Mask | None, tasks: int) -> Value:
    """Read an element of each task's cell: a vector where the cell has lanes.

    Raises:
        LoopError: the element was never set.
    """
    rows, at = _cell_places(cell, flat, tasks)
    if where is not None:
        at = np.clip(at, 0, cell.data.shape[1] - 1)
    value = cell.data[rows, at] if cell.lanes is not None else cell.data[rows, at, 0]
    if cell.defined is not None:
        known = cell.defined[rows, at] if cell.lanes is not None else cell.defined[rows, at, 0]
        if not (known if where is None else known | ~where).all():
            raise LoopError(f"cell {cell.name} is read before it is set")
    return value


def write_cell(cell: CellStore, flat: Number, value: Value, where: Mask | None, tasks: int) -> None:
    """Write an element of each task's cell where ``where`` holds."""
    rows, at = _cell_places(cell, flat, tasks)
    if cell.lanes is not None:
        chosen = np.broadcast_to(np.True_ if where is None else where, (tasks, cell.data.shape[2]))
        row, lane = np.nonzero(chosen)
        places = (rows[row], np.broadcast_to(at, (tasks,))[row], lane)
    else:
        shape = np.broadcast_shapes(rows.shape, at.shape, _shape(where))
        if max(value.shape[1], shape[-1]) > at.shape[-1]:
            raise LoopError(f"cell {cell.name} without lanes is given a vector")
        chosen = np.broadcast_to(np.True_ if where is None else where, shape)
        places = (
            np.broadcast_to(rows, shape)[chosen],
            np.broadcast_to(at, shape)[chosen],
            np.zeros(int(chosen.sum()), np.int64),
        )
    cell.data[places] = np.broadcast_to(value, chosen.shape)[chosen]
    if cell.defined is not None:
        cell.defined[places] = True


def _cell_places(cell: CellStore, flat: Number, tasks: int) -> tuple[Ints, Ints]:
    """Rows and elements to index ``data`` with: [tasks] with lanes, else [tasks, lanes or 1]."""
    at: Ints = np.atleast_2d(np.asarray(flat, dtype=np.int64))
    if cell.lanes is None:
        return cell.row[:, None], at
    if at.shape[1] != 1:
        raise LoopError(f"cell {cell.name} has lanes, and is subscripted by the vector axis")
    return cell.row, np.broadcast_to(at, (tasks, 1))[:, 0]
