"""Train blocks of many parts: patterns, freezing, penalties, and optimizers of the user's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nnc
from tests.support.nets import net, training

torch = pytest.importorskip("torch")
RNG = np.random.default_rng(21)
BODY = """
input x: float[b, 6]
target y: float[b, 4]
h = tanh(x |> linear(5)) |> linear(4)
output h
loss mse(h, y)
"""
PATHS = ("linear.weight", "linear.bias", "linear_2.weight", "linear_2.bias")


def batch() -> dict[str, Any]:
    return {"x": RNG.normal(0, 1, (11, 6)), "y": RNG.normal(0, 1, (11, 4))}


def of(optimizer: str, more: str = "", before: str = "") -> nnc.Net:
    text = training(BODY, more).replace("sgd(lr = 0.1)", optimizer)
    return net(before + text)


def weights_of(program: nnc.Net) -> dict[str, Any]:
    return {p: torch.tensor(program.params[p].copy(), requires_grad=True) for p in PATHS}


def loss_of(w: dict[str, Any], data: dict[str, Any]) -> Any:
    h = torch.tanh(torch.tensor(data["x"]) @ w["linear.weight"] + w["linear.bias"])
    return ((h @ w["linear_2.weight"] + w["linear_2.bias"] - torch.tensor(data["y"])) ** 2).mean()


def agree(program: nnc.Net, w: dict[str, Any]) -> None:
    for path in PATHS:
        np.testing.assert_allclose(
            program.params[path], w[path].detach().numpy(), rtol=1e-9, atol=1e-14, err_msg=path
        )


def test_the_first_pattern_that_fits_chooses() -> None:
    program = of(
        '{ "**.bias" = sgd(lr = 0.3), "linear.*" = adam(lr = 0.01), '
        '"**" = adamw(lr = 0.02, weight_decay = 0.5) }'
    )
    w = weights_of(program)
    optimizers = [
        torch.optim.SGD([w["linear.bias"], w["linear_2.bias"]], 0.3),
        torch.optim.Adam([w["linear.weight"]], 0.01),
        torch.optim.AdamW([w["linear_2.weight"]], 0.02, weight_decay=0.5),
    ]
    for _ in range(7):
        data = batch()
        loss = loss_of(w, data)
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        assert program.step(**data) == pytest.approx(loss.item(), rel=1e-10)
    agree(program, w)


def test_what_is_frozen_stays_and_does_not_count_for_clipping() -> None:
    program = of("sgd(lr = 0.5)", 'freeze = ["linear.weight", "linear_2.bias"]\nclip_norm = 0.1')
    w = weights_of(program)
    free = [w["linear.bias"], w["linear_2.weight"]]
    optimizer = torch.optim.SGD(free, 0.5)
    for _ in range(5):
        data = batch()
        loss = loss_of(w, data)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(free, 0.1)
        optimizer.step()
        assert program.step(**data) == pytest.approx(loss.item(), rel=1e-10)
    agree(program, w)


def test_a_penalty_moves_weights_but_is_no_part_of_the_loss() -> None:
    program = of("sgd(lr = 0.2)", 'regularize = { "**.weight" = l2(0.05), "**.bias" = l1(0.01) }')
    w = weights_of(program)
    optimizer = torch.optim.SGD(w.values(), 0.2)
    for _ in range(5):
        data = batch()
        loss = loss_of(w, data)
        squares = sum((w[p] ** 2).sum() for p in PATHS if p.endswith("weight"))
        absolutes = sum(w[p].abs().sum() for p in PATHS if p.endswith("bias"))
        optimizer.zero_grad()
        (loss + 0.05 * squares + 0.01 * absolutes).backward()
        optimizer.step()
        assert program.step(**data) == pytest.approx(loss.item(), rel=1e-10)
    agree(program, w)


LION = """
optimizer lion(lr: schedule = 1e-3, beta1: float = 0.9, beta2: float = 0.99)(w, g, t) {
    state m = 0
    c = beta1*m + (1 - beta1)*g
    m = beta2*m + (1 - beta2)*g
    s[..] = if c[..] > 0 then 1.0 else if c[..] < 0 then -1.0 else 0.0
    return w - lr(t)*s
}
"""


def test_an_optimizer_of_the_users_own() -> None:
    program = of("lion(lr = step(0.01, every = 2, factor = 0.5))", before=LION)
    w = weights_of(program)
    m = {p: torch.zeros_like(w[p]) for p in PATHS}
    for k in range(6):
        data = batch()
        loss = loss_of(w, data)
        grads = dict(zip(PATHS, torch.autograd.grad(loss, list(w.values())), strict=True))
        with torch.no_grad():
            for p in PATHS:
                w[p] -= 0.01 * 0.5 ** (k // 2) * torch.sign(0.9 * m[p] + 0.1 * grads[p])
                m[p] = 0.99 * m[p] + 0.01 * grads[p]
        assert program.step(**data) == pytest.approx(loss.item(), rel=1e-10)
    agree(program, w)


ORTHOGONAL = """
optimizer rows(lr: schedule = 1e-2)(w: float[m, n], g, t) {
    state scale: float[m] = 1
    size[i] = sqrt(sum[j](g[i, j]^2)) + 1e-8
    scale = 0.5*scale + 0.5*size
    u[i, j] = g[i, j] / scale[i]
    return w - lr(t)*u
}
"""


def test_an_optimizer_of_matrices_with_a_state_of_its_own_shape() -> None:
    program = of('{ "**.weight" = rows(lr = 0.05), "**" = sgd(lr = 0.1) }', before=ORTHOGONAL)
    w = weights_of(program)
    scale = {p: torch.ones(w[p].shape[0], dtype=torch.float64) for p in PATHS if "weight" in p}
    for _ in range(6):
        data = batch()
        loss = loss_of(w, data)
        grads = dict(zip(PATHS, torch.autograd.grad(loss, list(w.values())), strict=True))
        with torch.no_grad():
            for p in PATHS:
                if p in scale:
                    size = grads[p].pow(2).sum(1).sqrt() + 1e-8
                    scale[p] = 0.5 * scale[p] + 0.5 * size
                    w[p] -= 0.05 * grads[p] / scale[p][:, None]
                else:
                    w[p] -= 0.1 * grads[p]
        assert program.step(**data) == pytest.approx(loss.item(), rel=1e-10)
    agree(program, w)


def test_all_of_these_together_in_accumulated_epochs() -> None:
    """An epoch of groups of 2 x 5 rows of 33, the last group 3 rows, against the same by hand."""
    from nnc.runtime.data.source import shuffled

    program = of(
        '{ "**.weight" = rows(lr = 0.05), "**" = adam(lr = cosine(0.1, warmup = 2, total = 9)) }',
        'freeze = "linear.bias"\nregularize = { "**.weight" = l2(0.01) }\nclip_norm = 0.3\n'
        "batch = 5\naccumulate = 2\nseed = 4",
        ORTHOGONAL,
    )
    data = {"x": RNG.normal(0, 1, (33, 6)), "y": RNG.normal(0, 1, (33, 4))}
    w = weights_of(program)
    free = [p for p in PATHS if p != "linear.bias"]
    scale = {p: torch.ones(w[p].shape[0], dtype=torch.float64) for p in PATHS if "weight" in p}
    adam = torch.optim.Adam([w["linear_2.bias"]], lr=1)
    step, seen = 0, 0.0
    for epoch in range(2):
        order = shuffled(33, 4, epoch)
        seen = 0.0
        for start in range(0, 33, 10):
            step += 1
            cut = {k: a[order[start : start + 10]] for k, a in data.items()}
            loss = loss_of(w, cut)
            seen += loss.item() * len(cut["x"])
            squares = sum((w[p] ** 2).sum() for p in PATHS if p.endswith("weight"))
            for tensor in w.values():
                tensor.grad = None
            (loss + 0.01 * squares).backward()
            torch.nn.utils.clip_grad_norm_([w[p] for p in free], 0.3)
            with torch.no_grad():
                for p, before in scale.items():
                    g = w[p].grad
                    scale[p] = 0.5 * before + 0.5 * (g.pow(2).sum(1).sqrt() + 1e-8)
                    w[p] -= 0.05 * g / scale[p][:, None]
            rate = 0.1 * step / 2 if step < 2 else 0.05 * (
                1 + np.cos(np.pi * min((step - 2) / 7, 1))
            )  # fmt: skip
            adam.param_groups[0]["lr"] = rate
            adam.step()
    history = program.fit(data, epochs=2)
    assert history.last.steps == step
    assert history.last.loss == pytest.approx(seen / 33, rel=1e-9)
    agree(program, w)
