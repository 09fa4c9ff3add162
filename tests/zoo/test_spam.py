"""The model of spam is that of PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.support.zoo import Batch, Tensors, compiled, follow

WORDS, LENGTH, ROWS = 60, 12, 9


def mails(step: int) -> Batch:
    rng = np.random.default_rng(step)
    words = rng.integers(1, WORDS, (ROWS, LENGTH)).astype(np.int32)
    words[np.arange(LENGTH) >= rng.integers(1, LENGTH + 1, ROWS)[:, None]] = 0
    return {"words": words, "spam": rng.integers(0, 2, ROWS).astype(np.int32)}


def spam(p: Tensors, d: Tensors) -> Any:
    import torch

    words = d["words"].long()
    x = p["embedding.table"][words].transpose(1, 2)
    parts = []
    for name in ("windows", "windows_2", "windows_3"):
        y = torch.nn.functional.conv1d(x, p[f"{name}.weight"].transpose(1, 2), p[f"{name}.bias"])
        begins = (words > 0)[:, None, : y.shape[2]]
        parts.append(torch.where(begins, torch.relu(y), 0.0).max(2).values)
    score = torch.cat(parts, 1) @ p["linear.weight"] + p["linear.bias"]
    target = d["spam"].to(score.dtype)
    return torch.nn.functional.binary_cross_entropy_with_logits(score[:, 0], target)


@pytest.mark.parametrize("precision", ["f64", "f32"])
def test_spam(precision: str) -> None:
    import torch

    net = compiled(
        "spam/spam.nn",
        precision,
        "optimizer = adam(lr = 2e-3)",
        vocabulary=WORDS,
        length=LENGTH,
        width=7,
        filters=6,
        drop=0.0,
    )
    follow(net, mails, spam, lambda p: torch.optim.Adam(list(p.values()), lr=2e-3))
