"""The autoencoder, the diffusion and the graph model are those of PyTorch.

What the models draw is given to PyTorch too: it is read off the model by outputs added to its text.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from tests.support.nets import EXAMPLES
from tests.support.zoo import Batch, Tensors, compiled, follow

ROWS = 6


def dense(p: Tensors, name: str, x: Any) -> Any:
    return x @ p[f"{name}.weight"] + p[f"{name}.bias"]


def kind(precision: str) -> str:
    return "f8" if precision == "f64" else "f4"


@pytest.mark.parametrize("precision", ["f64", "f32"])
def test_autoencoder(precision: str) -> None:
    """Draws become an input, so that both sides have the same."""
    import torch

    text = (EXAMPLES / "autoencoder" / "digits.nn").read_text(encoding="utf-8")
    draw = "normal[batch, latent]()"
    assert draw in text

    def loss(p: Tensors, d: Tensors) -> Any:
        h = torch.relu(dense(p, "linear_2", torch.relu(dense(p, "linear", d["image"]))))
        centre, spread = dense(p, "linear_3", h), dense(p, "linear_4", h)
        z = centre + torch.exp(0.5 * spread) * d["drawn"]
        h = torch.relu(dense(p, "decode.linear", z))
        logits = dense(p, "decode.linear_3", torch.relu(dense(p, "decode.linear_2", h)))
        bce = torch.nn.functional.binary_cross_entropy_with_logits(logits, d["image"])
        kl = 0.5 * (torch.exp(spread) + centre**2 - 1 - spread).sum(1).mean()
        return 64 * bce + kl

    def batch(step: int) -> Batch:
        rng = np.random.default_rng(step)
        return {
            "image": rng.uniform(0, 1, (ROWS, 64)).astype(kind(precision)),
            "drawn": rng.normal(0, 1, (ROWS, 5)).astype(kind(precision)),
        }

    net = compiled(
        text.replace(draw, "drawn").replace(
            "    input noise:", "    input drawn: float[batch, latent]\n    input noise:"
        ),
        precision,
        "optimizer = adam(lr = 2e-3)",
        width=12,
        latent=5,
    )
    follow(net, batch, loss, lambda p: torch.optim.Adam(list(p.values()), lr=2e-3))


@pytest.mark.parametrize("precision", ["f64", "f32"])
def test_diffusion(precision: str) -> None:
    import torch

    text = (EXAMPLES / "diffusion" / "digits.nn").read_text(encoding="utf-8")
    changes = {"uniform[batch]()": "at", "noise = normal[batch, 64]()": "noise = given"}
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    more = "    input given: float[batch, 64]\n    input at: float[batch]\n"
    assert "    input time:" in text
    text = text.replace("    input time:", more + "    input time:")
    width, steps = 8, 20

    def norm(p: Tensors, name: str, x: Any) -> Any:
        return torch.nn.functional.layer_norm(
            x, (x.shape[1],), p[f"{name}.scale"], p[f"{name}.shift"], 1e-5
        )

    def loss(p: Tensors, d: Tensors) -> Any:
        silu = torch.nn.functional.silu
        t = 1 + torch.floor(d["at"] * steps)
        keep = torch.cos((t / steps + 0.008) / 1.008 * (math.pi / 2)) ** 2
        x = keep.sqrt()[:, None] * (2 * d["image"] - 1) + (1 - keep).sqrt()[:, None] * d["given"]
        k = torch.arange(width // 2, dtype=x.dtype)
        angle = t[:, None] * torch.exp(-math.log(1000.0) * k / (width // 2))
        about = silu(dense(p, "net.linear", torch.cat([torch.sin(angle), torch.cos(angle)], 1)))
        about = about + p["net.embedding.table"][d["digit"].long()]
        h = dense(p, "net.linear_2", x)
        for i in range(2):
            name = f"net.block.{i}"
            y = dense(p, f"{name}.linear", norm(p, f"{name}.layer_norm", h))
            y = y + dense(p, f"{name}.linear_2", about)
            h = h + dense(p, f"{name}.linear_3", silu(y))
        guess = dense(p, "net.linear_3", norm(p, "net.layer_norm", h))
        return ((guess - d["given"]) ** 2).mean()

    def batch(step: int) -> Batch:
        rng = np.random.default_rng(step)
        return {
            "image": rng.uniform(0, 1, (ROWS, 64)).astype(kind(precision)),
            "given": rng.normal(0, 1, (ROWS, 64)).astype(kind(precision)),
            "at": rng.uniform(0, 1, ROWS).astype(kind(precision)),
            "digit": rng.integers(0, 10, ROWS).astype(np.int32),
        }

    net = compiled(
        text, precision, "optimizer = adam(lr = 2e-3)", width=width, depth=2, steps=steps
    )
    follow(net, batch, loss, lambda p: torch.optim.Adam(list(p.values()), lr=2e-3))


@pytest.mark.parametrize("precision", ["f64", "f32"])
def test_graph(precision: str) -> None:
    import torch

    nodes, edges = 13, 40
    rng = np.random.default_rng(3)
    data = {
        "image": rng.normal(0, 1, (nodes, 64)).astype(kind(precision)),
        "source": rng.integers(0, nodes, edges).astype(np.int32),
        "goal": rng.integers(0, nodes, edges).astype(np.int32),
        "weight": rng.uniform(0, 1, edges).astype(kind(precision)),
        "digit": rng.integers(0, 10, nodes).astype(np.int32),
        "labelled": rng.integers(0, 2, nodes).astype(bool),
    }

    def graph_linear(p: Tensors, name: str, x: Any, d: Tensors) -> Any:
        y = (x @ p[f"{name}.linear.weight"])[d["source"].long()] * d["weight"][:, None]
        total = torch.zeros(nodes, y.shape[1], dtype=y.dtype)
        return total.index_add(0, d["goal"].long(), y) + p[f"{name}.bias"]

    def loss(p: Tensors, d: Tensors) -> Any:
        h = torch.relu(graph_linear(p, "graph_linear", d["image"], d))
        logits = graph_linear(p, "graph_linear_2", h, d)
        chosen = d["labelled"]
        return torch.nn.functional.cross_entropy(logits[chosen], d["digit"].long()[chosen])

    net = compiled(
        "graph/digits.nn",
        precision,
        'regularize = { "**" = l2(0.0) }\noptimizer = adam(lr = 1e-2)',
        nodes=nodes,
        edges=edges,
        width=9,
        drop=0.0,
    )
    follow(net, lambda _: data, loss, lambda p: torch.optim.Adam(list(p.values()), lr=1e-2))
