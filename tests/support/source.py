"""Programs as text: elaborated, and computed by the interpreter in f64."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nnc.frontend.elaborate.model import elaborate
from nnc.frontend.recipe import open_program
from nnc.frontend.source import Source
from nnc.ir.graph import Leaf, Node
from nnc.ir.interpret import evaluate_nodes
from nnc.ir.model import Model, Named, Recipe
from nnc.passes.autodiff import gradients

Arrays = Mapping[str, Any]
Leaves = dict[tuple[str, str], Any]


def model_of(text: str, precision: str = "f64", **config: Any) -> Model:
    """Elaborate the one model of a text."""
    return elaborate(Source("test.nn", text), config=config, precision=precision)


def recipe_of(text: str, precision: str | None = "f64", **chosen: Any) -> Recipe:
    """Check the one train block of a text."""
    _, recipe, _ = open_program(Source("test.nn", text), precision=precision, **chosen)
    assert recipe is not None
    return recipe


def system_leaves(seed: int = 7, step: int = 0, row: int = 0) -> Leaves:
    """Return the leaves that every graph may read."""
    return {
        ("system", "seed"): np.array(seed, np.uint64),
        ("system", "step"): np.array(step, np.int64),
        ("system", "row"): np.array(row, np.int64),
    }


def first_values(model: Model, seed: int = 7) -> dict[str, Any]:
    """Return what every parameter starts as, by path."""
    nodes = [p.init for p in model.parameters]
    values = evaluate_nodes(nodes, system_leaves(seed))
    return {p.path: v for p, v in zip(model.parameters, values, strict=True)}


def leaves_of(model: Model, inputs: Arrays, state: Arrays | None = None, step: int = 0) -> Leaves:
    """Return every leaf's value: inputs as given, state as given or as it starts."""
    values = first_values(model) | dict(state or {})
    return {
        **{("input", name): np.asarray(value) for name, value in inputs.items()},
        **{("state", path): np.asarray(value) for path, value in values.items()},
        **system_leaves(step=step),
    }


def compute(named: tuple[Named, ...], leaves: Leaves) -> dict[str, Any]:
    """Compute named nodes."""
    values = evaluate_nodes([n.node for n in named], leaves)
    return {n.name: v for n, v in zip(named, values, strict=True)}


def outputs(text: str, inputs: Arrays, state: Arrays | None = None) -> dict[str, Any]:
    """Return the outputs of a model at inference, in f64."""
    model = model_of(text)
    return compute(model.inference.outputs, leaves_of(model, inputs, state))


def gradient_of(goal: Node, wrt: tuple[str, str], leaves: Leaves) -> Any:
    """Return the gradient of a scalar by the leaf of that space and name."""
    from nnc.ir.graph import postorder

    leaf = next(n for n in postorder([goal]) if n.op == Leaf(*wrt))
    return evaluate_nodes(gradients(goal, [leaf]), leaves)[0]
