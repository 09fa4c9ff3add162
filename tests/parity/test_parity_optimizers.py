"""Twenty losses of a network for the digits, in f64: those of PyTorch, for each optimizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.support.nets import EXAMPLES, net

torch = pytest.importorskip("torch")

BATCH, STEPS = 64, 20
DIGITS = """
model Digits(hidden: int = 32) {
    input  image: float[batch, 64]
    target digit: i32[batch] in 0..10
    h      = image |> linear(hidden) |> relu
    logits = h |> linear(10)
    loss   cross_entropy(logits, digit)
}
train Digits {
    optimizer = %s
    batch     = 64
    precision = "f64"
}
"""
PATHS = ("linear.weight", "linear.bias", "linear_2.weight", "linear_2.bias")
optim = torch.optim
OPTIMIZERS: dict[str, Callable[[list[Any]], Any]] = {
    "sgd(lr = 0.1)": lambda w: optim.SGD(w, 0.1),
    "sgd(lr = 0.1, momentum = 0.9)": lambda w: optim.SGD(w, 0.1, momentum=0.9),
    "sgd(lr = 0.1, momentum = 0.9, nesterov = true)": lambda w: optim.SGD(
        w, 0.1, momentum=0.9, nesterov=True
    ),
    "sgd(lr = 0.1, momentum = 0.8, weight_decay = 0.01)": lambda w: optim.SGD(
        w, 0.1, momentum=0.8, weight_decay=0.01
    ),
    "rmsprop(lr = 0.01)": lambda w: optim.RMSprop(w, 0.01),
    "rmsprop(lr = 0.003, momentum = 0.9, centered = true, weight_decay = 0.1)": lambda w: (
        optim.RMSprop(w, 0.003, momentum=0.9, centered=True, weight_decay=0.1)
    ),
    "adagrad(lr = 0.05)": lambda w: optim.Adagrad(w, 0.05),
    "adagrad(lr = 0.05, lr_decay = 0.1, initial = 0.5)": lambda w: optim.Adagrad(
        w, 0.05, lr_decay=0.1, initial_accumulator_value=0.5
    ),
    "adam(lr = 0.01)": lambda w: optim.Adam(w, 0.01),
    "adam(lr = 0.01, beta1 = 0.8, beta2 = 0.99, eps = 1e-4, weight_decay = 0.1)": lambda w: (
        optim.Adam(w, 0.01, betas=(0.8, 0.99), eps=1e-4, weight_decay=0.1)
    ),
    "adamw(lr = 0.01, weight_decay = 0.1)": lambda w: optim.AdamW(w, 0.01, weight_decay=0.1),
}


def batches() -> list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    with np.load(EXAMPLES / "data/digits.npz") as data:
        image, digit = data["image"].astype(np.float64), data["digit"].astype(np.int32)
    cuts = [slice(k * BATCH, (k + 1) * BATCH) for k in range(STEPS)]
    return [(image[c], digit[c]) for c in cuts]


def torch_losses(start: list[Any], make: Callable[[list[Any]], Any]) -> list[float]:
    weights = [torch.tensor(w, requires_grad=True) for w in start]
    optimizer = make(weights)
    losses = []
    for image, digit in batches():
        w1, b1, w2, b2 = weights
        logits = torch.relu(torch.tensor(image) @ w1 + b1) @ w2 + b2
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor(digit.astype(np.int64)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_twenty_losses_are_those_of_pytorch(optimizer: str) -> None:
    program = net(DIGITS % optimizer)
    start = [program.params[path].copy() for path in PATHS]
    assert all(w.dtype == np.float64 for w in start)
    expected = torch_losses(start, OPTIMIZERS[optimizer])
    found = [program.step(image=image, digit=digit) for image, digit in batches()]
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert found[-1] < 0.95 * found[0]
