"""Schedules of the library against those of PyTorch, where it has them: the rate of each step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.support.nets import net

torch = pytest.importorskip("torch")
rates = torch.optim.lr_scheduler
STEPS = 25


def rates_of(schedule: str) -> list[float]:
    """Return how far each step of sgd with a gradient of -1 moves a number."""
    program = net(
        "model M {\ninput x: float[b]\nparam w: float = zeros()\nloss mean(x)*0 - w\n}\n"
        f'train M {{\noptimizer = sgd(lr = {schedule})\nprecision = "f64"\n}}\n'
    )
    places = [0.0]
    for _ in range(STEPS):
        program.step(x=np.zeros(1))
        places.append(float(program.params["w"]))
    return list(np.diff(places))


def pytorch_rates(make: Any) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1)
    schedule = make(optimizer)
    found = []
    for _ in range(STEPS):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


@pytest.mark.parametrize(
    ("schedule", "make"),
    [
        ("one_cycle(0.1, total = 26)", lambda o: rates.OneCycleLR(o, 0.1, 26)),
        ("polynomial(0.1, total = 20, power = 2)",
         lambda o: rates.PolynomialLR(o, 20, 2.0)),
        ("cosine_restarts(0.1, first = 7)",
         lambda o: rates.CosineAnnealingWarmRestarts(o, 7)),
        ("cosine_restarts(0.1, first = 3, factor = 2, floor = 0.01)",
         lambda o: rates.CosineAnnealingWarmRestarts(o, 3, 2, 0.01)),
        ("warmup_of(exponential(0.1, 0.9), steps = 8)",
         lambda o: rates.LambdaLR(o, lambda k: min((k + 1) / 8, 1) * 0.9**k)),
        ("inverse_sqrt(0.1, warmup = 9)",
         lambda o: rates.LambdaLR(o, lambda k: min((k + 1) / 9, 3 / (k + 1) ** 0.5))),
    ],
)  # fmt: skip
def test_rates(schedule: str, make: Any) -> None:
    np.testing.assert_allclose(rates_of(schedule), pytorch_rates(make), rtol=1e-9, atol=1e-12)
