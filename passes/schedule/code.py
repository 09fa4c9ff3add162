"""Writes the body of a kernel: nested loops, each value bound once and as far out as it can be.

No optimizer runs behind the backends, so what does not change in a loop is computed before it and
what is used twice is bound to a name, here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from nnc.ir.expr import Const, Position
from nnc.ir.index import Axis, Size, axes_of
from nnc.ir.loops import Cell, Check, Expr, Fold, For, If, Let, Load, Local, Op, Stmt, Store
from nnc.ir.types import DType
from nnc.passes.schedule.exprs import children, walk


@dataclass(slots=True)
class _Scope:
    """A block being written: the names it binds, its statements, the values it has computed."""

    names: set[str] = field(default_factory=set)
    body: list[Stmt] = field(default_factory=list)
    bound: dict[Expr, Local] = field(default_factory=dict)
    checked: set[Expr] = field(default_factory=set)
    conditional: bool = False


@dataclass(slots=True)
class Code:
    """Statements of one kernel under construction.

    Loads from the names in ``changing`` (cells, tensors that this kernel writes) stay where they
    are asked for; all others may be moved out of loops that they do not depend on. ``reserved``
    names are those of axes and dims.
    """

    changing: set[str] = field(default_factory=set)
    reserved: frozenset[str] = frozenset()
    scopes: list[_Scope] = field(default_factory=lambda: [_Scope()])
    vector: str | None = None
    _numbers: Counter[str] = field(default_factory=Counter)

    @property
    def body(self) -> tuple[Stmt, ...]:
        """The statements of the finished kernel."""
        assert len(self.scopes) == 1
        return tuple(self.scopes[0].body)

    def fresh(self, prefix: str) -> str:
        """Return a name that nothing else in this kernel has."""
        while True:
            number = self._numbers[prefix]
            self._numbers[prefix] += 1
            name = f"{prefix}{number}" if number else prefix
            if name not in self.reserved:
                return name

    def emit(self, stmt: Stmt) -> None:
        """Add a statement here."""
        self.scopes[-1].body.append(stmt)

    # blocks ---------------------------------------------------------------------------------

    @contextmanager
    def loop(self, axis: str, extent: Size, kind: str = "seq", start: Size = 0) -> Iterator[None]:
        """Write the body of a loop; a sequential loop of one turn becomes part of its block."""
        self.scopes.append(_Scope({axis}))
        outer, self.vector = self.vector, axis if kind == "vector" else self.vector
        yield
        self.vector = outer
        scope = self.scopes.pop()
        if scope.body:
            self.emit(For(axis, extent, kind, tuple(scope.body), start))

    @contextmanager
    def branch(self, condition: Expr) -> Iterator[None]:
        """Write what happens only where ``condition`` holds."""
        test = self.value(condition)
        self.scopes.append(_Scope(conditional=True))
        yield
        scope = self.scopes.pop()
        if scope.body:
            self.emit(If(test, tuple(scope.body)))

    def known(self, name: str) -> None:
        """Declare a name that the outermost block sees (a grid axis)."""
        self.scopes[0].names.add(name)

    # values ---------------------------------------------------------------------------------

    def value(self, expr: Expr) -> Expr:
        """Place one value; see ``values``."""
        return self.values([expr])[0]

    def values(self, exprs: Sequence[Expr]) -> list[Expr]:
        """Bind the shared and the loop-invariant parts of ``exprs``; return what is left here."""
        uses: Counter[Expr] = Counter()
        for e in walk(exprs):
            uses.update(children(e))
        uses.update(exprs)
        placed: dict[Expr, Expr] = {}
        for e in walk(exprs):
            here = _with(e, placed, partial(self._part, self._depth(e, placed)))
            shared = uses[e] > 1 and _compound(here)
            placed[e] = self._bind(here) if shared or self._is_fixed_load(here) else here
        return [self._part(len(self.scopes) - 1, placed[e]) for e in exprs]

    def bind(self, expr: Expr, prefix: str = "v") -> Expr:
        """Return a constant or a name for ``expr``."""
        value = self.value(expr)
        return self._bind(value, prefix) if not isinstance(value, Const | Local) else value

    def whole(self, expr: Expr) -> Size:
        """Return a scalar i64 as something that subscripts and extents can hold."""
        if isinstance(expr, Position):
            return expr.index
        match self.bind(expr, "n"):
            case Const(value):
                return int(value)
            case Local(name):
                return Axis(name).as_poly()
        raise AssertionError("bind gives constants and names")

    def _is_fixed_load(self, e: Expr) -> bool:
        """Whether ``e`` loads what does not change here: what is done later may use it too."""
        return isinstance(e, Load) and e.source not in self.changing

    def _part(self, depth: int, e: Expr) -> Expr:
        """``e``, bound further out if it can be computed outside a loop that goes around here."""
        return self._bind(e) if _compound(e) and self.depth(e) < depth else e

    def _bind(self, e: Expr, prefix: str = "v") -> Expr:
        depth = self.depth(e)
        for scope in self.scopes[: depth + 1]:
            if e in scope.bound:
                return scope.bound[e]
        scope = self.scopes[depth]
        name = Local(self.fresh(prefix), e.dtype)
        scope.body.append(Let(name.name, e))
        scope.names.add(name.name)
        if not self._changes(e):
            scope.bound[e] = name
        return name

    def _changes(self, e: Expr) -> bool:
        return any(isinstance(x, Load) and x.source in self.changing for x in walk([e]))

    def _depth(self, e: Expr, placed: dict[Expr, Expr]) -> int:
        return max([self._own_depth(e), *(self.depth(placed[c]) for c in children(e))])

    def depth(self, e: Expr) -> int:
        """The innermost block that ``e`` depends on."""
        return max([self._own_depth(e), *(self.depth(c) for c in children(e))])

    def _own_depth(self, e: Expr) -> int:
        """The block that ``e`` needs apart from its operands; never one around a branch."""
        return max(self._floor(), self._needed_depth(e)) if _compound(e) else self._needed_depth(e)

    def _floor(self) -> int:
        return max((k for k, s in enumerate(self.scopes) if s.conditional), default=0)

    def _needed_depth(self, e: Expr) -> int:
        match e:
            case Load(source=source, index=index):
                if source in self.changing:
                    return len(self.scopes) - 1
                return max([0, *(self._size_depth(i) for i in index)])
            case Position(index):
                return self._size_depth(index)
            case Local(name):
                return self._name_depth(name)
            case Fold():
                return len(self.scopes) - 1
        return 0

    def _size_depth(self, size: Size) -> int:
        return max([0, *(self._name_depth(a) for a in axes_of(size))])

    def _name_depth(self, name: str) -> int:
        for depth in range(len(self.scopes) - 1, -1, -1):
            if name in self.scopes[depth].names:
                return depth
        raise AssertionError(f"{name} is not bound here")

    # effects --------------------------------------------------------------------------------

    def cell(
        self,
        prefix: str,
        dtype: DType,
        init: Expr | None,
        extents: tuple[int, ...] = (),
        *,
        lanes: bool = False,
    ) -> str:
        """Declare a cell here and return its name; with extents it lies on the stack."""
        name = self.fresh(prefix)
        space = "stack" if extents else "register"
        self.changing.add(name)
        self.emit(Cell(name, dtype, extents, init, space, lanes and self.vector is not None))
        return name

    def store(
        self, target: str, index: tuple[Size, ...], value: Expr, mask: Expr | None = None
    ) -> None:
        """Store here; a mask that is false writes nothing."""
        parts = self.values([value] if mask is None else [value, mask])
        self.emit(Store(target, index, parts[0], None if mask is None else parts[1]))

    def check(self, ok: Expr, site: int, value: Expr) -> None:
        """Check once, in the outermost block that knows what is checked."""
        test, shown = self.values([ok, value])
        depth = max(self.depth(test), self.depth(shown))
        key = Op("check", (test, shown, Const(site, DType.I64)), DType.BOOL)
        if not any(key in scope.checked for scope in self.scopes[: depth + 1]):
            self.scopes[depth].checked.add(key)
            self.scopes[depth].body.append(Check(test, site, shown))


def _compound(e: Expr) -> bool:
    return isinstance(e, Op | Load | Fold)


def _with(e: Expr, placed: dict[Expr, Expr], part: Callable[[Expr], Expr]) -> Expr:
    """``e`` with its operands replaced by what ``part`` makes of their placed forms."""
    match e:
        case Op(name, args, dtype):
            return Op(name, tuple(part(placed[a]) for a in args), dtype)
        case Load(source, index, dtype, mask, other):
            return Load(
                source,
                index,
                dtype,
                None if mask is None else part(placed[mask]),
                None if other is None else part(placed[other]),
            )
        case Fold(name, value, dtype):
            return Fold(name, part(placed[value]), dtype)
    return e


def used(stmts: Iterable[Stmt]) -> Iterator[Stmt]:
    """Every statement in ``stmts``, nested ones too."""
    for stmt in stmts:
        yield stmt
        match stmt:
            case For(body=body):
                yield from used(body)
            case If(_, then, otherwise):
                yield from used((*then, *otherwise))
            case _:
                pass
