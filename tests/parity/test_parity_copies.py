"""Copies of networks: a mean teacher held against PyTorch, and what may be done with a copy."""

from __future__ import annotations

import numpy as np
import pytest
from support.programs import codes, model, paths, run

import nnc

torch = pytest.importorskip("torch")
RNG = np.random.default_rng(5)
HEAD = """
layer mlp(width: int, act: layer = layer_norm())(x: float[b, n]) -> float[b, 2] {
    return x |> linear(width) |> act |> tanh |> linear(2)
}
"""
TEACHER = f"""{HEAD}
model M {{
    input x: float[batch, 3]
    input noisy: float[batch, 3]
    net = mlp(4)
    teacher = copy(net)
    said = net(noisy)
    if training {{
        update teacher = 0.9*teacher + 0.1*net
    }}
    loss fit  = mse(said, stop_gradient(teacher(x)))
    loss size = mean((said - 1)^2)
    output y = teacher(x)
}}
train M {{ optimizer = sgd(lr = 0.1)
    precision = "f64" }}
"""


def test_a_mean_teacher() -> None:
    program = nnc.compile(TEACHER)
    own = [p[4:] for p in program.params if p.startswith("net.")]
    net = {p: torch.tensor(program.params[f"net.{p}"].copy(), requires_grad=True) for p in own}
    teacher = {p: w.detach().clone() for p, w in net.items()}
    for path in own:
        np.testing.assert_array_equal(program.params[f"teacher.{path}"], teacher[path])

    def apply(w: dict[str, torch.Tensor], x: np.ndarray) -> torch.Tensor:
        h = torch.tensor(x) @ w["linear.weight"] + w["linear.bias"]
        h = torch.nn.functional.layer_norm(h, (4,), w["act.scale"], w["act.shift"])
        return torch.tanh(h) @ w["linear_2.weight"] + w["linear_2.bias"]

    optimizer = torch.optim.SGD(net.values(), 0.1)
    for _ in range(20):
        x, noisy = RNG.normal(size=(2, 6, 3))
        teacher = {p: 0.9 * w + 0.1 * net[p].detach() for p, w in teacher.items()}
        said = apply(net, noisy)
        loss = ((said - apply(teacher, x)) ** 2).mean() + ((said - 1) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert program.step(x=x, noisy=noisy) == pytest.approx(loss.item(), rel=1e-9)
    for path in own:
        np.testing.assert_allclose(program.params[f"teacher.{path}"], teacher[path], rtol=1e-9)
    np.testing.assert_allclose(program(x=x)["y"], apply(teacher, x).numpy(), rtol=1e-8)


def test_a_copy_holds_buffers_too_and_runs_as_at_inference() -> None:
    found = model("""
        layer counted()(x: float[..s]) -> float[..s] {
            buffer seen: float = 0
            buffer calls: i32 = 0
            if training {
                update seen = seen + 1
                update calls = calls + 1
            }
            return x + seen
        }
        model M { input x: float[b]
            net = counted()
            late = copy(net)
            y = net(x) + late(x)
            if training { update late = late + 0.5*net }
            output y }""")
    assert paths(found) == ["net.seen", "net.calls", "late.seen", "late.calls"]
    state = {"net.seen": 1.0, "net.calls": 4, "late.seen": 10.0, "late.calls": 2}
    got = run(found, {"x": np.zeros(2)}, state, training=True)
    np.testing.assert_allclose(got["y"], [12.0, 12.0])
    assert (got["net.seen"], got["net.calls"]) == (2, 5)
    assert (got["late.seen"], got["late.calls"]) == (11, 5)


def test_a_copy_used_at_inference_alone_is_there_from_the_start() -> None:
    text = f"""{HEAD}
    model M {{ input x: float[batch, 3]
        net = mlp(4)
        average = copy(net)
        if training {{
            y = net(x)
            update average = 0.5*average + 0.5*net
        }} else {{
            y = average(x)
        }}
        loss mean((y - 1)^2)
        output y }}
    train M {{ optimizer = sgd(lr = 0.1) }}"""
    program = nnc.compile(text)
    before = {p: a.copy() for p, a in program.params.items()}
    x = RNG.normal(size=(4, 3))
    for _ in range(2):
        program.step(x=x)
    # the first step averages two equal networks
    assert (program.params["average.linear.weight"] != before["average.linear.weight"]).any()
    assert program(x=x)["y"].shape == (4, 2)


def test_a_copy_of_a_copy_starts_alike() -> None:
    program = nnc.compile(f"""{HEAD}
    model M {{ input x: float[batch, 3]
        net = mlp(4)
        one = copy(net)
        two = copy(one)
        output y = two(x) - net(x)
        output z = two.linear.weight - one.linear.weight }}""")
    got = program(x=RNG.normal(size=(4, 3)))
    np.testing.assert_allclose(got["y"], 0, atol=1e-6)
    assert not got["z"].any()
    for path in ("linear.weight", "linear_2.weight"):
        same = program.params[f"net.{path}"]
        np.testing.assert_array_equal(program.params[f"two.{path}"], same)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("c = copy(x)", "E0202"),
        ("c = copy(net)\nupdate c = net", "E0217"),
        ("if training { update net = 0.5*net }", "E0217"),
        ("c = copy(net)\nif training { update c = 0.5*other }", "E0225"),
        ("d = mlp(5)\nc = copy(d)\nif training { update c = 0.5*d }", "E0225"),
    ],
)
def test_what_is_no_copy(body: str, code: str) -> None:
    text = f"""{HEAD}
    model M() {{ input x: float[b, 3]
        net = mlp(4)
        other = linear(2)
        output y = net(x) + other(x)
        {body}
    }}"""
    assert codes(text) == [code]
