"""Statements of loop IR: loops, branches, cells, stores, checks, calls."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from nnc.backends.llvm.convert import cast
from nnc.backends.llvm.expressions import Context, Register
from nnc.backends.llvm.memory import Place
from nnc.backends.llvm.operations import select
from nnc.backends.llvm.subscripts import LaneAxis, nonnegative, scalar
from nnc.backends.llvm.values import EmitError, Value, constant, memory_type
from nnc.ir.expr import Position
from nnc.ir.index import Axis, axis, product
from nnc.ir.loops import (
    VECTOR_BYTES,
    Call,
    Cell,
    Check,
    For,
    If,
    Let,
    Local,
    Stmt,
    Store,
    Sync,
)
from nnc.ir.types import DType

I64 = DType.I64
MOST_STACK_BYTES = 1 << 20
"""The largest cell on the stack: callers' threads may have as little as a few megabytes."""
_WRITTEN_OUT = 16
"""A stack cell of up to this many elements is filled by as many stores."""


@dataclass(slots=True)
class Body(Context):
    """Writes statements. ``functions``: the symbols of what may be called."""

    functions: Mapping[str, str] = field(default_factory=dict)
    _stack: dict[tuple[int, int], str] = field(default_factory=dict)

    def run(self, statements: Sequence[Stmt]) -> None:
        """Write ``statements`` one after the other."""
        for statement in statements:
            match statement:
                case For():
                    self._for(statement)
                case If():
                    self._if(statement)
                case Let():
                    self._let(statement)
                case Cell():
                    self._cell(statement)
                case Store():
                    self._store(statement)
                case Check():
                    self._check(statement)
                case Call():
                    self._call(statement)
                case Sync():
                    raise EmitError("a work-group barrier on a CPU")

    def _let(self, let: Let) -> None:
        value = self.evaluate(let.value)
        if isinstance(let.value, Position) and nonnegative(self.names, let.value.index):
            value = replace(value, positive=True)
        self.locals[let.name] = value
        if value.dtype is I64:
            self.names[Axis(let.name)] = value

    @contextmanager
    def _region(self) -> Iterator[None]:
        """Forget at its end the names that a region binds; cells keep what was stored in them."""
        kept = self.names, self.locals, self.places, self.registers, self.lanes
        self.names, self.locals = dict(self.names), dict(self.locals)
        self.places, self.registers = dict(self.places), dict(self.registers)
        try:
            yield
        finally:
            self.names, self.locals, self.places, self.registers, self.lanes = kept

    # loops and branches -------------------------------------------------------------------------

    def _for(self, loop: For) -> None:
        match loop.kind:
            case "seq":
                self._sequential(loop)
            case "unroll":
                self._unrolled(loop)
            case "vector":
                self._vector(loop)
            case _:
                raise EmitError(f"a loop of kind {loop.kind} on a CPU")

    def _unrolled(self, loop: For) -> None:
        if not isinstance(loop.extent, int):
            raise EmitError(f"an unrolled loop of {loop.extent} turns")
        for turn in range(loop.extent):
            with self._region():
                at = scalar(self.b, self.names, loop.start + turn)
                at = replace(at, positive=nonnegative(self.names, loop.start))
                self.names[Axis(loop.axis)] = int(at.ref) if at.is_constant else at
                self.run(loop.body)

    def _vector(self, loop: For) -> None:
        lanes = loop.extent
        if not isinstance(lanes, int) or lanes < 1 or lanes & (lanes - 1):
            raise EmitError(f"a vector loop of {lanes} lanes")
        if self.lanes > 1:
            raise EmitError("a vector loop within a vector loop")
        start = scalar(self.b, self.names, loop.start)
        start = replace(start, positive=nonnegative(self.names, loop.start))
        with self._region():
            only = int(start.ref) if start.is_constant else start
            self.names[Axis(loop.axis)] = LaneAxis(lanes, start) if lanes > 1 else only
            self.lanes = lanes
            self.run(loop.body)

    def _sequential(self, loop: For) -> None:
        b = self.b
        start = scalar(b, self.names, loop.start)
        extent = scalar(b, self.names, loop.extent)
        if extent.is_constant and int(extent.ref) <= 0:
            return
        carried = self._carried(loop.body)
        before = b.block
        inside, after = b.new_block("loop"), b.new_block("done")
        stop = scalar(b, self.names, loop.start + loop.extent)
        skip = not extent.is_constant
        if skip:
            some = b.make(DType.BOOL, 1, f"icmp sgt i64 {extent.ref}, 0", [extent], cheap=True)
            b.branch(some.ref, inside, after)
        else:
            b.jump(inside)
        old = [cell.values[at] for cell, at in carried]
        with b.scope(inside), self._region():
            turn = b.phi(inside, "i64")
            turn.add(start.ref, before)
            positive = nonnegative(self.names, loop.start)
            self.names[Axis(loop.axis)] = Value(turn.ref, I64, 1, b.depth, positive)
            merges = [b.phi(inside, v.type) for v in old]
            for (cell, at), value, merge in zip(carried, old, merges, strict=True):
                merge.add(value.ref, before)
                cell.values[at] = Value(merge.ref, cell.dtype, cell.lanes, b.depth)
            self.run(loop.body)
            following = b.once(f"add nsw i64 {turn.ref}, 1")
            more = b.once(f"icmp slt i64 {following}, {stop.ref}")
            last = b.block
            b.branch(more, inside, after)
            turn.add(following, last)
            for (cell, at), merge in zip(carried, merges, strict=True):
                merge.add(cell.values[at].ref, last)
        b.move_to(after)
        for (cell, at), value in zip(carried, old, strict=True):
            out = b.phi(after, value.type)
            if skip:
                out.add(value.ref, before)
            out.add(cell.values[at].ref, last)
            cell.values[at] = Value(out.ref, cell.dtype, cell.lanes, b.depth)

    def _if(self, branch: If) -> None:
        b = self.b
        condition = self.evaluate(branch.condition)
        if condition.lanes > 1:
            raise EmitError("a branch on a condition that differs between lanes")
        carried = self._carried((*branch.then, *branch.otherwise))
        old = [cell.values[at] for cell, at in carried]
        sides = b.new_block("then"), b.new_block("else")
        after = b.new_block("join")
        b.branch(condition.ref, *sides)
        merges = [b.phi(after, v.type) for v in old]
        for block, statements in zip(sides, (branch.then, branch.otherwise), strict=True):
            for (cell, at), value in zip(carried, old, strict=True):
                cell.values[at] = value
            with b.scope(block, fence=True), self._region():
                self.run(statements)
                b.jump(after)
                for (cell, at), merge in zip(carried, merges, strict=True):
                    merge.add(cell.values[at].ref, b.block)
        b.move_to(after)
        for (cell, at), merge in zip(carried, merges, strict=True):
            cell.values[at] = Value(merge.ref, cell.dtype, cell.lanes, b.depth)

    def _carried(self, statements: Sequence[Stmt]) -> list[tuple[Register, tuple[int, ...]]]:
        """Return the elements of register cells around that ``statements`` may write."""
        written = stored_names(statements)
        return [
            (cell, at)
            for name, cell in self.registers.items()
            if name in written
            for at in cell.values
        ]

    # cells and memory ---------------------------------------------------------------------------

    def _cell(self, cell: Cell) -> None:
        lanes = self.lanes if cell.lanes else 1
        init = constant(0, cell.dtype) if cell.init is None else self.evaluate(cell.init)
        if init.lanes > lanes:
            raise EmitError(f"cell {cell.name} of scalars begins with a vector")
        self.places.pop(cell.name, None)
        self.registers.pop(cell.name, None)
        if cell.space == "register":
            value = self.b.widen(init, lanes)
            at = itertools.product(*(range(n) for n in cell.extents))
            self.registers[cell.name] = Register(cell.dtype, lanes, dict.fromkeys(at, value))
            return
        if cell.space != "stack":
            raise EmitError(f"cell {cell.name} in {cell.space} memory on a CPU")
        count = int(product(cell.extents))  # type: ignore[arg-type]
        kind = memory_type(cell.dtype, lanes)
        if count * lanes * cell.dtype.bytes > MOST_STACK_BYTES:
            raise EmitError(f"cell {cell.name} is too large for the stack")
        # One statement written out several times needs its memory once.
        ref = self._stack.get((id(cell), lanes))
        if ref is None:
            ref = self._stack[id(cell), lanes] = self.b.allocate(kind, count, VECTOR_BYTES)
        align = min(cell.dtype.bytes * lanes, VECTOR_BYTES)
        place = Place(Value(ref, I64), cell.dtype, cell.extents, lanes, align=align)
        self.places[cell.name] = place
        if cell.init is not None:
            self._fill(place, count, init)

    def _fill(self, place: Place, count: int, value: Value) -> None:
        flat = Place(place.address, place.dtype, (count,), place.width, align=place.align)
        if count <= _WRITTEN_OUT:
            for i in range(count):
                self.memory.store(self.names, flat, (i,), value, self.lanes)
            return
        with self._region():
            self.places["fill.place"] = flat
            self.locals["fill.value"] = value
            store = Store("fill.place", (axis("fill.i"),), Local("fill.value", place.dtype))
            self._sequential(For("fill.i", count, "seq", (store,)))

    def _store(self, store: Store) -> None:
        value = self.evaluate(store.value)
        mask = None if store.mask is None else self.evaluate(store.mask)
        cell = self.registers.get(store.target)
        if cell is None:
            place = self.places.get(store.target)
            if place is None:
                raise EmitError(f"nothing is called {store.target} here")
            if place.dtype is not value.dtype:
                raise EmitError(f"{value.dtype} is stored in {store.target} of {place.dtype}")
            self.memory.store(self.names, place, store.index, value, self.lanes, mask)
            return
        at = self.register_index(store.target, store.index)
        if mask is not None:
            value = select(self.b, mask, value, cell.values[at])
        if value.lanes > cell.lanes or value.dtype is not cell.dtype or at not in cell.values:
            raise EmitError(f"cell {store.target} cannot hold what is stored in it")
        cell.values[at] = self.b.widen(value, cell.lanes)

    # checks and calls ---------------------------------------------------------------------------

    def _check(self, check: Check) -> None:
        b = self.b
        ok, value = self.evaluate(check.ok), self.evaluate(check.value)
        bad = b.make(
            DType.BOOL, ok.lanes, f"xor {ok.typed}, {constant(1, DType.BOOL, ok.lanes).ref}", [ok]
        )
        number = cast(b, value, I64)
        if bad.lanes > 1:
            bad, number = self._first_bad(bad, number)
        with b.only_if(bad):
            b.effect(f"call void @nnc.fault(ptr %record, i64 {check.site}, i64 {number.ref})")

    def _first_bad(self, bad: Value, number: Value) -> tuple[Value, Value]:
        """Return whether any lane is bad, and the number in the first one that is."""
        b = self.b
        word = f"i{bad.lanes}"
        bits, depth = b.pure(f"bitcast {bad.typed} to {word}", bad.depth)
        some = b.make(DType.BOOL, 1, f"icmp ne {word} {bits}, 0", [bad])
        callee = b.intrinsic("llvm.cttz", word, [word, "i1"], [word])
        lane, _ = b.pure(f"call {callee}({word} {bits}, i1 false)", depth)
        inside, _ = b.pure(f"select i1 {some.ref}, {word} {lane}, {word} 0", depth)
        wide = b.widen(number, bad.lanes)
        text = f"extractelement {wide.typed}, {word} {inside}"
        return some, b.make(I64, 1, text, (bad, wide))

    def _call(self, call: Call) -> None:
        symbol = self.functions.get(call.function)
        if symbol is None:
            raise EmitError(f"no function {call.function}")
        arguments = ["ptr %record"]
        for name, index in call.views:
            place = self.places.get(name)
            if place is None:
                raise EmitError(f"{name} is passed to a function but is not in memory")
            at = self.memory.address(self.names, place, index)
            arguments.append(f"ptr {at.ref}")
        arguments += [f"i64 {scalar(self.b, self.names, size).ref}" for size in call.sizes]
        self.b.effect(f"call void @{symbol}({', '.join(arguments)})")


def stored_names(statements: Sequence[Stmt]) -> frozenset[str]:
    """Return the names of all that ``statements`` store into, nested ones included."""
    found: set[str] = set()
    for statement in statements:
        match statement:
            case Store(target):
                found.add(target)
            case For(body=body):
                found |= stored_names(body)
            case If(_, then, otherwise):
                found |= stored_names(then) | stored_names(otherwise)
            case Call(_, views):
                found |= {name for name, _ in views}
            case _:
                pass
    return frozenset(found)
