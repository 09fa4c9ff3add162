"""Entries: ``int32 entry(int64 *record)``, and their steps as functions.

Steps are ``void steps(ptr record, ptr state)``, straight through the launches; what a thread does
at each of them is in its state (see ``support``). An entry often is others' steps one after the
other, which are then called and not written again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from nnc.backends import base
from nnc.backends.llvm.builder import Builder
from nnc.backends.llvm.kernels import place_of, symbol
from nnc.backends.llvm.operations import apply
from nnc.backends.llvm.subscripts import Bound, scalar
from nnc.backends.llvm.support import STATE_RECORD
from nnc.backends.llvm.target import Target
from nnc.backends.llvm.values import EmitError, Value, constant
from nnc.ir.index import Atom, Axis, Dim, Size, dims_of
from nnc.ir.loops import Barrier, Buffer, Kernel, Launch, Program, Repeat, Step, When
from nnc.ir.types import DType

I64, BOOL = DType.I64, DType.BOOL
_ATTRIBUTES = " nounwind noinline optnone"
"""Entries run once a call: they are not worth the time that good code takes to make."""


def public_symbol(program: str, entry: str) -> str:
    """Return the symbol under which an entry of a program is found."""
    return symbol("nnc", 0, f"{program}_{entry}")


@dataclass(frozen=True, slots=True)
class Shared:
    """Steps that stand in a function of their own, and the dims that they use."""

    steps: tuple[Step, ...]
    name: str
    dims: frozenset[str]


@dataclass(slots=True)
class Walk:
    """Writes steps into a function."""

    program: Program
    b: Builder
    kernels: Mapping[str, tuple[Kernel, str]]
    shared: Sequence[Shared]
    names: dict[Atom, Bound] = field(default_factory=dict)
    turning: frozenset[str] = frozenset()

    def prepare(self) -> None:
        """Name the dims that the record holds."""
        first = base.HEADER + len(self.program.buffers)
        for i, name in enumerate(self.program.dims):
            word = self._word(first + i, "i64")
            self.names[Dim(name)] = Value(word, I64, positive=True)

    def run(self, steps: Sequence[Step]) -> None:
        """Write steps one after the other."""
        at = 0
        while at < len(steps):
            known = self._known(steps, at)
            if known is not None:
                self.b.effect(f"call void @{known.name}(ptr %record, ptr %state)")
                at += len(known.steps)
                continue
            self._step(steps[at])
            at += 1

    def _known(self, steps: Sequence[Step], at: int) -> Shared | None:
        """Return the longest shared steps that stand at a place and mean the same there."""
        fitting = (
            s
            for s in self.shared
            if tuple(steps[at : at + len(s.steps)]) == s.steps and not s.dims & self.turning
        )
        return max(fitting, key=lambda s: len(s.steps), default=None)

    def _step(self, step: Step) -> None:
        match step:
            case Launch():
                self._launch(step)
            case Barrier():
                self.b.effect("call void @nnc.fence(ptr %state)")
            case Repeat():
                self._repeat(step)
            case When():
                holds = self._holds(step)
                with self.b.only_if(holds):
                    self.run(step.steps)
                if step.otherwise:
                    with self.b.only_if(apply(self.b, "not", [holds], BOOL)):
                        self.run(step.otherwise)

    def _launch(self, launch: Launch) -> None:
        kernel, name = self.kernels[launch.kernel]
        if len(launch.views) != len(kernel.params) or len(launch.extents) != len(kernel.grid):
            raise EmitError(f"a launch does not fit kernel {kernel.name}")
        arguments = [
            f"ptr {self._record()}",
            "ptr %state",
            *(f"ptr {self._address(v)}" for v in launch.views),
            *(f"i64 {self._size(Dim(d).as_poly()).ref}" for d in kernel.dims),
            *(f"i64 {self._size(e).ref}" for e in launch.extents),
        ]
        self.b.effect(f"call void @{name}({', '.join(arguments)})")

    def _repeat(self, step: Repeat) -> None:
        b = self.b
        extent = b.once(f"call i64 @nnc.turns(ptr %state, i64 {self._size(step.extent).ref})")
        some = b.once(f"icmp sgt i64 {extent}, 0")
        inside, after = b.new_block("turn"), b.new_block("turned")
        before = b.block
        b.branch(some, inside, after)
        outer = self.names, self.turning
        with b.scope(inside):
            turn = b.phi(inside, "i64")
            turn.add("0", before)
            value = Value(turn.ref, I64, 1, b.depth, positive=True)
            self.names = {**self.names, Axis(step.axis): value, Dim(step.axis): value}
            self.turning |= {step.axis}
            self.run(step.steps)
            following = b.once(f"add nuw nsw i64 {turn.ref}, 1")
            more = b.once(f"icmp slt i64 {following}, {extent}")
            turn.add(following, b.block)
            b.branch(more, inside, after)
        self.names, self.turning = outer
        b.move_to(after)

    def _holds(self, step: When) -> Value:
        holds = constant(1, BOOL)
        for condition in step.conditions:
            inside = apply(self.b, "ge", [self._size(condition), constant(0, I64)], BOOL)
            holds = apply(self.b, "and", [holds, inside], BOOL)
        return holds

    def _size(self, size: Size) -> Value:
        return scalar(self.b, self.names, size)

    def _address(self, name: str) -> str:
        buffers: dict[str, Buffer] = {b.name: b for b in self.program.buffers}
        root, offset = place_of(buffers, name)
        position = list(buffers).index(root)
        at = self._word(base.HEADER + position, "ptr")
        if offset:
            by = offset if isinstance(offset, int) else self._size(offset).ref
            at = self.b.once(f"getelementptr i8, ptr {at}, i64 {by}")
        return at

    def _record(self) -> str:
        # The caller's own record takes the faults. What is read here may be of a thread's copy.
        at, _ = self.b.pure(f"getelementptr i64, ptr %state, i64 {STATE_RECORD}", 0, cheap=True)
        return self.b.pure(f"load ptr, ptr {at}, align 8", 0, cheap=True)[0]

    def _word(self, number: int, kind: str) -> str:
        # What is read of the record does not change while an entry runs.
        at, _ = self.b.pure(f"getelementptr i64, ptr %record, i64 {number}", 0, cheap=True)
        return self.b.pure(f"load {kind}, ptr {at}, align 8", 0, cheap=True)[0]


def emit_entries(
    program: Program,
    kernels: Mapping[str, tuple[Kernel, str]],
    target: Target,
    declarations: dict[str, str],
) -> Iterator[str]:
    """Yield the text of every entry. Raises EmitError, naming the entry."""
    shared: list[Shared] = []
    words = base.HEADER + len(program.buffers) + len(program.dims)
    offsets = {b.name: b.offset for b in program.buffers}
    numbered = sorted(enumerate(program.entries), key=lambda e: (len(_flat(e[1].steps)), e[0]))
    for number, entry in numbered:
        same = next((s for s in shared if s.steps == entry.steps), None)
        if same is None:
            same = Shared(
                entry.steps,
                symbol("steps", number, entry.name),
                _used(entry.steps, kernels, offsets),
            )
            walk = Walk(program, Builder(target, declarations), kernels, shared)
            try:
                yield _steps_text(walk, same)
            except EmitError as error:
                raise EmitError(f"entry {entry.name}: {error}") from error
            if entry.steps:
                shared.append(same)
        name = public_symbol(program.name, entry.name)
        yield (
            f"define i32 @{name}(ptr %record){_ATTRIBUTES} {{\n"
            f"  %code = call i32 @nnc.enter(ptr %record, ptr @{same.name}, i64 {words})\n"
            "  ret i32 %code\n}\n"
        )


def _steps_text(walk: Walk, part: Shared) -> str:
    walk.prepare()
    walk.run(part.steps)
    walk.b.block.end = "ret void"
    head = f"define internal void @{part.name}(ptr %record, ptr %state){_ATTRIBUTES}"
    return walk.b.text(head)


def _flat(steps: Sequence[Step]) -> list[Step]:
    """Return all steps, those in loops and choices too."""
    found: list[Step] = []
    for step in steps:
        found.append(step)
        match step:
            case Repeat(_, _, inner):
                found += _flat(inner)
            case When(_, yes, no):
                found += _flat(yes) + _flat(no)
            case _:
                pass
    return found


def _used(
    steps: Sequence[Step],
    kernels: Mapping[str, tuple[Kernel, str]],
    offsets: Mapping[str, Size],
) -> frozenset[str]:
    """Return the dims that steps or their kernels use."""
    dims: set[str] = set()
    for step in _flat(steps):
        match step:
            case Launch(kernel, views, extents):
                dims.update(kernels[kernel][0].dims, *(dims_of(e) for e in extents))
                dims.update(*(dims_of(offsets[v]) for v in views if v in offsets))
            case Repeat(_, extent, _):
                dims |= dims_of(extent)
            case When(conditions, _, _):
                dims.update(*(dims_of(c) for c in conditions))
            case _:
                pass
    return frozenset(dims)
