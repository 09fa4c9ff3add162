"""nnc on one workload: ``python -m benchmarks.contest_nnc NAME THREADS BUDGET``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

MODELS = Path(__file__).parent / "models"
EPOCH_ROWS = 4096


def main(name: str, threads: int, budget: float) -> None:
    """Print one JSON line of seconds: step, fit (a step inside fit), infer, first steps."""
    from benchmarks.timing import median_seconds
    from benchmarks.workloads import WORKLOADS, samples

    work = next(w for w in WORKLOADS if w.name == name)
    x, y = samples(work, work.batch)
    with tempfile.TemporaryDirectory() as cache:
        cold = first_step(name, threads, cache)
        warm = first_step(name, threads, cache)
    import nnc

    net = nnc.compile(MODELS / f"{name}.nn", threads=threads)
    many_x, many_y = samples(work, EPOCH_ROWS)
    data = {"x": many_x, "y": many_y}
    steps = EPOCH_ROWS // work.batch
    print(
        json.dumps(
            {
                "step": median_seconds(lambda: net.step(x=x, y=y), budget),
                "fit": median_seconds(lambda: net.fit(data, epochs=1), budget) / steps,
                "infer": median_seconds(lambda: net(x=x), budget / 2),
                "first": cold,
                "warm": warm,
            }
        )
    )


def first_step(name: str, threads: int, cache: str) -> float:
    """Return the seconds from ``import nnc`` to the end of a first step, in a new process."""
    program = (
        "import time; began = time.perf_counter()\n"
        "import nnc, sys\n"
        "from benchmarks.workloads import WORKLOADS, samples\n"
        f"work = next(w for w in WORKLOADS if w.name == {name!r})\n"
        "x, y = samples(work, work.batch)\n"
        f"nnc.compile(sys.argv[1], threads={threads}).step(x=x, y=y)\n"
        "print(time.perf_counter() - began)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(MODELS / f"{name}.nn")],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "NNC_CACHE_DIR": cache, "XDG_CACHE_HOME": cache},
    )
    return float(done.stdout)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
