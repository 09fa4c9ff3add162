"""Checks that a loop program keeps the rules of ``loops``: names, types, ranks, vectors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from nnc.ir import loops
from nnc.ir.expr import Const, Position
from nnc.ir.index import Axis, Dim, Poly, Size, product
from nnc.ir.loops_text import print_statement
from nnc.ir.loops_walk import called, walk
from nnc.ir.scalar import OPS, ScalarTypeError, result_type
from nnc.ir.types import DType

SPACES = frozenset({"frozen", "state", "derived", "input", "output", "scratch"})
FOLDS = frozenset({"add", "mul", "max", "min", "and", "or", "xor"})


class VerifyError(ValueError):
    """A rule that a program breaks; the message tells where, and prints the statement."""


def verify(program: loops.Program, *, native: bool = False) -> None:
    """Check a program; with ``native``, also that it uses native operations alone.

    Sizes are compared where that needs no knowledge of the dims. Bounds of subscripts and races
    are not checked here: the interpreter finds those.

    Raises:
        VerifyError: the first fault.
    """
    _unique("buffer", (b.name for b in program.buffers))
    _unique("kernel", (k.name for k in program.kernels))
    _unique("function", (f.name for f in program.functions))
    _unique("entry", (e.name for e in program.entries))
    _buffers(program)
    known: dict[str, loops.Function] = {}
    for function in program.functions:
        place = f"function {function.name}"
        for name in called(function.body) - set(known):
            raise VerifyError(f"{place}: it calls {name}, which is not defined before it")
        sizes = frozenset(function.sizes)
        scope = _Scope(sizes, axes=dict.fromkeys(function.sizes, "size"))
        _Body(place, program, known, native).check(function.params, function.body, scope)
        known[function.name] = function
    for kernel in program.kernels:
        scope = _Scope(frozenset(kernel.dims), axes=dict.fromkeys(kernel.grid, "grid"))
        body = _Body(f"kernel {kernel.name}", program, known, native)
        body.check(kernel.params, kernel.body, scope)
    for entry in program.entries:
        extra = set(entry.dims) - set(program.dims)
        if extra:
            raise VerifyError(f"entry {entry.name}: the program has no dim {min(extra)}")
        _Steps(f"entry {entry.name}", program).check(entry.steps, frozenset(entry.dims))


def _unique(what: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise VerifyError(f"two of one name: {what} {name}")
        seen.add(name)


def _known_size(size: Size, dims: frozenset[str], axes: Iterable[str] = ()) -> str | None:
    """The first name in a size that is not in scope."""
    names = set(axes)
    for atom in size.all_atoms() if isinstance(size, Poly) else ():
        if isinstance(atom, Dim) and atom.name not in dims:
            return f"dim {atom.name}"
        if isinstance(atom, Axis) and atom.name not in names:
            return f"axis {atom.name}"
    return None


def _buffers(program: loops.Program) -> None:
    dims, before = frozenset(program.dims), dict[str, loops.Buffer]()
    for buffer in program.buffers:
        place = f"buffer {buffer.name}"
        for extent in buffer.extents:
            unknown = _known_size(extent, dims)
            if unknown:
                raise VerifyError(f"{place}: {unknown} is not known")
        if buffer.space not in SPACES:
            raise VerifyError(f"{place}: no space is called {buffer.space}")
        if buffer.inside is not None:
            outer = before.get(buffer.inside)
            if outer is None or outer.dtype is not buffer.dtype:
                raise VerifyError(f"{place}: no {buffer.dtype} buffer {buffer.inside} before it")
            offset = buffer.offset
            unknown = None if buffer.space == "scratch" else _known_size(offset, dims)
            if unknown:
                raise VerifyError(f"{place}: {unknown} is not known")
            room = product(outer.extents) - product(buffer.extents) - offset
            negative = isinstance(offset, int) and offset < 0
            if negative or (isinstance(room, int) and room < 0):
                raise VerifyError(f"{place}: it does not fit in {buffer.inside}")
        before[buffer.name] = buffer


# ------------------------------------------------------------------------------------ steps


@dataclass(frozen=True, slots=True)
class _Steps:
    """Checks the steps of an entry."""

    place: str
    program: loops.Program

    def fault(self, what: str) -> VerifyError:
        return VerifyError(f"{self.place}: {what}")

    def sizes(self, sizes: Sequence[Size], dims: frozenset[str], axes: frozenset[str]) -> None:
        for size in sizes:
            unknown = _known_size(size, dims, axes)
            if unknown:
                raise self.fault(f"{unknown} is not known in {size}")

    def check(
        self,
        steps: Sequence[loops.Step],
        dims: frozenset[str],
        axes: frozenset[str] = frozenset(),
    ) -> None:
        for step in steps:
            match step:
                case loops.Launch():
                    self.sizes(step.extents, dims, axes)
                    self.launch(step, dims)
                case loops.Repeat(axis, extent, body):
                    if axis in dims:
                        raise self.fault(f"{axis} is bound twice")
                    self.sizes([extent], dims, axes)
                    self.check(body, dims | {axis}, axes | {axis})
                case loops.When(conditions, then, otherwise):
                    self.sizes(conditions, dims, axes)
                    self.check(then, dims, axes)
                    self.check(otherwise, dims, axes)

    def launch(self, step: loops.Launch, dims: frozenset[str]) -> None:
        kernel = next((k for k in self.program.kernels if k.name == step.kernel), None)
        if kernel is None:
            raise self.fault(f"there is no kernel {step.kernel}")
        missing = set(kernel.dims) - dims
        if missing:
            raise self.fault(f"kernel {kernel.name} needs dim {min(missing)}")
        if len(step.views) != len(kernel.params) or len(step.extents) != len(kernel.grid):
            raise self.fault(f"kernel {kernel.name} takes other views or another grid")
        buffers = {b.name: b for b in self.program.buffers}
        written: set[str] = set()
        for param, view in zip(kernel.params, step.views, strict=True):
            if view not in buffers:
                raise self.fault(f"there is no buffer {view}")
            self.view(kernel.name, param, buffers[view])
            if "w" in param.access and view in written:
                raise self.fault(f"kernel {kernel.name} writes {view} through two parameters")
            if "w" in param.access:
                written.add(view)

    def view(self, kernel: str, param: loops.Param, buffer: loops.Buffer) -> None:
        difference = product(param.extents) - product(buffer.extents)
        if param.dtype is not buffer.dtype or (isinstance(difference, int) and difference):
            raise self.fault(f"{buffer.name} does not fit parameter {param.name} of {kernel}")
        if "w" in param.access and buffer.space == "frozen":
            raise self.fault(f"kernel {kernel} writes {buffer.name}, which is frozen")


# ------------------------------------------------------------------------------- statements


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A parameter or a cell in scope."""

    dtype: DType
    rank: int
    access: str
    cell: loops.Cell | None = None


@dataclass(slots=True)
class _Scope:
    """What is in scope. ``axes`` maps a name to its kind: a loop's, ``grid``, ``size``, ``let``.

    ``wide`` are the names of values that differ between the lanes of the ``vector`` loop.
    """

    dims: frozenset[str]
    axes: dict[str, str] = field(default_factory=dict)
    values: dict[str, DType] = field(default_factory=dict)
    tensors: dict[str, _Tensor] = field(default_factory=dict)
    wide: frozenset[str] = frozenset()
    vector: str | None = None
    lane: bool = False

    def inner(self) -> _Scope:
        return replace(
            self, axes=dict(self.axes), values=dict(self.values), tensors=dict(self.tensors)
        )

    def binds(self, name: str) -> bool:
        return name in self.axes or name in self.values or name in self.tensors

    def is_wide(self, size: Size) -> bool:
        return isinstance(size, Poly) and any(
            isinstance(a, Axis) and a.name in self.wide for a in size.all_atoms()
        )


@dataclass(slots=True)
class _Body:
    """Checks the body of a kernel or function."""

    place: str
    program: loops.Program
    functions: dict[str, loops.Function]
    native: bool
    stmt: loops.Stmt | None = None

    def fault(self, what: str) -> VerifyError:
        shown = "" if self.stmt is None else "\n  " + print_statement(self.stmt).split("\n", 1)[0]
        return VerifyError(f"{self.place}: {what}{shown}")

    def check(
        self, params: Sequence[loops.Param], body: Sequence[loops.Stmt], scope: _Scope
    ) -> None:
        for param in params:
            if param.access not in ("r", "w", "rw"):
                raise self.fault(f"no access is called {param.access}")
            if scope.binds(param.name):
                raise self.fault(f"{param.name} is bound twice")
            axes = [name for name, kind in scope.axes.items() if kind == "size"]
            for extent in param.extents:
                unknown = _known_size(extent, scope.dims, axes)
                if unknown:
                    raise self.fault(f"{unknown} in the extents of {param.name} is not known")
            scope.tensors[param.name] = _Tensor(param.dtype, len(param.extents), param.access)
        self.block(body, scope)

    def block(self, body: Sequence[loops.Stmt], scope: _Scope) -> None:
        for stmt in body:
            self.stmt = stmt
            match stmt:
                case loops.For():
                    self.loop(stmt, scope)
                case loops.If(condition, then, otherwise):
                    self.condition(condition, scope, scalar=True)
                    self.block(then, scope.inner())
                    self.block(otherwise, scope.inner())
                case loops.Let(name, value):
                    wide = self.expr(value, scope)
                    self.bind(name, scope)
                    scope.values[name] = value.dtype
                    scope.wide = scope.wide | {name} if wide else scope.wide
                    if value.dtype is DType.I64:
                        scope.axes[name] = "let"
                case loops.Cell():
                    self.cell(stmt, scope)
                case loops.Store():
                    self.store(stmt, scope)
                case loops.Check(ok, site, value):
                    self.condition(ok, scope)
                    self.expr(value, scope)
                    if not value.dtype.is_int or not 0 <= site < len(self.program.sites):
                        raise self.fault("a fault has a site and a whole number")
                case loops.Call():
                    self.call(stmt, scope)
                case loops.Sync() if not scope.lane:
                    raise self.fault("lanes meet outside a lane loop")

    def bind(self, name: str, scope: _Scope) -> None:
        if scope.binds(name):
            raise self.fault(f"{name} is bound twice")

    def loop(self, stmt: loops.For, scope: _Scope) -> None:
        for size in (stmt.extent, stmt.start):
            if self.size(size, scope):
                raise self.fault("the bounds of a loop differ between lanes")
        match stmt.kind, stmt.extent:
            case "seq", _:
                pass
            case "lane", _ if scope.vector is None:
                pass
            case "unroll", int():
                pass
            case "vector", int(width) if width > 0 and not width & (width - 1):
                if scope.vector is not None:
                    raise self.fault(f"a vector loop inside the vector loop over {scope.vector}")
            case kind, extent:
                raise self.fault(f"a {kind} loop may not have the extent {extent} here")
        self.bind(stmt.axis, scope)
        inner = scope.inner()
        inner.axes[stmt.axis] = stmt.kind
        inner.lane |= stmt.kind == "lane"
        if stmt.kind == "vector":
            inner.vector, inner.wide = stmt.axis, scope.wide | {stmt.axis}
        self.block(stmt.body, inner)

    def cell(self, stmt: loops.Cell, scope: _Scope) -> None:
        self.bind(stmt.name, scope)
        if stmt.space not in ("register", "stack", "shared"):
            raise self.fault(f"no space for cells is called {stmt.space}")
        if stmt.lanes and scope.vector is None:
            raise self.fault("a cell with lanes outside a vector loop")
        if stmt.init is not None:
            wide = self.expr(stmt.init, scope)
            self.same(stmt.init.dtype, stmt.dtype)
            if wide and not stmt.lanes:
                raise self.fault("a cell without lanes starts as a vector")
        scope.tensors[stmt.name] = _Tensor(stmt.dtype, len(stmt.extents), "rw", stmt)

    def store(self, stmt: loops.Store, scope: _Scope) -> None:
        tensor, wide_index = self.element(stmt.target, stmt.index, "w", scope)
        wide = self.expr(stmt.value, scope)
        self.same(stmt.value.dtype, tensor.dtype)
        if stmt.mask is not None:
            wide |= self.condition(stmt.mask, scope)
        lanes = tensor.cell is not None and tensor.cell.lanes
        if wide and not wide_index and not lanes:
            raise self.fault("a vector is stored to one element")

    def call(self, stmt: loops.Call, scope: _Scope) -> None:
        function = self.functions.get(stmt.function)
        if function is None:
            raise self.fault(f"there is no function {stmt.function} before this")
        if len(stmt.views) != len(function.params) or len(stmt.sizes) != len(function.sizes):
            raise self.fault(f"{function.name} takes other arguments")
        for size in stmt.sizes:
            if self.size(size, scope):
                raise self.fault("an argument differs between lanes")
        for param, (name, start) in zip(function.params, stmt.views, strict=True):
            for letter in param.access:
                tensor, wide = self.element(name, start, letter, scope, at_start=True)
            self.same(tensor.dtype, param.dtype)
            if wide:
                raise self.fault("an argument differs between lanes")

    # ------------------------------------------------------------------------- expressions

    def same(self, found: DType, wanted: DType) -> None:
        if found is not wanted:
            raise self.fault(f"{wanted} expected, not {found}")

    def size(self, size: Size, scope: _Scope) -> bool:
        """Check a size; whether it differs between lanes."""
        unknown = _known_size(size, scope.dims, scope.axes)
        if unknown:
            raise self.fault(f"{unknown} is not known here")
        return scope.is_wide(size)

    def condition(self, expr: loops.Expr, scope: _Scope, *, scalar: bool = False) -> bool:
        wide = self.expr(expr, scope)
        self.same(expr.dtype, DType.BOOL)
        if wide and scalar:
            raise self.fault(f"the branch depends on the vector axis {scope.vector}")
        return wide

    def element(
        self,
        name: str,
        index: Sequence[Size],
        access: str,
        scope: _Scope,
        *,
        at_start: bool = False,
    ) -> tuple[_Tensor, bool]:
        """Check an element that is loaded or stored; whether its place differs between lanes."""
        tensor = scope.tensors.get(name)
        if tensor is None:
            raise self.fault(f"no tensor or cell is called {name}")
        if access not in tensor.access:
            raise self.fault(f"{name} may not be {'loaded' if access == 'r' else 'stored to'}")
        if len(index) != tensor.rank:
            raise self.fault(f"{name} takes {tensor.rank} subscripts")
        differs = [self.size(i, scope) for i in index]  # every one is checked
        wide = any(differs)
        if wide and self.by_vector_value(index, scope):
            raise self.fault("a value that differs between lanes stands in a subscript")
        if tensor.cell is not None and not at_start:
            self.cell_index(tensor.cell, index, wide, scope)
        return tensor, wide

    def by_vector_value(self, index: Sequence[Size], scope: _Scope) -> bool:
        return any(
            isinstance(atom, Axis) and atom.name in scope.wide and scope.axes[atom.name] == "let"
            for i in index
            if isinstance(i, Poly)
            for atom in i.all_atoms()
        )

    def cell_index(
        self, cell: loops.Cell, index: Sequence[Size], wide: bool, scope: _Scope
    ) -> None:
        if wide and cell.lanes:
            raise self.fault(f"the lanes of {cell.name} are not chosen by a subscript")
        if cell.space != "register":
            return
        for i in index:
            for atom in i.all_atoms() if isinstance(i, Poly) else ():
                fixed = isinstance(atom, Axis) and scope.axes[atom.name] == "unroll"
                if isinstance(atom, Axis | Dim) and not fixed:
                    raise self.fault(f"{atom.name} in a subscript of the registers {cell.name}")

    def expr(self, root: loops.Expr, scope: _Scope) -> bool:
        """Check an expression; whether it is a vector."""
        return _Expression(self, scope).check(root)


@dataclass(slots=True)
class _Expression:
    """Checks one expression of a statement, each distinct part once."""

    body: _Body
    scope: _Scope
    wide: dict[int, bool] = field(default_factory=dict)

    def check(self, root: loops.Expr) -> bool:
        for e in walk([root]):
            self.wide[id(e)] = self._one(e)
        return self.wide[id(root)]

    def _one(self, e: loops.Expr) -> bool:
        match e:
            case Const():
                return False
            case Position(index):
                return self.body.size(index, self.scope)
            case loops.Local(name, dtype):
                if self.scope.values.get(name) is not dtype:
                    raise self.body.fault(f"no {dtype} value is called {name} here")
                return name in self.scope.wide
            case loops.Load():
                return self._load(e)
            case loops.Fold(op, value, dtype):
                if self.scope.vector is None or op not in FOLDS:
                    raise self.body.fault(f"no fold by {op} here")
                self.body.same(value.dtype, dtype)
                return False
            case loops.Op():
                self._operation(e)
                return any(self.wide[id(a)] for a in e.args)

    def _load(self, e: loops.Load) -> bool:
        tensor, wide = self.body.element(e.source, e.index, "r", self.scope)
        self.body.same(e.dtype, tensor.dtype)
        if e.mask is not None:
            self.body.same(e.mask.dtype, DType.BOOL)
            wide |= self.wide[id(e.mask)]
        if e.other is not None:
            self.body.same(e.other.dtype, e.dtype)
            wide |= self.wide[id(e.other)]
        return wide or (tensor.cell is not None and tensor.cell.lanes)

    def _operation(self, e: loops.Op) -> None:
        types = tuple(a.dtype for a in e.args)
        if e.name not in OPS or (self.body.native and not OPS[e.name].native):
            raise self.body.fault(f"no operation is called {e.name} here")
        try:
            found = result_type(e.name, types, e.dtype if e.name in ("cast", "bitcast") else None)
        except ScalarTypeError as error:
            raise self.body.fault(str(error)) from None
        self.body.same(e.dtype, found)
