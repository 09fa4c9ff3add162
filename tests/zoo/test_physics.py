"""The physics-informed network is PyTorch's, through its second derivatives."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from tests.support.zoo import Batch, Tensors, compiled, follow

ROWS, NU = 12, 0.05


def burgers(p: Tensors, d: Tensors) -> Any:
    import torch

    def u(t: Any, x: Any) -> Any:
        h = torch.stack([t, x], 1)
        for name in ("u.linear", "u.linear_2.0", "u.linear_2.1"):
            h = torch.tanh(h @ p[f"{name}.weight"] + p[f"{name}.bias"])
        return (h @ p["u.linear_3.weight"] + p["u.linear_3.bias"])[:, 0]

    t = d["time"].clone().requires_grad_()
    x = d["place"].clone().requires_grad_()
    v = u(t, x)
    vt, vx = torch.autograd.grad(v.sum(), (t, x), create_graph=True)
    (vxx,) = torch.autograd.grad(vx.sum(), x, create_graph=True)
    equation = ((vt + v * vx - NU * vxx) ** 2).mean()
    start = 10 * ((u(0 * t, x) + torch.sin(math.pi * x)) ** 2).mean()
    walls = 10 * (u(t, 0 * x - 1) ** 2 + u(t, 0 * x + 1) ** 2).mean()
    return equation + start + walls


@pytest.mark.parametrize("precision", ["f64", "f32"])
def test_burgers(precision: str) -> None:
    import torch

    def batch(step: int) -> Batch:
        rng = np.random.default_rng(step)
        kind = "f8" if precision == "f64" else "f4"
        return {
            "time": rng.uniform(0, 1, ROWS).astype(kind),
            "place": rng.uniform(-1, 1, ROWS).astype(kind),
        }

    net = compiled(
        "physics/burgers.nn", precision, "optimizer = adam(lr = 5e-3)", width=7, depth=2, nu=NU
    )
    follow(net, batch, burgers, lambda p: torch.optim.Adam(list(p.values()), lr=5e-3))
