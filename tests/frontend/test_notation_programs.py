"""Index notation within whole programs: functions called on elements, layers, the U-Net."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nnc.frontend.diagnostics import SourceError
from nnc.frontend.elaborate.model import elaborate
from nnc.frontend.source import Source
from nnc.ir.graph import Form, Graph, Output, postorder
from nnc.ir.interpret import evaluate_nodes
from nnc.ir.verify import verify

MODELS = Path(__file__).parent.parent / "data" / "models"

FUNCTIONS = """
fn shifted(v: float) -> float = relu(v - 1)
fn dot(v: float, w: float[n]) -> float = sum[j](w[j] * v)
fn place(v: float, w: float[n]) -> i32 = argmax[j](w[j] * v)
fn clipped(v: float) -> float {
    u = max(v, 0.5)
    return if u > 3 then 3 else u
}
fn nested(v: float, w: float[n]) -> float {
    z[j] = w[j] * v
    return sum(z)
}
"""


def run(statements: str, **inputs: np.ndarray) -> dict[str, np.ndarray[Any, Any]]:
    """Compute the outputs of a model with inputs ``x: float[batch, 4]`` and ``w: float[4]``."""
    text = (
        f"{FUNCTIONS}\nmodel M() {{\n"
        "    input x: float[batch, 4]\n    input w: float[4]\n"
        f"{statements}\n}}\n"
    )
    outputs = elaborate(Source("m.nn", text), precision="f64").inference.outputs
    leaves = {("input", name): array for name, array in inputs.items()}
    values = evaluate_nodes([o.node for o in outputs], leaves)
    return {o.name: value for o, value in zip(outputs, values, strict=True)}


def test_functions_of_elements() -> None:
    x, w = np.arange(12.0).reshape(3, 4) - 3, np.arange(4.0)
    got = run(
        """
        a[i, j] = shifted(x[i, j])
        b[i] = dot(x[i, 0], w)
        c[i, j] = clipped(x[i, j])
        d[i] = w[place(x[i, 1], w)]
        e[i] = softmax(w)[i]
        f = sum[i](dot(x[i, 0], w))
        output a
        output b
        output c
        output d
        output e
        output f
        """,
        x=x,
        w=w,
    )
    np.testing.assert_allclose(got["a"], np.maximum(x - 1, 0))
    np.testing.assert_allclose(got["b"], x[:, 0] * 6)
    np.testing.assert_allclose(got["c"], np.clip(x, 0.5, 3))
    np.testing.assert_allclose(got["d"], [0, 3, 3])
    np.testing.assert_allclose(got["e"], np.exp(w) / np.exp(w).sum())
    np.testing.assert_allclose(got["f"], x[:, 0].sum() * 6)


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("y[i] = nested(x[i, 0], w)", "E0314"),
        ("repeat k < 2 { y[k] = w[k] }", "E0303"),
        ("repeat r < 2 { y[j] = x[r, j] }", "E0306"),
        ("y[i] = x[i]", "E0305"),
        ("y[i, batch] = x[i, batch]", "E0303"),
        ("y[i] = w[i] + x[i, i]", "E0302"),
    ],
)
def test_faults_in_a_program(statement: str, code: str) -> None:
    with pytest.raises(SourceError) as raised:
        run(f"{statement}\noutput z = w")
    assert [d.code for d in raised.value.diagnostics] == [code]


def test_all_faults_of_a_program_are_told() -> None:
    with pytest.raises(SourceError) as raised:
        run("a[i] = x[i]\nb[i] = w[i + 1] + w[i]\nc[i] = 1\nd[j] = w[j] + a[j]\noutput z = d")
    assert [d.code for d in raised.value.diagnostics] == ["E0305", "E0306", "E0301"]


def test_a_unet_is_forms_whose_reads_are_proven() -> None:
    config = {"width": 2, "depth": 1, "classes": 3}
    model = elaborate(MODELS / "unet.nn", config=config)
    nodes = [n.node for n in (*model.training.losses, *model.training.metrics)]
    facts = tuple(f for r in model.requirements for f in r.facts)
    outputs = tuple(Output("loss", str(k), n) for k, n in enumerate(nodes))
    verify(Graph("unet", outputs, facts), bounds=True)
    forms = [n.op for n in postorder(nodes) if isinstance(n.op, Form)]
    convolutions = [f for f in forms if f.reduce == "sum" and len(f.axes) == 7]
    assert len(convolutions) == 2 + 2 + 1 + 2 + 1  # each block, up, and the classes
    assert not any("select" in str(f.body) for f in convolutions)


GENERATING = """
model Chat() {
    input tokens: i32[batch, time] in 0..9
    require time > 1
    net = decoder(9, 8, 2, 4, 2)
    blank = zeros[2, batch, time, 2, 2]()
    logits, _, _ = net(tokens, blank, blank, 0)
    output whole = logits[:, -1]

    empty = zeros[2, batch, time + 3, 2, 2]()
    _, keys, values = net(tokens[:, :-1], empty, empty, 0)
    last, _, _ = net(tokens[:, time - 1 : time], keys, values, time - 1)
    output cached = last[:, 0]
}
"""


def test_a_gpt_reads_its_cache_at_any_place() -> None:
    """``j - pos`` is a shifted read, with ``pos = 0`` too, where the cache has more room."""
    text = (MODELS / "gpt.nn").read_text()
    model = elaborate(Source("gpt.nn", text[: text.index("model Chat")] + GENERATING))
    tokens = np.random.default_rng(1).integers(0, 9, (2, 4)).astype(np.int32)
    starts = [p.init for p in model.parameters]
    system = {("system", "seed"): np.uint64(3), ("system", "step"): np.int64(0)}
    leaves: dict[tuple[str, str], Any] = {("input", "tokens"): tokens}
    for p, value in zip(model.parameters, evaluate_nodes(starts, system), strict=True):
        leaves["state", p.path] = value
    outputs = evaluate_nodes([o.node for o in model.inference.outputs], leaves)
    np.testing.assert_allclose(outputs[1], outputs[0], rtol=1e-4, atol=1e-5)


def test_numbers_in_places_on_the_left_are_not_indices() -> None:
    x, w = np.arange(8.0).reshape(2, 4), np.array([1.0, 10.0, 100.0, 1000.0])
    got = run(
        """
        two = 2
        y[i, 2*j + u - two < 6] = sum[k < 1](x[i, j] * w[u])
        z[i, j + two] = x[i, j]
        output y
        output z
        """,
        x=x,
        w=w,
    )
    y = np.zeros((2, 6))
    for j in range(4):
        for u in range(4):
            if 0 <= 2 * j + u - 2 < 6:
                y[:, 2 * j + u - 2] += x[:, j] * w[u]
    np.testing.assert_allclose(got["y"], y)
    np.testing.assert_allclose(got["z"], np.pad(x, ((0, 0), (2, 0))))
