"""Metrics over a whole split, and data of every type: what NumPy computes on all rows at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nnc
from tests.support.nets import net

Arrays = dict[str, np.ndarray[Any, Any]]


def test_metrics_over_a_split_are_those_of_all_rows_at_once() -> None:
    """Quotients of sums, roots of means, extremes: no mean of the batches' values."""
    program = net(
        """
        model M(classes: int = 4) {
            input  x: float[batch, 3]
            target k: i32[batch] in 0..classes
            target y: float[batch, 2]
            logits = x |> linear(classes)
            z = x |> linear(2)
            guess = argmax(logits)
            loss class = cross_entropy(logits, k)
            loss value = mse(z, y)
            metric accuracy = mean(guess == k)
            metric perplexity = exp(cross_entropy(logits, k))
            metric rmse = sqrt(mean((z - y)^2))
            hit = float(guess == 1 and k == 1)
            metric f1 = 2*sum(hit) / float(max(sum(guess == 1) + sum(k == 1), 1))
            metric iou = float(sum(guess == 2 and k == 2))
                / float(max(sum(guess == 2 or k == 2), 1))
            metric worst = max(abs(z - y))
            metric least = min(logits)
            metric right = sum(guess == k)
            metric r2 = 1 - sum((z - y)^2) / sum(y^2)
            own[c < classes] = sum[i](guess[i] == c and k[i] == c)
            all_of[c < classes] = sum[i](k[i] == c)
            metric by_class = mean(float(own) / float(max(all_of, 1)))
            metric of_class_0 = float(own[0]) / float(max(all_of[0], 1))
            metric any_wrong = any(guess != k)
            metric total = cross_entropy(logits, k) + mse(z, y)
        }
        train M { optimizer = sgd(0.1), precision = "f64", batch = 7 }
        """
    )
    rng = np.random.default_rng(0)
    for rows in (1, 7, 23):
        x, y = rng.normal(0, 1, (rows, 3)), rng.normal(0, 1, (rows, 2))
        k = rng.integers(0, 4, rows).astype(np.int32)
        found = program.evaluate({"x": x, "y": y, "k": k})
        p = program.params
        logits = x @ p["linear.weight"] + p["linear.bias"]
        z = x @ p["linear_2.weight"] + p["linear_2.bias"]
        guess = logits.argmax(1)
        shifted = logits - logits.max(1, keepdims=True)
        ce = (np.log(np.exp(shifted).sum(1)) - shifted[np.arange(rows), k]).mean()
        own = np.array([((guess == c) & (k == c)).sum() for c in range(4)])
        all_of = np.array([(k == c).sum() for c in range(4)])
        hit = ((guess == 1) & (k == 1)).sum()
        expected = {
            "class": ce,
            "value": ((z - y) ** 2).mean(),
            "accuracy": (guess == k).mean(),
            "perplexity": np.exp(ce),
            "rmse": np.sqrt(((z - y) ** 2).mean()),
            "f1": 2 * hit / max((guess == 1).sum() + (k == 1).sum(), 1),
            "iou": own[2] / max(((guess == 2) | (k == 2)).sum(), 1),
            "worst": abs(z - y).max(),
            "least": logits.min(),
            "right": (guess == k).sum(),
            "r2": 1 - ((z - y) ** 2).sum() / (y**2).sum(),
            "by_class": (own / np.maximum(all_of, 1)).mean(),
            "of_class_0": own[0] / max(all_of[0], 1),
            "any_wrong": (guess != k).any(),
            "total": ce + ((z - y) ** 2).mean(),
        }
        assert set(found) == set(expected)
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, 1e-10, err_msg=f"{name}, {rows} rows")


def test_a_masked_mean_over_a_split_counts_what_is_kept() -> None:
    program = net(
        """
        model M {
            input  ids: i32[b, time] in 0..9
            target next: i32[b, time] in 0..9
            logits = ids |> embedding(9, 4) |> linear(9)
            logp = log_softmax(logits)
            own[i, t] = logp[i, t, next[i, t]]
            kept[i, t] = next[i, t] != 0
            loss nll = -sum[i, t where kept[i, t]](own[i, t]) / max(float(sum(kept)), 1.0)
            metric ppl = exp(-sum[i, t where kept[i, t]](own[i, t]) / max(float(sum(kept)), 1.0))
            metric masked = mean[i, t where kept[i, t]](argmax(logits)[i, t] == next[i, t])
        }
        train M { optimizer = adam(lr = 0.01), precision = "f64", batch = 4 }
        """
    )
    rng = np.random.default_rng(1)
    ids = rng.integers(0, 9, (11, 6)).astype(np.int32)
    following = rng.integers(0, 4, (11, 6)).astype(np.int32)
    found = program.evaluate({"ids": ids, "next": following})
    p = program.params
    logits = p["embedding.table"][ids] @ p["linear.weight"] + p["linear.bias"]
    shifted = logits - logits.max(-1, keepdims=True)
    logp = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    own = np.take_along_axis(logp, following[..., None], 2)[..., 0]
    kept = following != 0
    np.testing.assert_allclose(found["ppl"], np.exp(-own[kept].sum() / kept.sum()), 1e-10)
    np.testing.assert_allclose(found["masked"], (logits.argmax(-1) == following)[kept].mean())
    program.fit({"ids": ids, "next": following}, epochs=2)


def test_arrays_of_every_type_and_layout() -> None:
    program = net(
        """
        model Types {
            input a: u8[n, 2]
            input b: bool[n]
            input c: i64[n]
            input d: f64[n]
            input e: i8[n]
            input f: f32[2, n]
            param w: float = ones()
            total[i] = float(a[i, 0]) + 10*float(a[i, 1]) + (if b[i] then 100.0 else 0.0)
                + float(c[i]) + float(d[i]) + float(e[i]) + float(f[1, i]) - float(f[0, i])
            output total
            output kinds = c + 1
            output bytes = a
            output flags = not b
            output tiny = e
            output wide = d * 2
            loss mean((w*total)^2) / 1e4
        }
        train Types { optimizer = sgd(lr = 1e-3) }
        """
    )
    rng = np.random.default_rng(2)
    for n in (1, 19):
        arrays: Arrays = {
            "a": rng.integers(0, 256, (n, 2)).astype(np.uint8),
            "b": rng.random(n) < 0.5,
            "c": rng.integers(-9, 9, n),
            "d": rng.normal(0, 1, n),
            "e": rng.integers(-128, 128, n).astype(np.int8),
            "f": rng.normal(0, 1, (2, n)).astype(np.float32),
        }
        f = {k: v.astype(np.float64) for k, v in arrays.items()}
        total = f["a"] @ [1, 10] + 100 * f["b"] + f["c"] + f["d"] + f["e"] + f["f"][1] - f["f"][0]
        odd: dict[str, Any] = {
            **arrays,
            "a": np.asfortranarray(arrays["a"]),
            "c": arrays["c"].astype(np.int16)[::-1][::-1],
            "d": np.repeat(arrays["d"], 2)[::2],
            "e": arrays["e"].tolist(),
            "f": arrays["f"].astype(">f4"),
        }
        for given in (arrays, odd):
            found = program(**given)
            np.testing.assert_allclose(found["total"], total, 1e-5, 1e-4)
            np.testing.assert_array_equal(found["kinds"], arrays["c"] + 1)
            np.testing.assert_array_equal(found["bytes"], arrays["a"])
            np.testing.assert_array_equal(found["flags"], ~arrays["b"])
            np.testing.assert_array_equal(found["tiny"], arrays["e"])
            np.testing.assert_array_equal(found["wide"], arrays["d"] * 2)
            dtypes = {k: v.dtype.name for k, v in found.items()}
            assert dtypes == {
                "total": "float32", "kinds": "int64", "bytes": "uint8", "flags": "bool",
                "tiny": "int8", "wide": "float64",
            }  # fmt: skip
            program.step(**given)


def test_a_model_that_requires_sizes_of_its_data() -> None:
    program = net(
        """
        model Patches(size: int = 4) {
            input  x: float[b, time]
            require time % size == 0 and time >= 2*size, "whole patches"
            p = reshape(x, (b, time//size, size))
            z = p |> linear(3) |> mean_over
            output z
            loss mean(z^2)
        }
        fn mean_over(x: float[b, t, n]) -> float[b, n] = mean(x, axis = 1)
        train Patches { optimizer = sgd(0.1), precision = "f64" }
        """
    )
    rng = np.random.default_rng(3)
    for time in (8, 20):
        x = rng.normal(0, 1, (2, time))
        w, b = program.params["linear.weight"], program.params["linear.bias"]
        z = (x.reshape(2, -1, 4) @ w + b).mean(1)
        np.testing.assert_allclose(program(x=x)["z"], z, 1e-12)
        program.step(x=x)
    for time in (4, 9):
        with pytest.raises(nnc.UserError, match="whole patches"):
            program(x=rng.normal(0, 1, (2, time)))


def test_whole_number_arithmetic_of_tensors() -> None:
    program = net(
        """
        model Whole {
            input a: i32[n]
            input b: i64[n]
            output q = a // 3
            output r = a % 3
            output s = b*b - 7
            output m = max(a, 2)
            output p = abs(a)
            output big = i64(a) * b
            output less = a < 3 or i64(a) == b
            output sums = sum(a)
            output low = min(b)
            output at = argmax(a)
            output hits = sum(a == 3)
            output half = float(a) / 2
            shifted[i] = a[i] + i
            output shifted
        }
        """
    )
    rng = np.random.default_rng(4)
    a = rng.integers(-9, 9, 13).astype(np.int32)
    b = rng.integers(-9, 9, 13)
    found = program(a=a, b=b)
    expected = {
        "q": a // 3, "r": a % 3, "s": b * b - 7, "m": np.maximum(a, 2), "p": abs(a),
        "big": a * b, "less": (a < 3) | (a == b), "sums": a.sum(), "low": b.min(),
        "at": a.argmax(), "hits": (a == 3).sum(), "half": a / 2, "shifted": a + np.arange(13),
    }  # fmt: skip
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
