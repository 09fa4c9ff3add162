"""Gradients against finite differences: every primitive, reduction and kind of node."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.finite_differences import check, check_twice, weighted

from nnc.ir import build, scalar
from nnc.ir.expr import Const
from nnc.ir.graph import Custom, Form, Leaf, Node
from nnc.ir.index import FloorDiv, Mod, axis
from nnc.ir.interpret import evaluate_nodes
from nnc.ir.scalar import OPS
from nnc.ir.types import DType, TensorType
from nnc.passes.autodiff import NotDifferentiable, gradients, reaches

F64, I32, BOOL = DType.F64, DType.I32, DType.BOOL
SMOOTH = [
    name
    for name, op in OPS.items()
    if all(t is F64 for t in op.sample.types)
    and op.sample.target is None
    # These two differ from their values' derivative on purpose.
    and name not in ("stop_gradient", "with_gradient")
]
shapes = st.lists(st.integers(0, 3), max_size=3).map(tuple)
seeds = st.integers(0, 1000)


def given_leaf(name: str, shape: tuple[int, ...], dtype: DType = F64) -> Node:
    return build.leaf("input", name, TensorType(dtype, shape))


def uniform(seed: int, shape: tuple[int, ...], low: float, high: float) -> np.ndarray:
    return np.random.default_rng(seed).uniform(low, high, shape)


@pytest.mark.parametrize("name", SMOOTH)
@given(shapes, seeds, st.data())
@settings(max_examples=12)
def test_every_scalar_operation(
    name: str, shape: tuple[int, ...], seed: int, data: st.DataObject
) -> None:
    op = OPS[name]
    leaves, nodes, reads = {}, [], []
    axes = build.axes_for(shape)
    here = build.subscripts(axes)
    for k, (low, high) in enumerate(op.sample.ranges):
        ones = [data.draw(st.booleans()) for _ in shape]
        own = tuple(1 if one else n for one, n in zip(ones, shape, strict=True))
        own = own[data.draw(st.integers(0, len(own))) :]
        node = given_leaf(f"x{k}", own)
        leaves["input", f"x{k}"] = uniform(seed + k, own, low, high)
        last = zip(own, shape[len(shape) - len(own) :], here[len(shape) - len(own) :], strict=True)
        reads.append(build.read(node, k, *(0 if m == 1 != n else a for m, n, a in last)))
        nodes.append(node)
    body = scalar.apply(name, *reads)
    if body.dtype is not F64:
        return
    y = build.form(axes, here, body, nodes, shape)
    check(weighted(y), nodes, leaves)


@given(st.sampled_from(["exp", "tanh", "sqrt", "log", "rsqrt", "erf", "sin"]), seeds)
@settings(max_examples=20)
def test_second_derivatives(name: str, seed: int) -> None:
    x, w = given_leaf("x", (3,)), given_leaf("w", (3, 2))
    leaves = {
        ("input", "x"): uniform(seed, (3,), 0.5, 2),
        ("input", "w"): uniform(seed, (3, 2), 0.2, 1),
    }
    y = build.elementwise(name, build.contract("i,ij->j", x, w))
    check_twice(weighted(build.elementwise("mul", y, y)), [x, w], leaves)


@given(st.sampled_from(["sum", "prod", "max", "min"]), shapes, seeds, st.data())
@settings(max_examples=60)
def test_every_reduction(kind: str, shape: tuple[int, ...], seed: int, data: st.DataObject) -> None:
    gone = [k for k in range(len(shape)) if data.draw(st.booleans())]
    if kind in ("max", "min") and 0 in shape:
        return
    x = given_leaf("x", shape)
    y = build.reduce(x, gone, kind)
    leaves = {("input", "x"): uniform(seed, shape, -2, 2)}
    check_twice(weighted(build.elementwise("mul", y, y)), [x], leaves)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([2.0, 3.0, 4.0], [12.0, 8.0, 6.0]),
        ([2.0, 0.0, 4.0], [0.0, 8.0, 0.0]),
        ([0.0, 3.0, 0.0], [0.0, 0.0, 0.0]),
    ],
)
def test_product_with_zeros(values: list[float], expected: list[float]) -> None:
    x = given_leaf("x", (3,))
    (dx,) = gradients(build.reduce(x, [0], "prod"), [x])
    got = evaluate_nodes([dx], {("input", "x"): np.array(values)})[0]
    assert got.tolist() == expected


@pytest.mark.parametrize(("kind", "values"), [("max", [1.0, 5.0, 5.0]), ("min", [3.0, 2.0, 2.0])])
def test_ties_credit_the_first(kind: str, values: list[float]) -> None:
    x = given_leaf("x", (3,))
    (dx,) = gradients(build.reduce(x, [0], kind), [x])
    got = evaluate_nodes([dx], {("input", "x"): np.array(values)})[0]
    assert got.tolist() == [0.0, 1.0, 0.0]


def test_maximum_over_two_axes_with_a_filter() -> None:
    x = given_leaf("x", (3, 4, 5))
    a, i, j = axis("a"), axis("i"), axis("j")
    y = build.form(
        [("i", 4), ("a", 3), ("j", 5)],
        [a],
        build.read(x, 0, a, i, j),
        [x],
        (3,),
        reduce="max",
        where=scalar.apply("lt", scalar.position(i + j), scalar.position(a * 3)),
    )
    leaves = {("input", "x"): uniform(3, (3, 4, 5), -1, 1)}
    (dx,) = gradients(weighted(build.elementwise("max", y, build.full((3,), -9.0, F64))), [x])
    got = evaluate_nodes([dx], leaves)[0]
    assert got[0].any() == False  # noqa: E712 - nothing passes the filter there
    assert (got[1:] != 0).sum() == 2


def test_maximum_of_zero_and_x_is_flat_at_zero() -> None:
    x = given_leaf("x", (3,))
    relu = build.elementwise(lambda v: scalar.maximum(v, Const(0, F64)), x)
    (dx,) = gradients(build.reduce(relu, [0], "sum"), [x])
    got = evaluate_nodes([dx], {("input", "x"): np.array([-1.0, 0.0, 2.0])})[0]
    assert got.tolist() == [0.0, 0.0, 1.0]


def test_side_not_taken_contributes_nothing() -> None:
    """``sqrt(if x > 0 then x else 0)`` is flat at 0, though the root's slope is infinite."""
    x = given_leaf("x", (2,))

    def body(v: scalar.Expr) -> scalar.Expr:
        zero = Const(0, F64)
        return scalar.apply("sqrt", scalar.select(scalar.apply("gt", v, zero), v, zero))

    (dx,) = gradients(build.reduce(build.elementwise(body, x), [0], "sum"), [x])
    got = evaluate_nodes([dx], {("input", "x"): np.array([0.0, 4.0])})[0]
    assert got.tolist() == [0.0, 0.25]


@given(seeds, st.integers(1, 6), st.integers(1, 3), st.integers(0, 2))
@settings(max_examples=30)
def test_shared_guarded_and_scattered_reads(seed: int, n: int, s: int, p: int) -> None:
    """One tensor read by several maps, one of them padded; the result scattered."""
    x = given_leaf("x", (n,))
    i, u = axis("i"), axis("u")
    body = scalar.mul(
        build.read(x, 0, i + u - p, outside=0), scalar.add(build.read(x, 0, i), build.read(x, 0, 0))
    )
    size = s * (n - 1) + 3 - 1
    y = build.form(
        [("i", n), ("u", 3)], [i * s + u - 1], body, [x], (size,), reduce="sum", drops=True
    )
    check_twice(weighted(y), [x], {("input", "x"): uniform(seed, (n,), -1, 1)})


@given(seeds, st.integers(1, 9), st.integers(2, 3), st.integers(0, 2))
@settings(max_examples=30)
def test_reads_by_quotient_and_remainder(seed: int, n: int, k: int, c: int) -> None:
    x, y = given_leaf("x", ((n + c - 1) // k + 1,)), given_leaf("y", (k,))
    i = axis("i")
    quotient, remainder = FloorDiv(i + c, k).as_poly(), Mod(i + c, k).as_poly()
    body = scalar.mul(build.read(x, 0, quotient), build.read(y, 1, remainder))
    z = build.form([("i", n)], [i], body, [x, y], (n,))
    leaves = {
        ("input", "x"): uniform(seed, x.type.shape, -1, 1),
        ("input", "y"): uniform(seed + 1, y.type.shape, -1, 1),
    }
    check_twice(weighted(z), [x, y], leaves)


def test_gather_gives_scatter_add_and_back() -> None:
    table, ids = given_leaf("t", (5, 2)), given_leaf("ids", (2, 3), I32)
    leaves = {
        ("input", "t"): uniform(1, (5, 2), -1, 1),
        ("input", "ids"): np.array([[0, 4, 4], [2, 0, 4]], np.int32),
    }
    rows = build.gather(table, ids)
    check_twice(weighted(build.elementwise("mul", rows, rows)), [table], leaves)


def test_reshape_and_reused_nodes() -> None:
    x = given_leaf("x", (2, 6))
    y = build.reshape(build.elementwise("exp", x), (3, 4))
    z = build.elementwise("mul", y, build.elementwise("tanh", y))
    check_twice(weighted(z), [x], {("input", "x"): uniform(2, (2, 6), -1, 1)})


def test_leaves_are_matched_by_name() -> None:
    first, second = given_leaf("x", (2,)), given_leaf("x", (2,))
    loss = build.reduce(build.elementwise("mul", first, second), [0], "sum")
    check(loss, [given_leaf("x", (2,))], {("input", "x"): np.array([3.0, 4.0])})


def test_stop_gradient_and_with_gradient() -> None:
    x = given_leaf("x", (2,))

    def stopped(v: scalar.Expr) -> scalar.Expr:
        return scalar.mul(v, scalar.apply("stop_gradient", v))

    def written(v: scalar.Expr) -> scalar.Expr:
        return scalar.with_value(scalar.mul(v, v), (v, Const(7, F64)))

    leaves = {("input", "x"): np.array([3.0, 4.0])}
    for body, expected in ((stopped, [3.0, 4.0]), (written, [7.0, 7.0])):
        (dx,) = gradients(build.reduce(build.elementwise(body, x), [0], "sum"), [x])
        assert evaluate_nodes([dx], leaves)[0].tolist() == expected


def test_written_derivative() -> None:
    x = given_leaf("x", (3,))
    value = build.elementwise("exp", x)
    cotangent = Node(Leaf("cotangent", "f"), (), value.type)
    rule = build.elementwise(lambda dy, v: scalar.mul(dy, scalar.mul(v, v)), cotangent, x)
    custom = Node(Custom("f", (rule,)), (value, x), value.type)
    loss = build.reduce(build.elementwise("mul", custom, custom), [0], "sum")
    xs = np.array([0.5, 1.0, 2.0])
    (dx,) = gradients(loss, [x])
    got = evaluate_nodes([dx], {("input", "x"): xs})[0]
    np.testing.assert_allclose(got, 2 * np.exp(xs) * xs**2)


def test_no_path_gives_zeros() -> None:
    x, y = given_leaf("x", (2,)), given_leaf("y", (2,))
    hard = build.reduce(x, [0], "argmax")
    loss = build.elementwise("mul", build.cast(hard, F64), build.reduce(y, [0], "sum"))
    assert reaches([loss], [x, y]) == [False, True]
    got = evaluate_nodes(gradients(loss, [x]), {})[0]
    assert got.tolist() == [0.0, 0.0]


def test_gradients_by_inner_nodes() -> None:
    x = given_leaf("x", (2,))
    y = build.elementwise("exp", x)
    loss = build.reduce(build.elementwise("mul", y, y), [0], "sum")
    dy, dx = gradients(loss, [y, x])
    xs = np.array([0.5, 1.0])
    got = evaluate_nodes([dy, dx], {("input", "x"): xs})
    np.testing.assert_allclose(got[0], 2 * np.exp(xs))
    np.testing.assert_allclose(got[1], 2 * np.exp(2 * xs))


def test_refuses_what_has_no_gradient() -> None:
    x = given_leaf("x", (4,))
    with pytest.raises(ValueError, match="a float scalar"):
        gradients(x, [x])
    i, u = axis("i"), axis("u")
    shared = build.form([("i", 3), ("u", 2)], [i + u], build.read(x, 0, i), [x], (4,), reduce="max")
    with pytest.raises(NotDifferentiable):
        gradients(build.reduce(shared, [0], "sum"), [x])


def test_gradient_forms_are_plain() -> None:
    """No factor 1, no dead axes, no reduction of one point, and results read, not redone."""
    a, b = given_leaf("a", (2, 3)), given_leaf("b", (3, 4))
    loss = build.reduce(build.contract("ij,jk->ik", a, b), [0, 1], "sum")
    (da,) = gradients(loss, [a])
    assert isinstance(da.op, Form)
    assert [name for name, _ in da.op.axes] == ["i", "k", "j"]
    assert da.op.out == (axis("i"), axis("j"))
    assert da.op.body == build.read(b, 0, axis("j"), axis("k"))
    stretched = build.broadcast(given_leaf("c", (3,)), (5, 3))
    (dc,) = gradients(weighted(stretched), [given_leaf("c", (3,))])
    assert isinstance(dc.op, Form)
    assert dc.op.reduce == "sum"
    assert len(dc.op.axes) == 2
    e = build.elementwise("exp", a)
    (de,) = gradients(weighted(e), [a])
    assert isinstance(de.op, Form)
    assert de.op.reduce == "none"
    assert e in de.inputs
    assert a not in de.inputs
    relu = build.elementwise(lambda v: scalar.maximum(v, Const(0, F64)), a)
    (dr,) = gradients(weighted(relu), [a])
    assert relu in dr.inputs
    assert a not in dr.inputs


def test_casts_carry_the_gradient_back_in_the_type_of_the_operand() -> None:
    x = build.leaf("input", "x", TensorType(DType.F32, (3,)))
    y = build.elementwise("mul", build.cast(x, F64), build.cast(x, F64))
    (dx,) = gradients(build.reduce(build.elementwise("exp", y), [0], "sum"), [x])
    assert dx.type == x.type
    got = evaluate_nodes([dx], {("input", "x"): np.array([0.5, 0.0, 1.0], np.float32)})[0]
    np.testing.assert_allclose(got, [np.exp(0.25), 0, 2 * np.e], rtol=1e-6)
