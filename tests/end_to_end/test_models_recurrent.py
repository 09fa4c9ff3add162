"""Recurrent models: written with ``scan``, held against PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.nets import differentiate, every_launch_shared, net, numeric
from tests.support.reference import compare

torch = pytest.importorskip("torch")

LSTM = """
layer lstm(hidden: int)(x: float[time, b, n]) -> float[time, b, hidden] {
    param wx: float[n, 4*hidden] = glorot_uniform()
    param wh: float[hidden, 4*hidden] = glorot_uniform()
    param bias: float[4*hidden] = zeros()
    gates = x @ wx + bias
    hs = scan t < time carry (h = zeros[b, hidden](), c = zeros[b, hidden]()) {
        i, f, g, o = split(gates[t] + h @ wh, 4)
        c = sigmoid(f)*c + sigmoid(i)*tanh(g)
        h = sigmoid(o)*tanh(c)
        yield h
    }
    return hs
}
model Lstm {
    input x: float[time, batch, 3]
    target y: float[time, batch, 4]
    hs = x |> lstm(4)
    output hs
    loss mean((hs - y)^2)
}
train Lstm { optimizer = sgd(lr = 0.1), precision = "f64" }
"""


def lstm(p: dict[str, Any], x: Any) -> Any:
    h = c = torch.zeros(x.shape[1], 4, dtype=torch.float64)
    found = []
    for t in range(len(x)):
        i, f, g, o = (x[t] @ p["lstm.wx"] + p["lstm.bias"] + h @ p["lstm.wh"]).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        found.append(h)
    return torch.stack(found)


def sequence(time: int, batch: int = 2, n: int = 3, out: int = 4) -> dict[str, Any]:
    rng = np.random.default_rng(time)
    return {"x": rng.normal(size=(time, batch, n)), "y": rng.normal(size=(time, batch, out))}


def test_an_lstm_of_any_length_trains_as_torch_does() -> None:
    program = net(LSTM)

    def reference(p: dict[str, Any], d: dict[str, Any]) -> dict[str, Any]:
        hs = lstm(p, d["x"])
        return {"loss:loss": ((hs - d["y"]) ** 2).mean(), "hs": hs}

    compare(program, sequence(6), reference, steps=20)
    for time in (1, 2, 5):  # the same code
        compare(program, sequence(time), reference, steps=1)


def test_the_bits_are_those_of_any_number_of_threads(tmp_path: Path) -> None:
    arrays = sequence(7, batch=5)
    found = []
    with every_launch_shared(tmp_path):
        for threads in (1, 2, 3, 5):
            program = net(LSTM, threads=threads)
            _, gradients = differentiate(program, arrays)
            found.append({path: g.tobytes() for path, g in gradients.items()})
    assert all(f == found[0] for f in found)


def test_backwards_nested_and_several_carries() -> None:
    program = net(
        """
        model M {
            input x: float[time, batch, 3]
            target y: float[time, batch, 4]
            param w: float[3, 4] = normal()
            param u: float[4, 4] = normal()
            param k: float[4] = normal()
            out, total = scan reverse t < time carry (h = zeros[batch, 4](), s = 0.0) {
                scan j < 3 carry (z = h) {
                    z = tanh(z @ u + x[t] @ w*float(j + 1))
                }
                h = 0.5*h + z*k
                s = s + mean(h^2)*float(t)
                yield h, s
            }
            output out
            loss mean((out - y)^2) + 0.1*s + mean(total) + mean(h)
        }
        train M { optimizer = sgd(lr = 0.1), precision = "f64" }
        """
    )

    def reference(p: dict[str, Any], d: dict[str, Any]) -> dict[str, Any]:
        x = d["x"]
        h, s = torch.zeros(2, 4, dtype=torch.float64), torch.zeros((), dtype=torch.float64)
        outs: dict[int, Any] = {}
        totals: dict[int, Any] = {}
        for t in reversed(range(len(x))):
            z = h
            for j in range(3):
                z = torch.tanh(z @ p["u"] + (x[t] @ p["w"]) * (j + 1))
            h = 0.5 * h + z * p["k"]
            s = s + (h**2).mean() * t
            outs[t], totals[t] = h, s
        out = torch.stack([outs[t] for t in range(len(x))])
        total = torch.stack([totals[t] for t in range(len(x))])
        loss = ((out - d["y"]) ** 2).mean() + 0.1 * s + total.mean() + h.mean()
        return {"loss:loss": loss, "out": out}

    compare(program, sequence(5), reference, steps=4, scatter=0.3)


def test_weights_shared_by_a_layer_in_a_scan_and_attention_over_all_that_was() -> None:
    program = net(
        """
        model M {
            input x: float[time, batch, 3]
            target y: float[time, batch, 4]
            cell = linear(4)
            keys = x |> linear(4)
            hs = scan t < time carry (h = zeros[batch, 4]()) {
                e[b, s] = exp(tanh(sum[d](keys[s, b, d]*h[b, d])))
                a[b, s] = (if s <= t then e[b, s] else 0) / sum[r where r <= t](e[b, r])
                seen[b, d] = sum[s](a[b, s]*keys[s, b, d])
                h = tanh(cell(seen) + h)
                yield h |> cell
            }
            output hs
            loss mean((hs - y)^2)
        }
        train M { optimizer = sgd(lr = 0.1), precision = "f64" }
        """
    )

    def reference(p: dict[str, Any], d: dict[str, Any]) -> dict[str, Any]:
        keys = d["x"] @ p["linear.weight"] + p["linear.bias"]
        h = torch.zeros(2, 4, dtype=torch.float64)
        outs = []
        for t in range(len(keys)):
            e = torch.exp(torch.tanh((keys * h).sum(-1)))[: t + 1]
            seen = ((e / e.sum(0))[..., None] * keys[: t + 1]).sum(0)
            h = torch.tanh(seen @ p["cell.weight"] + p["cell.bias"] + h)
            outs.append(h @ p["cell.weight"] + p["cell.bias"])
        hs = torch.stack(outs)
        return {"loss:loss": ((hs - d["y"]) ** 2).mean(), "hs": hs}

    compare(program, sequence(5), reference, steps=3)


def test_gradients_by_differences_through_gathers_and_maxima() -> None:
    program = net(
        """
        model M {
            input x: float[time, batch, 3]
            input ids: i32[time, batch] in 0..5
            param table: float[5, 4] = normal()
            param w: float[4, 4] = normal()
            ms = scan t < time carry (h = ones[batch, 4]()) {
                e[b, j] = table[ids[t, b], j]
                m[b] = max[j](h[b, j]*e[b, j])
                h[b, j] = tanh(sum[i](h[b, i]*w[i, j]) + m[b]) + e[b, j]
                yield m
            }
            loss mean(ms^2) + mean(h) + mean(x)
        }
        train M { optimizer = sgd(lr = 0.1), precision = "f64" }
        """
    )
    rng = np.random.default_rng(3)
    arrays = {"x": rng.normal(size=(4, 2, 3)), "ids": rng.integers(0, 5, (4, 2)).astype("i4")}
    _, gradients = differentiate(program, arrays)
    for path in ("table", "w"):
        expected = numeric(program, arrays, path)
        np.testing.assert_allclose(gradients[path], expected, rtol=1e-6, atol=1e-8)


def test_random_numbers_differ_from_turn_to_turn_and_from_row_to_row() -> None:
    program = net(
        """
        model M {
            input x: float[batch, 4]
            outside = random_uniform[batch, 4]()
            inside, same = scan t < 3 carry (h = x) {
                h = h + random_uniform[batch, 4]()
                yield h, outside
            }
            output inside
            output same
        }
        """
    )
    found = program(x=np.zeros((2, 4), "f4"))
    steps = np.diff(found["inside"], axis=0, prepend=0)
    assert len(np.unique(steps.round(5))) == steps.size
    assert (found["same"] == found["same"][0]).all()


def test_buffers_are_carried_and_a_scan_of_none_leaves_what_it_began_with() -> None:
    program = net(
        """
        layer counting()(x: float[b, n]) -> float[b, n] {
            buffer seen: float[n] = zeros()
            if training { update seen = 0.5*seen + mean(x, axis = 0) }
            return x + seen
        }
        model M(turns: int = 3) {
            input x: float[batch, 2]
            target y: float[batch, 2]
            count = counting()
            h = x |> linear(2)
            scan t < turns carry (h = h) { h = count(h) }
            output h
            loss mean((h - y)^2)
        }
        train M { optimizer = sgd(lr = 0.0), precision = "f64" }
        """
    )
    x, y = np.array([[1.0, 2.0], [3.0, 5.0]]), np.zeros((2, 2))
    weight, bias = (np.array(program.params[f"linear.{k}"]) for k in ("weight", "bias"))
    program.step(x=x, y=y)
    h, seen = x @ weight + bias, np.zeros(2)
    for _ in range(3):
        seen = 0.5 * seen + h.mean(0)
        h = h + seen
    np.testing.assert_allclose(program.params["count.seen"], seen)
    none = net("model M { input x: float[b, 2]\n h = 2*x\n scan t < 0 carry (h = h) { h = 3*h }\n"
               " output h }")  # fmt: skip
    np.testing.assert_array_equal(none(x=np.ones((1, 2), "f4"))["h"], [[2, 2]])


def test_until_ends_where_the_data_says() -> None:
    program = net(
        """
        model M {
            input x: i32[batch]
            ns = scan t < 10 carry (n = x, steps = 0) until all(n == 1) {
                n = if n == 1 then 1 else if n % 2 == 0 then n // 2 else 3*n + 1
                steps = steps + 1
                yield n
            }
            output ns
            output n
            output steps
        }
        """
    )
    found = program(x=np.array([3, 4], "i4"))
    np.testing.assert_array_equal(found["ns"][:, 0], [10, 5, 16, 8, 4, 2, 1, 0, 0, 0])
    np.testing.assert_array_equal(found["ns"][:, 1], [2, 1, 1, 1, 1, 1, 1, 0, 0, 0])
    assert found["n"].tolist() == [1, 1]
    assert found["steps"] == 7
