"""Train blocks: keys, data, patterns, freezing, regularisation, and what each fault says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.source import compute, first_values, leaves_of, recipe_of

from nnc.frontend.diagnostics import Diagnostic, SourceError
from nnc.frontend.library import library_sources
from nnc.frontend.patterns import fits
from nnc.frontend.recipe import open_program
from nnc.frontend.rendering import render
from nnc.frontend.source import Source, sources_by_name
from nnc.ir.model import Recipe
from nnc.ir.types import DType

MODEL = """\
model Net(hidden: int = 8) {
    input  image: float[batch, 6]
    target digit: i32[batch] in 0..10
    logits = image |> linear(hidden) |> relu |> batch_norm() |> linear(10)
    loss cross_entropy(logits, digit)
}
"""
PATHS = (
    "linear.weight", "linear.bias", "batch_norm.scale", "batch_norm.shift", "linear_2.weight",
    "linear_2.bias",
)  # fmt: skip


def recipe(body: str, head: str = "train Net", **chosen: Any) -> Recipe:
    return recipe_of(f"{MODEL}\n{head} {{\n{body}\n}}\n", precision=None, **chosen)


def faults(body: str, model: str = MODEL, head: str = "train Net") -> list[Diagnostic]:
    with pytest.raises(SourceError) as caught:
        open_program(Source("m.nn", f"{model}\n{head} {{\n{body}\n}}\n"))
    return list(caught.value.diagnostics)


def told(body: str, model: str = MODEL, head: str = "train Net") -> list[tuple[str, str]]:
    """The code of each fault of a train block and the text it points at."""
    text = f"{model}\n{head} {{\n{body}\n}}\n"
    return [(d.code, text[d.span.start : d.span.end]) for d in faults(body, model, head) if d.span]


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("**", "a", True),
        ("**", "a.b.c", True),
        ("**.bias", "bias", True),
        ("**.bias", "a.b.bias", True),
        ("**.bias", "a.bias.c", False),
        ("**.bias", "a.rebias", False),
        ("a.*.c", "a.b.c", True),
        ("a.*.c", "a.b.b.c", False),
        ("a.**.c", "a.c", True),
        ("a.**.c", "a.b.b.c", True),
        ("linear*.weight", "linear_2.weight", True),
        ("linear*.weight", "x.linear.weight", False),
        ("layer_norm.**", "layer_norm.scale", True),
        ("layer_norm.**", "layer_norm_2.scale", False),
        ("net.block.*.attention.linear", "net.block.11.attention.linear", True),
        ("a.b", "a.b", True),
        ("a.b", "a.bc", False),
        ("a[0].b", "a0.b", False),
    ],
)
def test_patterns(pattern: str, path: str, expected: bool) -> None:
    assert fits(pattern, path) is expected


def test_plain_keys() -> None:
    found = recipe(
        "optimizer = adam(), batch = 64, epochs = 30, seed = 7, clip_norm = 1, accumulate = 4\n"
        'precision = "f64"'
    )
    assert found.settings == {
        "batch": 64, "epochs": 30, "seed": 7, "clip_norm": 1.0, "accumulate": 4,
        "precision": "f64",
    }  # fmt: skip
    assert found.model.precision is DType.F64
    assert found.data is None
    assert found.name == "Net"
    assert [u.path for u in found.updates] == list(PATHS)


def test_config_of_the_model() -> None:
    assert recipe("optimizer = adam()", "train Net(hidden = 3)").model.config == {"hidden": 3}
    assert recipe("optimizer = adam()", "train Net(5) as big").model.config == {"hidden": 5}
    outside = recipe("optimizer = adam()", "train Net(hidden = 3)", config={"hidden": 9})
    assert outside.model.config == {"hidden": 9}


def test_the_first_pattern_that_fits_counts() -> None:
    found = recipe(
        'optimizer = { "**.bias" = sgd(0.1), "linear.*" = adam()\n "**" = rmsprop() }\nsteps = 3'
    )
    rules = {u.path: u.rule.split("@")[0] for u in found.updates}
    assert rules == {
        "linear.weight": "adam", "linear.bias": "sgd", "batch_norm.scale": "rmsprop",
        "batch_norm.shift": "rmsprop", "linear_2.weight": "rmsprop", "linear_2.bias": "sgd",
    }  # fmt: skip


def test_an_optimizer_without_brackets() -> None:
    assert (
        recipe("optimizer = adam").updates[0].rule == recipe("optimizer = adam()").updates[0].rule
    )


def test_frozen_parameters_are_not_trained() -> None:
    found = recipe('optimizer = sgd(0.1)\nfreeze = ["linear.**", "**.shift"]')
    kept = ["batch_norm.scale", "linear_2.weight", "linear_2.bias"]
    assert [u.path for u in found.updates] == kept
    assert [p.path for p in found.model.parameters if p.trainable] == kept


def test_regularisation_is_a_sum_over_what_its_patterns_fit() -> None:
    found = recipe_of(
        f"{MODEL}\ntrain Net {{ optimizer = sgd(0.1)\n"
        'regularize = { "**.weight" = l2(0.5), "linear.bias" = l1(2) } }'
    )
    rng = np.random.default_rng(0)
    state = {p: rng.normal(size=v.shape) for p, v in first_values(found.model).items()}
    leaves = leaves_of(found.model, {}, state)
    from nnc.ir.model import Named

    (value,) = compute((Named("r", found.settings["regularize_node"]),), leaves).values()
    expected = sum(0.5 * (state[p] ** 2).sum() for p in ("linear.weight", "linear_2.weight"))
    np.testing.assert_allclose(value, expected + 2 * np.abs(state["linear.bias"]).sum())


@pytest.mark.parametrize(
    ("data", "kind", "arguments"),
    [
        ('npz("a.npz")', "npz", {"files": "a.npz"}),
        ('npz("a.npz", validation = 0.2)', "npz", {"files": "a.npz", "validation": 0.2}),
        (
            'npz("a.npz", validation = "b.npz", test = "c.npz")',
            "npz",
            {"files": "a.npz", "validation": "b.npz", "test": "c.npz"},
        ),
        (
            'idx(image = "a.gz", digit = "b.gz", validation = 0.1,'
            ' test = { image = "c.gz", digit = "d.gz" })',
            "idx",
            {
                "files": {"image": "a.gz", "digit": "b.gz"},
                "validation": 0.1,
                "test": {"image": "c.gz", "digit": "d.gz"},
            },
        ),
        (
            "{ image = [[0.0, 1, 2, 3, 4, 5], [1, 1, 1, 1, 1, -1.5]], digit = [3, 9] }",
            "arrays",
            {
                "files": {
                    "image": [[0.0, 1, 2, 3, 4, 5], [1, 1, 1, 1, 1, -1.5]],
                    "digit": [3, 9],
                }
            },
        ),
    ],
)
def test_data(data: str, kind: str, arguments: dict[str, Any]) -> None:
    found = recipe(f"optimizer = adam()\ndata = {data}").data
    assert found is not None
    assert (found.kind, found.arguments) == (kind, arguments)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("optimizr = adam()\noptimizer = adam()", [("E0401", "optimizr")]),
        ("optimizer = adam()\nbatch = 1\nbatch = 2", [("E0402", "batch")]),
        ("optimizer = adam()\nepochs = 1\nsteps = 2", [("E0402", "steps")]),
        ("optimizer = adam()\nbatch = 0", [("E0403", "0")]),
        ("optimizer = adam()\nepochs = 1.5", [("E0403", "1.5")]),
        ("optimizer = adam()\nclip_norm = -1", [("E0403", "-1")]),
        ("optimizer = adam()\nseed = -1", [("E0403", "-1")]),
        ('optimizer = adam()\nprecision = "f33"', [("E0403", '"f33"')]),
        ('optimizer = adam()\nprecision = "bf16"', [("E0404", '"bf16"')]),
        ("optimizer = adam()\nbudget = { memory = 1GiB }", [("E0404", "budget")]),
        ("optimizer = adam()\nbatch = { batch = 3 }", [("E0404", "{ batch = 3 }")]),
        ("optimizer = adam()\nstep a { minimize = los }", [("E0414", "los")]),
        ('step a { over = "linear.*" }', [("E0405", "a")]),
        ('optimizer = adam()\nstep a { over = "linear.*" }', [("E0407", "a")]),
        ("optimizer = adam()\nstep a { time = 3 }", [("E0401", "time")]),
        ("optimizer = adam()\nstep a { times = 0 }", [("E0403", "0")]),
        ('optimizer = adam()\nstep a { over = "liner.*" }', [("E0406", '"liner.*"')]),
        ("optimizer = adam()\nstep a { }\nstep a { }", [("E0402", "a")]),
        ("optimizer = adam()\nminimize = los", [("E0414", "los")]),
        ("batch = 3", [("E0405", "Net")]),
        ('optimizer = adam()\nfreeze = "**"', [("E0405", "Net")]),
        ("optimizer = relu", [("E0403", "relu")]),
        ("optimizer = cosine(1, total = 3)", [("E0403", "cosine(1, total = 3)")]),
        ("optimizer = adam(rate = 1)", [("E0209", "rate")]),
        ('optimizer = adam(lr = "fast")', [("E0202", '"fast"')]),
        ("optimizer = adm()", [("E0201", "adm")]),
        (
            'optimizer = { "**.bais" = adam(), "**" = adam() }',
            [("E0406", '"**.bais"')],
        ),
        ('optimizer = { "**.bias" = adam() }', [("E0407", '{ "**.bias" = adam() }')]),
        ('optimizer = adam()\nfreeze = "linear"', [("E0406", '"linear"')]),
        ("optimizer = adam()\nfreeze = 3", [("E0403", "3")]),
        ("optimizer = adam()\nregularize = relu", [("E0403", "relu")]),
        ("optimizer = adam()\ndata = 3", [("E0409", "3")]),
        ("optimizer = adam()\ndata = nqz()", [("E0409", "nqz")]),
        ("optimizer = adam()\ndata = npz(3)", [("E0409", "3")]),
        ('optimizer = adam()\ndata = tokens("a")', [("E0409", 'tokens("a")')]),
        ('optimizer = adam()\ndata = npz("a", validation = 2)', [("E0409", "2")]),
        ('optimizer = adam()\ndata = npz("a", validaton = 0.2)', [("E0409", "validaton")]),
        ('optimizer = adam()\ndata = idx(image = "a")', [("E0410", 'idx(image = "a")')]),
        ('optimizer = adam()\ndata = idx(imge = "a", digit = "b")', [("E0410", "imge")]),
        (
            "optimizer = adam()\ndata = { image = [[1.0]], digit = [1] }",
            [("E0410", "[[1.0]]")],
        ),
        (
            "optimizer = adam()\ndata = { digit = [1, 2], image = [[1, 2, 3, 4, 5, 6]] }",
            [("E0410", "[[1, 2, 3, 4, 5, 6]]")],
        ),
        ("optimizer = adam()\ndata = { digit = [[1]], image = [[1]] }", [("E0410", "[[1]]")]),
    ],
)
def test_faults(body: str, expected: list[tuple[str, str]]) -> None:
    assert told(body) == expected


def test_all_faults_are_told_together() -> None:
    broken = MODEL.replace("relu", "rellu")
    assert told("optimizr = adam()\nbatch = 0", broken) == [
        ("E0201", "rellu"), ("E0401", "optimizr"), ("E0403", "0"),
    ]  # fmt: skip
    assert told('optimizer = { "a" = adm(), "**" = adam(rate = 1) }\ndata = 3\nfreeze = "b"') == [
        ("E0201", "adm"), ("E0209", "rate"), ("E0409", "3"), ("E0406", '"b"'),
    ]  # fmt: skip


def test_an_optimizer_that_does_not_take_a_parameter() -> None:
    muon = "optimizer muon()(w: float[m, n], g, t) { return w - 0.1*g }\n"
    found = faults("optimizer = muon()", MODEL + muon)
    assert {d.code for d in found} == {"E0408"}
    texts = render(found[0], sources_by_name(library_sources()))
    assert "linear.bias" in texts
    assert len(found) == 4
    assert told("optimizer = two()", MODEL + "optimizer two()(w, g) { return w }\n") == [
        ("E0413", "two()")
    ]


def test_parameters_that_no_gradient_reaches() -> None:
    model = """
model M {
    input x: float[batch, 2]
    param cut: float[2] = zeros()
    param unused: float[2] = zeros()
    param flat: float[2] = zeros()
    param index: float[2] = zeros()
    param fine: float[2] = zeros()
    y = stop_gradient(x * cut)
    loss sum(y * fine) + sum(x * floor(flat)) + sum(softplus(x)) + float(argmax(index))
    output z = x * unused
}
"""
    found = {d.message.split()[-1]: d for d in faults("optimizer = sgd(0.1)", model, "train M")}
    assert set(found) == {"cut", "unused", "flat", "index"}
    assert {d.code for d in found.values()} == {"E0411"}
    text = model
    places = {name: [text[s.start : s.end] for s, _ in d.related] for name, d in found.items()}
    assert places == {
        "cut": ["stop_gradient(x * cut)"], "unused": [], "flat": ["floor(flat)"],
        "index": ["float(argmax(index))"],
    }  # fmt: skip


def test_written_gradients_reach_parameters() -> None:
    model = """
fn twice(x: float[..s]) -> float[..s] = floor(2*x) with gradient(dy) { return 2*dy }
model M {
    input x: float[batch, 2]
    param w: float[2] = zeros()
    loss sum(x * twice(w)) + sum(sigmoid(x*w))
}
"""
    source = Source("m.nn", f"{model}\ntrain M {{ optimizer = sgd(0.1) }}\n")
    _, found, _ = open_program(source)
    assert found is not None
    assert [u.path for u in found.updates] == ["w"]


def test_choosing_among_train_blocks() -> None:
    text = (
        f"{MODEL}\nmodel Other {{ input x: float[batch]\n param w: float = zeros()\n"
        "loss sum(x*w) }\n"
        "train Net as a { optimizer = sgd(0.1) }\ntrain Net as b { optimizer = adam() }\n"
        "train Other { optimizer = adam() }\nmodel Plain { input x: float[batch]\n output y = x }\n"
    )

    def pick(**chosen: Any) -> str | None:
        model, found, _ = open_program(Source("m.nn", text), **chosen)
        return found.name if found is not None else f"only {model.name}"

    assert pick(recipe="a") == "a"
    assert pick(recipe="b", model="Net") == "b"
    assert pick(model="Other") == "Other"
    assert pick(recipe="Other") == "Other"
    assert pick(model="Plain") == "only Plain"
    for chosen in ({}, {"model": "Net"}, {"recipe": "Net"}, {"recipe": "c"}, {"model": "None"}):
        with pytest.raises(SourceError) as caught:
            pick(**chosen)
        assert caught.value.diagnostics[0].code in ("E0412", "E0201")


def test_unknown_model() -> None:
    assert told("optimizer = adam()", head="train Nte") == [("E0412", "Nte")]


def test_a_layer_that_is_frozen_runs_as_at_inference() -> None:
    text = """
layer block()(x: float[b, n]) -> float[b, n] {
    return x |> linear(n) |> dropout(0.5) |> batch_norm()
}
model M {
    input x: float[batch, 3]
    first = block()
    loss mean(x |> first |> block() |> linear(1))
}
train M { optimizer = sgd(0.1)
    freeze = "first.**" }
"""
    found = recipe_of(text)
    assert [u.name for u in found.model.training.updates] == [
        "block.batch_norm.mean", "block.batch_norm.var",
    ]  # fmt: skip
    assert all(not u.path.startswith("first.") for u in found.updates)
    none = recipe_of(text.replace('freeze = "first.**"', ""))
    assert len(none.model.training.updates) == 4
    # only a part of the layer is frozen: it still trains
    part = recipe_of(text.replace("first.**", "first.linear.**"))
    assert len(part.model.training.updates) == 4
