"""PyTorch (eager) on one workload: ``python -m benchmarks.contest_torch NAME THREADS BUDGET``."""

from __future__ import annotations

import json
import sys
import time


def main(name: str, threads: int, budget: float) -> None:
    """Print one JSON line of seconds: step, infer, first step."""
    from benchmarks.timing import median_seconds
    from benchmarks.workloads import WORKLOADS, samples

    work = next(w for w in WORKLOADS if w.name == name)
    x, y = samples(work, work.batch)
    began = time.perf_counter()
    import torch
    from torch import nn

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for a, b in zip(work.sizes, work.sizes[1:], strict=False):
        layers += [nn.Linear(a, b), nn.ReLU()]
    model = nn.Sequential(*layers[:-1])
    binary = work.sizes[-1] == 1
    criterion = nn.BCEWithLogitsLoss() if binary else nn.CrossEntropyLoss()
    inputs = torch.from_numpy(x)
    targets = torch.from_numpy(y) if binary else torch.from_numpy(y).long()
    if work.optimizer == "sgd":
        optimizer: torch.optim.Optimizer = torch.optim.SGD(model.parameters(), lr=work.rate)
    else:
        optimizer = torch.optim.Adam(model.parameters(), lr=work.rate, fused=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        criterion(model(inputs), targets).backward()
        optimizer.step()

    step()
    first = time.perf_counter() - began
    result = {"first": first, "step": median_seconds(step, budget)}
    model.eval()
    with torch.inference_mode():
        result["infer"] = median_seconds(lambda: model(inputs), budget / 2)
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
