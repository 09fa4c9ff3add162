"""Writes the body of a kernel: nested loops, each value bound once and as far out as it can be.

No optimizer runs behind the backends, so what does not change in a loop is computed before it and
what is used twice is bound to a name, here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

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


@dataclass(frozen=True, slots=True)
class _Placed:
    """A value as it stands here: the innermost block that it needs, and whether it may change."""

    expr: Expr
    depth: int
    changes: bool


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
        order = list(walk(exprs))
        uses: Counter[Expr] = Counter(exprs)
        for e in order:
            uses.update(children(e))
        placed: dict[Expr, _Placed] = {}
        for e in order:
            kids = [placed[c] for c in children(e)]
            depth = max([self._own_depth(e), *(k.depth for k in kids)])
            parts = [self._outside(k, depth) for k in kids]
            here = _Placed(
                _with(e, [p.expr for p in parts]),
                depth,
                any(p.changes for p in parts) or self._is_changing(e),
            )
            fixed_load = isinstance(e, Load) and not here.changes
            shared = uses[e] > 1 and _compound(e)
            placed[e] = self._bound(here) if shared or fixed_load else here
        return [self._outside(placed[e], len(self.scopes) - 1).expr for e in exprs]

    def bind(self, expr: Expr, prefix: str = "v") -> Expr:
        """Return a constant or a name for ``expr``."""
        value = self.value(expr)
        if isinstance(value, Const | Local):
            return value
        changes = any(self._is_changing(e) for e in walk([value]))
        return self._bound(_Placed(value, self.depth(value), changes), prefix).expr

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

    def _is_changing(self, e: Expr) -> bool:
        return isinstance(e, Load) and e.source in self.changing

    def _outside(self, e: _Placed, depth: int) -> _Placed:
        """``e``, bound further out if it can be computed outside a loop that goes around here."""
        return self._bound(e) if _compound(e.expr) and e.depth < depth else e

    def _bound(self, e: _Placed, prefix: str = "v") -> _Placed:
        for scope in self.scopes[: e.depth + 1]:
            if e.expr in scope.bound:
                return _Placed(scope.bound[e.expr], e.depth, False)
        scope = self.scopes[e.depth]
        name = Local(self.fresh(prefix), e.expr.dtype)
        scope.body.append(Let(name.name, e.expr))
        scope.names.add(name.name)
        if not e.changes:
            scope.bound[e.expr] = name
        return _Placed(name, e.depth, False)

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


def _with(e: Expr, parts: Sequence[Expr]) -> Expr:
    """``e`` with other operands, in the order of ``children``."""
    match e:
        case Op(name, args, dtype):
            return (
                e
                if all(a is b for a, b in zip(args, parts, strict=True))
                else Op(name, tuple(parts), dtype)
            )
        case Load(mask=None, other=None):
            return e
        case Load(source, index, dtype, mask, other):
            rest = iter(parts)
            new_mask = None if mask is None else next(rest)
            return Load(source, index, dtype, new_mask, None if other is None else next(rest))
        case Fold(name, _, dtype):
            return Fold(name, parts[0], dtype)
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
