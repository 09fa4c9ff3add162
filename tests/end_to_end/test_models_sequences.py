"""Attention, gathers, scatters, odd subscripts and all reductions, in index notation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.support.nets import net
from tests.support.reference import compare

torch = pytest.importorskip("torch")
functional = torch.nn.functional
TRAIN = '{ optimizer = sgd(lr = 0.1), precision = "f64" }'


@pytest.mark.slow
def test_causal_multi_head_attention_in_index_notation() -> None:
    program = net(
        """
        layer attention(heads: int)(x: float[b, time, n]) -> float[b, time, n] {
            require n % heads == 0, "heads divide the width"
            width = n // heads
            qkv = x |> linear(3*n, with_bias = false)
            q, k, v = split(qkv, 3, axis = 2)
            s[i, h < heads, t, u < time] =
                sum[d < width](q[i, t, h*width + d] * k[i, u, h*width + d]) / sqrt(float(width))
            top[i, h, t]   = max[u where u <= t](s[i, h, t, u])
            e[i, h, t, u]  = exp(s[i, h, t, u] - top[i, h, t])
            z[i, h, t]     = sum[u where u <= t](e[i, h, t, u])
            y[i, t, c < n] =
                sum[u where u <= t](e[i, c//width, t, u] * v[i, u, c]) / z[i, c//width, t]
            return y |> linear(n)
        }
        model Gpt(vocab: int = 13, width: int = 6, heads: int = 2, depth: int = 2) {
            input  ids: i32[b, time] in 0..vocab
            target next: i32[b, time] in 0..vocab
            tokens = embedding(vocab, width)
            h = tokens(ids)
            repeat i < depth {
                h = h + (h |> layer_norm() |> attention(heads))
                h = h + (h |> rms_norm() |> linear(2*width) |> silu |> linear(width))
            }
            logits = h @ transpose(tokens.table)
            output logits
            loss cross_entropy(logits, next)
            metric perplexity = exp(cross_entropy(logits, next))
        }
        train Gpt """
        + TRAIN
    )

    def reference(p: dict[str, Any], d: dict[str, Any]) -> dict[str, Any]:
        h = p["tokens.table"][d["ids"].long()]
        rows, time, n = h.shape
        for i in range(2):
            norm = functional.layer_norm(
                h, (n,), p[f"layer_norm.{i}.scale"], p[f"layer_norm.{i}.shift"]
            )
            qkv = norm @ p[f"attention.{i}.linear.weight"]
            q, k, v = (t.reshape(rows, time, 2, n // 2).transpose(1, 2) for t in qkv.chunk(3, 2))
            y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            y = y.transpose(1, 2).reshape(rows, time, n)
            a = f"attention.{i}.linear_2."
            h = h + y @ p[a + "weight"] + p[a + "bias"]
            u = functional.rms_norm(h, (n,), p[f"rms_norm.{i}.scale"], 1e-6)
            u = functional.silu(u @ p[f"linear.{i}.weight"] + p[f"linear.{i}.bias"])
            h = h + u @ p[f"linear_2.{i}.weight"] + p[f"linear_2.{i}.bias"]
        logits = h @ p["tokens.table"].T
        loss = functional.cross_entropy(logits.reshape(-1, 13), d["next"].long().reshape(-1))
        return {"logits": logits, "loss:loss": loss}

    rng = np.random.default_rng(0)
    for rows, time in ((1, 1), (2, 7), (3, 4)):
        ids = rng.integers(0, 13, (rows, time + 1)).astype(np.int32)
        compare(program, {"ids": ids[:, :-1], "next": ids[:, 1:]}, reference, rtol=1e-8)


def test_a_graph_network_that_adds_messages_at_their_nodes() -> None:
    program = net(
        """
        model Graph {
            input  feature: float[nodes, 3]
            input  src: i64[edges]
            input  dst: i32[edges]
            target value: float[nodes]
            h = feature |> linear(4) |> tanh
            m[e, d] = h[src[e], d] * 0.5
            total[v < nodes, d] = sum[e where dst[e] == v](m[e, d])
            most[v < nodes, d]  = max[e where dst[e] == v](m[e, d])
            degree[v < nodes]   = sum[e where dst[e] == v](1.0)
            safe[v, d] = if degree[v] > 0 then most[v, d] else 0
            y = concat(h, total, safe, axis = 1) |> linear(1)
            output degree
            output y
            loss mse(reshape(y, nodes), value)
        }
        train Graph { optimizer = sgd(lr = 0.1), precision = "f64" }
        """
    )

    def reference(p: dict[str, Any], d: dict[str, Any]) -> dict[str, Any]:
        h = torch.tanh(d["feature"] @ p["linear.weight"] + p["linear.bias"])
        m = 0.5 * h[d["src"]]
        dst = d["dst"].long()
        nodes = len(h)
        total = torch.zeros(nodes, 4, dtype=torch.float64).index_add(0, dst, m)
        degree = torch.bincount(dst, minlength=nodes).double()
        rows = [
            m[dst == v].amax(0) if degree[v] > 0 else torch.zeros(4, dtype=torch.float64)
            for v in range(nodes)
        ]
        both = torch.cat((h, total, torch.stack(rows)), 1)
        y = both @ p["linear_2.weight"] + p["linear_2.bias"]
        loss = functional.mse_loss(y[:, 0], d["value"])
        return {"degree": degree, "y": y, "loss:loss": loss}

    rng = np.random.default_rng(1)
    for nodes, edges in ((1, 1), (6, 15), (9, 4)):
        arrays = {
            "feature": rng.normal(0, 1, (nodes, 3)),
            "src": rng.integers(0, nodes, edges),
            "dst": rng.integers(0, nodes, edges).astype(np.int32),
            "value": rng.normal(0, 1, nodes),
        }
        compare(program, arrays, reference)


def test_gathers_along_any_axis_and_subscripts_with_division() -> None:
    program = net(
        """
        model Reads {
            input x: float[b, 4, 6]
            input pick: i32[b, 4] in 0..6
            input row: i32[b] in 0..4
            param p: float[4, 6] = ones()
            z[i, r, c] = x[i, r, c]*p[r, c]
            along[i, r]     = z[i, r, pick[i, r]]
            across[i, c]    = z[i, row[i], c]
            both[i]         = z[i, row[i], pick[i, row[i]]]
            halves[i, k < 12] = z[i, k%4, k//2]
            turned[i, c, r] = z[i, 3 - r, 5 - c]
            blocks[i, k < 2, r, c < 3] = z[i, r, 3*k + c]
            skewed[i, k < 24] = z[i, k//6, k%6]
            output along
            output across
            output halves
            output turned
            output skewed
            loss mean(along^2) + mean(across^3) + mean(both^2)
            loss two = mean(halves^3) + mean(turned[:, 0, :]^2) + mean(blocks[:, 1]^2)
                + mean(skewed^4)
        }
        train Reads """
        + TRAIN
    )

    def reference(p: dict[str, Any], d: dict[str, Any]) -> dict[str, Any]:
        z = d["x"] * p["p"]
        pick, row = d["pick"].long(), d["row"].long()
        n = torch.arange(len(z))
        along = torch.gather(z, 2, pick[..., None])[..., 0]
        across = z[n, row]
        both = z[n, row, pick[n, row]]
        k = torch.arange(12)
        halves = z[:, k % 4, k // 2]
        turned = z.flip(1, 2).transpose(1, 2)
        skewed = z.reshape(-1, 24)
        return {
            "along": along, "across": across, "halves": halves, "turned": turned, "skewed": skewed,
            "loss:loss": (along**2).mean() + (across**3).mean() + (both**2).mean(),
            "loss:two": (halves**3).mean() + (turned[:, 0] ** 2).mean()
            + (z[:, :, 3:] ** 2).mean() + (skewed**4).mean(),
        }  # fmt: skip

    rng = np.random.default_rng(2)
    for rows in (1, 5):
        arrays = {
            "x": rng.normal(0, 1, (rows, 4, 6)),
            "pick": rng.integers(0, 6, (rows, 4)).astype(np.int32),
            "row": rng.integers(0, 4, rows).astype(np.int32),
        }
        compare(program, arrays, reference)


def test_every_reduction_and_reductions_of_nothing() -> None:
    program = net(
        """
        model Reductions {
            input x: float[b, n]
            input on: bool[b, n]
            param p: float = ones()
            z = x*p
            product[i]  = prod[j](z[i, j])
            least[i]    = min[j](z[i, j])
            greatest[i] = max[j where on[i, j]](z[i, j])
            middle[i]   = mean[j where on[i, j]](z[i, j])
            kept[i]     = prod[j where on[i, j]](z[i, j])
            where_least[i] = argmin[j](z[i, j])
            some[i]     = any[j](on[i, j])
            every[i]    = all[j](on[i, j])
            how_many[i] = sum[j](on[i, j])
            bounded = max(greatest, -1000.0)
            output product
            output least
            output greatest
            output middle
            output kept
            output where_least
            output some
            output every
            output how_many
            loss sum(product) + sum(least^2) + sum(bounded*0.1) + sum(middle^2) + sum(kept)
        }
        train Reductions """
        + TRAIN
    )

    def reference(p: dict[str, Any], d: dict[str, Any]) -> dict[str, Any]:
        z, on = d["x"] * p["p"], d["on"]
        low = torch.tensor(-np.inf, dtype=torch.float64)
        greatest = torch.where(on, z, low).amax(1)
        middle = (z * on).sum(1) / on.sum(1).clamp(min=1)
        kept = torch.where(on, z, torch.ones_like(z)).prod(1)
        least, product = z.amin(1), z.prod(1)
        bounded = torch.where(on.any(1), greatest, torch.tensor(-1000.0, dtype=torch.float64))
        return {
            "product": product, "least": least, "greatest": greatest, "middle": middle,
            "kept": kept,
            "where_least": z.argmin(1), "some": on.any(1), "every": on.all(1),
            "how_many": on.sum(1),
            "loss:loss": product.sum() + (least**2).sum() + (bounded * 0.1).sum()
            + (middle**2).sum() + kept.sum(),
        }  # fmt: skip

    rng = np.random.default_rng(3)
    for rows, n in ((1, 1), (4, 5), (3, 40)):
        on = rng.random((rows, n)) < 0.4
        on[0] = False
        compare(program, {"x": rng.normal(0, 1, (rows, n)), "on": on}, reference, steps=1)


def test_products_keep_their_gradient_where_factors_are_zero() -> None:
    program = net(
        """
        model Zeros {
            input c: float[n]
            param p: float[3, 4] = zeros()
            y[i] = prod[j](p[i, j])
            loss sum(c) * (y[0] + y[1] + 2*y[2])
        }
        train Zeros """
        + TRAIN
    )
    program.params["p"][...] = [[0.0, 2, 3, 4], [0, 0, 2, 1], [1, 2, 3, 4]]

    def reference(p: dict[str, Any], d: dict[str, Any]) -> dict[str, Any]:
        y = p["p"].prod(1)
        return {"loss:loss": d["c"].sum() * (y[0] + y[1] + 2 * y[2])}

    compare(program, {"c": np.ones(1)}, reference, steps=1, scatter=None)


def test_window_sums_histograms_and_diagonals() -> None:
    """Box filters over a symbolic length, soft histograms, a trace, an outer product."""
    program = net(
        """
        model Mixed {
            input signal: float[time]
            input bin: u8[time]
            param p: float[5, 5] = ones()
            param q: float[5] = ones()
            wave[t] = signal[t] * q[0]
            smooth[t < time] = mean[u < 3 where 0 <= t + u - 1 < time](wave[t + u - 1])
            histogram[k < 4] = sum[t where i32(bin[t]) == k](wave[t])
            trace = sum[i](p[i, i])
            outer[i, j] = q[i]*q[j]
            mirrored[i, j] = if i <= j then p[i, j] else p[j, i]
            output smooth
            output histogram
            output mirrored
            loss mean(smooth^2) + mean(histogram^2) + trace^2 + sum(outer*p) + sum(mirrored^3)
        }
        train Mixed """
        + TRAIN
    )

    def reference(p: dict[str, Any], d: dict[str, Any]) -> dict[str, Any]:
        wave = d["signal"] * p["q"][0]
        n = len(wave)
        smooth = torch.stack([wave[max(t - 1, 0) : t + 2].mean() for t in range(n)])
        histogram = torch.stack([wave[d["bin"] == k].sum() for k in range(4)])
        m = torch.triu(p["p"]) + torch.triu(p["p"], 1).T
        loss = (smooth**2).mean() + (histogram**2).mean() + torch.trace(p["p"]) ** 2
        loss = loss + (torch.outer(p["q"], p["q"]) * p["p"]).sum() + (m**3).sum()
        return {"smooth": smooth, "histogram": histogram, "mirrored": m, "loss:loss": loss}

    rng = np.random.default_rng(4)
    for time in (1, 2, 33):
        arrays = {
            "signal": rng.normal(0, 1, time),
            "bin": rng.integers(0, 6, time).astype(np.uint8),
        }
        compare(program, arrays, reference)


def test_what_is_off_a_diagonal_is_zero_for_every_batch() -> None:
    """Two towers compared by all pairs of the batch; only the diagonal is credited."""
    program = net(
        """
        model Pairs {
            input a: float[b, 4]
            input c: float[b, 4]
            s = (a |> linear(3)) @ transpose(c |> linear(3))
            lp = log_softmax(s)
            lq = log_softmax(s, axis = 0)
            own[i] = lp[i, i] + lq[i, i]
            output s
            loss -0.5*mean(own)
        }
        train Pairs """
        + TRAIN
    )

    def reference(p: dict[str, Any], d: dict[str, Any]) -> dict[str, Any]:
        u = d["a"] @ p["linear.weight"] + p["linear.bias"]
        v = d["c"] @ p["linear_2.weight"] + p["linear_2.bias"]
        s = u @ v.T
        own = s.log_softmax(1).diag() + s.log_softmax(0).diag()
        return {"s": s, "loss:loss": -0.5 * own.mean()}

    rng = np.random.default_rng(5)
    for rows in (5, 3, 1):
        compare(
            program, {"a": rng.normal(0, 1, (rows, 4)), "c": rng.normal(0, 1, (rows, 4))}, reference
        )
