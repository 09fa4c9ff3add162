"""What the pass makes of programs; how exact the functions are is in test_math_accuracy."""

import numpy as np
import pytest
from support.elementwise import interpret, native, of_kernel, program

from nnc.ir import loops
from nnc.ir.expr import Const
from nnc.ir.index import axis, dim
from nnc.ir.loops import Cell, If, Let, Load, Local, Op, Store
from nnc.ir.loops_text import parse_program, print_program
from nnc.ir.loops_verify import verify
from nnc.ir.loops_walk import Numbering, expressions, statements
from nnc.ir.scalar import OPS
from nnc.ir.types import DType
from nnc.passes.math import expand

F32, F64, B = DType.F32, DType.F64, DType.BOOL
PLACE = (axis("i"), axis("j"))
X = Load("a0", PLACE, F32)


def of_body(*body: loops.Stmt) -> loops.Program:
    return of_kernel(body, [F32, F32], (dim("rows"), 16))


def operations(of: loops.Program) -> int:
    """How many operations a program writes down."""
    count = 0
    for stmt in statements(of.kernels[0].body):
        numbering = Numbering()
        kept = expressions(stmt)
        for root in kept:
            numbering.number(root)
        count += sum(isinstance(e, Op) for e in numbering.exprs)
    return count


def test_native_programs_are_left_alone():
    before = of_body(Store("y", PLACE, Op("sqrt", (X,), F32)))
    assert expand(before) == before


@pytest.mark.parametrize("dtype", [F32, F64, DType.F16, DType.BF16])
@pytest.mark.parametrize("op", sorted(n for n, o in OPS.items() if not o.native and o.arity == 1))
def test_every_expansion_is_native_and_verifies(op, dtype):
    if op in ("stop_gradient", "with_gradient"):
        with pytest.raises(ValueError, match=f"{op} cannot be computed at run time"):
            program(op, (dtype,), dtype)
        return
    of = program(op, (dtype,), dtype)
    verify(of, native=True)
    assert parse_program(print_program(of)) == of
    assert expand(of) == of


def test_a_function_used_twice_is_computed_once():
    exp = Op("exp", (X,), F32)
    tanh = Op("tanh", (Op("add", (exp, exp), F32),), F32)
    once = expand(of_body(Store("y", PLACE, exp)))
    both = expand(of_body(Store("y", PLACE, Op("mul", (exp, Op("exp", (X,), F32)), F32))))
    assert operations(both) == operations(once) + 1
    deep = expand(of_body(Store("y", PLACE, tanh)))
    assert operations(deep) < operations(once) + 60


def test_sine_and_cosine_share_their_reduction():
    sine, cosine = Op("sin", (X,), F32), Op("cos", (X,), F32)
    alone = operations(expand(of_body(Store("y", PLACE, sine))))
    both = operations(expand(of_body(Store("y", PLACE, Op("add", (sine, cosine), F32)))))
    assert both < alone + 20


def test_bindings_stand_where_the_statement_stood():
    positive = Op("gt", (X, Const(0.0, F32)), B)
    of = of_body(
        Cell("m0", F32, (), Op("log", (X,), F32), lanes=True),
        Let("m1", Load("m0", (), F32)),
        If(Op("gt", (Load("a0", (axis("i"), 0), F32), Const(0.0, F32)), B),
           (Store("y", PLACE, Op("exp", (Local("m1", F32),), F32), positive),),
           (Store("y", PLACE, Op("exp", (Const(1.0, F32),), F32)),)),
    )  # fmt: skip
    expanded = expand(of)
    verify(expanded, native=True)
    body = expanded.kernels[0].body[0]
    assert isinstance(body, loops.For)
    names = [s.name for s in statements(body.body) if isinstance(s, Let | Cell)]
    assert len(set(names)) == len(names)
    branch = body.body[-1]
    assert isinstance(branch, If)
    assert isinstance(branch.then[0], Let)
    assert isinstance(branch.otherwise[-1], Store)
    x = np.linspace(0.5, 4, 32, dtype=np.float32)
    x[16] = -1
    for found in (interpret(expanded, x), native(expanded, x)):
        np.testing.assert_allclose(found[:16], x[:16], rtol=3e-7)
        np.testing.assert_allclose(found[16:], np.e, rtol=3e-7)


def test_masks_and_alternatives_of_loads_are_expanded():
    mask = Op("lt", (Op("exp", (X,), F32), Const(2.0, F32)), B)
    other = Op("tanh", (X,), F32)
    of = expand(of_body(Store("y", PLACE, Load("a0", PLACE, F32, mask, other))))
    verify(of, native=True)
    x = np.array([0.1, 1.0, -3.0, 5.0], np.float32)
    wanted = np.where(np.exp(x) < 2, x, np.tanh(x))
    np.testing.assert_allclose(interpret(of, x), wanted, rtol=2e-7)


@pytest.mark.parametrize("dtype", [DType.I32, DType.I64, DType.I8, DType.U8, DType.U32])
def test_powers_of_whole_numbers(dtype):
    rng = np.random.default_rng(3)
    low = 0 if dtype.value.startswith("u") else -12
    x = rng.integers(low, 13, 500).astype(dtype.numpy)
    y = rng.integers(max(low, -4), 70, 500).astype(dtype.numpy)
    types = (dtype, dtype)
    with np.errstate(all="ignore"):
        wanted = OPS["pow"].evaluate([x, y], (*types, dtype))
    of = program("pow", types, dtype)
    np.testing.assert_array_equal(interpret(of, x, y), wanted)
    np.testing.assert_array_equal(native(of, x, y), wanted)


@pytest.mark.parametrize("power", [0.0, 1.0, 2.0, 3.0, -1.0, 0.5, -0.5, 4.0, 2.5, -2.0])
@pytest.mark.parametrize("dtype", [F32, F64])
def test_powers_by_constants(dtype, power):
    place = Load("a0", PLACE, dtype)
    store = Store("y", PLACE, Op("pow", (place, Const(power, dtype)), dtype))
    of = expand(of_kernel((store,), [dtype, dtype], (dim("rows"), 16)))
    x = np.array([0.0, -0.0, 1.0, -1.0, 1.5, -2.5, 7e5, 1e-5, np.inf, -np.inf, np.nan], dtype.numpy)
    with np.errstate(all="ignore"):
        wanted = np.power(x, np.full_like(x, power))
    found = interpret(of, x)
    np.testing.assert_allclose(found, wanted, rtol=3 * np.finfo(dtype.numpy).eps)
    assert (np.signbit(found) == np.signbit(wanted))[~np.isnan(wanted)].all()
    if power in (0.0, 1.0, 2.0, 3.0, -1.0, 0.5, -0.5):
        assert operations(of) < 10


@pytest.mark.parametrize("dtype", [DType.F16, DType.BF16])
def test_small_floats_are_rounded_once(dtype):
    from nnc.ir.scalar import numbers

    x = np.linspace(-4, 4, 333)
    stored = numbers.encode(x.astype(numbers.computing(dtype)), dtype)
    exact = np.exp(numbers.decode(stored, dtype).astype(np.float64))
    wanted = numbers.encode(exact.astype(numbers.computing(dtype)), dtype)
    found = interpret(program("exp", (dtype,), dtype), stored)
    assert (found == wanted).mean() > 0.99
    np.testing.assert_array_equal(native(program("exp", (dtype,), dtype), stored), found)
