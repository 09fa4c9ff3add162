"""Kernels and shared functions as LLVM functions.

``void kernel(ptr record, ptr state, ptr view..., i64 dim..., i64 extent...)`` runs this thread's
share of the tasks of its grid, counted row-major, so that what all tasks share is computed once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from nnc.backends.llvm.builder import Builder
from nnc.backends.llvm.memory import Memory, Place
from nnc.backends.llvm.operations import apply
from nnc.backends.llvm.statements import Body
from nnc.backends.llvm.subscripts import Bound, scalar
from nnc.backends.llvm.support import STATE_BEGIN, STATE_END
from nnc.backends.llvm.target import Target
from nnc.backends.llvm.values import EmitError, Value, constant
from nnc.ir.index import Atom, Axis, Dim, Size, apart, product
from nnc.ir.loops import Buffer, Function, Kernel, Launch, Param, Program, Repeat, Step, When
from nnc.ir.types import DType

I64 = DType.I64


def symbol(kind: str, number: int, name: str) -> str:
    """Return a symbol that is unique in a module and tells what it is."""
    return f"{kind}{number}.{re.sub(r'[^A-Za-z0-9_]', '_', name)}"


@dataclass(frozen=True, slots=True)
class Sharing:
    """Which parameters of a kernel share memory with one that it writes, in some launch."""

    shared: frozenset[int]

    def steady(self, position: int, param: Param) -> bool:
        """Whether the parameter's contents stay as they are while a task runs."""
        return param.access == "r" and position not in self.shared


def sharing(program: Program) -> dict[str, Sharing]:
    """Find, for every kernel, the parameters that a launch lets overlap a written one."""
    kernels = {k.name: k for k in program.kernels}
    buffers = {b.name: b for b in program.buffers}
    shared: dict[str, set[int]] = {k.name: set() for k in program.kernels}
    for entry in program.entries:
        for launch in launches(entry.steps):
            params = kernels[launch.kernel].params
            for i, first in enumerate(launch.views):
                for j, second in enumerate(launch.views[:i]):
                    reads_only = params[i].access == params[j].access == "r"
                    if not reads_only and _overlap(buffers, first, second):
                        shared[launch.kernel] |= {i, j}
    return {name: Sharing(frozenset(found)) for name, found in shared.items()}


def launches(steps: Sequence[Step]) -> list[Launch]:
    """Return all launches, those in loops and branches too."""
    found: list[Launch] = []
    for step in steps:
        match step:
            case Launch():
                found.append(step)
            case Repeat(_, _, inner):
                found += launches(inner)
            case When(_, yes, no):
                found += launches(yes) + launches(no)
            case _:
                pass
    return found


def place_of(buffers: Mapping[str, Buffer], name: str) -> tuple[str, Size]:
    """Return the outermost buffer around ``name`` and the offset in it, in bytes."""
    offset: Size = 0
    buffer = buffers[name]
    while buffer.inside is not None:
        offset = offset + buffer.offset * buffer.dtype.bytes
        buffer = buffers[buffer.inside]
    return buffer.name, offset


def _overlap(buffers: Mapping[str, Buffer], first: str, second: str) -> bool:
    (root, start), (other_root, other_start) = (place_of(buffers, n) for n in (first, second))
    if root != other_root:
        return False
    if not (isinstance(start, int) and isinstance(other_start, int)):
        sizes = [product((*buffers[n].extents, buffers[n].dtype.bytes)) for n in (first, second)]
        return sizes[0] != sizes[1] or not apart(start, other_start, sizes[0])
    low, high = sorted(((start, first), (other_start, second)))
    size = product(buffers[low[1]].extents)
    return not isinstance(size, int) or low[0] + size * buffers[low[1]].dtype.bytes > high[0]


def emit_kernel(
    kernel: Kernel,
    target: Target,
    declarations: dict[str, str],
    functions: Mapping[str, str],
    shared: Sharing,
    work: Size,
) -> str:
    """Return a kernel's function, from its parameter list on. Raises EmitError, naming the kernel.

    ``work`` estimates a task's instructions, from the kernel's dims.
    """
    b = Builder(target, declarations)
    dims, extents = _numbers("dim", kernel.dims), _numbers("extent", kernel.grid)
    names: dict[Atom, Bound] = {Dim(name): value for name, value in dims.items()}
    body = Body(b, Memory(b), names, {}, _places(kernel.params, shared), {}, functions=functions)
    try:
        _tasks(body, kernel, extents, scalar(b, names, work))
    except EmitError as error:
        raise EmitError(f"kernel {kernel.name}: {error}") from error
    arguments = ["ptr %record", "ptr %state", *_pointers(kernel.params, shared)]
    arguments += [f"i64 {v.ref}" for v in (*dims.values(), *extents.values())]
    return b.text(f"({', '.join(arguments)}) nounwind")


def emit_function(
    function: Function,
    name: str,
    target: Target,
    declarations: dict[str, str],
    functions: Mapping[str, str],
) -> str:
    """Return the text of a shared function. Raises EmitError, naming the function."""
    b = Builder(target, declarations)
    unknown = Sharing(frozenset(range(len(function.params))))
    sizes = _numbers("size", function.sizes)
    names: dict[Atom, Bound] = {Dim(name): value for name, value in sizes.items()}
    names.update({Axis(name): value for name, value in sizes.items()})
    places = _places(function.params, unknown)
    body = Body(b, Memory(b), names, {}, places, {}, functions=functions)
    try:
        body.run(function.body)
    except EmitError as error:
        raise EmitError(f"function {function.name}: {error}") from error
    b.block.end = "ret void"
    arguments = ["ptr %record", *_pointers(function.params, unknown)]
    arguments += [f"i64 {v.ref}" for v in sizes.values()]
    return b.text(f"define internal void @{name}({', '.join(arguments)}) nounwind")


# Locals are numbered, not named, so that kernels that differ in names only are equal as text.


def _numbers(kind: str, names: Sequence[str]) -> dict[str, Value]:
    return {n: Value(f"%{kind}{i}", I64, positive=True) for i, n in enumerate(names)}


def _places(params: Sequence[Param], shared: Sharing) -> dict[str, Place]:
    return {
        p.name: Place(
            Value(f"%view{i}", I64),
            p.dtype,
            p.extents,
            steady=shared.steady(i, p),
        )
        for i, p in enumerate(params)
    }


def _pointers(params: Sequence[Param], shared: Sharing) -> list[str]:
    texts = []
    for i, param in enumerate(params):
        attributes = f"align {param.dtype.bytes}"
        if i not in shared.shared:
            attributes = f"noalias {attributes}"
        if param.access == "r":
            attributes += " readonly"
        texts.append(f"ptr {attributes} %view{i}")
    return texts


def _tasks(body: Body, kernel: Kernel, extents: Mapping[str, Value], each: Value) -> None:
    """Write the loops over this thread's shares, and over their tasks, around the body."""
    b = body.b
    count = _count(b, extents)
    b.effect(f"call void @nnc.open(ptr %state, i64 {count.ref}, i64 {each.ref})")
    claim, work, after = (b.new_block(name) for name in ("claim", "work", "done"))
    b.jump(claim)
    with b.scope(claim):
        more = b.once("call i1 @nnc.claim(ptr %state)")
        b.branch(more, work, after)
        b.move_to(work)
        begin, end = (
            b.once(f"load i64, ptr {b.once(f'getelementptr i64, ptr %state, i64 {word}')}")
            for word in (STATE_BEGIN, STATE_END)
        )
        inside = b.new_block("task")
        b.jump(inside)
        with b.scope(inside):
            task = b.phi(inside, "i64")
            task.add(begin, work)
            _place(body, kernel, Value(task.ref, I64, 1, b.depth, positive=True), extents)
            body.run(kernel.body)
            following = b.once(f"add nuw nsw i64 {task.ref}, 1")
            again = b.once(f"icmp ult i64 {following}, {end}")
            task.add(following, b.block)
            b.branch(again, inside, claim)
    b.move_to(after)
    after.end = "ret void"


def _count(b: Builder, extents: Mapping[str, Value]) -> Value:
    """Return the number of tasks of the grid."""
    total: Value | None = None
    for extent in extents.values():
        factor = apply(b, "max", [extent, constant(0, I64)], I64)
        total = factor if total is None else apply(b, "mul", [total, factor], I64)
    return constant(1, I64) if total is None else total


def _place(body: Body, kernel: Kernel, task: Value, extents: Mapping[str, Value]) -> None:
    """Tell the body where in the grid a task stands."""
    b = body.b
    for name in reversed(kernel.grid[1:]):
        body.names[Axis(name)] = _udiv(b, "urem", task, extents[name])
        task = _udiv(b, "udiv", task, extents[name])
    if kernel.grid:
        body.names[Axis(kernel.grid[0])] = task


def _udiv(b: Builder, name: str, value: Value, by: Value) -> Value:
    return replace(b.make(I64, 1, f"{name} i64 {value.ref}, {by.ref}", (value, by)), positive=True)
