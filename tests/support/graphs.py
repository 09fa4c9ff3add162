"""Random well-typed graphs, with data to run them on.

    @given(graph_cases())
    def test_pass_keeps_meaning(case: GraphCase) -> None:
        assert_same_results(case, case.graph, some_pass(case.graph))

Every graph is legal at the dims of its case: symbolic dims are at least 1, subscripts that are
not guarded stay inside, whole-number inputs lie inside what they index.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random

import numpy as np
from hypothesis import strategies as st

from nnc.ir import build
from nnc.ir import scalar as sc
from nnc.ir.expr import Const, Expr, Position
from nnc.ir.graph import Graph, Leaf, Node, Output
from nnc.ir.index import Poly, Size, axis, dim, evaluate, floordiv, mod
from nnc.ir.interpret import evaluate as run_graph
from nnc.ir.text import everything
from nnc.ir.types import DType, TensorType

I32, BOOL = DType.I32, DType.BOOL


@dataclass(frozen=True)
class GraphCase:
    """A graph, the dims to run it at, and the range (high exclusive) of each whole-number leaf."""

    graph: Graph
    dims: Mapping[str, int]
    ranges: Mapping[tuple[str, str], Size]
    seed: int

    def leaves(self, seed: int | None = None) -> dict[tuple[str, str], np.ndarray]:
        """Return data for every leaf; other data for another ``seed``."""
        rng = np.random.default_rng(self.seed if seed is None else seed)
        return {
            (node.op.space, node.op.name): self._data(node, rng)
            for node in everything(self.graph)
            if isinstance(node.op, Leaf)
        }

    def _data(self, node: Node, rng: np.random.Generator) -> np.ndarray:
        shape = tuple(evaluate(s, self.dims) for s in node.type.shape)
        if node.type.dtype.is_float:
            return rng.uniform(-2, 2, shape).astype(node.type.dtype.numpy)
        if node.type.dtype is BOOL:
            return rng.integers(0, 2, shape).astype(bool)
        high = evaluate(self.ranges[node.op.space, node.op.name], self.dims)
        return rng.integers(0, high, shape).astype(node.type.dtype.numpy)


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
    *("strided_store", "reshape", "fold", "constant", "positions"),
)
KINKED = ("best", "truth", "counts", "from_counts")


@st.composite
def graph_cases(
    draw: Callable,
    *,
    steps: int = 6,
    dtypes: Sequence[DType] = (DType.F32, DType.F64),
    kinks: bool = True,
    empty: bool = True,
    loss: bool = False,
    only: Sequence[str] | None = None,
) -> GraphCase:
    """Return a strategy of ``GraphCase``.

    ``steps`` is the most nodes that are grown (a step may make two); floats have one of
    ``dtypes``. Without ``kinks`` everything is differentiable at almost any data. ``empty`` lets
    constant dims be 0. With ``loss`` the one output is the scalar loss:loss. ``only`` names the
    steps to choose from (methods of ``Maker``). Failures shrink by leaving steps out.
    """
    seed = draw(st.integers(0, 2**32 - 1))
    plan = draw(st.lists(st.integers(0, 99), min_size=1, max_size=steps, unique=True))
    names = list(only or SMOOTH + KINKED * kinks)
    random = Random(seed)
    dims = {name: random.randint(1, 4) for name in ("n", "m")}
    maker = Maker(random, random.choice(list(dtypes)), kinks, empty, dims)
    for number in plan:
        # Each step comes of its own number, so that one can go without changing the others.
        maker.random = Random(f"{seed} {number}")
        made = getattr(maker, maker.pick(names))()
        # Repeated growing would make boxes too large to interpret quickly.
        if maker.value(made.type.size) <= 600 and made.type.rank <= 4:
            maker.pool.append(made)
    if not maker.pool:
        maker.pool.append(maker.unary())
    outputs = _loss(maker) if loss else _outputs(maker)
    used = {n.op for o in outputs for n in everything(Graph("", (o,))) if isinstance(n.op, Leaf)}
    ranges = {key: high for key, high in maker.ranges.items() if Leaf(*key) in used}
    return GraphCase(Graph("random", outputs), dims, ranges, seed)


def _outputs(maker: Maker) -> tuple[Output, ...]:
    chosen = dict.fromkeys([maker.pool[-1], *maker.pool[: maker.number(0, 2)]])
    return tuple(Output("output", f"y{k}", node) for k, node in enumerate(chosen))


def _loss(maker: Maker) -> tuple[Output, ...]:
    total: Node | None = None
    for node in dict.fromkeys([maker.tensor(), maker.tensor()]):
        summed = build.reduce(node, range(node.type.rank), "sum")
        total = summed if total is None else build.elementwise("add", total, summed)
    assert total is not None
    return (Output("loss", "loss", total),)


# ------------------------------------------------------------------------------ comparison


def assert_same_results(
    case: GraphCase, expected: Graph, got: Graph, *, rtol: float = 1e-6, atol: float = 1e-6
) -> None:
    """Run both graphs on the data of ``case`` and compare every output of ``expected``."""
    leaves = case.leaves()
    want, have = (run_graph(g, leaves, case.dims) for g in (expected, got))
    assert have.keys() == want.keys()
    for key, array in want.items():
        assert have[key].dtype == array.dtype, key
        np.testing.assert_allclose(have[key], array, rtol=rtol, atol=atol, err_msg=str(key))


def same_graph(a: Graph, b: Graph) -> bool:
    """Whether two graphs are equal in structure (spans aside)."""
    orders = everything(a), everything(b)
    if (a.name, a.facts, len(orders[0])) != (b.name, b.facts, len(orders[1])):
        return False
    partner = dict(zip(*orders, strict=True))
    return all(_same_node(x, y, partner) for x, y in partner.items()) and [
        (o.space, o.name, partner[o.node]) for o in a.outputs
    ] == [(o.space, o.name, o.node) for o in b.outputs]


def _same_node(x: Node, y: Node, partner: Mapping[Node, Node]) -> bool:
    op = x.op
    if hasattr(op, "gradients"):
        op = replace(op, gradients=tuple(g and partner[g] for g in op.gradients))
    inputs = tuple(partner[i] for i in x.inputs)
    return (op, inputs, x.type, x.name) == (y.op, y.inputs, y.type, y.name)


def symbolic(node: Node) -> bool:
    """Whether a node's shape holds symbolic dims."""
    return any(isinstance(size, Poly) for size in node.type.shape)
