"""Schedules: long and short reductions, bits, ties, scatters, faults, all at several sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nnc.ir import build
from nnc.ir import scalar as sc
from nnc.ir.expr import Const, Position
from nnc.ir.graph import Graph, Leaf, Node, Output
from nnc.ir.index import Size, axis, dim
from nnc.ir.index import evaluate as size_of
from nnc.ir.interpret import evaluate
from nnc.ir.loops import Buffer, Entry, Program, Step, When
from nnc.ir.loops_interpret import Machine
from nnc.ir.types import DType, TensorType
from nnc.passes.hazards import launches_in
from nnc.passes.lower import lower

F32, F64, I32 = DType.F32, DType.F64, DType.I32
N, M = dim("n"), dim("m")
Arrays = Mapping[str, np.ndarray[Any, Any]]


def leaf(name: str, *shape: Size, dtype: DType = F32) -> Node:
    return build.leaf("input", name, TensorType(dtype, tuple(shape)))


def program_of(*outputs: Node) -> tuple[Graph, Program]:
    graph = Graph("main", tuple(Output("output", f"y{k}", n) for k, n in enumerate(outputs)))
    layout = [
        Buffer(f"input:{n.op.name}", n.type.dtype, n.type.shape, "input")
        for n in graph.nodes()
        if isinstance(n.op, Leaf)
    ]
    layout += [
        Buffer(f"output:{o.name}", o.node.type.dtype, o.node.type.shape, "output")
        for o in graph.outputs
    ]
    return graph, lower("test", {"main": graph}, layout)


def data_for(graph: Graph, dims: Mapping[str, int]) -> dict[tuple[str, str], Any]:
    rng = np.random.default_rng(5)
    made: dict[tuple[str, str], Any] = {}
    for node in graph.nodes():
        if isinstance(node.op, Leaf):
            shape = [size_of(s, dims) for s in node.type.shape]
            made[node.op.space, node.op.name] = rng.standard_normal(shape).astype(
                node.type.dtype.numpy
            )
    return made


def run(program: Program, dims: Mapping[str, int], data: Mapping[tuple[str, str], Any]) -> Machine:
    machine = Machine(program, dims, {f"{s}:{n}": a.reshape(-1) for (s, n), a in data.items()})
    machine.run("main")
    return machine


def agrees(
    *outputs: Node,
    dims: Mapping[str, int],
    data: Mapping[tuple[str, str], Any] | None = None,
    rtol: float = 2e-5,
) -> Machine:
    graph, program = program_of(*outputs)
    data = data_for(graph, dims) if data is None else data
    machine = run(program, dims, data)
    for (_, name), want in evaluate(graph, data, dims).items():
        have = machine.array(f"output:{name}")
        np.testing.assert_allclose(have, want, rtol=rtol, atol=rtol, err_msg=name)
    return machine


SIZES = [(1, 1), (3, 10000), (700, 40), (129, 17), (5, 4097), (64, 16), (1100, 2)]


@pytest.mark.parametrize(("n", "m"), SIZES)
@pytest.mark.parametrize("kind", ["sum", "max", "argmax", "argmin"])
def test_reductions_of_any_length(n: int, m: int, kind: str) -> None:
    x = leaf("x", N, M)
    made = [build.reduce(x, gone, kind) for gone in ([0], [1], [0, 1])]
    agrees(*made, dims={"n": n, "m": m}, rtol=2e-4)


@pytest.mark.parametrize("m", [1, 10, 16, 17, 100, 5000])
def test_softmax_of_any_width(m: int) -> None:
    for width in (m, M):
        x = leaf("x", N, width)
        axes = [("b", N), ("i", width)]
        b, i = axis("b"), axis("i")
        top = build.reduce(x, [1], "max")
        body = sc.apply("exp", sc.sub(build.read(x, 0, b, i), build.read(top, 1, b)))
        e = build.form(axes, (b, i), body, (x, top), (N, width))
        total = build.reduce(e, [1], "sum")
        body = sc.div(build.read(e, 0, b, i), build.read(total, 1, b))
        y = build.form(axes, (b, i), body, (e, total), (N, width))
        agrees(y, dims={"n": 7, "m": m})


def _always(program: Program, way: str) -> Program:
    """The program with one way of each choice taken for good."""

    def take(steps: tuple[Step, ...]) -> tuple[Step, ...]:
        taken: list[Step] = []
        for s in steps:
            taken += getattr(s, way) if isinstance(s, When) else [s]
        return tuple(taken)

    entries = tuple(Entry(e.name, e.dims, take(e.steps)) for e in program.entries)
    return replace(program, entries=entries)


@pytest.mark.parametrize(("n", "m"), [(9000, 5), (70, 33), (4096, 2), (1, 1)])
@pytest.mark.parametrize("gone", [[0], [0, 1]])
def test_a_sum_has_the_same_bits_split_or_not(n: int, m: int, gone: list[int]) -> None:
    x = leaf("x", N, M)
    graph, program = program_of(build.reduce(x, gone, "sum"))
    dims = {"n": n, "m": m}
    data = data_for(graph, dims)
    ways = [run(_always(program, way), dims, data) for way in ("steps", "otherwise")]
    one, two = (w.array("output:y0") for w in ways)
    assert one.tobytes() == two.tobytes()


def test_first_best_and_nan_win() -> None:
    x = leaf("x", 6, 40)
    rng = np.random.default_rng(0)
    data = rng.integers(0, 3, (6, 40)).astype("f4")
    data[2, 11] = data[2, 30] = np.nan
    data[3] = -np.inf
    data[4] = np.inf
    for gone in ([0], [1]):
        for kind in ("argmax", "argmin"):
            agrees(build.reduce(x, gone, kind), dims={}, data={("input", "x"): data})


def test_max_keeps_nan() -> None:
    x = leaf("x", 6, 40)
    data = np.ones((6, 40), "f4")
    data[2, 11] = np.nan
    machine = agrees(build.reduce(x, [1], "max"), dims={}, data={("input", "x"): data})
    assert np.isnan(machine.array("output:y0")[2])


def test_nothing_is_best_of_nothing() -> None:
    x = leaf("x", 3, 20)
    b, j = axis("b"), axis("j")
    late = sc.apply("gt", Position(j), Position(b * 100))
    best = build.form(
        [("b", 3), ("j", 20)], (b,), build.read(x, 0, b, j), (x,), (3,), reduce="argmax", where=late
    )
    machine = agrees(best, dims={})
    assert list(machine.array("output:y0"))[1:] == [0, 0]


def test_rows_are_added_in_the_order_of_the_input() -> None:
    rows, ids = leaf("rows", N, 24), leaf("ids", N, dtype=I32)
    e, d = axis("e"), axis("d")
    out = (build.loaded(ids, 1, e), d)
    table = build.form(
        [("e", N), ("d", 24)], out, build.read(rows, 0, e, d), (rows, ids), (5, 24), reduce="sum"
    )
    rng = np.random.default_rng(2)
    data = {
        ("input", "rows"): rng.standard_normal((50, 24)).astype("f4"),
        ("input", "ids"): rng.integers(0, 5, 50).astype("i4"),
    }
    machine = agrees(table, dims={"n": 50}, data=data)
    want = np.zeros((5, 24), "f4")
    for k, row in zip(data["input", "ids"], data["input", "rows"], strict=True):
        want[k] += row
    assert machine.array("output:y0").tobytes() == want.tobytes()


def test_a_wrong_index_is_reported_and_harmless() -> None:
    table, ids = leaf("table", 5, 8), leaf("ids", N, dtype=I32)
    graph, program = program_of(build.gather(table, ids))
    data = data_for(graph, {"n": 4})
    data["input", "ids"] = np.array([0, 9, -1, 4], "i4")
    machine = run(program, {"n": 4}, data)
    assert sorted(f.value for f in machine.faults) == [-1, 9]
    site = program.sites[machine.faults[0].site]
    assert (site.what, site.tensor, site.limit) == ("a subscript made from 'ids'", "table", 5)


def test_elementwise_work_of_any_rank_is_one_loop() -> None:
    kernels = []
    for shape in [(N, 4, 8), (N, 32), (N * 32,)]:
        a, b = leaf("a", *shape), leaf("b", *shape)
        _, program = program_of(build.elementwise(sc.mul, a, b))
        (kernel,) = program.kernels
        kernels.append(kernel)
    assert kernels[0] == kernels[1] == kernels[2]


def test_tiny_work_is_one_task() -> None:
    a, b = leaf("a", N, 64), leaf("b", N, 64)
    _, program = program_of(build.elementwise(sc.mul, a, b), build.reduce(a, [1], "sum"))
    for launch in launches_in(program.entries[0].steps):
        assert [size_of(n, {"n": 64}) for n in launch.extents] == [1]


def test_mixed_types_share_lanes() -> None:
    a, k = leaf("a", N, 20), leaf("k", N, 20, dtype=DType.U8)
    wide = build.elementwise(
        lambda x, i: sc.add(sc.cast(x, F64), sc.cast(i, F64)), a, build.cast(k, I32)
    )
    data = {
        ("input", "a"): np.ones((9, 20), "f4"),
        ("input", "k"): np.arange(180).reshape(9, 20).astype("u1"),
    }
    agrees(wide, build.reduce(wide, [0], "sum"), dims={"n": 9}, data=data)


def test_a_transposed_read_and_a_shifted_one() -> None:
    a = leaf("a", 37, 50)
    i, j = axis("i"), axis("j")
    body = sc.add(build.read(a, 0, j, i), build.read(a, 0, j - 3, i + 1, outside=2.0))
    agrees(build.form([("i", 50), ("j", 37)], (i, j), body, (a,), (50, 37)), dims={})


def test_a_filter_keeps_what_it_drops_out_of_sums() -> None:
    a = leaf("a", N, N)
    i, j = axis("i"), axis("j")
    below = sc.apply("le", Position(j), Position(i))
    data = np.full((40, 40), np.inf, "f4")
    data[np.tril_indices(40)] = 1.0
    total = build.form(
        [("i", N), ("j", N)], (i,), build.read(a, 0, i, j), (a,), (N,), reduce="sum", where=below
    )
    agrees(total, dims={"n": 40}, data={("input", "a"): data})


def test_a_filter_on_axes_trims_the_loop() -> None:
    a = leaf("a", N, N)
    i, j = axis("i"), axis("j")
    below = sc.and_(
        sc.apply("le", Position(j), Position(i)), sc.apply("gt", Position(j + 3), Position(i))
    )
    for kind in ("sum", "max"):
        read = build.read(a, 0, i, j)
        axes = [("i", N), ("j", N)]
        band = build.form(axes, (i,), read, (a,), (N,), reduce=kind, where=below)
        machine = agrees(band, dims={"n": 100})
        steps = sum(c for (name, _), c in machine.counts.items() if name in ("add", "max"))
        assert steps < 100 * 100 / 2


def test_a_strided_convolution_gradient_is_computed_in_pieces() -> None:
    """``s*h + r`` on the left: one dense kernel for each residue, and no scatter."""
    x, w = leaf("x", 11), leaf("w", 3)
    i, u = axis("i"), axis("u")
    spread = build.form(
        [("i", 11), ("u", 3)],
        (2 * i + u,),
        sc.mul(build.read(x, 0, i), build.read(w, 1, u)),
        (x, w),
        (23,),
        reduce="sum",
    )
    from nnc.passes.solve import solve

    agrees(solve(spread), dims={})


def test_constants_of_many_elements_are_stored() -> None:
    table = build.literal([0.5, -1.25, 2.0], (3,), F32)
    a = leaf("a", N, 3)
    y = build.elementwise(sc.mul, a, build.broadcast(table, (N, 3)))
    agrees(y, build.full((4,), 7, F32), dims={"n": 5})


def test_half_floats_are_summed_in_single() -> None:
    a = leaf("a", 3, 3000, dtype=DType.F16)
    data = {("input", "a"): np.full((3, 3000), 1.0, "f2")}
    agrees(build.reduce(a, [1], "sum"), dims={}, data=data)


def test_a_product_of_constants_and_sums() -> None:
    a = leaf("a", N, 7)
    scaled = build.elementwise(lambda v: sc.mul(v, Const(0.5, F32)), a)
    agrees(build.reduce(scaled, [1], "prod"), build.reduce(scaled, [0], "prod"), dims={"n": 33})


def test_a_filter_alone_keeps_stores_inside() -> None:
    """Axes of the result that run farther than it: what the filter rules out is stored nowhere."""
    i, j, k = axis("i"), axis("j"), axis("k")
    short = sc.apply("lt", Position(j), Position(3))
    a, b = leaf("a", 40, 20, dtype=F64), leaf("b", 20, 7, dtype=F64)
    axes = [("i", 40), ("j", 20), ("k", 7)]
    factor, other = build.read(a, 0, i, j), build.read(b, 1, j, k)
    for kind, body, out, shape in [
        ("sum", factor, (j,), (3,)),
        ("max", factor, (j,), (3,)),
        ("sum", sc.mul(factor, other), (j, k), (3, 7)),
        ("sum", sc.mul(factor, other), (j, i), (3, 40)),
    ]:
        inputs = (a, b) if body is not factor else (a,)
        agrees(
            build.form(axes, out, body, inputs, shape, reduce=kind, where=short),
            dims={},
            rtol=1e-12,
        )
    copied = build.form(axes[1:], (j, k), build.read(b, 0, j, k), (b,), (3, 7), where=short)
    agrees(copied, dims={})
