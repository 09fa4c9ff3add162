"""Models: parameters by path, sharing, modes, config, imports and requirements."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.programs import codes, faults, model, paths, run

from nnc.frontend.diagnostics import SourceError
from nnc.frontend.elaborate import elaborate
from nnc.ir.index import evaluate
from nnc.ir.types import DType

DIGITS = """
    model Digits(hidden: int = 128) {
        input  image: float[batch, 64]
        target digit: i32[batch] in 0..10
        h      = image |> linear(hidden) |> relu |> dropout(0.1)
        logits = h |> linear(10)
        output probs = softmax(logits)
        loss   cross_entropy(logits, digit)
        metric accuracy = mean(argmax(logits) == digit)
    }
"""


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_the_first_program_of_the_language() -> None:
    found = model(DIGITS, hidden=5)
    assert [(p.path, str(p.type)) for p in found.parameters] == [
        ("linear.weight", "f64[64, 5]"),
        ("linear.bias", "f64[5]"),
        ("linear_2.weight", "f64[5, 10]"),
        ("linear_2.bias", "f64[10]"),
    ]
    assert all(p.trainable for p in found.parameters)
    image, digit = found.ports
    assert (image.kind, image.low, image.high) == ("input", None, None)
    assert (digit.kind, digit.low, digit.high) == ("target", 0, 10)
    assert (found.dims, found.batch, found.config) == (("batch",), "batch", {"hidden": 5})
    draw = np.random.default_rng(3)
    state = {p.path: draw.normal(size=p.type.shape) for p in found.parameters}
    x, t = draw.normal(size=(7, 64)), draw.integers(0, 10, 7)
    h = np.maximum(x @ state["linear.weight"] + state["linear.bias"], 0)
    p = softmax(h @ state["linear_2.weight"] + state["linear_2.bias"])
    result = run(found, {"image": x, "digit": t}, state)
    np.testing.assert_allclose(result["probs"], p, rtol=1e-12)
    np.testing.assert_allclose(result["loss"], -np.log(p[np.arange(7), t]).mean(), rtol=1e-12)
    np.testing.assert_allclose(result["accuracy"], (p.argmax(1) == t).mean())


def test_precision_is_what_float_stands_for() -> None:
    assert model(DIGITS, precision="f32").ports[0].type.dtype is DType.F32
    with pytest.raises(SourceError):
        elaborate("model M() { output y = 1.0 }", precision="f33")


@pytest.mark.parametrize("given", [96, "96", np.int64(96)])
def test_config_is_set_from_outside(given: object) -> None:
    assert model(DIGITS, hidden=given).config == {"hidden": 96}


@pytest.mark.parametrize(
    ("config", "code"),
    [({"hiden": 3}, "E0224"), ({"hidden": 2.5}, "E0202"), ({"hidden": "x"}, "E0224")],
)
def test_wrong_config_from_outside(config: dict[str, object], code: str) -> None:
    assert codes(DIGITS, **config) == [code]


def test_paths() -> None:
    text = """
        layer block(width: int)(x: float[..s, n]) -> float[..s, width] {
            up = linear(width)
            return up(x) + (x |> linear(width, with_bias = false))
        }
        layer net(depth: int)(x: float[..s, n]) -> float[..s, n] {
            repeat i < depth {
                x = x |> block(n)
                repeat j < 2 { x = x |> layer_norm() }
            }
            last = linear(n)
            return last(x)
        }
        model M(deep: bool = true) {
            input x: float[b, 4]
            a = net(2)
            y = concat(a(x), x |> net(1), linear(3)(x |> linear(2)))
            if deep { y = y |> linear(1) }
            z = x |> linear(7)
            output y
            output z
        }
    """
    found = paths(model(text))
    assert found == [
        "a.block.0.up.weight", "a.block.0.up.bias", "a.block.0.linear.weight",
        "a.layer_norm.0.0.scale", "a.layer_norm.0.0.shift",
        "a.layer_norm.0.1.scale", "a.layer_norm.0.1.shift",
        "a.block.1.up.weight", "a.block.1.up.bias", "a.block.1.linear.weight",
        "a.layer_norm.1.0.scale", "a.layer_norm.1.0.shift",
        "a.layer_norm.1.1.scale", "a.layer_norm.1.1.shift",
        "a.last.weight", "a.last.bias",
        "net.block.0.up.weight", "net.block.0.up.bias", "net.block.0.linear.weight",
        "net.layer_norm.0.0.scale", "net.layer_norm.0.0.shift",
        "net.layer_norm.0.1.scale", "net.layer_norm.0.1.shift",
        "net.last.weight", "net.last.bias",
        "linear_2.weight", "linear_2.bias", "linear.weight", "linear.bias",
        "linear_3.weight", "linear_3.bias", "linear_4.weight", "linear_4.bias",
    ]  # fmt: skip
    # Names do not depend on which branches are taken.
    assert "linear_4.weight" in paths(model(text, deep=False))
    assert "linear_3.weight" not in paths(model(text, deep=False))


def test_an_instance_applied_twice_shares_its_parameters() -> None:
    text = """
        model M() {
            input x: float[b, 4]
            fc = linear(4)
            output y = fc(fc(x))
            output w = fc.weight
        }
    """
    found = model(text)
    assert paths(found) == ["fc.weight", "fc.bias"]
    draw = np.random.default_rng(0)
    state = {"fc.weight": draw.normal(size=(4, 4)), "fc.bias": draw.normal(size=4)}
    x = draw.normal(size=(2, 4))
    once = x @ state["fc.weight"] + state["fc.bias"]
    result = run(found, {"x": x}, state)
    np.testing.assert_allclose(result["y"], once @ state["fc.weight"] + state["fc.bias"])
    np.testing.assert_array_equal(result["w"], state["fc.weight"])
    wrong = text.replace("fc(fc(x))", "concat(fc(x), fc(concat(x, x)))")
    assert codes(wrong) == ["E0214"]


def test_buffers_and_updates() -> None:
    text = """
        layer counter()(x: float[b, n]) -> float[b, n] {
            buffer seen: float[n] = zeros()
            if training {
                update seen = seen + mean(x, axis = 0)
            }
            return x + seen
        }
        model M() {
            input x: float[b, 2]
            c = counter()
            output y = c(c(x))
        }
    """
    found = model(text)
    (seen,) = found.parameters
    assert (seen.path, seen.trainable) == ("c.seen", False)
    assert [u.name for u in found.training.updates] == ["c.seen"]
    assert found.inference.updates == ()
    x, start = np.array([[1.0, 2.0]]), np.array([10.0, 20.0])
    np.testing.assert_allclose(run(found, {"x": x}, {"c.seen": start})["y"], x + 2 * start)
    result = run(found, {"x": x}, {"c.seen": start}, training=True)
    after_one = start + x[0]
    once = x + after_one
    after_two = after_one + once[0]
    np.testing.assert_allclose(result["c.seen"], after_two)
    np.testing.assert_allclose(result["y"], once + after_two)


def test_batch_norm_matches_its_definition() -> None:
    text = """
        model M() {
            input x: float[batch, 3, rows]
            output y = x |> batch_norm()
        }
    """
    found = model(text)
    x = np.random.default_rng(0).normal(size=(4, 3, 5))
    state = {p.path: np.ones(3) for p in found.parameters}
    result = run(found, {"x": x}, state, training=True)
    centre, spread = x.mean((0, 2)), x.var((0, 2))
    expected = (x - centre[:, None]) / np.sqrt(spread + 1e-5)[:, None] + 1
    np.testing.assert_allclose(result["y"], expected, rtol=1e-9)
    np.testing.assert_allclose(result["batch_norm.mean"], 0.9 + 0.1 * centre)
    np.testing.assert_allclose(result["batch_norm.var"], 0.9 + 0.1 * spread * 20 / 19)


def test_layers_may_recur_until_config_ends_it() -> None:
    text = """
        layer nest(depth: int)(x: float[b, n]) -> float[b, n] {
            if depth == 0 { return x }
            return x |> linear(n) |> nest(depth - 1)
        }
        model M() {
            input x: float[b, 2]
            output y = x |> nest(3)
        }
    """
    assert paths(model(text))[::2] == [
        "nest.linear.weight", "nest.nest.linear.weight", "nest.nest.nest.linear.weight",
    ]  # fmt: skip
    (endless,) = faults(text.replace("if depth == 0 { return x }", ""))
    assert endless.code == "E0219"
    assert "nest" in endless.notes[0]


def test_repeats_yield_and_rebind() -> None:
    text = """
        model M(depth: int = 3) {
            input x: float[b, 2]
            ys = repeat i < depth {
                x = 2*x
                yield x + i
            }
            zs, ws = repeat k < 2 { yield ys[k], k }
            output ys
            output zs
            output ws
        }
    """
    x = np.array([[1.0, 2.0]])
    result = run(model(text), {"x": x})
    ys = np.stack([x * 2 + 0, x * 4 + 1, x * 8 + 2])
    np.testing.assert_allclose(result["ys"], ys)
    np.testing.assert_allclose(result["zs"], ys[:2])
    np.testing.assert_array_equal(result["ws"], [0, 1])


def test_requirements_on_symbolic_dims() -> None:
    text = """
        fn halve(x: float[b, 2*n]) -> float[b, n] {
            y[i, j < n] = x[i, 2*j] + x[i, 2*j + 1]
            return y
        }
        fn double(x: float[b, n]) -> float[b, 2*n] {
            y[i, j < 2*n] = x[i, j // 2]
            return y
        }
        model M() {
            input x: float[b, cols]
            require cols % 4 == 0, "columns in fours"
            require b <= cols
            output y = x + double(double(halve(halve(x))))
            output z = x[:, :b]
        }
    """
    found = model(text)
    assert str(found.ports[0].type) == "f64[b, cols]"
    assert [r.message for r in found.requirements] == [
        "columns in fours", "a requirement does not hold",
    ]  # fmt: skip
    (fact,) = found.requirements[1].facts
    assert evaluate(fact, {"cols": 8, "b": 3}) == 5
    x = np.arange(16.0).reshape(2, 8)
    sums = np.repeat(x.reshape(2, 2, 4).sum(2), 4, 1)
    result = run(found, {"x": x})
    np.testing.assert_allclose(result["y"], x + sums)
    np.testing.assert_allclose(result["z"], x[:, :2])
    missing = faults(text.replace("require cols % 4 == 0", "require cols > 4"))
    assert missing[0].code in ("E0206", "E0210")


def test_layers_of_functions_as_config() -> None:
    text = """
        layer dense(out: int, act: fn = relu)(x: float[..s, n]) -> float[..s, out] {
            return act(x |> linear(out))
        }
        model M() {
            input x: float[b, 2]
            output y = x |> dense(3) |> dense(2, act = tanh) |> dense(1, act = gelu)
        }
    """
    assert paths(model(text)) == [
        f"dense{k}.linear.{p}" for k in ("", "_2", "_3") for p in ("weight", "bias")
    ]


def test_several_losses_metrics_and_outputs() -> None:
    text = """
        model M() {
            input x: float[b, 2]
            param w: float[2] = ones()
            loss fit = mse(x @ reshape(w, (2, 1)), 0)
            loss l2(w, 0.5)
            metric size = sum(abs(w))
            y = x * w
            output y
        }
    """
    found = model(text)
    assert [n.name for n in found.training.losses] == ["fit", "loss"]
    assert paths(found) == ["w"]
    x, w = np.array([[1.0, 3.0]]), np.array([0.5, -2.0])
    result = run(found, {"x": x}, {"w": w})
    np.testing.assert_allclose(result["fit"], ((x @ w) ** 2).mean())
    np.testing.assert_allclose(result["loss"], 0.5 * (w**2).sum())
    np.testing.assert_allclose(result["size"], 2.5)
    np.testing.assert_allclose(result["y"], x * w)


def test_imports(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "a.nn").write_text(
        'import "b.nn"\nlayer net(n: int)(x: float[..s, k]) -> float[..s, n] {\n'
        "    return twice(x) |> linear(n)\n}\n"
    )
    (tmp_path / "parts" / "b.nn").write_text("fn twice(x: float[..s]) -> float[..s] = 2*x\n")
    main = tmp_path / "main.nn"
    main.write_text(
        'import "parts/a.nn" as a\nimport "parts/b.nn"\nfn relu(x: float[..s]) -> float[..s] = x\n'
        "model M() {\n    input x: float[b, 2]\n    output y = x |> a.net(3) |> relu |> twice\n}\n"
    )
    found = elaborate(main)
    assert paths(found) == ["net.linear.weight", "net.linear.bias"]


def test_imports_that_fail(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "a.nn").write_text('import "b.nn"\nfn f(x) = x\n')
    (folder / "b.nn").write_text('import "a.nn"\nfn g(x) = x\n')
    (tmp_path / "out.nn").write_text("fn h(x) = x\n")
    body = "model M() {\n    input x: float[b]\n    output y = NAME(x)\n}\n"
    for line, word in (
        ('import "a.nn"', "circle"),
        ('import "none.nn"', "cannot read"),
        ('import "none.nn" as a', "cannot read"),
        ('import "../out.nn"', "outside"),
    ):
        main = folder / "main.nn"
        name = "a.f" if line.endswith(" as a") else "f"
        main.write_text(line + "\n" + body.replace("NAME", name))
        with pytest.raises(SourceError) as caught:
            elaborate(main)
        (found,) = caught.value.diagnostics
        assert found.code == "E0221"
        assert word in found.message
