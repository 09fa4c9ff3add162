"""Layers and functions given as config: paths, types, sharing, recursion."""

from __future__ import annotations

import numpy as np
import pytest
from support.programs import codes, faults, model, paths, run

RESIDUAL = """
layer residual(inner: layer(float[..s, n]) -> float[..s, n], act: fn = relu)
              (x: float[..s, n]) -> float[..s, n] = x + act(inner(x))
layer wrap(inner: layer(float[..s, n]) -> float[..s, m])(x: float[..s, n]) -> float[..s, m] {
    param up: float[n, m] = zeros()
    return inner(x) + x @ up
}
layer deep(make: layer, depth: int)(x: float[..s, n]) -> float[..s, n] {
    if depth == 0 { return x }
    own = make(n)
    return x |> own |> deep(make, depth - 1)
}
"""


def of(body: str, **config: object) -> list[str]:
    text = f"{RESIDUAL}\nmodel M(width: int = 3) {{\ninput x: float[b, 3]\n{body}\noutput y\n}}\n"
    return paths(model(text, **config))


def test_what_is_made_as_config_lies_in_the_receiver() -> None:
    assert of("y = x |> residual(linear(3))") == ["residual.inner.weight", "residual.inner.bias"]
    assert of("net = wrap(wrap(linear(5)))\ny = net(x)") == [
        "net.inner.inner.weight", "net.inner.inner.bias", "net.inner.up", "net.up",
    ]  # fmt: skip


def test_it_does_not_count_among_the_layers_of_the_body() -> None:
    found = of("y = x |> residual(linear(3, with_bias = false)) |> linear(3, with_bias = false)")
    assert found == ["residual.inner.weight", "linear.weight"]


def test_one_that_is_bound_keeps_its_path_and_is_shared() -> None:
    body = "fc = linear(3, with_bias = false)\ny = x |> residual(fc) |> residual(fc) |> fc"
    assert of(body) == ["fc.weight"]


def test_loops_number_the_receiver() -> None:
    body = "y = x\nrepeat i < 2 { y = y |> residual(linear(3, with_bias = false)) }"
    assert of(body) == ["residual.0.inner.weight", "residual.1.inner.weight"]


def test_either_side_of_a_choice_may_be_made() -> None:
    body = "y = x |> wrap(if width > 2 then linear(4) else layer_norm())"
    assert of(body, width=3) == ["wrap.inner.weight", "wrap.inner.bias", "wrap.up"]
    assert of(body, width=2) == ["wrap.inner.scale", "wrap.inner.shift", "wrap.up"]


def test_a_layer_may_be_given_to_be_made_inside() -> None:
    assert of("y = x |> deep(linear, 2)") == [
        "deep.own.weight", "deep.own.bias", "deep.deep.own.weight", "deep.deep.own.bias",
    ]  # fmt: skip


def test_a_default_lies_in_the_receiver_too() -> None:
    head = """
    layer normed(norm: layer(float[..s, n]) -> float[..s, n] = layer_norm())
                (x: float[..s, n]) -> float[..s, n] = norm(norm(x))
    model M { input x: float[b, 3]
        a = normed()
        output y = a(x) + (x |> normed()) }
    """
    assert paths(model(head)) == [
        "a.norm.scale", "a.norm.shift", "normed.norm.scale", "normed.norm.shift",
    ]  # fmt: skip


def test_the_result_of_what_is_given_settles_dims() -> None:
    text = f"""{RESIDUAL}
    model M {{ input x: float[b, 3]
        output y = x |> wrap(linear(5))
        output z = x |> wrap(tanh) }}"""
    x = np.random.default_rng(0).normal(size=(2, 3))
    weights = {"wrap.inner.weight": np.ones((3, 5)), "wrap.inner.bias": np.zeros(5)}
    weights |= {"wrap.up": np.ones((3, 5)), "wrap_2.up": np.zeros((3, 3))}
    found = run(model(text), {"x": x}, weights)
    total = 2 * x.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found["y"], np.repeat(total, 5, axis=1))
    np.testing.assert_allclose(found["z"], np.tanh(x))


def test_updates_count_once_though_what_is_given_is_looked_at_before() -> None:
    text = f"""{RESIDUAL}
    layer counted()(x: float[..s, n]) -> float[..s, n] {{
        buffer seen: float = 0
        if training {{ update seen = seen + 1 }}
        return x + seen
    }}
    model M {{ input x: float[b, 3]
        output y = x |> residual(counted()) }}"""
    found = run(model(text), {"x": np.ones((1, 3))}, {"residual.inner.seen": 4.0}, training=True)
    assert found["residual.inner.seen"] == 5
    np.testing.assert_allclose(found["y"], np.full((1, 3), 7.0))


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("y = x |> residual(linear(4))", "E0233"),
        ("y = x |> residual(layer_norm)", "E0218"),
        ("y = x |> residual(3)", "E0202"),
        ("y = x |> residual(linear(3), act = linear)", "E0218"),
        ("y = x |> residual(linear(3), act = 0.5)", "E0202"),
        ("y = x |> deep(linear, -1)", "E0219"),
    ],
)
def test_what_does_not_fit(body: str, code: str) -> None:
    text = f"{RESIDUAL}\nmodel M {{\ninput x: float[b, 3]\n{body}\noutput y\n}}\n"
    assert codes(text) == [code]


def test_a_fault_inside_what_is_given_is_told_once() -> None:
    text = f"""{RESIDUAL}
    layer bad()(x: float[..s, n]) -> float[..s, n] {{
        y = x @ zeros[n + 1, n]()
        return y
    }}
    model M {{ input x: float[b, 3]
        output y = x |> residual(residual(bad())) }}"""
    assert [d.code for d in faults(text)] == ["E0203"]
