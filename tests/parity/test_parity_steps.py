"""Steps that take turns, and derivatives in losses, held against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nnc

torch = pytest.importorskip("torch")
RNG = np.random.default_rng(8)

GAN = """
layer generator(width: int)(z: float[b, latent]) -> float[b, 6] {
    return z |> linear(width) |> relu |> linear(6) |> sigmoid
}
layer critic(width: int)(x: float[b, n]) -> float[b] {
    y = x |> linear(width) |> leaky_relu(0.2) |> linear(width) |> leaky_relu(0.2) |> linear(1)
    return y[:, 0]
}
model Gan(latent: int = 3, width: int = 7, penalty: float = 10.0) {
    input image: float[batch, 6]
    input noise: float[batch, latent]
    input mix:   float[batch, 1]
    input code:  float[count, latent]
    make  = generator(width)
    judge = critic(width)
    fake = make(noise)
    between = mix*image + (1 - mix)*fake
    slope   = grad(sum(judge(between)), between)
    steep[b] = sqrt(sum[p](slope[b, p]^2) + 1e-12)
    loss critic_loss    = mean(judge(fake)) - mean(judge(image)) + penalty*mean((steep - 1)^2)
    loss generator_loss = -mean(judge(fake))
    output samples = make(code)
}
train Gan {
    batch = 5
    precision = "f64"
    step critic {
        minimize  = critic_loss
        over      = "judge.**"
        optimizer = { "**.bias" = sgd(lr = 1e-2), "**" = adam(lr = 1e-2, beta1 = 0.0, beta2 = 0.9) }
        times     = 5
    }
    step generator {
        minimize  = generator_loss
        over      = "make.**"
        optimizer = adam(lr = 1e-2, beta1 = 0.0, beta2 = 0.9)
        clip_norm = 0.1
    }
}
"""


def rows(n: int) -> dict[str, Any]:
    shapes = {"image": (n, 6), "noise": (n, 3), "mix": (n, 1)}
    return {name: RNG.random(shape) for name, shape in shapes.items()}


def torch_step(w: dict[str, Any], data: dict[str, Any], optimizers: Any, step: int) -> float:
    """Take the step number ``step`` of the program above; return its loss."""
    image, noise, mix = (torch.tensor(data[n]) for n in ("image", "noise", "mix"))

    def make(z: Any) -> Any:
        h = torch.relu(z @ w["make.linear.weight"] + w["make.linear.bias"])
        return torch.sigmoid(h @ w["make.linear_2.weight"] + w["make.linear_2.bias"])

    def judge(x: Any) -> Any:
        for name in ("linear", "linear_2"):
            x = x @ w[f"judge.{name}.weight"] + w[f"judge.{name}.bias"]
            x = torch.nn.functional.leaky_relu(x, 0.2)
        return (x @ w["judge.linear_3.weight"] + w["judge.linear_3.bias"])[:, 0]

    for parameter in w.values():
        parameter.grad = None
    fake = make(noise)
    if step % 6 == 5:
        loss = -judge(fake).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for n, p in w.items() if n[:4] == "make"], 0.1)
        optimizers["make"].step()
        return loss.item()
    between = mix * image + (1 - mix) * fake
    (slope,) = torch.autograd.grad(judge(between).sum(), between, create_graph=True)
    steep = torch.sqrt((slope**2).sum(1) + 1e-12)
    loss = judge(fake).mean() - judge(image).mean() + 10 * ((steep - 1) ** 2).mean()
    loss.backward()
    for optimizer in optimizers["judge"]:
        optimizer.step()
    return loss.item()


def set_up(program: nnc.Net) -> tuple[dict[str, Any], dict[str, Any]]:
    w = {p: torch.tensor(a.copy(), requires_grad=True) for p, a in program.params.items()}
    judge = {n: p for n, p in w.items() if n.startswith("judge")}
    adam = {"lr": 1e-2, "betas": (0.0, 0.9)}
    biases = [p for n, p in judge.items() if n.endswith("bias")]
    weights = [p for n, p in judge.items() if n.endswith("weight")]
    return w, {
        "make": torch.optim.Adam([p for n, p in w.items() if n.startswith("make")], **adam),
        "judge": [torch.optim.SGD(biases, 1e-2), torch.optim.Adam(weights, **adam)],
    }


def test_a_gan_with_gradient_penalty() -> None:
    program = nnc.compile(GAN)
    w, optimizers = set_up(program)
    for step in range(24):
        data = rows(5)
        before = {p: a.copy() for p, a in program.params.items()}
        expected = torch_step(w, data, optimizers, step)
        assert program.step(**data) == pytest.approx(expected, rel=1e-9), step
        moves = "make" if step % 6 == 5 else "judge"
        moved = {p.split(".")[0] for p, a in program.params.items() if (a != before[p]).any()}
        assert moved == {moves}
    for path, value in w.items():
        np.testing.assert_allclose(
            program.params[path], value.detach().numpy(), rtol=1e-8, atol=1e-12, err_msg=path
        )
    assert program(code=np.zeros((2, 3)))["samples"].shape == (2, 6)


def test_whole_rounds_and_parts_of_them_are_the_same_steps() -> None:
    data = rows(35)
    fitted, stepped = nnc.compile(GAN), nnc.compile(GAN)
    history = fitted.fit(data, steps=17, batch=5, seed=3)
    from nnc.runtime.data.source import shuffled

    losses: dict[str, list[float]] = {"critic_loss": [], "generator_loss": []}
    for step in range(17):
        order = shuffled(35, 3, step // 7)
        batch = order[5 * (step % 7) :][:5]
        value = stepped.step(**{n: a[batch] for n, a in data.items()})
        if step < 7:
            losses["generator_loss" if step % 6 == 5 else "critic_loss"].append(value)
    for path in fitted.params:
        np.testing.assert_array_equal(fitted.params[path], stepped.params[path])
    for name, values in losses.items():
        assert history.epochs[0].losses[name] == pytest.approx(np.mean(values), rel=1e-12)
    assert [e.steps for e in history.epochs] == [7, 14, 17]


PINN = """
layer mlp(width: int)(x: float[b, n]) -> float[b] {
    y = x |> linear(width) |> tanh |> linear(width) |> tanh |> linear(1)
    return y[:, 0]
}
model Pinn {
    input point: float[batch, 2]
    net = mlp(6)
    u = net(point)
    g = grad(sum(u), point)
    xx = grad(sum(g[:, 0]), point)
    # Burgers' equation, u_t + u u_x = 0.1 u_xx
    loss residual = mean((g[:, 1] + u*g[:, 0] - 0.1*xx[:, 0])^2)
    loss edge = mean((u + sin(pi*point[:, 0]))^2)
}
train Pinn {
    optimizer = adam(lr = 1e-2)
    precision = "f64"
}
"""


def test_a_physics_informed_network() -> None:
    program = nnc.compile(PINN)
    w = {p: torch.tensor(a.copy(), requires_grad=True) for p, a in program.params.items()}
    optimizer = torch.optim.Adam(w.values(), 1e-2)
    for _ in range(20):
        point = RNG.uniform(-1, 1, (9, 2))
        x = torch.tensor(point, requires_grad=True)
        h = x
        for name in ("linear", "linear_2"):
            h = torch.tanh(h @ w[f"net.{name}.weight"] + w[f"net.{name}.bias"])
        u = (h @ w["net.linear_3.weight"] + w["net.linear_3.bias"])[:, 0]
        (g,) = torch.autograd.grad(u.sum(), x, create_graph=True)
        (xx,) = torch.autograd.grad(g[:, 0].sum(), x, create_graph=True)
        residual = ((g[:, 1] + u * g[:, 0] - 0.1 * xx[:, 0]) ** 2).mean()
        loss = residual + ((u + torch.sin(np.pi * x[:, 0])) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert program.step(point=point) == pytest.approx(loss.item(), rel=1e-9)
    for path, value in w.items():
        np.testing.assert_allclose(
            program.params[path], value.detach().numpy(), rtol=1e-8, atol=1e-12, err_msg=path
        )


def test_buffers_move_with_the_step_that_is_over_them() -> None:
    program = nnc.compile("""
        layer counted()(x: float[..s]) -> float[..s] {
            param scale: float = ones()
            buffer seen: float = 0
            if training { update seen = seen + 1 }
            return scale*x
        }
        model M { input x: float[batch]
            a = counted()
            b = counted()
            c = counted()
            y = x |> a |> b |> c
            loss first = mean(y^2)
            loss second = mean((y - 1)^2) }
        train M { optimizer = sgd(lr = 0.1)
            step one { minimize = first, over = "a.**", times = 2 }
            step two { minimize = (first, second), over = ["b.**", "c.scale"] } }""")
    for _ in range(7):
        program.step(x=np.ones(3))
    seen = {p: float(program.params[f"{p}.seen"]) for p in "abc"}
    assert seen == {"a": 5, "b": 2, "c": 7}


def test_minimize_picks_losses_without_steps() -> None:
    program = nnc.compile("""
        model M { input x: float[batch, 2]
            h = x |> linear(1)
            loss fit = mean((h - 1)^2)
            loss seen = mean(abs(h)) }
        train M { minimize = fit
            optimizer = sgd(lr = 0.1)
            precision = "f64" }""")
    x = RNG.normal(size=(4, 2))
    w, b = program.params["linear.weight"].copy(), program.params["linear.bias"].copy()
    gap = x @ w + b - 1
    assert program.step(x=x) == pytest.approx(float((gap**2).mean()), rel=1e-12)
    np.testing.assert_allclose(program.params["linear.weight"], w - 0.1 * 2 * x.T @ gap / 4)
    assert set(program.evaluate({"x": x})) == {"fit", "seen"}
