"""Each scalar operation against its own sample, and Philox against published vectors."""

from __future__ import annotations

import numpy as np
import pytest

from nnc.ir.expr import Apply, Const, Expr, Read, walk
from nnc.ir.scalar import (
    OPS,
    ScalarOp,
    ScalarTypeError,
    apply,
    cast,
    const,
    neg,
    numbers,
    result_type,
    select,
    tangent,
)
from nnc.ir.scalar.philox import block, philox4x32
from nnc.ir.types import DType

EPS = 1e-6
NATIVE = {
    "add",
    "sub",
    "mul",
    "div",
    "neg",
    "abs",
    "max",
    "min",
    "mad",
    "sqrt",
    "floor",
    "ceil",
    "round",
    "floordiv",
    "mod",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "and",
    "or",
    "xor",
    "not",
    "shl",
    "shr",
    "mulhi",
    "select",
    "cast",
    "bitcast",
}
EXPANDED = {
    "exp",
    "log",
    "log1p",
    "expm1",
    "tanh",
    "erf",
    "sin",
    "cos",
    "pow",
    "rsqrt",
    "philox",
    "stop_gradient",
    "with_gradient",
}


def operands(op: ScalarOp, count: int = 40) -> list[np.ndarray]:
    rng = np.random.default_rng(7)
    columns = []
    for dtype, (low, high) in zip(op.sample.types, op.sample.ranges, strict=True):
        if dtype.is_float:
            values = rng.uniform(low, high, count)
        else:
            values = rng.integers(
                int(low), int(high), count, dtype=np.uint64 if low >= 0 else np.int64
            )
        columns.append(values.astype(dtype.numpy))
    return columns


def run(expr: Expr, values: list[np.ndarray]) -> np.ndarray:
    done: dict[Expr, np.ndarray] = {}
    with np.errstate(all="ignore"):
        for e in walk(expr):
            match e:
                case Const(value, dtype):
                    done[e] = numbers.literal(value, dtype)
                case Read(operand):
                    done[e] = values[operand]
                case Apply(op, args, dtype):
                    types = (*(a.dtype for a in args), dtype)
                    done[e] = OPS[op].evaluate([done[a] for a in args], types)
    return np.broadcast_to(done[expr], values[0].shape)


def applied(op: ScalarOp) -> Apply:
    reads = tuple(Read(k, (), t) for k, t in enumerate(op.sample.types))
    made = apply(op.name, *reads, dtype=op.sample.target)
    assert isinstance(made, Apply)
    return made


def test_table_holds_every_operation_of_the_contract() -> None:
    assert {name for name, op in OPS.items() if op.native} == NATIVE
    assert {name for name, op in OPS.items() if not op.native} == EXPANDED


@pytest.mark.parametrize("op", OPS.values(), ids=lambda op: op.name)
def test_no_slot_is_empty_and_evaluation_gives_the_declared_type(op: ScalarOp) -> None:
    assert callable(op.result)
    assert callable(op.derivative)
    assert callable(op.evaluate)
    assert len(op.sample.types) == len(op.sample.ranges)
    assert op.variadic or len(op.sample.types) == op.arity
    call = applied(op)
    result = run(call, operands(op))
    assert result.dtype == call.dtype.numpy
    assert len(op.derivative(call.args, call)) == len(call.args)


@pytest.mark.parametrize("op", OPS.values(), ids=lambda op: op.name)
def test_derivative_agrees_with_finite_differences(op: ScalarOp) -> None:
    if op.name in ("stop_gradient", "with_gradient"):
        pytest.skip("the derivative is not that of the value, on purpose")
    call, values = applied(op), operands(op)
    partials = op.derivative(call.args, call)
    for k, dtype in enumerate(op.sample.types):
        if dtype is not DType.F64 or not call.dtype.is_float:
            assert partials[k] is None or not call.dtype.is_float or dtype.is_float
            continue
        up, down = list(values), list(values)
        up[k], down[k] = values[k] + EPS, values[k] - EPS
        slope = (run(call, up) - run(call, down)) / (2 * EPS)
        by_partial = 0.0 if partials[k] is None else run(partials[k], values)
        np.testing.assert_allclose(by_partial, slope, rtol=1e-3, atol=1e-5)
        read = call.args[k]
        chained = tangent(call, lambda e, r=read: const(1, e.dtype) if e == r else None)
        by_chain = 0.0 if chained is None else run(chained, values)
        np.testing.assert_allclose(by_chain, slope, rtol=1e-3, atol=1e-5)


def test_written_derivatives_replace_the_derived() -> None:
    x, c = Read(0, (), DType.F64), Read(1, (), DType.F64)

    def by_x(e: Expr) -> Expr | None:
        return const(1, e.dtype) if e == x else None

    assert tangent(apply("stop_gradient", x), by_x) is None
    value = apply("with_gradient", apply("exp", x), x, c, apply("mul", x, x), const(2.0, DType.F64))
    got = tangent(value, by_x)
    assert got is not None
    at = [np.array([3.0]), np.array([5.0])]
    assert run(got, at)[0] == 5.0 + 2.0 * (3.0 + 3.0)


def test_the_side_not_taken_contributes_not_even_nan() -> None:
    x = Read(0, (), DType.F64)
    zero = const(0.0, DType.F64)
    guarded = select(apply("gt", x, zero), apply("sqrt", x), zero)
    slope = tangent(guarded, lambda e: const(1, e.dtype) if e == x else None)
    assert slope is not None
    np.testing.assert_array_equal(run(slope, [np.array([0.0, 4.0])]), [0.0, 0.25])


@pytest.mark.parametrize(("name", "slopes"), [("max", (0.0, 1.0)), ("min", (0.0, 1.0))])
def test_ties_credit_the_second_operand(name: str, slopes: tuple[float, float]) -> None:
    call = applied(OPS[name])
    tie = [np.array([2.0]), np.array([2.0])]
    partials = OPS[name].derivative(call.args, call)
    assert tuple(float(run(p, tie)[0]) for p in partials if p is not None) == slopes


def test_power_at_its_edges() -> None:
    a, b = Read(0, (), DType.F64), Read(1, (), DType.F64)
    call = apply("pow", a, b)
    by_a, by_b = OPS["pow"].derivative((a, b), call)
    assert by_a is not None
    assert by_b is not None
    at = [np.array([0.0, 0.0, 2.0]), np.array([0.0, 2.0, 0.0])]
    np.testing.assert_array_equal(run(by_a, at), [0.0, 0.0, 0.0])
    np.testing.assert_allclose(run(by_b, at), [0.0, 0.0, np.log(2)])
    whole = OPS["pow"].evaluate(
        [np.array([2, -1, 1, -3], np.int32), np.array([-1, -3, -2, 3], np.int32)],
        (DType.I32,) * 3,
    )
    np.testing.assert_array_equal(whole, [0, -1, 1, -27])


@pytest.mark.parametrize(
    ("op", "types", "target"),
    [
        ("add", (DType.F32, DType.F64), None),
        ("div", (DType.I32, DType.I32), None),
        ("mod", (DType.F32, DType.F32), None),
        ("and", (DType.F32, DType.F32), None),
        ("select", (DType.I32, DType.F32, DType.F32), None),
        ("bitcast", (DType.F32,), DType.I64),
        ("cast", (DType.F32,), None),
        ("exp", (DType.F32, DType.F32), None),
        ("with_gradient", (DType.F32, DType.F32), None),
        ("philox", (DType.U64, DType.U32, DType.U32, DType.U32), None),
    ],
)
def test_wrong_operands_are_refused(
    op: str, types: tuple[DType, ...], target: DType | None
) -> None:
    with pytest.raises(ScalarTypeError, match=op):
        result_type(op, types, target)


@pytest.mark.parametrize(
    ("value", "source", "target", "expected"),
    [
        (-2.9, DType.F32, DType.I32, -2),
        (3e9, DType.F64, DType.I32, 2**31 - 1),
        (-1e30, DType.F32, DType.I64, -(2**63)),
        (float("nan"), DType.F32, DType.I32, 0),
        (300, DType.I32, DType.U8, 44),
        (-1, DType.I32, DType.U64, 2**64 - 1),
        (0.1, DType.F64, DType.BOOL, True),
        (True, DType.BOOL, DType.F32, 1.0),
        (1.00390625, DType.F32, DType.BF16, 1.0),
        (1.01171875, DType.F32, DType.BF16, 1.015625),
    ],
)
def test_conversions(value: float, source: DType, target: DType, expected: float) -> None:
    with np.errstate(all="ignore"):
        got = numbers.convert(numbers.literal(value, source), source, target)
    assert got.item() == expected
    assert got.dtype == numbers.computing(target)


def test_bf16_is_kept_as_its_bits() -> None:
    values = np.array([1.0, -2.5, np.inf, np.nan, 3e38], np.float32)
    stored = numbers.encode(values, DType.BF16)
    assert stored.dtype == np.uint16
    assert [hex(w) for w in stored[:3]] == ["0x3f80", "0xc020", "0x7f80"]
    back = numbers.decode(stored, DType.BF16)
    assert np.isnan(back[3])
    np.testing.assert_array_equal(numbers.encode(back, DType.BF16), stored)


def test_literals_are_told_apart_by_their_bits() -> None:
    f32 = DType.F32
    assert Const(0.0, f32) != Const(-0.0, f32)
    assert Const(float("nan"), f32) == Const(float("nan"), f32)
    assert Const(1, f32) == Const(1.0, f32)
    assert Const(1, f32) != Const(1, DType.I32)
    assert neg(Const(0, f32)) == Const(-0.0, f32)
    assert cast(Const(7, DType.I64), f32) == Const(7.0, f32)
    assert isinstance(cast(Const(2**24 + 1, DType.I64), f32), Apply)


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0,) * 4, (0,) * 2, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        (
            (0xFFFFFFFF,) * 4,
            (0xFFFFFFFF,) * 2,
            (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
        ),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_the_published_words(
    counter: tuple[int, int, int, int], key: tuple[int, int], expected: tuple[int, ...]
) -> None:
    words = block(
        tuple(np.array(c, np.uint32) for c in counter), tuple(np.array(k, np.uint32) for k in key)
    )
    assert tuple(int(w) for w in words) == expected


def test_philox_addresses_blocks_by_seed_step_stream_and_element() -> None:
    seed, step, stream = 0x299F31D0A4093822, 0x03707344, 0x13198A2E
    first = 0x85A308D3243F6A88 % 2**62 * 4
    index = np.uint64(first) + np.arange(4, dtype=np.uint64)
    got = philox4x32(
        np.array(seed, np.uint64), np.array(step, np.uint32), np.array(stream, np.uint32), index
    )
    counter = (0x243F6A88, 0x85A308D3 % 2**30, stream, step)
    expected = block(
        tuple(np.array(c, np.uint32) for c in counter),
        (np.array(0xA4093822, np.uint32), np.array(0x299F31D0, np.uint32)),
    )
    assert [int(w) for w in got] == [int(w) for w in expected]
