"""Computes index forms with NumPy, exactly as ``graph.Form`` documents them.

The box is walked in chunks, so that memory stays bounded; within a chunk each axis is an array
that broadcasts against the others, so an expression costs no more than the axes it depends on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any, TypeAlias

import numpy as np

from nnc.ir import index as sizes
from nnc.ir.expr import Apply, Const, Expr, Loaded, Position, Read, walk
from nnc.ir.graph import Form
from nnc.ir.index import Axis, Dim, FloorDiv, Mod, Size, axes_of
from nnc.ir.interpret_reduce import accumulator
from nnc.ir.scalar import OPS, numbers
from nnc.ir.types import DType, TensorType

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

CHUNK = 1 << 18


class IndexFault(IndexError):
    """A subscript outside its tensor: ``value`` at ``place`` (a subscript's number and a point)."""

    def __init__(self, tensor: str, place: str, value: int, limit: int) -> None:
        super().__init__(f"{tensor}: {place} is {value}, outside 0..{limit}")
        self.tensor = tensor
        self.place = place
        self.value = value
        self.limit = limit


@dataclass(frozen=True, slots=True)
class Operand:
    """A tensor that a form reads: values as they are computed with, type, name for messages."""

    values: Array
    dtype: DType
    name: str


@dataclass(frozen=True, slots=True)
class Points:
    """Part of a box: values of each axis, as arrays that broadcast to ``shape``."""

    axes: Mapping[str, Array]
    shape: tuple[int, ...]

    def where(self, mask: Array) -> Points:
        """Return the points for which ``mask`` holds, in order, along one dim."""
        flat = np.nonzero(np.broadcast_to(mask, self.shape).ravel())[0]
        axes = {n: np.broadcast_to(v, self.shape).ravel()[flat] for n, v in self.axes.items()}
        return Points(axes, flat.shape)

    def describe(self, bad: Array) -> tuple[int, str]:
        """Return the first point where ``bad`` holds: its flat number, its axes as text."""
        at = int(np.argmax(np.broadcast_to(bad, self.shape)))
        values = (
            f"{n} = {int(np.broadcast_to(v, self.shape).ravel()[at])}" for n, v in self.axes.items()
        )
        return at, ", ".join(values)


@dataclass(frozen=True, slots=True)
class Scope:
    """What an expression is computed in."""

    operands: Sequence[Operand]
    dims: Mapping[str, int]
    points: Points

    def size(self, value: Size) -> Array:
        """Compute a subscript as i64 at every point."""
        if isinstance(value, int):
            return np.array(value, np.int64)
        total = np.array(0, np.int64)
        for monomial, coefficient in value.terms:
            term = np.array(coefficient, np.int64)
            for atom in monomial:
                term = np.asarray(term * self._atom(atom))
            total = np.asarray(total + term)
        return total

    def _atom(self, atom: sizes.Atom) -> Array:
        match atom:
            case Axis(name):
                return self.points.axes[name]
            case Dim(name):
                return np.array(self.dims[name], np.int64)
            case FloorDiv(value, by):
                return np.asarray(np.floor_divide(self.size(value), by))
            case Mod(value, by):
                return np.asarray(np.remainder(self.size(value), by))
            case Loaded(read):
                return self.read(read).astype(np.int64)
        raise TypeError(f"a subscript holds {atom!r}")

    def read(self, read: Read) -> Array:
        """Compute a read at every point. Raises IndexFault for one outside, unless guarded."""
        operand = self.operands[read.operand]
        index = [self.size(i) for i in read.index]
        outside = self._outside(index, operand.values.shape)
        if read.outside is None:
            self.check(index, operand.values.shape, operand.name)
            return np.asarray(operand.values[tuple(index)])
        other = numbers.literal(read.outside, operand.dtype)
        if operand.values.size == 0:
            return np.broadcast_to(other, outside.shape)
        inside = tuple(np.where(outside, 0, i) for i in index)
        return np.asarray(np.where(outside, other, operand.values[inside]))

    def _outside(self, index: Sequence[Array], shape: tuple[int, ...]) -> Array:
        outside = np.array(False)
        for i, extent in zip(index, shape, strict=True):
            outside = np.asarray(outside | (i < 0) | (i >= extent))
        return outside

    def check(self, index: Sequence[Array], shape: tuple[int, ...], tensor: str) -> None:
        """Raise IndexFault where a subscript is outside its dim."""
        for k, (i, extent) in enumerate(zip(index, shape, strict=True)):
            bad = (i < 0) | (i >= extent)
            if np.any(bad):
                at, point = self.points.describe(bad)
                value = int(np.broadcast_to(i, self.points.shape).ravel()[at])
                place = f"subscript {k}" + (f" at {point}" if point else "")
                raise IndexFault(tensor, place, value, extent)

    def stores(self, out: Sequence[Array], shape: tuple[int, ...]) -> tuple[Array, Array]:
        """Return row-major places of the result, and which of them are inside."""
        place = np.array(0, np.int64)
        for i, extent in zip(out, shape, strict=True):
            place = np.asarray(place * extent + i)
        inside = ~self._outside(out, shape)
        full = self.points.shape
        return np.broadcast_to(place, full).ravel(), np.broadcast_to(inside, full).ravel()

    def value(self, expr: Expr) -> Array:
        """Compute an expression at every point, as an array that broadcasts to the points."""
        order = list(walk(expr))
        uses = Counter(a for e in order if isinstance(e, Apply) for a in e.args)
        done: dict[Expr, Array] = {}
        for e in order:
            done[e] = self._step(e, done)
            if isinstance(e, Apply):
                uses.subtract(e.args)
                for a in e.args:
                    if uses[a] == 0:
                        done.pop(a, None)
        return done[expr]

    def _step(self, e: Expr, done: Mapping[Expr, Array]) -> Array:
        match e:
            case Const(value, dtype):
                return numbers.literal(value, dtype)
            case Position(index, dtype):
                return numbers.convert(self.size(index), DType.I64, dtype)
            case Read():
                return self.read(e)
            case Apply(op, args, dtype):
                types = (*(a.dtype for a in args), dtype)
                return numbers.rounded(OPS[op].evaluate([done[a] for a in args], types), dtype)


def evaluate_form(
    form: Form, type: TensorType, operands: Sequence[Operand], dims: Mapping[str, int], name: str
) -> Array:
    """Compute a form: the values of its result, in the representation of ``scalar.numbers``.

    ``name`` names the result in messages. Raises IndexFault for a read or store outside, and
    ValueError where a form without reduction stores an element twice.
    """
    shape = tuple(sizes.evaluate(s, dims) for s in type.shape)
    extents = [sizes.evaluate(extent, dims) for _, extent in form.axes]
    names = [n for n, _ in form.axes]
    result = accumulator(form.reduce, form.body.dtype, type.dtype, prod(shape))
    counted = _counted_axes(form)
    for part in _chunks(names, extents):
        points = part
        if form.where is not None:
            points = part.where(Scope(operands, dims, part).value(form.where))
        scope = Scope(operands, dims, points)
        if prod(points.shape) == 0:
            continue
        out = [scope.size(i) for i in form.out]
        if not form.drops:
            scope.check(out, shape, f"the result {name}")
        place, inside = scope.stores(out, shape)
        values = np.broadcast_to(scope.value(form.body), points.shape).ravel()
        rank = _rank(points, counted, dict(zip(names, extents, strict=True)))
        result.add(place[inside], values[inside], rank[inside])
    return result.finish().reshape(shape)


def _counted_axes(form: Form) -> list[str]:
    """Return the axes that ``argmax`` counts along: those the result does not mention."""
    if form.reduce not in ("argmax", "argmin"):
        return []
    mentioned = frozenset[str]().union(*(axes_of(i) for i in form.out))
    return [name for name, _ in form.axes if name not in mentioned]


def _rank(points: Points, counted: Sequence[str], extents: Mapping[str, int]) -> Array:
    """Return each point's row-major place among the ``counted`` axes."""
    rank = np.array(0, np.int64)
    for name in counted:
        rank = np.asarray(rank * extents[name] + points.axes[name])
    return np.broadcast_to(rank, points.shape).ravel()


def _chunks(names: Sequence[str], extents: Sequence[int]) -> Iterator[Points]:
    """Cut a box into parts of at most CHUNK points (a box without axes is one point)."""
    if not names:
        yield Points({}, (1,))
        return
    steps, room = [], CHUNK
    for extent in reversed(extents):
        steps.append(max(1, min(extent, room)))
        room //= steps[-1]
    steps.reverse()
    for starts in product(*(range(0, n, s) for n, s in zip(extents, steps, strict=True))):
        axes, shape = {}, []
        for k, (name, start) in enumerate(zip(names, starts, strict=True)):
            stop = min(start + steps[k], extents[k])
            spread = [1] * len(names)
            spread[k] = stop - start
            axes[name] = np.arange(start, stop, dtype=np.int64).reshape(spread)
            shape.append(stop - start)
        yield Points(axes, tuple(shape))
