"""Loop IR: all that a backend sees.

A program is a set of kernels over buffers, and entries that launch them in order. Subscripts are
polynomials (``ir.index``) in the symbolic dims, the loop and grid axes in scope, and whole
numbers bound by ``Let`` (both are spelled ``Axis(name)``). Every expression has an element type.

Inside a ``For`` of kind ``vector`` an expression is a vector exactly when it depends on that axis:
through a position, a load subscripted by it, a ``Local`` so bound, or a cell with ``lanes``.
Where a scalar meets a vector it is repeated. ``Fold`` joins the lanes of a vector into a scalar by
a fixed tree (halves: lane i with lane i + n/2), so its bits depend on nothing but its operands.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias, Union

from nnc.ir.expr import Const, Position
from nnc.ir.index import Size
from nnc.ir.span import Span
from nnc.ir.types import DType

VECTOR_BYTES = 64

# ------------------------------------------------------------------------------- expressions


@dataclass(frozen=True, slots=True)
class Local:
    """A value bound by ``Let`` earlier in this body or one around it."""

    name: str
    dtype: DType


@dataclass(frozen=True, slots=True)
class Load:
    """Element ``index`` of a parameter or cell; where ``mask`` is false ``other`` (None is zero).

    Memory is not touched there.
    """

    source: str
    index: tuple[Size, ...]
    dtype: DType
    mask: Expr | None = None
    other: Expr | None = None


@dataclass(frozen=True)
class Op:
    """A scalar operation (``ir.scalar``) on ``args``. Casts are the op ``cast``."""

    name: str
    args: tuple[Expr, ...]
    dtype: DType
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hash", hash((self.name, self.args, self.dtype)))

    def __hash__(self) -> int:
        return self._hash


@dataclass(frozen=True, slots=True)
class Fold:
    """Joins the lanes of ``value`` over the enclosing vector axis by ``op`` (add, max, ...)."""

    op: str
    value: Expr
    dtype: DType


Expr: TypeAlias = Union[Const, Position, Local, Load, Op, Fold]  # noqa: UP007 - recursive

# -------------------------------------------------------------------------------- statements


@dataclass(frozen=True, slots=True)
class For:
    """``body`` for ``axis`` from ``start`` in ``extent`` steps of 1.

    ``kind``: ``seq`` in order; ``unroll`` (constant extent) written out, so cells it subscripts
    stay in registers; ``vector`` (constant extent, a power of two) all at once; ``lane`` an OpenCL
    work-item.
    """

    axis: str
    extent: Size
    kind: str
    body: tuple[Stmt, ...]
    start: Size = 0


@dataclass(frozen=True, slots=True)
class If:
    """A branch on a scalar truth value."""

    condition: Expr
    then: tuple[Stmt, ...]
    otherwise: tuple[Stmt, ...] = ()


@dataclass(frozen=True, slots=True)
class Let:
    """Binds ``name``; a scalar i64 may then stand in subscripts and extents as ``Axis(name)``."""

    name: str
    value: Expr


@dataclass(frozen=True, slots=True)
class Cell:
    """A variable or small array of this task.

    ``space``: ``register`` (subscripts constant once unrolled), ``stack`` (any subscripts; in a
    vector loop, subscripts by the vector axis address it lane by lane), ``shared`` (OpenCL local
    memory). ``lanes``: each element is a vector over the enclosing vector axis. ``init`` None
    leaves the contents undefined.
    """

    name: str
    dtype: DType
    extents: tuple[int, ...]
    init: Expr | None
    space: str = "register"
    lanes: bool = False


@dataclass(frozen=True, slots=True)
class Store:
    """Writes an element of a parameter or a cell; where ``mask`` is false nothing."""

    target: str
    index: tuple[Size, ...]
    value: Expr
    mask: Expr | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """Reports a fault of the data where ``ok`` is false: ``site`` and the offending ``value``.

    The launch goes on (what follows must be safe by its masks), later ones may be left out, and
    the entry returns a code.
    """

    ok: Expr
    site: int
    value: Expr


@dataclass(frozen=True, slots=True)
class Call:
    """Calls a shared function with the names of parameters or cells and with whole numbers."""

    function: str
    views: tuple[tuple[str, tuple[Size, ...]], ...]
    sizes: tuple[Size, ...] = ()


@dataclass(frozen=True, slots=True)
class Sync:
    """A work-group barrier (OpenCL only)."""


Stmt: TypeAlias = Union[For, If, Let, Cell, Store, Check, Call, Sync]  # noqa: UP007 - recursive

# --------------------------------------------------------------------------- kernels, programs


@dataclass(frozen=True, slots=True)
class Param:
    """A tensor that a kernel is given, row-major. ``access``: ``r``, ``w`` or ``rw``.

    Extents may hold dims. Distinct parameters that are written never overlap others, except
    that a launch may pass one buffer as both an ``r`` and a ``w`` parameter where the planner
    proved that each task reads an element before it alone writes it.
    """

    name: str
    dtype: DType
    extents: tuple[Size, ...]
    access: str


@dataclass(frozen=True, slots=True)
class Kernel:
    """Independent tasks: ``body`` for each point of ``grid`` (names; extents are the launch's)."""

    name: str
    params: tuple[Param, ...]
    dims: tuple[str, ...]
    grid: tuple[str, ...]
    body: tuple[Stmt, ...]
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class Function:
    """Code shared by kernels (a micro-kernel): parameters, whole-number parameters, body."""

    name: str
    params: tuple[Param, ...]
    sizes: tuple[str, ...]
    body: tuple[Stmt, ...]


@dataclass(frozen=True, slots=True)
class Buffer:
    """Memory of a program.

    ``space``: ``state`` (kept between calls), ``derived``, ``input``, ``output``, ``scratch``,
    ``frozen``. ``inside`` names a buffer of which this one is a part (``offset`` elements in). Of
    scratch, the offset may hold dims and, in launches within ``Repeat``s, their axes.
    """

    name: str
    dtype: DType
    extents: tuple[Size, ...]
    space: str
    inside: str | None = None
    offset: Size = 0


@dataclass(frozen=True, slots=True)
class Launch:
    """Runs a kernel for every point of the grid ``extents``; ``views`` are buffer names."""

    kernel: str
    views: tuple[str, ...]
    extents: tuple[Size, ...]


@dataclass(frozen=True, slots=True)
class Barrier:
    """Everything launched before is finished before anything after begins."""


@dataclass(frozen=True, slots=True)
class Repeat:
    """``steps`` for ``axis`` from 0 in ``extent`` turns; the axis is a dim of its kernels."""

    axis: str
    extent: Size
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class When:
    """Chooses on sizes: ``steps`` where every one of ``conditions`` is at least 0."""

    conditions: tuple[Size, ...]
    steps: tuple[Step, ...]
    otherwise: tuple[Step, ...] = ()


Step: TypeAlias = Union[Launch, Barrier, Repeat, When]  # noqa: UP007 - recursive


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that the caller can run: ``step``, ``infer``, ``init``, ..."""

    name: str
    dims: tuple[str, ...]
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Site:
    """Where a data-dependent fault may arise, for its message."""

    what: str
    tensor: str
    limit: Size
    span: Span | None


@dataclass(frozen=True, slots=True)
class Program:
    """All kernels, buffers and entries of one compiled model."""

    name: str
    dims: tuple[str, ...]
    buffers: tuple[Buffer, ...]
    functions: tuple[Function, ...]
    kernels: tuple[Kernel, ...]
    entries: tuple[Entry, ...]
    sites: tuple[Site, ...] = ()
