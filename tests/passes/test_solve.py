"""Solving scatters of all kinds: values kept, owners unique, pieces disjoint, text of key cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.graphs import GraphCase, assert_same_results, graph_cases

from nnc.ir import build, scalar
from nnc.ir.expr import Const
from nnc.ir.graph import Form, Graph, Node, Output
from nnc.ir.index import FloorDiv, Mod, Poly, Size, axes_of, axis, dim
from nnc.ir.interpret import evaluate_nodes
from nnc.ir.text import parse_graph, print_graph
from nnc.ir.types import DType, TensorType
from nnc.ir.verify import verify
from nnc.passes.autodiff import gradients
from nnc.passes.forms import owns
from nnc.passes.pieces import covers, pieces
from nnc.passes.pipeline import solve_scatters
from nnc.passes.solve import solve

F64 = DType.F64
X = build.leaf("input", "x", TensorType(F64, (5, 4)))
IDENTITY = {"sum": 0.0, "max": -np.inf, "min": np.inf, "prod": 1.0}
JOIN = {"sum": np.add, "max": np.maximum, "min": np.minimum, "prod": np.multiply}


@given(graph_cases())
@settings(max_examples=50)
def test_solving_keeps_values(case: GraphCase) -> None:
    solved = solve_scatters(case.graph)
    verify(solved)
    assert_same_results(case, case.graph, solved)


@st.composite
def scatters(draw: st.DrawFn) -> Node:
    """``out[a*i + b*u + c] (+)= x[i, u]`` with any signs, quotients and remainders too."""
    i, u = axis("i"), axis("u")
    a, b = (draw(st.integers(-4, 4)) for _ in range(2))
    c = draw(st.integers(-3, 6))
    kind = draw(st.sampled_from(["affine", "affine", "quotient", "both"]))
    k = draw(st.integers(2, 3))
    at = i + draw(st.integers(0, 3))
    assert isinstance(at, Poly)
    subscripts: list[Size]
    if kind == "affine":
        subscripts = [i * a + u * b + c]
    elif kind == "quotient":
        subscripts = [FloorDiv(at, k).as_poly() * draw(st.integers(1, 2)) + u * b]
    else:
        subscripts = [FloorDiv(at, k).as_poly(), Mod(at, k).as_poly()]
    shape = [draw(st.integers(1, 12)) for _ in subscripts]
    body: scalar.Expr = build.read(X, 0, i, u)
    if draw(st.booleans()):
        body = scalar.mul(body, scalar.add(build.read(X, 0, i, 0), Const(1.0, F64)))
    where = None
    if draw(st.booleans()):
        where = scalar.apply("lt", scalar.position(u), scalar.position(i))
    reduce = draw(st.sampled_from(["sum", "sum", "max", "min", "prod"]))
    axes = [("i", 5), ("u", draw(st.integers(1, 4)))]
    return build.form(axes, subscripts, body, [X], shape, reduce=reduce, where=where, drops=True)


@given(scatters(), st.integers(0, 99))
@settings(max_examples=200)
def test_scatters_of_all_kinds(node: Node, seed: int) -> None:
    leaves = {("input", "x"): np.random.default_rng(seed).normal(size=(5, 4))}
    (expected,) = evaluate_nodes([node], leaves)
    solved = solve(node)
    verify(Graph("g", (Output("output", "y", solved),)))
    np.testing.assert_allclose(evaluate_nodes([solved], leaves)[0], expected, atol=1e-12)
    assert isinstance(solved.op, Form)
    total, stores = _join_pieces(solved, leaves)
    np.testing.assert_allclose(total, expected, atol=1e-12)
    if owns(solved.op):
        assert stores.max(initial=0) <= 1
    if covers(pieces(solved), solved.type.shape):
        assert stores.min(initial=1) == 1


def _join_pieces(node: Node, leaves: dict) -> tuple[np.ndarray, np.ndarray]:
    assert isinstance(node.op, Form)
    kind = node.op.reduce if node.op.reduce != "none" else "sum"
    total = np.full(node.type.shape, IDENTITY[kind])
    stores = np.zeros(node.type.shape)
    for form in pieces(node):
        total = JOIN[kind](total, evaluate_nodes([Node(form, node.inputs, node.type)], leaves)[0])
        kept = frozenset(a for o in form.out for a in axes_of(o))
        axes = tuple((a, e) for a, e in form.axes if a in kept)
        marks = Form(axes, form.out, "sum", Const(1.0, F64), None, form.drops)
        stores += evaluate_nodes([Node(marks, (), node.type)], {})[0]
    return total, stores


def solved_gradient(text: str, wrt: str = "x") -> tuple[Node, list[str]]:
    """The solved gradient by a leaf of the sum of the graph's output, and its lines of text."""
    graph = parse_graph(text)
    y = graph.outputs[0].node
    (leaf,) = [n for n in graph.nodes() if n.name == wrt]
    dy = build.leaf("input", "dy", y.type)
    loss = build.reduce(build.elementwise("mul", y, dy), range(y.type.rank), "sum")
    (found,) = gradients(loss, [leaf], graph.facts)
    solved = solve(found, graph.facts)
    lines = print_graph(Graph("g", (Output("output", "d", solved),))).splitlines()
    return solved, [line.strip() for line in lines]


def test_data_gradient_of_a_padded_convolution() -> None:
    solved, lines = solved_gradient(
        """graph g
          %0 = leaf input:x : f32[n, 8, h]
          %1 = leaf state:w : f32[16, 8, 3]
          %2 = sum[b < n, o < 16, i < h, c < 8, u < 3] out[b, o, i]
               ((%0[b, c, i + u - 1] else 0) * %1[o, c, u]) : f32[n, 16, h]
          output output:y = %2
        """.replace("\n               ", " ")
    )
    assert lines[-2] == (
        "%3 = sum[b < n, o < 16, c < 8, u_q < 3, i_h < h] out[b, c, i_h] "
        '((%1[b, o, i_h - u_q + 1] else 0) * %2[o, c, u_q]) : f32[n, 8, h] "d_x"'
    )
    assert covers(pieces(solved), solved.type.shape)


def test_grouped_heads() -> None:
    """``k[a // 3]`` in the forward is a sum over the three heads of a group in the gradient."""
    _, lines = solved_gradient(
        """graph g
          %0 = leaf input:x : f32[2, n]
          %1 = leaf input:q : f32[6, n]
          %2 = none[a < 6, j < n] out[a, j] (%1[a, j] * %0[a//3, j]) : f32[6, n]
          output output:y = %2
        """
    )
    assert lines[-2] == (
        "%3 = sum[a_q < 2, a_r < 3, j < n] out[a_q, j] "
        '(%1[3*a_q + a_r, j] * %2[3*a_q + a_r, j]) : f32[2, n] "d_x"'
    )


def test_overlapping_max_pool() -> None:
    solved, _ = solved_gradient(
        """graph g
          %0 = leaf input:x : f64[n, h]
          %1 = max[b < n, i < h//2 - 1, u < 3] out[b, i] (%0[b, 2*i + u]) : f64[n, h//2 - 1]
          fact h - 6
          output output:y = %1
        """.replace("          fact h - 6\n", "").replace("graph g\n", "graph g\n fact h - 6\n")
    )
    assert isinstance(solved.op, Form)
    assert owns(solved.op)
    random = np.random.default_rng(1)
    x = random.normal(size=(2, 9))
    windows = np.stack([x[:, 2 * i : 2 * i + 3] for i in range(3)], 1)
    dy = random.normal(size=(2, 3))
    expected = np.zeros((2, 9))
    for b in range(2):
        for i in range(3):
            expected[b, 2 * i + windows[b, i].argmax()] += dy[b, i]
    leaves = {("input", "x"): x, ("input", "dy"): dy}
    np.testing.assert_allclose(evaluate_nodes([solved], leaves)[0], expected)


def test_what_cannot_be_solved_stays() -> None:
    n = dim("n")
    x = build.leaf("input", "x", TensorType(F64, (n, n)))
    i, j = axis("i"), axis("j")
    axes = [("i", n), ("j", n)]
    body = build.read(x, 0, i, j)
    diagonal = build.form(axes, [i + j, i + j], body, [x], (n * 2, n * 2), reduce="sum")
    by_size = build.form(axes, [i * n + j * n], body, [x], (n * n * 2,), reduce="sum")
    injective = build.form(axes, [i, i + j], body, [x], (n, n * 2), reduce="sum")
    for node in (diagonal, by_size, injective):
        assert solve(node) is node
    with pytest.raises(ValueError, match="the pieces of a Leaf"):
        pieces(x)


def test_an_axis_in_two_dims_does_not_cover() -> None:
    """What is off a diagonal is stored to by nobody, and has to be filled."""
    n, i, j = dim("n"), axis("i"), axis("j")
    one = Const(1.0, F64)
    diagonal = Form((("i", n),), (i, i), "none", one)
    assert not covers((diagonal,), (n, n))
    stripes = Form((("i", n), ("j", 2)), (i, i + n * j), "sum", one)
    assert not covers((stripes,), (n, 2 * n))
    plain = Form((("i", n), ("j", n)), (i, j), "none", one)
    assert covers((plain,), (n, n))
