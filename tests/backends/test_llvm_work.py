"""The estimate of a task's work, and kernels that are written once."""

from __future__ import annotations

import dataclasses

from nnc.backends.llvm.work import task_work
from nnc.ir.expr import Position
from nnc.ir.index import axis, ceildiv, dim
from nnc.ir.loops import Call, Cell, Fold, For, Function, If, Let, Local, Param, Program, Store
from tests.support.native import BACKEND, F32, I64, const, load, op, program

i, g, n, m = axis("i"), axis("g"), dim("n"), dim("m")
STORE = Store("y", (i,), op("add", load("x", i), const(1.0)))  # load, add, store


def work(*body: object, functions: tuple[Function, ...] = ()) -> object:
    params = [Param("x", F32, (n,), "r"), Param("y", F32, (n,), "w")]
    made = program(params, body, {"g": m}, ["n", "m"], functions)  # type: ignore[arg-type]
    return task_work(made.kernels[0], {f.name: f for f in functions})


def test_loops_multiply() -> None:
    assert work(For("i", n, "seq", (STORE,))) == 4 * n
    assert work(For("i", 16, "vector", (STORE,))) == 4
    assert work(For("i", 8, "unroll", (For("j", n, "seq", (STORE,)),))) == 8 * (4 * n + 1)


def test_extents_that_differ_between_tasks() -> None:
    """A tail is as long as the first task's; a minimum with a constant is that constant."""
    assert work(For("i", n - 64 * g, "seq", (STORE,))) == 4 * n
    rows = Let("rows", op("min", const(120, I64), Position(n - 120 * g), dtype=I64))
    assert work(rows, For("i", axis("rows"), "seq", (STORE,))) == 1 + 120 * 4
    nested = For("k", ceildiv(n, 4), "seq", (For("i", n - axis("k"), "seq", (STORE,)),))
    assert work(nested) == ceildiv(n, 4) * (4 * n + 1)


def test_branches_cells_and_calls() -> None:
    assert work(If(op("lt", Position(g), const(2, I64)), (STORE,), (STORE, STORE))) == 1 + 9
    assert work(Cell("c", F32, (40,), const(0.0), "stack")) == 40
    scale = Function("f", (), ("k",), (For("i", dim("k"), "seq", (STORE,)),))
    assert work(Call("f", (), (n + 1,)), functions=(scale,)) == 4 * n + 4


def test_shared_parts_count_once() -> None:
    value = load("x", g)
    for _ in range(50):
        value = op("mul", value, value)
    assert work(Store("y", (g,), value)) == 52
    assert work(Store("y", (g,), Fold("add", op("div", value, value), F32))) == 68
    assert work(Let("t", value), Store("y", (g,), Local("t", F32))) == 52


def test_kernels_that_differ_in_names_are_one_function() -> None:
    params = [Param("x", F32, (n,), "r"), Param("y", F32, (n,), "w")]
    body = [Store("y", (g,), load("x", g))]
    first = program(params, body, {"g": n}, ["n"])
    other = dataclasses.replace(first.kernels[0], name="other")
    different = dataclasses.replace(
        first.kernels[0], name="different", body=(Store("y", (g,), op("neg", load("x", g))),)
    )
    both = Program(
        "both", first.dims, first.buffers, (), (*first.kernels, other, different), first.entries
    )
    text = BACKEND.text(both)
    assert text.count("define internal void @kernel") == 2
