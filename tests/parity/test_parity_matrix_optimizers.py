"""Optimizers that need whole matrices, from the model file of them, against NumPy in f64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.nets import ROOT, differentiate, net, training

FILE = Path(ROOT / "tests/data/models/optimizers.nn")
Array = np.ndarray[Any, Any]
BODY = """
input x: float[b, 9]
target y: float[b, 4]
h = tanh(x |> linear(5)) |> linear(4)
loss mse(h, y)
"""


def library() -> str:
    """The optimizers and functions of the file, without its model and train blocks."""
    return FILE.read_text().partition("model Net")[0]


def muon(v: Array, w: Array, g: Array) -> tuple[Array, Array]:
    v = 0.95 * v + g
    u = g + 0.95 * v
    x = u.T if u.shape[0] > u.shape[1] else u
    x = x / (np.sqrt((x**2).sum()) + 1e-7)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * (a @ a)) @ x
    x = x.T if u.shape[0] > u.shape[1] else x
    scale = np.sqrt(max(1.0, u.shape[0] / u.shape[1]))
    return v, w * (1 - 0.03 * 0.1) - 0.03 * scale * x


def fourth_root(a: Array) -> Array:
    big = np.sqrt((a**2).sum()) + 1e-6
    eye = np.eye(len(a))
    m, x = (a + 1e-6 * eye) / big, eye
    for _ in range(12):
        c = (5 * eye - m) / 4
        x, m = x @ c, c @ c @ (c @ c) @ m
    return x * big**-0.25


class Shampoo:
    """The state of one parameter."""

    def __init__(self, w: Array) -> None:
        m, n = w.shape[0], w.size // w.shape[0]
        self.left, self.right = 1e-4 * np.eye(m), 1e-4 * np.eye(n)
        self.pl, self.pr = np.eye(m), np.eye(n)

    def step(self, w: Array, g: Array, t: int) -> Array:
        d = g.reshape(len(self.left), -1)
        self.left = self.left + d @ d.T
        self.right = self.right + d.T @ d
        if t % 3 == 1:
            self.pl, self.pr = fourth_root(self.left), fourth_root(self.right)
        return w - 0.05 * (self.pl @ d @ self.pr).reshape(w.shape)


def gradients(program: Any, data: dict[str, Array]) -> dict[str, Array]:
    return differentiate(program, data)[1]


@pytest.mark.parametrize("name", ["muon", "shampoo"])
def test_matrix_optimizers_do_what_their_formulas_say(name: str) -> None:
    call = {
        "muon": '{ "**.weight" = muon(lr = 0.03, decay = 0.1), "**" = sgd(lr = 0.1) }',
        "shampoo": "shampoo(lr = 0.05, every = 3)",
    }[name]
    program = net(library() + training(BODY).replace("sgd(lr = 0.1)", call))
    rng = np.random.default_rng(4)
    weights = {p: a.copy() for p, a in program.params.items()}
    slots: dict[str, Any] = {
        p: np.zeros(a.shape) if name == "muon" else Shampoo(a) for p, a in weights.items()
    }
    for t in range(1, 9):
        data = {"x": rng.normal(0, 1, (13, 9)), "y": rng.normal(0, 1, (13, 4))}
        found = gradients(program, data)
        for path, g in found.items():
            if name == "shampoo":
                weights[path] = slots[path].step(weights[path], g, t)
            elif path.endswith("weight"):
                slots[path], weights[path] = muon(slots[path], weights[path], g)
            else:
                weights[path] = weights[path] - 0.1 * g
        program.step(**data)
        for path, w in weights.items():
            np.testing.assert_allclose(
                program.params[path], w, rtol=1e-7, atol=1e-10, err_msg=f"{path}, step {t}"
            )
