"""Graphs print, and what is printed parses back to the same graph."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from support.graphs import GraphCase, graph_cases, same_graph

from nnc.ir import build
from nnc.ir import scalar as sc
from nnc.ir.expr import Apply, Const, Expr, Loaded, Position, Read
from nnc.ir.graph import Custom, Form, Graph, Node, Output
from nnc.ir.index import axis, dim, floordiv, mod
from nnc.ir.span import Span
from nnc.ir.text import GraphSyntaxError, parse_graph, print_expr, print_graph
from nnc.ir.types import DType, TensorType

F32, F64, I32, I64 = DType.F32, DType.F64, DType.I32, DType.I64


def around(node: Node) -> Graph:
    return Graph("g", (Output("output", "y", node),))


def round_trip(graph: Graph) -> None:
    text = print_graph(graph)
    again = parse_graph(text)
    assert same_graph(graph, again), text
    assert print_graph(again) == text


@given(graph_cases(steps=8))
@settings(max_examples=150)
def test_random_graphs_round_trip(case: GraphCase) -> None:
    round_trip(case.graph)


def test_a_graph_reads_like_the_mathematics() -> None:
    n = dim("batch")
    x = build.leaf("input", "image", TensorType(F32, (n, 64)))
    w = build.leaf("state", "fc.weight", TensorType(F32, (64, 128)))
    i, j = axis("b"), axis("j")
    h = build.contract("bp,pj->bj", x, w)
    t = build.elementwise(lambda a: sc.mul(sc.apply("tanh", a), sc.apply("tanh", a)), h)
    pad = build.form(
        [("b", n), ("j", 130)],
        (i, j),
        build.read(t, 0, i, j - 1, outside=0),
        (t,),
        (n, 130),
        where=sc.apply("lt", Position(j), Position(2 * i + floordiv(j, 4))),
        span=Span("m.nn", 17, 20),
    )
    assert print_graph(Graph("step", (Output("loss", "loss", pad),), (n - 3,)), spans=True) == (
        "graph step\n"
        "  fact batch - 3\n"
        "  %0 = leaf input:image : f32[batch, 64]\n"
        "  %1 = leaf state:fc.weight : f32[64, 128]\n"
        "  %2 = sum[b < batch, j < 128, p < 64] out[b, j] (%0[b, p] * %1[p, j])"
        " : f32[batch, 128]\n"
        "  %3 = none[i0 < batch, i1 < 128] out[i0, i1] (!0 = tanh(%2[i0, i1]); !0 * !0)"
        " : f32[batch, 128]\n"
        "  %4 = none[b < batch, j < 130] out[b, j] where (i64{j} < i64{2*b + (j // 4)})"
        " ((%3[b, j - 1] else 0)) : f32[batch, 130]  # m.nn:17\n"
        "  output loss:loss = %4\n"
    )


@pytest.mark.parametrize(
    "value",
    [0.0, -0.0, 1.5, -1e-30, 1e300, float("inf"), float("-inf"), float("nan"), 0.1],
)
def test_literals_keep_their_bits(value: float) -> None:
    x = build.leaf("input", "x", TensorType(F64, (2,)))
    round_trip(around(build.elementwise(lambda a: sc.add(a, Const(value, F64)), x)))
    round_trip(around(build.form([], (), Const(int(0 < value < 9), I64), (), ())))


def test_every_kind_of_expression() -> None:
    x = build.leaf("input", "x", TensorType(F32, (3,)))
    k = build.leaf("input", "k", TensorType(I32, (3,)))
    i = axis("i")
    a, b = build.read(x, 0, i), build.read(k, 1, i)
    whole = [
        sc.apply("floordiv", b, Const(-3, I32)),
        sc.apply("mod", sc.sub(b, sc.sub(b, Const(1, I32))), b),
        sc.apply("not", sc.apply("xor", b, sc.apply("shr", b, Const(1, I32)))),
        sc.apply("bitcast", a, dtype=I32),
        sc.cast(sc.apply("bitcast", b, dtype=DType.U32), I32),
    ]
    real: Expr = sc.apply("with_gradient", a, a, Const(2, F32))
    for w in whole:
        real = sc.add(sc.cast(w, F32), real)
    real = sc.select(
        sc.or_(sc.and_(sc.apply("le", a, real), Const(True, DType.BOOL)), sc.apply("eq", b, b)),
        sc.select(sc.not_(sc.apply("ne", a, real)), a, sc.neg(real)),
        sc.div(Position(3 - i, F32), sc.mul(sc.sub(a, real), sc.apply("pow", a, a))),
    )
    round_trip(around(build.form([("i", 3)], (i,), real, (x, k), (3,))))


def test_deep_expressions_are_cut_into_names() -> None:
    x = build.leaf("input", "x", TensorType(F32, ()))
    body: Expr = build.read(x, 0)
    for step in range(300):
        body = Apply("sub", (Const(step, F32), body), F32)
    text = print_expr(body, ("%0",))
    assert "!5 = " in text
    round_trip(around(build.form([], (), body, (x,), ())))


def test_shared_expressions_print_once() -> None:
    x = build.leaf("input", "x", TensorType(F32, ()))
    body: Expr = build.read(x, 0)
    for _ in range(60):
        body = sc.mul(sc.apply("tanh", body), sc.add(body, body))
    node = build.form([], (), body, (x,), ())
    assert len(print_graph(around(node))) < 10_000
    assert print_graph(parse_graph(print_graph(around(node)))) == print_graph(around(node))


def test_operands_out_of_order_or_repeated_are_listed() -> None:
    x = build.leaf("input", "x", TensorType(F32, (2,)))
    y = build.leaf("input", "y", TensorType(F32, (2,)))
    i = axis("i")
    body = sc.add(Read(1, (i,), F32), Read(0, (i,), F32))
    form = Form((("i", 2),), (i,), "none", body)
    swapped = Node(form, (x, y), TensorType(F32, (2,)))
    assert "none(%0, %1)[i < 2] out[i] (%1[i] + %0[i])" in print_graph(around(swapped))
    round_trip(around(swapped))
    doubled = Node(form, (x, x), TensorType(F32, (2,)))
    assert "none(%0, %0)[i < 2] out[i] (#1[i] + #0[i])" in print_graph(around(doubled))
    round_trip(around(doubled))
    unread = Node(form, (x, y, x), TensorType(F32, (2,)))
    round_trip(around(unread))


def test_subscripts_of_every_kind() -> None:
    n = dim("n")
    x = build.leaf("input", "x", TensorType(F32, (n, 9)))
    k = build.leaf("input", "k", TensorType(I32, (n,)))
    i, j = axis("i"), axis("j")
    guarded = Loaded(Read(1, (i - 1,), I32, 4)).as_poly()
    first = 2 * guarded - mod(3 * i - j + 5, 4) * n
    second = floordiv(mod(i, 7) + n, 2) - n * n * 3 + j * i - 1
    body = build.read(x, 0, first, second, outside=float("-inf"))
    node = build.form([("i", n), ("j", 9)], (i, mod(j + 1, 9)), body, (x, k), (n, 9), drops=True)
    round_trip(around(node))
    nested = Read(0, (build.loaded(k, 1, build.loaded(k, 1, i)), 0), F32)
    round_trip(around(build.form([("i", n)], (i,), nested, (x, k), (n,))))


def test_names_that_clash_or_need_quotes() -> None:
    n = dim("n")
    x = build.leaf("state", 'odd "name"\n', TensorType(F32, (n, dim("f32"))))
    axes = [("n", n), ("if", dim("f32"))]
    index = (axis("n") + n - n, axis("if"))
    body = sc.add(build.read(x, 0, *index), Position(n * axis("n") + axis("if") + dim("if"), F32))
    named = build.form(axes, index, body, (x,), (n, dim("f32")), name="a b")
    round_trip(Graph("leaf", (Output("gradient", "*", named), Output("state", "a.b:m", x))))
    unnamed = Node(x.op, (), x.type)
    round_trip(around(unnamed))


def test_literal_reshape_and_custom_nodes() -> None:
    values = build.literal([True, False, True, True], (2, 2), DType.BOOL)
    flat = build.reshape(values, (4,))
    x = build.leaf("input", "x", TensorType(F32, (4,)))
    cot = build.leaf("cotangent", "f", x.type)
    back = build.elementwise("mul", x, cot)
    custom = Node(Custom("f", (back, None)), (x, x, flat), x.type)
    round_trip(Graph("g", (Output("output", "y", custom), Output("output", "z", flat))))
    odd = build.literal([-0.0, 1e-7, float("inf")], (3,), F32)
    round_trip(around(odd))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("graph g\n  output output:y = %0", "line 2, column 21: %0 is not defined"),
        ("graph g\n  %0 = leaf input:x : f31[]", "column 23: no element type 'f31'"),
        ("graph g\n  %0 = plus[i < 2] out[i] (1.0f32) : f32[2]", "no operation 'plus'"),
        ("graph g\n  %0 = none[i < 2] out[i] (1.0f32 + 1i32) : f32[2]", "add: operands of one"),
        ("graph g\n  %0 = none[i < 2] out[i] (frob(1i32)) : f32[2]", "no operation 'frob'"),
        ("graph g\n  %0 = none[i < 2] out[i] (1.5) : f32[2]", "a literal with its type"),
        ("graph g\n  %0 = none[i < 2] out[i // 0] (1i32) : i32[2]", "a positive number"),
        ("graph g\n  %0 = none[i < 2] out[i] (#1[i]) : i32[2]", "no operand #1"),
        ("graph g\n  %0 = none[i < 2] out[i] (!1) : i32[2]", "!1 is not defined"),
        ("graph g\n  %0 = none[i < 2 out[i] (1i32) : i32[2]", "expected ','"),
        ("graph g\n  %0 = ~", "unexpected '~'"),
    ],
)
def test_faults_are_placed(text: str, message: str) -> None:
    with pytest.raises(GraphSyntaxError) as fault:
        parse_graph(text)
    assert message in str(fault.value)
