"""Integer polynomials: the sizes of tensors and the subscripts into them.

One class serves both. A polynomial is a sum of whole multiples of products of *atoms*; an atom is
a symbolic dim, an axis, a floor division or remainder by a positive constant, or (see ``expr``)
an integer loaded from a tensor. Polynomials are kept in a normal form, so equal ones compare
equal, and a constant is always a plain ``int``: code that handles sizes works for both.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias, Union

_LOOP_NUMBER = re.compile(r"'\d+")


class Atom:
    """An indivisible factor of a polynomial. Subclasses are frozen and hashable."""

    __slots__ = ()

    @property
    def key(self) -> str:
        """Text that orders atoms and prints them; equal atoms have equal keys."""
        raise NotImplementedError

    def rebuild(self, change: Callable[[Atom], Size]) -> Size:
        """Return this atom with ``change`` applied to the atoms within it."""
        return self.as_poly()

    def inner(self) -> Iterator[Atom]:
        """Yield the atoms nested inside this one (not itself)."""
        return iter(())

    def as_poly(self) -> Poly:
        """Return the polynomial that is just this atom."""
        return Poly((((self,), 1),))


@dataclass(frozen=True, slots=True, eq=False)
class Dim(Atom):
    """A symbolic dim: bound by the data at a call. At least 0."""

    name: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dim) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    @property
    def key(self) -> str:
        """See ``Atom``."""
        return self.name


@dataclass(frozen=True, slots=True, eq=False)
class Counter(Dim):
    """The counter of a loop, from 0 below ``extent``: a dim to all that happens in one turn.

    Where loops are told apart by a number, as in ``t'3``, that is not shown.
    """

    extent: Size

    def rebuild(self, change: Callable[[Atom], Size]) -> Size:
        """See ``Atom``."""
        return Counter(self.name, substitute_atoms(self.extent, change)).as_poly()


@dataclass(frozen=True, slots=True)
class Axis(Atom):
    """An axis of a form's box, an axis of a loop, or (in loop IR) a let-bound integer."""

    name: str

    @property
    def key(self) -> str:
        """See ``Atom``."""
        return f"${self.name}"


@dataclass(frozen=True, slots=True)
class FloorDiv(Atom):
    """``value // by``, rounded down; ``by`` is at least 2."""

    value: Poly
    by: int

    @property
    def key(self) -> str:
        """See ``Atom``."""
        return f"({self.value!r})//{self.by}"

    def rebuild(self, change: Callable[[Atom], Size]) -> Size:
        """See ``Atom``."""
        return floordiv(substitute_atoms(self.value, change), self.by)

    def inner(self) -> Iterator[Atom]:
        """See ``Atom``."""
        return self.value.all_atoms()


@dataclass(frozen=True, slots=True)
class Mod(Atom):
    """``value % by``, never negative; ``by`` is at least 2."""

    value: Poly
    by: int

    @property
    def key(self) -> str:
        """See ``Atom``."""
        return f"({self.value!r})%{self.by}"

    def rebuild(self, change: Callable[[Atom], Size]) -> Size:
        """See ``Atom``."""
        return mod(substitute_atoms(self.value, change), self.by)

    def inner(self) -> Iterator[Atom]:
        """See ``Atom``."""
        return self.value.all_atoms()


Monomial: TypeAlias = tuple[Atom, ...]


@dataclass(frozen=True)
class Poly:
    """A polynomial that is not constant: ``terms`` maps monomials to coefficients, sorted.

    Build one with arithmetic on ``dim(...)`` and ``axis(...)``; never call the constructor with
    terms that are not in normal form (atoms of a monomial sorted, no zero coefficient).
    """

    terms: tuple[tuple[Monomial, int], ...]

    @cached_property
    def _hash(self) -> int:
        return hash(self.terms)

    def __hash__(self) -> int:
        return self._hash

    # arithmetic -----------------------------------------------------------------------------

    def __add__(self, other: Size) -> Size:
        if other == 0:
            return self
        return _collect([*self.terms, *_terms(other)])

    __radd__ = __add__

    def __neg__(self) -> Size:
        return self * -1

    def __sub__(self, other: Size) -> Size:
        return self + -other

    def __rsub__(self, other: Size) -> Size:
        return -self + other

    def __mul__(self, other: Size) -> Size:
        if isinstance(other, int):
            if other == 1:
                return self
            return Poly(tuple((m, c * other) for m, c in self.terms)) if other else 0
        return _collect(
            [
                (tuple(sorted(a + b, key=lambda atom: atom.key)), c * d)
                for a, c in self.terms
                for b, d in _terms(other)
            ]
        )

    __rmul__ = __mul__

    # inspection -----------------------------------------------------------------------------

    @property
    def constant(self) -> int:
        """The constant term."""
        return next((c for m, c in self.terms if not m), 0)

    def atoms(self) -> Iterator[Atom]:
        """Yield the atoms that are factors of some term, without what is nested in them."""
        seen: dict[Atom, None] = {}
        for monomial, _ in self.terms:
            for atom in monomial:
                seen.setdefault(atom)
        return iter(seen)

    def all_atoms(self) -> Iterator[Atom]:
        """Yield every atom, those nested in ``//`` and ``%`` too."""
        for atom in self.atoms():
            yield atom
            yield from atom.inner()

    def __str__(self) -> str:
        return _LOOP_NUMBER.sub("", self._text)

    def __repr__(self) -> str:
        return self._text

    @cached_property
    def _text(self) -> str:
        parts: list[str] = []
        for monomial, c in sorted(self.terms, key=lambda t: (not t[0], [a.key for a in t[0]])):
            factors = [a.key for a in monomial]
            if abs(c) != 1 or not factors:
                factors.insert(0, str(abs(c)))
            sign = ("-" if c < 0 else "") if not parts else (" - " if c < 0 else " + ")
            parts.append(sign + "*".join(factors))
        return "".join(parts)


Size: TypeAlias = Union[int, Poly]  # noqa: UP007 - Poly is a forward reference above


def _terms(value: Size) -> tuple[tuple[Monomial, int], ...]:
    if isinstance(value, Poly):
        return value.terms
    return (((), value),) if value else ()


def _collect(terms: Iterable[tuple[Monomial, int]]) -> Size:
    total: dict[Monomial, int] = {}
    for monomial, c in terms:
        total[monomial] = total.get(monomial, 0) + c
    kept = [(m, c) for m, c in total.items() if c]
    if not kept:
        return 0
    if len(kept) == 1 and not kept[0][0]:
        return kept[0][1]
    return Poly(tuple(sorted(kept, key=lambda t: tuple(a.key for a in t[0]))))


def dim(name: str) -> Poly:
    """Return the symbolic dim ``name`` as a size."""
    return Dim(name).as_poly()


def axis(name: str) -> Poly:
    """Return the axis ``name`` as a subscript."""
    return Axis(name).as_poly()


def product(sizes: Iterable[Size]) -> Size:
    """Multiply sizes; of none, 1."""
    result: Size = 1
    for size in sizes:
        result = result * size
    return result


def divides(value: Size, by: int) -> bool:
    """Whether every coefficient is a multiple of ``by``."""
    return all(c % by == 0 for _, c in _terms(value))


def exact_div(value: Size, by: Size) -> Size | None:
    """Divide without remainder, or return None where the normal form does not show that it goes.

    ``by`` may be an int or a single term (``3*heads``); dividing by a longer polynomial succeeds
    only where the two are equal.
    """
    if value == by and by != 0:
        return 1
    if value == 0:
        return 0
    by_terms = _terms(by)
    if len(by_terms) != 1:
        return None
    divisor, k = by_terms[0]
    result: list[tuple[Monomial, int]] = []
    for monomial, c in _terms(value):
        rest = list(monomial)
        if c % k:
            return None
        for atom in divisor:
            if atom not in rest:
                return None
            rest.remove(atom)
        result.append((tuple(rest), c // k))
    return _collect(result)


def floordiv(value: Size, by: int) -> Size:
    """Floor division by a positive constant, with what is a multiple taken out."""
    if by < 1:
        raise ValueError(f"floor division by {by}")
    if isinstance(value, int):
        return value // by
    whole = _collect((m, c // by) for m, c in value.terms if c % by == 0)
    rest = _collect((m, c) for m, c in value.terms if c % by)
    if isinstance(rest, int):
        return whole + rest // by
    extra = rest.constant // by
    rest = rest - extra * by
    assert isinstance(rest, Poly)
    return whole + extra + FloorDiv(rest, by).as_poly()


def mod(value: Size, by: int) -> Size:
    """Remainder (never negative) by a positive constant, with multiples dropped."""
    if by < 1:
        raise ValueError(f"remainder by {by}")
    if isinstance(value, int):
        return value % by
    rest = _collect((m, c % by) for m, c in value.terms)
    if isinstance(rest, int):
        return rest % by
    return Mod(rest, by).as_poly()


def ceildiv(value: Size, by: int) -> Size:
    """Division by a positive constant, rounded up."""
    return floordiv(value + (by - 1), by)


def substitute_atoms(value: Size, change: Callable[[Atom], Size]) -> Size:
    """Replace each outermost atom by ``change(atom)``.

    ``change`` receives every factor; to look inside ``//`` and ``%`` it calls ``atom.rebuild``.
    """
    if isinstance(value, int):
        return value
    total: Size = 0
    for monomial, c in value.terms:
        term: Size = c
        for atom in monomial:
            term = term * change(atom)
        total = total + term
    return total


def substitute(value: Size, replace: Mapping[Atom, Size]) -> Size:
    """Replace atoms by sizes everywhere, inside ``//``, ``%`` and loaded subscripts too."""
    if isinstance(value, int) or not replace:
        return value

    def change(atom: Atom) -> Size:
        found = replace.get(atom)
        return atom.rebuild(change) if found is None else found

    return substitute_atoms(value, change)


def axes_of(value: Size) -> frozenset[str]:
    """Names of all axes that the value depends on."""
    if isinstance(value, int):
        return frozenset()
    return frozenset(a.name for a in value.all_atoms() if isinstance(a, Axis))


def counters_of(value: Size) -> frozenset[str]:
    """Names of all loops whose counter the value depends on."""
    if isinstance(value, int):
        return frozenset()
    return frozenset(a.name for a in value.all_atoms() if isinstance(a, Counter))


def dims_of(value: Size) -> frozenset[str]:
    """Names of all symbolic dims that the value depends on."""
    if isinstance(value, int):
        return frozenset()
    return frozenset(a.name for a in value.all_atoms() if isinstance(a, Dim))


def linear_in_axes(value: Size) -> tuple[dict[str, Size], Size] | None:
    """Split into ``({axis: coefficient}, rest)``, or None where an axis is not linear.

    Coefficients and rest contain no axes; they may contain dims.
    """
    coefficients: dict[str, Size] = {}
    rest: Size = 0
    for monomial, c in _terms(value):
        names = [a for a in monomial if isinstance(a, Axis)]
        others = tuple(a for a in monomial if not isinstance(a, Axis))
        if len(names) > 1 or any(axes_of(a.as_poly()) for a in others):
            return None
        term = _collect([(others, c)])
        if names:
            name = names[0].name
            coefficients[name] = coefficients.get(name, 0) + term
        else:
            rest = rest + term
    return {name: c for name, c in coefficients.items() if c != 0}, rest


def evaluate(value: Size, bindings: Mapping[str, int]) -> int:
    """Compute a size given values for its dims (axes are looked up under their name too).

    Raises KeyError for a name without a value.
    """
    if isinstance(value, int):
        return value
    total = 0
    for monomial, c in value.terms:
        term = c
        for atom in monomial:
            match atom:
                case Dim(name) | Axis(name):
                    term *= bindings[name]
                case FloorDiv(inner, by):
                    term *= evaluate(inner, bindings) // by
                case Mod(inner, by):
                    term *= evaluate(inner, bindings) % by
                case _:
                    raise KeyError(atom.key)
        total += term
    return total


def apart(a: Size, b: Size, size: Size) -> bool:
    """Whether two parts of ``size`` elements, at ``a`` and ``b``, are shown to be disjoint.

    They are where they are different turns' slots of a buffer: ``t * size`` and ``(t + 1) * size``,
    or with ``t % 2`` in place of ``t``.
    """
    first, second = exact_div(a, size), exact_div(b, size)
    if first is None or second is None:
        return False
    difference = first - second
    if isinstance(difference, int):
        return difference != 0
    match _remainder(first), _remainder(second):
        case Mod(x, n), Mod(y, m) if n == m:
            step = x - y
            return isinstance(step, int) and step % n != 0
    return False


def _remainder(size: Size) -> Atom | None:
    """The remainder that a size is, by itself."""
    match size:
        case Poly((((atom,), 1),)):
            return atom
    return None
