"""Gradients of random graphs against differences along a random direction."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from support.graphs import GraphCase, graph_cases

from nnc.ir.graph import Graph, Leaf, Node, Output
from nnc.ir.interpret import evaluate
from nnc.ir.types import DType
from nnc.ir.verify import verify
from nnc.passes.autodiff import gradients
from nnc.passes.solve import solve

EPS = 1e-6


def slope(case: GraphCase, direction: dict[tuple[str, str], np.ndarray]) -> float:
    def at(step: float) -> float:
        moved = case.leaves()
        for key, by in direction.items():
            moved[key] = moved[key] + step * by
        return float(evaluate(case.graph, moved, case.dims)["loss", "loss"])

    return (at(EPS) - at(-EPS)) / (2 * EPS)


def leaves_of(graph: Graph) -> list[Node]:
    nodes = graph.nodes()
    return [n for n in nodes if isinstance(n.op, Leaf) and n.type.dtype is DType.F64]


@given(graph_cases(steps=5, kinks=False, loss=True, dtypes=[DType.F64]))
@settings(max_examples=120)
def test_gradients_agree_with_differences(case: GraphCase) -> None:
    wrt = leaves_of(case.graph)
    (loss,) = case.graph.outputs
    found = gradients(loss.node, wrt)
    data, random = case.leaves(), np.random.default_rng(case.seed)
    direction = {
        ("input", n.name): random.standard_normal(data["input", n.name].shape) for n in wrt
    }
    expected = slope(case, direction)
    for finish in (lambda node: node, solve):
        outputs = (Output("gradient", n.name, finish(g)) for n, g in zip(wrt, found, strict=True))
        graph = Graph("gradient", tuple(outputs))
        verify(graph, bounds=True)
        result = evaluate(graph, data, case.dims)
        terms = [np.sum(result["gradient", name] * by) for (_, name), by in direction.items()]
        # Where large terms cancel, the differences lose digits of the terms, not of their sum.
        scale = max(1e-2, *(abs(t) for t in terms)) if terms else 1e-2
        np.testing.assert_allclose(sum(terms), expected, atol=1e-3 * scale)
