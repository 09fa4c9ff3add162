"""Checks gradients of graphs against central differences through the interpreter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnc.ir import build, scalar
from nnc.ir.graph import Leaf, Node
from nnc.ir.interpret import evaluate_nodes
from nnc.ir.types import DType
from nnc.passes.autodiff import gradients
from nnc.passes.solve import solve

Leaves = dict[tuple[str, str], np.ndarray]
EPS, ATOL, RTOL = 1e-6, 1e-5, 1e-3


def weighted(node: Node, seed: int = 5) -> Node:
    """A scalar that depends on every element of ``node`` with a weight of its own."""
    random = np.random.default_rng(seed)
    size = int(np.prod(node.type.shape))
    weights = build.literal(random.uniform(0.5, 1.5, size).tolist(), node.type.shape, DType.F64)
    product = build.elementwise(scalar.mul, node, weights)
    return build.reduce(product, range(node.type.rank), "sum")


def differences(loss: Node, name: tuple[str, str], leaves: Leaves) -> np.ndarray:
    base = leaves[name]
    result = np.zeros(base.shape)
    for at in np.ndindex(base.shape):
        ends = []
        for step in (EPS, -EPS):
            moved = base.copy()
            moved[at] += step
            ends.append(float(evaluate_nodes([loss], {**leaves, name: moved})[0]))
        result[at] = (ends[0] - ends[1]) / (2 * EPS)
    return result


def check(loss: Node, wrt: Sequence[Node], leaves: Leaves) -> list[Node]:
    """Check the gradient of ``loss`` by each leaf of ``wrt``, as it is and solved."""
    found = gradients(loss, wrt)
    for leaf, gradient in zip(wrt, found, strict=True):
        assert gradient.type == leaf.type
        assert isinstance(leaf.op, Leaf)
        expected = differences(loss, (leaf.op.space, leaf.op.name), leaves)
        values = evaluate_nodes([gradient, solve(gradient)], leaves)
        for value in values:
            np.testing.assert_allclose(value, expected, atol=ATOL, rtol=RTOL)
    return found


def check_twice(loss: Node, wrt: Sequence[Node], leaves: Leaves) -> None:
    """Check gradients, and the gradients of a weighted sum of each gradient."""
    for gradient in check(loss, wrt, leaves):
        check(weighted(gradient, 7), wrt, leaves)
