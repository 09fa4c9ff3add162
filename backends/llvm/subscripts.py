"""Subscripts: polynomials over dims and axes become 64-bit arithmetic.

A polynomial is split by what its terms depend on: a constant, terms of scalars (grouped by the
scope that knows them, so each group is added up as far out as it can be), and the lanes of the
vector axis, as a multiple of the lane number where they enter linearly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias, Union

from nnc.backends.llvm.builder import Builder
from nnc.backends.llvm.convert import cast
from nnc.backends.llvm.values import EmitError, Value, constant, iota
from nnc.ir.index import Atom, Axis, Dim, FloorDiv, Mod, Poly, Size, divides, floordiv
from nnc.ir.types import DType

I64 = DType.I64


@dataclass(frozen=True, slots=True)
class LaneAxis:
    """The axis of the vector loop around: its value in each lane is ``start`` plus the lane."""

    lanes: int
    start: Value


Bound: TypeAlias = Union[int, Value, LaneAxis]  # noqa: UP007 - evaluated at run time
Names: TypeAlias = Mapping[Atom, Bound]
"""What dims, axes and let-bound whole numbers are: known, in a register, or the lanes."""


@dataclass(slots=True)
class Sum:
    """A constant plus whole multiples of products of scalars."""

    constant: int = 0
    terms: dict[tuple[Value, ...], int] = field(default_factory=dict)

    def add(self, factors: list[Value], coefficient: int) -> None:
        """Add one term."""
        if not factors:
            self.constant += coefficient
            return
        key = tuple(sorted(factors, key=lambda v: (v.depth, v.ref)))
        total = self.terms.get(key, 0) + coefficient
        if total:
            self.terms[key] = total
        else:
            self.terms.pop(key, None)


@dataclass(slots=True)
class Split:
    """``base + lane * step``; ``scattered`` says that the lanes enter in another way."""

    base: Sum = field(default_factory=Sum)
    step: Sum = field(default_factory=Sum)
    scattered: bool = False

    @property
    def is_scalar(self) -> bool:
        """Whether all lanes have the same value."""
        return not (self.scattered or self.step.constant or self.step.terms)


def split(b: Builder, names: Names, size: Size) -> Split:
    """Sort the terms of ``size`` by how they depend on the lanes."""
    result = Split()
    for monomial, multiple in size.terms if isinstance(size, Poly) else (((), size),):
        factors: list[Value] = []
        coefficient, lanes = multiple, []
        for atom in monomial:
            match _atom(b, names, atom):
                case int(number):
                    coefficient *= number
                case LaneAxis() as axis:
                    lanes.append(axis)
                case Value(lanes=1) as scalar:
                    factors.append(scalar)
                case _:
                    result.scattered = True
        if len(lanes) > 1:
            result.scattered = True
        elif coefficient and not result.scattered:
            (result.step if lanes else result.base).add(factors, coefficient)
            for axis in lanes:
                _add_start(result.base, axis.start, factors, coefficient)
    return result


def _add_start(base: Sum, start: Value, factors: list[Value], coefficient: int) -> None:
    if start.is_constant:
        if int(start.ref):
            base.add(factors, coefficient * int(start.ref))
    else:
        base.add([*factors, start], coefficient)


def scalar(b: Builder, names: Names, size: Size) -> Value:
    """Return the value of ``size``, the same in all lanes.

    Raises EmitError where it is not.
    """
    parts = split(b, names, size)
    if not parts.is_scalar:
        raise EmitError(f"{size} differs between the lanes of a vector")
    return total(b, parts.base)


def lanes_of(b: Builder, names: Names, size: Size, lanes: int, dtype: DType = I64) -> Value:
    """Return ``size`` for each lane, in a type of whole numbers (which may wrap)."""
    parts = split(b, names, size)
    if parts.scattered:
        return _narrow(b, _elementwise(b, names, size, lanes), dtype)
    base = b.widen(_narrow(b, total(b, parts.base), dtype), lanes)
    if parts.is_scalar:
        return base
    if not parts.step.terms:
        ramp = iota(dtype, lanes, parts.step.constant)
    else:
        step = b.widen(_narrow(b, total(b, parts.step), dtype), lanes)
        ramp = _binary(b, "mul", step, iota(dtype, lanes))
    if not parts.base.terms and not parts.base.constant:
        return ramp
    return _binary(b, "add", base, ramp)


def total(b: Builder, terms: Sum) -> Value:
    """Add up, what is known outermost first."""
    result: Value | None = None
    for value in _products(b, terms):
        result = value if result is None else _binary(b, "add", result, value)
    if result is None:
        return constant(terms.constant, I64)
    if terms.constant:
        return _binary(b, "add", result, constant(terms.constant, I64))
    return result


def pointer(b: Builder, base: Value, terms: Sum, element: str) -> Value:
    """Return the address of element ``terms`` after ``base``, the constant part added last."""
    groups: dict[int, Value] = {}
    for value in _products(b, terms):
        known = groups.get(value.depth)
        groups[value.depth] = value if known is None else _binary(b, "add", known, value)
    address = base
    for value in groups.values():
        address = _offset(b, address, value, element)
    if terms.constant:
        address = _offset(b, address, constant(terms.constant, I64), element)
    return address


def flatten(index: tuple[Size, ...], extents: tuple[Size, ...]) -> Size:
    """Return the row-major place of ``index`` in a tensor of ``extents``."""
    if len(index) != len(extents):
        raise EmitError(f"{len(index)} subscripts for {len(extents)} dims")
    place: Size = 0
    for i, extent in zip(index, extents, strict=True):
        place = place * extent + i
    return _rejoin(place)


def _products(b: Builder, terms: Sum) -> list[Value]:
    made: list[Value] = []
    for factors, coefficient in terms.terms.items():
        value = factors[0]
        for factor in factors[1:]:
            value = _binary(b, "mul", value, factor)
        if coefficient != 1:
            value = _binary(b, "mul", value, constant(coefficient, I64))
        made.append(value)
    return sorted(made, key=lambda v: v.depth)


def _binary(b: Builder, name: str, x: Value, y: Value) -> Value:
    return b.make(x.dtype, x.lanes, f"{name} {x.typed}, {y.ref}", (x, y), cheap=True)


def _offset(b: Builder, address: Value, by: Value, element: str) -> Value:
    text = f"getelementptr {element}, ptr {address.ref}, i64 {by.ref}"
    return b.make(I64, 1, text, (address, by), cheap=True)


def _narrow(b: Builder, value: Value, dtype: DType) -> Value:
    if dtype.bytes == 8 or value.is_constant:
        text = value.ref
        if value.is_constant and value.lanes == 1:
            return constant(int(text), dtype)
        return Value(text, dtype, value.lanes, value.depth)
    narrow = Value("", dtype, value.lanes).type
    return b.make(dtype, value.lanes, f"trunc {value.typed} to {narrow}", [value], cheap=True)


# atoms ------------------------------------------------------------------------------------------


def _atom(b: Builder, names: Names, atom: Atom) -> Bound:
    match atom:
        case Axis() | Dim():
            if atom not in names:
                raise EmitError(f"no axis or dim {atom.name} here")
            found = names[atom]
            if isinstance(found, Value) and found.dtype is not I64:
                return cast(b, found, I64)
            return found
        case FloorDiv(inner, by) | Mod(inner, by):
            quotient = isinstance(atom, FloorDiv)
            parts = split(b, names, inner)
            if not parts.is_scalar:
                lanes = _lane_count(names)
                wide = lanes_of(b, names, inner, lanes)
                return _divide(b, wide, by, quotient, nonnegative(names, inner))
            if not parts.base.terms:
                number = parts.base.constant
                return number // by if quotient else number % by
            return _divide(b, total(b, parts.base), by, quotient, nonnegative(names, inner))
        case _:
            raise EmitError(f"{atom.key} in a subscript of loop IR")


def _lane_count(names: Names) -> int:
    """Return how many lanes the vector loop around has."""
    return max((1 if isinstance(v, int) else v.lanes) for v in names.values())


def nonnegative(names: Names, size: Size) -> bool:
    """Whether ``size`` surely is at least 0: no negative term, no factor of unknown sign."""
    if isinstance(size, int):
        return size >= 0

    def known(atom: Atom) -> bool:
        match atom:
            case Dim():
                return True
            case Axis():
                value = names.get(atom)
                if isinstance(value, LaneAxis):
                    value = value.start
                if isinstance(value, int):
                    return value >= 0
                return value is not None and value.positive
            case FloorDiv(inner, _):
                return nonnegative(names, inner)
            case _:
                return isinstance(atom, Mod)

    return all(c >= 0 and all(known(a) for a in m) for m, c in size.terms)


def _divide(b: Builder, value: Value, by: int, quotient: bool, unsigned: bool) -> Value:
    """Floor division by a constant of at least 2, or its remainder."""
    divisor = constant(by, I64, value.lanes)
    if by & (by - 1) == 0:
        if quotient:
            return _binary(b, "ashr", value, constant(by.bit_length() - 1, I64, value.lanes))
        return _binary(b, "and", value, constant(by - 1, I64, value.lanes))
    if unsigned:
        return _binary(b, "udiv" if quotient else "urem", value, divisor)
    q = _binary(b, "sdiv", value, divisor)
    r = _binary(b, "sub", value, _binary(b, "mul", q, divisor))
    below = _binary(b, "ashr", r, constant(63, I64, value.lanes))
    if quotient:
        return _binary(b, "add", q, below)
    return _binary(b, "add", r, _binary(b, "and", below, divisor))


def _elementwise(b: Builder, names: Names, size: Size, lanes: int) -> Value:
    """Compute a polynomial lane by lane, as vectors."""
    result: Value | None = None
    for monomial, coefficient in size.terms if isinstance(size, Poly) else (((), size),):
        term: Value | None = None
        for atom in monomial:
            match _atom(b, names, atom):
                case int(number):
                    factor = constant(number, I64, lanes)
                case LaneAxis(_, start):
                    factor = _binary(b, "add", b.widen(start, lanes), iota(I64, lanes))
                case found:
                    factor = b.widen(found, lanes)
            term = factor if term is None else _binary(b, "mul", term, factor)
        scale = constant(coefficient, I64, lanes)
        if term is None:
            term = scale
        elif coefficient != 1:
            term = _binary(b, "mul", term, scale)
        result = term if result is None else _binary(b, "add", result, term)
    return result or constant(0, I64, lanes)


# w * (e // w) + e % w is e ----------------------------------------------------------------------


def _rejoin(size: Size) -> Size:
    """Undo a split into quotient and remainder that a row-major place joins again."""
    joined = _rejoin_once(size)
    while joined is not None:
        size = joined
        joined = _rejoin_once(size)
    return size


def _rejoin_once(size: Size) -> Size | None:
    if isinstance(size, int):
        return None
    terms = dict(size.terms)
    for monomial, c in size.terms:
        for i, atom in enumerate(monomial):
            if not isinstance(atom, Mod):
                continue
            rest = monomial[:i] + monomial[i + 1 :]
            found = _partner(terms, rest, c, atom)
            if found is not None:
                quotient, joined = found
                others = Poly(((rest, c),)) if rest else c
                whole = others * quotient * atom.by
                return size - whole - others * atom.as_poly() + others * joined
    return None


def _partner(
    terms: dict[tuple[Atom, ...], int], rest: tuple[Atom, ...], c: int, atom: Mod
) -> tuple[Size, Size] | None:
    """Find the ``e // w`` of ``e % w`` among the terms with the same other factors; and e.

    A remainder is kept of e less multiples of w, which the quotient may still hold.
    """
    for monomial, d in terms.items():
        if d != c * atom.by:
            continue
        for j, found in enumerate(monomial):
            if not isinstance(found, FloorDiv) or monomial[:j] + monomial[j + 1 :] != rest:
                continue
            if found.by == atom.by and divides(found.value - atom.value, atom.by):
                return found.as_poly(), found.value
            if floordiv(atom.value, atom.by) == found.as_poly() or _nested(atom, found):
                return found.as_poly(), atom.value
    return None


def _nested(atom: Mod, found: FloorDiv) -> bool:
    """Whether ``found`` is ``(e // v) // w`` written as ``e // (v*w)``, for ``(e // v) % w``."""
    terms = atom.value.terms
    if len(terms) != 1 or terms[0][1] != 1 or len(terms[0][0]) != 1:
        return False
    inner = terms[0][0][0]
    return (
        isinstance(inner, FloorDiv)
        and inner.by * atom.by == found.by
        and inner.value == found.value
    )
