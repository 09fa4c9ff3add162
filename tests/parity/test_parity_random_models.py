"""Random networks of the library's parts in f64: PyTorch's losses and gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np
import pytest

from tests.support.nets import differentiate, net, training

torch = pytest.importorskip("torch")
functional = torch.nn.functional
Weights = dict[str, Any]
ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "silu": functional.silu,
    "gelu": functional.gelu,
    "sigmoid": torch.sigmoid,
    "softplus": functional.softplus,
}


def linear(h: Any, w: Weights, path: str) -> Any:
    return h @ w[f"{path}.weight"] + w[f"{path}.bias"]


def batch_norm(h: Any, w: Weights, path: str) -> Any:
    centre, spread = h.mean(0), h.var(0, correction=0)
    return (h - centre) * torch.rsqrt(spread + 0.1) * w[f"{path}.scale"] + w[f"{path}.shift"]


@dataclass
class Maker:
    """Writes a network twice: as lines of a model file, and as functions of PyTorch's."""

    random: Random
    width: int
    lines: list[str] = field(default_factory=list)
    theirs: list[Callable[[Any, Weights], Any]] = field(default_factory=list)
    used: dict[str, int] = field(default_factory=dict)

    def path(self, layer: str) -> str:
        number = self.used[layer] = self.used.get(layer, 0) + 1
        return layer if number == 1 else f"{layer}_{number}"

    def add(self, line: str, theirs: Callable[[Any, Weights], Any]) -> None:
        self.lines.append(line)
        self.theirs.append(theirs)

    def linear(self, out: int | None = None) -> None:
        self.width = out or self.random.choice([1, 3, 8, 17, 40])
        path = self.path("linear")
        self.add(f"h = h |> linear({self.width})", lambda h, w: linear(h, w, path))

    def activation(self) -> None:
        name = self.random.choice(list(ACTIVATIONS))
        self.add(f"h = {name}(h)", lambda h, w: ACTIVATIONS[name](h))

    def layer_norm(self) -> None:
        path, width = self.path("layer_norm"), self.width
        self.add(
            "h = h |> layer_norm(eps = 0.1)",
            lambda h, w: functional.layer_norm(
                h, (width,), w[f"{path}.scale"], w[f"{path}.shift"], 0.1
            ),
        )

    def rms_norm(self) -> None:
        path = self.path("rms_norm")
        self.add(
            "h = h |> rms_norm(eps = 0.1)",
            lambda h, w: functional.rms_norm(h, h.shape[1:], w[f"{path}.scale"], 0.1),
        )

    def batch_norm(self) -> None:
        path = self.path("batch_norm")
        self.add("h = h |> batch_norm(eps = 0.1)", lambda h, w: batch_norm(h, w, path))

    def residual(self) -> None:
        path = self.path("linear")
        self.add(f"h = h + (h |> linear({self.width}))", lambda h, w: h + linear(h, w, path))

    def gate(self) -> None:
        path = self.path("linear")
        self.add(
            f"h = h * sigmoid(h |> linear({self.width}))",
            lambda h, w: h * torch.sigmoid(linear(h, w, path)),
        )

    def softmax(self) -> None:
        self.add("h = softmax(h) * 2", lambda h, w: torch.softmax(h, -1) * 2)

    def joined(self) -> None:
        self.width *= 2
        self.add("h = concat(h, h^2, axis = 1)", lambda h, w: torch.cat([h, h * h], 1))

    def cut(self) -> None:
        if self.width > 2:
            self.add(f"h = h[:, 1:{self.width}]", lambda h, w: h[:, 1:])
            self.width -= 1

    def grow(self) -> None:
        parts = (
            self.linear, self.activation, self.layer_norm, self.rms_norm, self.batch_norm,
            self.residual, self.gate, self.softmax, self.joined, self.cut,
        )  # fmt: skip
        for _ in range(self.random.randint(1, 5)):
            self.random.choice(parts)()
        self.linear(2)


def check(seed: int) -> None:
    random, rng = Random(seed), np.random.default_rng(seed)
    width = random.choice([1, 2, 3, 7, 16, 33])
    maker = Maker(random, width)
    maker.grow()
    body = [f"input x: float[b, {width}]", "h = x", *maker.lines, "output h"]
    body += ["loss mean(h^2)", "loss other = mean(abs(h - 1))"]
    program = net(training("\n".join(body)), threads=random.choice([1, 2]))
    for path, array in program.params.items():
        if not path.endswith((".mean", ".var")):
            array[...] += rng.normal(0, 0.3, array.shape)
    for rows in (random.choice([1, 2, 5]), random.choice([16, 37, 64, 130])):
        x = rng.normal(0, 1, (rows, width))
        w = {p: torch.tensor(a.copy(), requires_grad=True) for p, a in program.params.items()}
        h = torch.tensor(x)
        for theirs in maker.theirs:
            h = theirs(h, w)
        expected = ((h * h).mean(), (h - 1).abs().mean())
        sum(expected).backward()
        losses, gradients = differentiate(program, {"x": x})
        np.testing.assert_allclose(
            list(losses.values()), [e.item() for e in expected], rtol=1e-9, atol=1e-14
        )
        for path, g in gradients.items():
            np.testing.assert_allclose(
                g, w[path].grad.numpy(), rtol=1e-7, atol=1e-9, err_msg=f"{path}\n{body}"
            )


@pytest.mark.parametrize("seed", range(3))
def test_random_networks_agree_with_pytorch(seed: int) -> None:
    check(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3, 60))
def test_many_random_networks_agree_with_pytorch(seed: int) -> None:
    check(seed)
