"""Scalar expressions: what a form computes at each point of its box.

Expressions are immutable, compare by structure, and cache their hash, so that the shared parts of
a large body cost nothing to compare.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TypeAlias, Union

from nnc.ir.index import Atom, Poly, Size, substitute_atoms
from nnc.ir.types import DType

Number: TypeAlias = Union[int, float, bool]  # noqa: UP007 - evaluated at run time


@dataclass(frozen=True, slots=True, eq=False)
class Const:
    """A literal of type ``dtype``, kept as a Python number of its kind (float, int or bool).

    Literals are equal when their bits are: -0.0 differs from 0.0, and NaN equals itself.
    """

    value: Number
    dtype: DType

    def __post_init__(self) -> None:
        kind = float if self.dtype.is_float else int if self.dtype.is_int else bool
        object.__setattr__(self, "value", kind(self.value))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Const) or self.dtype is not other.dtype:
            return False
        return self.value is other.value or repr(self.value) == repr(other.value)

    def __hash__(self) -> int:
        # Python hashes a NaN by where it lies.
        known = self.value == self.value  # false for NaN alone
        return hash((self.value if known else None, self.dtype))


@dataclass(frozen=True, slots=True)
class Position:
    """The whole number that a subscript comes to (an axis, a dim, arithmetic on them)."""

    index: Size
    dtype: DType = DType.I64


@dataclass(frozen=True, slots=True)
class Read:
    """Element ``index`` of operand number ``operand``.

    With ``outside`` None the index is proven to lie inside, or holds loaded integers that are
    checked as the program runs. Otherwise a read outside the tensor gives the value ``outside``.
    """

    operand: int
    index: tuple[Size, ...]
    dtype: DType
    outside: Number | None = None


@dataclass(frozen=True, eq=False)
class Apply:
    """A scalar operation of ``ir.scalar`` applied to ``args``; ``dtype`` is the result's type."""

    op: str
    args: tuple[Expr, ...]
    dtype: DType
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hash", hash((self.op, self.args, self.dtype)))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        # Without recursion, and comparing shared parts once: bodies are deep, and dense with them.
        if not isinstance(other, Apply):
            return NotImplemented
        pairs: list[tuple[Expr, Expr]] = [(self, other)]
        compared: set[tuple[int, int]] = set()
        while pairs:
            a, b = pairs.pop()
            if a is b or (id(a), id(b)) in compared:
                continue
            if not (isinstance(a, Apply) and isinstance(b, Apply)):
                if a != b:
                    return False
                continue
            if (a._hash, a.op, a.dtype, len(a.args)) != (b._hash, b.op, b.dtype, len(b.args)):
                return False
            compared.add((id(a), id(b)))
            pairs.extend(zip(a.args, b.args, strict=True))
        return True


Expr: TypeAlias = Union[Const, Position, Read, Apply]  # noqa: UP007 - Apply refers to Expr


@dataclass(frozen=True, slots=True)
class Loaded(Atom):
    """An integer read from a tensor, used in a subscript: ``table[ids[b, t], d]``."""

    read: Read

    @property
    def key(self) -> str:
        """See ``Atom``."""
        inside = ", ".join(repr(i) for i in self.read.index)
        return f"@{self.read.operand}[{inside}]"

    def rebuild(self, change: Callable[[Atom], Size]) -> Size:
        """See ``Atom``."""
        index = tuple(substitute_atoms(i, change) for i in self.read.index)
        return Loaded(replace(self.read, index=index)).as_poly()

    def inner(self) -> Iterator[Atom]:
        """See ``Atom``."""
        for i in self.read.index:
            if isinstance(i, Poly):
                yield from i.all_atoms()


def map_sizes(expr: Expr, change: Callable[[Size], Size]) -> Expr:
    """Return ``expr`` with every subscript (of reads and positions) changed."""
    memo: dict[Expr, Expr] = {}

    def go(e: Expr) -> Expr:
        done = memo.get(e)
        if done is None:
            match e:
                case Const():
                    done = e
                case Position(index, dtype):
                    done = Position(change(index), dtype)
                case Read():
                    done = replace(e, index=tuple(change(i) for i in e.index))
                case Apply(op, args, dtype):
                    done = Apply(op, tuple(go(a) for a in args), dtype)
            memo[e] = done
        return done

    return go(expr)


def map_reads(expr: Expr, change: Callable[[Read], Expr]) -> Expr:
    """Return ``expr`` with each value read replaced by ``change(read)``.

    Reads inside subscripts (``Loaded``) are not values: use ``map_operands`` to renumber them.
    """
    memo: dict[Expr, Expr] = {}

    def go(e: Expr) -> Expr:
        done = memo.get(e)
        if done is None:
            match e:
                case Read():
                    done = change(e)
                case Apply(op, args, dtype):
                    done = Apply(op, tuple(go(a) for a in args), dtype)
                case _:
                    done = e
            memo[e] = done
        return done

    return go(expr)


def map_operands(expr: Expr, number: Callable[[int], int]) -> Expr:
    """Renumber operands everywhere, in subscripts too."""

    def change(atom: Atom) -> Size:
        if isinstance(atom, Loaded):
            index = tuple(substitute_atoms(i, change) for i in atom.read.index)
            read = replace(atom.read, operand=number(atom.read.operand), index=index)
            return Loaded(read).as_poly()
        return atom.rebuild(change)

    def size(s: Size) -> Size:
        return substitute_atoms(s, change)

    moved = map_sizes(expr, size)
    return map_reads(moved, lambda r: replace(r, operand=number(r.operand)))


def walk(expr: Expr) -> Iterator[Expr]:
    """Yield every distinct subexpression once, operands before their user."""
    seen: set[Expr] = set()
    stack: list[tuple[Expr, bool]] = [(expr, False)]
    while stack:
        e, ready = stack.pop()
        if e in seen:
            continue
        if ready or not isinstance(e, Apply):
            seen.add(e)
            yield e
        else:
            stack.append((e, True))
            stack.extend((a, False) for a in reversed(e.args))


def reads(expr: Expr) -> Iterator[Read]:
    """Yield every distinct value read of ``expr``."""
    return (e for e in walk(expr) if isinstance(e, Read))


def loads_in(size: Size) -> Iterator[Loaded]:
    """Yield the loaded integers in a subscript, those inside others too."""
    if isinstance(size, Poly):
        yield from (a for a in size.all_atoms() if isinstance(a, Loaded))


def sizes_in(expr: Expr) -> Iterator[Size]:
    """Yield every subscript in ``expr``, of reads and of positions."""
    for e in walk(expr):
        match e:
            case Position(index):
                yield index
            case Read():
                yield from e.index
            case _:
                pass
