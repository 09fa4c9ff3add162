"""Timing shared by every contestant."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

WARM_UP = 3
MIN_RUNS = 7


def median_seconds(call: Callable[[], object], budget: float) -> float:
    """Return the median time of ``call`` over about ``budget`` seconds, after a warm-up.

    Calls that are too short for the clock are timed in groups.
    """
    for _ in range(WARM_UP):
        call()
    began = time.perf_counter()
    call()
    inner = max(1, int(2e-4 / max(time.perf_counter() - began, 1e-7)))
    times: list[float] = []
    end = time.perf_counter() + budget
    while len(times) < MIN_RUNS or time.perf_counter() < end:
        began = time.perf_counter()
        for _ in range(inner):
            call()
        times.append((time.perf_counter() - began) / inner)
    return statistics.median(times)
