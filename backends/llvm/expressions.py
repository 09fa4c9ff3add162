"""Expressions of loop IR: scalars, or vectors where they depend on the vector axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from nnc.backends.llvm.builder import Builder
from nnc.backends.llvm.convert import cast
from nnc.backends.llvm.memory import Memory, Place
from nnc.backends.llvm.operations import apply, binary, fold
from nnc.backends.llvm.subscripts import Bound, lanes_of, scalar, split, total
from nnc.backends.llvm.values import EmitError, Value, constant, iota
from nnc.ir.expr import Const, Position
from nnc.ir.index import Atom, Size
from nnc.ir.loops import Expr, Fold, Load, Local, Op
from nnc.ir.types import DType

I64, I32 = DType.I64, DType.I32
_MIRRORED = {"lt": "gt", "le": "ge", "gt": "lt", "ge": "le"}


@dataclass(slots=True)
class Register:
    """A cell in registers: the current value of each of its elements."""

    dtype: DType
    lanes: int
    values: dict[tuple[int, ...], Value] = field(default_factory=dict)


@dataclass(slots=True)
class Context:
    """What names mean at one point of a function."""

    b: Builder
    memory: Memory
    names: dict[Atom, Bound]
    locals: dict[str, Value]
    places: dict[str, Place]
    registers: dict[str, Register]
    lanes: int = 1

    def evaluate(self, expr: Expr) -> Value:
        """Write ``expr`` and return its value."""
        # By identity: expanded mathematics shares its parts. With a stack of our own: it is deep.
        done: dict[int, Value] = {}
        stack = [expr]
        while stack:
            top = stack[-1]
            missing = [part for part in _parts(top) if id(part) not in done]
            if missing:
                stack += reversed(missing)
                continue
            stack.pop()
            if id(top) not in done:
                done[id(top)] = self._write(top, done)
        return done[id(expr)]

    def register_index(self, cell: str, index: Sequence[Size]) -> tuple[int, ...]:
        """Return subscripts of a register cell, which must be known by now."""
        at: list[int] = []
        for i in index:
            value = scalar(self.b, self.names, i)
            if not value.is_constant:
                raise EmitError(f"register cell {cell} is subscripted by {i}")
            at.append(int(value.ref))
        return tuple(at)

    def _write(self, expr: Expr, done: dict[int, Value]) -> Value:
        match expr:
            case Const(value, dtype):
                return constant(value, dtype)
            case Position(index, dtype):
                return self._position(index, dtype)
            case Local(name, _):
                bound = self.locals.get(name)
                if bound is None:
                    raise EmitError(f"no value is bound to {name}")
                return bound
            case Load():
                return self._load(expr, done)
            case Op(name, args, dtype):
                if _compares_positions(expr):
                    mask = self._position_test(name, args)
                    if mask is not None:
                        return mask
                    return apply(self.b, name, [self._write(a, done) for a in args], dtype)
                return apply(self.b, name, [done[id(a)] for a in args], dtype)
            case Fold(op, inner, _):
                return fold(self.b, op, self.b.widen(done[id(inner)], self.lanes))

    def _position(self, index: Size, dtype: DType) -> Value:
        parts = split(self.b, self.names, index)
        if parts.is_scalar:
            return cast(self.b, total(self.b, parts.base), dtype)
        kept = dtype if dtype.is_int else I64
        return cast(self.b, lanes_of(self.b, self.names, index, self.lanes, kept), dtype)

    def _load(self, expr: Load, done: dict[int, Value]) -> Value:
        mask = None if expr.mask is None else done[id(expr.mask)]
        other = None if expr.other is None else done[id(expr.other)]
        register = self.registers.get(expr.source)
        if register is not None:
            value = register.values[self.register_index(expr.source, expr.index)]
            if mask is None:
                return value
            if other is None:
                other = constant(0, value.dtype)
            return apply(self.b, "select", [mask, value, other], value.dtype)
        place = self.places.get(expr.source)
        if place is None:
            raise EmitError(f"nothing is called {expr.source} here")
        return self.memory.load(self.names, place, expr.index, self.lanes, mask, other)

    def _position_test(self, name: str, args: Sequence[Expr]) -> Value | None:
        """Compare two positions of which one advances with the lanes, by lane numbers.

        ``base + lane < limit`` is ``lane < limit - base``: one comparison of 32-bit lane numbers,
        where 64-bit positions take two registers or more. None where it is not of this form.
        """
        left, right = (a.index for a in args if isinstance(a, Position))
        apart = split(self.b, self.names, right - left)
        if apart.scattered or apart.step.terms or apart.step.constant not in (1, -1):
            return None
        b = self.b
        if apart.step.constant == 1:  # right advances: left > right is lane < left - right
            apart = split(b, self.names, left - right)
            name = _MIRRORED[name]
        # Now lane `name` limit, with the limit brought into the range of the lane numbers.
        limit = total(b, apart.base)
        low, high = constant(-1, I64), constant(self.lanes, I64)
        limit = apply(b, "min", [apply(b, "max", [limit, low], I64), high], I64)
        wide = b.widen(cast(b, limit, I32), self.lanes)
        test = {"lt": "slt", "le": "sle", "gt": "sgt", "ge": "sge"}[name]
        return binary(b, f"icmp {test}", iota(I32, self.lanes), wide, DType.BOOL)


def _parts(expr: Expr) -> tuple[Expr, ...]:
    """Return what must be computed before ``expr``."""
    match expr:
        case Op(_, args):
            return () if _compares_positions(expr) else args
        case Load(mask=mask, other=other):
            return tuple(part for part in (mask, other) if part is not None)
        case Fold(_, value):
            return (value,)
        case _:
            return ()


def _compares_positions(expr: Op) -> bool:
    """Whether ``expr`` is an order of two positions, which lane numbers may decide."""
    return expr.name in _MIRRORED and all(
        isinstance(a, Position) and a.dtype is I64 for a in expr.args
    )
