"""Scalar functions of numbers that are known at compile time, as IEEE arithmetic has them."""

from __future__ import annotations

import math
from collections.abc import Callable

_INF = math.inf


def _log(x: float) -> float:
    return math.log(x) if x > 0 else (-_INF if x == 0 else math.nan)


def _log1p(x: float) -> float:
    return math.log1p(x) if x > -1 else (-_INF if x == -1 else math.nan)


def _sqrt(x: float) -> float:
    return math.sqrt(x) if x >= 0 else math.nan


def _rsqrt(x: float) -> float:
    return 1 / math.sqrt(x) if x > 0 else (_INF if x == 0 else math.nan)


def _whole(f: Callable[[float], int]) -> Callable[[float], float]:
    return lambda x: float(f(x)) if math.isfinite(x) else x


FUNCTIONS: dict[str, Callable[[float], float]] = {
    "exp": math.exp,
    "expm1": math.expm1,
    "log": _log,
    "log1p": _log1p,
    "sqrt": _sqrt,
    "rsqrt": _rsqrt,
    "tanh": math.tanh,
    "erf": math.erf,
    "sin": math.sin,
    "cos": math.cos,
    "floor": _whole(math.floor),
    "ceil": _whole(math.ceil),
    "round": _whole(round),
}


def known(name: str, x: float) -> float:
    """Return a function's value at ``x``; what overflows is infinite, what has no value NaN."""
    try:
        return FUNCTIONS[name](x)
    except OverflowError:
        return _INF
    except ValueError:
        return math.nan
