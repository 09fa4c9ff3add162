"""Derives the polynomials of ``passes.math`` with mpmath; prints them as Python tuples.

Each is a weighted least-squares fit on Chebyshev nodes, close to minimax. Coefficients are rounded
to the element type one at a time, from the most to the least significant, and the rest fitted
again, so that rounding costs little. Run: ``python benchmarks/fit_math.py [name...]``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import mpmath as mp
import numpy as np

mp.mp.prec = 240
Real = Callable[[mp.mpf], mp.mpf]


@dataclass(frozen=True)
class Fit:
    """``value(x)`` as a polynomial of degree ``degree`` on [low, high], error times ``weight``."""

    value: Real
    low: float
    high: float
    degree: int
    bits: int
    weight: Real = lambda x: mp.mpf(1)
    fixed: tuple[float, ...] = ()


def rounded(value: mp.mpf, bits: int) -> mp.mpf:
    """The nearest f32 or f64."""
    return mp.mpf(float(np.float32(float(value)) if bits == 24 else float(value)))


def solve(fit: Fit, known: list[mp.mpf], nodes: list[mp.mpf]) -> list[mp.mpf]:
    """Fit the coefficients after ``known``, in the monomial basis."""
    count = fit.degree + 1 - len(known)
    rows = mp.matrix(len(nodes), count)
    goal = mp.matrix(len(nodes), 1)
    for i, x in enumerate(nodes):
        w = fit.weight(x)
        rest = fit.value(x) - sum((c * x**k for k, c in enumerate(known)), mp.mpf(0))
        goal[i] = rest * w
        for k in range(count):
            rows[i, k] = x ** (k + len(known)) * w
    return list(mp.lu_solve(rows.T * rows, rows.T * goal))


def run(fit: Fit) -> tuple[list[mp.mpf], mp.mpf]:
    """Coefficients from the constant term up, and the greatest weighted error."""
    count = 3 * fit.degree + 10
    angle = [mp.cos(mp.pi * (2 * i + 1) / (2 * count)) for i in range(count)]
    low, high = mp.mpf(fit.low), mp.mpf(fit.high)
    nodes = [(low + high) / 2 + (high - low) / 2 * c for c in angle]
    known = [mp.mpf(c) for c in fit.fixed]
    while len(known) <= fit.degree:
        known.append(rounded(solve(fit, known, nodes)[0], fit.bits))
    grid = [low + (high - low) * i / 1000 for i in range(1001)]
    error = max(
        abs(fit.value(x) - sum(c * x**k for k, c in enumerate(known))) * abs(fit.weight(x))
        for x in grid
    )
    return known, error


def series(f: Real, at_zero: float) -> Real:
    """``f`` with its limit at 0, which its formula does not give."""
    return lambda x: mp.mpf(at_zero) if x == 0 else f(x)


def erf_tail(t: mp.mpf) -> mp.mpf:
    return -mp.log(mp.erfc(t + 2))


def beyond(t: mp.mpf) -> mp.mpf:
    return mp.erfc(t + 2)


def normal_over(w: mp.mpf) -> mp.mpf:
    """``z / x`` where z is the x-quantile of |N(0, 1)| and ``w = -log(1 - x^2)``."""
    if w == 0:
        return mp.sqrt(mp.pi / 2)
    x = mp.sqrt(-mp.expm1(-w))
    beyond_x = mp.exp(-w) / (1 + x)
    v = mp.sqrt(w - 1) if w > 2 else x * mp.sqrt(mp.pi) / 2
    step = mp.mpf(1)
    while abs(step) > mp.mpf(2) ** -180:  # Halley's method
        newton = (beyond_x - mp.erfc(v)) / (2 / mp.sqrt(mp.pi) * mp.exp(-v * v))
        step = newton / (1 + v * newton)
        v -= step
    return mp.sqrt(2) * v / x


def normal(low: float, high: float, degree: int, bits: int) -> Fit:
    """A fit of ``normal_over`` around the middle of its range."""
    middle = mp.mpf(low + high) / 2
    half = (high - low) / 2
    return Fit(
        lambda t: normal_over(t + middle), -half, half, degree, bits,
        lambda t: 1 / normal_over(t + middle),
    )  # fmt: skip


LN2 = float(mp.log(2))
ROOT = float(mp.sqrt(2))
EXP = series(lambda r: (mp.exp(r) - 1 - r) / r**2, 0.5)
LOG = series(lambda f: (mp.log1p(f) - f + f**2 / 2) / f**3, 1 / mp.mpf(3))
ATANH = series(lambda z: (mp.atanh(mp.sqrt(z)) / mp.sqrt(z) - 1) * 2 / z, 2 / mp.mpf(3))
ATANH4 = series(lambda z: (mp.atanh(mp.sqrt(z)) / mp.sqrt(z) - 1 - z / 3) * 2 / z**2, 2 / mp.mpf(5))
TANH = series(lambda z: (mp.tanh(mp.sqrt(z)) / mp.sqrt(z) - 1) / z, -1 / mp.mpf(3))
ERF = series(lambda z: mp.erf(mp.sqrt(z)) / mp.sqrt(z) - 1, 2 / mp.sqrt(mp.pi) - 1)
SIN = series(lambda z: (mp.sin(mp.sqrt(z)) / mp.sqrt(z) - 1) / z, -1 / mp.mpf(6))
COS = series(lambda z: (mp.cos(mp.sqrt(z)) - 1 + z / 2) / z**2, 1 / mp.mpf(24))
LOG_PLAIN = series(lambda f: mp.log1p(f) / f, 1)
EXP2 = lambda r: mp.mpf(2) ** r  # noqa: E731
LOG2 = series(lambda z: mp.atanh(mp.sqrt(z)) / mp.sqrt(z) * 2 / mp.log(2), 2 / mp.log(2))

QUARTER = float((mp.pi / 4) ** 2) * 1.001
EDGE = float((3 - 2 * mp.sqrt(2)) ** 2) * 1.001

FITS = {
    "exp_f32": Fit(EXP, -LN2 / 2 - 0.001, LN2 / 2 + 0.001, 4, 24, lambda r: r**2),
    "exp_f64": Fit(EXP, -LN2 / 2 - 0.001, LN2 / 2 + 0.001, 10, 53, lambda r: r**2),
    "log_f32": Fit(LOG, 1 / ROOT - 1, ROOT - 1, 8, 24, lambda f: f**2),
    "log_f64": Fit(ATANH, 0, EDGE, 7, 53, lambda z: z),
    "pow_log_f64": Fit(ATANH4, 0, EDGE, 7, 53, lambda z: z**2),
    "pow_log2_f32": Fit(LOG2, 0, EDGE, 6, 53),
    "pow_exp2_f32": Fit(EXP2, -0.5001, 0.5001, 6, 53),
    "tanh_f32": Fit(TANH, 0, 0.625**2, 4, 24, lambda z: z),
    "tanh_f64": Fit(TANH, 0, 0.625**2, 11, 53, lambda z: z),
    "erf_f32": Fit(ERF, 0, 1, 6, 24),
    "erf_f64": Fit(ERF, 0, 1, 12, 53),
    "erf_tail_f32": Fit(erf_tail, -1, 2, 7, 24, beyond),
    "erf_tail_f64": Fit(erf_tail, -1, 4, 19, 53, beyond),
    "sin_f32": Fit(SIN, 0, QUARTER, 3, 24, lambda z: z),
    "sin_f64": Fit(SIN, 0, QUARTER, 6, 53, lambda z: z),
    "cos_f32": Fit(COS, 0, QUARTER, 2, 24, lambda z: z**2),
    "cos_f64": Fit(COS, 0, QUARTER, 6, 53, lambda z: z**2),
    # of ir.random: plain polynomials, to be computed by products and sums alone
    "random_log_f32": Fit(LOG_PLAIN, 1 / ROOT - 1, ROOT - 1, 8, 24),
    "random_log_f64": Fit(LOG_PLAIN, 1 / ROOT - 1, ROOT - 1, 19, 53),
    "normal_f32_0": normal(0, 6.5, 9, 24),
    "normal_f32_1": normal(6.5, 21.5, 9, 24),
    "normal_f64_0": normal(0, 5.5, 20, 53),
    "normal_f64_1": normal(5.5, 15.5, 20, 53),
    "normal_f64_2": normal(15.5, 43.7, 20, 53),
}


def main(names: list[str]) -> None:
    """Print the fits called ``names``, or all."""
    for name in names or list(FITS):
        coefficients, error = run(FITS[name])
        print(f"{name.upper()} = (  # within 2^{float(mp.log(error, 2)):.1f}")
        for c in coefficients:
            shown = repr(float(c))
            if FITS[name].bits == 24:
                shown = str(np.float32(float(c)))
            print(f"    {shown},")
        print(")")


if __name__ == "__main__":
    main(sys.argv[1:])
