"""Norms, bags, weight normalisation and initialisers of the library, in f64 against PyTorch's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.support.library import agree
from tests.support.programs import model
from tests.support.source import first_values

torch = pytest.importorskip("torch")
F = torch.nn.functional
RNG = np.random.default_rng(21)


@pytest.mark.parametrize("places", [(), (5,), (3, 4)])
def test_norms_over_groups_of_channels(places: tuple[int, ...]) -> None:
    x = RNG.normal(1, 2, (2, 6, *places))
    agree(
        "y = x |> group_norm(3)",
        {"x": x},
        lambda t: F.group_norm(t["x"], 3, t["group_norm.scale"], t["group_norm.shift"]),
        atol=1e-8,
    )
    if places:
        agree(
            "y = x |> instance_norm()",
            {"x": x},
            lambda t: F.instance_norm(
                t["x"], weight=t["instance_norm.scale"], bias=t["instance_norm.shift"]
            ),
            atol=1e-8,
        )
    agree("y = x |> prelu()", {"x": x}, lambda t: F.prelu(t["x"], t["prelu.slope"]))


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_bags(mode: str) -> None:
    ids = RNG.integers(0, 7, (3, 4)).astype(np.int32)
    agree(
        f'y = ids |> embedding_bag(7, 5, "{mode}")',
        {"ids": ids},
        lambda t: F.embedding_bag(t["ids"].long(), t["embedding_bag.table"], mode=mode),
    )


def test_weights_with_lengths_of_their_own() -> None:
    x = RNG.normal(0, 1, (2, 4, 6, 6))

    def weight(t: Any, path: str) -> Any:
        v = t[f"{path}.direction"]
        return torch._weight_norm(v, t[f"{path}.length"].reshape(-1, *[1] * (v.ndim - 1)), 0)

    agree(
        "net = weight_norm_linear(3)\ny = net(x)",
        {"x": x},
        lambda t: F.linear(t["x"], weight(t, "net"), t["net.bias"]),
        atol=1e-9,
    )
    agree(
        "net = weight_norm_conv2d(4, 3, pad = 1, groups = 2)\ny = net(x)",
        {"x": x},
        lambda t: F.conv2d(t["x"], weight(t, "net"), t["net.bias"], padding=1, groups=2),
        atol=1e-9,
    )


@pytest.mark.parametrize("shape", [(4, 4), (20, 50), (50, 20), (8, 3, 3, 3)])
def test_orthogonal_first_values(shape: tuple[int, ...]) -> None:
    made = model(f"model M {{ param w: float{list(shape)} = orthogonal(2)\n output y = sum(w) }}")
    w = first_values(made)["w"].reshape(shape[0], -1) / 2
    product = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    np.testing.assert_allclose(product, np.eye(len(product)), atol=1e-9)


def test_truncated_first_values() -> None:
    made = model(
        "model M { param w: float[300, 200] = truncated_normal(1, 0.5)\n output y = sum(w) }"
    )
    w = first_values(made)["w"]
    assert (abs(w - 1) <= 1).all()
    assert abs(w.mean() - 1) < 0.01
    assert abs(w.std() / 0.5 - 0.8796) < 0.01  # of a normal cut at two deviations
