"""The verifier takes every graph that is well formed, and says what is wrong with others."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from support.graphs import GraphCase, graph_cases

from nnc.ir import build
from nnc.ir import scalar as sc
from nnc.ir.expr import Apply, Const, Expr, Position, Read
from nnc.ir.graph import Custom, Form, Graph, Literal, Node, Op, Output, Reshape
from nnc.ir.index import Size, axis, dim, floordiv
from nnc.ir.types import DType, TensorType
from nnc.ir.verify import VerifyError, verify

F32, F64, I32, BOOL = DType.F32, DType.F64, DType.I32, DType.BOOL
N = dim("n")
AT, J = axis("i"), axis("j")
X = build.leaf("input", "x", TensorType(F32, (N, 4)))
K = build.leaf("input", "k", TensorType(I32, (N,)))


def around(node: Node, *facts: Size) -> Graph:
    return Graph("g", (Output("output", "y", node),), facts)


def form(
    body: Expr,
    *,
    out: tuple[Size, ...] = (AT, J),
    reduce: str = "none",
    type: TensorType = X.type,
    axes: tuple[tuple[str, Size], ...] = (("i", N), ("j", 4)),
    where: Expr | None = None,
) -> Node:
    return Node(Form(axes, out, reduce, body, where), (X, K), type)


READ = Read(0, (AT, J), F32)


@given(graph_cases(steps=8))
@settings(max_examples=150)
def test_random_graphs_are_well_formed(case: GraphCase) -> None:
    verify(case.graph, bounds=True)


BAD_FORMS = [
    (form(Read(2, (AT,), F32)), "operand 2 of 2"),
    (form(Read(0, (AT,), F32)), "1 subscripts into operand 0, f32[n, 4]"),
    (form(Read(0, (AT, J), F64)), "a read of type f64 from f32[n, 4]"),
    (form(Read(0, (AT, axis("p")), F32)), "subscripted by p, no axis"),
    (form(Read(0, (AT, J), F32, outside=1), where=READ), "a filter of type f32"),
    (form(Position(AT, BOOL)), "a position of type bool"),
    (form(READ, out=(AT,)), "1 subscripts for a result of rank 2"),
    (form(READ, reduce="mean"), "no reduction 'mean'"),
    (form(READ, axes=(("i", N), ("i", 4), ("j", 4))), "two axes of one name"),
    (form(READ, axes=(("i", N), ("j", AT))), "the extent $i of j holds more than dims"),
    (form(READ, type=TensorType(F32, (N, AT))), "the size $i holds more than dims"),
    (form(READ, type=TensorType(F32, (N, -1))), "the size -1 is negative"),
    (form(READ, type=TensorType(F64, (N, 4))), "a result of type f64 where none gives f32"),
    (form(READ, reduce="argmax"), "a result of type f32 where argmax gives i32"),
    (form(READ, reduce="any"), "any of f32"),
    (form(Const(True, BOOL), reduce="sum"), "sum of bool"),
    (form(Apply("add", (READ, Const(1, F64)), F32)), "in #0[i, j] + 1.0f64"),
    (form(Apply("add", (READ,), F32)), "add takes 2 operands, not 1"),
    (form(Apply("lt", (READ, READ), F32)), "f32 where bool comes"),
    (form(Apply("frob", (READ,), F32)), "no scalar operation 'frob'"),
    (form(Const(300, DType.U8), type=TensorType(DType.U8, (N, 4))), "300 is no u8"),
    (form(READ, out=(AT, 0)), "the result must mention j < 4"),
    (
        form(Const(1, F32), axes=(("i", 4), ("j", 4)), out=(AT + J, 0)),
        "the element (1, 0) is stored twice",
    ),
    (
        form(Const(1, F32), axes=(("i", 4), ("j", 4)), out=(floordiv(AT, 2), J)),
        "the element (0, 0) is stored twice",
    ),
]


@pytest.mark.parametrize(("node", "reason"), BAD_FORMS, ids=[reason for _, reason in BAD_FORMS])
def test_malformed_forms(node: Node, reason: str) -> None:
    with pytest.raises(VerifyError) as fault:
        verify(around(node))
    assert reason in fault.value.reason
    assert fault.value.node is node


def of(op: Op, inputs: tuple[Node, ...], type: TensorType) -> Node:
    return Node(op, inputs, type)


BAD_NODES = [
    (of(X.op, (X,), X.type), "a leaf has no operands"),
    (of(Literal((1, 2)), (), TensorType(F32, (3,))), "2 values for f32[3]"),
    (of(Literal((1,)), (), TensorType(F32, (N,))), "a literal of the symbolic size n"),
    (of(Literal((0.5,)), (), TensorType(I32, (1,))), "0.5 is no i32"),
    (of(Literal((float("nan"),)), (), TensorType(I32, (1,))), "nan is no i32"),
    (of(Literal((2,)), (), TensorType(BOOL, (1,))), "2 is no truth value"),
    (of(Reshape(), (X,), TensorType(F32, (N, 3))), "f32[n, 4] has 4*n elements, not 3*n"),
    (of(Reshape(), (X,), TensorType(F64, (4 * N,))), "a reshape of f32 to f64"),
    (of(Reshape(), (), X.type), "a reshape has one operand"),
    (of(Custom("f", ()), (X, X), X.type), "one gradient for each further operand"),
    (of(Custom("f", (K,)), (X, X), X.type), "a gradient i32[n] for f32[n, 4]"),
    (of(Custom("f", ()), (X,), K.type), "i32[n] for a value f32[n, 4]"),
]


@pytest.mark.parametrize(("node", "reason"), BAD_NODES, ids=[reason for _, reason in BAD_NODES])
def test_malformed_nodes(node: Node, reason: str) -> None:
    with pytest.raises(VerifyError) as fault:
        verify(around(node))
    assert reason in fault.value.reason


def test_what_may_be_stored_twice_is_not_refused_where_it_is_not_known() -> None:
    diagonal = sc.apply("eq", Position(AT), Position(J))
    verify(around(form(READ, out=(AT, 0), where=diagonal)))
    verify(around(form(READ, out=(AT, 0), axes=(("i", N), ("j", 1)))))
    verify(around(form(Const(1, F32), out=(AT, 0), axes=(("i", N), ("j", N))), 1 - N))
    verify(around(form(Const(1, F32), out=(AT, 0), axes=(("i", N), ("j", 0)))))


def test_graphs_as_a_whole() -> None:
    other = build.leaf("input", "x", TensorType(F32, (N,)))
    both = build.elementwise("add", build.reduce(X, (1,), "sum"), other)
    with pytest.raises(VerifyError, match="the same leaf is"):
        verify(around(both))
    twice = Graph("g", (Output("loss", "l", X), Output("loss", "l", K)))
    with pytest.raises(VerifyError, match="two outputs loss:l"):
        verify(twice)
    with pytest.raises(VerifyError, match="more than dims"):
        verify(around(X, AT - 1))


def test_bounds_are_proven_from_box_filter_and_facts() -> None:
    shifted = form(Read(0, (AT + 1, J), F32))
    verify(around(shifted))
    with pytest.raises(VerifyError, match="not proven to lie inside"):
        verify(around(shifted), bounds=True)
    inner = sc.apply("lt", Position(AT), Position(N - 1))
    verify(around(form(Read(0, (AT + 1, J), F32), where=inner)), bounds=True)
    fixed = form(Read(0, (AT, J), F32), axes=(("i", 3), ("j", 4)))
    with pytest.raises(VerifyError, match="the store at"):
        verify(around(fixed), bounds=True)
    verify(around(fixed, N - 3), bounds=True)
    with pytest.raises(VerifyError, match="the store at"):
        verify(around(form(READ, out=(AT + 1, J))), bounds=True)


def test_the_message_shows_operands_and_users() -> None:
    bad = form(Apply("add", (READ, Const(1, F64)), F32))
    user = build.elementwise("neg", bad)
    with pytest.raises(VerifyError) as fault:
        verify(around(user))
    assert str(fault.value).splitlines()[1:] == [
        "  %0 = leaf input:x : f32[n, 4]",
        "  %1 = leaf input:k : i32[n]",
        "> %2 = none(%0, %1)[i < n, j < 4] out[i, j] (%0[i, j] + 1.0f64) : f32[n, 4]",
        "  %3 = none[i0 < n, i1 < 4] out[i0, i1] (neg(%2[i0, i1])) : f32[n, 4]",
    ]


def test_written_gradients_are_verified_too() -> None:
    bad = form(Read(0, (AT, J), F64))
    custom = Node(Custom("f", (bad,)), (X, X), X.type)
    with pytest.raises(VerifyError, match="a read of type f64"):
        verify(around(custom))
