"""Writes once what kernels do that differ only in numbers, as a function that they call.

Random numbers are the longest code there is, and each tensor that is drawn has a stream of its own:
the kernels that make the first values of equal layers differ in one literal, those of other
layers in the lengths of loops and in a scale as well.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from nnc.ir.expr import Const, Position
from nnc.ir.index import Axis, Dim, Size, axes_of, dims_of
from nnc.ir.loops import (
    Call,
    Expr,
    For,
    Function,
    If,
    Kernel,
    Let,
    Local,
    Op,
    Param,
    Program,
    Stmt,
    Store,
)
from nnc.ir.loops_walk import (
    bound_names,
    expressions,
    parts,
    statements,
    walk,
    with_expressions,
    with_parts,
)
from nnc.ir.types import DType
from nnc.passes.schedule.exprs import locals_of, sizes_of

LONG = frozenset({"philox"})
"""Operations that are worth a function."""

GIVEN = frozenset({DType.F32, DType.U32})
"""Literals of these types may be given to a function, as whole numbers of 32 bits."""


def share(program: Program) -> Program:
    """Return an equal program in which long kernels of one structure call one function."""
    alike: dict[Hashable, list[_Body]] = {}
    for kernel in program.kernels:
        if _is_long(kernel):
            body = _Body.of(kernel)
            alike.setdefault(body.key, []).append(body)
    functions = list(program.functions)
    kernels = {k.name: k for k in program.kernels}
    for bodies in alike.values():
        if len(bodies) > 1:
            function, callers = _shared(bodies)
            functions.append(function)
            kernels.update({k.name: k for k in callers})
    return replace(program, functions=tuple(functions), kernels=tuple(kernels.values()))


def _is_long(kernel: Kernel) -> bool:
    """Whether a kernel is one loop, after values bound for it, with a long operation in it."""
    *lets, last = kernel.body
    if not isinstance(last, For) or not all(isinstance(s, Let) for s in lets):
        return False
    found = walk([e for s in statements([last]) for e in expressions(s)])
    return any(isinstance(e, Op) and e.name in LONG for e in found)


@dataclass(frozen=True, slots=True)
class _Body:
    """What a kernel does, with its lengths and literals taken out.

    ``body`` has ``Axis(names[k])`` in place of length ``turns[k]``.
    """

    kernel: Kernel
    body: tuple[Stmt, ...]
    names: tuple[str, ...]
    turns: tuple[Size, ...]
    literals: tuple[Const, ...]
    key: Hashable

    @staticmethod
    def of(kernel: Kernel) -> _Body:
        """Take ``kernel`` apart."""
        outer = {s.name for s in kernel.body if isinstance(s, Let)} | {*kernel.grid, *kernel.dims}
        taken = _names_in(kernel)
        turns: list[Size] = []
        names: list[str] = []
        literals: list[Const] = []

        def extent(size: Size) -> Size:
            if not _used_by(size) <= outer:
                return size
            turns.append(size)
            names.append(_fresh("turns", taken))
            return Axis(names[-1]).as_poly()

        def literal(c: Const) -> Expr:
            literals.append(c)
            return Const(0, c.dtype)

        body = _needed(tuple(_changed(s, lambda c: c, extent) for s in kernel.body))
        plain = _numbered(tuple(_changed(s, literal, lambda s: s) for s in body))
        access = tuple((p.name, p.dtype, len(p.extents), p.access) for p in kernel.params)
        key = (plain, access, kernel.dims, kernel.grid)
        return _Body(kernel, body, tuple(names), tuple(turns), tuple(literals), key)


def _shared(bodies: Sequence[_Body]) -> tuple[Function, list[Kernel]]:
    """A function for what ``bodies`` have in common, and the kernels that call it instead."""
    first = bodies[0]
    kernel = first.kernel
    taken = {n for b in bodies for n in (*_names_in(b.kernel), *b.names)}
    fixed = {
        name: turns[0]
        for name, *turns in zip(first.names, *(b.turns for b in bodies), strict=True)
        if isinstance(turns[0], int) and len(set(turns)) == 1
    }
    given = {
        k: _fresh("number", taken)
        for k, found in enumerate(zip(*(b.literals for b in bodies), strict=True))
        if len(set(found)) > 1
    }
    params: list[Param] = []
    extents: list[str] = []
    for p in kernel.params:
        names = [_fresh("size", taken) for _ in p.extents]
        extents += names
        params.append(replace(p, extents=tuple(Axis(n).as_poly() for n in names)))
    places = iter(range(len(first.literals)))

    def literal(c: Const) -> Expr:
        name = given.get(next(places))
        return c if name is None else _taken(name, c.dtype)

    def extent(size: Size) -> Size:
        name = next(iter(_used_by(size)), "")
        return fixed.get(name, size)

    body = tuple(_changed(s, literal, extent) for s in first.body)
    lengths = tuple(n for n in first.names if n not in fixed)
    sizes = (*kernel.grid, *kernel.dims, *extents, *lengths, *given.values())
    function = Function(f"{kernel.name}.shared", tuple(params), sizes, body)
    return function, [_caller(b, function.name, fixed, list(given)) for b in bodies]


def _caller(body: _Body, function: str, fixed: Mapping[str, Size], given: Sequence[int]) -> Kernel:
    """The kernel of ``body`` as a call of ``function``."""
    kernel = body.kernel
    views = tuple((p.name, (0,) * len(p.extents)) for p in kernel.params)
    lets: list[Stmt] = [s for s in kernel.body if isinstance(s, Let)]
    taken = _names_in(kernel)
    lengths: list[Size] = []
    for name, size in zip(body.names, body.turns, strict=True):
        if name in fixed:
            continue
        if isinstance(size, int):
            lengths.append(size)
            continue
        bound = _fresh("length", taken)  # what functions are given is never negative
        zero = Const(0, DType.I64)
        lets.append(Let(bound, Op("max", (Position(size), zero), DType.I64)))
        lengths.append(Axis(bound).as_poly())
    sizes: tuple[Size, ...] = (
        *(Axis(g).as_poly() for g in kernel.grid),
        *(Dim(d).as_poly() for d in kernel.dims),
        *(n for p in kernel.params for n in p.extents),
        *lengths,
        *(_given(body.literals[k]) for k in given),
    )
    return replace(kernel, body=_needed((*lets, Call(function, views, sizes))))


# literals as whole numbers ------------------------------------------------------------------


def _given(literal: Const) -> int:
    """The bits of a literal."""
    if literal.dtype is DType.U32:
        return int(literal.value) & 0xFFFFFFFF
    value = float(literal.value)
    try:
        packed = struct.pack("<f", value)
    except OverflowError:
        packed = struct.pack("<f", math.copysign(math.inf, value))
    return int.from_bytes(packed, "little")


def _taken(name: str, dtype: DType) -> Expr:
    """The literal whose bits ``name`` is."""
    whole = Position(Axis(name).as_poly(), DType.U32)
    return whole if dtype is DType.U32 else Op("bitcast", (whole,), dtype)


# statements ---------------------------------------------------------------------------------


def _changed(stmt: Stmt, literal: Callable[[Const], Expr], extent: Callable[[Size], Size]) -> Stmt:
    """Change the literals that can be given and the lengths of sequential loops, in order."""

    def expr(e: Expr) -> Expr:
        if isinstance(e, Const):
            return literal(e) if e.dtype in GIVEN else e
        inner = parts(e)
        return with_parts(e, [expr(p) for p in inner]) if inner else e

    match stmt:
        case For(extent=size, kind=kind, body=body):
            new = extent(size) if kind == "seq" else size
            return replace(stmt, extent=new, body=tuple(_changed(s, literal, extent) for s in body))
        case If(condition, then, otherwise):
            return If(
                expr(condition),
                tuple(_changed(s, literal, extent) for s in then),
                tuple(_changed(s, literal, extent) for s in otherwise),
            )
    return with_expressions(stmt, [expr(e) for e in expressions(stmt)])


def _numbered(body: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
    """``body`` with its values called by numbers, where subscripts do not use them."""
    mentioned = {n for s in statements(body) for size in _sizes_in(s) for n in _used_by(size)}
    lets = [s.name for s in statements(body) if isinstance(s, Let)]
    names = {n: f"value{k}" for k, n in enumerate(lets) if n not in mentioned}

    def expr(e: Expr) -> Expr:
        if isinstance(e, Local):
            return replace(e, name=names.get(e.name, e.name))
        inner = parts(e)
        return with_parts(e, [expr(p) for p in inner]) if inner else e

    def stmt(s: Stmt) -> Stmt:
        match s:
            case For(body=inner):
                return replace(s, body=tuple(stmt(t) for t in inner))
            case If(condition, then, otherwise):
                return If(expr(condition), tuple(map(stmt, then)), tuple(map(stmt, otherwise)))
            case Let(name, value):
                return Let(names.get(name, name), expr(value))
        return with_expressions(s, [expr(e) for e in expressions(s)])

    return tuple(map(stmt, body))


def _needed(body: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
    """``body`` without the bindings in its outermost block that nothing uses."""
    used: set[str] = set()
    kept: list[Stmt] = []
    for stmt in reversed(body):
        if not isinstance(stmt, Let) or stmt.name in used:
            kept.append(stmt)
            used |= _names_used(stmt)
    return tuple(reversed(kept))


def _names_used(stmt: Stmt) -> set[str]:
    """The names that a statement mentions, in values, subscripts and lengths."""
    found: set[str] = set()
    for s in statements([stmt]):
        found |= {name for e in expressions(s) for name in locals_of(e)}
        found |= {name for size in _sizes_in(s) for name in _used_by(size)}
    return found


def _sizes_in(stmt: Stmt) -> Iterator[Size]:
    """The lengths and subscripts of a statement, without those of statements inside it."""
    for e in expressions(stmt):
        yield from sizes_of(e)
    match stmt:
        case For(extent=extent, start=start):
            yield from (extent, start)
        case Store(index=index):
            yield from index
        case Call(views=views, sizes=sizes):
            yield from sizes
            for _, index in views:
                yield from index


def _used_by(size: Size) -> frozenset[str]:
    return axes_of(size) | dims_of(size)


def _names_in(kernel: Kernel) -> set[str]:
    """Every name that is taken in a kernel."""
    return {*kernel.dims, *kernel.grid, *(p.name for p in kernel.params), *bound_names(kernel.body)}


def _fresh(stem: str, taken: set[str]) -> str:
    """A name that is not taken yet, and now is."""
    k = 0
    while f"{stem}{k}" in taken:
        k += 1
    taken.add(f"{stem}{k}")
    return f"{stem}{k}"
