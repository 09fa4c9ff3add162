"""Models of dense layers, sharing, tables and custom layers: those written in PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.support.nets import net
from tests.support.reference import compare

torch = pytest.importorskip("torch")
functional = torch.nn.functional
TRAIN = '{ optimizer = sgd(lr = 0.1), precision = "f64" }'


def test_autoencoder_with_tied_weights_on_bytes() -> None:
    program = net(
        """
        model Auto(code: int = 5) {
            input pixels: u8[n, 4, 3]
            x    = float(pixels) / 255.0
            flat = reshape(x, (n, 12))
            enc  = linear(code)
            z    = enc(flat) |> tanh
            param back: float[12] = zeros()
            y = z @ transpose(enc.weight) + back
            output z
            output rebuilt = reshape(y, (n, 4, 3))
            loss mse(y, flat)
        }
        train Auto """
        + TRAIN,
        code=3,
    )

    def reference(p: dict[str, Any], d: dict[str, Any]) -> dict[str, Any]:
        flat = d["pixels"].double().reshape(-1, 12) / 255
        z = torch.tanh(flat @ p["enc.weight"] + p["enc.bias"])
        y = z @ p["enc.weight"].T + p["back"]
        return {"z": z, "rebuilt": y.reshape(-1, 4, 3), "loss:loss": ((y - flat) ** 2).mean()}

    rng = np.random.default_rng(0)
    for rows in (1, 7):
        compare(program, {"pixels": rng.integers(0, 256, (rows, 4, 3)).astype(np.uint8)}, reference)


def test_bag_of_embeddings_with_a_padding_mask() -> None:
    """Rows of different lengths: 0 pads, an empty row has a mean of nothing, 0."""
    program = net(
        """
        model Bag {
            input  words: i32[docs, words_of_one] in 0..23
            target label: i64[docs] in 0..4
            e = words |> embedding(23, 6)
            kept[b, t] = words[b, t] != 0
            bag[b, d] = mean[t where kept[b, t]](e[b, t, d])
            h = bag |> linear(5) |> relu |> linear(4)
            output bag
            loss cross_entropy(h, i32(label))
        }
        train Bag """
        + TRAIN
    )

    def reference(p: dict[str, Any], d: dict[str, Any]) -> dict[str, Any]:
        e = p["embedding.table"][d["words"].long()]
        kept = (d["words"] != 0).double()[..., None]
        bag = (e * kept).sum(1) / kept.sum(1).clamp(min=1)
        h = torch.relu(bag @ p["linear.weight"] + p["linear.bias"])
        logits = h @ p["linear_2.weight"] + p["linear_2.bias"]
        return {"bag": bag, "loss:loss": functional.cross_entropy(logits, d["label"])}

    rng = np.random.default_rng(1)
    for rows, length in ((1, 1), (5, 9), (13, 4)):
        words = rng.integers(0, 23, (rows, length)).astype(np.int32)
        words[0] = 0
        compare(program, {"words": words, "label": rng.integers(0, 4, rows)}, reference)


def test_matrix_factorisation_with_two_tables() -> None:
    program = net(
        """
        model Taste(width: int = 4) {
            input  user: i32[n] in 0..11
            input  film: i32[n] in 0..7
            target stars: float[n]
            who  = embedding(11, width)
            what = embedding(7, width)
            bias_of = embedding(7, 1)
            u = who(user)
            v = what(film)
            guess = sum(u*v, axis = 1) + reshape(bias_of(film), n)
            output guess
            loss rating = mse(guess, stars)
            loss small  = 0.01 * (sum(u^2) + sum(v^2)) / float(n)
        }
        train Taste """
        + TRAIN
    )

    def reference(p: dict[str, Any], d: dict[str, Any]) -> dict[str, Any]:
        user, film = d["user"].long(), d["film"].long()
        u, v = p["who.table"][user], p["what.table"][film]
        guess = (u * v).sum(1) + p["bias_of.table"][film, 0]
        return {
            "guess": guess,
            "loss:rating": ((guess - d["stars"]) ** 2).mean(),
            "loss:small": 0.01 * ((u**2).sum() + (v**2).sum()) / len(user),
        }

    rng = np.random.default_rng(2)
    for rows in (1, 17, 130):
        arrays = {
            "user": rng.integers(0, 11, rows).astype(np.int32),
            "film": rng.integers(0, 7, rows).astype(np.int32),
            "stars": rng.normal(3, 1, rows),
        }
        compare(program, arrays, reference)


def test_siamese_tower_shared_by_two_inputs() -> None:
    program = net(
        """
        layer tower(width: int)(x: float[..s, n]) -> float[..s, width] {
            return x |> linear(width) |> tanh |> linear(width, with_bias = false)
        }
        model Pairs {
            input  left:  float[pairs, 9]
            input  right: float[pairs, 9]
            target same:  bool[pairs]
            embed = tower(4)
            a = embed(left)
            b = embed(right)
            gap = sqrt(sum((a - b)^2, axis = 1) + 1e-6)
            pull[i] = if same[i] then gap[i]^2 else max(1 - gap[i], 0)^2
            output gap
            loss mean(pull)
            metric agree = mean((gap < 0.5) == same)
        }
        train Pairs """
        + TRAIN
    )

    def reference(p: dict[str, Any], d: dict[str, Any]) -> dict[str, Any]:
        def tower(x: Any) -> Any:
            h = torch.tanh(x @ p["embed.linear.weight"] + p["embed.linear.bias"])
            return h @ p["embed.linear_2.weight"]

        gap = ((tower(d["left"]) - tower(d["right"])) ** 2).sum(1).add(1e-6).sqrt()
        pull = torch.where(d["same"], gap**2, torch.relu(1 - gap) ** 2)
        return {"gap": gap, "loss:loss": pull.mean()}

    rng = np.random.default_rng(3)
    left, right = rng.normal(0, 1, (2, 11, 9))
    compare(program, {"left": left, "right": right, "same": rng.random(11) < 0.5}, reference)


@pytest.mark.slow
def test_residual_blocks_by_repeat_with_layer_norm() -> None:
    program = net(
        """
        layer block(width: int, hidden: int)(x: float[..s, width]) -> float[..s, width] {
            return x + (x |> layer_norm() |> linear(hidden) |> gelu |> linear(width))
        }
        model Deep(depth: int = 3) {
            input  x: float[b, 6]
            target y: float[b, 2]
            h = x
            repeat i < depth { h = h |> block(6, 10) }
            out = h |> rms_norm() |> linear(2)
            output out
            loss huber(out, y, delta = 0.5)
        }
        train Deep """
        + TRAIN,
        depth=2,
    )

    def reference(p: dict[str, Any], d: dict[str, Any]) -> dict[str, Any]:
        h = d["x"]
        for i in range(2):
            b = f"block.{i}."
            n = functional.layer_norm(h, (6,), p[b + "layer_norm.scale"], p[b + "layer_norm.shift"])
            u = functional.gelu(n @ p[b + "linear.weight"] + p[b + "linear.bias"])
            h = h + u @ p[b + "linear_2.weight"] + p[b + "linear_2.bias"]
        h = functional.rms_norm(h, (6,), p["rms_norm.scale"], 1e-6)
        out = h @ p["linear.weight"] + p["linear.bias"]
        return {"out": out, "loss:loss": functional.huber_loss(out, d["y"], delta=0.5)}

    rng = np.random.default_rng(4)
    for rows in (1, 5):
        arrays = {"x": rng.normal(0, 1, (rows, 6)), "y": rng.normal(0, 1, (rows, 2))}
        compare(program, arrays, reference)


def test_label_smoothing_and_focal_loss() -> None:
    program = net(
        """
        fn focal(logits: float[..s, k], target: i32[..s], gamma: float = 2.0) -> float {
            logp = log_softmax(logits)
            own[..] = logp[.., target[..]]
            return -mean((1 - exp(own))^gamma * own)
        }
        model Two {
            input  x: float[b, 3]
            target k: i32[b] in 0..5
            logits = x |> linear(5)
            loss smooth = cross_entropy(logits, k, label_smoothing = 0.2)
            loss hard   = 0.5 * focal(logits, k, gamma = 1.5)
            output p = softmax(logits)
        }
        train Two """
        + TRAIN
    )

    def reference(p: dict[str, Any], d: dict[str, Any]) -> dict[str, Any]:
        logits = d["x"] @ p["linear.weight"] + p["linear.bias"]
        own = functional.log_softmax(logits, 1)[torch.arange(len(logits)), d["k"].long()]
        smooth = functional.cross_entropy(logits, d["k"].long(), label_smoothing=0.2)
        hard = -((1 - own.exp()) ** 1.5 * own).mean()
        return {"p": logits.softmax(1), "loss:smooth": smooth, "loss:hard": 0.5 * hard}

    rng = np.random.default_rng(5)
    arrays = {"x": rng.normal(0, 2, (9, 3)), "k": rng.integers(0, 5, 9).astype(np.int32)}
    compare(program, arrays, reference)


def test_functions_and_numbers_as_config() -> None:
    text = (
        """
        layer mlp(widths: int, deep: int = 2, act: fn = relu, final_bias: bool = true)
                 (x: float[..s, n]) -> float[..s, 1] {
            h = x
            repeat i < deep {
                h = h |> linear(widths)
                h = act(h)
            }
            if final_bias { h = h |> linear(1) } else { h = h |> linear(1, with_bias = false) }
            return h
        }
        fn squash(x: float[..s]) -> float[..s] = x / (1 + abs(x))
        model Fn(act: fn = squash, deep: int = 1, bias: bool = false) {
            input x: float[p, q, 4]
            target y: float[p, q]
            z = x |> mlp(3, deep, act = act, final_bias = bias)
            z = reshape(z, (p, q))
            output z
            loss mae(z, y)
        }
        train Fn """
        + TRAIN
    )
    rng = np.random.default_rng(6)
    arrays = {"x": rng.normal(0, 1, (3, 5, 4)), "y": rng.normal(0, 1, (3, 5))}
    for act, deep, bias in ((None, 1, False), ("gelu", 2, True)):
        config = {"deep": deep, "bias": bias} | ({"act": act} if act else {})
        program = net(text, **config)
        function = functional.gelu if act else functional.softsign

        def reference(
            p: dict[str, Any], d: dict[str, Any], deep: int = deep, bias: bool = bias,
            function: Any = function,
        ) -> dict[str, Any]:  # fmt: skip
            h = d["x"]
            for i in range(deep):
                h = function(h @ p[f"mlp.linear.{i}.weight"] + p[f"mlp.linear.{i}.bias"])
            last = "mlp.linear_2" if bias else "mlp.linear_3"
            h = h @ p[f"{last}.weight"] + (p[f"{last}.bias"] if bias else 0)
            return {"z": h[..., 0], "loss:loss": functional.l1_loss(h[..., 0], d["y"])}

        compare(program, arrays, reference)


def test_tuple_returns_recursion_and_config_if() -> None:
    program = net(
        """
        fn stats(x: float[..s, n]) -> (float[..s], float[..s]) {
            m = mean(x, axis = -1)
            v[..] = mean[i]((x[.., i] - m[..])^2)
            return m, v
        }
        layer tree(depth: int)(x: float[b, n]) -> float[b, 2] {
            require n >= 2, "a leaf has two columns"
            if depth == 0 {
                return x[:, 0:2]
            } else {
                left, right = split(x, 2, axis = 1)
                a = left |> tree(depth - 1)
                c = right |> tree(depth - 1)
                return concat(a, c, axis = 1) |> linear(2) |> tanh
            }
        }
        model Tree {
            input x: float[b, 8]
            h = x |> tree(2)
            m, v = stats(h)
            output m
            loss mean(v) + 0.5*mean(m^2)
        }
        train Tree """
        + TRAIN
    )

    def reference(p: dict[str, Any], d: dict[str, Any]) -> dict[str, Any]:
        def tree(x: Any, depth: int, path: str) -> Any:
            if depth == 0:
                return x[:, :2]
            half = x.shape[1] // 2
            parts = [
                tree(x[:, :half], depth - 1, f"{path}.tree"),
                tree(x[:, half:], depth - 1, f"{path}.tree_2"),
            ]
            w, b = p[f"{path}.linear.weight"], p[f"{path}.linear.bias"]
            return torch.tanh(torch.cat(parts, 1) @ w + b)

        h = tree(d["x"], 2, "tree")
        m, v = h.mean(1), h.var(1, unbiased=False)
        return {"m": m, "loss:loss": v.mean() + 0.5 * (m**2).mean()}

    rng = np.random.default_rng(7)
    compare(program, {"x": rng.normal(0, 1, (6, 8))}, reference)


def test_scalar_inputs_and_rank_one_models() -> None:
    """An input without dims, and a batch of numbers."""
    program = net(
        """
        model Line {
            input  heat: float
            input  x: float[n]
            target y: f32[n]
            param a: float = constant(0.5)
            param b: float[1] = zeros()
            z = a*x*heat + b
            output z
            loss sum((z - float(y))^2) / float(n)
        }
        train Line """
        + TRAIN
    )

    def reference(p: dict[str, Any], d: dict[str, Any]) -> dict[str, Any]:
        z = p["a"] * d["x"] * d["heat"] + p["b"]
        return {"z": z, "loss:loss": ((z - d["y"]) ** 2).mean()}

    rng = np.random.default_rng(8)
    for rows in (1, 3):
        arrays = {
            "heat": np.float64(0.7),
            "x": rng.normal(0, 1, rows),
            "y": rng.normal(0, 1, rows).astype(np.float32),
        }
        compare(program, arrays, reference)
