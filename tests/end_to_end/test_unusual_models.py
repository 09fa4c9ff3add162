"""Models of unusual form: without inputs, without a batch, with names that others use too."""

from __future__ import annotations

import numpy as np
import pytest

import nnc
from tests.support.nets import net, training


def test_nothing_but_parameters() -> None:
    program = net(training("param w: float[3] = zeros()\noutput w\nloss sum((w - 3)^2)"))
    assert program.step() == 27
    assert program.fit({}, epochs=80).last.loss < 1e-12
    np.testing.assert_allclose(program()["w"], 3)
    assert program.evaluate({})["loss"] < 1e-12


def test_data_of_constant_size() -> None:
    program = net(
        training(
            "input x: float[3]\ntarget y: float[3]\nparam w: float[3] = zeros()\n"
            "h = w*x\noutput h\nloss mse(h, y)"
        )
    )
    data = {"x": [1, 2, 3], "y": [1, 1, 1]}
    w, x = np.zeros(3), np.array([1, 2, 3])
    for _ in range(6):
        w = w - 0.1 * 2 / 3 * (w * x - 1) * x
    history = program.fit(data, epochs=6)
    assert history.last.steps == 6
    np.testing.assert_allclose(program.params["w"], w, rtol=1e-12)
    np.testing.assert_allclose(program(x=x)["h"], w * x, rtol=1e-12)


def test_targets_alone() -> None:
    program = net(training("target y: float[n]\nparam w: float = zeros()\nloss mean((y - w)^2)"))
    program.fit({"y": np.arange(10.0)}, epochs=60, batch=10)
    assert program.params["w"] == pytest.approx(4.5, rel=1e-5)


def test_data_of_every_type() -> None:
    program = net(
        training(
            """
            input i: i64[b] in 0..5
            input m: bool[b]
            input u: u8[b]
            input s: i8[b]
            input h: i32[b]
            target y: float[b]
            param t: float[5] = zeros()
            z[k] = (if m[k] then t[i[k]] else 0) + float(u[k])/255 + float(s[k]) - float(h[k])
            output z
            output opposite = not m
            output next = i + 1
            output byte = u
            loss mse(z, y)
            """
        )
    )
    data = {"i": [0, 4, 2], "m": [True, False, True], "u": [0, 255, 51], "s": [-128, 127, 0]}
    found = program(**data, h=[2**24 + 1, 0, -(2**31)])
    np.testing.assert_array_equal(found["z"], [-128 - 2**24 - 1, 128, 0.2 + 2**31])
    assert {k: a.dtype.name for k, a in found.items()} == {
        "z": "float64",
        "opposite": "bool",
        "next": "int64",
        "byte": "uint8",
    }
    assert program.step(**data, h=[0, 0, 0], y=[-128, 128, 0.2]) == 0


def test_an_empty_parameter() -> None:
    program = net(
        training(
            "input x: float[b, 3]\nparam t: float[0, 3] = zeros()\nparam w: float[3] = zeros()\n"
            "h[i] = sum[j](x[i, j] * w[j]) + sum[k, j](t[k, j] * x[i, j])\noutput h\n"
            "loss mean((h - 1)^2)"
        )
    )
    assert program.params["t"].shape == (0, 3)
    assert program.step(x=np.ones((2, 3))) == 1


@pytest.mark.parametrize("name", ["seed", "self", "data", "batch_", "order", "step", "row"])
def test_an_input_of_any_name(name: str) -> None:
    program = net(
        f"model M {{\ninput {name}: float[b]\nparam w: float = ones()\noutput h = w * {name}\n"
        f"loss mean(h^2)\n}}\ntrain M {{\noptimizer = sgd(lr = 0.25)\n}}\n"
    )
    array = np.array([1, 2], np.float32)
    np.testing.assert_array_equal(program(**{name: array})["h"], array)
    assert program.step(**{name: array}) == 2.5
    assert program.fit({name: array}, epochs=1).last.steps == 1


@pytest.mark.parametrize("name", ["total", "sum", "loss", "gradient", "weight", "keep"])
def test_a_loss_of_any_name(name: str) -> None:
    program = net(
        f"model M {{\ninput x: float[b]\nparam w: float = ones()\noutput {name}_ = w * x\n"
        f"loss {name} = mean(w * x)\nloss other = mean((w * x)^2)\n}}\n"
        "train M {\noptimizer = sgd(lr = 0.0)\nclip_norm = 1\naccumulate = 2\n}\n"
    )
    data = {"x": [1, 2, 3]}
    assert program.fit(data, epochs=1, batch=1).last.losses == {name: 2, "other": 14 / 3}
    assert program.evaluate(data, batch=2) == {name: 2, "other": pytest.approx(14 / 3)}


def test_a_loss_and_a_metric_of_one_name_are_refused() -> None:
    with pytest.raises(nnc.SourceError) as fault:
        net(
            training(
                "input x: float[b]\nparam w: float = ones()\nh = w * x\nloss a = mean(h)\n"
                "metric a = max(h)"
            )
        )
    assert [d.code for d in fault.value.diagnostics] == ["E0222"]


def test_data_that_cannot_be_cut_is_refused_and_taken_whole() -> None:
    program = net(
        training(
            "input x: float[n]\ninput pairs: float[n, n]\nparam w: float = ones()\n"
            "h[i] = w * sum[j](pairs[i, j] * x[j])\noutput h\nloss mean((h - 1)^2)"
        )
    )
    data = {"x": np.ones(6), "pairs": np.eye(6) * 3}
    for call in (program.fit, program.evaluate):
        with pytest.raises(nnc.UserError) as fault:
            call(data, batch=2)
        assert fault.value.code == "E0625"
    assert program.fit(data, epochs=1, batch=6).last.loss == 4


def test_a_metric_that_no_batches_give_is_refused_with_its_place() -> None:
    with pytest.raises(nnc.SourceError) as fault:
        net(
            training(
                "input x: float[b]\nparam w: float = ones()\nh = w * x\nloss mean(h)\n"
                "metric spread = mean((h - mean(h))^2)"
            )
        )
    assert [d.code for d in fault.value.diagnostics] == ["E0501"]
    assert "metric spread = mean" in str(fault.value)
