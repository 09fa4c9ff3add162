"""The strategy of random graphs itself: what it draws is legal, varied and runs."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given, settings
from support.graphs import GraphCase, assert_same_results, graph_cases

from nnc.ir.graph import Form
from nnc.ir.interpret import evaluate
from nnc.ir.text import parse_graph, print_graph
from nnc.ir.types import DType


@given(graph_cases(steps=8))
@settings(max_examples=150)
def test_cases_run(case: GraphCase) -> None:
    assert_same_results(case, case.graph, parse_graph(print_graph(case.graph)), rtol=0, atol=0)


@given(graph_cases(kinks=False, loss=True, empty=False, dtypes=[DType.F64]))
def test_smooth_cases_give_one_finite_loss(case: GraphCase) -> None:
    result = evaluate(case.graph, case.leaves(), case.dims)
    assert list(result) == [("loss", "loss")]
    assert result["loss", "loss"].shape == ()
    assert np.isfinite(result["loss", "loss"])


def test_draws_are_varied() -> None:
    seen: Counter[str] = Counter()

    @given(graph_cases(steps=8))
    @settings(max_examples=200, database=None)
    def look(case: GraphCase) -> None:
        for node in case.graph.nodes():
            if isinstance(node.op, Form):
                seen[node.op.reduce] += 1
                seen["where"] += node.op.where is not None
                seen["drops"] += node.op.drops
            else:
                seen[type(node.op).__name__] += 1
            seen["empty"] += 0 in node.type.shape

    look()
    kinds = "none sum prod max min any all argmax argmin where drops Leaf Literal Reshape empty"
    assert [kind for kind in kinds.split() if not seen[kind]] == []
