"""The yardstick workloads as data: sizes, batch, optimizer. Every contestant builds these."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Workload:
    """A perceptron of ``sizes``; one output means a binary target in f32, else class numbers."""

    name: str
    sizes: tuple[int, ...]
    batch: int
    optimizer: str
    rate: float


WORKLOADS = (
    Workload("logreg", (2, 1), 64, "sgd", 1e-3),
    Workload("digits", (64, 128, 10), 64, "sgd", 1e-3),
    Workload("mlp", (784, 512, 512, 10), 128, "adam", 1e-4),
)


def samples(work: Workload, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ``rows`` random inputs and targets."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((rows, work.sizes[0])).astype(np.float32)
    if work.sizes[-1] == 1:
        return x, (rng.random((rows, 1)) > 0.5).astype(np.float32)
    return x, rng.integers(0, work.sizes[-1], rows).astype(np.int32)
