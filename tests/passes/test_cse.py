"""CSE and DCE: values kept, and what is the same is found to be the same."""

from __future__ import annotations

from hypothesis import given, settings
from support.graphs import GraphCase, assert_same_results, graph_cases

from nnc.ir.graph import Graph
from nnc.ir.text import parse_graph, print_graph
from nnc.passes.cse import cse
from nnc.passes.dce import DceOptions, dce


@given(graph_cases())
@settings(max_examples=60)
def test_cse_keeps_values_and_is_idempotent(case: GraphCase) -> None:
    once = cse(case.graph)
    assert_same_results(case, case.graph, once)
    assert len(once.nodes()) <= len(case.graph.nodes())
    assert print_graph(cse(once)) == print_graph(once)


@given(graph_cases())
@settings(max_examples=30)
def test_dce_keeps_values(case: GraphCase) -> None:
    assert_same_results(case, case.graph, dce(case.graph))


def test_what_is_the_same_becomes_one() -> None:
    graph = parse_graph(
        """graph g
          %0 = leaf input:x : f32[n, 4]
          %1 = leaf input:x : f32[n, 4]
          %2 = sum[i < n, j < 4] out[i] (%0[i, j] * (%0[i, 0] + 1.0f32)) : f32[n]
          %3 = sum[b < 4, a < n] out[a] ((1.0f32 + %1[a, 0]) * %1[a, b]) : f32[n]
          %4 = sum[b < 4, a < n] out[a] ((-0.0f32 + %1[a, 0]) * %1[a, b]) : f32[n]
          %5 = sum[b < 4, a < n] out[a] ((0.0f32 + %1[a, 0]) * %1[a, b]) : f32[n]
          output output:a = %2
          output output:b = %3
          output output:c = %4
          output output:d = %5
        """
    )
    merged = cse(graph)
    a, b, c, d = (o.node for o in merged.outputs)
    assert a is b
    assert len({a, c, d}) == 3
    assert len(merged.nodes()) == 4


def test_argmax_keeps_the_order_of_its_axes() -> None:
    graph = parse_graph(
        """graph g
          %0 = leaf input:x : f32[3, 4]
          %1 = argmax[i < 3, j < 4] out[] (%0[i, j]) : i32[]
          %2 = argmax[j < 4, i < 3] out[] (%0[i, j]) : i32[]
          output output:a = %1
          output output:b = %2
        """
    )
    assert len(cse(graph).nodes()) == 3


def test_outputs_nobody_asks_for_go() -> None:
    graph = parse_graph(
        """graph g
          %0 = leaf input:x : f32[n]
          %1 = leaf input:y : f32[n]
          output output:a = %0
          output output:b = %1
        """
    )
    kept: Graph = dce(graph, DceOptions({("output", "b")}))
    assert [(n.name) for n in kept.nodes()] == ["y"]
