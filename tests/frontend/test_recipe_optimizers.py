"""Optimizers and schedules of the library: what they compute, step by step."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from support.source import recipe_of, system_leaves

from nnc.ir.interpret import evaluate_nodes
from nnc.ir.model import Update

STEPS = 20
MODEL = """
model M {
    input x: float[batch, 3]
    param w: float[3, 2] = ones()
    param b: float[2] = zeros()
    loss sum(x @ w + b)
}
"""


def updates(optimizer: str, more: str = "") -> dict[str, Update]:
    text = f"{more}{MODEL}\ntrain M {{ optimizer = {optimizer} }}\n"
    return {u.path: u for u in recipe_of(text).updates}


def run(update: Update, start: np.ndarray, grads: list[np.ndarray]) -> list[np.ndarray]:
    """Return the weight after each step."""
    values: dict[str, Any] = {
        f"{update.path}:{s.name}": evaluate_nodes([s.init], system_leaves())[0]
        for s in update.slots
    }
    values[update.path] = start
    found = []
    for step, g in enumerate(grads):
        leaves = {("state", k): v for k, v in values.items()} | system_leaves(step=step)
        leaves["gradient", update.path] = g
        nodes = [update.new_weight, *(n.node for n in update.new_slots)]
        new_weight, *slots = evaluate_nodes(nodes, leaves)
        values[update.path] = new_weight
        for slot, value in zip(update.new_slots, slots, strict=True):
            values[f"{update.path}:{slot.name}"] = value
        found.append(new_weight)
    return found


OPTIMIZERS = [
    ("sgd(0.1)", "SGD", {"lr": 0.1}),
    ("sgd(0.1, momentum = 0.9)", "SGD", {"lr": 0.1, "momentum": 0.9}),
    ("sgd(0.1, momentum = 0.9, nesterov = true)", "SGD",
     {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    ("sgd(0.1, weight_decay = 0.01)", "SGD", {"lr": 0.1, "weight_decay": 0.01}),
    ("rmsprop()", "RMSprop", {}),
    ("rmsprop(0.02, alpha = 0.9, momentum = 0.5)", "RMSprop",
     {"lr": 0.02, "alpha": 0.9, "momentum": 0.5}),
    ("rmsprop(centered = true, weight_decay = 0.1)", "RMSprop",
     {"centered": True, "weight_decay": 0.1}),
    ("adagrad()", "Adagrad", {}),
    ("adagrad(0.1, lr_decay = 0.01, initial = 0.5, weight_decay = 0.1)", "Adagrad",
     {"lr": 0.1, "lr_decay": 0.01, "initial_accumulator_value": 0.5, "weight_decay": 0.1}),
    ("adam()", "Adam", {}),
    ("adam(lr = 0.05, beta1 = 0.8, beta2 = 0.9, weight_decay = 0.1)", "Adam",
     {"lr": 0.05, "betas": (0.8, 0.9), "weight_decay": 0.1}),
    ("adamw()", "AdamW", {}),
    ("adamw(lr = 0.05, weight_decay = 0.3)", "AdamW", {"lr": 0.05, "weight_decay": 0.3}),
]  # fmt: skip


@pytest.mark.parametrize(("optimizer", "name", "options"), OPTIMIZERS)
def test_optimizers_are_pytorchs(optimizer: str, name: str, options: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    start, grads = rng.normal(size=(3, 2)), [rng.normal(size=(3, 2)) for _ in range(STEPS)]
    update = updates(optimizer)["w"]
    found = run(update, start, grads)
    weight = torch.nn.Parameter(torch.tensor(start.copy()))
    reference = getattr(torch.optim, name)([weight], **options)
    for value, g in zip(found, grads, strict=True):
        weight.grad = torch.tensor(g)
        reference.step()
        np.testing.assert_allclose(value, weight.detach().numpy(), rtol=1e-11, atol=1e-14)
    assert update.elementwise


def test_adam_by_hand() -> None:
    update = updates("adam(lr = 0.1)")["b"]
    g = np.array([0.5, -2.0])
    first, second = run(update, np.zeros(2), [g, -g])
    np.testing.assert_allclose(first, -0.1 * np.sign(g) / (1 + 1e-8 / np.abs(g)), rtol=1e-12)
    m = (0.9 * 0.1 - 0.1) * g / (1 - 0.9**2)
    v = (0.999 * 0.001 + 0.001) * g * g / (1 - 0.999**2)
    np.testing.assert_allclose(second, first - 0.1 * m / (np.sqrt(v) + 1e-8), rtol=1e-11)


def test_state_is_declared_only_where_it_is_used() -> None:
    assert [s.name for s in updates("sgd(0.1)")["w"].slots] == []
    assert [s.name for s in updates("sgd(0.1, momentum = 0.9)")["w"].slots] == ["v"]
    assert [s.name for s in updates("rmsprop(momentum = 0.9, centered = true)")["w"].slots] == [
        "square", "average", "v",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        ("0.1", {1: 0.1, 1000: 0.1}),
        ("constant(0.1)", {1: 0.1, 1000: 0.1}),
        ("step(1.0, every = 10)", {1: 1.0, 10: 1.0, 11: 0.1, 20: 0.1, 21: 0.01}),
        ("step(1.0, 5, factor = 0.5)", {5: 1.0, 6: 0.5, 16: 0.125}),
        ("exponential(2.0, 0.9)", {1: 2.0, 2: 1.8, 11: 2.0 * 0.9**10}),
        ("linear(1.0, 10)", {1: 1.0, 6: 0.5, 11: 0.0, 50: 0.0}),
        ("linear(1.0, total = 10, end = 0.5)", {1: 1.0, 6: 0.75, 99: 0.5}),
        ("cosine(1.0, total = 100)", {50: 0.5, 100: 0.0, 150: 0.0, 25: (1 + 0.5**0.5) / 2}),
        (
            "cosine(2.0, warmup = 10, total = 110, floor = 0.2)",
            {1: 0.2, 5: 1.0, 10: 2.0, 60: 1.1, 110: 0.2, 500: 0.2},
        ),
        ("if 1 < 2 then constant(0.5) else 0.1", {7: 0.5}),
        ("decay", {1: 1.0, 4: 0.25}),
        ("decay()", {2: 0.5}),
        ("half(linear(1.0, total = 10))", {6: 0.25}),
        ("half(decay)", {2: 0.25}),
        ("warm(3, cosine(1.0, total = 100))", {1: math.cos(0.015 * math.pi) ** 2 / 3, 50: 0.5}),
    ],
)
def test_schedules(schedule: str, values: dict[int, float]) -> None:
    more = "schedule warm(first: int, after: schedule)(t) = " \
        "if t < first then after(first)*t/first else after(t)\n" \
        "schedule half(linear: schedule = constant(3.0))(t) = linear(t)/2\n" \
        "schedule decay()(t) = 1/t\n" \
        "fn decay(x: float) -> float = x\n"  # fmt: skip
    update = updates(f"sgd(lr = {schedule})", more)["b"]
    for t, expected in values.items():
        leaves = {
            ("state", "b"): np.zeros(2), ("gradient", "b"): np.full(2, -1.0),
            **system_leaves(step=t - 1),
        }  # fmt: skip
        (rate,) = evaluate_nodes([update.new_weight], leaves)
        np.testing.assert_allclose(rate, expected, rtol=1e-12, atol=1e-12)


MUON = """
optimizer muon(lr: schedule = 0.02, momentum: float = 0.95, rounds: int = 5)
              (w: float[m, n], g, t) {
    state v: float[m, n] = 0
    v = momentum*v + g
    u = g + momentum*v
    if m > n {
        x = transpose(u)
    } else {
        x = u
    }
    x = x / (sqrt(sum(x^2)) + 1e-7)
    repeat i < rounds {
        a = x @ transpose(x)
        x = 3.4445*x + (-4.7750*a + 2.0315*(a @ a)) @ x
    }
    if m > n {
        x = transpose(x)
    }
    return w - lr(t) * sqrt(max(1.0, float(m)/float(n))) * x
}
optimizer scaled(rate: float)(w: float[m, ..s], g, t) {
    state left: float[m, m] = 0.5*identity()
    left = 0.9*left + reshape(g, (m, size(w)/m)) @ transpose(reshape(g, (m, size(w)/m)))
    return w - rate*reshape(left @ reshape(g, (m, size(w)/m)), shape(w))
}
optimizer placed()(w, g, t) { return w - 0.1*g/(1 + sum(g*g)) }
optimizer kept()(w, g, t) {
    state a = 1.0
    state b: float[] = 2
    a = a + g
    b = b/2
    return w*b + a*t
}
""".replace("state b: float[] = 2", "state b: float = 2")


def test_an_optimizer_of_matrices() -> None:
    update = updates("{ w = muon(0.1), b = sgd(0.1) }", MUON)["w"]
    assert not update.elementwise
    g = np.random.default_rng(0).normal(size=(3, 2))
    (found,) = run(update, np.zeros((3, 2)), [g])
    singular = np.linalg.svd(-found / (0.1 * 1.5**0.5), compute_uv=False)
    assert (np.abs(singular - 1) < 0.4).all()  # the iteration brings them near 1
    u, _, v = np.linalg.svd(g, full_matrices=False)
    assert np.linalg.norm(-found / (0.1 * 1.5**0.5) - u @ v) < 0.6


def test_state_of_its_own_shape() -> None:
    update = updates("{ w = scaled(0.1), b = sgd(0.1) }", MUON)["w"]
    (slot,) = update.slots
    assert slot.type.shape == (3, 3)
    assert not update.elementwise
    g = np.arange(6.0).reshape(3, 2)
    (found,) = run(update, np.zeros((3, 2)), [g])
    np.testing.assert_allclose(found, -0.1 * (0.45 * np.eye(3) + g @ g.T) @ g)


def test_norms_are_not_elementwise_and_scalars_are() -> None:
    assert not updates("placed()", MUON)["w"].elementwise
    # scalar state would be shared by all of a flat block
    assert not updates("kept()", MUON)["w"].elementwise
    two = run(updates("kept()", MUON)["b"], np.ones(2), [np.ones(2)] * 2)
    np.testing.assert_allclose(two, [[1 + 2 * 1] * 2, [3 * 0.5 + 3 * 2] * 2])


def test_rules_are_equal_where_the_config_is() -> None:
    rules = {p: u.rule for p, u in updates("adam(lr = cosine(0.1, total = 9))").items()}
    assert rules["w"] == rules["b"]
    apart = updates(
        "{ w = adam(lr = cosine(0.1, total = 9)), b = adam(lr = cosine(0.1, total = 8)) }"
    )
    assert apart["w"].rule != apart["b"].rule
    named = updates("{ w = sgd(lr = 0.1, momentum = 0), b = sgd(0.1) }")
    assert named["w"].rule == named["b"].rule


def test_parameters_of_one_type_share_what_an_optimizer_does() -> None:
    noisy = """
optimizer noisy()(w, g, t) {
    state v: float[2] = normal(0, 1)
    v = 0.9*v + g
    return w - 0.1*v
}
"""
    model = MODEL.replace("    loss", "    param c: float[2] = zeros()\n    loss")
    text = noisy + model.replace("+ b)", "+ b + c)")
    rng = np.random.default_rng(5)
    start, grads = rng.normal(size=2), [rng.normal(size=2) for _ in range(3)]
    for optimizer in ("adam(0.1)", '{ w = sgd(0.1), "**" = noisy() }'):
        found = {
            u.path: u for u in recipe_of(f"{text}\ntrain M {{ optimizer = {optimizer} }}").updates
        }
        b, c = (run(found[path], start, grads) for path in "bc")
        assert found["b"].path == "b"
        assert found["c"].path == "c"
        assert np.array_equal(b, c) == (optimizer == "adam(0.1)")
