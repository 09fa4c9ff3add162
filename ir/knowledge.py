"""What is known of sizes, in one normal form: the inequalities that a proof may draw on.

Remainders become divisions, each floor division has one spelling, and equations (``h % 16 == 0``,
``n == 2*m``) are solved, so that equal sizes are equal polynomials. ``relevant`` then gathers, for
one claim, what is known of its atoms, of the atoms in that, and the products it needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import gcd

from nnc.ir.eliminate import MOST_INEQUALITIES
from nnc.ir.expr import Loaded
from nnc.ir.index import (
    Atom,
    Axis,
    Counter,
    Dim,
    FloorDiv,
    Mod,
    Monomial,
    Poly,
    Size,
    substitute_atoms,
)
from nnc.ir.types import DType

ELEMENT_RANGES: dict[DType, tuple[int | None, int | None]] = {
    DType.BOOL: (0, 1),
    DType.U8: (0, 255),
    DType.I8: (-128, 127),
    DType.U32: (0, None),
    DType.U64: (0, None),
}
"""The least and the greatest of what an element of a type can be, where that says something."""


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
class System:
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
        self.known.extend(implicit(atom, self.extents))
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


def implicit(atom: Atom, extents: dict[str, Size]) -> Iterator[Size]:
    """What is known of an atom by what it is: sizes at least 0."""
    me = atom.as_poly()
    match atom:
        case Counter(_, extent):
            yield me
            yield extent - 1 - me
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
            low, high = ELEMENT_RANGES.get(read.dtype, (None, None))
            if low is not None:
                yield me - low
            if high is not None:
                yield high - me


def system_of(axes: tuple[tuple[str, Size], ...], nonneg: tuple[Size, ...]) -> System:
    """Bring facts into normal form."""
    system = System(dict(axes))
    pending = list(nonneg)
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


def relevant(start: Size, system: System) -> list[Size]:
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
                    for fact in implicit(atom, system.extents):
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


def _products(rows: list[Size], system: System) -> list[Size]:
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
            return ELEMENT_RANGES.get(read.dtype, (None, None))[0] == 0
        case _Whole(_, nonneg):
            return nonneg
    return False
