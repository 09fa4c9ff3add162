"""nnc on one workload: ``python -m benchmarks.contest_nnc NAME THREADS BUDGET``."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

MODELS = Path(__file__).parent / "models"
EPOCH_ROWS = 4096


def main(name: str, threads: int, budget: float) -> None:
    """Print one JSON line of seconds: step, fit (a step inside fit), infer, first steps."""
    from benchmarks.timing import median_seconds
    from benchmarks.workloads import WORKLOADS, samples

    work = next(w for w in WORKLOADS if w.name == name)
    x, y = samples(work, work.batch)
    os.environ["NNC_CACHE_DIR"] = tempfile.mkdtemp()
    began = time.perf_counter()
    import nnc

    path = MODELS / f"{name}.nn"
    net = nnc.compile(path, threads=threads)
    net.step(x=x, y=y)
    cold = time.perf_counter() - began
    began = time.perf_counter()
    again = nnc.compile(path, threads=threads)
    again.step(x=x, y=y)
    warm = time.perf_counter() - began
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


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
