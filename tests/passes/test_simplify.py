"""Simplification and folding: values kept on random graphs, key rewrites as text."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.graphs import GraphCase, assert_same_results, graph_cases

from nnc.ir import scalar
from nnc.ir.expr import Apply, Const, Expr, Read
from nnc.ir.graph import Form
from nnc.ir.index import axis
from nnc.ir.prove import Facts
from nnc.ir.scalar import OPS
from nnc.ir.text import parse_graph, print_graph
from nnc.ir.types import DType
from nnc.passes.fold import fold
from nnc.passes.rewrite import Anything, Applied, Exactly, Pattern, pattern
from nnc.passes.rules import RULES
from nnc.passes.simplify import simplify, simplify_expr

EDGES = [0.0, -0.0, 1.0, -1.0, 2.5, -3.25, math.inf, -math.inf, math.nan, 5e-324, 1e300]


@given(graph_cases())
@settings(max_examples=50)
def test_simplify_keeps_values(case: GraphCase) -> None:
    assert_same_results(case, case.graph, simplify(case.graph))


@given(graph_cases())
@settings(max_examples=50)
def test_fold_keeps_values(case: GraphCase) -> None:
    assert_same_results(case, case.graph, fold(case.graph))


@given(graph_cases(empty=False))
@settings(max_examples=50)
def test_simplify_is_idempotent(case: GraphCase) -> None:
    once = simplify(case.graph)
    assert print_graph(simplify(once)) == print_graph(once)


def names_in(p: Pattern) -> dict[str, bool]:
    match p:
        case Anything(name, literal):
            return {name: literal}
        case Applied(_, args):
            return {n: lit for a in args for n, lit in names_in(a).items()}
    return {}


def instance(p: Pattern, values: dict[str, Expr], dtype: DType) -> Expr:
    """The pattern with literals for its names; comparisons and truth are of type bool."""
    match p:
        case Anything(name):
            return values[name]
        case Exactly(value):
            return Const(value, DType.BOOL if isinstance(value, bool) else dtype)
        case Applied(op, args):
            parts = tuple(instance(a, values, dtype) for a in args)
            result = DType.BOOL if op in ("not", "and", "or") else dtype
            return Apply(op, parts, result)


def compute(e: Expr) -> float:
    match e:
        case Const(value):
            return value
        case Apply(op, args, dtype):
            from nnc.ir.scalar import numbers

            arrays = [numbers.literal(compute(a), a.dtype) for a in args]
            with np.errstate(all="ignore"):
                types = (*(a.dtype for a in args), dtype)
                return OPS[op].evaluate(arrays, types).item()
    raise AssertionError(e)


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.left)
@given(st.data())
@settings(max_examples=40)
def test_each_rule_is_exact(rule, data: st.DataObject) -> None:
    """On literals, infinities and NaN among them: the same value, sign of zero included."""
    left = pattern(rule.left)
    dtype = {"int": DType.I32}.get(rule.on, DType.F64)
    truths = rule.on == "bool" or rule.left.startswith(("not", "c "))
    numbers = st.sampled_from(EDGES if dtype is DType.F64 else [0, 1, -1, 7, -12])
    values: dict[str, Expr] = {}
    for name in names_in(left):
        if truths or name in ("c", "d"):
            values[name] = Const(data.draw(st.booleans()), DType.BOOL)
        else:
            values[name] = Const(data.draw(numbers), dtype)
    before = instance(left, values, dtype)
    if not all(OPS[op].result.__name__ != "whole" for op in _ops(left)) and dtype.is_float:
        dtype = DType.I32
        values = {n: Const(data.draw(st.sampled_from([0, 1, -7, 12])), dtype) for n in values}
        before = instance(left, values, dtype)
    right = pattern(rule.right) if isinstance(rule.right, str) else None
    after = rule.right(values) if right is None else instance(right, values, dtype)
    if after is None:
        return
    expected, got = compute(before), compute(after)
    if rule.why.startswith(("rounds twice", "as the cube")):
        assert got == pytest.approx(expected, rel=1e-14, nan_ok=True, abs=1e-300)
    elif isinstance(expected, float) and math.isnan(expected):
        assert math.isnan(got)
    else:
        assert got == expected
        assert math.copysign(1, got) == math.copysign(1, expected)


def _ops(p: Pattern) -> list[str]:
    match p:
        case Applied(op, args):
            return [op, *(o for a in args for o in _ops(a))]
    return []


def simplified(text: str) -> str:
    return print_graph(simplify(parse_graph(text)))


def canonical(text: str) -> str:
    return print_graph(parse_graph(text))


# A line of a form, and what it becomes; %0 = x f32[n, 4], %1 = dst i32[n], %2 = w f32[3].
LINES = [
    (
        "a guard of a product moves into the read",
        "sum[i < n, u < 3] out[i] (%2[u] * (if 0i64 <= i64{i + u - 1} and i64{i + u - 1} < i64{n}"
        " then (%0[i + u - 1, 0] else 0) else 0.0f32)) : f32[n]",
        "sum[i < n, u < 3] out[i] (%w[u] * (%x[i + u - 1, 0] else 0)) : f32[n]",
    ),
    (
        "a sum where an element of data is v is a scatter",
        "sum[v < 7, e < n, d < 4] out[v, d] where (%1[e] == i32{v}) (%0[e, d]) : f32[7, 4]",
        "sum[e < n, d < 4] out[%dst[e], d] drops (%x[e, d]) : f32[7, 4]",
    ),
    (
        "a sum over v where v is an element of data is a gather",
        "sum[e < n, v < 4] out[e] where (i32{v} == %1[e]) (%0[e, v]) : f32[n]",
        "none[e < n] out[e] ((%x[e, %dst[e]] else 0)) : f32[n]",
    ),
    (
        "places that are cast to the type of the data are the same places",
        "sum[v < n, e < n, d < 4] out[v, d] where (%1[e] == i32(i64{v})) (%0[e, d]) : f32[n, 4]",
        "sum[e < n, d < 4] out[%dst[e], d] drops (%x[e, d]) : f32[n, 4]",
    ),
    (
        "an element that is cut short is another number",
        "sum[v < 128, e < n] out[v] where (i8(%1[e]) == i8(i64{v})) (%0[e, 0]) : f32[128]",
        "sum[v < 128, e < n] out[v] where (i8(%dst[e]) == i8(i64{v})) (%x[e, 0]) : f32[128]",
    ),
    (
        "axes of one point and dead axes go",
        "sum[i < n, j < 1, k < 5] out[i] (%0[i, j] + 1.0f32) : f32[n]",
        "none[i < n] out[i] ((%x[i, 0] + 1.0f32) * 5.0f32) : f32[n]",
    ),
    (
        "conditions that the box implies go",
        "max[i < n, j < n] out[i] where (i64{j} <= i64{i} and i64{i} < i64{n} and 0i64 <= i64{j})"
        " (%0[j, 0]) : f32[n]",
        "max[i < n, j < n] out[i] where (i64{j} <= i64{i}) (%x[j, 0]) : f32[n]",
    ),
    (
        "a filter that nothing passes leaves zeros",
        "sum[i < n, j < 4] out[i] where (i64{i} < 0i64) (%0[i, j]) : f32[n]",
        "none[i0 < n] out[i0] (0.0f32) : f32[n]",
    ),
    (
        "a choice of 0 in a sum is a filter",
        "sum[i < n, j < 4] out[i] (if i64{i} + 1i64 <= i64{n} and i64{j} != 2i64 then %0[i, j]"
        " else 0.0f32) : f32[n]",
        "sum[i < n, j < 4] out[i] where (i64{j} != 2i64) (%x[i, j]) : f32[n]",
    ),
    (
        "casts that lose nothing, exact reciprocals, constants",
        "none[i < n] out[i] (f32(f64(f32(i32{i + 1}))) / 4.0f32 + 2.0f32 * 3.0f32) : f32[n]",
        "none[i < n] out[i] (f32(i32{i + 1}) * 0.25f32 + 6.0f32) : f32[n]",
    ),
    (
        "a sum of single points is no sum",
        "sum[i < n, j < 4] out[4*i + j] (%0[i, j]) : f32[4*n]",
        "none[i < n, j < 4] out[4*i + j] (%x[i, j]) : f32[4*n]",
    ),
]


@pytest.mark.parametrize(("line", "expected"), [c[1:] for c in LINES], ids=[c[0] for c in LINES])
def test_form_becomes(line: str, expected: str) -> None:
    leaves = (
        "%0 = leaf input:x : f32[n, 4]\n%1 = leaf input:dst : i32[n]\n%2 = leaf state:w : f32[3]"
    )
    graph = simplify(parse_graph(f"graph g\n{leaves}\n%3 = {line}\noutput output:y = %3\n"))
    text = print_graph(graph)
    names = {m[1]: m[2] for m in re.finditer(r"(%\d+) = leaf \w+:(\w+)", text)}
    got = text.splitlines()[-2].split(" = ", 1)[1]
    assert re.sub(r"%\d+", lambda m: f"%{names[m[0]]}", got) == expected


def test_views_of_views_and_copies_go() -> None:
    graph = parse_graph(
        """graph g
          %0 = leaf input:x : f32[n, 4]
          %1 = none[i < 4, j < n] out[i, j] (%0[j, i]) : f32[4, n]
          %2 = none[i < n, j < 4] out[i, j] (%1[j, i]) : f32[n, 4]
          %3 = reshape %2 : f32[4*n]
          %4 = reshape %3 : f32[n, 4]
          output output:y = %4
        """
    )
    assert print_graph(simplify(graph)).splitlines()[1:] == [
        "  %0 = leaf input:x : f32[n, 4]",
        "  output output:y = %0",
    ]


def test_facts_decide_conditions() -> None:
    graph = parse_graph(
        """graph g
          fact n - m
          %0 = leaf input:x : f32[n]
          %1 = none[i < m] out[i] (if i64{i} < i64{n} then (%0[i] else 0) else 0.0f32) : f32[m]
          output output:y = %1
        """
    )
    (node,) = [n for n in simplify(graph).nodes() if isinstance(n.op, Form)]
    assert isinstance(node.op, Form)
    assert node.op.body == Read(0, (axis("i"),), DType.F32)


def test_small_constants_are_computed() -> None:
    graph = parse_graph(
        """graph g
          %0 = literal [1.0, 2.0, 3.0] : f32[3]
          %1 = none[i < 3] out[i] (%0[i] * 2.0f32) : f32[3]
          %2 = sum[i < 3] out[] (%1[i]) : f32[]
          %3 = leaf input:x : f32[n]
          %4 = none[i < n] out[i] (%3[i] * %2[]) : f32[n]
          output output:y = %4
        """
    )
    assert "12.0f32" in print_graph(fold(graph))
    assert "literal" not in print_graph(fold(graph))


def test_positions_join() -> None:
    i = axis("i")
    e = scalar.add(scalar.mul(scalar.position(i), scalar.position(3)), scalar.position(i + 1))
    assert simplify_expr(e, Facts((("i", 5),))) == scalar.position(i * 4 + 1)
