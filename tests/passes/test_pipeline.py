"""The whole graph pipeline on random graphs and on their gradients, verified at every step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from support.graphs import GraphCase, assert_same_results, graph_cases

from nnc.ir import build
from nnc.ir.graph import Graph, Leaf, Output
from nnc.ir.interpret import evaluate, evaluate_nodes
from nnc.ir.text import print_graph
from nnc.ir.types import DType
from nnc.ir.verify import verify
from nnc.passes.autodiff import gradients
from nnc.passes.pipeline import (
    PIPELINE,
    GraphOptions,
    optimize,
    print_after,
    time_passes,
    together,
)

CHECKED = GraphOptions(verify=True)


@given(graph_cases())
@settings(max_examples=50)
def test_pipeline_keeps_values(case: GraphCase) -> None:
    assert_same_results(case, case.graph, optimize(case.graph, CHECKED))


def with_gradients(case: GraphCase) -> Graph:
    (loss,) = case.graph.outputs
    leaves = [n for n in case.graph.nodes() if isinstance(n.op, Leaf) and n.type.dtype is DType.F64]
    found = gradients(loss.node, leaves)
    outputs = [Output("gradient", n.name, g) for n, g in zip(leaves, found, strict=True)]
    return Graph("gradients", (*case.graph.outputs, *outputs))


@given(graph_cases(loss=True, kinks=False, dtypes=(DType.F64,)))
@settings(max_examples=50)
def test_gradients_of_random_graphs(case: GraphCase) -> None:
    """Along a random direction, against central differences, before and after the pipeline."""
    graph = with_gradients(case)
    verify(graph, bounds=True)
    verify(optimize(graph), bounds=True)
    leaves = case.leaves()
    random = np.random.default_rng(case.seed)
    names = [(o.space, o.name) for o in graph.outputs if o.space == "gradient"]
    steps = {n: random.uniform(-1, 1, leaves["input", n[1]].shape) for n in names}
    for g in (graph, optimize(graph, CHECKED)):
        got = evaluate(g, leaves, case.dims)
        slope = sum(float(np.sum(got[n] * steps[n])) for n in names)
        ends = [
            float(evaluate_nodes([graph.outputs[0].node], _moved(leaves, steps, h), case.dims)[0])
            for h in (1e-6, -1e-6)
        ]
        expected = (ends[0] - ends[1]) / 2e-6
        scale = 1e-9 * max(map(abs, ends)) / 1e-6
        assert slope == pytest.approx(expected, rel=1e-3, abs=1e-5 + scale)


@given(graph_cases(loss=True, kinks=False, dtypes=(DType.F64,), steps=3))
@settings(max_examples=25)
def test_second_gradients_of_random_graphs(case: GraphCase) -> None:
    """The gradient of each gradient's weighted sum, along a random direction."""
    first = with_gradients(case)
    leaves = case.leaves()
    random = np.random.default_rng(case.seed)
    for output in first.outputs[1:]:
        total = build.reduce(
            build.elementwise("mul", output.node, output.node), range(output.node.type.rank), "sum"
        )
        again = with_gradients(replace(case, graph=Graph("g", (Output("loss", "l", total),))))
        names = [(o.space, o.name) for o in again.outputs[1:]]
        steps = {n: random.uniform(-1, 1, leaves["input", n[1]].shape) for n in names}
        got = evaluate(optimize(again, CHECKED), leaves, case.dims)
        slope = sum(float(np.sum(got[n] * steps[n])) for n in names)
        ends = [
            float(evaluate_nodes([total], _moved(leaves, steps, h), case.dims)[0])
            for h in (1e-6, -1e-6)
        ]
        expected, scale = (ends[0] - ends[1]) / 2e-6, 1e-3 * max(map(abs, ends))
        assert slope == pytest.approx(expected, rel=1e-3, abs=1e-5 + scale)


def _moved(leaves, steps, h: float):  # type: ignore[no-untyped-def]
    return {k: v + h * steps["gradient", k[1]] if ("gradient", k[1]) in steps else v
            for k, v in leaves.items()}  # fmt: skip


@given(graph_cases())
@settings(max_examples=5)
def test_observers(case: GraphCase) -> None:
    lines: list[str] = []
    optimize(
        case.graph,
        CHECKED,
        together(print_after("cse", write=lines.append), time_passes(lines.append)),
    )
    assert len(lines) == len(PIPELINE) + 1
    assert any(line.startswith("# after cse\ngraph random") for line in lines)
    with pytest.raises(ValueError, match="no pass 'csee'"):
        print_after("csee")


def test_pass_names_are_unique_and_reasoned() -> None:
    assert len({step.name for step in PIPELINE}) == len(PIPELINE)
    assert all(step.reason for step in PIPELINE)


@given(graph_cases())
@settings(max_examples=20)
def test_pipeline_is_deterministic(case: GraphCase) -> None:
    assert print_graph(optimize(case.graph)) == print_graph(optimize(case.graph))
