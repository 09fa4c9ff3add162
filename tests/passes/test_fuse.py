"""What is fused, what is not and why; and that a training step stays a dozen launches."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from nnc.ir import build
from nnc.ir import scalar as sc
from nnc.ir.expr import Const, Expr
from nnc.ir.graph import Graph, Leaf, Node, Output
from nnc.ir.index import axis, dim
from nnc.ir.interpret import evaluate
from nnc.ir.loops import Barrier, Buffer, Launch, Program, Step
from nnc.ir.loops_interpret import Machine
from nnc.ir.types import DType, TensorType
from nnc.passes.autodiff import gradients
from nnc.passes.lower import LowerOptions, fused_text, lower
from nnc.passes.pipeline import optimize

F32 = DType.F32
B = dim("batch")


def leaf(space: str, name: str, *shape: object, dtype: DType = F32) -> Node:
    return build.leaf(space, name, TensorType(dtype, tuple(shape)))  # type: ignore[arg-type]


def layout_of(*graphs: Graph, parts: dict[str, tuple[str, int]] | None = None) -> list[Buffer]:
    kinds: dict[str, TensorType] = {}
    for graph in graphs:
        for node in graph.nodes():
            if isinstance(node.op, Leaf):
                kinds[f"{node.op.space}:{node.op.name}"] = node.type
        for o in graph.outputs:
            kinds.setdefault(f"{o.space}:{o.name}", o.node.type)
    found = []
    for key, kind in kinds.items():
        inside, offset = (parts or {}).get(key, (None, 0))
        found.append(Buffer(key, kind.dtype, kind.shape, "state", inside, offset))
    return sorted(found, key=lambda b: b.inside is not None)  # blocks before their parts


def launches(program: Program, entry: str) -> list[Step]:
    """The steps of an entry; one that depends on the dims counts as one."""
    steps = {e.name: e.steps for e in program.entries}[entry]
    return [s for s in steps if not isinstance(s, Barrier)]


def lowered(*outputs: Node) -> Program:
    graph = optimize(
        Graph("main", tuple(Output("output", f"y{k}", n) for k, n in enumerate(outputs)))
    )
    return lower("test", {"main": graph}, layout_of(graph))


# ------------------------------------------------------------------------------- whole models


def softmax_loss(logits: Node, labels: Node) -> Node:
    n, c = logits.type.shape
    b, i, j = axis("b"), axis("i"), axis("j")
    read = build.read
    top = build.form(
        [("b", n), ("j", c)], (b,), read(logits, 0, b, j), (logits,), (n,), reduce="max"
    )
    body = sc.sub(read(logits, 0, b, i), read(top, 1, b))
    shifted = build.form([("b", n), ("i", c)], (b, i), body, (logits, top), (n, c))
    total = build.reduce(build.elementwise(lambda v: sc.apply("exp", v), shifted), [1], "sum")
    picked = read(shifted, 1, b, build.loaded(labels, 2, b))
    each = sc.sub(sc.apply("log", read(total, 0, b)), picked)
    per_row = build.form([("b", n)], (b,), each, (total, shifted, labels), (n,))
    whole = build.reduce(per_row, [0], "sum")
    return build.form([], (), sc.div(read(whole, 0), sc.cast(sc.position(n), F32)), (whole,), ())


def linear(x: Node, w: Node, b: Node) -> Node:
    y = build.contract("bk,kn->bn", x, w)
    return build.elementwise(sc.add, y, build.broadcast(b, y.type.shape))


WEIGHTS = {"w1": (64, 128), "b1": (128,), "w2": (128, 10), "b2": (10,)}
OFFSETS = {"w1": 0, "b1": 8192, "w2": 8320, "b2": 9600}
BLOCK = 9616


def digits_gradient() -> Graph:
    weights = {name: leaf("state", name, *shape) for name, shape in WEIGHTS.items()}
    image, digit = leaf("input", "image", B, 64), leaf("input", "digit", B, dtype=DType.I32)
    hidden = linear(image, weights["w1"], weights["b1"])
    hidden = build.elementwise(lambda v: sc.maximum(v, Const(0, F32)), hidden)
    loss = softmax_loss(linear(hidden, weights["w2"], weights["b2"]), digit)
    made = zip(weights, gradients(loss, list(weights.values())), strict=True)
    results = [Output("gradient", name, g) for name, g in made]
    return Graph("gradient", (Output("loss", "loss", loss), *results))


def adam() -> Graph:
    w, m, v = (leaf("state", f"*{s}", BLOCK) for s in "wmv")
    g = leaf("gradient", "*", BLOCK)
    count = leaf("system", "step", dtype=DType.I64)

    def number(value: float) -> Const:
        return Const(value, F32)

    def average(rate: float, of: Callable[[Expr], Expr]) -> Callable[[Expr, Expr], Expr]:
        return lambda old, new: sc.add(sc.mul(number(rate), old), sc.mul(number(1 - rate), of(new)))

    def step(w: Expr, m: Expr, v: Expr, t: Expr) -> Expr:
        size = sc.div(m, sc.sub(number(1), sc.pow_(number(0.9), t)))
        spread = sc.div(v, sc.sub(number(1), sc.pow_(number(0.999), t)))
        root = sc.add(sc.apply("sqrt", spread), number(1e-8))
        return sc.sub(w, sc.mul(number(1e-3), sc.div(size, root)))

    one = Const(1, DType.I64)
    t = build.elementwise(lambda s: sc.cast(sc.add(s, one), F32), count)
    new_m = build.elementwise(average(0.9, lambda x: x), m, g)
    new_v = build.elementwise(average(0.999, lambda x: sc.mul(x, x)), v, g)
    new_w = build.elementwise(step, w, new_m, new_v, build.broadcast(t, (BLOCK,)))
    later = build.elementwise(lambda s: sc.add(s, one), count)
    results = {"*w": new_w, "*m": new_m, "*v": new_v}
    outputs = [Output("state", name, node) for name, node in results.items()]
    return Graph("update", (*outputs, Output("system", "step", later)))


def digits_program() -> tuple[Graph, Graph, Program]:
    gradient, update = digits_gradient(), adam()
    parts = {f"state:{n}": ("state:*w", at) for n, at in OFFSETS.items()}
    parts |= {f"gradient:{n}": ("gradient:*", at) for n, at in OFFSETS.items()}
    layout = layout_of(gradient, update, parts=parts)
    graphs = {"gradient": optimize(gradient), "update": optimize(update)}
    options = LowerOptions(sequences={"step": ("gradient", "update")})
    return gradient, update, lower("digits", graphs, layout, options)


def test_a_training_step_is_a_dozen_launches() -> None:
    _, _, program = digits_program()
    assert len(launches(program, "step")) <= 12


def test_the_optimizer_is_one_launch_and_writes_in_place() -> None:
    _, _, program = digits_program()
    update = launches(program, "update")
    assert len(update) == 2  # the other one counts the step
    assert not [b for b in program.buffers if b.space == "scratch" and "update" in b.name]


@pytest.mark.parametrize("batch", [1, 9])
def test_a_training_step_computes_what_its_graphs_say(batch: int) -> None:
    gradient, update, program = digits_program()
    rng = np.random.default_rng(batch)
    block = rng.standard_normal(BLOCK).astype("f4") * 0.1
    state = {"*w": block, "*m": np.zeros(BLOCK, "f4"), "*v": np.zeros(BLOCK, "f4")}
    image = rng.standard_normal((batch, 64)).astype("f4")
    digit = rng.integers(0, 10, batch).astype("i4")
    machine = Machine(
        program,
        {"batch": batch},
        {f"state:{n}": a.copy() for n, a in state.items()}
        | {"input:image": image.reshape(-1), "input:digit": digit, "system:step": np.zeros(1, "i8")}
        | {"gradient:*": np.zeros(BLOCK, "f4")},
    )
    machine.run("step")
    leaves = {("input", "image"): image, ("input", "digit"): digit}
    for name, shape in WEIGHTS.items():
        part = block[OFFSETS[name] :][: int(np.prod(shape))]
        leaves["state", name] = part.reshape(shape)
    found = evaluate(gradient, leaves, {"batch": batch})
    flat = np.zeros(BLOCK, "f4")
    for name in WEIGHTS:
        part = found["gradient", name].reshape(-1)
        flat[OFFSETS[name] :][: part.size] = part
    np.testing.assert_allclose(machine.array("loss:loss"), found["loss", "loss"], rtol=1e-5)
    np.testing.assert_allclose(machine.array("gradient:*"), flat, rtol=1e-4, atol=1e-6)
    given = {("state", n): a for n, a in state.items()}
    given |= {("gradient", "*"): machine.array("gradient:*"), ("system", "step"): np.array(0)}
    want = evaluate(update, given, {})
    assert machine.array("system:step") == 1
    for name in state:
        np.testing.assert_allclose(
            machine.array(f"state:{name}"), want["state", name], rtol=1e-5, atol=1e-7
        )


# ------------------------------------------------------------------------------- small cases


def test_softmax_is_one_kernel() -> None:
    x = leaf("input", "x", B, 100)
    b, i, j = axis("b"), axis("i"), axis("j")
    axes = [("b", B), ("i", 100)]
    top = build.reduce(x, [1], "max")
    body = sc.apply("exp", sc.sub(build.read(x, 0, b, i), build.read(top, 1, b)))
    e = build.form(axes, (b, i), body, (x, top), (B, 100))
    total = build.form(
        [("b", B), ("j", 100)], (b,), build.read(e, 0, b, j), (e,), (B,), reduce="sum"
    )
    body = sc.div(build.read(e, 0, b, i), build.read(total, 1, b))
    program = lowered(build.form(axes, (b, i), body, (e, total), (B, 100)))
    assert len(launches(program, "main")) == 1


def test_layer_norm_with_kept_dims_is_one_kernel() -> None:
    x = leaf("input", "x", B, 64)
    shape = x.type.shape

    def mean(t: Node) -> Node:
        total = build.reduce(t, [1], "sum", keep=True)
        return build.elementwise(lambda v: sc.mul(v, Const(1 / 64, F32)), total)

    centred = build.elementwise(sc.sub, x, build.broadcast(mean(x), shape))
    square = build.elementwise(lambda v: sc.mul(v, v), centred)
    scale = build.elementwise(lambda v: sc.apply("rsqrt", v), mean(square))
    y = build.elementwise(sc.mul, centred, build.broadcast(scale, shape))
    assert len(launches(lowered(y), "main")) == 1


def test_sums_over_one_tensor_share_a_pass() -> None:
    x = leaf("input", "x", B, 64)
    square = build.elementwise(lambda v: sc.mul(v, v), x)
    program = lowered(build.reduce(x, [0], "sum"), build.reduce(square, [0], "sum"))
    assert len(launches(program, "main")) == 1


def test_bias_and_activation_follow_a_product_in_its_kernel() -> None:
    x, w, b = leaf("input", "x", B, 64), leaf("state", "w", 64, 32), leaf("state", "b", 32)
    y = build.elementwise(lambda v: sc.apply("tanh", v), linear(x, w, b))
    assert len(launches(lowered(y), "main")) == 1


def test_nothing_runs_between_a_form_and_itself() -> None:
    """A tensor that both its neighbours and a product of it need must not close a circle."""
    x, w = leaf("input", "x", B, 32), leaf("state", "w", 32, 32)
    y = build.elementwise(lambda v: sc.apply("exp", v), x)
    z = build.elementwise(sc.mul, y, build.contract("bk,kn->bn", y, w))
    program = lowered(z)
    steps = program.entries[0].steps
    assert [type(s) for s in steps] == [Launch, Barrier, Launch]


def test_reasons_are_told() -> None:
    x, w = leaf("input", "x", B, 32), leaf("state", "w", 32, 32)
    y = build.elementwise(lambda v: sc.apply("exp", v), x)
    z = build.contract("bk,kn->bn", y, w)
    graph = Graph("main", (Output("output", "z", z), Output("output", "y", y)))
    text = fused_text({"main": graph}, layout_of(graph))
    assert "not fused" in text
    assert "a contraction reads its operands from memory" in text
