"""Losses and activations of the library, values and gradients in f64: those of PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.support.nets import differentiate, net, training

torch = pytest.importorskip("torch")
functional = torch.nn.functional

ACTIVATIONS: dict[str, Any] = {
    "relu(x)": torch.relu,
    "leaky_relu(x)": functional.leaky_relu,
    "leaky_relu(x, 0.2)": lambda x: functional.leaky_relu(x, 0.2),
    "elu(x)": functional.elu,
    "elu(x, alpha = 0.5)": lambda x: functional.elu(x, 0.5),
    "gelu(x)": functional.gelu,
    "gelu(x, approximate = true)": lambda x: functional.gelu(x, approximate="tanh"),
    "silu(x)": functional.silu,
    "sigmoid(x)": torch.sigmoid,
    "tanh(x)": torch.tanh,
    "softplus(x)": functional.softplus,
    "softmax(x)": lambda x: functional.softmax(x, -1),
    "softmax(x, axis = 0)": lambda x: functional.softmax(x, 0),
    "log_softmax(x)": lambda x: functional.log_softmax(x, -1),
    "log_softmax(x, axis = 1)": lambda x: functional.log_softmax(x, 1),
    "clip(x, -0.5, 0.75)": lambda x: torch.clamp(x, -0.5, 0.75),
}
LOSSES: dict[str, Any] = {
    "mse(x, y)": functional.mse_loss,
    "mae(x, y)": functional.l1_loss,
    "huber(x, y)": functional.huber_loss,
    "huber(x, y, delta = 0.3)": lambda x, y: functional.huber_loss(x, y, delta=0.3),
    "binary_cross_entropy(x, y)": functional.binary_cross_entropy_with_logits,
    "cross_entropy(x, k)": functional.cross_entropy,
    "cross_entropy(x, k, label_smoothing = 0.1)": lambda x, k: functional.cross_entropy(
        x, k, label_smoothing=0.1
    ),
}
SPECIAL = (0.0, -0.0, 1e-300, -1e-9, 30.0, -30.0, 700.0, -700.0, 1.0, -1.0, 0.5, -0.5)


def test_activations_and_their_gradients_are_those_of_pytorch() -> None:
    """Each on its own parameter; the loss weighs the elements differently."""
    rng = np.random.default_rng(3)
    shape = (5, 3, 17)
    lines = ["input c: float[5, 3, 17]"]
    for number, call in enumerate(ACTIVATIONS):
        lines += [
            f"param p{number}: float[5, 3, 17] = zeros()",
            f"y{number} = {call.replace('(x', f'(p{number}', 1)}",
            f"output v{number} = y{number}",
            f"loss l{number} = sum(y{number} * c)",
        ]
    program = net(training("\n".join(lines)))
    start = rng.normal(0, 3, shape)
    weight = rng.normal(0, 1, shape)
    for number in range(len(ACTIVATIONS)):
        program.params[f"p{number}"][...] = start
    _, gradients = differentiate(program, {"c": weight})
    values = program(c=weight)
    for number, (call, theirs) in enumerate(ACTIVATIONS.items()):
        x = torch.tensor(start, requires_grad=True)
        y = theirs(x)
        (y * torch.tensor(weight)).sum().backward()
        np.testing.assert_allclose(
            values[f"v{number}"], y.detach().numpy(), rtol=1e-12, atol=1e-14, err_msg=call
        )
        np.testing.assert_allclose(
            gradients[f"p{number}"], x.grad.numpy(), rtol=1e-11, atol=1e-13, err_msg=call
        )


def test_activations_hold_at_special_numbers() -> None:
    calls = [c for c in ACTIVATIONS if "softmax" not in c]
    lines = [f"input q: float[{len(SPECIAL)}]"]
    for number, call in enumerate(calls):
        lines += [
            f"param p{number}: float[{len(SPECIAL)}] = zeros()",
            f"y{number} = {call.replace('(x', f'(p{number}', 1)}",
            f"output v{number} = y{number}",
            f"loss l{number} = sum(y{number} * q)",
        ]
    program = net(training("\n".join(lines)))
    for number in range(len(calls)):
        program.params[f"p{number}"][...] = SPECIAL
    ones = np.ones(len(SPECIAL))
    _, gradients = differentiate(program, {"q": ones})
    values = program(q=ones)
    for number, call in enumerate(calls):
        x = torch.tensor(SPECIAL, dtype=torch.float64, requires_grad=True)
        y = ACTIVATIONS[call](x)
        y.sum().backward()
        # PyTorch's softplus is the identity above 20, which leaves out 2e-9
        rtol = 1e-9 if "softplus" in call else 1e-12
        np.testing.assert_allclose(
            values[f"v{number}"], y.detach().numpy(), rtol=rtol, atol=1e-300, err_msg=call
        )
        free = ~np.isin(SPECIAL, (-0.5, 0.75)) if "clip" in call else np.ones(len(SPECIAL), bool)
        np.testing.assert_allclose(
            gradients[f"p{number}"][free], x.grad.numpy()[free], rtol=rtol, atol=1e-16, err_msg=call
        )


def test_losses_and_their_gradients_are_those_of_pytorch() -> None:
    rng = np.random.default_rng(4)
    rows, classes = 37, 11
    lines = [f"target y: float[b, {classes}]", f"target k: i32[b] in 0..{classes}"]
    for number, call in enumerate(LOSSES):
        lines += [
            f"param p{number}: float[{rows}, {classes}] = zeros()",
            f"loss l{number} = {call.replace('(x', f'(p{number}', 1)}",
        ]
    lines.append("output o = p0")
    program = net(training(f"input z: float[b]\nrequire b == {rows}\n" + "\n".join(lines)))
    start = rng.normal(0, 2, (rows, classes))
    y = rng.uniform(0, 1, (rows, classes))
    k = rng.integers(0, classes, rows)
    for number in range(len(LOSSES)):
        program.params[f"p{number}"][...] = start
    losses, gradients = differentiate(
        program, {"y": y, "k": k.astype(np.int32), "z": np.zeros(rows)}
    )
    for number, (call, theirs) in enumerate(LOSSES.items()):
        x = torch.tensor(start, requires_grad=True)
        loss = theirs(x, torch.tensor(k if ", k" in call else y))
        loss.backward()
        np.testing.assert_allclose(losses[f"l{number}"], loss.item(), rtol=1e-12, err_msg=call)
        np.testing.assert_allclose(
            gradients[f"p{number}"], x.grad.numpy(), rtol=1e-11, atol=1e-16, err_msg=call
        )


def test_losses_on_logits_stay_finite_for_any_logit() -> None:
    program = net(
        training(
            """
            target y: float[b, 4]
            target k: i32[b] in 0..4
            param p: float[3, 4] = zeros()
            param q: float[3, 4] = zeros()
            require b == 3
            loss one = binary_cross_entropy(p, y)
            loss two = cross_entropy(q, k)
            """
        )
    )
    big = np.array([[1e4, -1e4, 3e8, -3e8], [0, 0, 0, 0], [800, 800, -800, -800]])
    program.params["p"][...] = big
    program.params["q"][...] = big
    y = np.array([[1.0, 0, 0.5, 1], [0, 1, 0.5, 0], [1, 0, 1, 0]])
    k = np.array([1, 2, 3], np.int32)
    losses, gradients = differentiate(program, {"y": y, "k": k})
    p = torch.tensor(big, requires_grad=True)
    q = torch.tensor(big, requires_grad=True)
    one = functional.binary_cross_entropy_with_logits(p, torch.tensor(y))
    two = functional.cross_entropy(q, torch.tensor(k.astype(np.int64)))
    (one + two).backward()
    np.testing.assert_allclose([losses["one"], losses["two"]], [one.item(), two.item()], rtol=1e-14)
    np.testing.assert_allclose(gradients["p"], p.grad.numpy(), rtol=1e-12, atol=1e-300)
    np.testing.assert_allclose(gradients["q"], q.grad.numpy(), rtol=1e-12, atol=1e-300)
