"""Train blocks: optimizers and schedules of one's own, patterns, freezing, clipping, buffers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nnc
from tests.support.nets import differentiate, net

MODEL = """
model M(hidden: int = 5) {
    input  x: float[b, 3]
    target y: float[b, 2]
    h = x |> linear(hidden) |> tanh |> layer_norm()
    z = h |> linear(2)
    output z
    loss mse(z, y)
}
"""
Arrays = dict[str, np.ndarray[Any, Any]]


def data(rows: int, seed: int = 0) -> Arrays:
    rng = np.random.default_rng(seed)
    return {"x": rng.normal(0, 1, (rows, 3)), "y": rng.normal(0, 1, (rows, 2))}


def weights(program: nnc.Net) -> Arrays:
    return {path: np.array(view) for path, view in program.params.items()}


def close(program: nnc.Net, expected: Arrays, rtol: float = 1e-11) -> None:
    for path, value in expected.items():
        np.testing.assert_allclose(program.params[path], value, rtol, 1e-13, err_msg=path)


def test_an_optimizer_of_ones_own_with_a_schedule_of_ones_own() -> None:
    """Lion by a schedule made of two others."""
    program = net(
        MODEL
        + """
        fn sign(x: float[..s]) -> float[..s] {
            y[..] = if x[..] > 0 then 1.0 else if x[..] < 0 then -1.0 else 0.0
            return y
        }
        optimizer lion(lr: schedule = 1e-4, beta1: float = 0.9, beta2: float = 0.99,
                       decay: float = 0.0)(w, g, t) {
            state m = 0
            u = sign(beta1*m + (1 - beta1)*g)
            m = beta2*m + (1 - beta2)*g
            return w*(1 - lr(t)*decay) - lr(t)*u
        }
        schedule warm_then(first: int, after: schedule)(t) =
            if t < first then after(first)*t/first else after(t)
        train M {
            optimizer = lion(lr = warm_then(3, cosine(0.1, total = 10)), decay = 0.1)
            precision = "f64"
        }
        """
    )
    arrays = data(7)
    w = weights(program)
    m = {path: np.zeros_like(value) for path, value in w.items()}
    for t in range(1, 13):
        _, g = differentiate(program, arrays)
        program.step(**arrays)

        def rate(step: float) -> float:
            done = min(max(step / 10, 0), 1)
            return float(0.05 * (1 + np.cos(np.pi * done)))

        lr = rate(3) * t / 3 if t < 3 else rate(t)
        for path in w:
            w[path] = w[path] * (1 - lr * 0.1) - lr * np.sign(0.9 * m[path] + 0.1 * g[path])
            m[path] = 0.99 * m[path] + 0.01 * g[path]
        close(program, w)


MUON = """
optimizer muon(lr: schedule = 0.02, momentum: float = 0.95, decay: float = 0.0, rounds: int = 5)
              (w: float[m, n], g, t) {
    state v: float[m, n] = 0
    v = momentum*v + g
    u = g + momentum*v
    if m > n {
        x = transpose(u)
    } else {
        x = u
    }
    x = x / (sqrt(sum(x^2)) + 1e-7)
    repeat i < rounds {
        a = x @ transpose(x)
        x = 3.4445*x + (-4.7750*a + 2.0315*(a @ a)) @ x
    }
    if m > n {
        x = transpose(x)
    }
    return w*(1 - lr(t)*decay) - lr(t) * sqrt(max(1.0, float(m)/float(n))) * x
}
"""


def test_muon_for_matrices_and_adamw_for_the_rest() -> None:
    program = net(
        MODEL
        + MUON
        + """
        train M as with_muon {
            optimizer = {
                "**.bias"       = adamw(lr = 1e-2, weight_decay = 0)
                "layer_norm.**" = adamw(lr = 1e-3, weight_decay = 0.1)
                "**"            = muon(lr = 0.05, decay = 0.1)
            }
            precision = "f64"
        }
        train M as plain { optimizer = sgd(0.1) }
        """,
        recipe="with_muon",
    )

    def orthogonal(u: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        x = u.T if u.shape[0] > u.shape[1] else u
        x = x / (np.sqrt((x**2).sum()) + 1e-7)
        for _ in range(5):
            a = x @ x.T
            x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
        return x.T if u.shape[0] > u.shape[1] else x

    arrays = data(4)
    w = weights(program)
    first = {path: np.zeros_like(value) for path, value in w.items()}
    second = {path: np.zeros_like(value) for path, value in w.items()}
    for t in range(1, 5):
        _, g = differentiate(program, arrays)
        program.step(**arrays)
        for path in w:
            if w[path].ndim == 2:
                first[path] = 0.95 * first[path] + g[path]
                x = orthogonal(g[path] + 0.95 * first[path])
                tall = np.sqrt(max(1.0, w[path].shape[0] / w[path].shape[1]))
                w[path] = w[path] * (1 - 0.05 * 0.1) - 0.05 * tall * x
            else:
                lr, decay = (1e-2, 0.0) if path.endswith("bias") else (1e-3, 0.1)
                first[path] = 0.9 * first[path] + 0.1 * g[path]
                second[path] = 0.999 * second[path] + 0.001 * g[path] ** 2
                m, v = first[path] / (1 - 0.9**t), second[path] / (1 - 0.999**t)
                w[path] = w[path] * (1 - lr * decay) - lr * m / (np.sqrt(v) + 1e-8)
        close(program, w, 1e-9)


def test_a_state_of_another_shape_than_its_parameter() -> None:
    """A factored second moment, as in Adafactor; a state of one number; a state with a start."""
    program = net(
        MODEL
        + """
        optimizer factored(lr: float = 0.1)(w: float[m, n], g, t) {
            state rows: float[m] = 0
            state cols: float[n] = 0.5
            state scale: float = 1.0
            rows = 0.9*rows + 0.1*mean(g^2, axis = 1)
            cols = 0.9*cols + 0.1*mean(g^2, axis = 0)
            scale = scale * 0.5
            v[i, j] = rows[i]*cols[j] / (mean(rows) + 1e-12)
            return w - lr*scale*g / (sqrt(v) + 1e-3)
        }
        train M {
            optimizer = {
                "*.weight" = factored()
                "**" = sgd(lr = 0.1, momentum = 0.5, nesterov = true)
            }
            precision = "f64"
        }
        """
    )
    arrays = data(6)
    w = weights(program)
    rows = {p: np.zeros(v.shape[0]) for p, v in w.items()}
    cols = {p: np.full(v.shape[-1], 0.5) for p, v in w.items()}
    speed = {p: np.zeros_like(v) for p, v in w.items()}
    for t in range(1, 5):
        _, g = differentiate(program, arrays)
        program.step(**arrays)
        for p in w:
            if p.endswith("weight"):
                rows[p] = 0.9 * rows[p] + 0.1 * (g[p] ** 2).mean(1)
                cols[p] = 0.9 * cols[p] + 0.1 * (g[p] ** 2).mean(0)
                v = np.outer(rows[p], cols[p]) / (rows[p].mean() + 1e-12)
                w[p] = w[p] - 0.1 * 0.5**t * g[p] / (np.sqrt(v) + 1e-3)
            else:
                speed[p] = 0.5 * speed[p] + g[p]
                w[p] = w[p] - 0.1 * (g[p] + 0.5 * speed[p])
        close(program, w, 1e-10)


def test_freezing_clipping_and_accumulating() -> None:
    """Four rows at a time, three times a step, then a last step of what is left."""
    program = net(
        MODEL
        + """
        train M {
            optimizer  = sgd(lr = 0.5)
            freeze     = "linear.*"
            clip_norm  = 0.05
            accumulate = 3
            batch      = 4
            precision  = "f64"
        }
        """
    )
    arrays = data(13)
    w = weights(program)
    free = [p for p in w if not p.startswith("linear.")]
    original = {k: v.copy() for k, v in arrays.items()}
    _, full = differentiate(program, arrays)
    assert set(full) == set(free)
    norm = np.sqrt(sum((g**2).sum() for g in full.values()))
    assert norm > 0.05
    program.fit(arrays, epochs=1, steps=None, batch=13)
    after = weights(program)
    for p in w:
        expected = w[p] - 0.5 * full[p] * 0.05 / norm if p in free else w[p]
        np.testing.assert_allclose(after[p], expected, 1e-6, 1e-9, err_msg=p)
    np.testing.assert_array_equal(arrays["x"], original["x"])


def test_accumulated_batches_make_the_step_of_one_large_batch() -> None:
    """Micro-batches of different sizes weigh by their rows."""
    text = MODEL + 'train M { optimizer = sgd(lr = 0.3), precision = "f64", KEYS }'
    parts = net(text.replace("KEYS", "batch = 3, accumulate = 4"))
    whole = net(text.replace("KEYS", "batch = 11"))
    arrays = data(11)
    for path, value in weights(whole).items():
        parts.params[path][...] = value
    for _ in range(3):
        parts.fit(arrays, epochs=1)
        whole.fit(arrays, epochs=1)
    close(parts, weights(whole), 1e-10)


def test_buffers_move_by_update_and_infer_without() -> None:
    program = net(
        """
        layer centre(rate: float = 0.25)(x: float[b, n]) -> float[b, n] {
            buffer mean: float[n] = zeros()
            buffer seen: i64 = 0
            if training {
                m[j] = mean[i](x[i, j])
                update mean = (1 - rate)*mean + rate*m
                update seen = seen + 1
            }
            return x - mean
        }
        model Centre {
            input x: float[b, 3]
            y = x |> centre(0.5)
            param p: float[3] = ones()
            z = y*p
            output z
            loss mean(z^2)
        }
        train Centre { optimizer = sgd(lr = 0.1), precision = "f64" }
        """
    )
    rng = np.random.default_rng(1)
    mean, p = np.zeros(3), np.ones(3)
    for step in range(1, 5):
        x = rng.normal(2, 1, (step, 3))
        mean = 0.5 * mean + 0.5 * x.mean(0)
        y = x - mean
        loss = program.step(x=x)
        np.testing.assert_allclose(loss, ((y * p) ** 2).mean(), 1e-12)
        p = p - 0.1 * (2 * y * y * p).sum(0) / (step * 3)
        np.testing.assert_allclose(program.params["centre.mean"], mean, 1e-13)
        assert program.params["centre.seen"] == step
    np.testing.assert_allclose(program(x=x)["z"], (x - mean) * p, 1e-12)
    np.testing.assert_allclose(program.params["centre.mean"], mean, 1e-13)


def test_a_written_gradient_takes_the_place_of_the_derived_one() -> None:
    """A rounding that passes gradients straight through, and one that turns them round."""
    program = net(
        """
        fn straight(x: float[..s]) -> float[..s] = round(x) with gradient(dy) { return dy }
        fn reverse(x: float[..s], strength: float = 1.0) -> float[..s] = x with gradient(dy) {
            return -strength * dy
        }
        model M {
            input x: float[b, 2]
            param p: float[2] = constant(0.3)
            param q: float[2] = constant(0.7)
            y = straight(x*p) + reverse(x*q, strength = 3.0)
            loss sum(y * x)
        }
        train M { optimizer = sgd(lr = 0.1), precision = "f64" }
        """
    )
    x = np.random.default_rng(2).normal(0, 2, (5, 2))
    losses, g = differentiate(program, {"x": x})
    assert losses["loss"] == pytest.approx(((np.round(x * 0.3) + x * 0.7) * x).sum())
    np.testing.assert_allclose(g["p"], (x * x).sum(0))
    np.testing.assert_allclose(g["q"], -3 * (x * x).sum(0))


def test_noise_is_drawn_by_seed_step_and_place_alone() -> None:
    text = """
        layer noisy(std: float)(x: float[..s]) -> float[..s] {
            if training { return x + std*random_normal[..s]() }
            return x
        }
        model Noise {
            input x: float[b, 4]
            h = x |> linear(6) |> dropout(0.25) |> noisy(0.5)
            y = h |> dropout(0.5) |> linear(1)
            z = y + 0.1*random_normal[b, 1]()
            output z
            loss mean(y^2)
        }
        train Noise { optimizer = adam(lr = 0.01), seed = 5, batch = 3 }
        """
    x = np.random.default_rng(3).normal(0, 1, (11, 4)).astype(np.float32)
    nets = [net(text, threads=threads) for threads in (1, 2, 3)]
    histories = [n.fit({"x": x}, epochs=3) for n in nets]
    for other, history in zip(nets[1:], histories[1:], strict=True):
        for path, value in nets[0].params.items():
            np.testing.assert_array_equal(other.params[path], value)
        losses = [[e.loss for e in h.epochs] for h in (history, histories[0])]
        assert losses[0] == losses[1]
    one, two = (nets[0](x=x, seed=9)["z"] for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert (nets[0](x=x, seed=10)["z"] != one).any()
    np.testing.assert_array_equal(nets[0](x=x[:4], seed=9)["z"], one[:4])


def test_imports_with_and_without_a_name(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "blocks.nn").write_text(
        'import "maths.nn" as maths\n'
        "fn relu(x: float[..s]) -> float[..s] = maths.twice(max(x, 0))\n"
        "layer dense(out: int)(x: float[..s, n]) -> float[..s, out] = relu(x |> linear(out))\n"
    )
    (tmp_path / "parts" / "maths.nn").write_text(
        "fn twice(x: float[..s]) -> float[..s] = x + x\n"
        "optimizer half(lr: schedule = 0.5)(w, g, t) = w - 0.5*lr(t)*g\n"
        "schedule falling(start: float)(t) = start / t\n"
    )
    (tmp_path / "main.nn").write_text(
        'import "parts/blocks.nn"\nimport "parts/maths.nn" as m\n'
        "model M { input x: float[b, 2]\n y = x |> dense(3) |> relu\n"
        " output z = m.twice(y)\n loss mean(y^2) }\n"
        'train M { optimizer = m.half(m.falling(0.2)), precision = "f64" }\n'
    )
    program = nnc.compile(tmp_path / "main.nn")
    rng = np.random.default_rng(4)
    for view in program.params.values():
        view[...] = rng.normal(0, 1, view.shape)
    x = rng.normal(0, 1, (3, 2))
    w, b = program.params["dense.linear.weight"], program.params["dense.linear.bias"]
    y = 4 * np.maximum(x @ w + b, 0)
    np.testing.assert_allclose(program(x=x)["z"], 2 * y, 1e-12)
    for t in (1, 2, 3):
        start = w.copy()
        _, g = differentiate(program, {"x": x})
        program.step(x=x)
        np.testing.assert_allclose(w, start - 0.5 * 0.2 / t * g["dense.linear.weight"], 1e-12)


def test_rows_in_one_batch_keep_their_numbers() -> None:
    """A graph's edges name its nodes by number; all nodes are one batch."""
    program = net(
        """
        model Graph {
            input  feature: float[nodes, 3]
            input  source: i32[edges]
            input  end: i32[edges]
            target y: float[nodes]
            m[v < nodes, d] = sum[e where end[e] == v](feature[source[e], d])
            loss mse(reshape(m |> linear(1), nodes), y)
        }
        train Graph { optimizer = sgd(lr = 0.1), precision = "f64", epochs = 4, batch = 9 }
        """
    )
    rng = np.random.default_rng(6)
    arrays = {
        "feature": rng.normal(0, 1, (9, 3)),
        "source": rng.integers(0, 9, 20).astype(np.int32),
        "end": rng.integers(0, 9, 20).astype(np.int32),
        "y": rng.normal(0, 1, 9),
    }
    start = weights(program)
    history = program.fit(arrays)
    fitted = weights(program)
    for path, value in start.items():
        program.params[path][...] = value
    losses = [program.step(**arrays) for _ in range(4)]
    np.testing.assert_allclose([epoch.loss for epoch in history.epochs], losses, 1e-12)
    close(program, fitted)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_fault_of_the_data_leaves_the_weights_as_they_were(threads: int) -> None:
    program = net(
        """
        model M {
            input  x: float[b, 4]
            target k: i32[b]
            loss cross_entropy(x |> linear(8) |> relu |> linear(5), k)
        }
        train M { optimizer = adam(0.1), batch = 10 }
        """,
        threads=threads,
    )
    rng = np.random.default_rng(5)
    x = rng.normal(0, 1, (2000, 4)).astype(np.float32)
    k = rng.integers(0, 5, 2000).astype(np.int32)
    program.step(x=x, k=k)
    instance = program.executor.instance
    before = {name: instance.tensor(name).copy() for name in instance.state_names()}
    k[1234] = 5
    for _ in range(3):
        with pytest.raises(nnc.UserError, match="E0610"):
            program.step(x=x, k=k)
    for name, value in before.items():
        np.testing.assert_array_equal(instance.tensor(name), value, err_msg=name)
    k[1234] = 4
    assert np.isfinite(program.step(x=x, k=k))
