"""Elaborates programs given as text, and computes what they declare."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import dedent
from typing import Any

import numpy as np

from nnc.frontend.diagnostics import Diagnostic, SourceError
from nnc.frontend.elaborate import elaborate_model, load, pick_model
from nnc.frontend.rendering import render_all
from nnc.frontend.source import Source
from nnc.ir.graph import Graph, Leaf, Output, postorder
from nnc.ir.interpret import evaluate
from nnc.ir.model import Mode, Model
from nnc.ir.verify import verify

Array = np.ndarray[Any, Any]


def model(text: str, precision: str = "f64", **config: Any) -> Model:
    """Elaborate the one model of a program; its graphs must be well formed."""
    program = load(Source("test.nn", dedent(text)))
    try:
        found = elaborate_model(program, pick_model(program, None), config, precision)
    except SourceError as error:
        raise AssertionError(render_all(error.diagnostics, program.sources)) from error
    for mode in (found.training, found.inference):
        verify(graph_of(found, mode), bounds=True)
    return found


def faults(text: str, precision: str | None = None, **config: Any) -> list[Diagnostic]:
    """Elaborate a program that is wrong, and return what is said about it."""
    program = load(Source("test.nn", dedent(text)))
    try:
        elaborate_model(program, pick_model(program, None), config, precision)
    except SourceError as error:
        render_all(error.diagnostics, program.sources)
        return list(error.diagnostics)
    raise AssertionError("no fault was found")


def codes(text: str, **config: Any) -> list[str]:
    """Return the codes of what is wrong with a program."""
    return [d.code for d in faults(text, **config)]


def graph_of(found: Model, mode: Mode) -> Graph:
    """Return all results of a mode as one graph."""
    outputs = [
        *(Output("loss", n.name, n.node) for n in mode.losses),
        *(Output("metric", n.name, n.node) for n in mode.metrics),
        *(Output("output", n.name, n.node) for n in mode.outputs),
        *(Output("state", n.name, n.node) for n in mode.updates),
    ]
    facts = tuple(f for r in found.requirements for f in r.facts)
    return Graph(found.name, tuple(outputs), facts)


def run(
    found: Model,
    inputs: Mapping[str, Any],
    state: Mapping[str, Any] | None = None,
    training: bool = False,
    seed: int = 1,
    step: int = 0,
    row: int = 0,
) -> dict[str, Array]:
    """Compute every result of a mode by name, from inputs by name and state by path."""
    mode = found.training if training else found.inference
    graph = graph_of(found, mode)
    given: dict[tuple[str, str], Any] = {("input", n): a for n, a in inputs.items()}
    given |= {("state", n): a for n, a in (state or {}).items()}
    given |= {("system", "seed"): np.uint64(seed), ("system", "step"): np.int64(step)}
    given["system", "row"] = np.int64(row)
    leaves: dict[tuple[str, str], Array] = {}
    for node in postorder(o.node for o in graph.outputs):
        if isinstance(node.op, Leaf):
            array = np.asarray(given[node.op.space, node.op.name])
            leaves[node.op.space, node.op.name] = array.astype(node.type.dtype.numpy)
    dims = {
        str(size): extent
        for port in found.ports
        for size, extent in zip(port.type.shape, np.shape(inputs[port.name]), strict=True)
        if not isinstance(size, int)
    }
    return {name: array for (_, name), array in evaluate(graph, leaves, dims).items()}


def output(body: str, shape: str = "b, 3", header: str = "", **inputs: Any) -> Array:
    """Compute ``y`` of a model body over the input ``x`` (and others that are declared in it)."""
    text = f"{dedent(header)}\nmodel M {{\ninput x: float[{shape}]\n{dedent(body)}\noutput y\n}}\n"
    text = text.replace("model M {", "model M() {")
    return run(model(text), inputs)["y"]


def paths(found: Model) -> list[str]:
    """Return the paths of all parameters and buffers."""
    return [p.path for p in found.parameters]
