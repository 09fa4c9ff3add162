"""Entries: grids, barriers, repeats, choices, buffers inside others, faults, and the record."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from nnc.backends import base
from nnc.backends.llvm import EmitError
from nnc.backends.llvm.team import ticket
from nnc.ir.expr import Position
from nnc.ir.index import Size, axis, ceildiv, dim
from nnc.ir.loops import (
    Barrier,
    Buffer,
    Check,
    Entry,
    For,
    Kernel,
    Launch,
    Param,
    Program,
    Repeat,
    Step,
    Store,
    When,
)
from nnc.ir.types import DType
from tests.support.native import BACKEND, F32, I64, check, compiled, const, load, op, program, run

i, g, h, m, n = axis("i"), axis("g"), axis("h"), dim("m"), dim("n")


def copy_sum() -> Kernel:
    """y[g] = sum of all x, plus g: reads everything that an earlier launch wrote."""
    body = (
        Store("y", (g,), Position(g, F32)),
        For("i", n, "seq", (Store("y", (g,), op("add", load("y", g), load("x", i))),)),
    )
    params = (Param("x", F32, (n,), "r"), Param("y", F32, (n,), "rw"))
    return Kernel("all", params, ("n",), ("g",), body)


def scale(by: float) -> Kernel:
    body = (Store("x", (g,), op("mul", load("x", g), const(by))),)
    return Kernel("scale", (Param("x", F32, (n,), "rw"),), ("n",), ("g",), body)


def single() -> Kernel:
    """One task: x[0] += x[n - 1]."""
    body = (Store("x", (0,), op("add", load("x", 0), load("x", n - 1))),)
    return Kernel("single", (Param("x", F32, (n,), "rw"),), ("n",), (), body)


def several(steps: tuple[Step, ...], dims: tuple[str, ...] = ("n",)) -> Program:
    buffers = (Buffer("a", F32, (n,), "state"), Buffer("b", F32, (n,), "state"))
    kernels = (copy_sum(), scale(0.25), single())
    return Program("several", dims, buffers, (), kernels, (Entry("go", dims, steps),))


def data(size: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(size)
    return {"a": rng.standard_normal(size).astype("f4"), "b": np.zeros(size, "f4")}


FORTH, BACK = Launch("all", ("a", "b"), (n,)), Launch("all", ("b", "a"), (n,))
ONE = Launch("single", ("a",), ())
QUARTER = Launch("scale", ("a",), (n,))


@pytest.mark.parametrize("size", [1, 2, 37, 300])
def test_barriers_stand_between_launches(size: int) -> None:
    steps = (FORTH, Barrier(), BACK, Barrier(), ONE, Barrier(), ONE, Barrier(), QUARTER, Barrier())
    check(several((*steps, FORTH, Barrier(), ONE)), data(size), (1, 2, 3, 5), n=size)


def test_launches_without_a_barrier_run_side_by_side() -> None:
    steps = (
        Launch("scale", ("a",), (n,)),
        Launch("scale", ("b",), (n,)),
        Barrier(),
        ONE,
        Launch("scale", ("b",), (n,)),
    )
    arrays = data(100)
    arrays["b"] += 1
    check(several(steps), arrays, (1, 2, 3, 5), n=100)


@pytest.mark.parametrize("turns", [0, 1, 7])
def test_repeats(turns: int) -> None:
    inner = (Launch("mark", ("a",), (n,)), Barrier(), Launch("two", ("a", "b"), (dim("t"),)))
    more = (
        Store("y", (g,), op("add", load("y", g), load("x", dim("t"), g))),
    )  # fmt: skip
    second = Kernel(
        "two", (Param("x", F32, (8, n), "r"), Param("y", F32, (n,), "rw")), ("t", "n"), ("g",), more
    )
    body = (Store("x", (dim("t"), g), Position(dim("t") * 100 + g, F32)),)
    kernel = Kernel("mark", (Param("x", F32, (8, n), "w"),), ("t", "n"), ("g",), body)
    steps = (Repeat("t", dim("turns"), (*inner, Barrier())),)
    dims = ("turns", "n")
    made = Program(
        "repeats",
        dims,
        (Buffer("a", F32, (8, n), "state"), Buffer("b", F32, (n,), "state")),
        (),
        (kernel, second),
        (Entry("go", dims, steps),),
    )
    arrays = {"a": np.zeros((8, 20), "f4"), "b": np.zeros(20, "f4")}
    check(made, arrays, (1, 3), turns=turns, n=20)


def test_choices_on_sizes() -> None:
    steps = (
        When((n - 10,), (QUARTER,), (FORTH, Barrier(), BACK)),
        Barrier(),
        When((n - 5, 20 - n), (ONE,)),
    )
    for size in (1, 4, 5, 9, 10, 20, 21, 40):
        check(several(steps), data(size), (1, 3), n=size)


@pytest.mark.parametrize("shape", [(1, 1), (7, 1), (1, 9), (13, 11), (0, 5), (5, 0), (100, 41)])
def test_grids_of_two_axes(shape: tuple[int, int]) -> None:
    body = (Store("x", (g, h), Position(1000 * g + h, F32)),)
    made = program([Param("x", F32, (m, n), "w")], body, {"g": m, "h": n}, ["m", "n"])
    check(made, {"x": np.full(shape, -1, "f4")}, (1, 2, 3, 5), m=shape[0], n=shape[1])


def test_grids_of_three_axes() -> None:
    extents: tuple[Size, ...] = (3, n, 4)
    body = (Store("x", (g, h, i), Position(100 * g + 10 * h + i, F32)),)
    made = program([Param("x", F32, extents, "w")], body, {"g": 3, "h": n, "i": 4}, ["n"])
    check(made, {"x": np.zeros((3, 5, 4), "f4")}, (1, 2), n=5)


def test_every_task_runs_once() -> None:
    body = (Store("x", (g,), op("add", load("x", g), const(1.0))),)
    made = program([Param("x", F32, (n,), "rw")], body, {"g": n}, ["n"])
    for size in (2, 3, 16, 17, 1000, 12_345):
        x = np.zeros(size, "f4")
        for _ in range(20):
            run(made, {"x": x}, threads=3, n=size)
        assert (x == 20).all()


def test_buffers_inside_others() -> None:
    kernel = scale(0.5)
    buffers = (
        Buffer("whole", F32, (n * 4,), "state"),
        Buffer("part", F32, (n,), "state", "whole", 6),
        Buffer("inner", F32, (3,), "state", "part", 2),
    )
    fixed = Kernel(
        "add", (Param("x", F32, (3,), "rw"), Param("y", F32, (n,), "rw")), ("n",), ("g",),
        (Store("x", (g,), op("add", load("x", g), load("y", g))),),
    )  # fmt: skip
    steps = (
        Launch("scale", ("part",), (n,)),
        Barrier(),
        Launch("add", ("inner", "whole"), (3,)),
    )
    made = Program("inside", ("n",), buffers, (), (kernel, fixed), (Entry("go", ("n",), steps),))
    whole = np.arange(20, dtype="f4")
    expected = whole.copy()
    expected[6:11] *= 0.5
    expected[8:11] += expected[:3]
    run(made, {"whole": whole}, n=5)
    np.testing.assert_array_equal(whole, expected)


def faulty() -> Program:
    x = load("x", g, dtype=I64)
    body = (Check(op("lt", x, const(10, I64), dtype=DType.BOOL), 3, x),)
    return program([Param("x", I64, (n,), "r")], body, {"g": n}, ["n"])


def test_faults_are_counted_and_the_first_is_kept() -> None:
    made = faulty()
    x = np.arange(8)
    assert run(made, {"x": x}, n=8).code == 0
    x[[2, 5]] = 77, -(2**62)
    result = run(made, {"x": x}, n=8)
    assert (result.code, result.faults, result.site, result.value) == (1, 1, 3, 77)
    x[5:7] = 99
    result = run(made, {"x": x}, n=8)
    assert (result.code, result.faults, result.site, result.value) == (1, 3, 3, 77)
    many = np.full(5000, 12)
    assert run(made, {"x": many}, threads=3, n=5000).faults == 5000


def test_faults_in_lanes_report_the_first_lane() -> None:
    value = load("x", g, axis("v"), dtype=DType.I32)
    ok = op("ge", value, const(0, DType.I32), dtype=DType.BOOL)
    body = (For("v", 8, "vector", (Check(ok, 1, value),)),)
    made = program([Param("x", DType.I32, (2, 8), "r")], body, {"g": 2})
    x = np.zeros((2, 8), "i4")
    assert run(made, {"x": x}).code == 0
    x[1, 3], x[1, 6] = -5, -6
    assert run(made, {"x": x}).value == -5


def test_a_record_is_reset_and_its_version_checked() -> None:
    made = faulty()
    entry = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)(compiled(made).entry("go"))
    x = np.array([50])
    record = np.zeros(base.HEADER + 2, np.int64)
    record[base.VERSION] = base.RECORD_VERSION
    record[base.HEADER :] = x.ctypes.data, 1
    assert [entry(record.ctypes.data) for _ in range(2)] == [1, 1]
    assert record[base.FAULT_COUNT] == 1
    x[0] = 5
    assert entry(record.ctypes.data) == 0
    record[base.VERSION] = 99
    assert entry(record.ctypes.data) == 2


def test_an_unknown_entry_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        compiled(faulty()).entry("stop")


def test_names_of_any_kind() -> None:
    """Names become symbols and locals, and may hold anything."""
    odd = 'state:fc.0 "weight"\\%'
    body = (Store(odd, (axis("a b"),), Position(dim("größe") + axis("a b"), F32)),)
    kernel = Kernel("k:1", (Param(odd, F32, (4,), "w"),), ("größe",), ("a b",), body)
    other = Kernel("k.1", kernel.params, kernel.dims, kernel.grid, body)
    made = Program(
        "my net!", ("größe",), (Buffer(odd, F32, (4,), "output"),), (), (kernel, other),
        (Entry("to go", ("größe",), (Launch("k:1", (odd,), (4,)), Launch("k.1", (odd,), (4,)))),),
    )  # fmt: skip
    y = np.zeros(4, "f4")
    run(made, {odd: y}, entry="to go", **{"größe": 3})
    assert y.tolist() == [3, 4, 5, 6]


def test_two_programs_of_one_name_live_together() -> None:
    made = []
    for value in (1.0, 2.0):
        body = (Store("x", (), const(value)),)
        one = program([Param("x", F32, (), "w")], body)
        made.append((one, BACKEND.load(BACKEND.compile(one, {}), one.name)))
    from nnc.backends.llvm.calling import call

    for expected, (one, code) in zip((1.0, 2.0), made, strict=True):
        x = np.zeros((), "f4")
        call(code, one, "go", {}, {"x": x}, ticket(2))
        assert x == expected


def test_a_launch_that_does_not_fit_is_an_error() -> None:
    kernel = scale(2.0)
    for views, extents in (((), (n,)), (("a",), ())):
        entry = Entry("go", ("n",), (Launch("scale", views, extents),))
        made = Program("bad", ("n",), (Buffer("a", F32, (n,), "state"),), (), (kernel,), (entry,))
        with pytest.raises(EmitError, match="does not fit kernel scale"):
            BACKEND.compile(made, {})


def test_tails_of_tasks() -> None:
    at = g * 64 + i
    mask = op("lt", Position(at), Position(n), dtype=DType.BOOL)
    body = (For("i", 64, "seq", (Store("x", (at,), Position(at, F32), mask),)),)
    made = program([Param("x", F32, (n,), "w")], body, {"g": ceildiv(n, 64)}, ["n"])
    for size in (1, 63, 64, 65, 1000):
        check(made, {"x": np.zeros(size, "f4")}, (1, 3), n=size)
