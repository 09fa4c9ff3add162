"""Loads and stores, each in the form its subscripts allow.

Within a vector loop an address is the same for all lanes (one element, repeated where a vector is
needed), advances by one element a lane (a vector access), by another constant or scalar step, or
in any other way (gather and scatter).
"""

from __future__ import annotations

from dataclasses import dataclass

from nnc.backends.llvm.builder import Builder
from nnc.backends.llvm.operations import extract, select
from nnc.backends.llvm.subscripts import Names, Split, Sum, flatten, lanes_of, pointer, split
from nnc.backends.llvm.values import (
    EmitError,
    Value,
    constant,
    memory_type,
    vector,
)
from nnc.ir.index import Size
from nnc.ir.types import DType

BOOL, I64 = DType.BOOL, DType.I64
ZEROS = "@nnc.zeros"
"""64 bytes that a masked scalar load reads instead of memory it must not touch."""


@dataclass(frozen=True, slots=True)
class Place:
    """Memory under a name: a parameter, or a cell on the stack.

    ``width`` is 1, or the lanes that one element of a cell with ``lanes`` has. ``steady``: nothing
    that this kernel writes overlaps it, so equal loads give equal values.
    """

    address: Value
    dtype: DType
    extents: tuple[Size, ...]
    width: int = 1
    steady: bool = False
    align: int = 0

    @property
    def element(self) -> str:
        """The LLVM type of one element in memory."""
        return memory_type(self.dtype, self.width)


class Memory:
    """Reads and writes places for one function."""

    def __init__(self, b: Builder) -> None:
        self.b = b
        self._flat: dict[tuple[tuple[Size, ...], tuple[Size, ...]], Size] = {}

    def address(self, names: Names, place: Place, index: tuple[Size, ...]) -> Value:
        """Return the address of an element, the same in all lanes."""
        parts = self._split(names, place, index)
        if not parts.is_scalar:
            raise EmitError("an address passed to a function differs between lanes")
        return pointer(self.b, place.address, parts.base, place.element)

    def load(
        self,
        names: Names,
        place: Place,
        index: tuple[Size, ...],
        lanes: int,
        mask: Value | None = None,
        other: Value | None = None,
    ) -> Value:
        """Load an element, or one for each lane where the subscripts depend on the vector axis."""
        parts = self._split(names, place, index)
        b = self.b
        if parts.is_scalar:
            at = pointer(b, place.address, parts.base, place.element)
            if mask is not None and mask.lanes > 1 and place.width == 1:
                return self._gather(names, place, index, parts, lanes, mask, other)
            return self._load_one(place, at, mask, other)
        if place.width > 1:
            raise EmitError("a cell of vectors is subscripted by the vector axis")
        if not parts.scattered and not parts.step.terms and parts.step.constant == 1:
            at = pointer(b, place.address, parts.base, place.element)
            return self._load_row(place, at, lanes, mask, other)
        if mask is None and not parts.scattered:
            return self._load_steps(place, parts, lanes)
        return self._gather(names, place, index, parts, lanes, mask, other)

    def store(
        self,
        names: Names,
        place: Place,
        index: tuple[Size, ...],
        value: Value,
        lanes: int,
        mask: Value | None = None,
    ) -> None:
        """Store one element, or one for each lane; of lanes with one address the last one wins."""
        parts = self._split(names, place, index)
        b = self.b
        if parts.is_scalar:
            if value.lanes != place.width:
                value = b.widen(value, place.width)
            at = pointer(b, place.address, parts.base, place.element)
            self._store_one(place, at, value, mask)
            return
        if place.width > 1:
            raise EmitError("a cell of vectors is subscripted by the vector axis")
        value = b.widen(value, lanes)
        if not parts.scattered and not parts.step.terms and parts.step.constant == 1:
            at = pointer(b, place.address, parts.base, place.element)
            self._store_row(place, at, value, mask)
        elif mask is None and not parts.scattered:
            for lane, at in enumerate(self._steps(place, parts, lanes)):
                self._write(place, at, extract(b, value, lane))
        else:
            self._scatter(names, place, index, value, mask)

    # one element --------------------------------------------------------------------------------

    def _load_one(self, place: Place, at: Value, mask: Value | None, other: Value | None) -> Value:
        b = self.b
        if mask is None:
            return self._read(place, at, place.width)
        if place.width > 1:
            # The cell is this task's own: it may be read whatever the mask says.
            loaded = self._read(place, at, place.width)
            return select(b, mask, loaded, self._other(other, place))
        safe = f"select i1 {mask.ref}, ptr {at.ref}, ptr {ZEROS}"
        ref, depth = b.pure(safe, max(mask.depth, at.depth))
        loaded = self._read(place, Value(ref, I64, 1, depth), 1, align=place.dtype.bytes)
        return select(b, mask, loaded, self._other(other, place))

    def _store_one(self, place: Place, at: Value, value: Value, mask: Value | None) -> None:
        b = self.b
        if mask is None:
            self._write(place, at, value)
            return
        if mask.lanes > 1:
            if mask.lanes != place.width:
                raise EmitError("a vector mask on the store of one element")
            old = self._read(place, at, place.width)
            self._write(place, at, select(b, mask, value, old))
            return
        with b.only_if(mask):
            self._write(place, at, value)

    def _other(self, other: Value | None, place: Place) -> Value:
        return constant(0, place.dtype) if other is None else other

    def _read(self, place: Place, at: Value, lanes: int, align: int = 0) -> Value:
        b = self.b
        align = align or self._align(place)
        kind = memory_type(place.dtype, lanes)
        ref = b.once(f"load {kind}, ptr {at.ref}, align {align}", place.steady)
        return self._truth(Value(ref, place.dtype, lanes, b.depth), kind)

    def _write(self, place: Place, at: Value, value: Value) -> None:
        b = self.b
        stored = self._bytes(value)
        b.effect(f"store {stored}, ptr {at.ref}, align {self._align(place)}")

    def _align(self, place: Place) -> int:
        return place.align or place.dtype.bytes

    def _truth(self, loaded: Value, kind: str) -> Value:
        """Turn loaded bytes into truth values."""
        if loaded.dtype is not BOOL:
            return loaded
        text = f"icmp ne {kind} {loaded.ref}, zeroinitializer"
        if loaded.lanes == 1:
            text = f"icmp ne i8 {loaded.ref}, 0"
        return self.b.make(BOOL, loaded.lanes, text, [loaded])

    def _bytes(self, value: Value) -> str:
        """Return type and text of a value as memory holds it."""
        if value.dtype is not BOOL:
            return value.typed
        kind = memory_type(BOOL, value.lanes)
        text = f"zext {value.typed} to {kind}"
        return f"{kind} {self.b.pure(text, value.depth)[0]}"

    # a row of neighbours ------------------------------------------------------------------------

    def _load_row(
        self, place: Place, at: Value, lanes: int, mask: Value | None, other: Value | None
    ) -> Value:
        b = self.b
        if mask is None:
            return self._read(place, at, lanes, align=place.dtype.bytes)
        kind = memory_type(place.dtype, lanes)
        wide = b.widen(mask, lanes)
        callee = b.intrinsic(
            "llvm.masked.load", kind, ["ptr", vector("i1", lanes), kind], [kind, "ptr"]
        )
        text = (
            f"call {callee}(ptr align {place.dtype.bytes} {at.ref}, {wide.typed}, "
            f"{self._bytes(b.widen(self._other(other, place), lanes))})"
        )
        ref = b.once(text, place.steady)
        return self._truth(Value(ref, place.dtype, lanes, b.depth), kind)

    def _store_row(self, place: Place, at: Value, value: Value, mask: Value | None) -> None:
        b = self.b
        stored = self._bytes(value)
        if mask is None:
            b.effect(f"store {stored}, ptr {at.ref}, align {place.dtype.bytes}")
            return
        kind = memory_type(place.dtype, value.lanes)
        wide = b.widen(mask, value.lanes)
        callee = b.intrinsic(
            "llvm.masked.store", "void", [kind, "ptr", vector("i1", value.lanes)], [kind, "ptr"]
        )
        b.effect(f"call {callee}({stored}, ptr align {place.dtype.bytes} {at.ref}, {wide.typed})")

    # elements apart -----------------------------------------------------------------------------

    def _steps(self, place: Place, parts: Split, lanes: int) -> list[Value]:
        """Return the address of each lane, ``base + lane * step``."""
        b = self.b
        first = pointer(b, place.address, parts.base, place.element)
        return [
            pointer(
                b,
                first,
                Sum(
                    parts.step.constant * lane,
                    {f: c * lane for f, c in parts.step.terms.items() if lane},
                ),
                place.element,
            )
            for lane in range(lanes)
        ]

    def _load_steps(self, place: Place, parts: Split, lanes: int) -> Value:
        b = self.b
        kind = memory_type(place.dtype, lanes)
        element = memory_type(place.dtype)
        result = "poison"
        for lane, at in enumerate(self._steps(place, parts, lanes)):
            text = f"load {element}, ptr {at.ref}, align {place.dtype.bytes}"
            one = b.once(text, place.steady)
            result = b.once(f"insertelement {kind} {result}, {element} {one}, i64 {lane}")
        return self._truth(Value(result, place.dtype, lanes, b.depth), kind)

    def _gather(
        self,
        names: Names,
        place: Place,
        index: tuple[Size, ...],
        parts: Split,
        lanes: int,
        mask: Value | None,
        other: Value | None,
    ) -> Value:
        b = self.b
        kind = memory_type(place.dtype, lanes)
        allowed = b.widen(mask if mask is not None else constant(1, BOOL), lanes)
        rest = self._bytes(b.widen(self._other(other, place), lanes))
        pointers = vector("ptr", lanes)
        callee = b.intrinsic(
            "llvm.masked.gather", kind, [pointers, vector("i1", lanes), kind], [kind, pointers]
        )
        at = self._pointers(names, place, index, lanes)
        text = f"call {callee}({pointers} align {place.dtype.bytes} {at}, {allowed.typed}, {rest})"
        return self._truth(Value(b.once(text, place.steady), place.dtype, lanes, b.depth), kind)

    def _scatter(
        self,
        names: Names,
        place: Place,
        index: tuple[Size, ...],
        value: Value,
        mask: Value | None,
    ) -> None:
        b = self.b
        lanes = value.lanes
        kind = memory_type(place.dtype, lanes)
        allowed = b.widen(mask if mask is not None else constant(1, BOOL), lanes)
        pointers = vector("ptr", lanes)
        callee = b.intrinsic(
            "llvm.masked.scatter", "void", [kind, pointers, vector("i1", lanes)], [kind, pointers]
        )
        at = self._pointers(names, place, index, lanes)
        b.effect(
            f"call {callee}({self._bytes(value)}, {pointers} align {place.dtype.bytes} {at}, "
            f"{allowed.typed})"
        )

    def _pointers(self, names: Names, place: Place, index: tuple[Size, ...], lanes: int) -> str:
        offsets = lanes_of(self.b, names, self._place_of(place, index), lanes)
        text = f"getelementptr {place.element}, ptr {place.address.ref}, {offsets.typed}"
        return self.b.pure(text, max(offsets.depth, place.address.depth))[0]

    def _place_of(self, place: Place, index: tuple[Size, ...]) -> Size:
        key = (index, place.extents)
        found = self._flat.get(key)
        if found is None:
            found = self._flat[key] = flatten(index, place.extents)
        return found

    def _split(self, names: Names, place: Place, index: tuple[Size, ...]) -> Split:
        return split(self.b, names, self._place_of(place, index))
