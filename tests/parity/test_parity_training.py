"""Clipping, accumulation and schedules: those of PyTorch, and their formulas."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.support.nets import net, training

RNG = np.random.default_rng(5)
NETWORK = """
input x: float[b, 9]
target y: float[b, 3]
h = tanh(x |> linear(7)) |> linear(3)
output h
loss mse(h, y)
"""
PATHS = ("linear.weight", "linear.bias", "linear_2.weight", "linear_2.bias")


def test_clipping_by_the_norm_of_all_gradients_is_that_of_pytorch() -> None:
    torch = pytest.importorskip("torch")
    program = net(training(NETWORK, "clip_norm = 1.5"))
    weights = [torch.tensor(program.params[p].copy(), requires_grad=True) for p in PATHS]
    optimizer = torch.optim.SGD(weights, lr=0.1)
    clipped = 0
    for step in range(20):
        x, y = RNG.normal(0, 1, (16, 9)), RNG.normal(0, 0.1 if step % 2 else 5, (16, 3))
        w1, b1, w2, b2 = weights
        out = torch.tanh(torch.tensor(x) @ w1 + b1) @ w2 + b2
        loss = torch.nn.functional.mse_loss(out, torch.tensor(y))
        optimizer.zero_grad()
        loss.backward()
        clipped += torch.nn.utils.clip_grad_norm_(weights, 1.5).item() > 1.5
        optimizer.step()
        assert program.step(x=x, y=y) == pytest.approx(loss.item(), rel=1e-9)
    assert 0 < clipped < 20
    for path, weight in zip(PATHS, weights, strict=True):
        np.testing.assert_allclose(program.params[path], weight.detach().numpy(), rtol=1e-9)


@pytest.mark.parametrize("rows", [48, 53], ids=["whole", "with-a-rest"])
def test_accumulated_batches_are_one_large_batch(rows: int) -> None:
    """Also where the last group is smaller, and its last micro-batch smaller still."""
    data = {"x": RNG.normal(0, 1, (rows, 9)), "y": RNG.normal(0, 1, (rows, 3))}
    large = net(training(NETWORK, "batch = 24\nseed = 3"))
    small = net(training(NETWORK, "batch = 8\naccumulate = 3\nseed = 3"))
    histories = [program.fit(data, epochs=3) for program in (large, small)]
    for path in PATHS:
        np.testing.assert_allclose(small.params[path], large.params[path], rtol=1e-11, atol=1e-14)
    losses = [[epoch.loss for epoch in history.epochs] for history in histories]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-11)
    assert [e.steps for e in histories[1].epochs] == [e.steps for e in histories[0].epochs]


def cosine(t: int) -> float:
    done = min(max((t - 5) / (30 - 5), 0), 1)
    down = 0.01 + 0.5 * (0.2 - 0.01) * (1 + math.cos(math.pi * done))
    return 0.2 * t / 5 if t < 5 else down


SCHEDULES: dict[str, Callable[[int], float]] = {
    "0.25": lambda t: 0.25,
    "constant(0.25)": lambda t: 0.25,
    "step(0.5, every = 7)": lambda t: 0.5 * 0.1 ** ((t - 1) // 7),
    "step(0.5, 3, factor = 0.5)": lambda t: 0.5 * 0.5 ** ((t - 1) // 3),
    "exponential(0.5, 0.9)": lambda t: 0.5 * 0.9 ** (t - 1),
    "linear(0.3, total = 20)": lambda t: 0.3 * (1 - min((t - 1) / 20, 1)),
    "linear(0.1, 25, end = 0.4)": lambda t: 0.1 + 0.3 * min((t - 1) / 25, 1),
    "cosine(0.2, warmup = 5, total = 30, floor = 0.01)": cosine,
    "cosine(0.2, total = 30)": lambda t: 0.1 * (1 + math.cos(math.pi * min(t / 30, 1))),
}


def test_schedules_follow_their_formulas() -> None:
    """The gradient of each weight is 1, so that a step of descent is the rate."""
    weights = [f"w{k}" for k in range(len(SCHEDULES))]
    body = ["input x: float[b]"]
    body += [f"param {w}: float[3] = zeros()\nloss of_{w} = sum({w})" for w in weights]
    rates = ", ".join(f'"{w}" = sgd(lr = {s})' for w, s in zip(weights, SCHEDULES, strict=True))
    text = training("\n".join(body)).replace("sgd(lr = 0.1)", f"{{ {rates} }}")
    program = net(text)
    for t in range(1, 41):
        before = {w: program.params[w].copy() for w in weights}
        program.step(x=[0.0])
        for w, (schedule, rate) in zip(weights, SCHEDULES.items(), strict=True):
            taken: Any = before[w] - program.params[w]
            np.testing.assert_allclose(taken, rate(t), rtol=1e-9, atol=1e-14, err_msg=schedule)
