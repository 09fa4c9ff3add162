"""Metrics over a whole split: parts per batch, combined, equal the metric of all rows at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnc.ir import build, scalar
from nnc.ir.expr import Const, Expr
from nnc.ir.graph import Leaf, Node
from nnc.ir.index import axis, dim
from nnc.ir.interpret import evaluate_nodes
from nnc.ir.scalar import OPS
from nnc.ir.types import DType, TensorType
from nnc.passes.split_batch import NotSplittable, split_batch

BATCH = dim("batch")
F64, I32 = DType.F64, DType.I32
LOGITS = build.leaf("input", "logits", TensorType(F64, (BATCH, 3)))
LABELS = build.leaf("input", "labels", TensorType(I32, (BATCH,)))
SCALE = build.leaf("state", "scale", TensorType(F64, (3,)))
B = axis("b")


def over_batch(node: Node) -> Node:
    count = scalar.cast(scalar.position(BATCH), F64)
    total = build.reduce(node, range(node.type.rank), "sum")
    return build.elementwise(lambda s: scalar.div(s, count), total)


def accuracy() -> Node:
    best = build.reduce(LOGITS, [1], "argmax")
    hits = build.elementwise("eq", best, LABELS)
    return over_batch(build.cast(hits, F64))


def perplexity() -> Node:
    chosen = build.read(LOGITS, 0, B, build.loaded(LABELS, 1, B))
    picked = build.form([("b", BATCH)], [B], chosen, [LOGITS, LABELS], (BATCH,))
    return build.elementwise("exp", build.elementwise("neg", over_batch(picked)))


def scaled_inside() -> Node:
    """A mean whose division is inside the sum, with parameters, over rows laid out flat."""
    flat = build.reshape(LOGITS, (BATCH * 3,))
    count = scalar.cast(scalar.position(BATCH * 3), F64)
    body = scalar.div(build.read(flat, 0, B), count)
    mean = build.form([("b", BATCH * 3)], [], body, [flat], (), reduce="sum")
    return build.elementwise("mul", build.reduce(SCALE, [0], "sum"), mean)


def spread() -> Node:
    """Hits by class over counts by class: a scatter and a filter."""
    rows = [("b", BATCH)]
    one: Expr = Const(1.0, F64)
    seen = build.form(rows, [build.loaded(LABELS, 0, B)], one, [LABELS], (3,), reduce="sum")
    top = build.reduce(LOGITS, [0], "max")
    return build.reduce(build.elementwise("mul", seen, top), [0], "sum")


def whole_numbers_as_values() -> Node:
    """An element of a tensor of whole numbers is a number, though its subscript is the row."""
    label = scalar.position(build.loaded(LABELS, 0, B))
    body = scalar.mul(scalar.cast(label, F64), build.read(LOGITS, 1, B, 0))
    return build.form([("b", BATCH)], [], body, [LABELS, LOGITS], (), reduce="sum")


METRICS = {
    f.__name__: f for f in (accuracy, perplexity, scaled_inside, spread, whole_numbers_as_values)
}


@pytest.mark.parametrize("name", METRICS)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(0, 99))
@settings(max_examples=15)
def test_parts_combine_to_the_whole(name: str, sizes: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    rows = sum(sizes)
    leaves = {
        ("input", "logits"): random.normal(size=(rows, 3)),
        ("input", "labels"): random.integers(0, 3, rows).astype(np.int32),
        ("state", "scale"): random.normal(size=3),
    }
    metric = METRICS[name]()
    (expected,) = evaluate_nodes([metric], leaves, {"batch": rows})
    split = split_batch(metric, "batch")
    assert split.partials
    sums: list[np.ndarray] = []
    for start, stop in zip(np.cumsum([0, *sizes]), np.cumsum(sizes), strict=False):
        cut = {k: v[start:stop] if k[0] == "input" else v for k, v in leaves.items()}
        bound = {"batch": int(stop - start)}
        parts = evaluate_nodes([p.node for p in split.partials], cut, bound)
        types = [p.node.type.dtype for p in split.partials]
        sums = [
            OPS[p.combine].evaluate([s, part], (t, t, t))
            for p, s, part, t in zip(split.partials, sums, parts, types, strict=True)
        ] if sums else parts  # fmt: skip
    partials = {("partial", str(k)): np.asarray(v) for k, v in enumerate(sums)}
    final = {**leaves, **partials}
    (got,) = evaluate_nodes([split.final], final, {"batch": rows})
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    assert all(n.op.space != "input" for n in _leaves(split.final))


def _leaves(node: Node) -> list[Node]:
    from nnc.ir.graph import postorder

    return [n for n in postorder([node]) if isinstance(n.op, Leaf)]


def test_without_the_batch_nothing_is_cut() -> None:
    split = split_batch(build.reduce(SCALE, [0], "sum"), "batch")
    assert split.partials == ()


def nested() -> Node:
    mean = over_batch(build.reduce(LOGITS, [1], "sum"))
    return over_batch(build.elementwise("sub", build.reduce(LOGITS, [1], "sum"), mean))


def paired() -> Node:
    a, c = axis("a"), axis("c")
    body = scalar.mul(build.read(LOGITS, 0, a, 0), build.read(LOGITS, 0, c, 0))
    return build.form([("a", BATCH), ("c", BATCH)], [], body, [LOGITS], (), reduce="sum")


def shifted() -> Node:
    read = build.read(LOGITS, 0, B - 1, 0, outside=0)
    return build.form([("b", BATCH)], [], read, [LOGITS], (), reduce="sum")


def by_row() -> Node:
    return build.reduce(LOGITS, [1], "sum")


def best_row() -> Node:
    return build.reduce(build.reduce(LOGITS, [1], "sum"), [0], "argmax")


def by_place() -> Node:
    body = scalar.cast(scalar.position(B), F64)
    return build.form([("b", BATCH)], [], scalar.mul(body, build.read(LOGITS, 0, B, 0)), [LOGITS],
                      (), reduce="sum")  # fmt: skip


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (nested, "needs another"),
        (paired, "paired"),
        (shifted, "at another's place"),
        (by_row, "for each row"),
        (best_row, "argmax over batch"),
        (by_place, "used as a number"),
    ],
)
def test_refuses_what_does_not_split(make, reason: str) -> None:
    with pytest.raises(NotSplittable, match=reason) as fault:
        split_batch(make(), "batch")
    assert isinstance(fault.value.node, Node)
