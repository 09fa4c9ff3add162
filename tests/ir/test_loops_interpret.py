import numpy as np
import pytest

from nnc.ir import loops
from nnc.ir.expr import Const, Position
from nnc.ir.index import Size, axis, dim, mod
from nnc.ir.loops import Call, Cell, Check, Fold, For, If, Let, Load, Local, Op, Param, Store
from nnc.ir.loops_interpret import Fault, LoopError, Machine
from nnc.ir.types import DType

F, I64, B = DType.F32, DType.I64, DType.BOOL
i, j, k, n = axis("i"), axis("j"), axis("k"), dim("n")


def f32(value):
    return Const(value, F)


def add(a, b):
    return Op("add", (a, b), a.dtype)


def load(name, *index, dtype=F, mask=None, other=None):
    return Load(name, index, dtype, mask, other)


def below(index: Size, limit: Size):
    return Op("lt", (Position(index), Position(limit)), B)


def program(body, params, *, grid=(), extents=(), functions=(), steps=None, space="state"):
    kernel = loops.Kernel("k", tuple(params), ("n",), tuple(grid), tuple(body))
    buffers = tuple(loops.Buffer(p.name, p.dtype, p.extents, space) for p in params)
    launch = loops.Launch("k", tuple(p.name for p in params), tuple(extents))
    entry = loops.Entry("main", ("n",), tuple(steps or (launch,)))
    return loops.Program("p", ("n",), buffers, tuple(functions), (kernel,), (entry,))


def run(prog, buffers, n=5, **options):
    machine = Machine(prog, {"n": n}, buffers, **options)
    machine.run("main")
    return machine


X, Y = Param("x", F, (n,), "r"), Param("y", F, (n,), "w")


def arrays(n=5, start=0):
    return {"x": np.arange(start, start + n, dtype="f4"), "y": np.full(n, -1, "f4")}


def test_map_over_a_grid():
    p = program([Store("y", (i,), add(load("x", i), f32(1)))], [X, Y], grid="i", extents=[n])
    a = arrays()
    machine = run(p, a)
    assert a["y"].tolist() == [1, 2, 3, 4, 5]
    assert machine.counts == {("add", F): 5}


def test_masked_vector_tail_touches_nothing_outside():
    inside = below(i * 4 + j, n)
    value = add(load("x", i * 4 + j, mask=inside, other=f32(7)), f32(1))
    body = [For("j", 4, "vector", (Store("y", (i * 4 + j,), value, inside),))]
    a = arrays()
    run(program(body, [X, Y], grid="i", extents=[2]), a)
    assert a["y"].tolist() == [1, 2, 3, 4, 5]


def test_access_outside_is_found():
    body = [For("j", 4, "vector", (Store("y", (i * 4 + j,), load("x", i * 4 + j)),))]
    with pytest.raises(LoopError, match=r"kernel k: x: subscript 0 is 5, outside 0\.\.5"):
        run(program(body, [X, Y], grid="i", extents=[2]), arrays())


def test_fold_is_by_halves_in_the_type_itself():
    x = np.float32([1, 1e8, -1e8, 3, 2e-8, 1, 1, 1])
    body = [For("j", 8, "vector", (Store("y", (0,), Fold("add", load("x", j), F)),))]
    a = {"x": x, "y": np.zeros(1, "f4")}
    run(program(body, [Param("x", F, (8,), "r"), Param("y", F, (1,), "w")]), a)
    half = x[:4] + x[4:]
    quarter = half[:2] + half[2:]
    assert a["y"][0] == quarter[0] + quarter[1]


def test_cells_hold_lanes_and_start_again_at_each_turn():
    body = [
        For("j", 4, "vector", (
            Cell("acc", F, (2,), f32(0), lanes=True),
            For("k", 3, "seq", (
                Cell("t", F, (), add(load("x", k), f32(0)), lanes=True),
                Store("t", (), add(load("t"), load("t"))),
                Store("acc", (1,), add(load("acc", 1), load("t"))),
            )),
            Store("y", (j,), load("acc", 1)),
        )),
    ]  # fmt: skip
    a = arrays(4)
    run(program(body, [X, Y]), a, n=4)
    assert a["y"].tolist() == [6, 6, 6, 6]


def test_reading_a_cell_never_set_is_found():
    body = [
        Cell("c", F, (4,), None),
        If(below(i, 2), (Store("c", (1,), f32(2)),)),
        Store("y", (i,), load("c", 1)),
    ]
    with pytest.raises(LoopError, match="cell c is read before it is set"):
        run(program(body, [X, Y], grid="i", extents=[n]), arrays())


def test_branches_and_extents_may_differ_between_tasks():
    body = [
        Cell("s", F, (), f32(0)),
        For("j", i + 1, "seq", (Store("s", (), add(load("s"), load("x", j))),)),
        If(below(i, 3), (Store("y", (i,), load("s")),), (Store("y", (i,), f32(0)),)),
    ]
    a = arrays()
    machine = run(program(body, [X, Y], grid="i", extents=[n]), a)
    assert a["y"].tolist() == [0, 1, 3, 0, 0]
    assert machine.counts["add", F] == 1 + 2 + 3 + 4 + 5


def test_loaded_integers_subscript_and_bound_loops():
    ids = Param("ids", I64, (n,), "r")
    body = [
        Let("e", load("ids", i, dtype=I64)),
        Check(below(axis("e"), n), 3, Local("e", I64)),
        Store("y", (i,), load("x", axis("e"), mask=below(axis("e"), n), other=f32(-9))),
        For("k", axis("e") - 3, "seq", (Store("y", (i,), f32(50)),)),
    ]
    p = program(body, [ids, X, Param("y", F, (n,), "rw")], grid="i", extents=[n])
    a = {**arrays(start=10), "ids": np.array([4, 0, 1, 6, 2], "i8")}
    machine = run(p, a)
    assert a["y"].tolist() == [50, 10, 11, 50, 12]
    assert machine.faults == [Fault(3, 6)]


@pytest.mark.parametrize(
    ("store", "read", "clash"),
    [
        (mod(i, 3), i, "written"),
        (i, n - 1 - i, None),
    ],
)
def test_two_tasks_writing_one_element_race(store, read, clash):
    p = program([Store("y", (store,), load("x", read))], [X, Y], grid="i", extents=[n])
    if clash is None:
        run(p, arrays())
        return
    with pytest.raises(LoopError, match=clash):
        run(p, arrays())
    run(p, arrays(), races=False)


def test_reading_what_another_task_writes_races():
    both = Param("y", F, (n,), "rw")
    p = program([Store("y", (i,), load("y", n - 1 - i))], [X, both], grid="i", extents=[n])
    with pytest.raises(LoopError, match="writes what another task reads"):
        run(p, arrays(), n=5)


def test_launches_race_unless_a_barrier_parts_them():
    body = [Store("y", (i,), add(load("y", i), f32(1)))]
    launch = loops.Launch("k", ("y",), (n,))
    both = [Param("y", F, (n,), "rw")]
    apart = [launch, loops.Barrier(), launch]
    p = program(body, both, grid="i", extents=[n], steps=apart)
    a = {"y": np.zeros(5, "f4")}
    run(p, a)
    assert a["y"].tolist() == [2] * 5
    p = program(body, both, grid="i", extents=[n], steps=[launch, launch])
    with pytest.raises(LoopError, match="race"):
        run(p, a)


def test_views_of_one_buffer_are_one_memory():
    body = [Store("y", (i,), load("x", i))]
    p = program(body, [X, Y], grid="i", extents=[n])
    whole = loops.Buffer("*", F, (n + 2,), "state")
    parts = (
        loops.Buffer("x", F, (n,), "state", "*", 0),
        loops.Buffer("y", F, (n,), "state", "*", 2),
    )
    p = loops.Program("p", p.dims, (whole, *parts), (), p.kernels, p.entries)
    with pytest.raises(LoopError, match="race"):
        run(p, {"*": np.arange(7, dtype="f4")})
    flat = np.arange(7, dtype="f4")
    machine = run(p, {"*": flat}, races=False)
    assert machine.array("y").base is not None
    assert flat[2:].tolist() == [0, 1, 2, 3, 4]


def test_functions_see_parts_of_tensors_and_cells():
    grow = loops.Function(
        "grow",
        (Param("a", F, (2,), "r"), Param("c", F, (axis("m"),), "rw")),
        ("m",),
        (For("k", axis("m"), "seq", (Store("c", (k,), add(load("c", k), load("a", 1))),)),),
    )
    body = [
        Cell("c", F, (4,), f32(0), "stack"),
        Call("grow", (("x", (i * 2,)), ("c", (1,))), (2,)),
        For("k", 4, "seq", (Store("y", (i * 4 + k,), load("c", k)),)),
    ]
    p = program(body, [X, Param("y", F, (8,), "w")], grid="i", extents=[2], functions=[grow])
    a = {"x": np.arange(4, dtype="f4"), "y": np.zeros(8, "f4")}
    run(p, a, n=4)
    assert a["y"].tolist() == [0, 1, 1, 0, 0, 3, 3, 0]
    with pytest.raises(LoopError, match=r"subscript 0 is 3, outside 0\.\.3"):
        run(p, {"x": np.arange(3, dtype="f4"), "y": np.zeros(8, "f4")}, n=3)


def test_steps_repeat_and_choose_by_size():
    body = [Store("y", (i,), add(load("y", i), Position(dim("t"), F)))]
    kernel = loops.Kernel("k", (Param("y", F, (n,), "rw"),), ("n", "t"), ("i",), tuple(body))
    steps = (loops.Launch("k", ("y",), (n,)), loops.Barrier())
    choose = loops.When((n - 4,), (loops.Repeat("t", 3, steps),), (loops.Repeat("t", 2, steps),))
    buffers = (loops.Buffer("y", F, (n,), "output"),)
    p = loops.Program(
        "p", ("n",), buffers, (), (kernel,), (loops.Entry("main", ("n",), (choose,)),)
    )
    for size, total in ((5, 3), (3, 1)):
        a = {"y": np.zeros(size, "f4")}
        run(p, a, n=size)
        assert a["y"].tolist() == [total] * size


def test_scratch_starts_as_nan_and_arrays_must_fit():
    body = [Store("y", (i,), load("x", i))]
    p = program(body, [X, Y], grid="i", extents=[n], space="scratch")
    machine = run(p, {})
    assert np.isnan(machine.array("y")).all()
    with pytest.raises(ValueError, match="x is f32"):
        run(p, {"x": np.zeros(4, "f4")})
    with pytest.raises(ValueError, match="not contiguous"):
        run(p, {"x": np.zeros(10, "f4")[::2]})
    with pytest.raises(ValueError, match="no buffer z"):
        run(p, {"z": np.zeros(4, "f4")})


def test_lanes_share_the_cells_of_their_group():
    body = [
        Cell("s", F, (4,), None, "shared"),
        For("j", 4, "lane", (
            Store("s", (j,), load("x", i * 4 + j)),
            loops.Sync(),
            Store("y", (i * 4 + j,), load("s", 3 - j)),
        )),
    ]  # fmt: skip
    a = arrays(8)
    run(program(body, [X, Y], grid="i", extents=[2]), a, n=8)
    assert a["y"].tolist() == [3, 2, 1, 0, 7, 6, 5, 4]


def test_bf16_is_rounded_at_every_operation():
    x = Param("x", DType.BF16, (n,), "r")
    y = Param("y", DType.BF16, (n,), "w")
    value = add(load("x", i, dtype=DType.BF16), Const(2.0**-9, DType.BF16))
    p = program([Store("y", (i,), value)], [x, y], grid="i", extents=[n])
    a = {"x": np.full(5, 0x3F80, "u2"), "y": np.zeros(5, "u2")}
    run(p, a)
    assert a["y"].tolist() == [0x3F80] * 5


def test_mad_rounds_once_or_twice():
    value = Op("mad", (load("x", i), load("x", i), f32(-1)), F)
    p = program([Store("y", (i,), value)], [X, Y], grid="i", extents=[n])
    x = np.full(5, 1 + 2.0**-23, "f4")
    once, twice = ({"x": x, "y": np.zeros(5, "f4")} for _ in range(2))
    machine = run(p, once)
    run(p, twice, fused=False)
    assert once["y"][0] == np.float32(2.0**-22 + 2.0**-46)
    assert twice["y"][0] == np.float32(2.0**-22)
    assert machine.multiply_adds == 5
