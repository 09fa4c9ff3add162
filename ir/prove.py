"""Proofs about sizes: whether a subscript stays inside, whether a guard can be dropped.

The question is always "is this polynomial at least 0 wherever these facts hold?", over the
integers. It is answered by refutation: the opposite (``value <= -1``) is added to what is known,
every distinct product of atoms is taken as one integer variable, and variables are eliminated one
by one, rounding each inequality to the integers (Fourier and Motzkin's method with Gomory's cut).
A contradiction proves the claim; anything else, running out of patience included, proves nothing.
So an answer of True can be relied on and one of False means "not shown".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

from nnc.ir.eliminate import infeasible
from nnc.ir.expr import Apply, Const, Expr, Loaded, Position
from nnc.ir.graph import Form
from nnc.ir.index import (
    Atom,
    Axis,
    FloorDiv,
    Mod,
    Monomial,
    Size,
    floordiv,
)
from nnc.ir.knowledge import ELEMENT_RANGES, System, implicit, relevant, system_of
from nnc.ir.types import DType


@dataclass(frozen=True)
class Facts:
    """What is known of a place.

    ``axes`` (name, extent) say ``0 <= axis < extent``; ``nonneg`` are sizes that are at least 0.
    Symbolic dims are at least 1 everywhere.
    """

    axes: tuple[tuple[str, Size], ...] = ()
    nonneg: tuple[Size, ...] = ()
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hash", hash((self.axes, self.nonneg)))

    def __hash__(self) -> int:
        return self._hash

    def with_axes(self, axes: Iterable[tuple[str, Size]]) -> Facts:
        """Return these facts and the ranges of more axes (a name given again is replaced)."""
        new = dict(axes)
        kept = tuple((name, extent) for name, extent in self.axes if name not in new)
        return Facts((*kept, *new.items()), self.nonneg) if new else self

    def assume(self, sizes: Iterable[Size]) -> Facts:
        """Return these facts and that each of ``sizes`` is at least 0."""
        known = set(self.nonneg)
        new = tuple(s for s in dict.fromkeys(sizes) if s not in known)
        return Facts(self.axes, (*self.nonneg, *new)) if new else self


def facts_of(form: Form, known: Iterable[Size] = ()) -> Facts:
    """What holds at each point that ``form`` computes: its ranges, its filter and ``known``."""
    facts = Facts(form.axes, tuple(known))
    return facts if form.where is None else facts.assume(assumptions(form.where))


def proves_nonneg(value: Size, facts: Facts) -> bool:
    """Whether ``value >= 0`` follows from ``facts``. Never claims it wrongly."""
    return value >= 0 if isinstance(value, int) else _proves(value, facts)


def proves_less(a: Size, b: Size, facts: Facts) -> bool:
    """Whether ``a < b`` follows from ``facts``."""
    return proves_nonneg(b - a - 1, facts)


def proves_equal(a: Size, b: Size, facts: Facts) -> bool:
    """Whether ``a == b`` follows from ``facts``."""
    return a == b or (proves_nonneg(a - b, facts) and proves_nonneg(b - a, facts))


def contradicts(facts: Facts) -> bool:
    """Whether the facts cannot all hold: the place is never reached."""
    return proves_nonneg(-1, facts) or _contradicts(facts)


def bounds(value: Size, facts: Facts) -> tuple[Size | None, Size | None]:
    """The least and the greatest that ``value`` comes to over the ranges of ``facts.axes``.

    Each is a size free of axes, or None where none is derived. They are bounds, not always
    reached: axes that occur twice are taken to vary independently, and guards are not used.
    """
    if isinstance(value, int):
        return value, value
    low: Size | None = 0
    high: Size | None = 0
    for monomial, c in value.terms:
        a, b = _term_bounds(monomial, c, facts)
        low = None if low is None or a is None else low + a
        high = None if high is None or b is None else high + b
    return low, high


def assumptions(condition: Expr, holds: bool = True) -> tuple[Size, ...]:
    """Sizes that are at least 0 where ``condition`` is true (or, with ``holds`` False, false).

    Only comparisons of exact whole numbers tell something, constants and 64-bit positions:
    arithmetic on elements of a tensor may wrap around.
    """
    match condition:
        case Apply("not", (inner,)):
            return assumptions(inner, not holds)
        case Apply("and", (a, b)) if holds:
            return assumptions(a) + assumptions(b)
        case Apply("or", (a, b)) if not holds:
            return assumptions(a, False) + assumptions(b, False)
        case Apply("lt" | "le" | "gt" | "ge" | "eq" | "ne" as op, (a, b)):
            x, y = _exact(a), _exact(b)
            if x is None or y is None:
                return ()
            return _comparison(op if holds else _OPPOSITE[op], x, y)
        case Const(value, DType.BOOL) if bool(value) is not holds:
            return (-1,)
    return ()


_OPPOSITE = {"lt": "ge", "le": "gt", "gt": "le", "ge": "lt", "eq": "ne", "ne": "eq"}


def _comparison(op: str, x: Size, y: Size) -> tuple[Size, ...]:
    match op:
        case "lt":
            return (y - x - 1,)
        case "le":
            return (y - x,)
        case "gt":
            return (x - y - 1,)
        case "ge":
            return (x - y,)
        case "eq":
            return (x - y, y - x)
    return ()


def _exact(expr: Expr) -> Size | None:
    match expr:
        case Const(bool()):
            return None
        case Const(int() as value):
            return value
        case Position(index, DType.I64):
            return index
    return None


def _term_bounds(monomial: Monomial, c: int, facts: Facts) -> tuple[Size | None, Size | None]:
    """Bounds of one term: at most one factor may vary, the others keep one sign."""
    varying = [a for a in monomial if _varies(a)]
    factor: Size = c
    for atom in monomial:
        if not _varies(atom):
            factor = factor * atom.as_poly()
    if not varying:
        return factor, factor
    if len(varying) > 1:
        return None, None
    low, high = _atom_bounds(varying[0], facts)
    low = None if low is None else low * factor
    high = None if high is None else high * factor
    if proves_nonneg(factor, facts):
        return low, high
    return (high, low) if proves_nonneg(-factor, facts) else (None, None)


def _varies(atom: Atom) -> bool:
    inner = (atom, *atom.inner())
    return any(isinstance(a, Axis | Loaded) for a in inner)


def _atom_bounds(atom: Atom, facts: Facts) -> tuple[Size | None, Size | None]:
    match atom:
        case Axis(name):
            extent = dict(facts.axes).get(name)
            return (None, None) if extent is None else (0, extent - 1)
        case FloorDiv(value, by):
            low, high = bounds(value, facts)
            return (
                None if low is None else floordiv(low, by),
                None if high is None else floordiv(high, by),
            )
        case Mod(value, by):
            low, high = bounds(value, facts)
            if low is None or high is None:
                return 0, by - 1
            inside = proves_nonneg(low, facts) and proves_less(high, by, facts)
            return (low, high) if inside else (0, by - 1)
        case Loaded(read):
            return ELEMENT_RANGES.get(read.dtype, (None, None))
    return None, None


@lru_cache(maxsize=4096)
def _system(facts: Facts) -> System:
    return system_of(facts.axes, facts.nonneg)


@lru_cache(maxsize=1 << 16)
def _proves(value: Size, facts: Facts) -> bool:
    system = _system(facts)
    goal = system.normal(value)
    if isinstance(goal, int):
        return goal >= 0 or _contradicts(facts)
    return infeasible(relevant(-goal - 1, system))


@lru_cache(maxsize=4096)
def _contradicts(facts: Facts) -> bool:
    system = _system(facts)
    rows = list(system.known)
    for name, extent in facts.axes:
        rows.append(system.normal(extent) - 1)
        rows.extend(system.normal(f) for f in implicit(Axis(name), system.extents))
    gathered = dict.fromkeys(rows)
    for row in rows:
        gathered.update(dict.fromkeys(relevant(row, system)))
    return infeasible(list(gathered))
