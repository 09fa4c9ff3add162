"""Accumulators: how each reduction starts, takes a value, joins lanes, and combines blocks."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from nnc.ir.expr import Const
from nnc.ir.index import Axis, Size
from nnc.ir.loops import Expr, Fold, Load, Op
from nnc.ir.types import DType
from nnc.passes.schedule.code import Code
from nnc.passes.schedule.exprs import cast, conjunction, op, position

OPS = {"sum": "add", "prod": "mul", "max": "max", "min": "min", "any": "or", "all": "and"}
"""The operation that joins two values of a reduction."""

LEVELS = 40
"""Levels of partial results kept where the number of blocks is not known: enough for any."""

_INT_BITS = {
    DType.I8: (7, True), DType.I32: (31, True), DType.I64: (63, True),
    DType.U8: (8, False), DType.U32: (32, False), DType.U64: (64, False),
}  # fmt: skip


def identity(reduce: str, dtype: DType) -> Const:
    """What a reduction gives of nothing; 0 for ``none``, ``argmax`` and ``argmin``."""
    match reduce:
        case "prod":
            return Const(1, dtype)
        case "all":
            return Const(True, dtype)
        case "max":
            return extreme(dtype, -1)
        case "min":
            return extreme(dtype, 1)
    return Const(0, dtype)


def extreme(dtype: DType, sign: int) -> Const:
    """The greatest value of a type (``sign`` 1) or its least (-1)."""
    if dtype.is_float:
        return Const(sign * inf, dtype)
    if dtype is DType.BOOL:
        return Const(sign > 0, dtype)
    bits, signed = _INT_BITS[dtype]
    return Const(2**bits - 1 if sign > 0 else -(2**bits) if signed else 0, dtype)


def is_ordered(reduce: str, dtype: DType) -> bool:
    """Whether the order of combination shows in the result's bits."""
    return reduce in {"sum", "prod"} and dtype.is_float


def wide(dtype: DType) -> DType:
    """The type that values of ``dtype`` are summed in."""
    return DType.F32 if dtype in {DType.F16, DType.BF16} else dtype


@dataclass(slots=True)
class Accumulator:
    """One reduction at one point: ``sum prod max min any all``.

    ``lanes``: a value per lane; ``folded`` says that the result joins them.
    """

    code: Code
    reduce: str
    dtype: DType
    lanes: bool
    folded: bool
    cell: str = ""

    def start(self) -> None:
        """Declare the cell here."""
        kind = wide(self.dtype)
        self.cell = self.code.cell("acc", kind, identity(self.reduce, kind), lanes=self.lanes)

    def update(self, value: Expr, place: Size, mask: Expr | None) -> None:
        """Take one value, where ``mask`` holds."""
        del place
        kind = wide(self.dtype)
        old = Load(self.cell, (), kind)
        match cast(value, kind):
            case Op("mul", (a, b)) if self.reduce == "sum" and kind.is_float:
                new = op("mad", a, b, old)
            case other:
                new = op(OPS[self.reduce], old, other)
        self.code.store(self.cell, (), new, mask)

    def partial(self) -> Expr:
        """The result so far, in the type of accumulation."""
        kind = wide(self.dtype)
        value: Expr = Load(self.cell, (), kind)
        if self.folded:
            value = Fold(OPS[self.reduce], value, kind)
        return self.code.bind(value)

    def result(self) -> Expr:
        """The result in the type of the tensor."""
        return self.code.bind(cast(self.partial(), self.dtype))


@dataclass(slots=True)
class ArgAccumulator:
    """``argmax`` and ``argmin``: the best so far and its place; the first wins, NaN is best."""

    code: Code
    reduce: str
    dtype: DType
    lanes: bool
    folded: bool
    best: str = ""
    place: str = ""

    def start(self) -> None:
        """Declare the cells here: place -1 says that nothing was taken yet."""
        start = identity(self.reduce[3:], self.dtype)
        self.best = self.code.cell("best", self.dtype, start, lanes=self.lanes)
        self.place = self.code.cell("place", DType.I32, Const(-1, DType.I32), lanes=self.lanes)

    def update(self, value: Expr, place: Size, mask: Expr | None) -> None:
        """Take one value at ``place``, where ``mask`` holds."""
        new = self.code.bind(value)
        best = self.code.bind(Load(self.best, (), self.dtype))
        better = op("gt" if self.reduce == "argmax" else "lt", new, best, dtype=DType.BOOL)
        if self.dtype.is_float:
            first_nan = op("and", _is_nan(new), op("not", _is_nan(best)))
            better = op("or", better, first_nan)
        none = op("lt", Load(self.place, (), DType.I32), Const(0, DType.I32), dtype=DType.BOOL)
        taken = conjunction(mask, op("or", better, none))
        assert taken is not None
        chosen = self.code.bind(taken)
        self.code.store(self.best, (), new, chosen)
        self.code.store(self.place, (), position(place, DType.I32), chosen)

    def result(self) -> Expr:
        """The place of the best; 0 of nothing."""
        zero = Const(0, DType.I32)
        place = self.code.bind(Load(self.place, (), DType.I32))
        if not self.folded:
            return self.code.bind(op("max", place, zero))
        best = self.code.bind(Load(self.best, (), self.dtype))
        top = self.code.bind(Fold(self.reduce[3:], best, self.dtype))
        hit = op("eq", best, top, dtype=DType.BOOL)
        if self.dtype.is_float:
            hit = op("or", hit, op("and", _is_nan(best), _is_nan(top)))
        hit = op("and", hit, op("ge", place, zero, dtype=DType.BOOL))
        far = Const(2**31 - 1, DType.I32)
        first = self.code.bind(
            Fold("min", op("select", hit, place, far, dtype=DType.I32), DType.I32)
        )
        return self.code.bind(
            op("select", op("eq", first, far, dtype=DType.BOOL), zero, first, dtype=DType.I32)
        )


def _is_nan(value: Expr) -> Op:
    return op("ne", value, value, dtype=DType.BOOL)


@dataclass(slots=True)
class Pairwise:
    """Combines the results of blocks in pairs of equal weight, in the order of the blocks.

    A binary counter: level k holds the result of 2**k blocks. Blocks are taken one after the
    other, so nothing but one result per level is kept.
    """

    code: Code
    reduce: str
    dtype: DType
    lanes: bool
    levels: int = LEVELS
    stack: str = ""
    count: str = ""

    def start(self) -> None:
        """Declare the levels here."""
        self.stack = self.code.cell("level", self.dtype, None, (self.levels,), lanes=self.lanes)
        self.count = self.code.cell("blocks", DType.I64, Const(0, DType.I64))

    def push(self, value: Expr) -> None:
        """Take the result of the next block."""
        code, one = self.code, Const(1, DType.I64)
        number = code.bind(Load(self.count, (), DType.I64))
        full = code.whole(_trailing_ones(number))
        carry = code.cell("carry", self.dtype, value, lanes=self.lanes)
        axis = code.fresh("up")
        with code.loop(axis, full):
            lower = Load(self.stack, (Axis(axis).as_poly(),), self.dtype)
            code.store(carry, (), op(OPS[self.reduce], lower, Load(carry, (), self.dtype)))
        code.store(self.stack, (full,), Load(carry, (), self.dtype))
        code.store(self.count, (), op("add", number, one))

    def result(self) -> Expr:
        """Combine what the levels hold, the latest blocks first."""
        code, one = self.code, Const(1, DType.I64)
        number = code.bind(Load(self.count, (), DType.I64))
        start = identity(self.reduce, self.dtype)
        total = code.cell("total", self.dtype, start, lanes=self.lanes)
        axis = code.fresh("up")
        with code.loop(axis, code.whole(_bits(number))):
            bit = op("and", op("shr", number, position(Axis(axis).as_poly())), one)
            with code.branch(op("ne", bit, Const(0, DType.I64), dtype=DType.BOOL)):
                upper = Load(self.stack, (Axis(axis).as_poly(),), self.dtype)
                code.store(total, (), op(OPS[self.reduce], upper, Load(total, (), self.dtype)))
        return code.bind(Load(total, (), self.dtype))


def _trailing_ones(number: Expr) -> Expr:
    """How many low bits of a small i64 are 1: the exponent of the power of two that flips next."""
    one = Const(1, DType.I64)
    power = op("add", op("xor", number, op("add", number, one)), one)
    return op("sub", _exponent(power), Const(1024, DType.I64))


def _bits(number: Expr) -> Expr:
    """How many binary digits a small positive i64 has."""
    return op("sub", _exponent(number), Const(1022, DType.I64))


def _exponent(number: Expr) -> Expr:
    """The biased exponent of a small positive i64 as an f64."""
    bits = op("bitcast", cast(number, DType.F64), dtype=DType.I64)
    return op("shr", bits, Const(52, DType.I64))


AnyAccumulator = Accumulator | ArgAccumulator


def accumulator(
    code: Code, reduce: str, dtype: DType, *, lanes: bool, folded: bool
) -> AnyAccumulator:
    """An accumulator for ``reduce`` over values of ``dtype``."""
    kind = ArgAccumulator if reduce.startswith("arg") else Accumulator
    return kind(code, reduce, dtype, lanes, folded)


def levels_for(blocks: Size) -> int:
    """How many levels ``blocks`` blocks need."""
    return max(1, blocks.bit_length()) if isinstance(blocks, int) else LEVELS
