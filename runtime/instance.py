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
    RECORD_VERSION,
    TEAM,
    VERSION,
    Code,
)
from nnc.ir.index import evaluate
from nnc.ir.loops import Buffer
from nnc.passes.plan import assign
from nnc.runtime.arrays import Array
from nnc.runtime.conditions import dims_in, holds
from nnc.runtime.errors import UserError
from nnc.runtime.layout import byte_size, divide_state, lay_out
from nnc.runtime.manifest import Manifest
from nnc.runtime.memory import Allocator, address, aligned, view
from nnc.runtime.names import TRAINABLE

MOST_BOUND = 256
"""Entries kept bound; a program called with ever new sizes must not keep outputs for them all."""


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
        lasting, added = divide_state(manifest.buffers, [p.path for p in manifest.parameters])
        self._state_at, size = lay_out(lasting, {})
        self._state = allocate(size)
        self._training_at, self._training_bytes = lay_out(added, {})
        self._training: Array | None = None
        self._prototype = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)
        self.generation = 0
        """Grows whenever entries that were bound before are to be bound anew."""

    # state ----------------------------------------------------------------------------------

    def tensor(self, name: str) -> Array:
        """Return the state buffer ``name`` ("state:fc.weight") as an array, without a copy."""
        buffer = self._buffers[name]
        block, start = self._place(buffer)
        return view(block, buffer, {}, start)

    def has_part(self, path: str) -> bool:
        """Whether the parameter at ``path`` lies in the block of the trainable ones."""
        return self._buffers[f"state:{path}"].inside == TRAINABLE

    def part(self, block: str, path: str) -> Array:
        """Return the part that is the parameter's, of a block laid out as the trainable ones."""
        buffer = self._buffers[f"state:{path}"]
        shape = tuple(evaluate(extent, {}) for extent in buffer.extents)
        flat = self.tensor(block)
        start = evaluate(buffer.offset, {})
        return flat[start : start + math.prod(shape)].reshape(shape)

    def has(self, name: str) -> bool:
        """Whether the program has the state buffer ``name``."""
        buffer = self._buffers.get(name)
        return buffer is not None and buffer.space == "state"

    def state_names(self) -> list[str]:
        """Names of the state buffers that are not part of another."""
        return [*self._state_at, *self._training_at]

    def block(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Return new memory for native code to write to and read from."""
        return self._allocate(math.prod(shape) * dtype.itemsize).view(dtype).reshape(shape)

    def _place(self, buffer: Buffer) -> tuple[Array, int]:
        """Return the block that a state buffer lies in, and the byte where it starts."""
        if buffer.inside is not None:
            block, start = self._place(self._buffers[buffer.inside])
            assert isinstance(buffer.offset, int), "only scratch moves with loops"
            return block, start + buffer.offset * buffer.dtype.bytes
        if buffer.name in self._state_at:
            return self._state, self._state_at[buffer.name]
        return self._training_state(), self._training_at[buffer.name]

    def _training_state(self) -> Array:
        """Return the block of what training adds to the state, made at its first use."""
        if self._training is None:
            self._training = self._allocate(self._training_bytes)
            self.reset()
        return self._training

    def reset(self) -> None:
        """Give every optimizer slot its first value, if there are slots in memory."""
        if self._training is not None and "reset" in self.manifest.entries:
            self.run(self.bind("reset", {}))

    def _root(self, name: str) -> str:
        inside = self._buffers[name].inside
        return name if inside is None else self._root(inside)

    # calls ----------------------------------------------------------------------------------

    def bind(self, entry: str, dims: Mapping[str, int], of_a_call: bool = True) -> Bound:
        """Return ``entry`` for these dims, planned once and kept.

        Raises UserError where a requirement of the model is not met by the dims of one call.
        """
        key = (entry, tuple(dims.get(d, 1) for d in self.manifest.dims))
        found = self._bound.get(key)
        if found is None:
            if len(self._bound) >= MOST_BOUND:
                self._forget()
            if of_a_call:
                self._check(dims)
            found = self._bound[key] = self._plan(
                entry, dict(zip(self.manifest.dims, key[1], strict=True))
            )
        return found

    def _forget(self) -> None:
        self._bound.clear()
        self.generation += 1

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
        needed = {self._root(name) for name in info.uses}
        if needed & self._training_at.keys():
            self._training_state()
        plan = assign(info.lives, dims)
        if plan.total > self._scratch.nbytes:
            self._scratch = self._allocate(plan.total)
            self._forget()
        record = np.zeros(HEADER + len(self.manifest.buffers) + len(self.manifest.dims), np.int64)
        record[VERSION] = RECORD_VERSION
        base = address(self._scratch)
        outputs: dict[str, Array] = {}
        for buffer in self.manifest.buffers:
            at = self._index[buffer.name]
            if buffer.space == "state":
                if self._root(buffer.name) in needed:
                    block, start = self._place(buffer)
                    record[at] = address(block) + start
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
