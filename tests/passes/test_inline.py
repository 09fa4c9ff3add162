"""Substituting producers keeps every value."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings

from nnc.ir import build
from nnc.ir import scalar as sc
from nnc.ir.expr import Const
from nnc.ir.graph import Form, Graph, Output, Reshape
from nnc.ir.index import axis, dim
from nnc.ir.prove import Facts
from nnc.ir.types import DType, TensorType
from nnc.passes.inline import inline, unflatten
from tests.support.graphs import GraphCase, assert_same_results, graph_cases

F32 = DType.F32


@settings(
    max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(graph_cases(steps=8))
def test_inlining_keeps_results(case: GraphCase) -> None:
    assert_same_results(case, case.graph, inline(case.graph))


def _forms(graph: Graph) -> int:
    return sum(isinstance(n.op, Form) for n in graph.nodes())


def test_a_chain_of_maps_becomes_one_form() -> None:
    x = build.leaf("input", "x", TensorType(F32, (dim("n"), 8)))
    y = build.elementwise(lambda v: sc.mul(v, v), x)
    z = build.elementwise(sc.add, build.transpose(y, (1, 0)), build.transpose(x, (1, 0)))
    assert _forms(inline(Graph("g", (Output("output", "z", z),)))) == 1


def test_an_expensive_tensor_read_many_times_stays() -> None:
    x = build.leaf("input", "x", TensorType(F32, (dim("n"), 8)))
    w = build.leaf("state", "w", TensorType(F32, (8, 4)))
    y = build.contract("nk,km->nm", build.elementwise(lambda v: sc.apply("exp", v), x), w)
    assert _forms(inline(Graph("g", (Output("output", "y", y),)))) == 2


def test_a_guarded_read_keeps_its_guard() -> None:
    x = build.leaf("input", "x", TensorType(F32, (5,)))
    y = build.elementwise(lambda v: sc.add(v, Const(1.0, F32)), x)
    i = axis("i")
    padded = build.form([("i", 9)], (i,), build.read(y, 0, i - 2, outside=7.0), (y,), (9,))
    graph = Graph("g", (Output("output", "y", padded),))
    small = inline(graph)
    assert _forms(small) == 1
    case = GraphCase(graph, {}, {}, 3)
    assert_same_results(case, graph, small)


def test_reading_through_a_reshape() -> None:
    x = build.leaf("input", "x", TensorType(F32, (dim("n"), 6)))
    y = build.elementwise(lambda v: sc.mul(v, v), x)
    flat = build.reshape(y, (dim("n") * 6,))
    i, j = axis("i"), axis("j")
    z = build.form(
        [("i", dim("n")), ("j", 6)], (i, j), build.read(flat, 0, i * 6 + j), (flat,), (dim("n"), 6)
    )
    graph = Graph("g", (Output("output", "z", z),))
    small = inline(graph)
    assert not any(isinstance(n.op, Reshape) for n in small.nodes())
    assert_same_results(GraphCase(graph, {"n": 3}, {}, 1), graph, small)


def test_what_a_reshape_hides_is_left_alone() -> None:
    facts = Facts((("i", dim("n") * 6),))
    assert unflatten((axis("i"),), (dim("n") * 6,), (dim("n"), 6), facts) is None
