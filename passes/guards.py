"""Guards of forms: conditions and guarded reads, which of them say the same, and which say nothing.

A read with ``outside = 0`` is itself a guard where the body is a product that it takes part in:
outside the tensor the product is 0. Contractions are recognised with guards in that shape, so
conditions that such reads imply are removed in favour of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from nnc.ir.expr import (
    Apply,
    Const,
    Expr,
    Loaded,
    Read,
    loads_in,
    map_reads,
    map_sizes,
    reads,
    walk,
)
from nnc.ir.graph import Form, Node, form_reads
from nnc.ir.index import Atom, Size, substitute_atoms
from nnc.ir.prove import Facts, assumptions, facts_of, proves_nonneg
from nnc.passes.forms import conjunction, conjuncts, inside

# Operations of finite operands that are finite: 0 times their result is 0.
_TAME = frozenset({
    "add", "sub", "mul", "neg", "abs", "max", "min", "mad", "select", "cast", "tanh", "erf", "sin",
    "cos", "floor", "ceil", "round", "eq", "ne", "lt", "le", "gt", "ge", "and", "or", "not",
    "stop_gradient",
})  # fmt: skip

_COMPARISONS = frozenset({"lt", "le", "gt", "ge", "eq"})


def annihilators(body: Expr) -> Iterator[Read]:
    """The reads that make ``body`` 0 wherever they are 0, as long as tensors are finite."""
    match body:
        case Read():
            yield body
        case Apply("mul", (a, b)):
            if _tame(b):
                yield from annihilators(a)
            if _tame(a):
                yield from annihilators(b)
        case Apply("div", (a, b)) if not any(True for _ in reads(b)):
            yield from annihilators(a)
        case Apply("neg" | "stop_gradient" | "cast", (a,)) if body.dtype.is_float:
            yield from annihilators(a)


def _tame(expr: Expr) -> bool:
    return all(e.op in _TAME for e in walk(expr) if isinstance(e, Apply))


def always_outside(read: Read, shape: Sequence[Size], facts: Facts) -> bool:
    """Whether some subscript is proven to lie outside ``shape``."""
    return any(
        proves_nonneg(-1 - i, facts) or proves_nonneg(i - n, facts)
        for i, n in zip(read.index, shape, strict=True)
    )


def implied(condition: Expr, facts: Facts) -> bool:
    """Whether the facts prove a condition."""
    match condition:
        case Const(value):
            return bool(value)
        case Apply("and", (a, b)):
            return implied(a, facts) and implied(b, facts)
        case Apply("or", (a, b)):
            return implied(a, facts) or implied(b, facts)
        case Apply("not", (a,)):
            return refuted(a, facts)
        case Apply("ne", args, dtype):
            return any(implied(Apply(op, args, dtype), facts) for op in ("lt", "gt"))
    sizes = assumptions(condition)
    return bool(sizes) and all(proves_nonneg(s, facts) for s in sizes)


def refuted(condition: Expr, facts: Facts) -> bool:
    """Whether the facts prove that a condition is false."""
    match condition:
        case Const(value):
            return not value
        case Apply("and", (a, b)):
            return refuted(a, facts) or refuted(b, facts)
        case Apply("or", (a, b)):
            return refuted(a, facts) and refuted(b, facts)
        case Apply("not", (a,)):
            return implied(a, facts)
        case Apply("ne", args, dtype):
            return implied(Apply("eq", args, dtype), facts)
    return any(proves_nonneg(-1 - s, facts) for s in assumptions(condition))


def absorb(form: Form, inputs: Sequence[Node], known: Iterable[Size] = ()) -> Form:
    """Drop the conditions of a sum's filter that a guarded read of a product implies.

    A condition goes where, if it fails, some annihilating read of the body lies outside its
    tensor and so is 0. Reads without a guard get one for this; all that remain are then proven
    inside, or guarded.
    """
    if form.reduce not in ("sum", "none") or form.where is None:
        return form
    kept = list(conjuncts(form.where))
    guarded: set[Read] = set()
    for condition in list(kept):
        others = [c for c in kept if c is not condition]
        failing = _failing(condition, Facts(form.axes, tuple(known)), others)
        found = next(
            (
                r
                for r in annihilators(form.body)
                if r.outside in (None, 0)
                and all(always_outside(r, inputs[r.operand].type.shape, f) for f in failing)
            ),
            None,
        )
        if failing and found is not None:
            kept.remove(condition)
            guarded.add(found)
    if not guarded:
        return form
    relaxed = replace(form, where=conjunction(kept))
    before, after = facts_of(form, known), facts_of(relaxed, known)
    was_inside, unsafe = _inside(inputs, before), _unsafe(inputs, after)
    exposed = [r for r in form_reads(relaxed) if r not in guarded and unsafe(r)]
    if not all(was_inside(r) for r in exposed):
        return form
    is_inside = _inside(inputs, after)

    def guard(read: Read) -> bool:
        return read in guarded or (not is_inside(read) and was_inside(read))

    return replace(
        relaxed,
        out=tuple(_guarded_size(o, guard) for o in relaxed.out),
        body=_guarded_reads(relaxed.body, guard),
        where=None if relaxed.where is None else _guarded_reads(relaxed.where, guard),
    )


def guard_condition(form: Form, inputs: Sequence[Node], known: Iterable[Size] = ()) -> Form:
    """Guard the reads of the filter that are not proven inside: it is tried at every point."""
    if form.where is None:
        return form
    unsafe = _unsafe(inputs, Facts(form.axes, tuple(known)))
    return replace(form, where=_guarded_reads(form.where, unsafe))


def _inside(inputs: Sequence[Node], facts: Facts) -> Callable[[Read], bool]:
    """Tell the reads that are proven to lie inside their tensor."""
    return lambda read: inside(read.index, inputs[read.operand].type.shape, facts)


def _unsafe(inputs: Sequence[Node], facts: Facts) -> Callable[[Read], bool]:
    """Tell the unguarded reads with a subscript that neither is proven inside nor checked."""

    def unsafe(read: Read) -> bool:
        if read.outside is not None:
            return False
        pairs = zip(read.index, inputs[read.operand].type.shape, strict=True)
        static = [(i, n) for i, n in pairs if not any(True for _ in loads_in(i))]
        return not inside([i for i, _ in static], [n for _, n in static], facts)

    return unsafe


def _failing(condition: Expr, facts: Facts, others: Sequence[Expr]) -> list[Facts]:
    """The cases in which an exact comparison fails, each as facts; of other conditions, none."""
    if not isinstance(condition, Apply) or condition.op not in _COMPARISONS:
        return []
    sizes = assumptions(condition)
    for other in others:
        facts = facts.assume(assumptions(other))
    return [facts.assume((-1 - s,)) for s in sizes]


def _guarded_size(size: Size, unsafe: Callable[[Read], bool]) -> Size:
    """Give ``unsafe`` reads inside a subscript the value 0 outside."""

    def change(a: Atom) -> Size:
        if not isinstance(a, Loaded):
            return a.rebuild(change)
        read = replace(a.read, index=tuple(substitute_atoms(i, change) for i in a.read.index))
        return Loaded(replace(read, outside=0) if unsafe(read) else read).as_poly()

    return substitute_atoms(size, change)


def _guarded_reads(expr: Expr, unsafe: Callable[[Read], bool]) -> Expr:
    """Give ``unsafe`` reads the value 0 outside, those inside subscripts too."""
    inner = map_sizes(expr, lambda size: _guarded_size(size, unsafe))
    return map_reads(inner, lambda r: replace(r, outside=0) if unsafe(r) else r)


def relax(form: Form, inputs: Sequence[Node], known: Iterable[Size] = ()) -> Form:
    """Drop guards that never act: proven conditions, and ``outside`` of reads proven inside."""
    known = tuple(known)
    kept: list[Expr] = []
    pending = list(conjuncts(form.where))
    while pending:
        condition = pending.pop(0)
        facts = Facts(form.axes, known)
        for other in (*kept, *pending):
            facts = facts.assume(assumptions(other))
        if not implied(condition, facts):
            kept.append(condition)
    form = replace(form, where=conjunction(kept))
    facts = facts_of(form, known)

    def value(read: Read) -> Expr:
        if read.outside is None or not inside(read.index, inputs[read.operand].type.shape, facts):
            return read
        return replace(read, outside=None)

    plain = Facts(form.axes, known)

    def condition_value(read: Read) -> Expr:
        if read.outside is None or not inside(read.index, inputs[read.operand].type.shape, plain):
            return read
        return replace(read, outside=None)

    where = None if form.where is None else map_reads(form.where, condition_value)
    return replace(form, body=map_reads(form.body, value), where=where)
