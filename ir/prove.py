"""Proofs about sizes: whether a subscript stays inside, whether a guard can be dropped.

The question is always "is this polynomial at least 0 wherever these facts hold?", over the
integers. It is answered by refutation: the opposite (``value <= -1``) is added to what is known,
every distinct product of atoms is taken as one integer variable, and variables are eliminated one
by one, rounding each inequality to the integers (Fourier and Motzkin's method with Gomory's cut).
A contradiction proves the claim; anything else, running out of patience included, proves nothing.
So an answer of True can be relied on and one of False means "not shown".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from math import gcd
from typing import TypeAlias

from nnc.ir.expr import Apply, Const, Expr, Loaded, Position
from nnc.ir.graph import Form
from nnc.ir.index import (
    Atom,
    Axis,
    Dim,
    FloorDiv,
    Mod,
    Monomial,
    Poly,
    Size,
    floordiv,
    substitute_atoms,
)
from nnc.ir.types import DType

MOST_INEQUALITIES = 240
"""Elimination gives up beyond this many; proofs found in practice need fewer than 40."""


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
            return _ELEMENT_RANGES.get(read.dtype, (None, None))
    return None, None


_ELEMENT_RANGES: dict[DType, tuple[int | None, int | None]] = {
    DType.BOOL: (0, 1),
    DType.U8: (0, 255),
    DType.I8: (-128, 127),
    DType.U32: (0, None),
    DType.U64: (0, None),
}


# Normal form: no remainders, one spelling of each floor division, equations solved ---------------


@dataclass(frozen=True, slots=True)
class _Whole(Atom):
    """The quotient of a division that is known to leave no remainder."""

    name: str
    nonneg: bool

    @property
    def key(self) -> str:
        return f"#{self.name}"


def _divide(value: Size, by: int) -> Size:
    """Floor division with the dividend's coefficients brought below ``by``.

    ``(by*w + r) // by = w + r // by``, ``(g*p + c) // (g*b) = (p + c//g) // b`` and
    ``(v//a + s) // by = (v + a*s) // (a*by)`` are applied wherever they fit.
    """
    if isinstance(value, int):
        return value // by
    whole: Size = 0
    rest: Size = 0
    for monomial, c in value.terms:
        term = Poly(((monomial, 1),)) if monomial else 1
        whole = whole + term * (c // by)
        rest = rest + term * (c % by)
    if isinstance(rest, int):
        return whole + rest // by
    common = gcd(by, *(c for m, c in rest.terms if m))
    if common > 1:
        rest = _over(rest - rest.constant, common) + rest.constant // common
        return whole + _divide(rest, by // common)
    for monomial, c in rest.terms:
        match monomial:
            case (FloorDiv(inner, a),) if c == 1:
                others = rest - FloorDiv(inner, a).as_poly()
                return whole + _divide(inner + others * a, a * by)
    assert isinstance(rest, Poly)
    return whole + FloorDiv(rest, by).as_poly()


def _over(value: Size, by: int) -> Size:
    if isinstance(value, int):
        return value // by
    return Poly(tuple((m, c // by) for m, c in value.terms))


@dataclass(slots=True)
class _System:
    """Facts in normal form: equations as replacements, the rest as inequalities."""

    extents: dict[str, Size]
    replace: dict[Atom, Size] = field(default_factory=dict)
    known: list[Size] = field(default_factory=list)
    memo: dict[Atom, Size] = field(default_factory=dict)

    def normal(self, value: Size) -> Size:
        """``value`` without remainders, divisions in their one spelling, equations used."""
        return substitute_atoms(value, self._change)

    def _change(self, atom: Atom) -> Size:
        done = self.memo.get(atom)
        if done is None:
            found = self.replace.get(atom)
            if found is not None:
                done = found
            else:
                match atom:
                    case FloorDiv(value, by):
                        done = _divide(self.normal(value), by)
                    case Mod(value, by):
                        inner = self.normal(value)
                        done = inner - _divide(inner, by) * by
                    case _:
                        done = atom.rebuild(self._change)
            self.memo[atom] = done
        return done

    def solve(self, equation: Size) -> bool:
        """Use ``equation == 0`` to replace an atom; False where none stands alone in it."""
        if isinstance(equation, int):
            return False
        found = _isolate(equation, self.extents)
        if found is None:
            return False
        atom, value = found
        self.replace[atom] = value
        self.memo = {}
        for other, old in list(self.replace.items()):
            if other is not atom:
                self.replace[other] = self.normal(old)
        self.memo = {}
        self.known.extend(_implicit(atom, self.extents))
        return True


def _isolate(equation: Poly, extents: dict[str, Size]) -> tuple[Atom, Size] | None:
    """An atom and what it equals, given ``equation == 0``.

    ``v - k*(v//k) == 0`` says that ``k`` divides ``v``: the quotient becomes an atom of its own.
    """
    for atom in equation.atoms():
        if isinstance(atom, FloorDiv) and equation in _pair(_remainder(atom)):
            whole = _Whole(atom.key, _nonneg_atom(atom, extents)).as_poly()
            return _alone(atom.value - whole * atom.by)
    return _alone(equation)


def _pair(value: Size) -> tuple[Size, Size]:
    return value, -value


def _remainder(atom: FloorDiv) -> Size:
    return atom.value - atom.as_poly() * atom.by


def _alone(equation: Size) -> tuple[Atom, Size] | None:
    """Solve for an atom that occurs once, by itself, with factor 1 or -1: a dim by preference."""
    if isinstance(equation, int):
        return None
    candidates = [(m[0], c) for m, c in equation.terms if len(m) == 1 and abs(c) == 1]
    candidates.sort(key=lambda pair: (not isinstance(pair[0], Dim), isinstance(pair[0], _Whole)))
    for atom, c in candidates:
        rest = equation - atom.as_poly() * c
        elsewhere = rest.all_atoms() if isinstance(rest, Poly) else iter(())
        if isinstance(atom, Dim | Axis) and atom not in elsewhere:
            return atom, rest * -c
    return None


def _implicit(atom: Atom, extents: dict[str, Size]) -> Iterator[Size]:
    """What is known of an atom by what it is: sizes at least 0."""
    me = atom.as_poly()
    match atom:
        case Dim():
            yield me - 1
        case Axis(name) if name in extents:
            yield me
            yield extents[name] - 1 - me
        case FloorDiv(_, by):
            yield _remainder(atom)
            yield by - 1 - _remainder(atom)
            if _nonneg_atom(atom, extents):  # follows, but only by a cut that depends on the order
                yield me
        case _Whole(_, nonneg):
            if nonneg:
                yield me
        case Loaded(read):
            low, high = _ELEMENT_RANGES.get(read.dtype, (None, None))
            if low is not None:
                yield me - low
            if high is not None:
                yield high - me


@lru_cache(maxsize=4096)
def _system(facts: Facts) -> _System:
    system = _System(dict(facts.axes))
    pending = list(facts.nonneg)
    for _ in range(len(pending) + 1):
        normal = [system.normal(f) for f in pending]
        found = next((f for f in normal if _is_equation(f, normal) and system.solve(f)), None)
        if found is None:
            break
        pending = normal
    system.known = [system.normal(f) for f in (*system.known, *pending)]
    system.known = [f for f in dict.fromkeys(system.known) if not (isinstance(f, int) and f >= 0)]
    return system


def _is_equation(fact: Size, known: list[Size]) -> bool:
    """Whether ``-fact`` is known too: stated, or because remainders are never negative."""
    if isinstance(fact, int):
        return False
    opposite = -fact
    if opposite in known:
        return True
    return any(isinstance(a, FloorDiv) and opposite == _remainder(a) for a in fact.atoms())


# Refutation --------------------------------------------------------------------------------------

Row: TypeAlias = tuple[tuple[tuple[Monomial, int], ...], int]
"""``sum of coefficient * variable + constant >= 0``."""


@lru_cache(maxsize=1 << 16)
def _proves(value: Size, facts: Facts) -> bool:
    system = _system(facts)
    goal = system.normal(value)
    if isinstance(goal, int):
        return goal >= 0 or _contradicts(facts)
    return _infeasible(_relevant(-goal - 1, system))


@lru_cache(maxsize=4096)
def _contradicts(facts: Facts) -> bool:
    system = _system(facts)
    rows = list(system.known)
    for name, extent in facts.axes:
        rows.append(system.normal(extent) - 1)
        rows.extend(system.normal(f) for f in _implicit(Axis(name), system.extents))
    gathered = dict.fromkeys(rows)
    for row in rows:
        gathered.update(dict.fromkeys(_relevant(row, system)))
    return _infeasible(list(gathered))


def _relevant(start: Size, system: _System) -> list[Size]:
    """``start`` and what is known of its atoms, of the atoms in that, and so on, and products."""
    rows: dict[Size, None] = {start: None}
    atoms: dict[Atom, None] = {}
    unused = dict.fromkeys(system.known)

    def add(row: Size) -> None:
        row = system.normal(row)
        rows.setdefault(row)
        if isinstance(row, Poly):
            for atom in row.atoms():
                if atom not in atoms:
                    atoms[atom] = None
                    for fact in _implicit(atom, system.extents):
                        add(fact)

    add(start)
    changed = True
    while changed:
        changed = False
        for fact in list(unused):
            if isinstance(fact, int) or any(a in atoms for a in fact.atoms()):
                del unused[fact]
                add(fact)
                changed = True
    return [*rows, *_products(list(rows), system)]


def _products(rows: list[Size], system: _System) -> list[Size]:
    """Known rows times atoms that are at least 0, where that meets a product that occurs.

    ``i*w + j < h*w`` needs ``(h - 1 - i) * w >= 0``: for the product ``i*w``, each row in which
    ``i`` stands alone is multiplied by ``w``.
    """
    made: dict[Size, None] = {}
    facts = rows[1:]
    linear: dict[Atom, list[Poly]] = {}
    for row in facts:
        if isinstance(row, Poly):
            for monomial, _ in row.terms:
                if len(monomial) == 1:
                    linear.setdefault(monomial[0], []).append(row)
    seen: set[Monomial] = set()
    pending = [m for r in rows if isinstance(r, Poly) for m, _ in r.terms if len(m) > 1]
    most = max((len(m) for m in pending), default=0)
    while pending and len(made) < MOST_INEQUALITIES // 2:
        monomial = pending.pop()
        if monomial in seen:
            continue
        seen.add(monomial)
        for atom in dict.fromkeys(monomial):
            others = list(monomial)
            others.remove(atom)
            if not all(_nonneg_atom(a, system.extents) for a in others):
                continue
            cofactor = Poly(((tuple(others), 1),))
            for row in linear.get(atom, ()):
                product = row * cofactor
                if product in made or not isinstance(product, Poly):
                    continue
                made[product] = None
                pending.extend(m for m, _ in product.terms if 1 < len(m) <= most)
    return list(made)


def _nonneg_atom(atom: Atom, extents: dict[str, Size]) -> bool:
    """Whether an atom is at least 0 by a glance at what it is."""
    match atom:
        case Dim():
            return True
        case Axis(name):
            return name in extents
        case FloorDiv(value, _):
            return all(c >= 0 and all(_nonneg_atom(a, extents) for a in m) for m, c in value.terms)
        case Loaded(read):
            return _ELEMENT_RANGES.get(read.dtype, (None, None))[0] == 0
        case _Whole(_, nonneg):
            return nonneg
    return False


def _infeasible(sizes: Iterable[Size]) -> bool:
    """Whether no integers make all of ``sizes`` at least 0, as far as elimination shows."""
    rows: dict[tuple[tuple[Monomial, int], ...], int] = {}
    for size in sizes:
        if not _insert(rows, _row(size)):
            return True
    while rows:
        variable = _cheapest(rows)
        above: list[tuple[int, Row]] = []
        below: list[tuple[int, Row]] = []
        kept: dict[tuple[tuple[Monomial, int], ...], int] = {}
        for terms, constant in rows.items():
            c = next((c for m, c in terms if m == variable), 0)
            if c == 0:
                kept[terms] = constant
            else:
                (above if c > 0 else below).append((abs(c), (terms, constant)))
        for a, p in above:
            for b, n in below:
                if not _insert(kept, _combine(p, b, n, a)):
                    return True
        if len(kept) > MOST_INEQUALITIES:
            return False
        rows = kept
    return False


def _row(size: Size) -> Row:
    if isinstance(size, int):
        return (), size
    return _rounded({m: c for m, c in size.terms if m}, size.constant)


def _combine(p: Row, b: int, n: Row, a: int) -> Row:
    """``b*p + a*n``, in which one variable cancels."""
    total = {m: c * b for m, c in p[0]}
    for m, c in n[0]:
        total[m] = total.get(m, 0) + c * a
    return _rounded(total, p[1] * b + n[1] * a)


def _rounded(coefficients: dict[Monomial, int], constant: int) -> Row:
    """Divide by the common factor of the coefficients; the constant rounds down (the cut)."""
    kept = [(m, c) for m, c in coefficients.items() if c]
    if not kept:
        return (), constant
    common = gcd(*(c for _, c in kept))
    kept.sort(key=lambda t: tuple(a.key for a in t[0]))
    return tuple((m, c // common) for m, c in kept), constant // common


def _insert(rows: dict[tuple[tuple[Monomial, int], ...], int], row: Row) -> bool:
    """Add a row unless a tighter one is there; False where it cannot hold."""
    terms, constant = row
    if not terms:
        return constant >= 0
    old = rows.get(terms)
    rows[terms] = constant if old is None else min(old, constant)
    return True


def _cheapest(rows: dict[tuple[tuple[Monomial, int], ...], int]) -> Monomial:
    """The variable whose elimination makes the fewest new rows."""
    signs: dict[Monomial, list[int]] = {}
    for terms in rows:
        for m, c in terms:
            signs.setdefault(m, [0, 0])[c > 0] += 1
    return min(signs, key=lambda m: signs[m][0] * signs[m][1] - sum(signs[m]))
