"""The steps by which random graphs grow: each adds one construct, at random sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from nnc.ir import build
from nnc.ir import scalar as sc
from nnc.ir.expr import Const, Expr, Position
from nnc.ir.graph import Node
from nnc.ir.index import Size, axis, dim, evaluate, floordiv, mod
from nnc.ir.types import DType, TensorType

I32 = DType.I32


@dataclass
class Maker:
    """Grows a graph node by node; each method named like a step adds one, where it can."""

    random: Random
    dtype: DType
    kinks: bool
    empty: bool
    dims: dict[str, int]
    pool: list[Node] = field(default_factory=list)
    leaves: dict[str, Node] = field(default_factory=dict)
    ranges: dict[tuple[str, str], Size] = field(default_factory=dict)

    # drawing --------------------------------------------------------------------------------

    def pick(self, items: Sequence):
        return self.random.choice(list(items))

    def number(self, low: int, high: int) -> int:
        return self.random.randint(low, high)

    def chance(self) -> bool:
        return self.random.random() < 0.5

    def size(self, *, positive: bool = False) -> Size:
        symbolic = [dim(name) for name in self.dims]
        least = 1 if positive or not self.empty else 0
        return self.pick([*symbolic, *range(max(least, 1), 5), *range(least, 2)])

    def value(self, size: Size) -> int:
        return evaluate(size, self.dims)

    def leaf(self, shape: Sequence[Size], dtype: DType | None = None, high: Size = 0) -> Node:
        """Return a leaf of this type: one that is there, if chance has it, or a new one."""
        wanted = TensorType(dtype or self.dtype, tuple(shape))
        fitting = [
            n
            for n in self.leaves.values()
            if n.type == wanted and self.ranges.get(("input", n.name), 0) == high
        ]
        if fitting and self.chance():
            return self.pick(fitting)
        name = f"x{len(self.leaves)}"
        node = build.leaf("input", name, wanted)
        self.leaves[name] = node
        if high != 0:
            self.ranges["input", name] = high
        return node

    def tensor(self, *, rank: int = 0) -> Node:
        """Return a float tensor of at least ``rank`` dims."""
        fitting = [n for n in self.pool if n.type.dtype is self.dtype and n.type.rank >= rank]
        # The newest is drawn half of the time, so that graphs grow deep as well as wide.
        if not fitting:
            return self.leaf([self.size() for _ in range(max(rank, 1))])
        return fitting[-1] if self.chance() else self.pick(fitting)

    def const(self, value: float) -> Const:
        return Const(value, self.dtype)

    # steps ----------------------------------------------------------------------------------

    def unary(self) -> Node:
        half, one = self.const(0.5), self.const(1)
        smooth: list[Callable[[Expr], Expr]] = [
            sc.neg,
            lambda x: sc.apply("tanh", x),
            lambda x: sc.apply("sin", x),
            lambda x: sc.apply("erf", x),
            lambda x: sc.apply("exp", sc.apply("cos", x)),
            lambda x: sc.apply("log1p", sc.mul(x, x)),
            lambda x: sc.apply("sqrt", sc.add(sc.mul(x, x), half)),
            lambda x: sc.div(one, sc.add(one, sc.apply("exp", sc.apply("tanh", x)))),
            lambda x: sc.add(sc.mul(x, half), self.const(-0.25)),
        ]
        kinked: list[Callable[[Expr], Expr]] = [
            lambda x: sc.apply("abs", x),
            lambda x: sc.maximum(x, self.const(0)),
            lambda x: sc.select(sc.apply("gt", x, half), sc.mul(x, x), x),
        ]
        return build.elementwise(self.pick(smooth + kinked * self.kinks), self.tensor())

    def binary(self) -> Node:
        a = self.tensor()
        same = [n for n in self.pool if n.type == a.type]
        b = self.pick(same) if same else self.leaf(a.type.shape)
        return build.elementwise(self.pick(self._binary_ops()), a, b)

    def _binary_ops(self) -> list[Callable[[Expr, Expr], Expr]]:
        smooth = [
            sc.add,
            sc.sub,
            lambda x, y: sc.mul(self.const(0.5), sc.mul(x, y)),
            lambda x, y: sc.div(x, sc.add(self.const(1.5), sc.mul(y, y))),
        ]
        kinked = [sc.maximum, sc.minimum, lambda x, y: sc.select(sc.apply("lt", x, y), x, y)]
        return smooth + kinked * self.kinks

    def broadcast_binary(self) -> Node:
        a = self.tensor()
        shape = [1 if self.chance() else s for s in a.type.shape]
        b = self.leaf(shape[self.number(0, len(shape)) :])
        return build.elementwise(self.pick(self._binary_ops()), a, build.broadcast(b, a.type.shape))

    def broadcast(self) -> Node:
        a = self.tensor()
        return build.broadcast(a, (self.size(), *a.type.shape))

    def transpose(self) -> Node:
        a = self.tensor()
        return build.transpose(a, self.random.sample(range(a.type.rank), a.type.rank))

    def view(self) -> Node:
        """Read one dim shifted, strided, flipped, at a point, or twice (a diagonal)."""
        a = self.tensor(rank=1)
        at = self.number(0, a.type.rank - 1)
        size = a.type.shape[at]
        axes = build.axes_for(a.type.shape)
        here: list[Size] = list(build.subscripts(axes))
        name, extent = axes[at]
        outside = None
        match self.pick(["shift", "flip", "point", "stride", "repeat"]):
            case "shift":
                by = self.number(-2, 2)
                here[at], outside = axis(name) + by, self.pick([0.0, -1.5])
                extent = size + self.number(0, 2)
            case "flip":
                here[at] = size - 1 - axis(name)
            case "point" if self.value(size) > 0:
                here[at], extent = self.pick([0, size - 1]), 1
            case "stride":
                extent = floordiv(size + 1, 2)
                here[at] = 2 * axis(name)
            case _:
                here[at], extent = floordiv(axis(name), 2), 2 * size
        axes[at] = (name, extent)
        shape = [s for _, s in axes]
        read = build.read(a, 0, *here, outside=outside)
        return build.form(axes, build.subscripts(axes), read, (a,), shape)

    def diagonal(self) -> Node:
        a = self.tensor(rank=1)
        size = a.type.shape[0]
        square = self.leaf((size, size))
        i = axis("i")
        body = sc.add(build.read(square, 0, i, i), build.read(square, 0, i, 0 * i))
        return build.form([("i", size)], (i,), body, (square,), (size,))

    def reduce(self) -> Node:
        a = self.tensor(rank=1)
        gone = [k for k in range(a.type.rank) if self.chance()]
        kinds = ["sum", "sum", "prod"] + ["max", "min"] * self.kinks
        return build.reduce(a, gone, self.pick(kinds), keep=self.chance())

    def filtered(self) -> Node:
        """Sum or take the part of a box that comparisons of axes keep."""
        a = self.tensor(rank=1)
        axes = build.axes_for(a.type.shape)
        here = build.subscripts(axes)
        last = Position(here[-1])
        first = Position(here[0])
        condition = self.pick(
            [
                sc.apply("le", last, first),
                sc.apply("lt", Position(here[-1] + here[0]), Const(3, DType.I64)),
                sc.apply("ne", last, Position(mod(here[0] + 1, 2))),
            ]
        )
        kept = self.number(0, len(axes))
        return build.form(
            axes,
            here[:kept],
            build.read(a, 0, *here),
            (a,),
            a.type.shape[:kept],
            reduce=self.pick(["sum", "max"] if self.kinks else ["sum"]),
            where=condition,
        )

    def matmul(self) -> Node:
        a = self.tensor(rank=1)
        inner, columns = a.type.shape[-1], self.size()
        letters = "abcdefgh"[: a.type.rank - 1]
        w = self.leaf((inner, columns))
        return build.contract(f"{letters}k,kn->{letters}n", a, w)

    def convolution(self) -> Node:
        """Correlate the last dim, with stride, dilation and zero padding."""
        batch, inside, outside = self.size(), self.number(1, 2), self.number(1, 2)
        kernel, stride, dilation = self.number(1, 3), self.number(1, 3), self.number(1, 2)
        span = dilation * (kernel - 1)
        pad = self.number(floordiv(span + 1, 2), 3)
        length = self.size(positive=True)
        x = self.leaf((batch, inside, length))
        w = self.leaf((outside, inside, kernel))
        b, o, i, c, u = (axis(n) for n in "boicu")
        size = floordiv(length + (2 * pad - span - 1), stride) + 1
        read = build.read(x, 0, b, c, stride * i + dilation * u - pad, outside=0.0)
        return build.form(
            [("b", batch), ("o", outside), ("i", size), ("c", inside), ("u", kernel)],
            (b, o, i),
            sc.mul(read, build.read(w, 1, o, c, u)),
            (x, w),
            (batch, outside, size),
            reduce="sum",
        )

    def scattered_convolution(self) -> Node:
        """Transposed convolution: affine subscripts on the left."""
        length, kernel = self.size(), self.number(1, 3)
        stride, dilation = self.number(1, 3), self.number(1, 2)
        x, w = self.leaf((length,)), self.leaf((kernel,))
        i, u = axis("i"), axis("u")
        size = stride * length + dilation * kernel
        return build.form(
            [("i", length), ("u", kernel)],
            (stride * i + dilation * u,),
            sc.mul(build.read(x, 0, i), build.read(w, 1, u)),
            (x, w),
            (size,),
            reduce="sum",
        )

    def gather(self) -> Node:
        table = self.tensor(rank=1)
        if self.value(table.type.shape[0]) == 0:
            return self.unary()
        ids = self.leaf([self.size() for _ in range(self.number(1, 2))], I32, table.type.shape[0])
        return build.gather(table, ids)

    def scatter(self) -> Node:
        """Add rows to the places that whole numbers tell, by subscript or by filter."""
        rows = self.tensor(rank=1)
        size = self.size(positive=True)
        ids = self.leaf(rows.type.shape[:1], I32, size)
        axes = build.axes_for(rows.type.shape)
        here = build.subscripts(axes)
        read = build.read(rows, 0, *here)
        shape = (size, *rows.type.shape[1:])
        if self.chance():
            out = (build.loaded(ids, 1, here[0]), *here[1:])
            return build.form(axes, out, read, (rows, ids), shape, reduce="sum")
        hit = sc.apply("eq", build.read(ids, 1, here[0]), Position(axis("v"), I32))
        return build.form(
            [("v", size), *axes],
            (axis("v"), *here[1:]),
            read,
            (rows, ids),
            shape,
            reduce="sum",
            where=hit,
        )

    def strided_store(self) -> Node:
        """Store apart or shifted; what nothing is stored to is 0, what falls outside is gone."""
        a = self.tensor(rank=1)
        axes = build.axes_for(a.type.shape)
        here: list[Size] = list(build.subscripts(axes))
        size = a.type.shape[0]
        read = build.read(a, 0, *here)
        drops = self.chance()
        if drops:
            here[0], extent = here[0] + self.number(-2, 2), size
        else:
            here[0], extent = 2 * here[0] + self.number(0, 1), 2 * size
        shape = (extent, *a.type.shape[1:])
        return build.form(axes, here, read, (a,), shape, drops=drops)

    def softmax(self) -> Node:
        """Return a row's exponentials over their sum: one tensor read three times."""
        a = self.tensor(rank=1)
        last, shape = a.type.rank - 1, a.type.shape
        # The greatest is NaN's or infinite only where the row is empty or was so before.
        top = build.broadcast(build.reduce(a, [last], "max", keep=True), shape)
        e = build.elementwise(lambda x, y: sc.apply("exp", sc.sub(x, y)), a, top)
        total = build.broadcast(build.reduce(e, [last], "sum", keep=True), shape)
        return build.elementwise("div", e, total)

    def concatenate(self) -> Node:
        """Put two tensors end to end: a choice between two guarded reads."""
        a = self.tensor(rank=1)
        size, *rest = a.type.shape
        b = self.leaf((self.size(), *rest))
        shape = (size + b.type.shape[0], *rest)
        axes = build.axes_for(shape)
        first, *others = build.subscripts(axes)
        body = sc.select(
            sc.apply("lt", Position(first), sc.position(size)),
            build.read(a, 0, first, *others, outside=0.0),
            build.read(b, 1, first - size, *others, outside=0.0),
        )
        return build.form(axes, (first, *others), body, (a, b), shape)

    def windows(self) -> Node:
        """Take the greatest or the sum of windows that overlap or leave gaps."""
        a = self.tensor(rank=1)
        *outer, size = a.type.shape
        stride, window = self.number(1, 3), self.number(1, 3)
        count = floordiv(size + (stride - 1), stride)
        axes = build.axes_for((*outer, count))
        *before, i = build.subscripts(axes)
        inside = stride * i + axis("u")
        kind, outside = self.pick([("sum", 0.0), *[("max", float("-inf"))] * self.kinks])
        read = build.read(a, 0, *before, inside, outside=outside)
        box = [*axes, ("u", window)]
        return build.form(box, (*before, i), read, (a,), (*outer, count), reduce=kind)

    def guarded_gather(self) -> Node:
        """Gather by numbers that may lie outside, which give the stated value."""
        table = self.tensor(rank=1)
        ids = self.leaf([self.size()], I32, 6)
        axes = build.axes_for((ids.type.shape[0], *table.type.shape[1:]))
        first, *others = build.subscripts(axes)
        row = build.loaded(ids, 1, first) - 1
        body = build.read(table, 0, row, *others, outside=0.25)
        return build.form(axes, (first, *others), body, (table, ids), [s for _, s in axes])

    def nested_gather(self) -> Node:
        """Gather by numbers that are gathered themselves."""
        table = self.tensor(rank=1)
        if self.value(table.type.shape[0]) == 0:
            return self.unary()
        between = self.size(positive=True)
        inner = self.leaf((between,), I32, table.type.shape[0])
        outer = self.leaf((self.size(),), I32, between)
        axes = build.axes_for((outer.type.shape[0], *table.type.shape[1:]))
        first, *others = build.subscripts(axes)
        row = build.loaded(inner, 1, build.loaded(outer, 2, first))
        body = build.read(table, 0, row, *others)
        shape = [s for _, s in axes]
        return build.form(axes, (first, *others), body, (table, inner, outer), shape)

    def precision(self) -> Node:
        """Go through another float type, which rounds, and back."""
        other = DType.F32 if self.dtype is DType.F64 else DType.F64
        return build.cast(build.cast(self.tensor(), other), self.dtype)

    def random_bits(self) -> Node:
        """Keep some elements and drop the rest, by random bits (dropout)."""
        a = self.tensor()
        seed = build.leaf("system", "seed", TensorType(DType.U64))
        axes = build.axes_for(a.type.shape)
        here = build.subscripts(axes)
        place: Size = 0
        for at, (_, size) in zip(here, axes, strict=True):
            place = place * size + at
        word = (Const(self.number(0, 9), DType.U32), Const(self.number(0, 9), DType.U32))
        index = sc.position(place, DType.U64)
        bits = sc.apply("philox", build.read(seed, 1), *word, index)
        kept = sc.apply("lt", bits, Const(2**31, DType.U32))
        body = sc.select(kept, build.read(a, 0, *here), self.const(0))
        return build.form(axes, here, body, (a, seed), a.type.shape)

    def reshape(self) -> Node:
        a = self.tensor(rank=1)
        shape = list(a.type.shape)
        at = self.number(0, len(shape) - 1)
        if at + 1 < len(shape):
            shape[at : at + 2] = [shape[at] * shape[at + 1]]
        else:
            shape.insert(at, 1)
        return build.reshape(a, shape)

    def fold(self) -> Node:
        """Cut a dim in two by floor division and remainder of the axis."""
        a = self.tensor(rank=1)
        axes = build.axes_for(a.type.shape)
        here: list[Size] = list(build.subscripts(axes))
        size, by = a.type.shape[0], self.number(2, 3)
        out = [floordiv(here[0], by), mod(here[0], by), *here[1:]]
        shape = [floordiv(size + by - 1, by), by, *a.type.shape[1:]]
        return build.form(axes, out, build.read(a, 0, *here), (a,), shape)

    def constant(self) -> Node:
        if self.chance():
            return build.full((self.size(),), self.number(-2, 2), self.dtype)
        return build.literal([0.5, -1.25, 2.0], (3,), self.dtype)

    def positions(self) -> Node:
        a = self.tensor(rank=1)
        axes = build.axes_for(a.type.shape)
        here = build.subscripts(axes)
        grow = Position(sum(here) + a.type.shape[0], self.dtype)
        body = sc.mul(build.read(a, 0, *here), sc.mul(self.const(0.125), grow))
        return build.form(axes, here, body, (a,), a.type.shape)

    def best(self) -> Node:
        """Return the argmax or argmin along the last dim: whole numbers."""
        a = self.tensor(rank=1)
        return build.reduce(a, [a.type.rank - 1], self.pick(["argmax", "argmin"]))

    def truth(self) -> Node:
        a = self.tensor(rank=1)
        above = build.elementwise(lambda x: sc.apply("gt", x, self.const(0.25)), a)
        return build.reduce(above, [0], self.pick(["any", "all"]))

    def counts(self) -> Node:
        """Whole-number arithmetic on an input."""
        ids = self.leaf([self.size()], I32, 7)
        three = Const(3, I32)
        ops: list[Callable[[Expr], Expr]] = [
            lambda k: sc.apply("floordiv", sc.sub(k, three), three),
            lambda k: sc.apply("mod", sc.sub(k, three), three),
            lambda k: sc.apply("mad", k, k, three),
            lambda k: sc.cast(sc.apply("ge", k, three), I32),
            lambda k: sc.apply("xor", sc.apply("shl", k, Const(2, I32)), k),
        ]
        return build.elementwise(self.pick(ops), ids)

    def from_counts(self) -> Node:
        """Turn whole numbers or truth values into floats."""
        other = [n for n in self.pool if not n.type.dtype.is_float]
        return build.cast(self.pick(other), self.dtype) if other else self.constant()


SMOOTH = (
    *("unary", "binary", "broadcast_binary", "broadcast", "transpose", "view", "diagonal"),
    *("reduce", "filtered", "matmul", "convolution", "scattered_convolution", "gather", "scatter"),
    *("strided_store", "reshape", "fold", "constant", "positions", "concatenate", "windows"),
    *("guarded_gather", "nested_gather", "random_bits"),
)
KINKED = ("softmax", "precision", "best", "truth", "counts", "from_counts")
