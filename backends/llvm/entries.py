"""Entries: ``int32 entry(int64 *record)``, and the walk through its steps that threads make.

An entry counts first, from the dims alone, how many tasks its largest launch has. At most one:
the caller's thread walks alone and no other wakes. Else the team runs the same walk on every
thread; see ``support``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nnc.backends import base
from nnc.backends.llvm.abi import TICKET_RUN
from nnc.backends.llvm.builder import Builder
from nnc.backends.llvm.kernels import place_of, symbol
from nnc.backends.llvm.operations import apply
from nnc.backends.llvm.subscripts import Bound, scalar
from nnc.backends.llvm.support import (
    STATE_BEGIN,
    STATE_CORE,
    STATE_END,
    STATE_THREAD,
    STATE_THREADS,
    STATE_WORDS,
)
from nnc.backends.llvm.target import Target
from nnc.backends.llvm.values import EmitError, Value, constant
from nnc.ir.index import Atom, Axis, Dim, Size
from nnc.ir.loops import Barrier, Buffer, Entry, Kernel, Launch, Program, Repeat, Step, When
from nnc.ir.types import DType

I64 = DType.I64


def public_symbol(program: str, entry: str) -> str:
    """Return the symbol under which an entry of a program is found."""
    return symbol("nnc", 0, f"{program}_{entry}")


@dataclass(slots=True)
class Walk:
    """Writes the steps of one entry into a function."""

    program: Program
    b: Builder
    names: dict[Atom, Bound]
    kernels: Mapping[str, tuple[Kernel, str]]

    def prepare(self) -> None:
        """Read the dims from the record."""
        first = base.HEADER + len(self.program.buffers)
        for i, name in enumerate(self.program.dims):
            word = self._word(first + i, "i64")
            self.names[Dim(name)] = Value(word, I64, positive=True)

    def size(self, size: Size) -> Value:
        """Return the value of a size."""
        return scalar(self.b, self.names, size)

    def address(self, name: str) -> str:
        """Return the address of a buffer."""
        buffers: dict[str, Buffer] = {b.name: b for b in self.program.buffers}
        root, offset = place_of(buffers, name)
        position = next(i for i, b in enumerate(self.program.buffers) if b.name == root)
        at = self._word(base.HEADER + position, "ptr")
        if offset:
            at, _ = self.b.pure(f"getelementptr i8, ptr {at}, i64 {offset}", 0, cheap=True)
        return at

    def _word(self, number: int, kind: str) -> str:
        at, _ = self.b.pure(f"getelementptr i64, ptr %record, i64 {number}", 0, cheap=True)
        # The record does not change while an entry runs, except for the words of faults.
        return self.b.pure(f"load {kind}, ptr {at}, align 8", 0, cheap=True)[0]

    def total(self, extents: Sequence[Size]) -> Value:
        """Return the number of tasks of a launch."""
        known = math.prod(max(e, 0) for e in extents if isinstance(e, int))
        result = constant(known, I64)
        for extent in extents:
            if not isinstance(extent, int):
                factor = apply(self.b, "max", [self.size(extent), constant(0, I64)], I64)
                result = apply(self.b, "mul", [result, factor], I64)
        return result

    # control shared by both walks -------------------------------------------------------------

    def when(self, step: When) -> Value:
        """Return whether all conditions of a choice hold."""
        holds = constant(1, DType.BOOL)
        for condition in step.conditions:
            inside = apply(self.b, "ge", [self.size(condition), constant(0, I64)], DType.BOOL)
            holds = apply(self.b, "and", [holds, inside], DType.BOOL)
        return holds

    # the walk itself --------------------------------------------------------------------------

    def run(self, steps: Sequence[Step]) -> None:
        """Write the steps so that they run."""
        for step in steps:
            match step:
                case Launch():
                    self._launch(step)
                case Barrier():
                    self.b.effect("call void @nnc.fence(ptr %state)")
                case Repeat():
                    self._repeat(step)
                case When():
                    holds = self.when(step)
                    with self.b.only_if(holds):
                        self.run(step.steps)
                    if step.otherwise:
                        fails = apply(self.b, "not", [holds], DType.BOOL)
                        with self.b.only_if(fails):
                            self.run(step.otherwise)

    def _launch(self, launch: Launch) -> None:
        b = self.b
        kernel, name = self.kernels[launch.kernel]
        arguments = self._arguments(launch, kernel)
        b.effect(f"call void @nnc.open(ptr %state, i64 {self.total(launch.extents).ref})")
        claim, work, after = (b.new_block(n) for n in ("claim", "work", "launched"))
        b.jump(claim)
        with b.scope(claim):
            more = b.once("call i1 @nnc.claim(ptr %state)")
            b.branch(more, work, after)
            b.move_to(work)
            begin, end = (
                b.once(f"load i64, ptr {b.once(f'getelementptr i64, ptr %state, i64 {word}')}")
                for word in (STATE_BEGIN, STATE_END)
            )
            inside = [*arguments, f"i64 {begin}", f"i64 {end}"]
            b.effect(f"call void @{name}({', '.join(inside)})")
            b.jump(claim)
        b.move_to(after)

    def _arguments(self, launch: Launch, kernel: Kernel) -> list[str]:
        if len(launch.views) != len(kernel.params) or len(launch.extents) != len(kernel.grid):
            raise EmitError(f"a launch does not fit kernel {kernel.name}")
        return [
            "ptr %record",
            *(f"ptr {self.address(v)}" for v in launch.views),
            *(f"i64 {self.size(Dim(d).as_poly()).ref}" for d in kernel.dims),
            *(f"i64 {self.size(e).ref}" for e in launch.extents),
        ]

    def _repeat(self, step: Repeat) -> None:
        b = self.b
        extent = self.size(step.extent)
        inside, after = b.new_block("turn"), b.new_block("turned")
        some = apply(b, "gt", [extent, constant(0, I64)], DType.BOOL)
        before = b.block
        b.branch(some.ref, inside, after)
        outer = dict(self.names)
        with b.scope(inside):
            turn = b.phi(inside, "i64")
            turn.add("0", before)
            self.names[Axis(step.axis)] = self.names[Dim(step.axis)] = Value(
                turn.ref, I64, 1, b.depth, positive=True
            )
            self.run(step.steps)
            following = b.once(f"add nuw nsw i64 {turn.ref}, 1")
            more = b.once(f"icmp slt i64 {following}, {extent.ref}")
            turn.add(following, b.block)
            b.branch(more, inside, after)
        self.names = outer
        b.move_to(after)

    # how wide it is ---------------------------------------------------------------------------

    def width(self, steps: Sequence[Step]) -> Value:
        """Return the most tasks that a launch among ``steps`` has (in the first turn of loops)."""
        most = constant(0, I64)
        for step in steps:
            match step:
                case Launch(_, _, extents):
                    found = self.total(extents)
                case Repeat(axis, _, inner):
                    outer = dict(self.names)
                    self.names[Axis(axis)] = self.names[Dim(axis)] = 0
                    found = self.width(inner)
                    self.names = outer
                case When(_, yes, no):
                    holds = self.when(step)
                    found = apply(self.b, "select", [holds, self.width(yes), self.width(no)], I64)
                case _:
                    continue
            most = apply(self.b, "max", [most, found], I64)
        return most


def emit_entry(
    program: Program,
    entry: Entry,
    number: int,
    kernels: Mapping[str, tuple[Kernel, str]],
    target: Target,
    declarations: dict[str, str],
) -> str:
    """Return the text of an entry: its walk, its width, and the function the caller sees."""
    walk_name, width_name = (symbol(k, number, entry.name) for k in ("walk", "width"))
    try:
        walk = _walk_text(Walk(program, Builder(target, declarations), {}, kernels), entry)
        width = _width_text(Walk(program, Builder(target, declarations), {}, kernels), entry)
    except EmitError as error:
        raise EmitError(f"entry {entry.name}: {error}") from error
    public = _PUBLIC.format(
        name=public_symbol(program.name, entry.name),
        walk=walk_name,
        width=width_name,
        team=base.TEAM,
        version=base.VERSION,
        known=base.RECORD_VERSION,
        count=base.FAULT_COUNT,
        run=TICKET_RUN,
    )
    return (
        walk.replace("@WALK", f"@{walk_name}") + width.replace("@WIDTH", f"@{width_name}") + public
    )


def _walk_text(walk: Walk, entry: Entry) -> str:
    b = walk.b
    b.allocations.append(f"%state = alloca i64, i64 {STATE_WORDS}, align 64")
    start = {
        STATE_CORE: "ptr %core",
        STATE_THREAD: f"i64 {b.once('zext i32 %thread to i64')}",
        STATE_THREADS: f"i64 {b.once('zext i32 %threads to i64')}",
    }
    for word in range(STATE_WORDS):
        at = b.once(f"getelementptr i64, ptr %state, i64 {word}")
        b.effect(f"store {start.get(word, 'i64 0')}, ptr {at}")
    b.effect("%old = call i64 @nnc.float.enter()")
    walk.prepare()
    walk.run(entry.steps)
    b.effect("call void @nnc.float.leave(i64 %old)")
    b.block.end = "ret void"
    return b.text(
        "define internal void @WALK(i32 %thread, ptr %record, ptr %core, i32 %threads)" + _COLD
    )


def _width_text(walk: Walk, entry: Entry) -> str:
    walk.prepare()
    most = walk.width(entry.steps)
    walk.b.block.end = f"ret i64 {most.ref}"
    return walk.b.text("define internal i64 @WIDTH(ptr %record)" + _COLD)


_COLD = " nounwind noinline optnone"
"""Entries run once a call: they are not worth the time that good code takes to make."""

_PUBLIC = """define i32 @{name}(ptr %record) nounwind noinline optnone {{
entry:
  %versionp = getelementptr i64, ptr %record, i64 {version}
  %version = load i64, ptr %versionp
  %fits = icmp eq i64 %version, {known}
  br i1 %fits, label %begin, label %refuse
refuse:
  ret i32 2
begin:
  %countp = getelementptr i64, ptr %record, i64 {count}
  store i64 0, ptr %countp
  %ticketp = getelementptr i64, ptr %record, i64 {team}
  %ticket = load ptr, ptr %ticketp
  %alone = icmp eq ptr %ticket, null
  br i1 %alone, label %solo, label %look
look:
  %width = call i64 @{width}(ptr %record)
  %wide = icmp sgt i64 %width, 1
  br i1 %wide, label %together, label %solo
together:
  %runp = getelementptr i8, ptr %ticket, i64 {run}
  %run = load ptr, ptr %runp
  call void %run(ptr %ticket, ptr @{walk}, ptr %record, i64 %width)
  br label %done
solo:
  call void @{walk}(i32 0, ptr %record, ptr null, i32 1)
  br label %done
done:
  %count = load atomic i64, ptr %countp monotonic, align 8
  %bad = icmp ne i64 %count, 0
  %code = zext i1 %bad to i32
  ret i32 %code
}}
"""
