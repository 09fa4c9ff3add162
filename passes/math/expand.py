"""The pass: replaces what no backend has, and names what a statement then uses twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from nnc.ir import loops
from nnc.ir.expr import Const
from nnc.ir.loops import Expr, Fold, Let, Load, Local, Op, Stmt
from nnc.ir.scalar import OPS
from nnc.ir.types import DType
from nnc.passes.math import exp_log, power, sigmoids, trig
from nnc.passes.math.philox import philox
from nnc.passes.math.terms import Term

UNARY: Mapping[str, Callable[[Term], Term]] = {
    "exp": exp_log.exp,
    "expm1": exp_log.expm1,
    "log": exp_log.log,
    "log1p": exp_log.log1p,
    "rsqrt": exp_log.rsqrt,
    "tanh": sigmoids.tanh,
    "erf": sigmoids.erf,
    "sin": trig.sin,
    "cos": trig.cos,
}
_SMALL_FLOATS = frozenset({DType.F16, DType.BF16})


def expand(program: loops.Program) -> loops.Program:
    """Write every operation that is not native with native ones.

    f32 and f64 are computed in their own type (see ``docs/math.md`` for the errors), f16 and bf16
    in f32. What a changed statement computes more than once is bound by ``Let`` before it; such
    a binding is never evaluated where the statement was not.

    Raises:
        ValueError: an operation that has no meaning at run time, such as ``stop_gradient``.
    """
    return replace(
        program,
        kernels=tuple(_expand_body(k) for k in program.kernels),
        functions=tuple(_expand_body(f) for f in program.functions),
    )


Bodied = TypeVar("Bodied", loops.Kernel, loops.Function)


def _expand_body(item: Bodied) -> Bodied:
    if not any(_foreign(e) for s in _statements(item.body) for e in _expressions(s)):
        return item
    taken = {p.name for p in item.params}
    taken.update(item.sizes if isinstance(item, loops.Function) else (*item.dims, *item.grid))
    for stmt in _statements(item.body):
        match stmt:
            case Let(name) | loops.Cell(name) | loops.For(name):
                taken.add(name)
    return replace(item, body=_Expander(taken).block(item.body))


def expand_op(op: Op) -> Expr:
    """One operation, whose operands are kept, in terms of native ones.

    Raises:
        ValueError: there is no such expansion.
    """
    if OPS[op.name].native:
        return op
    if op.dtype in _SMALL_FLOATS:
        wide = tuple(Term(a).cast(DType.F32).expr for a in op.args)
        inner = expand_op(Op(op.name, wide, DType.F32))
        return Term(inner).cast(op.dtype).expr
    args = tuple(Term(a) for a in op.args)
    match op.name:
        case "pow":
            return _power(*args).expr
        case "philox":
            return philox(*args).expr
        case name if name in UNARY:
            return UNARY[name](args[0]).expr
    raise ValueError(f"{op.name} cannot be computed at run time")


def _power(x: Term, y: Term) -> Term:
    if isinstance(y.expr, Const):
        quick = power.pow_constant(x, y.expr.value)
        if quick is not None:
            return quick
    return power.pow_(x, y) if x.dtype.is_float else power.pow_whole(x, y)


@dataclass(slots=True)
class _Expander:
    """Expands one body; ``taken`` holds the names in use in it."""

    taken: set[str]
    count: int = 0

    def block(self, body: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
        return tuple(new for stmt in body for new in self.statement(stmt))

    def statement(self, stmt: Stmt) -> Iterator[Stmt]:
        match stmt:
            case loops.For(body=body):
                stmt = replace(stmt, body=self.block(body))
            case loops.If(then=then, otherwise=otherwise):
                stmt = replace(stmt, then=self.block(then), otherwise=self.block(otherwise))
        roots = _expressions(stmt)
        if not any(_foreign(e) for e in roots):
            yield stmt
            return
        numbering = _Numbering()
        changed = [_expanded(e) for e in roots]
        lets, values = self.bind(numbering, [numbering.number(e) for e in changed])
        yield from lets
        yield _with_expressions(stmt, values)

    def bind(self, numbering: _Numbering, roots: list[int]) -> tuple[list[Stmt], list[Expr]]:
        """Bind what is used twice by a ``Let``, and rebuild the roots."""
        uses = Counter(roots)
        for parts in numbering.parts:
            uses.update(parts)
        lets: list[Stmt] = []
        values: list[Expr] = []
        for number, (expr, parts) in enumerate(zip(numbering.exprs, numbering.parts, strict=True)):
            value = _with_parts(expr, [values[p] for p in parts])
            if uses[number] > 1 and isinstance(expr, Op | Load | Fold):
                name = self.fresh()
                lets.append(Let(name, value))
                value = Local(name, expr.dtype)
            values.append(value)
        return lets, [values[r] for r in roots]

    def fresh(self) -> str:
        """A name that the body does not use."""
        while True:
            name = f"m{self.count}"
            self.count += 1
            if name not in self.taken:
                return name


@dataclass(slots=True)
class _Numbering:
    """Numbers the distinct expressions of a statement, operands first.

    ``seen`` goes by identity: the roots must be kept while the numbering is in use.
    """

    exprs: list[Expr] = field(default_factory=list)
    parts: list[tuple[int, ...]] = field(default_factory=list)
    seen: dict[int, int] = field(default_factory=dict)
    known: dict[tuple[object, ...], int] = field(default_factory=dict)

    def number(self, root: Expr) -> int:
        """The number of ``root``; without recursion, for long polynomials are deep."""
        stack = [root]
        while stack:
            expr = stack[-1]
            missing = [p for p in _parts(expr) if id(p) not in self.seen]
            if missing:
                stack.extend(reversed(missing))
                continue
            stack.pop()
            if id(expr) not in self.seen:
                self.seen[id(expr)] = self._add(expr)
        return self.seen[id(root)]

    def _add(self, expr: Expr) -> int:
        parts = tuple(self.seen[id(p)] for p in _parts(expr))
        key = (*_shape(expr), parts)
        if key not in self.known:
            self.known[key] = len(self.exprs)
            self.exprs.append(expr)
            self.parts.append(parts)
        return self.known[key]


def _shape(expr: Expr) -> tuple[object, ...]:
    """What an expression is, beside its parts."""
    match expr:
        case Op(name, _, dtype):
            return "op", name, dtype
        case Load(source, index, dtype, mask, other):
            return "load", source, index, dtype, mask is None, other is None
        case Fold(op, _, dtype):
            return "fold", op, dtype
        case _:
            return (expr,)


def _parts(expr: Expr) -> tuple[Expr, ...]:
    match expr:
        case Op(_, args):
            return args
        case Load(mask=mask, other=other):
            return tuple(e for e in (mask, other) if e is not None)
        case Fold(_, value):
            return (value,)
        case _:
            return ()


def _with_parts(expr: Expr, parts: list[Expr]) -> Expr:
    match expr:
        case Op(name, _, dtype):
            return Op(name, tuple(parts), dtype)
        case Load(mask=mask, other=other):
            rest = iter(parts)
            mask = None if mask is None else next(rest)
            return replace(expr, mask=mask, other=None if other is None else next(rest))
        case Fold():
            return replace(expr, value=parts[0])
        case _:
            return expr


def _foreign(root: Expr) -> bool:
    """Whether some operation in ``root`` is not native."""
    stack, seen = [root], set()
    while stack:
        expr = stack.pop()
        if id(expr) in seen:
            continue
        seen.add(id(expr))
        if isinstance(expr, Op) and not OPS[expr.name].native:
            return True
        stack.extend(_parts(expr))
    return False


def _expanded(root: Expr) -> Expr:
    """``root`` with every operation expanded, each distinct one once."""
    done: dict[int, Expr] = {}
    same: dict[Expr, Expr] = {}
    stack = [root]
    while stack:
        expr = stack[-1]
        missing = [p for p in _parts(expr) if id(p) not in done]
        if missing:
            stack.extend(reversed(missing))
            continue
        stack.pop()
        if id(expr) in done:
            continue
        if expr not in same:
            new = _with_parts(expr, [done[id(p)] for p in _parts(expr)])
            same[expr] = expand_op(new) if isinstance(new, Op) else new
        done[id(expr)] = same[expr]
    return done[id(root)]


def _statements(body: tuple[Stmt, ...]) -> Iterator[Stmt]:
    for stmt in body:
        yield stmt
        match stmt:
            case loops.For(body=inner):
                yield from _statements(inner)
            case loops.If(then=then, otherwise=otherwise):
                yield from _statements((*then, *otherwise))


def _expressions(stmt: Stmt) -> list[Expr]:
    match stmt:
        case loops.If(condition):
            return [condition]
        case Let(_, value):
            return [value]
        case loops.Cell(init=init) if init is not None:
            return [init]
        case loops.Store(value=value, mask=mask):
            return [value] if mask is None else [value, mask]
        case loops.Check(ok=ok, value=value):
            return [ok, value]
    return []


def _with_expressions(stmt: Stmt, values: list[Expr]) -> Stmt:
    match stmt:
        case loops.If():
            return replace(stmt, condition=values[0])
        case Let():
            return replace(stmt, value=values[0])
        case loops.Cell():
            return replace(stmt, init=values[0])
        case loops.Store(mask=mask):
            return replace(stmt, value=values[0], mask=None if mask is None else values[1])
        case loops.Check():
            return replace(stmt, ok=values[0], value=values[1])
    return stmt
