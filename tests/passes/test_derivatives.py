"""``grad`` expanded: against finite differences, nested, inside written derivatives."""

from __future__ import annotations

import numpy as np
import pytest
from support.programs import codes, model

import nnc
from nnc.ir.graph import Derivative, Graph, Output, postorder
from nnc.ir.interpret import evaluate
from nnc.ir.model import Model
from nnc.ir.text import parse_graph, print_graph
from nnc.ir.verify import verify
from nnc.passes.derivatives import expand_model

RNG = np.random.default_rng(3)


def outputs(found: Model, **given: object) -> dict[str, np.ndarray]:
    """Compute the outputs of a model of inputs only, its derivatives expanded."""
    model, _ = expand_model(found, None)
    graph = Graph("g", tuple(Output("output", n.name, n.node) for n in model.inference.outputs))
    assert not any(isinstance(n.op, Derivative) for n in graph.nodes())
    verify(graph, bounds=True)
    leaves = {("input", name): np.asarray(a, np.float64) for name, a in given.items()}
    return {name: value for (_, name), value in evaluate(graph, leaves).items()}


def test_it_prints_and_parses() -> None:
    found = model("model M { input x: float[b, 3]\noutput g = grad(sum(x^3), x) }")
    graph = Graph("g", (Output("output", "g", found.inference.outputs[0].node),))
    text = print_graph(graph)
    assert "derivative %" in text
    assert print_graph(parse_graph(text)) == text


def test_second_and_third_derivatives() -> None:
    found = model("""
        model M { input x: float[n]
            y = sum(sin(x)*x)
            output a = grad(y, x)
            output b = grad(sum(grad(y, x)), x)
            output c = grad(sum(grad(sum(grad(y, x)), x)), x) }""")
    x = RNG.normal(size=5)
    got = outputs(found, x=x)
    np.testing.assert_allclose(got["a"], np.sin(x) + x * np.cos(x))
    np.testing.assert_allclose(got["b"], 2 * np.cos(x) - x * np.sin(x))
    np.testing.assert_allclose(got["c"], -3 * np.sin(x) - x * np.cos(x))


def test_several_at_once_and_by_an_inner_tensor() -> None:
    found = model("""
        model M { input x: float[b, 3]
            input w: float[3]
            h = x * w
            y = sum(h^2)
            p, q = grad(y, (w, h))
            output p
            output q }""")
    x, w = RNG.normal(size=(4, 3)), RNG.normal(size=3)
    got = outputs(found, x=x, w=w)
    np.testing.assert_allclose(got["p"], (2 * x * w * x).sum(axis=0))
    np.testing.assert_allclose(got["q"], 2 * x * w)


def test_inside_functions_and_written_derivatives() -> None:
    found = model("""
        fn slope(x: float[n]) -> float[n] = grad(sum(x^3), x)
        fn odd(x: float[n]) -> float[n] = x with gradient(dy) { return dy * slope(x) }
        model M { input x: float[b]
            output y = grad(sum(odd(2*x)), x) }""")
    x = RNG.normal(size=4)
    np.testing.assert_allclose(outputs(found, x=x)["y"], 2 * 3 * (2 * x) ** 2)


def test_through_convolution_and_maximum() -> None:
    found = model("""
        model M { input x: float[b, 8]
            input k: float[3]
            h[i, j] = sum[u < 3](x[i, j + u]*k[u])
            m[i] = max[j](h[i, j]^2)
            g = grad(sum(m), x)
            output out = grad(sum(g^2), k) }""")
    x, k = RNG.normal(size=(2, 8)), RNG.normal(size=3)

    def total(k: np.ndarray) -> float:
        rows = [np.convolve(r, k[::-1], "valid") for r in x]
        # the gradient of h_j^2 is 2 h_j k at the places of the window
        return float(sum(((2 * h[np.argmax(h**2)] * k) ** 2).sum() for h in rows))

    step = 1e-6 * np.eye(3)
    expected = [(total(k + e) - total(k - e)) / 2e-6 for e in step]
    np.testing.assert_allclose(outputs(found, x=x, k=k)["out"], expected, rtol=1e-7)


def test_a_compiled_program_trains_through_it() -> None:
    net = nnc.compile("""
        model M { input x: float[batch, 2]
            net = linear(1)
            u = tanh(net(x))
            loss mean(grad(sum(u), x)^2)
            output weight_slope = grad(sum(u), net.weight) }
        train M { optimizer = sgd(lr = 0.5)
            precision = "f64" }""")
    x = RNG.normal(size=(6, 2))
    w, b = net.params["net.weight"].copy(), net.params["net.bias"].copy()

    def loss(w: np.ndarray) -> float:
        return float((((1 - np.tanh(x @ w + b) ** 2) * w[:, 0]) ** 2).mean())

    u = np.tanh(x @ w + b)
    np.testing.assert_allclose(net(x=x)["weight_slope"], x.T @ (1 - u**2), rtol=1e-12)
    assert net.step(x=x) == pytest.approx(loss(w), rel=1e-12)
    moved = (w - net.params["net.weight"]) / 0.5
    for k in range(2):
        e = np.zeros((2, 1))
        e[k] = 1e-6
        assert moved[k, 0] == pytest.approx((loss(w + e) - loss(w - e)) / 2e-6, rel=1e-6)


@pytest.mark.parametrize(
    "body",
    [
        "output g = grad(x, x)",
        "y = sum(x)\noutput g = grad(y, 2*x)",
        "y = sum(round(x))\noutput g = grad(y, x)",
        "y = sum(stop_gradient(x))\noutput g = grad(y, x)",
        "i = i32(x)\noutput g = grad(sum(float(i)), i)",
        "g[i] = grad(x[i]^2, x)\noutput g",
    ],
)
def test_what_has_no_gradient(body: str) -> None:
    assert codes(f"model M {{ input x: float[b]\n{body} }}") == ["E0234"]


def test_no_derivative_means_no_work() -> None:
    found = model("model M { input x: float[b]\noutput y = 2*x }")
    same, _ = expand_model(found, None)
    assert same is found
    assert len(postorder(n.node for n in same.inference.outputs)) == 2
