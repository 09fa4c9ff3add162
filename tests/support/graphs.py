"""Random well-typed graphs, with data to run them on.

    @given(graph_cases())
    def test_pass_keeps_meaning(case: GraphCase) -> None:
        assert_same_results(case, case.graph, some_pass(case.graph))

Every graph is legal at the dims of its case: symbolic dims are at least 1, subscripts that are
not guarded stay inside, whole-number inputs lie inside what they index.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

import numpy as np
from hypothesis import strategies as st

from nnc.ir import build
from nnc.ir.graph import Graph, Leaf, Node, Output
from nnc.ir.index import Poly, Size, evaluate
from nnc.ir.interpret import evaluate as run_graph
from nnc.ir.text import everything
from nnc.ir.types import DType

from .graph_steps import KINKED, SMOOTH, Maker


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
        if node.type.dtype is DType.BOOL:
            return rng.integers(0, 2, shape).astype(bool)
        if node.op.space == "system":
            return rng.integers(0, 2**63, shape).astype(node.type.dtype.numpy)
        high = evaluate(self.ranges[node.op.space, node.op.name], self.dims)
        return rng.integers(0, high, shape).astype(node.type.dtype.numpy)


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
