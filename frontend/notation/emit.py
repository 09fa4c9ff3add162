"""From an evaluated statement to index forms: a node for each reduction, and one for the whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from nnc.frontend.elaborate.faults import Fault
from nnc.frontend.notation.box import Computed, Gather, Index, Reduction, Session, Source, foreign
from nnc.frontend.notation.check import Verdict, verdict
from nnc.frontend.notation.exact import COMPARISONS, axes_in, conjuncts, exact
from nnc.frontend.notation.ranges import settle
from nnc.ir import build, scalar
from nnc.ir.expr import (
    Apply,
    Const,
    Expr,
    Loaded,
    Position,
    Read,
    map_operands,
    map_sizes,
)
from nnc.ir.graph import Node
from nnc.ir.index import Atom, Axis, Size, axis, product, substitute, substitute_atoms
from nnc.ir.prove import Facts, assumptions, proves_nonneg
from nnc.ir.span import Span
from nnc.ir.types import DType


def prepare(session: Session) -> Emitter:
    """Settle the ranges of a statement and prove its reads.

    Raises Fault where something is wrong, after reporting what else is.
    """
    settle(session)
    emitter = Emitter(session, session.facts)
    faults: list[Fault] = []
    for use in session.uses:
        try:
            if verdict(session, use, emitter.facts) == "guarded":
                emitter.guarded.add(use.read)
        except Fault as found:
            faults.append(found)
    for gather in session.gathers:
        try:
            emitter.gathers[gather] = verdict(session, gather.use, emitter.facts)
        except Fault as found:
            faults.append(found)
    for other in faults[1:]:
        session.elab.report(other)
    if faults:
        raise faults[0]
    return emitter


@dataclass(slots=True)
class Emitter:
    """Makes the nodes of one statement whose ranges are settled and whose reads are proven."""

    session: Session
    facts: Facts
    guarded: set[Read] = field(default_factory=set)
    gathers: dict[Gather, Verdict] = field(default_factory=dict)
    nodes: dict[Source, Node] = field(default_factory=dict)
    means: dict[Reduction, Expr] = field(default_factory=dict)

    def form(
        self,
        indices: Sequence[Index],
        out: Sequence[Size],
        shape: Sequence[Size],
        body: Expr,
        span: Span,
        *,
        reduce: str = "none",
        where: Expr | None = None,
        dtype: DType | None = None,
        drops: bool = False,
        name: str = "",
    ) -> Node:
        """Return the form over ``indices`` that stores ``body`` at ``out``."""
        body = self.expression(body)
        where = None if where is None else self.expression(where)
        if isinstance(where, Const) and where.value:
            where = None
        operands: list[Node] = []
        numbers: dict[int, int] = {}

        def local(number: int) -> int:
            if number not in numbers:
                numbers[number] = len(operands)
                operands.append(self.node(number, span))
            return numbers[number]

        rename = _plain_names(indices)
        return build.form(
            [(rename[i.axis], extent_of(i)) for i in indices],
            [_renamed(o, rename) for o in out],
            _rename(map_operands(body, local), rename),
            operands,
            shape,
            reduce=reduce,
            where=None if where is None else _rename(map_operands(where, local), rename),
            dtype=dtype,
            drops=drops,
            span=span,
            name=name,
        )

    def node(self, number: int, span: Span) -> Node:
        """Return the tensor that operand ``number`` of the statement is."""
        source = self.session.operands.get(number)
        if source is None:
            raise foreign(span)
        if isinstance(source, Node):
            return source
        done = self.nodes.get(source)
        if done is None:
            match source:
                case Reduction():
                    done = self._reduction(source)
                case Gather():
                    done = self._gather(source)
                case Computed():
                    done = self._over(source.deps, source.body, span)
            self.nodes[source] = done
        return done

    def _indices(self, axes: Sequence[str]) -> list[Index]:
        return [self.session.indices[a] for a in axes]

    def _reduction(self, r: Reduction) -> Node:
        outer = self._indices(r.deps)
        return self.form(
            [*outer, *r.level.indices()],
            [i.poly for i in outer],
            [extent_of(i) for i in outer],
            r.body,
            r.level.span,
            reduce=r.kind,
            where=r.where,
            dtype=r.dtype,
        )

    def _gather(self, gather: Gather) -> Node:
        """Read only where the conditions hold, so that nothing faults elsewhere."""
        where: Expr = Const(True, DType.BOOL)
        for c in gather.use.conditions:
            where = scalar.and_(where, c.expr if c.holds else scalar.not_(c.expr))
        return self._over(gather.deps, gather.use.read, gather.use.span, where)

    def _over(self, axes: Sequence[str], body: Expr, span: Span, where: Expr | None = None) -> Node:
        indices = self._indices(axes)
        here = [i.poly for i in indices]
        shape = [extent_of(i) for i in indices]
        return self.form(indices, here, shape, body, span, where=where)

    # expressions ----------------------------------------------------------------------------------

    def expression(self, expr: Expr) -> Expr:
        """Return an expression of the statement with its guards settled and its means spelt out."""
        memo: dict[Expr, Expr] = {}

        def go(e: Expr) -> Expr:
            done = memo.get(e)
            if done is None:
                match e:
                    case Const():
                        done = e
                    case Position(index, dtype):
                        done = Position(self._size(index), dtype)
                    case Read():
                        done = self._read(e)
                    case Apply(op, args, dtype):
                        done = self._simpler(Apply(op, tuple(go(a) for a in args), dtype))
                memo[e] = done
            return done

        return go(exact(expr))

    def _size(self, size: Size) -> Size:
        def change(atom: Atom) -> Size:
            if isinstance(atom, Loaded):
                return Loaded(self._guard(atom.read, atom.read in self.guarded)).as_poly()
            return atom.rebuild(change)

        return substitute_atoms(size, change)

    def _guard(self, read: Read, guarded: bool) -> Read:
        index = tuple(self._size(i) for i in read.index)
        return replace(read, index=index, outside=read.dtype.zero if guarded else None)

    def _read(self, read: Read) -> Expr:
        match self.session.operands.get(read.operand):
            case Reduction(kind="mean") as mean:
                if mean not in self.means:
                    self.means[mean] = self._mean(mean)
                return self.means[mean]
            case Gather(use) as gather if self.gathers[gather] != "data":
                return self._guard(use.read, self.gathers[gather] == "guarded")
            case _:
                return self._guard(read, read in self.guarded)

    def _mean(self, mean: Reduction) -> Expr:
        """The sum over the count; of nothing, 0."""
        session = self.session
        total = session.element(replace(mean, kind="sum")).expr
        if mean.where is None:
            size = product(extent_of(i) for i in mean.level.indices())
            count = scalar.position(size)
            if not proves_nonneg(size - 1, self.facts):
                count = scalar.maximum(count, Const(1, DType.I64))
        else:
            one = Const(1, DType.I32)
            own = {i.axis for i in mean.level.indices()}
            deps = session.order(axes_in(mean.where) - own, mean.level.span)
            counting = Reduction("sum", mean.level, one, mean.where, DType.I32, deps)
            count = scalar.maximum(session.element(counting).expr, one)
        return scalar.div(total, scalar.cast(count, mean.dtype))

    def _simpler(self, e: Expr) -> Expr:
        """Settle comparisons that the ranges decide, and let reads keep their own guards.

        ``if 0 <= e < h then x[e] else v`` is a read with the value ``v`` outside.
        """
        match e:
            case Apply(op, _) if op in COMPARISONS:
                for holds in (True, False):
                    known = assumptions(e, holds)
                    if known and all(proves_nonneg(k, self.facts) for k in known):
                        return Const(holds, DType.BOOL)
            case Apply("and", (a, b), DType.BOOL):
                return scalar.and_(a, b)
            case Apply("or", (a, b), DType.BOOL):
                return scalar.or_(a, b)
            case Apply("not", (a,), DType.BOOL):
                return scalar.not_(a)
            case Apply("select", (Const() as known, a, b)):
                return scalar.select(known, a, b)
            case Apply("select", (condition, Read(outside=value) as read, Const(other))):
                if value is not None and self._guards(condition, read):
                    return replace(read, outside=other)
        return e

    def _guards(self, condition: Expr, read: Read) -> bool:
        """Whether ``condition`` fails only where ``read`` is outside."""
        source = self.session.operands[read.operand]
        if not isinstance(source, Node):
            return False
        inside = [
            s for i, n in zip(read.index, source.type.shape, strict=True) for s in (i, n - 1 - i)
        ]
        return all(
            len(facts) == 1 and facts[0] in inside
            for facts in (assumptions(c) for c in conjuncts(condition))
        )


def extent_of(index: Index) -> Size:
    """The range of an index that has been settled."""
    assert index.extent is not None
    return index.extent


def _plain_names(indices: Sequence[Index]) -> dict[str, str]:
    """Axes under the names that the program uses, where these differ from one another."""
    plain = [i.text if i.text.isidentifier() else i.axis for i in indices]
    if len(set(plain)) < len(plain):
        return {i.axis: i.axis for i in indices}
    return {i.axis: name for i, name in zip(indices, plain, strict=True)}


def _rename(expr: Expr, names: dict[str, str]) -> Expr:
    return map_sizes(expr, lambda size: _renamed(size, names))


def _renamed(size: Size, names: dict[str, str]) -> Size:
    return substitute(size, {Axis(a): axis(b) for a, b in names.items() if a != b})
