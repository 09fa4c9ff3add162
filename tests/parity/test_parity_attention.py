"""Attention and transformer blocks of the library against PyTorch's, in f64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.library import agree

torch = pytest.importorskip("torch")
F = torch.nn.functional


def mapped(t: Any, path: str, x: Any) -> Any:
    return x @ t[f"{path}.weight"] + t[f"{path}.bias"]


def heads_of(x: Any, heads: int) -> Any:
    return x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)


def multi_head(
    t: Any, path: str, x: Any, memory: Any, seen: Any, causal: bool, heads: int, groups: int
) -> Any:
    q = heads_of(mapped(t, f"{path}.query", x), heads)
    k = heads_of(mapped(t, f"{path}.key", memory), groups)
    v = heads_of(mapped(t, f"{path}.value", memory), groups)
    mask = torch.ones(x.shape[1], memory.shape[1], dtype=torch.bool)
    mask = mask.tril() if causal else mask
    mask = mask[None, None] if seen is None else mask[None, None] & seen[:, None, None]
    y = F.scaled_dot_product_attention(q, k, v, mask, enable_gqa=True)
    return mapped(t, f"{path}.out", y.transpose(1, 2).reshape(x.shape))


@given(
    st.sampled_from(((1, 1), (2, 1), (4, 2), (3, 3))), st.integers(1, 5), st.integers(1, 6),
    st.booleans(), st.booleans(),
)  # fmt: skip
@settings(max_examples=3)
def test_attention(
    many: tuple[int, int], time: int, source: int, masked: bool, causal: bool
) -> None:
    heads, groups = many
    rng = np.random.default_rng(time)
    source = time if causal else source
    seen = rng.uniform(0, 1, (2, source)) > 0.4
    seen[:, 0] = True
    arrays = {
        "x": rng.normal(0, 1, (2, time, heads * 4)),
        "memory": rng.normal(0, 1, (2, source, 6)),
    } | ({"seen": seen} if masked else {})
    agree(
        f"net = attention({heads}, {groups}, causal = {str(causal).lower()})\n"
        f"y = net(x, memory{', seen' if masked else ''})",
        arrays,
        lambda t: multi_head(
            t, "net", t["x"], t["memory"], t.get("seen"), causal, heads, groups
        ),
        atol=1e-9,
    )  # fmt: skip


def normed(t: Any, path: str, x: Any) -> Any:
    return F.layer_norm(x, x.shape[-1:], t[f"{path}.scale"], t[f"{path}.shift"])


def fed(t: Any, path: str, x: Any) -> Any:
    return mapped(t, f"{path}.down", mapped(t, f"{path}.up", x).relu())


@pytest.mark.parametrize("pre", [False, True])
def test_blocks(pre: bool) -> None:
    rng = np.random.default_rng(3)
    arrays = {"x": rng.normal(0, 1, (2, 3, 8)), "memory": rng.normal(0, 1, (2, 4, 6))}

    def reference(t: Any) -> Any:
        parts = [
            lambda h: multi_head(t, "net.itself", h, h, None, True, 2, 2),
            lambda h: multi_head(t, "net.other", h, t["memory"], None, False, 2, 2),
            lambda h: fed(t, "net.feed", h),
        ]
        x = t["x"]
        for k, part in enumerate(parts, 1):
            if pre:
                x = x + part(normed(t, f"net.norm{k}", x))
            else:
                x = normed(t, f"net.norm{k}", x + part(x))
        return x

    agree(
        f"net = decoder_block(2, 10, pre_norm = {str(pre).lower()})\ny = net(x, memory)",
        arrays, reference, atol=1e-9,
    )  # fmt: skip


@pytest.mark.parametrize("pre", [False, True])
def test_the_encoder_block_is_that_of_pytorch(pre: bool) -> None:
    x = np.random.default_rng(4).normal(0, 1, (2, 5, 8))
    theirs = torch.nn.TransformerEncoderLayer(
        8, 2, 12, dropout=0.0, batch_first=True, norm_first=pre, dtype=torch.float64
    )

    def reference(t: Any) -> Any:
        names = ("query", "key", "value")
        weights = {
            "self_attn.in_proj_weight": torch.cat([t[f"net.itself.{n}.weight"].T for n in names]),
            "self_attn.in_proj_bias": torch.cat([t[f"net.itself.{n}.bias"] for n in names]),
            "self_attn.out_proj.weight": t["net.itself.out.weight"].T,
            "self_attn.out_proj.bias": t["net.itself.out.bias"],
            "linear1.weight": t["net.feed.up.weight"].T,
            "linear1.bias": t["net.feed.up.bias"],
            "linear2.weight": t["net.feed.down.weight"].T,
            "linear2.bias": t["net.feed.down.bias"],
        }
        for k in (1, 2):
            weights |= {
                f"norm{k}.weight": t[f"net.norm{k}.scale"],
                f"norm{k}.bias": t[f"net.norm{k}.shift"],
            }
        return torch.func.functional_call(theirs, weights, (t["x"],))

    agree(
        f"net = encoder_block(2, 12, pre_norm = {str(pre).lower()})\ny = net(x)",
        {"x": x}, reference, atol=1e-9,
    )  # fmt: skip


def test_positions_and_swiglu() -> None:
    x = np.random.default_rng(5).normal(0, 1, (2, 5, 6))

    def turned(t: Any) -> Any:
        half = 3
        angle = torch.arange(5.0, dtype=torch.float64)[:, None] * 1e4 ** (
            -torch.arange(half, dtype=torch.float64) / half
        )
        a, b = t["x"].split(half, -1)
        return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], -1)

    def waves(t: Any) -> Any:
        rate = 1e4 ** (-torch.arange(0, 6, 2, dtype=torch.float64) / 6)
        angle = torch.arange(5.0, dtype=torch.float64)[:, None] * rate
        return t["x"] + torch.stack([angle.sin(), angle.cos()], -1).reshape(5, 6)

    agree("y = rotary(x)", {"x": x}, turned)
    agree("y = x + sinusoidal(x)", {"x": x}, waves)
    agree(
        "y = x |> learned_positions(9)",
        {"x": x},
        lambda t: t["x"] + t["learned_positions.table"][:5],
    )
    agree(
        "net = swiglu(7)\ny = net(x)",
        {"x": x},
        lambda t: (
            (F.silu(t["x"] @ t["net.gate.weight"]) * (t["x"] @ t["net.up.weight"]))
            @ t["net.down.weight"]
        ),
        atol=1e-9,
    )
