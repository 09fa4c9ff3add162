"""The library's convolutions against PyTorch's over random configurations, in f64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.library import agree
from tests.support.nets import net, training
from tests.support.programs import codes, model

torch = pytest.importorskip("torch")
F = torch.nn.functional


def spelled(values: tuple[int, ...]) -> str:
    """Spell a pair or triple, as one number where it is one."""
    return str(values[0]) if len(set(values)) == 1 else str(values)


@st.composite
def shapes(draw: st.DrawFn) -> dict[str, Any]:
    """Draw the dims and the config of a convolution that has an output."""
    rank = draw(st.sampled_from((1, 1, 2, 2, 3)))

    def each(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(low, high)) for _ in range(rank))

    groups = draw(st.integers(1, 3))
    kernel, dilation, pad = each(1, 4 if rank < 3 else 2), each(1, 2), each(0, 2)
    least = [max(1, d * (k - 1) + 1 - 2 * p) for d, k, p in zip(dilation, kernel, pad, strict=True)]
    return {
        "rank": rank,
        "groups": groups,
        "kernel": kernel,
        "dilation": dilation,
        "pad": pad,
        "stride": each(1, 3),
        "same": draw(st.booleans()),
        "bias": draw(st.booleans()),
        "channels": groups * draw(st.integers(1, 2)),
        "out": groups * draw(st.integers(1, 2)),
        "batch": draw(st.integers(1, 2)),
        "places": [n + draw(st.integers(0, 4)) for n in least],
        "extra": tuple(draw(st.integers(0, 1)) for _ in range(rank)),
    }


def convolution_agrees(case: dict[str, Any]) -> None:
    rank, stride = case["rank"], case["stride"]
    same = case["same"] and set(stride) == {1}  # PyTorch has no other
    body = (
        f"y = x |> conv{rank}d({case['out']}, {spelled(case['kernel'])}, {spelled(stride)}, "
        f"{0 if same else spelled(case['pad'])}, {case['groups']}, {spelled(case['dilation'])}, "
        f"same = {str(same).lower()}, with_bias = {str(case['bias']).lower()})"
    )
    rng = np.random.default_rng(1)
    x = rng.normal(0, 1, (case["batch"], case["channels"], *case["places"]))
    theirs = getattr(F, f"conv{rank}d")
    name = f"conv{rank}d"
    agree(
        body,
        {"x": x},
        lambda t: theirs(
            t["x"], t[f"{name}.weight"], t.get(f"{name}.bias"), stride,
            "same" if same else case["pad"], case["dilation"], case["groups"],
        ),
    )  # fmt: skip


def transposed_agrees(case: dict[str, Any]) -> None:
    rank = case["rank"]
    extra = tuple(
        e if e < max(s, d) else 0
        for e, s, d in zip(case["extra"], case["stride"], case["dilation"], strict=True)
    )
    places = [
        max(n, 1 + -(-(2 * p - d * (k - 1)) // s))
        for n, p, d, k, s in zip(
            case["places"], case["pad"], case["dilation"], case["kernel"], case["stride"],
            strict=True,
        )
    ]  # fmt: skip
    body = (
        f"y = x |> transposed_conv{rank}d({case['out']}, {spelled(case['kernel'])}, "
        f"{spelled(case['stride'])}, {spelled(case['pad'])}, {case['groups']}, "
        f"{spelled(case['dilation'])}, {spelled(extra)}, "
        f"with_bias = {str(case['bias']).lower()})"
    )
    rng = np.random.default_rng(2)
    x = rng.normal(0, 1, (case["batch"], case["channels"], *places))
    theirs = getattr(F, f"conv_transpose{rank}d")
    name = f"transposed_conv{rank}d"
    agree(
        body,
        {"x": x},
        lambda t: theirs(
            t["x"], t[f"{name}.weight"], t.get(f"{name}.bias"), case["stride"], case["pad"],
            extra, case["groups"], case["dilation"],
        ),
    )  # fmt: skip


@given(shapes())
@settings(max_examples=8)
def test_convolutions_are_those_of_pytorch(case: dict[str, Any]) -> None:
    convolution_agrees(case)


@given(shapes())
@settings(max_examples=8)
def test_transposed_convolutions_are_those_of_pytorch(case: dict[str, Any]) -> None:
    transposed_agrees(case)


@pytest.mark.slow
@given(shapes())
@settings(max_examples=100)
def test_many_convolutions_are_those_of_pytorch(case: dict[str, Any]) -> None:
    convolution_agrees(case)
    transposed_agrees(case)


@pytest.mark.parametrize("rank", [1, 2])
def test_separable_convolution_is_two_of_pytorch(rank: int) -> None:
    x = np.random.default_rng(3).normal(0, 1, (2, 3, *(7, 6)[:rank]))
    name, conv = f"separable_conv{rank}d", getattr(F, f"conv{rank}d")

    def reference(t: Any) -> Any:
        h = conv(t["x"], t[f"{name}.depthwise.weight"], None, 1, "same", 1, 3)
        return conv(h, t[f"{name}.pointwise.weight"], t[f"{name}.pointwise.bias"])

    agree(f"y = x |> {name}(5, 3, multiplier = 2, same = true)", {"x": x}, reference)
    name = f"depthwise_conv{rank}d"
    agree(
        f"y = x |> {name}(2, stride = 2, pad = 1)",
        {"x": x},
        lambda t: conv(t["x"], t[f"{name}.weight"], t[f"{name}.bias"], 2, 1, 1, 3),
    )


def test_sizes_may_be_symbolic() -> None:
    """One compilation serves images of any size."""
    program = net(
        training(
            """
            input x: float[b, 2, h, w]
            require h >= 3 and w >= 3
            h1 = x |> conv2d(3, stride = 2) |> relu |> transposed_conv2d(2, 4, stride = 2, pad = 1)
            output y = h1
            loss mean(h1^2)
            """
        )
    )
    weights = {path: torch.tensor(np.array(v)) for path, v in program.params.items()}
    for size in [(1, 3, 3), (2, 8, 5), (3, 4, 11)]:
        x = np.random.default_rng(4).normal(0, 1, (size[0], 2, *size[1:]))
        h = F.conv2d(torch.tensor(x), weights["conv2d.weight"], weights["conv2d.bias"], 2).relu()
        y = F.conv_transpose2d(
            h, weights["transposed_conv2d.weight"], weights["transposed_conv2d.bias"], 2, 1
        )
        np.testing.assert_allclose(program(x=x)["y"], y.numpy(), rtol=1e-9, atol=1e-12)


def test_a_pair_of_config_is_two_values_or_one() -> None:
    text = """
        model M(k: (int, int) = 3) {
            input x: float[2, 2, 9, 9]
            output y = x |> conv2d(4, k)
        }
        """
    rows: list[tuple[dict[str, Any], tuple[int, ...]]] = [
        ({}, (2, 4, 7, 7)),
        ({"k": (2, 3)}, (2, 4, 8, 7)),
        ({"k": "4,1"}, (2, 4, 6, 9)),
    ]
    for config, shape in rows:
        assert model(text, **config).inference.outputs[0].node.type.shape == shape
    assert model(text, k=(2, 3)).config == {"k": (2, 3)}
    for wrong, code in [((1, 2, 3), "E0224"), ("x", "E0224"), ((1, 2.5), "E0202"), ((), "E0224")]:
        assert codes(text, k=wrong) == [code]
