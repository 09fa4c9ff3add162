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
State = dict[str, Any]
MUON = '{ "**.weight" = muon(lr = 0.02), "**" = sgd(lr = 0.1) }'


class Written:
    """An optimizer that PyTorch does not have, or not in f64: ``rule`` gives the new weight."""

    def __init__(self, weights: list[Any], rule: Callable[[Any, Any, int, State], Any]) -> None:
        self.weights, self.rule, self.t = weights, rule, 0
        self.states: list[State] = [{"m": 0.0, "v": 0.0} for _ in weights]

    def zero_grad(self) -> None:
        for w in self.weights:
            w.grad = None

    def step(self) -> None:
        self.t += 1
        with torch.no_grad():
            for w, state in zip(self.weights, self.states, strict=True):
                w.copy_(self.rule(w, w.grad, self.t, state))


def lion(w: Any, g: Any, t: int, state: State) -> Any:
    u = torch.sign(0.9 * state["m"] + 0.1 * g)
    state["m"] = 0.99 * state["m"] + 0.01 * g
    return w * (1 - 0.001 * 0.1) - 0.001 * u


def lamb(w: Any, g: Any, t: int, state: State) -> Any:
    state["m"] = 0.9 * state["m"] + 0.1 * g
    state["v"] = 0.999 * state["v"] + 0.001 * g * g
    u = state["m"] / (1 - 0.9**t) / ((state["v"] / (1 - 0.999**t)).sqrt() + 1e-6) + 0.1 * w
    trust = w.norm() / u.norm() if w.norm() > 0 else 1.0
    return w - 0.01 * trust * u


def muon_and_sgd(w: Any, g: Any, t: int, state: State) -> Any:
    if w.ndim < 2:
        return w - 0.1 * g
    state["m"] = 0.95 * state["m"] + 0.05 * g
    u = 0.95 * state["m"] + 0.05 * g
    tall = max(1.0, u.shape[0] / u.shape[1]) ** 0.5
    x = u.T if u.shape[0] > u.shape[1] else u
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    x = x.T if u.shape[0] > u.shape[1] else x
    return w * (1 - 0.02 * 0.1) - 0.02 * tall * x


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
    "adadelta(lr = 1, weight_decay = 0.01)": lambda w: optim.Adadelta(w, 1.0, weight_decay=0.01),
    "adamax(lr = 0.01, weight_decay = 0.01)": lambda w: optim.Adamax(w, 0.01, weight_decay=0.01),
    "nadam(lr = 0.01, weight_decay = 0.01)": lambda w: optim.NAdam(w, 0.01, weight_decay=0.01),
    "radam(lr = 0.05, weight_decay = 0.01)": lambda w: optim.RAdam(w, 0.05, weight_decay=0.01),
    "lion(lr = 0.001, weight_decay = 0.1)": lambda w: Written(w, lion),
    "lamb(lr = 0.01, weight_decay = 0.1)": lambda w: Written(w, lamb),
    MUON: lambda w: Written(w, muon_and_sgd),
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
