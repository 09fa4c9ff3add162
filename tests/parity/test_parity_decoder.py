"""The decoder of the model file of a GPT, trained in f64 beside PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.support.nets import ROOT, differentiate, net, training

torch = pytest.importorskip("torch")
VOCABULARY, WIDTH, DEPTH, HEADS, GROUPS = 23, 16, 2, 4, 2
MODEL = f"""
input tokens: i32[batch, time] in 0..{VOCABULARY}
target next: i32[batch, time]
net = decoder({VOCABULARY}, {WIDTH}, {DEPTH}, {HEADS}, {GROUPS})
d = {WIDTH}/{HEADS}
blank = zeros[{DEPTH}, batch, time, {GROUPS}, d]()
logits, _, _ = net(tokens, blank, blank, 0)
loss cross_entropy(logits, next)
metric perplexity = exp(cross_entropy(logits, next))
output scores = logits
"""


def rotary(x: Any) -> Any:
    half = x.shape[-1] // 2
    k = torch.arange(half, dtype=torch.float64)
    position = torch.arange(x.shape[1], dtype=torch.float64)
    angle = (position[:, None] * 10000.0 ** (-k / half)).repeat(1, 2)[None, :, None, :]
    turned = torch.cat([-x[..., half:], x[..., :half]], -1)
    return x * torch.cos(angle) + turned * torch.sin(angle)


def rms_norm(x: Any, scale: Any) -> Any:
    return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-6) * scale


def attention(x: Any, w: dict[str, Any], at: str) -> Any:
    batch, time, _ = x.shape
    d = WIDTH // HEADS
    q = rotary((x @ w[f"{at}.linear.weight"]).view(batch, time, HEADS, d))
    k = rotary((x @ w[f"{at}.linear_2.weight"]).view(batch, time, GROUPS, d))
    v = (x @ w[f"{at}.linear_3.weight"]).view(batch, time, GROUPS, d)
    share = HEADS // GROUPS
    y = torch.nn.functional.scaled_dot_product_attention(
        q.transpose(1, 2),
        k.repeat_interleave(share, 2).transpose(1, 2),
        v.repeat_interleave(share, 2).transpose(1, 2),
        is_causal=True,
    )
    return y.transpose(1, 2).reshape(batch, time, WIDTH) @ w[f"{at}.linear_4.weight"]


def decoder(tokens: Any, w: dict[str, Any]) -> Any:
    x = w["net.embed.table"][tokens]
    for i in range(DEPTH):
        at = f"net.block.{i}"
        x = x + attention(rms_norm(x, w[f"{at}.rms_norm.scale"]), w, f"{at}.attention")
        h = rms_norm(x, w[f"{at}.rms_norm_2.scale"])
        gate = torch.nn.functional.silu(h @ w[f"{at}.swiglu.linear.weight"])
        x = x + (gate * (h @ w[f"{at}.swiglu.linear_2.weight"])) @ w[f"{at}.swiglu.linear_3.weight"]
    return rms_norm(x, w["net.rms_norm.scale"]) @ w["net.embed.table"].T


@pytest.mark.slow
def test_a_decoder_has_pytorchs_values_and_gradients() -> None:
    layers = (ROOT / "tests/data/models/gpt.nn").read_text().partition("model Chat")[0]
    program = net(layers + training(MODEL))
    rng = np.random.default_rng(0)
    for array in program.params.values():
        array[...] = rng.normal(0 if array.ndim > 1 else 1, 0.3, array.shape)
    for batch, time in ((3, 7), (1, 1), (5, 20)):
        tokens, follow = rng.integers(0, VOCABULARY, (2, batch, time)).astype(np.int32)
        w = {p: torch.tensor(a.copy(), requires_grad=True) for p, a in program.params.items()}
        logits = decoder(torch.tensor(tokens.astype(np.int64)), w)
        loss = torch.nn.functional.cross_entropy(
            logits.reshape(-1, VOCABULARY), torch.tensor(follow.astype(np.int64)).reshape(-1)
        )
        loss.backward()
        data = {"tokens": tokens, "next": follow}
        losses, gradients = differentiate(program, data)
        assert losses["loss"] == pytest.approx(loss.item(), rel=1e-11)
        np.testing.assert_allclose(
            program(tokens=tokens)["scores"], logits.detach().numpy(), rtol=1e-9, atol=1e-11
        )
        for path, g in gradients.items():
            expected = w[path].grad.numpy()
            np.testing.assert_allclose(g, expected, rtol=1e-8, atol=1e-12, err_msg=path)
        assert program.evaluate(data)["perplexity"] == pytest.approx(np.exp(loss.item()))
    before = program.step(**data)
    for _ in range(20):
        after = program.step(**data)
    assert after < before
