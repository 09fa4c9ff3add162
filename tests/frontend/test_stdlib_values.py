"""What the standard library computes: values and gradients against PyTorch, in f64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.source import (
    compute,
    first_values,
    gradient_of,
    leaves_of,
    model_of,
    outputs,
)

torch = pytest.importorskip("torch")
F = torch.nn.functional
X = np.array([-800.0, -30.5, -3.0, -0.7, -1e-9, 0.0, 1e-9, 0.4, 1.0, 2.5, 31.0, 800.0])


def tensor(x: Any, grad: bool = False) -> Any:
    return torch.tensor(np.asarray(x), requires_grad=grad)


def check(text: str, inputs: dict[str, Any], reference: Any, by: str = "x", **rtol: float) -> None:
    """Compare ``y`` of a model, and the gradient of ``sum(y*weight)``, with PyTorch's."""
    ports = "\n".join(
        f"input {name}: {'i32' if value.dtype == np.int32 else 'float'}{list(value.shape)}"
        for name, value in inputs.items()
    )
    text = f"model M {{\n{ports}\n{text}\noutput y = y\nloss sum(y * y) / 2\n}}\n"
    model = model_of(text)
    leaves = leaves_of(model, inputs)
    given = {n: tensor(v, v.dtype == np.float64) for n, v in inputs.items()}
    expected = reference(*given.values())
    (expected * expected / 2).sum().backward()
    close = {"rtol": 1e-12, "atol": 1e-300} | rtol
    found = compute(model.inference.outputs, leaves)["y"]
    np.testing.assert_allclose(found, expected.detach().numpy(), **close)
    slope = gradient_of(model.inference.losses[0].node, ("input", by), leaves)
    np.testing.assert_allclose(slope, given[by].grad.numpy(), **close)


@pytest.mark.parametrize(
    ("call", "reference"),
    [
        ("relu(x)", F.relu),
        ("leaky_relu(x)", F.leaky_relu),
        ("leaky_relu(x, 0.2)", lambda x: F.leaky_relu(x, 0.2)),
        ("elu(x)", F.elu),
        ("elu(x, alpha = 0.5)", lambda x: F.elu(x, 0.5)),
        ("sigmoid(x)", torch.sigmoid),
        ("silu(x)", F.silu),
        ("softmax(x)", lambda x: F.softmax(x, -1)),
        ("log_softmax(x)", lambda x: F.log_softmax(x, -1)),
        ("var(x)", lambda x: torch.var(x, correction=0)),
        ("std(x, sample = true)", torch.std),
    ],
)
def test_functions(call: str, reference: Any) -> None:
    check(f"y = {call}", {"x": X}, reference, rtol=1e-9, atol=1e-17)


def test_softplus() -> None:
    # PyTorch's is the identity above 20; the exact function is this one.
    def exact(x: Any) -> Any:
        return torch.logaddexp(x, torch.zeros_like(x))

    check("y = softplus(x)", {"x": X}, exact, rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("form", ["none", "tanh"])
def test_gelu(form: str) -> None:
    flag = "true" if form == "tanh" else "false"
    x = X[np.abs(X) < 100]
    # erf(-21) + 1 is 0 in f64 for both; nearer 0 the two round differently
    check(f"y = gelu(x, approximate = {flag})", {"x": x},
          lambda x: F.gelu(x, approximate=form), rtol=1e-9, atol=1e-15)  # fmt: skip


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_softmax_axes(axis: int) -> None:
    x = np.random.default_rng(1).normal(size=(3, 4, 5)) * 5
    check(f"y = softmax(x, axis = {axis})", {"x": x}, lambda x: F.softmax(x, axis), atol=1e-16)
    check(f"y = log_softmax(x, axis = {axis})", {"x": x}, lambda x: F.log_softmax(x, axis),
          atol=1e-13)  # fmt: skip


RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(5, 3)) * 2, RNG.normal(size=(5, 3)) * 2
IDS = np.array([0, 2, 1, 1, 2], np.int32)


@pytest.mark.parametrize(
    ("call", "inputs", "reference"),
    [
        ("mse(x, t)", {"x": A, "t": B}, F.mse_loss),
        ("mae(x, t)", {"x": A, "t": B}, F.l1_loss),
        ("huber(x, t)", {"x": A, "t": B}, F.huber_loss),
        ("huber(x, t, delta = 0.3)", {"x": A, "t": B}, lambda x, t: F.huber_loss(x, t, delta=0.3)),
        ("binary_cross_entropy(x, t)", {"x": A, "t": (B > 0) * 1.0},
         F.binary_cross_entropy_with_logits),
        ("cross_entropy(x, t)", {"x": A, "t": IDS}, lambda x, t: F.cross_entropy(x, t.long())),
        ("cross_entropy(x, t, label_smoothing = 0.1)", {"x": A, "t": IDS},
         lambda x, t: F.cross_entropy(x, t.long(), label_smoothing=0.1)),
        ("cross_entropy(x*100, t)", {"x": A, "t": IDS},
         lambda x, t: F.cross_entropy(x * 100, t.long())),
        ("l1(x, 0.1) + l2(x, 0.01)", {"x": A},
         lambda x: 0.1 * x.abs().sum() + 0.01 * (x * x).sum()),
    ],
)  # fmt: skip
def test_losses(call: str, inputs: dict[str, Any], reference: Any) -> None:
    check(f"y = {call}", inputs, reference, rtol=1e-11, atol=1e-14)


def test_cross_entropy_of_sequences() -> None:
    x = RNG.normal(size=(2, 4, 3))
    t = np.array([[0, 1, 2, 0], [2, 2, 1, 0]], np.int32)
    check("y = cross_entropy(x, t)", {"x": x, "t": t},
          lambda x, t: F.cross_entropy(x.reshape(8, 3), t.long().reshape(8)),
          rtol=1e-11, atol=1e-14)  # fmt: skip


def test_losses_at_zero_logits() -> None:
    # where logistic regression starts: every logit is exactly 0
    x, t = np.zeros((4, 1)), np.array([[0.0], [1.0], [1.0], [0.0]])
    check("y = binary_cross_entropy(x, t)", {"x": x, "t": t}, F.binary_cross_entropy_with_logits)


@pytest.mark.parametrize(
    ("layer", "reference"),
    [
        ("layer_norm()", lambda x: F.layer_norm(x, (6,))),
        ("rms_norm()", lambda x: F.rms_norm(x, (6,), eps=1e-6)),
    ],
)
def test_norms(layer: str, reference: Any) -> None:
    x = RNG.normal(size=(4, 5, 6)) * 3 + 1
    check(f"y = {layer}(x)", {"x": x}, reference, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shape", [(7, 3), (4, 3, 5), (4, 3, 2, 5)])
def test_batch_norm(shape: tuple[int, ...]) -> None:
    x = RNG.normal(size=shape) * 2 + 3
    dims = ", ".join(["batch", *map(str, shape[1:])])
    model = model_of(f"model M {{ input x: float[{dims}]\n y = batch_norm()(x)\n"
                     "output y = y\n loss sum(y*y*y) }")  # fmt: skip
    leaves = leaves_of(model, {"x": x}, {"batch_norm.scale": [1.0, 2.0, 0.5]})
    norm = {2: torch.nn.BatchNorm1d, 3: torch.nn.BatchNorm1d, 4: torch.nn.BatchNorm2d}[len(shape)]
    reference = norm(3, dtype=torch.float64)
    with torch.no_grad():
        reference.weight.copy_(tensor([1.0, 2.0, 0.5]))
    given = tensor(x, grad=True)
    y = reference(given)
    (y**3).sum().backward()
    close = {"rtol": 1e-9, "atol": 1e-10}
    np.testing.assert_allclose(
        compute(model.training.outputs, leaves)["y"], y.detach().numpy(), **close
    )
    slope = gradient_of(model.training.losses[0].node, ("input", "x"), leaves)
    np.testing.assert_allclose(slope, given.grad.numpy(), **close)
    running = compute(model.training.updates, leaves)
    np.testing.assert_allclose(running["batch_norm.mean"], reference.running_mean, **close)
    np.testing.assert_allclose(running["batch_norm.var"], reference.running_var, **close)
    after = leaves | {("state", path): value for path, value in running.items()}
    reference.eval()
    np.testing.assert_allclose(
        compute(model.inference.outputs, after)["y"], reference(given).detach().numpy(), **close
    )


def test_linear_and_embedding() -> None:
    ids = np.array([[1, 4], [0, 1]], np.int32)
    model = model_of(
        "model M { input ids: i32[batch, 2]\n h = ids |> embedding(5, 3)\n"
        "output h = h\n output y = h |> linear(4) }"
    )
    leaves = leaves_of(model, {"ids": ids}, {"linear.bias": np.arange(4.0)})
    found = compute(model.inference.outputs, leaves)
    table, weight = leaves["state", "embedding.table"], leaves["state", "linear.weight"]
    np.testing.assert_array_equal(found["h"], table[ids])
    np.testing.assert_allclose(found["y"], table[ids] @ weight + np.arange(4.0))


def test_dropout() -> None:
    x = np.ones((400, 50))
    model = model_of("model M { input x: float[batch, 50]\n output y = x |> dropout(0.25) }")
    leaves = leaves_of(model, {"x": x})
    np.testing.assert_array_equal(compute(model.inference.outputs, leaves)["y"], x)
    dropped = compute(model.training.outputs, leaves)["y"]
    assert set(np.unique(dropped)) == {0.0, 1 / 0.75}
    assert abs(np.mean(dropped == 0) - 0.25) < 0.02
    other = compute(model.training.outputs, leaves_of(model, {"x": x}, step=1))["y"]
    assert (dropped != other).any()
    half = compute(
        model.training.outputs,
        leaves_of(model, {"x": x[200:]}) | {("system", "row"): np.array(200, np.int64)},
    )["y"]
    np.testing.assert_array_equal(half, dropped[200:])


def test_tensor_functions() -> None:
    x = np.array([[-2.0, 0.5], [3.0, -0.1]])
    found = outputs(
        "model M { input x: float[n, 2]\n input ids: i32[n]\n"
        "output hot = one_hot(ids, 3)\n output kept = clip(x, -1, 1)\n"
        "output pick = where(x > 0, x, -1)\n output product = matmul(x, transpose(x))\n"
        "output same = x @ transpose(x) }",
        {"x": x, "ids": np.array([2, 0], np.int32)},
    )
    np.testing.assert_array_equal(found["hot"], [[0, 0, 1], [1, 0, 0]])
    np.testing.assert_array_equal(found["kept"], np.clip(x, -1, 1))
    np.testing.assert_array_equal(found["pick"], np.where(x > 0, x, -1))
    np.testing.assert_allclose(found["product"], x @ x.T)
    np.testing.assert_allclose(found["same"], x @ x.T)


@pytest.mark.parametrize(
    ("call", "shape", "low", "high", "std"),
    [
        ("zeros()", (3, 4), 0, 0, 0),
        ("ones()", (3, 4), 1, 1, 0),
        ("constant(2.5)", (3, 4), 2.5, 2.5, 0),
        ("uniform(-1, 3)", (200, 100), -1, 3, 4 / 12**0.5),
        ("normal(1, 0.5)", (200, 100), -np.inf, np.inf, 0.5),
        ("glorot_uniform()", (200, 100), -(0.02**0.5), 0.02**0.5, (2 / 300) ** 0.5),
        ("glorot_normal()", (200, 100), -np.inf, np.inf, (2 / 300) ** 0.5),
        ("he_uniform()", (200, 100), -(0.03**0.5), 0.03**0.5, (2 / 200) ** 0.5),
        ("he_normal()", (200, 100), -np.inf, np.inf, (2 / 200) ** 0.5),
        ("he_normal()", (50, 20, 5, 4), -np.inf, np.inf, (2 / 400) ** 0.5),
        ("glorot_normal()", (50, 20, 5, 4), -np.inf, np.inf, (2 / 1400) ** 0.5),
        ("he_normal(fan_in = 50)", (20_000,), -np.inf, np.inf, (2 / 50) ** 0.5),
    ],
)
def test_initialisers(
    call: str, shape: tuple[int, ...], low: float, high: float, std: float
) -> None:
    model = model_of(f"model M {{ param w: float{list(shape)} = {call}\n output y = sum(w) }}")
    w = first_values(model)["w"]
    assert w.shape == shape
    assert (low <= w).all()
    assert (w <= high).all()
    assert abs(w.std() - std) <= 0.03 * std
    assert (first_values(model, seed=8)["w"] != w).any() == (std > 0)


def test_identity() -> None:
    model = model_of("model M { param w: float[3, 3] = identity()\n output y = sum(w) }")
    np.testing.assert_array_equal(first_values(model)["w"], np.eye(3))
