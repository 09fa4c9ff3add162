"""A compiled program with its memory: blocks, call records, and calls of its entries."""

from __future__ import annotations

import ctypes
import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nnc.backends.base import (
    FAULT_COUNT,
    FAULT_SITE,
    FAULT_VALUE,
    HEADER,
    TEAM,
    VERSION,
    Code,
)
from nnc.ir.loops import Buffer
from nnc.passes.plan import assign
from nnc.runtime.arrays import Array
from nnc.runtime.conditions import dims_in, holds
from nnc.runtime.errors import UserError
from nnc.runtime.layout import byte_size, lay_out
from nnc.runtime.manifest import Manifest
from nnc.runtime.memory import Allocator, address, aligned, view

RECORD_VERSION = 1


@dataclass
class Bound:
    """An entry with its dims' values: a call record that only lacks the caller's arrays."""

    call: Callable[[int], int]
    record: Array
    record_address: int
    place: Mapping[str, int]
    dim_place: Mapping[str, int]
    outputs: dict[str, Array] = field(default_factory=dict)

    def point(self, buffer: str, where: int) -> None:
        """Let ``buffer`` be the memory at address ``where``; of no effect where it is unused."""
        self.record[self.place[buffer]] = where

    def set_dim(self, name: str, value: int) -> None:
        """Let a dim that no buffer's size depends on have another value."""
        self.record[self.dim_place[name]] = value


class Instance:
    """Runs the entries of one program over its own state.

    One call at a time; calls may come from any thread, and then wait for one another.
    """

    def __init__(
        self,
        manifest: Manifest,
        code: Code,
        team: Callable[[], int],
        allocate: Allocator = aligned,
    ) -> None:
        self.manifest = manifest
        self.lock = threading.RLock()
        self._code = code
        self._team = team
        self._allocate = allocate
        self._buffers = {b.name: b for b in manifest.buffers}
        self._index = {b.name: HEADER + k for k, b in enumerate(manifest.buffers)}
        first = HEADER + len(manifest.buffers)
        self._dim_index = {name: first + k for k, name in enumerate(manifest.dims)}
        self._bound: dict[tuple[str, tuple[int, ...]], Bound] = {}
        self._scratch = allocate(0)
        state = [b for b in manifest.buffers if b.space == "state" and b.inside is None]
        self._state_at, total = lay_out(state, {})
        self._state = allocate(total)
        self._prototype = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)
        self.state_bytes = total
        self.generation = 0
        """Grows whenever entries bound before have lost their scratch memory."""

    # state ----------------------------------------------------------------------------------

    def tensor(self, name: str) -> Array:
        """Return the state buffer ``name`` ("state:fc.weight") as an array, without a copy."""
        buffer = self._buffers[name]
        start = self._state_start(buffer)
        return view(self._state, buffer, {}, start)

    def has(self, name: str) -> bool:
        """Whether the program has the state buffer ``name``."""
        buffer = self._buffers.get(name)
        return buffer is not None and buffer.space == "state"

    def state_names(self) -> list[str]:
        """Names of the state buffers that are not part of another."""
        return list(self._state_at)

    def block(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Return new memory for native code to write to and read from."""
        return self._allocate(math.prod(shape) * dtype.itemsize).view(dtype).reshape(shape)

    def _state_start(self, buffer: Buffer) -> int:
        if buffer.inside is None:
            return self._state_at[buffer.name]
        parent = self._buffers[buffer.inside]
        return self._state_start(parent) + buffer.offset * buffer.dtype.bytes

    # calls ----------------------------------------------------------------------------------

    def bind(self, entry: str, dims: Mapping[str, int], of_a_call: bool = True) -> Bound:
        """Return ``entry`` for these dims, planned once and kept.

        Raises UserError where a requirement of the model is not met by the dims of one call.
        """
        key = (entry, tuple(dims.get(d, 1) for d in self.manifest.dims))
        found = self._bound.get(key)
        if found is None:
            if of_a_call:
                self._check(dims)
            found = self._bound[key] = self._plan(
                entry, dict(zip(self.manifest.dims, key[1], strict=True))
            )
        return found

    def run(self, bound: Bound) -> None:
        """Call a bound entry. Raises UserError for a fault that the data caused."""
        record = bound.record
        record[TEAM] = self._team()
        if bound.call(bound.record_address):
            raise self._fault(record)

    def scratch_bytes(self, entry: str, dims: Mapping[str, int]) -> int:
        """Return the bytes of scratch that an entry uses for these dims."""
        return assign(self.manifest.entries[entry].lives, dims).total

    def _check(self, dims: Mapping[str, int]) -> None:
        for check in self.manifest.checks:
            needed = dims_in(check.condition)
            if needed <= dims.keys() and not holds(check.condition, dims):
                sizes = ", ".join(f"{name} = {dims[name]}" for name in sorted(needed))
                raise UserError("E0609", check.message, (f"given {sizes}",))

    def _plan(self, entry: str, dims: dict[str, int]) -> Bound:
        info = self.manifest.entries[entry]
        plan = assign(info.lives, dims)
        if plan.total > self._scratch.nbytes:
            self._scratch = self._allocate(plan.total)
            self._bound.clear()
            self.generation += 1
        record = np.zeros(HEADER + len(self.manifest.buffers) + len(self.manifest.dims), np.int64)
        record[VERSION] = RECORD_VERSION
        base, state = address(self._scratch), address(self._state)
        outputs: dict[str, Array] = {}
        for buffer in self.manifest.buffers:
            at = self._index[buffer.name]
            if buffer.space == "state":
                record[at] = state + self._state_start(buffer)
            elif buffer.name in plan.offsets:
                record[at] = base + plan.offsets[buffer.name]
            elif buffer.space == "output" and buffer.name in info.uses:
                block = self._allocate(byte_size(buffer, dims))
                outputs[buffer.name] = view(block, buffer, dims)
                record[at] = address(block)
        first = HEADER + len(self.manifest.buffers)
        record[first:] = [dims[d] for d in self.manifest.dims]
        call = self._prototype(self._code.entry(entry))
        return Bound(call, record, address(record), self._index, self._dim_index, outputs)

    def _fault(self, record: Array) -> UserError:
        record[FAULT_COUNT] = 0
        number = int(record[FAULT_SITE])
        site = self.manifest.sites[number]
        place = self.manifest.places[number] if self.manifest.places else ""
        return UserError(
            "E0610",
            f"{site.what} is {int(record[FAULT_VALUE])}, outside '{site.tensor}'",
            (f"it must lie in 0..{site.limit}", *((f"at {place}",) if place else ())),
            "declare the input's range, as in `input ids: i32[batch] in 0..n`, to have it "
            "checked as data is read",
        )
