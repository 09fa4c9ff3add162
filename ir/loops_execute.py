"""Executes the statements of a kernel for all its tasks at once.

A value is an array of shape [tasks or 1, lanes or 1]; a subscript is a whole number, or an array
of that shape. Where tasks go different ways, ``Scope.active`` says which of them are meant.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np

from nnc.ir import loops, scalar
from nnc.ir.expr import Const, Position
from nnc.ir.index import Atom, Axis, Dim, FloorDiv, Mod, Size
from nnc.ir.loops_memory import (
    CellStore,
    Ints,
    LoopError,
    Mask,
    Number,
    Value,
    View,
    gather,
    read_cell,
    row_major,
    scatter,
    write_cell,
)
from nnc.ir.scalar import numbers
from nnc.ir.types import DType

Names: TypeAlias = dict[Atom, Number]
Tensor: TypeAlias = View | CellStore


@dataclass(frozen=True, slots=True)
class Fault:
    """A ``Check`` that failed: the number of its site and the offending value."""

    site: int
    value: int


@dataclass(slots=True)
class Scope:
    """What the body of a block sees. A nested block gets a copy.

    ``task`` numbers the tasks ([tasks, 1]); ``vector`` and ``width`` are the enclosing vector
    loop; ``depth`` counts the enclosing lane loops.
    """

    names: Names
    locals: dict[str, Value]
    tensors: dict[str, Tensor]
    tasks: int
    task: Ints
    active: Mask | None = None
    vector: str | None = None
    width: int = 1
    depth: int = 0

    def inner(self) -> Scope:
        """A scope for a nested block: what it binds is not seen outside."""
        return replace(
            self, names=dict(self.names), locals=dict(self.locals), tensors=dict(self.tensors)
        )

    def also(self, mask: Mask | None) -> Mask | None:
        """Where tasks are active and ``mask`` holds; None is everywhere."""
        if mask is None or self.active is None:
            return self.active if mask is None else mask
        return self.active & mask


@dataclass(slots=True)
class Body:
    """Executes statements; counts operations, and notes what faults it meets."""

    functions: Mapping[str, loops.Function]
    counts: Counter[tuple[str, DType]]
    faults: list[Fault]
    races: bool
    fused: bool
    epoch: int = 0
    memo: dict[loops.Op, Value] = field(default_factory=dict)

    # -------------------------------------------------------------------------- statements

    def block(self, body: Sequence[loops.Stmt], scope: Scope) -> None:
        """Execute ``body`` in ``scope``, which it may add to; raises LoopError."""
        for stmt in body:
            self.memo.clear()  # what a statement repeats is computed once
            match stmt:
                case loops.For(kind="vector"):
                    self._vector(stmt, scope)
                case loops.For(kind="lane"):
                    self._lanes(stmt, scope)
                case loops.For():
                    self._loop(stmt, scope)
                case loops.If():
                    self._if(stmt, scope)
                case loops.Let():
                    self._let(stmt, scope)
                case loops.Cell():
                    self._cell(stmt, scope)
                case loops.Store():
                    self._store(stmt, scope)
                case loops.Check():
                    self._check(stmt, scope)
                case loops.Call():
                    self._call(stmt, scope)
                case loops.Sync():
                    pass  # all lanes are at the same statement already

    def _loop(self, stmt: loops.For, scope: Scope) -> None:
        start, extent = evaluate(stmt.start, scope.names), evaluate(stmt.extent, scope.names)
        if isinstance(extent, int):
            turns = extent
        else:
            live = True if scope.active is None else scope.active
            turns = int(np.max(np.where(live, extent, 0), initial=0))
        for turn in range(turns):
            inner = scope.inner()
            inner.names[Axis(stmt.axis)] = start + turn
            if not isinstance(extent, int):
                inner.active = scope.also(np.asarray(turn < extent))
            self.block(stmt.body, inner)

    def _vector(self, stmt: loops.For, scope: Scope) -> None:
        if scope.vector is not None or not isinstance(stmt.extent, int):
            raise LoopError(f"vector loop {stmt.axis} is inside another, or its extent varies")
        inner = scope.inner()
        start = evaluate(stmt.start, scope.names)
        inner.names[Axis(stmt.axis)] = start + np.arange(stmt.extent, dtype=np.int64)[None, :]
        inner.vector, inner.width = stmt.axis, stmt.extent
        self.block(stmt.body, inner)

    def _lanes(self, stmt: loops.For, scope: Scope) -> None:
        """Make a task of each lane; the lanes of a group share its ``shared`` cells."""
        count, tasks = evaluate(stmt.extent, scope.names), scope.tasks
        if not isinstance(count, int):
            raise LoopError(f"the extent of lane loop {stmt.axis} differs between tasks")

        def spread(a: Any) -> Any:
            return np.repeat(a, count, 0) if np.ndim(a) and len(a) == tasks > 1 else a

        inner = replace(
            scope,
            names={k: spread(v) for k, v in scope.names.items()},
            locals={k: spread(v) for k, v in scope.locals.items()},
            tensors={
                k: replace(t, row=np.repeat(t.row, count)) if isinstance(t, CellStore) else t
                for k, t in scope.tensors.items()
            },
            tasks=tasks * count,
            task=np.repeat(scope.task, count, 0),
            active=spread(scope.active),
            depth=scope.depth + 1,
        )
        lane = np.tile(np.arange(count, dtype=np.int64), tasks)[:, None]
        inner.names[Axis(stmt.axis)] = spread(evaluate(stmt.start, scope.names)) + lane
        self.block(stmt.body, inner)

    def _if(self, stmt: loops.If, scope: Scope) -> None:
        taken = self.value(stmt.condition, scope)
        if taken.shape[1] != 1:
            raise LoopError(f"a branch depends on the vector axis {scope.vector}")
        for body, chosen in ((stmt.then, taken), (stmt.otherwise, ~taken)):
            active = scope.also(chosen)
            if body and active is not None and active.any():
                inner = scope.inner()
                inner.active = None if active.all() else active
                self.block(body, inner)

    def _let(self, stmt: loops.Let, scope: Scope) -> None:
        value = self.value(stmt.value, scope)
        scope.locals[stmt.name] = value
        if stmt.value.dtype is DType.I64:
            scope.names[Axis(stmt.name)] = int(value[0, 0]) if value.size == 1 else value

    def _cell(self, stmt: loops.Cell, scope: Scope) -> None:
        if stmt.lanes and scope.vector is None:
            raise LoopError(f"cell {stmt.name} has lanes outside a vector loop")
        lanes = scope.width if stmt.lanes else 1
        shape = (scope.tasks, math.prod(stmt.extents), lanes)
        data, defined = np.empty(shape, numbers.computing(stmt.dtype)), None
        if stmt.init is None:
            defined = np.zeros(shape, np.bool_)
        else:
            value = self.value(stmt.init, scope)
            if value.shape[1] > lanes:
                raise LoopError(f"cell {stmt.name} without lanes starts as a vector")
            data[:] = value[:, None, :]
        scope.tensors[stmt.name] = CellStore(
            stmt.name, stmt.dtype, tuple(stmt.extents), data, defined, np.arange(scope.tasks),
            scope.vector if stmt.lanes else None, stmt.space == "shared", scope.depth,
        )  # fmt: skip

    def _store(self, stmt: loops.Store, scope: Scope) -> None:
        tensor, value = scope.tensors[stmt.target], self.value(stmt.value, scope)
        where = self._where(stmt.mask, scope)
        if "w" not in tensor.access:
            raise LoopError(f"{stmt.target} is only read here, but stored to")
        flat = self._place(tensor, stmt.index, where, scope)
        if isinstance(tensor, View):
            stored = numbers.encode(value, tensor.dtype)
            scatter(tensor.memory, flat, stored, where, task=scope.task, epoch=self.epoch)
            return
        if tensor.depth < scope.depth and not tensor.shared:
            raise LoopError(f"cell {stmt.target} belongs to the group, but a lane stores to it")
        write_cell(tensor, flat, value, where, scope.tasks)

    def _check(self, stmt: loops.Check, scope: Scope) -> None:
        bad = scope.also(~self.value(stmt.ok, scope))
        if bad is not None and bad.any():
            value = self.value(stmt.value, scope)
            shape = np.broadcast_shapes(bad.shape, value.shape)
            found = np.broadcast_to(value, shape)[np.broadcast_to(bad, shape)]
            self.faults.extend(Fault(stmt.site, int(v)) for v in found)

    def _call(self, stmt: loops.Call, scope: Scope) -> None:
        function = self.functions[stmt.function]
        names: Names = {}
        for name, size in zip(function.sizes, stmt.sizes, strict=True):
            names[Axis(name)] = names[Dim(name)] = evaluate(size, scope.names)
        tensors: dict[str, Tensor] = {}
        for param, (source, start) in zip(function.params, stmt.views, strict=True):
            tensor = scope.tensors[source]
            begin: Number = 0
            for i, extent in zip(start, tensor.extents, strict=True):
                begin = begin * extent + evaluate(i, scope.names)
            if param.dtype is not tensor.dtype or not set(param.access) <= set(tensor.access):
                raise LoopError(f"{source} does not fit parameter {param.name} of {function.name}")
            extents = tuple(evaluate(e, names) for e in param.extents)
            part = tensor.part(param.name, tensor.offset + begin, extents, param.access)
            tensors[param.name] = part
        inner = replace(scope, names=names, locals={}, tensors=tensors, vector=None, width=1)
        self.block(function.body, inner)

    # ------------------------------------------------------------------------- expressions

    def value(self, expr: loops.Expr, scope: Scope) -> Value:
        """Compute ``expr``: [tasks or 1, lanes or 1] in ``numbers.computing(expr.dtype)``."""
        match expr:
            case Const(number, dtype):
                return numbers.literal(number, dtype).reshape(1, 1)
            case Position(index, dtype):
                at = np.atleast_2d(np.asarray(evaluate(index, scope.names), dtype=np.int64))
                return numbers.convert(at, DType.I64, dtype)
            case loops.Local(name):
                if name not in scope.locals:
                    raise LoopError(f"{name} is not bound here")
                return scope.locals[name]
            case loops.Load():
                return self._load(expr, scope)
            case loops.Op():
                if expr not in self.memo:
                    self.memo[expr] = self._apply(expr, scope)
                return self.memo[expr]
            case loops.Fold(op, operand, dtype):
                return self._fold(op, self.value(operand, scope), dtype, scope)

    def _load(self, expr: loops.Load, scope: Scope) -> Value:
        tensor, where = scope.tensors[expr.source], self._where(expr.mask, scope)
        if "r" not in tensor.access:
            raise LoopError(f"{expr.source} is only written here, but loaded from")
        flat = self._place(tensor, expr.index, where, scope)
        if isinstance(tensor, CellStore):
            value = read_cell(tensor, flat, where, scope.tasks)
        else:
            task = scope.task if self.races else None
            stored = gather(tensor.memory, flat, where, task, self.epoch)
            value = numbers.decode(stored, tensor.dtype)
        if expr.mask is None:
            return value
        mask = self.value(expr.mask, scope)
        other = np.zeros((1, 1), value.dtype)
        if expr.other is not None:
            other = self.value(expr.other, scope)
        return np.where(mask, value, other)

    def _apply(self, expr: loops.Op, scope: Scope) -> Value:
        args = [self.value(a, scope) for a in expr.args]
        if expr.name == "mad" and expr.dtype.is_float:
            result = multiply_add(args[0], args[1], args[2], expr.dtype, fused=self.fused)
        else:
            types = (*(a.dtype for a in expr.args), expr.dtype)
            result = numbers.rounded(scalar.OPS[expr.name].evaluate(args, types), expr.dtype)
        self._count(expr.name, expr.args[0].dtype, result.shape[1], scope)
        return result

    def _fold(self, op: str, lanes: Value, dtype: DType, scope: Scope) -> Value:
        if scope.vector is None:
            raise LoopError("a fold outside a vector loop")
        lanes = np.broadcast_to(lanes, (lanes.shape[0], scope.width))
        while lanes.shape[1] > 1:
            half = lanes.shape[1] // 2
            joined = scalar.OPS[op].evaluate([lanes[:, :half], lanes[:, half:]], (dtype,) * 3)
            lanes = numbers.rounded(joined, dtype)
            self._count(op, dtype, half, scope)
        return lanes

    # ----------------------------------------------------------------------------- helpers

    def _count(self, op: str, dtype: DType, lanes: int, scope: Scope) -> None:
        tasks = scope.tasks
        if scope.active is not None:
            tasks = int(np.broadcast_to(scope.active, (tasks, 1)).sum())
        self.counts[op, dtype] += tasks * lanes

    def _where(self, mask: loops.Expr | None, scope: Scope) -> Mask | None:
        return scope.active if mask is None else scope.also(self.value(mask, scope))

    def _place(
        self, tensor: Tensor, index: tuple[Size, ...], where: Mask | None, scope: Scope
    ) -> Number:
        if isinstance(tensor, CellStore) and tensor.lanes not in {None, scope.vector}:
            raise LoopError(f"cell {tensor.name} has lanes, and is used outside its vector loop")
        places = tuple(evaluate(i, scope.names) for i in index)
        return tensor.place(row_major(tensor.name, places, tensor.extents, where), where)


def multiply_add(a: Value, b: Value, c: Value, dtype: DType, *, fused: bool) -> Value:
    """Return ``a * b + c``: rounded once (but for a double rounding) or twice."""
    if not fused:
        return numbers.rounded(numbers.rounded(a * b, dtype) + c, dtype)
    if dtype is not DType.F64:
        exact = a.astype(np.float64) * b.astype(np.float64) + c.astype(np.float64)
        return numbers.convert(exact, DType.F64, dtype)
    product: Value = a * b
    total = product + c
    of_product = _product_error(a, b, product)
    of_sum = (product - (total - (total - product))) + (c - (total - product))
    rounded = total + (of_product + of_sum)
    return np.asarray(np.where(np.isfinite(rounded), rounded, total))


def _product_error(a: Value, b: Value, product: Value) -> Value:
    """Return what rounding took from a product of f64 (T. J. Dekker, 1971)."""
    (a1, a2), (b1, b2) = _halves(a), _halves(b)
    return np.asarray(((a1 * b1 - product) + a1 * b2 + a2 * b1) + a2 * b2)


def _halves(x: Value) -> tuple[Value, Value]:
    bits = np.ascontiguousarray(x).view(np.uint64) & np.uint64(2**64 - 2**27)
    upper = bits.view(np.float64)
    return upper, x - upper


def evaluate(size: Size, names: Mapping[Atom, Number]) -> Number:
    """Compute a size or subscript, for all tasks and lanes at once.

    Raises:
        LoopError: a name without a value.
    """
    if isinstance(size, int):
        return size
    total: Number = 0
    for monomial, coefficient in size.terms:
        term: Number = coefficient
        for atom in monomial:
            term = term * _atom(atom, names)
        total = total + term
    return total


def _atom(atom: Atom, names: Mapping[Atom, Number]) -> Number:
    found = names.get(atom)
    if found is not None:
        return found
    match atom:
        case FloorDiv(value, by):
            return evaluate(value, names) // by
        case Mod(value, by):
            return evaluate(value, names) % by
    raise LoopError(f"{atom.key} has no value here")


def cell_bytes(
    body: Sequence[loops.Stmt], functions: Mapping[str, loops.Function], width: int = 1
) -> int:
    """Estimate the bytes that one task needs for its cells and values."""
    total = 8 * width
    for stmt in body:
        match stmt:
            case loops.For(extent=extent, kind=kind, body=inner):
                lanes = extent if kind in {"vector", "lane"} and isinstance(extent, int) else 1
                total += cell_bytes(inner, functions, width * lanes)
            case loops.If(_, then, otherwise):
                total += cell_bytes((*then, *otherwise), functions, width)
            case loops.Cell(extents=extents):
                total += 9 * width * math.prod(extents)
            case loops.Call(function):
                total += cell_bytes(functions[function].body, functions, width)
    return total
