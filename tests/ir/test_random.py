from statistics import NormalDist

import mpmath
import numpy as np
import pytest
from support.elementwise import BASELINE, interpret, native, of_kernel

from nnc.ir import loops, random
from nnc.ir.expr import Apply, Const, Expr, Read, walk
from nnc.ir.index import axis, dim
from nnc.ir.scalar import OPS, numbers
from nnc.ir.scalar.philox import block
from nnc.ir.types import DType
from nnc.passes.math import expand

F32, F64, U32, U64 = DType.F32, DType.F64, DType.U32, DType.U64
SEED, STEP, INDEX = Read(0, (), U64), Read(1, (), U32), Read(2, (), U64)


def evaluate(expr: Expr, *args: np.ndarray) -> np.ndarray:
    """The NumPy meaning of an expression, operand by operand."""
    done: dict[Expr, np.ndarray] = {}
    with np.errstate(all="ignore"):
        for e in walk(expr):
            match e:
                case Const(value, dtype):
                    done[e] = numbers.literal(value, dtype)
                case Read(operand):
                    done[e] = args[operand]
                case Apply(op, parts, dtype):
                    types = (*(p.dtype for p in parts), dtype)
                    values = [done[p] for p in parts]
                    done[e] = numbers.rounded(OPS[op].evaluate(values, types), dtype)
    return done[expr]


def as_program(expr: Expr, types: list[DType]) -> loops.Program:
    done: dict[Expr, loops.Expr] = {}
    place = (axis("i"), axis("j"))
    for e in walk(expr):
        match e:
            case Read(operand, _, dtype):
                done[e] = loops.Load(f"a{operand}", place, dtype)
            case Apply(op, parts, dtype):
                done[e] = loops.Op(op, tuple(done[p] for p in parts), dtype)
            case _:
                done[e] = e
    store = loops.Store("y", place, done[expr])
    return expand(of_kernel((store,), [*types, expr.dtype], (dim("rows"), 16)))


def arguments(count: int, seed: int = 7, step: int = 3) -> list[np.ndarray]:
    return [
        np.full(count, seed, np.uint64),
        np.full(count, step, np.uint32),
        np.arange(count, dtype=np.uint64),
    ]


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ([0] * 4, [0] * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ([2**32 - 1] * 4, [2**32 - 1] * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_bits_are_the_published_ones(counter, key, words):
    number = counter[0] + (counter[1] << 32)
    index = np.array([(4 * number + k) % 2**64 for k in range(4)], np.uint64)
    seed = np.full(4, key[0] + (key[1] << 32), np.uint64)
    step = np.full(4, counter[3], np.uint32)
    stream = counter[2]
    expr = random.bits(SEED, STEP, stream, INDEX)
    wanted = np.array([int(w, 16) for w in words.split()], np.uint32)
    raw = block(tuple(np.array(c) for c in counter), tuple(np.array(k) for k in key))
    assert [int(w) for w in raw] == wanted.tolist()
    if number < 2**62:  # larger blocks have no element
        np.testing.assert_array_equal(evaluate(expr, seed, step, index), wanted)
        of = as_program(expr, [U64, U32, U64])
        np.testing.assert_array_equal(interpret(of, seed, step, index), wanted)
        np.testing.assert_array_equal(native(of, seed, step, index), wanted)


def test_every_part_of_the_key_counts():
    def draw(stream=1, seed=7, step=3, at=0):
        words = evaluate(random.bits(SEED, STEP, stream, INDEX), *arguments(at + 64, seed, step))
        return words[at:].tolist()

    first = draw()
    others = [draw(stream=2), draw(seed=8), draw(seed=7 + 2**32), draw(step=4), draw(at=64)]
    assert all(set(first).isdisjoint(other) for other in others)
    assert random.stream_of("net.dropout") != random.stream_of("net.dropout_2")


@pytest.mark.parametrize("dtype", [F32, F64, DType.F16, DType.BF16])
@pytest.mark.parametrize("make", [random.uniform, random.normal])
def test_bits_are_the_same_everywhere(make, dtype):
    expr = make(SEED, STEP, 123456789, INDEX, dtype)
    args = arguments(4096)
    wanted = numbers.encode(evaluate(expr, *args), dtype)
    of = as_program(expr, [U64, U32, U64])
    for found in (
        interpret(of, *args),
        interpret(of, *args, fused=False),
        native(of, *args),
        native(of, *args, options=BASELINE),
    ):
        np.testing.assert_array_equal(found, wanted)


def farthest_from(x: np.ndarray, distribution: np.ndarray) -> float:
    """Kolmogorov and Smirnov's statistic; 1.63 is exceeded with a chance of 1%."""
    expected = np.sort(distribution)
    steps = np.arange(x.size + 1) / x.size
    distance = np.maximum(expected - steps[:-1], steps[1:] - expected).max()
    return float(distance * np.sqrt(x.size))


@pytest.mark.parametrize("dtype", [F32, F64])
def test_uniform_numbers_are_uniform(dtype):
    x = evaluate(random.uniform(SEED, STEP, 5, INDEX, dtype), *arguments(200_000))
    assert x.min() >= 0
    assert x.max() < 1
    assert x.dtype == dtype.numpy
    assert farthest_from(x, x) < 1.63
    assert abs(np.corrcoef(x[1:], x[:-1])[0, 1]) < 0.01
    counts, _ = np.histogram(x, bins=100, range=(0, 1))
    mean = x.size / 100
    assert ((counts - mean) ** 2 / mean).sum() < 134.6  # 1% of chi square with 99 degrees


def test_uniform_numbers_of_small_types_stay_below_one():
    for dtype, steps in ((DType.F16, 2**11), (DType.BF16, 2**8)):
        x = evaluate(random.uniform(SEED, STEP, 5, INDEX, dtype), *arguments(60_000))
        wide = x.astype(np.float64)
        assert wide.max() == (steps - 1) / steps
        assert (wide * steps == np.floor(wide * steps)).all()


@pytest.mark.parametrize("dtype", [F32, F64])
def test_normal_numbers_are_normal(dtype):
    x = evaluate(random.normal(SEED, STEP, 6, INDEX, dtype), *arguments(200_000)).astype("f8")
    below = np.frompyfunc(NormalDist().cdf, 1, 1)(x).astype(np.float64)
    assert farthest_from(x, below) < 1.63
    assert abs(x.mean()) < 0.01
    assert abs(x.var() - 1) < 0.015
    assert abs((x**3).mean()) < 0.03
    assert abs((x**4).mean() - 3) < 0.06


WORDS = np.concatenate([np.arange(300), 2 ** np.arange(9, 31), 2**31 - 1 - np.arange(300)])


def test_quantile_f32_is_near_the_exact_one():
    rng = np.random.default_rng(1)
    below = np.concatenate([WORDS, rng.integers(0, 2**31, 200_000)])
    words = np.concatenate([below, 2**32 - 1 - below]).astype(np.uint32)
    z = evaluate(random.quantile(Read(0, (), U32), F32), words).astype(np.float64)
    below_half = np.where(words < 2**31, words, 2**32 - 1 - words.astype(np.int64))
    exact = np.frompyfunc(NormalDist().inv_cdf, 1, 1)((below_half + 0.5) * 2.0**-32)
    exact = exact.astype(np.float64)
    exact = np.where(words < 2**31, exact, -exact)
    assert (np.abs(z / exact - 1)).max() < 1e-6
    assert abs(z[0]) > 6.2
    assert z[0] == -z[below.size]
    assert (np.diff(z[np.argsort(words[:300], kind="stable")]) > -1e-5).all()


def test_quantile_f64_is_near_the_exact_one():
    rng = np.random.default_rng(2)
    words = rng.integers(0, 2**63, 200, dtype=np.uint64)
    words[:64] = np.uint64(1) << np.arange(64, dtype=np.uint64).clip(0, 62)
    z = evaluate(random.quantile(Read(0, (), U64), F64), words)
    with mpmath.workprec(160):
        for word, found in zip(words, z, strict=True):
            p = (mpmath.mpf(int(word)) + 0.5) / 2**64
            back = mpmath.ncdf(mpmath.mpf(float(found)))
            slope = mpmath.npdf(mpmath.mpf(float(found)))
            assert abs((back - p) / slope) < 2e-14 * abs(found) + 1e-19
