"""Layers of the library, values, gradients and running statistics in f64: those of PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.support.nets import differentiate, net, training

torch = pytest.importorskip("torch")
functional = torch.nn.functional
RNG = np.random.default_rng(11)


def tensor(array: Any) -> Any:
    return torch.tensor(np.asarray(array), requires_grad=True)


def close(found: Any, expected: Any, what: str = "") -> None:
    np.testing.assert_allclose(
        found, expected.detach().numpy(), rtol=1e-10, atol=1e-13, err_msg=what
    )


def test_layer_norm_and_rms_norm_over_the_last_dim() -> None:
    program = net(
        training(
            """
            input x: float[b, 5, 19]
            target c: float[b, 5, 19]
            param p: float[4, 5, 19] = zeros()
            require b == 4
            u = x + p
            one = u |> layer_norm()
            two = u |> rms_norm(eps = 1e-3)
            output one
            output two
            loss l1 = sum(one * c)
            loss l2 = sum(two * c^2)
            """
        )
    )
    x, c, p = RNG.normal(2, 3, (3, 4, 5, 19))
    scale, shift, scale2 = RNG.normal(1, 0.3, (3, 19))
    given = {"layer_norm.scale": scale, "layer_norm.shift": shift, "rms_norm.scale": scale2, "p": p}
    for path, value in given.items():
        program.params[path][...] = value
    losses, gradients = differentiate(program, {"x": x, "c": c})
    theirs = {path: tensor(value) for path, value in given.items()}
    u = torch.tensor(x) + theirs["p"]
    one = functional.layer_norm(
        u, (19,), theirs["layer_norm.scale"], theirs["layer_norm.shift"], 1e-5
    )
    two = functional.rms_norm(u, (19,), theirs["rms_norm.scale"], 1e-3)
    total = (one * torch.tensor(c)).sum() + (two * torch.tensor(c) ** 2).sum()
    total.backward()
    assert sum(losses.values()) == pytest.approx(total.item(), rel=1e-11)
    values = program(x=x)
    close(values["one"], one)
    close(values["two"], two)
    for path, weight in theirs.items():
        close(gradients[path], weight.grad, path)


def test_batch_norm_in_training_and_inference() -> None:
    """Eight steps move the running statistics; inference then uses them."""
    program = net(
        training(
            """
            input x: float[b, 6]
            target c: float[b, 6]
            param w: float[6, 6] = glorot_uniform()
            y = (x @ w) |> batch_norm(momentum = 0.2)
            output y
            loss mean((y - c)^2)
            """
        )
    )
    w = tensor(program.params["w"].copy())
    norm = torch.nn.BatchNorm1d(6, momentum=0.2, dtype=torch.float64)
    optimizer = torch.optim.SGD([w, *norm.parameters()], lr=0.1)
    for rows in (7, 7, 64, 2, 33, 7, 7, 7):
        x, c = RNG.normal(1, 2, (2, rows, 6))
        loss = ((norm(torch.tensor(x) @ w) - torch.tensor(c)) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert program.step(x=x, c=c) == pytest.approx(loss.item(), rel=1e-10)
    for path, theirs in (
        ("w", w),
        ("batch_norm.scale", norm.weight),
        ("batch_norm.shift", norm.bias),
        ("batch_norm.mean", norm.running_mean),
        ("batch_norm.var", norm.running_var),
    ):
        close(program.params[path], theirs, path)
    norm.eval()
    before = {path: array.copy() for path, array in program.params.items()}
    for rows in (1, 5):
        x = RNG.normal(0, 1, (rows, 6))
        close(program(x=x)["y"], norm(torch.tensor(x) @ w))
    assert all(np.array_equal(before[path], program.params[path]) for path in before)


def test_batch_norm_over_further_dims() -> None:
    program = net(
        training(
            """
            input x: float[b, 3, 4, 5]
            target c: float[b, 3, 4, 5]
            y = x |> batch_norm()
            output y
            loss sum(y * c)
            """
        )
    )
    norm = torch.nn.BatchNorm2d(3, dtype=torch.float64)
    x, c = RNG.normal(1, 2, (2, 7, 3, 4, 5))
    loss = (norm(torch.tensor(x)) * torch.tensor(c)).sum()
    loss.backward()
    losses, gradients = differentiate(program, {"x": x, "c": c})
    assert sum(losses.values()) == pytest.approx(loss.item(), rel=1e-9)
    close(gradients["batch_norm.scale"], norm.weight.grad)
    close(gradients["batch_norm.shift"], norm.bias.grad)
    close(program.params["batch_norm.mean"], norm.running_mean)
    close(program.params["batch_norm.var"], norm.running_var)
    norm.eval()
    close(program(x=x)["y"], norm(torch.tensor(x)))


def test_embedding_and_its_scattered_gradient() -> None:
    """Rows that several places name get the sum of their gradients."""
    program = net(
        training(
            """
            input ids: i32[b, t] in 0..13
            target c: float[b, t, 5]
            y = ids |> embedding(13, 5)
            output y
            loss sum(y * c)
            """
        )
    )
    ids = RNG.integers(0, 13, (6, 9)).astype(np.int32)
    c = RNG.normal(0, 1, (6, 9, 5))
    table = tensor(program.params["embedding.table"].copy())
    y = functional.embedding(torch.tensor(ids.astype(np.int64)), table)
    (y * torch.tensor(c)).sum().backward()
    _, gradients = differentiate(program, {"ids": ids, "c": c})
    close(program(ids=ids)["y"], y)
    close(gradients["embedding.table"], table.grad)


def test_one_table_for_embedding_and_output_gets_both_gradients() -> None:
    program = net(
        training(
            """
            input ids: i32[b] in 0..7
            target next: i32[b] in 0..7
            words = embedding(7, 4)
            h = tanh(words(ids) |> linear(4))
            logits[i, v] = sum[d](h[i, d] * words.table[v, d])
            output logits
            loss cross_entropy(logits, next)
            """
        )
    )
    ids, follow = RNG.integers(0, 7, (2, 21)).astype(np.int32)
    names = ("words.table", "linear.weight", "linear.bias")
    table, w, b = (tensor(program.params[n].copy()) for n in names)
    h = torch.tanh(functional.embedding(torch.tensor(ids.astype(np.int64)), table) @ w + b)
    loss = functional.cross_entropy(h @ table.T, torch.tensor(follow.astype(np.int64)))
    loss.backward()
    losses, gradients = differentiate(program, {"ids": ids, "next": follow})
    assert sum(losses.values()) == pytest.approx(loss.item(), rel=1e-11)
    for name, theirs in zip(names, (table, w, b), strict=True):
        close(gradients[name], theirs.grad, name)
