"""Gradients of the library and of notation, compiled in f64, against finite differences."""

from __future__ import annotations

import re
from textwrap import dedent

import numpy as np
import pytest

from tests.support.nets import differentiate, net, numeric, training

# Each row: a name, and an expression in p (a parameter [3, 4] of numbers away from kinks), q (the
# same, positive), k (whole numbers [3] below 4) and c (data [3, 4]) that gives a scalar.
SCALARS: dict[str, dict[str, str]] = {
    "activations": {
        "relu": "sum(relu(p)*c)",
        "leaky_relu": "sum(leaky_relu(p, 0.2)*c)",
        "elu": "sum(elu(p, 0.7)*c)",
        "gelu": "sum(gelu(p)*c)",
        "gelu_tanh": "sum(gelu(p, approximate = true)*c)",
        "silu": "sum(silu(p)*c)",
        "sigmoid": "sum(sigmoid(p)*c)",
        "tanh": "sum(tanh(p)*c)",
        "softplus": "sum(softplus(p)*c)",
        "softmax": "sum(softmax(p)*c)",
        "softmax_rows": "sum(softmax(p, axis = 0)*c)",
        "log_softmax": "sum(log_softmax(p)*c)",
    },
    "elementary": {
        "exp": "sum(exp(p)*c)",
        "log": "sum(log(q)*c)",
        "log1p": "sum(log1p(q)*c)",
        "expm1": "sum(expm1(p)*c)",
        "sqrt": "sum(sqrt(q)*c)",
        "rsqrt": "sum(rsqrt(q)*c)",
        "erf": "sum(erf(p)*c)",
        "sin": "sum(sin(p)*c)",
        "cos": "sum(cos(p)*c)",
        "abs": "sum(abs(p)*c)",
        "power": "sum(q^p*c)",
        "square": "sum(p^2*c)",
        "cube": "sum(p^3*c)",
        "quotient": "sum(p/q*c)",
        "twice": "sum(p*p*sin(p))",
        "larger": "sum(max(p, c))",
        "smaller": "sum(min(p, c) * q)",
    },
    "losses": {
        "mse": "mse(p, c)",
        "mae": "mae(p, c)",
        "huber": "huber(p, c, delta = 0.5)",
        "bce": "binary_cross_entropy(p, sigmoid(c))",
        "ce": "cross_entropy(p, k)",
        "smoothed": "cross_entropy(p, k, label_smoothing = 0.2)",
        "l1": "l1(p, 0.3)",
        "l2": "l2(p, 0.3)",
    },
    "tensors": {
        "where": "sum(where(c > 0, p, q*p))",
        "clip": "sum(clip(p, -0.7, 0.9)*c)",
        "matmul": "sum((p @ transpose(q))^2)",
        "total": "sum(p)^2",
        "average": "mean(p*c)^2",
        "rows": "sum(sum(p, axis = 0)^2)",
        "columns": "sum(mean(p, axis = -1)^3)",
        "spread": "sum(var(p, axis = -1))",
        "greatest": "sum(max(p, axis = 1)^2)",
        "least": "sum(min(p, axis = 0)^2)",
        "product": "sum(prod(q, axis = 1))",
        "joined": "sum(concat(p, q*p, axis = 1)^3)",
        "reshaped": "sum((reshape(p, (4, 3)) @ c)^2)",
        "sliced": "sum(p[1:3, 0:2]^2)",
        "padded": "sum(pad(p, 1, 2, axis = 1)[:, 1:6]^2 * 3)",
        "stopped": "sum(stop_gradient(p)*p)",
    },
}


@pytest.mark.parametrize("group", SCALARS)
def test_gradients_of_the_library_agree_with_finite_differences(group: str) -> None:
    rows = SCALARS[group]
    lines = ["input c: float[n, 4]", "target k: i32[n] in 0..4", "require n == 3"]
    for name, expression in rows.items():
        text = re.sub(r"\b([pq])\b", rf"\1_{name}", expression)
        used = sorted(set(re.findall(r"\b[pq]_\w+", text)))
        lines += [f"param {path}: float[3, 4] = zeros()" for path in used]
        lines += [f"loss {name} = {text}"]
    program = net(training("\n".join(lines)))
    rng = np.random.default_rng(6)
    data = {"c": rng.normal(0, 1, (3, 4)), "k": np.array([0, 3, 1], np.int32)}
    for path, array in program.params.items():
        low = 0.3 if path.startswith("q") else 0.05
        array[...] = rng.uniform(low, 2, (3, 4))
        if path.startswith("p"):
            array[...] *= rng.choice((-1, 1), (3, 4))
    _, found = differentiate(program, data)
    for path, gradient in found.items():
        expected = numeric(program, data, path)
        if path == "p_stopped":
            expected /= 2
        np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-5, err_msg=path)


# Layers and notation: a body, and the data that it takes beside x (made from p, so that what a
# layer passes back is tested too).
BODIES: dict[str, str] = {
    "linear": "y = x |> linear(5)",
    "linear_without_bias": "y = x |> linear(5, with_bias = false)",
    "layer_norm": "y = x |> layer_norm()",
    "rms_norm": "y = x |> rms_norm()",
    "batch_norm": "y = x |> batch_norm()",
    "embedding": "y = ids |> embedding(5, 3)",
    "shared": "f = linear(4)\ny = tanh(f(tanh(f(x))))",
    "repeated": "h = x\nrepeat i < 3 { h = h |> linear(4) |> tanh }\ny = h",
    "attention": """
        k = x |> linear(6)
        s[i, j] = sum[d](k[i, d] * k[j, d])
        a[i, j] = exp(s[i, j] - max[m](s[i, m]))
        y[i, d] = sum[j](a[i, j] * k[j, d]) / sum[j](a[i, j])
        """,
    "window": """
        y[i, j < 4] = sum[u < 3](if 0 <= j + u - 1 and j + u - 1 < 4 then x[i, j + u - 1] else 0)^2
        """,
    "folded": "y[i, j < 2] = x[i, 2*j] * x[i, 2*j + 1]",
    "spread": "param w: float[2] = ones()\ny[i, 2*j + u] = x[i, j] * x[i, 3 - j] * w[u]",
    "filtered": "y[v < 5] = sum[i, j where ids[i] == v](x[i, j]^2)",
    "gathered": "y[i, j] = x[i, ids[i]] * x[i, j]",
    "greatest": "y[i] = max[j](x[i, j]) * min[j](x[i, j])",
    "products": "y[i] = prod[j](x[i, j])",
    "causal": "y[i] = sum[j, k where k <= j](x[i, j] * x[i, k])",
    "best": "y[i] = x[i, argmax[j](x[i, j])]",
}


@pytest.mark.parametrize("name", BODIES)
def test_gradients_of_layers_and_notation_agree_with_finite_differences(name: str) -> None:
    body = dedent(BODIES[name])
    program = net(
        training(
            "input z: float[n, 4]\ninput ids: i32[n] in 0..4\nparam p: float[4] = ones()\n"
            f"require n >= 2\nx[i, j] = z[i, j] * p[j]\n{body}\nloss sum(sin(y)) + sum(x)*0"
        )
    )  # fmt: skip
    rng = np.random.default_rng(8)
    data = {"z": rng.normal(0, 1, (6, 4)), "ids": np.array([3, 0, 1, 1, 2, 1], np.int32)}
    for array in program.params.values():
        array[...] += rng.normal(0, 0.3, array.shape)
    before = {path: array.copy() for path, array in program.params.items()}
    _, found = differentiate(program, data)
    for path, gradient in found.items():
        for kept, array in before.items():
            program.params[kept][...] = array
        expected = numeric(program, data, path)
        np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-5, err_msg=path)
    assert any(np.abs(g).max() > 1e-3 for g in found.values())
