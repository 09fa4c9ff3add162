"""The pass: replaces what no backend has, and names what a statement then uses twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from nnc.ir import loops
from nnc.ir.expr import Const
from nnc.ir.loops import Expr, Fold, Let, Load, Local, Op, Stmt
from nnc.ir.loops_walk import (
    Numbering,
    bound_names,
    expressions,
    parts,
    statements,
    walk,
    with_expressions,
    with_parts,
)
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
    if not any(_foreign(expressions(s)) for s in statements(item.body)):
        return item
    taken = {p.name for p in item.params}
    taken.update(item.sizes if isinstance(item, loops.Function) else (*item.dims, *item.grid))
    taken |= bound_names(item.body)
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
        roots = expressions(stmt)
        if not _foreign(roots):
            yield stmt
            return
        numbering = Numbering()
        changed = [_expanded(e) for e in roots]
        lets, values = self.bind(numbering, [numbering.number(e) for e in changed])
        yield from lets
        yield with_expressions(stmt, values)

    def bind(self, numbering: Numbering, roots: list[int]) -> tuple[list[Stmt], list[Expr]]:
        """Bind what is used twice by a ``Let``, and rebuild the roots."""
        uses = Counter(roots)
        for inner in numbering.parts:
            uses.update(inner)
        lets: list[Stmt] = []
        values: list[Expr] = []
        for number, (expr, inner) in enumerate(zip(numbering.exprs, numbering.parts, strict=True)):
            value = with_parts(expr, [values[p] for p in inner])
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


def _foreign(roots: Sequence[Expr]) -> bool:
    """Whether some operation is not native."""
    return any(isinstance(e, Op) and not OPS[e.name].native for e in walk(roots))


def _expanded(root: Expr) -> Expr:
    """``root`` with every operation expanded, each distinct one once."""
    done: dict[int, Expr] = {}
    same: dict[Expr, Expr] = {}
    for expr in walk([root]):
        if expr not in same:
            new = with_parts(expr, [done[id(p)] for p in parts(expr)])
            same[expr] = expand_op(new) if isinstance(new, Op) else new
        done[id(expr)] = same[expr]
    return done[id(root)]
