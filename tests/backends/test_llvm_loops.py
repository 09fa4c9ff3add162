"""Statements and subscripts in native code, against the interpreter, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnc.backends.llvm import EmitError, LLVMBackend
from nnc.backends.llvm.calling import call
from nnc.ir import loops
from nnc.ir.expr import Position
from nnc.ir.index import Size, axis, ceildiv, dim, evaluate, floordiv, mod
from nnc.ir.loops import Call, Cell, Check, Fold, For, Function, If, Let, Local, Param, Store
from nnc.ir.types import DType
from tests.support.native import (
    BOOL,
    F32,
    I32,
    I64,
    check,
    const,
    less,
    load,
    op,
    program,
)

i, j, k, v, g = (axis(a) for a in "ijklg")
n = dim("n")


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def params(**access: tuple[str, tuple[Size, ...]]) -> list[Param]:
    return [Param(name, F32, extents, how) for name, (how, extents) in access.items()]


@pytest.mark.parametrize("lanes", [1, 2, 4, 8, 16, 32, 64])
@pytest.mark.parametrize("size", [1, 15, 16, 17, 64, 100])
def test_every_width_and_tail(lanes: int, size: int) -> None:
    at = g * lanes + v
    mask = less(at, n)
    x = load("x", at, mask=mask)
    body = [For("l", lanes, "vector", (Store("y", (at,), op("mad", x, x, x), mask),))]
    made = program(params(x=("r", (n,)), y=("w", (n,))), body, {"g": ceildiv(n, lanes)}, ["n"])
    check(made, {"x": random(size), "y": np.zeros(size, "f4")}, n=size)


@pytest.mark.parametrize("test", ["lt", "le", "gt", "ge"])
@pytest.mark.parametrize("turned", [False, True])
def test_masks_of_positions(test: str, turned: bool) -> None:
    """Comparisons that advance with the lanes, up or down, near and far from the limit."""
    sides = (Position(v + g - 9), Position(n - 2 * v if turned else n))
    if turned:
        sides = sides[::-1]
    body = [For("l", 16, "vector", (Store("y", (g, v), op(test, *sides, dtype=BOOL)),))]
    made = program([Param("y", BOOL, (40, 16), "w")], body, {"g": 40}, ["n"])
    for size in (0, 3, 20, 1_000_000):
        check(made, {"y": np.zeros((40, 16), bool)}, n=size)


@pytest.mark.parametrize("op_name", ["add", "mul", "max", "min"])
@pytest.mark.parametrize("lanes", [2, 16, 64])
def test_folds_join_halves(op_name: str, lanes: int) -> None:
    values = random(3, lanes)
    store = Store("y", (g,), Fold(op_name, load("x", g, v), F32))
    made = program(
        params(x=("r", (3, lanes)), y=("w", (3,))), [For("l", lanes, "vector", (store,))], {"g": 3}
    )
    after = check(made, {"x": values, "y": np.zeros(3, "f4")})
    if op_name == "add":
        tree = values
        while tree.shape[1] > 1:
            half = tree.shape[1] // 2
            tree = tree[:, :half] + tree[:, half:]
        np.testing.assert_array_equal(after["y"], tree[:, 0])


def test_folds_of_whole_numbers_and_truth() -> None:
    kinds = [("add", I32), ("max", I32), ("and", BOOL), ("or", BOOL), ("xor", I32)]
    ps, body = [], []
    arrays: dict[str, np.ndarray] = {}
    rng = np.random.default_rng(1)
    for at, (name, dtype) in enumerate(kinds):
        ps += [Param(f"x{at}", dtype, (16,), "r"), Param(f"y{at}", dtype, (), "w")]
        body.append(Store(f"y{at}", (), Fold(name, load(f"x{at}", v, dtype=dtype), dtype)))
        arrays[f"x{at}"] = rng.integers(0, 2, 16).astype(dtype.numpy)
        arrays[f"y{at}"] = np.zeros((), dtype.numpy)
    check(program(ps, [For("l", 16, "vector", tuple(body))]), arrays)


def test_register_cells_through_loops_and_branches() -> None:
    """Loops of 0, 1 and more turns, branches in loops, loops in branches, cells in both."""
    total = load("c", 0)
    body = (
        Cell("c", F32, (2,), const(1.0)),
        For(
            "i",
            g,
            "seq",
            (
                Store("c", (0,), op("add", total, load("x", i))),
                If(
                    op("gt", load("x", i), const(0.0), dtype=BOOL),
                    (
                        Store("c", (1,), op("mul", load("c", 1), const(1.5))),
                        For("j", i, "seq", (Store("c", (0,), op("sub", total, load("x", j))),)),
                    ),
                    (Store("c", (1,), op("add", load("c", 1), total)),),
                ),
            ),
        ),
        If(less(g, 3), (), (Store("c", (0,), op("neg", total)),)),
        Store("y", (g, 0), total),
        Store("y", (g, 1), load("c", 1)),
    )
    made = program(params(x=("r", (12,)), y=("w", (12, 2))), body, {"g": 12})
    check(made, {"x": random(12), "y": np.zeros((12, 2), "f4")})


def test_vector_cells_accumulate_in_order() -> None:
    at = k * 16 + v
    mask = less(at, n)
    body = (
        For(
            "l",
            16,
            "vector",
            (
                Cell("a", F32, (2,), const(0.0), lanes=True),
                For(
                    "k",
                    ceildiv(n, 16),
                    "seq",
                    (
                        Store("a", (0,), op("add", load("a", 0), load("x", at, mask=mask))),
                        Store("a", (1,), op("max", load("a", 1), load("x", at, mask=mask)), mask),
                    ),
                ),
                Store("y", (0,), Fold("add", load("a", 0), F32)),
                Store("y", (1,), Fold("max", load("a", 1), F32)),
            ),
        ),
    )
    made = program(params(x=("r", (n,)), y=("w", (2,))), body, None, ["n"])
    for size in (1, 16, 100, 1000):
        check(made, {"x": random(size), "y": np.zeros(2, "f4")}, n=size)


def test_a_register_tile() -> None:
    body = (
        For(
            "l",
            4,
            "vector",
            (
                Cell("c", F32, (3, 2), const(0.0), lanes=True),
                For(
                    "k",
                    n,
                    "seq",
                    (
                        For(
                            "i",
                            3,
                            "unroll",
                            (
                                For(
                                    "j",
                                    2,
                                    "unroll",
                                    (
                                        Store(
                                            "c",
                                            (i, j),
                                            op(
                                                "add",
                                                load("c", i, j),
                                                op("mul", load("a", k, i), load("b", k, 4 * j + v)),
                                            ),
                                        ),
                                    ),
                                ),
                            ),
                        ),
                    ),
                ),
                For(
                    "i",
                    3,
                    "unroll",
                    (For("j", 2, "unroll", (Store("y", (i, 4 * j + v), load("c", i, j)),)),),
                ),
            ),
        ),
    )
    made = program(params(a=("r", (n, 3)), b=("r", (n, 8)), y=("w", (3, 8))), body, None, ["n"])
    for size in (0, 1, 9):
        arrays = {"a": random(size, 3), "b": random(size, 8, seed=1), "y": np.ones((3, 8), "f4")}
        check(made, arrays, n=size)


def test_stack_cells() -> None:
    """A packed panel, read back transposed; a cell of vectors; a large one that is filled."""
    body = (
        Cell("big", F32, (20, 16), const(2.0), "stack"),
        For(
            "l",
            16,
            "vector",
            (
                Cell("rows", F32, (20,), None, "stack", lanes=True),
                For(
                    "i",
                    20,
                    "seq",
                    (
                        Store("big", (i, v), op("add", load("x", i, v), load("big", i, v)),
                              less(v, i)),
                        Store("rows", (i,), load("x", i, v)),
                    ),
                ),
                For("i", 20, "seq", (Store("y", (i, v), load("rows", 19 - i)),)),
            ),
        ),
        For("j", 16, "seq", (For("i", 20, "seq", (Store("z", (j, i), load("big", i, j)),)),)),
    )  # fmt: skip
    made = program(params(x=("r", (20, 16)), y=("w", (20, 16)), z=("w", (16, 20))), body)
    check(
        made,
        {"x": random(20, 16), "y": np.zeros((20, 16), "f4"), "z": np.zeros((16, 20), "f4")},
    )


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    "at",
    [
        3 * v,
        63 - v,
        n * v + g,
        floordiv(v + g, 3) * 7 + mod(5 * v + g, 7),
        v * v + g,
        16 * floordiv(v + 5 * g, 16) + mod(v + 5 * g, 16),
        mod(v + g - 20, 64),
        g,
    ],
    ids=str,
)
def test_gathers(at: Size, masked: bool) -> None:
    mask = less(mod(3 * v + g, 5), 3) if masked else None
    read = load("x", at, mask=mask, other=const(9.0))
    body = [For("l", 16, "vector", (Store("y", (g, v), op("neg", read)),))]
    made = program(params(x=("r", (600,)), y=("w", (4, 16))), body, {"g": 4}, ["n"])
    check(made, {"x": random(600), "y": np.zeros((4, 16), "f4")}, n=5)


@pytest.mark.parametrize("dtype", list(DType), ids=str)
def test_scatters_and_gathers_of_every_type(dtype: DType) -> None:
    at = mod(7 * v + g, 64)
    mask = less(mod(v, 3), 2)
    read = load("x", at, dtype=dtype, mask=mask)
    body = [
        For(
            "l",
            16,
            "vector",
            (
                Store("y", (g, 2 * v), read),
                Store("y", (g, 2 * mod(5 * v, 16) + 1), load("x", v, dtype=dtype), mask),
            ),
        )
    ]
    ps = [Param("x", dtype, (64,), "r"), Param("y", dtype, (3, 32), "w")]
    x = np.random.default_rng(0).integers(0, 2, 64).astype(dtype.numpy)
    check(program(ps, body, {"g": 3}), {"x": x, "y": np.zeros((3, 32), dtype.numpy)})


def test_loaded_subscripts() -> None:
    """A gather whose row number was loaded, and a check that faults and goes on."""
    row = axis("row")
    number = op("cast", load("ids", g, dtype=I32), dtype=I64)
    inside = op(
        "and",
        op("ge", Local("row", I64), const(0, I64), dtype=BOOL),
        op("lt", Local("row", I64), Position(n), dtype=BOOL),
    )
    body = (
        Let("row", number),
        Let("inside", inside),
        Check(Local("inside", BOOL), 4, Local("row", I64)),
        For(
            "l", 4, "vector",
            (Store("y", (g, v), load("x", row, v, mask=Local("inside", BOOL))),),
        ),
    )  # fmt: skip
    ps = [
        Param("ids", I32, (6,), "r"),
        Param("x", F32, (n, 4), "r"),
        Param("y", F32, (6, 4), "w"),
    ]
    made = program(ps, body, {"g": 6}, ["n"])
    for ids in ([0, 4, 2, 2, 1, 3], [0, 5, -1, 2, 1, 2**31 - 1]):
        arrays = {"ids": np.array(ids, "i4"), "x": random(5, 4), "y": np.zeros((6, 4), "f4")}
        check(made, arrays, n=5)


def test_lets_of_vectors_in_subscripts() -> None:
    body = [
        For(
            "l",
            8,
            "vector",
            (
                Let("at", op("cast", load("ids", v, dtype=I32), dtype=I64)),
                Store("y", (v,), load("x", 2 * axis("at") + 1)),
            ),
        )
    ]
    ps = [Param("ids", I32, (8,), "r"), Param("x", F32, (20,), "r"), Param("y", F32, (8,), "w")]
    ids = np.array([3, 3, 9, 0, 1, 8, 5, 2], "i4")
    check(program(ps, body), {"ids": ids, "x": random(20), "y": np.zeros(8, "f4")})


def test_positions_of_every_type() -> None:
    ps, body = [], []
    for dtype in (DType.F32, DType.F64, DType.I64, DType.I32, DType.U8, DType.F16):
        ps.append(Param(f"y{dtype}", dtype, (3, 16), "w"))
        body.append(Store(f"y{dtype}", (g, v), Position(5 * g - 3 * v + 60, dtype)))
    made = program(ps, [For("l", 16, "vector", tuple(body))], {"g": 3})
    check(made, {p.name: np.zeros((3, 16), p.dtype.numpy) for p in ps})


def test_loops_that_begin_elsewhere() -> None:
    body = (
        For("i", 3, "seq", (Store("y", (i,), Position(i, F32)),), start=2),
        For("j", 2, "unroll", (Store("y", (j,), Position(j, F32)),), start=n),
        For("l", 4, "vector", (Store("y", (v,), Position(v * n, F32)),), start=n + 2),
    )
    made = program(params(y=("w", (20,))), body, None, ["n"])
    check(made, {"y": np.zeros(20, "f4")}, n=5)


def test_functions_take_parts_of_tensors_and_cells() -> None:
    scale = Function(
        "scale",
        (Param("from", F32, (dim("m"),), "r"), Param("to", F32, (dim("m"),), "w")),
        ("m", "by"),
        (
            For(
                "i",
                dim("m"),
                "seq",
                (Store("to", (i,), op("mul", load("from", i), Position(axis("by"), F32))),),
            ),
        ),
    )
    body = (
        Cell("c", F32, (8,), const(0.0), "stack"),
        Call("scale", (("x", (g, 0)), ("c", (2,))), (4, g + 1)),
        Call("scale", (("c", (0,)), ("y", (g, 0))), (8, n)),
    )
    made = program(
        params(x=("r", (3, 4)), y=("w", (3, 8))), body, {"g": 3}, ["n"], functions=(scale,)
    )
    check(made, {"x": random(3, 4), "y": np.zeros((3, 8), "f4")}, n=2)


def test_a_masked_store_of_one_element_and_of_a_row() -> None:
    wanted = op("gt", load("x", g), const(0.0), dtype=BOOL)
    body = (
        Store("y", (g, 0), op("mul", load("x", g), const(2.0)), wanted),
        For("l", 8, "vector", (Store("y", (g, v + 1), load("x", g), wanted),)),
    )
    made = program(params(x=("r", (9,)), y=("rw", (9, 9))), body, {"g": 9})
    check(made, {"x": random(9), "y": random(9, 9, seed=2)})


def test_shared_subexpressions_are_written_once() -> None:
    value = load("x", g)
    for _ in range(60):
        value = op("add", value, value)
    made = program(params(x=("r", (2,)), y=("w", (2,))), [Store("y", (g,), value)], {"g": 2})
    after = check(made, {"x": np.array([1, 3], "f4"), "y": np.zeros(2, "f4")})
    assert after["y"].tolist() == [2.0**60, 3 * 2.0**60]


def test_deep_expressions() -> None:
    value = load("x", g)
    for turn in range(3000):
        value = op("max" if turn % 2 else "min", value, const(float(turn)))
    made = program(params(x=("r", (2,)), y=("w", (2,))), [Store("y", (g,), value)], {"g": 2})
    y = np.zeros(2, "f4")
    code = LLVMBackend()
    call(code.load(code.compile(made, {}), "tried"), made, "go", {}, {"x": random(2), "y": y})
    assert y.tolist() == [2999.0, 2999.0]


@st.composite
def polynomials(draw: st.DrawFn, depth: int = 2) -> Size:
    """Subscripts over a grid axis, a loop axis, the lanes and a dim, with // and %."""
    total: Size = draw(st.integers(-9, 9))
    for _ in range(draw(st.integers(0, 3))):
        factor = draw(st.sampled_from([g, i, v, n]))
        if depth and draw(st.booleans()):
            by = draw(st.sampled_from([2, 3, 4, 7, 10]))
            factor = draw(st.sampled_from([floordiv, mod]))(draw(polynomials(depth - 1)), by)
        total = total + factor * draw(st.sampled_from([-3, -1, 1, 2, n]))
    return total


@settings(max_examples=40)
@given(polynomials(), st.integers(1, 6))
def test_positions_are_computed_exactly(size: Size, value: int) -> None:
    body = [
        For("i", 3, "seq", (For("l", 4, "vector", (Store("y", (g, i, v), Position(size)),)),)),
    ]
    made = program([Param("y", I64, (2, 3, 4), "w")], body, {"g": 2}, ["n"])
    after = check(made, {"y": np.zeros((2, 3, 4), "i8")}, threads=(1,), n=value)
    at = {"g": 1, "i": 2, "l": 3, "n": value}
    assert after["y"][1, 2, 3] == evaluate(size, at)


BAD = {
    "nothing is called z": [Store("z", (), const(0.0))],
    "f32 is stored in y of i32": [Store("y", (0,), const(0.0))],
    "no native operation exp on f32": [Let("a", op("exp", const(0.0)))],
    "differs between lanes": [
        For("l", 4, "vector", (If(less(v, 2), (Store("y", (0,), const(0, I32)),)),))
    ],
    "vector loop within": [For("l", 4, "vector", (For("i", 4, "vector", ()),))],
    "register cell c is subscripted by": [
        Cell("c", F32, (4,), const(0.0)),
        For("i", 4, "seq", (Store("c", (i,), const(1.0)),)),
    ],
    "a vector loop of 3 lanes": [For("l", 3, "vector", ())],
    "a work-group barrier": [loops.Sync()],
    "cell c is too large": [Cell("c", F32, (1000, 1000), None, "stack")],
    "no value is bound to q": [Let("a", Local("q", F32))],
}


@pytest.mark.parametrize("message", BAD)
def test_what_breaks_a_rule_is_an_error(message: str) -> None:
    made = program([Param("y", I32, (4,), "w")], BAD[message])
    with pytest.raises(EmitError, match=f"kernel k: .*{message}"):
        LLVMBackend().compile(made, {})
