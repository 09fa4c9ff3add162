"""Puts a body, its parameters and its grid together to a kernel."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from nnc.ir.index import Size, dims_of
from nnc.ir.loops import (
    Cell,
    Check,
    Expr,
    For,
    If,
    Kernel,
    Launch,
    Let,
    Param,
    Site,
    Step,
    Stmt,
    Store,
)
from nnc.ir.span import Span
from nnc.ir.types import DType
from nnc.passes.schedule.code import Code, used
from nnc.passes.schedule.exprs import loads_of, sizes_of
from nnc.passes.schedule.nest import grid_axis
from nnc.passes.schedule.tiles import Tile


@dataclass(frozen=True, slots=True)
class Tensor:
    """Memory that kernels read and write: its name, type and number of elements."""

    name: str
    dtype: DType
    size: Size


@dataclass(slots=True)
class Sites:
    """The places where data may be at fault, numbered as they are met."""

    numbers: dict[Site, int] = field(default_factory=dict)

    def __call__(self, site: Site) -> int:
        """The number of ``site``."""
        return self.numbers.setdefault(site, len(self.numbers))


@dataclass(slots=True)
class Work:
    """What scheduling adds to: kernels, the steps of one entry, tensors for partial results."""

    tensor: Callable[[str], Tensor]
    scratch: Callable[[str, DType, Size], str]
    sites: Sites
    kernels: list[Kernel] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)


@dataclass(slots=True)
class Params:
    """The tensors that a kernel uses, in order of first use."""

    tensor: Callable[[str], Tensor]
    names: dict[str, str] = field(default_factory=dict)

    def __call__(self, tensor: str) -> str:
        """The parameter that stands for ``tensor``."""
        return self.names.setdefault(tensor, f"p{len(self.names)}")


def finish(
    work: Work, hint: str, code: Code, params: Params, cut: Sequence[Tile], span: Span | None
) -> None:
    """Add the kernel whose body ``code`` holds to ``work``, and its launch, if it does anything."""
    if not code.body:
        return
    grid = [(grid_axis(t), t.tasks) for t in cut if t.block is not None] or [("task", 1)]
    body = code.body
    read, written = _touched(body)
    tensors = {name: params.tensor(key) for key, name in params.names.items()}
    listed = tuple(
        Param(name, t.dtype, (t.size,), _access(name in read, name in written))
        for name, t in tensors.items()
    )
    dims = sorted(dims_in(body) | {d for t in tensors.values() for d in dims_of(t.size)})
    stem = re.sub(r"[^A-Za-z0-9_]+", "_", hint).strip("_") or "kernel"
    name = f"{stem}_{len(work.kernels)}"
    work.kernels.append(Kernel(name, listed, tuple(dims), tuple(a for a, _ in grid), body, span))
    work.steps.append(Launch(name, tuple(params.names), tuple(n for _, n in grid)))


def _access(read: bool, written: bool) -> str:
    return "rw" if read and written else "w" if written else "r"


def exprs_in(stmt: Stmt) -> tuple[Expr, ...]:
    """The expressions of one statement, without those of statements inside it."""
    match stmt:
        case If(condition):
            return (condition,)
        case Let(_, value):
            return (value,)
        case Cell(init=init):
            return () if init is None else (init,)
        case Store(value=value, mask=mask):
            return (value,) if mask is None else (value, mask)
        case Check(ok, _, value):
            return (ok, value)
    return ()


def _touched(body: Sequence[Stmt]) -> tuple[set[str], set[str]]:
    read = {e.source for s in used(body) for x in exprs_in(s) for e in loads_of(x)}
    return read, {s.target for s in used(body) if isinstance(s, Store)}


def dims_in(body: Sequence[Stmt]) -> set[str]:
    """Names of the symbolic dims that a body depends on."""
    sizes: list[Size] = []
    for stmt in used(body):
        for e in exprs_in(stmt):
            sizes.extend(sizes_of(e))
        match stmt:
            case For(extent=extent, start=start):
                sizes += [extent, start]
            case Store(index=index):
                sizes.extend(index)
            case _:
                pass
    return {d for s in sizes for d in dims_of(s)}
