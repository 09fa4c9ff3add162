"""The errors of the elementary functions, in units of the last place; docs/math.md repeats them."""

import itertools
import math

import mpmath
import numpy as np
import pytest
from support.elementwise import BASELINE, errors, errors_f64, interpret, native, program

from nnc.ir.types import DType

F32, F64 = DType.F32, DType.F64


def erf(x: np.ndarray) -> np.ndarray:
    return np.frompyfunc(math.erf, 1, 1)(x).astype(np.float64)


# Operation: the function, and the greatest error allowed for f32 and f64.
FUNCTIONS = {
    "exp": (np.exp, mpmath.exp, 1.0, 1.0),
    # f32: 1.523 with fma and 1.635 without, over every argument of 2**-7 to 2**7 in magnitude
    "expm1": (np.expm1, mpmath.expm1, 1.635, 1.6),
    "log": (np.log, mpmath.log, 1.0, 1.0),
    "log1p": (np.log1p, mpmath.log1p, 1.0, 1.0),
    "tanh": (np.tanh, mpmath.tanh, 1.4, 1.4),
    "erf": (erf, mpmath.erf, 1.4, 1.4),
    "sin": (np.sin, mpmath.sin, 1.0, 1.0),
    "cos": (np.cos, mpmath.cos, 1.0, 1.0),
    "rsqrt": (lambda x: 1 / np.sqrt(x), lambda x: 1 / mpmath.sqrt(x), 1.5, 1.5),
}
SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 2.0, 0.5, 88.72284, 88.72285, -87.4]
SPECIAL += [1e-45, -1e-45, 1e-40, -1e-40, 3.4e38, -3.4e38, -103.97, -103.98, -104.5, 0.625, 10.0]
SPECIAL += [np.pi / 2, np.pi / 4, -np.pi, 22.0, 7.32e31, 4.0, 1.1754944e-38, 16777216.0]


def patterns(stride: int) -> np.ndarray:
    bits = np.arange(0, 2**32, stride, dtype=np.uint64).astype(np.uint32)
    return np.concatenate([bits.view(np.float32), np.array(SPECIAL, np.float32)])


def check_f32(op: str, x: np.ndarray, found: np.ndarray) -> None:
    exact, _, bound, _ = FUNCTIONS[op]
    with np.errstate(all="ignore"):
        wrong = errors(found, exact(x.astype(np.float64)))
    worst = int(np.argmax(wrong))
    assert wrong[worst] <= bound, f"{op}({x[worst]!r}) = {found[worst]!r}: {wrong[worst]} ulp"


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("op", FUNCTIONS)
def test_f32_over_all_magnitudes(op, fused):
    x = patterns(60_013)
    check_f32(op, x, interpret(program(op, (F32,), F32), x, fused=fused))


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, BASELINE])
@pytest.mark.parametrize("op", FUNCTIONS)
def test_f32_native_over_very_many(op, options):
    bits = np.arange(0, 2**32, 23, dtype=np.uint64).astype(np.uint32)
    for part in np.array_split(bits, 64):
        x = part.view(np.float32)
        check_f32(op, x, native(program(op, (F32,), F32), x, options=options))


@pytest.mark.parametrize("op", FUNCTIONS)
def test_f32_native_gives_the_interpreters_values(op):
    x = patterns(600_011)
    check_f32(op, x, native(program(op, (F32,), F32), x))


def samples_f64(op: str, count: int) -> np.ndarray:
    rng = np.random.default_rng(len(op) * 7 + ord(op[0]))
    x = np.concatenate(
        [
            rng.integers(0, 2**64, count, dtype=np.uint64).view(np.float64),
            rng.uniform(-10, 10, count),
            rng.uniform(-1, 1, count),
            rng.uniform(-750, 750, count),
            rng.uniform(0.5, 2, count),
            [5e-324, 1e-310, 709.7827, 709.79, -745.1, -745.2, -708.5, 1e22, np.pi / 2, np.pi],
            [0.625, 1.0, 6.0, 20.0, -1.0, 2.0**797 * 6381956970095103],
        ]
    )
    keep = np.isfinite(x)
    if op in {"log", "rsqrt"}:
        keep &= x > 0
    if op == "log1p":
        keep &= x > -1
    if op in {"exp", "expm1", "tanh", "erf"}:
        keep &= np.abs(x) < 2000
    if op not in {"log", "rsqrt", "exp", "cos"}:
        keep &= np.abs(x) > 1e-300  # mpmath has no tiny minus one to cancel with
    return x[keep]


def check_f64(op: str, x: np.ndarray, found: np.ndarray) -> None:
    _, exact, _, bound = FUNCTIONS[op]
    wrong = errors_f64(found, exact, x, bits=1200 if op in {"sin", "cos"} else 160)
    worst = int(np.argmax(wrong))
    assert wrong[worst] <= bound, f"{op}({x[worst]!r}) = {found[worst]!r}: {wrong[worst]} ulp"


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("op", FUNCTIONS)
def test_f64_over_all_magnitudes(op, fused):
    x = samples_f64(op, 150)
    check_f64(op, x, interpret(program(op, (F64,), F64), x, fused=fused))


@pytest.mark.slow
@pytest.mark.parametrize("op", FUNCTIONS)
def test_f64_native_over_many(op):
    x = samples_f64(op, 8_000)
    check_f64(op, x, native(program(op, (F64,), F64), x))


@pytest.mark.parametrize("op", FUNCTIONS)
def test_f64_special_values(op):
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, -5e-324, 5e-324, -2.0, 1e308], np.float64)
    with np.errstate(all="ignore"):
        exact = FUNCTIONS[op][0](x)
    found = interpret(program(op, (F64,), F64), x)
    np.testing.assert_allclose(found, exact, rtol=1e-15)
    assert (np.signbit(found) == np.signbit(exact))[~np.isnan(exact)].all()


ENDS = [0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 3.0, -3.0, 0.5, -0.5, 1.5, np.inf, -np.inf, np.nan]
ENDS += [1e-45, -1e-45, 1e38, -1e38, 16777215.0, 16777216.0, 16777217.0, 1e-30, -7.0, 33554433.0]


@pytest.mark.parametrize("dtype", [F32, F64])
def test_pow_of_special_values_is_that_of_c(dtype):
    x, y = (
        np.array(side, np.float64).astype(dtype.numpy)
        for side in zip(*itertools.product(ENDS, ENDS), strict=True)
    )
    with np.errstate(all="ignore"):
        exact = np.power(x.astype(np.float64), y.astype(np.float64))
    of = program("pow", (dtype, dtype), dtype)
    for found in (interpret(of, x, y), native(of, x, y)):
        assert errors(found, exact).max() <= (0.6 if dtype is F32 else 2)


def test_pow_f32():
    rng = np.random.default_rng(5)
    n = 60_000
    x = rng.integers(1, 0x7F800000, n).astype(np.uint32).view(np.float32)
    y = rng.uniform(-50, 50, n).astype(np.float32)
    x[: n // 2] = np.exp(rng.uniform(-3, 3, n // 2))
    x[: n // 8] = 1 + rng.uniform(-0.01, 0.01, n // 8)
    y[: n // 8] *= 300
    with np.errstate(all="ignore"):
        exact = np.power(x.astype(np.float64), y.astype(np.float64))
    of = program("pow", (F32, F32), F32)
    for found in (interpret(of, x, y), interpret(of, x, y, fused=False), native(of, x, y)):
        assert errors(found, exact).max() <= 0.6


@pytest.mark.parametrize("fused", [True, False])
def test_pow_f64(fused):
    rng = np.random.default_rng(6)
    n = 300
    x = np.concatenate(
        [
            np.exp(rng.uniform(-700, 700, n)),
            np.exp(rng.uniform(-2, 2, n)),
            1 + rng.uniform(-1e-3, 1e-3, n),
            1e-310 * rng.uniform(0.1, 1, n),
        ]
    )
    y = np.concatenate([rng.uniform(-s, s, n) for s in (3.0, 350.0, 350e3, 1.0)])
    found = interpret(program("pow", (F64, F64), F64), x, y, fused=fused)
    wrong = errors_f64(found, mpmath.power, x, y)
    assert wrong.max() <= 1.0
