"""The interpreter against NumPy written by hand, form by form."""

from __future__ import annotations

import numpy as np
import pytest

from nnc.ir import build, interpret_form
from nnc.ir import scalar as sc
from nnc.ir.expr import Const, Position, Read
from nnc.ir.graph import Custom, Graph, Node, Output
from nnc.ir.index import axis, dim, floordiv, mod
from nnc.ir.interpret import IndexFault, InterpretError, bind_dims, evaluate, evaluate_nodes
from nnc.ir.types import DType, TensorType

F32, F64, I32, I64, BOOL = DType.F32, DType.F64, DType.I32, DType.I64, DType.BOOL
RNG = np.random.default_rng(5)


def tensor(name: str, *shape, dtype: DType = F64) -> Node:
    return build.leaf("input", name, TensorType(dtype, shape))


def value(node: Node, dims: dict[str, int] | None = None, **arrays: np.ndarray) -> np.ndarray:
    leaves = {("input", name): array for name, array in arrays.items()}
    (result,) = evaluate_nodes([node], leaves, dims)
    return result


def real(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape)


def test_contraction_over_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpret_form, "CHUNK", 7)
    n = dim("n")
    x, w = real(5, 4), real(4, 3)
    node = build.contract("ij,jk->ik", tensor("x", n, 4), tensor("w", 4, 3))
    np.testing.assert_allclose(value(node, x=x, w=w), x @ w)


@pytest.mark.parametrize("size", [0, 1, 6])
def test_views(size: int) -> None:
    n = dim("n")
    x = real(size, 3)
    t = tensor("x", n, 3)
    np.testing.assert_array_equal(value(build.transpose(t, (1, 0)), x=x), x.T)
    stretched = build.broadcast(t, (2, n, 3))
    np.testing.assert_array_equal(value(stretched, x=x), np.broadcast_to(x, (2, size, 3)))
    flat = build.reshape(t, (3 * n,))
    np.testing.assert_array_equal(value(flat, x=x), x.reshape(-1))
    flip = build.form(
        [("i", n), ("j", 3)],
        (axis("i"), axis("j")),
        build.read(t, 0, axis("i"), 2 - axis("j")),
        (t,),
        (n, 3),
    )
    np.testing.assert_array_equal(value(flip, x=x), x[:, ::-1])


@pytest.mark.parametrize("kind", ["sum", "prod", "max", "min"])
@pytest.mark.parametrize("dtype", [F64, F32, I32, I64, DType.U8])
def test_reductions(kind: str, dtype: DType) -> None:
    x = RNG.integers(1, 5, (3, 4, 5)).astype(dtype.numpy)
    node = build.reduce(tensor("x", 3, 4, 5, dtype=dtype), (0, 2), kind, keep=True)
    got = value(node, x=x)
    np.testing.assert_array_equal(
        got,
        getattr(np, kind)(x, axis=(0, 2), keepdims=True, dtype=x.dtype)
        if kind in ("sum", "prod")
        else getattr(np, kind)(x, axis=(0, 2), keepdims=True),
    )
    assert got.dtype == dtype.numpy


def test_reductions_of_nothing() -> None:
    n = dim("n")
    x = np.zeros((0, 2))
    t = tensor("x", n, 2)
    expected = {"sum": 0, "prod": 1, "max": -np.inf, "min": np.inf, "argmax": 0, "argmin": 0}
    for kind, empty in expected.items():
        np.testing.assert_array_equal(value(build.reduce(t, (0,), kind), x=x), [empty] * 2)
    whole = tensor("x", n, dtype=I32)
    none = np.zeros(0, np.int32)
    assert value(build.reduce(whole, (0,), "max"), x=none) == -(2**31)
    truth = tensor("x", n, dtype=BOOL)
    assert not value(build.reduce(truth, (0,), "any"), x=none.astype(bool))
    assert value(build.reduce(truth, (0,), "all"), x=none.astype(bool))


def test_argmax_takes_the_first_best_and_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpret_form, "CHUNK", 2)
    x = np.array([[1, 3, 3], [2, 2, 2], [5, np.nan, np.nan], [-np.inf, -np.inf, -np.inf]])
    t = tensor("x", 4, 3)
    np.testing.assert_array_equal(value(build.reduce(t, (1,), "argmax"), x=x), [1, 0, 1, 0])
    np.testing.assert_array_equal(value(build.reduce(t, (1,), "argmin"), x=x), [0, 0, 1, 0])
    np.testing.assert_array_equal(value(build.reduce(t, (0, 1), "argmax"), x=x), 7)
    lowest = np.array([-128, 127, -128], np.int8)
    s = tensor("s", 3, dtype=DType.I8)
    assert value(build.reduce(s, (0,), "argmin"), s=lowest) == 0
    assert value(build.reduce(s, (0,), "argmax"), s=lowest) == 1


def test_argmax_counts_in_the_order_of_axes_not_of_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpret_form, "CHUNK", 1)
    t = tensor("x", 2, 3)
    j_then_i = build.form(
        [("j", 3), ("i", 2)],
        (),
        build.read(t, 0, axis("i"), axis("j")),
        (t,),
        (),
        reduce="argmax",
    )
    x = np.array([[0.0, 7, 1], [7, 2, 7]])
    assert value(j_then_i, x=x) == 1


def test_guards_give_the_stated_value() -> None:
    t = tensor("x", 4)
    i = axis("i")
    padded = build.form([("i", 6)], (i,), build.read(t, 0, i - 1, outside=-1.5), (t,), (6,))
    np.testing.assert_array_equal(value(padded, x=np.arange(4.0)), [-1.5, 0, 1, 2, 3, -1.5])
    empty = build.form(
        [("i", 2)],
        (i,),
        build.read(tensor("x", dim("n")), 0, i, outside=9),
        (tensor("x", dim("n")),),
        (2,),
    )
    np.testing.assert_array_equal(value(empty, x=np.zeros(0)), [9, 9])


def test_div_and_mod_subscripts_and_strided_stores() -> None:
    t = tensor("x", 6)
    i = axis("i")
    fold = build.form(
        [("i", 6)],
        (floordiv(i, 2), mod(i, 2)),
        build.read(t, 0, i),
        (t,),
        (3, 2),
    )
    x = np.arange(6.0)
    np.testing.assert_array_equal(value(fold, x=x), x.reshape(3, 2))
    spread = build.form([("i", 6)], (2 * i + 1,), build.read(t, 0, i), (t,), (9,), drops=True)
    np.testing.assert_array_equal(value(spread, x=x + 1), [0, 1, 0, 2, 0, 3, 0, 4, 0])


def test_filters_keep_the_body_from_what_they_leave_out() -> None:
    t = tensor("x", 3)
    i, e = axis("i"), axis("e")
    before = build.form(
        [("i", 5)],
        (i,),
        build.read(t, 0, i),
        (t,),
        (5,),
        where=sc.apply("lt", Position(i), Const(3, I64)),
    )
    np.testing.assert_array_equal(value(before, x=np.ones(3)), [1, 1, 1, 0, 0])
    ids = tensor("ids", 4, dtype=I32)
    m = tensor("m", 4)
    scatter = build.form(
        [("v", 3), ("e", 4)],
        (axis("v"),),
        build.read(m, 0, e),
        (m, ids),
        (3,),
        reduce="sum",
        where=sc.apply("eq", build.read(ids, 1, e), Position(axis("v"), I32)),
    )
    got = value(scatter, ids=np.array([2, 0, 2, 7], np.int32), m=np.array([1.0, 2, 3, 4]))
    np.testing.assert_array_equal(got, [2, 0, 4])


def test_gather_scatter_and_their_faults() -> None:
    table, ids = tensor("table", 3, 2), tensor("ids", dim("n"), dtype=I64)
    rows = real(3, 2)
    picked = np.array([2, 0, 2])
    gathered = build.gather(table, ids)
    np.testing.assert_array_equal(value(gathered, table=rows, ids=picked), rows[picked])
    with pytest.raises(IndexFault) as fault:
        value(gathered, table=rows, ids=np.array([0, 3, -1]))
    assert (fault.value.tensor, fault.value.value, fault.value.limit) == ("input:table", 3, 3)
    assert fault.value.place == "subscript 0 at i0 = 1, i1 = 0"
    e = axis("e")
    messages = tensor("m", dim("n"))
    spread = build.form(
        [("e", dim("n"))],
        (build.loaded(ids, 1, e),),
        build.read(messages, 0, e),
        (messages, ids),
        (3,),
        reduce="sum",
    )
    got = value(spread, m=np.array([1.0, 2, 4]), ids=picked)
    np.testing.assert_array_equal(got, [2, 0, 5])
    with pytest.raises(IndexFault, match="the result"):
        value(spread, m=np.ones(1), ids=np.array([3]))


def test_second_store_is_refused() -> None:
    t = tensor("x", 4)
    twice = build.form(
        [("i", 4)], (floordiv(axis("i"), 2),), build.read(t, 0, axis("i")), (t,), (2,)
    )
    with pytest.raises(ValueError, match="twice"):
        value(twice, x=np.ones(4))


def test_arithmetic_stays_in_its_type() -> None:
    x = np.array([1e-8, 16777216.0], np.float32)
    t = tensor("x", 2, dtype=F32)
    plus = build.elementwise(lambda a: sc.add(a, Const(1, F32)), t)
    np.testing.assert_array_equal(value(plus, x=x), (x + np.float32(1)).astype(np.float32))
    whole = build.elementwise("mul", tensor("k", 1, dtype=I32), tensor("k", 1, dtype=I32))
    assert value(whole, k=np.array([2**17], np.int32)) == 0
    bf16 = tensor("h", 3, dtype=DType.BF16)
    bits = np.array([0x3F80, 0x4000, 0x7F80], np.uint16)
    doubled = build.elementwise(lambda a: sc.add(a, a), bf16)
    np.testing.assert_array_equal(value(doubled, h=bits), [0x4000, 0x4080, 0x7F80])
    wide = value(build.cast(bf16, F32), h=bits)
    np.testing.assert_array_equal(wide, np.array([1, 2, np.inf], np.float32))
    # 1 + 2^-9 has no bf16: it must be rounded between the operations, not after them.
    eps = Const(2.0**-9, DType.BF16)
    one = np.array([0x3F80], np.uint16)
    h1 = tensor("h", 1, dtype=DType.BF16)
    steps = build.elementwise(lambda a: sc.add(sc.add(a, eps), eps), h1)
    assert value(steps, h=one) == 0x3F80


def test_deep_graphs_and_deep_bodies() -> None:
    node = tensor("x", 2)
    for _ in range(3000):
        node = build.elementwise("neg", node)
    np.testing.assert_array_equal(value(node, x=np.array([1.0, 2.0])), [1, 2])


def test_dims_are_found_from_the_leaves() -> None:
    n, m = dim("n"), dim("m")
    nodes = [tensor("a", 2 * n + 1, m), tensor("b", n * m)]
    arrays = {("input", "a"): np.zeros((7, 2)), ("input", "b"): np.zeros(6)}
    assert bind_dims(nodes, arrays) == {"n": 3, "m": 2}
    arrays[("input", "b")] = np.zeros(5)
    with pytest.raises(InterpretError, match="input:b"):
        bind_dims(nodes, arrays)
    with pytest.raises(InterpretError, match="no value for n"):
        value(build.full((n,), 1.0, F64))
    assert value(build.full((n,), 1.0, F64), {"n": 2}).shape == (2,)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InterpretError, match="nothing is given"):
        value(tensor("x", 2))
    with pytest.raises(InterpretError, match="f64"):
        value(tensor("x", 2), x=np.zeros(2, np.float32))
    with pytest.raises(InterpretError, match="shape"):
        value(tensor("x", 2), x=np.zeros((2, 1)))
    graph = Graph("g", (Output("output", "y", tensor("x", dim("n"))),), (dim("n") - 3,))
    with pytest.raises(InterpretError, match=">= 0"):
        evaluate(graph, {("input", "x"): np.zeros(2)})


def test_outputs_literals_and_custom_nodes() -> None:
    x = tensor("x", 2)
    cot = build.leaf("cotangent", "f", x.type)
    custom = Node(Custom("f", (cot,)), (x, x), x.type)
    graph = Graph(
        "g",
        (
            Output("output", "y", custom),
            Output("loss", "l", build.literal([1, 2], (2,), DType.U64)),
        ),
    )
    given = np.array([1.0, 2.0])
    got = evaluate(graph, {("input", "x"): given})
    np.testing.assert_array_equal(got["output", "y"], given)
    assert not np.shares_memory(got["output", "y"], given)
    assert got["loss", "l"].dtype == np.uint64


def test_positions_take_their_type() -> None:
    i = axis("i")
    node = build.form([("i", 3)], (i,), Position(2 * i - 1 + dim("n"), F32), (), (3,))
    got = value(node, {"n": 10})
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, [9, 11, 13])


def test_unread_operand_numbers_are_tidied() -> None:
    a, b = tensor("a", 2), tensor("b", 2)
    i = axis("i")
    node = build.form(
        [("i", 2)], (i,), sc.add(Read(2, (i,), F64), Read(1, (i,), F64)), (a, b, b), (2,)
    )
    assert node.inputs == (b,)
    np.testing.assert_array_equal(value(node, b=np.array([1.0, 2.0])), [2, 4])
