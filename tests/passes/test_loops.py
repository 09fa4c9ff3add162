"""Loops of random bodies: interpreter, gradients, passes and native code against one another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from nnc.ir import build
from nnc.ir.graph import Form, Graph, Loop, Node, Output, Scan
from nnc.ir.index import dim
from nnc.ir.interpret import evaluate
from nnc.ir.loops_text import parse_program, print_program
from nnc.ir.loops_verify import verify as verify_loops
from nnc.ir.regions import LoopError, dependence, regions
from nnc.ir.scan import Results, at, carry_leaf, fresh_loop
from nnc.ir.text import parse_graph, print_graph
from nnc.ir.types import DType, TensorType
from nnc.ir.verify import VerifyError, verify
from nnc.passes.autodiff import gradients
from nnc.passes.lower import lower
from nnc.passes.math import expand
from nnc.passes.pipeline import GraphOptions, optimize
from tests.support import finite_differences, native
from tests.support.loop_layout import loop_layout

F = DType.F64
T, B = dim("time"), dim("b")
X = build.leaf("input", "x", TensorType(F, (T, B, 3)))
W = build.leaf("state", "w", TensorType(F, (3, 3)))
V = build.leaf("state", "v", TensorType(F, (3,)))

Step = Callable[[Node, Node, Node], Node]


def spread(v: Node) -> Node:
    return build.broadcast(v, (B, 3))


STEPS: dict[str, Step] = {
    "rnn": lambda h, c, x: build.elementwise(
        "tanh", build.elementwise("add", build.contract("bi,ij->bj", h, W), x)
    ),
    "gate": lambda h, c, x: build.elementwise("mul", h, build.elementwise("tanh", c)),
    "scale": lambda h, c, x: build.elementwise("mul", spread(V), build.elementwise("add", h, c)),
    "input": lambda h, c, x: build.elementwise("add", c, build.contract("bi,ij->bj", x, W)),
    "keep": lambda h, c, x: h,
    "swap": lambda h, c, x: c,
    "forget": lambda h, c, x: build.elementwise("mul", x, spread(V)),
    "outside": lambda h, c, x: spread(V),
    "row": lambda h, c, x: build.elementwise(
        "add", x, build.broadcast(build.reduce(h, [1], "max", keep=True), (B, 3))
    ),
}


def total(node: Node) -> Node:
    curved = build.elementwise("mul", node, build.elementwise("sin", node))
    return build.reduce(curved, range(node.type.rank), "sum")


def made(one: str, two: str, yields: str, reverse: bool, nested: bool) -> tuple[Graph, Node]:
    """A loop of two carries, with a loop inside if ``nested``; a loss over all its results."""
    zero = build.full((B, 3), 0.25, F)
    name = fresh_loop()
    h, c = (carry_leaf(name, k, zero.type) for k in ("h", "c"))
    loop = Loop(name, T, ("h", "c"), reverse)
    x = at(X, loop.counter)
    if nested:
        inner = fresh_loop()
        z = carry_leaf(inner, "z", zero.type)
        body = STEPS[two](z, h, x)
        h2 = Results(Loop(inner, 2, ("z",), not reverse), [h], [body]).last("z")
    else:
        h2 = h
    nexts = [STEPS[one](h2, c, x), STEPS[two](c, h, x)]
    results = Results(loop, [zero, zero], nexts)
    outputs = [results.last("h"), results.last("c"), results.stack(nexts[0])]
    outputs += [results.stack(h), results.stack(STEPS[yields](h2, c, x))]
    parts = [total(o) for o in outputs]
    loss = parts[0]
    for part in parts[1:]:
        loss = build.elementwise("add", loss, part)
    listed = [Output("output", str(k), o) for k, o in enumerate(outputs)]
    return Graph("g", tuple(listed)), loss


def leaves(time: int, b: int) -> dict[tuple[str, str], Any]:
    rng = np.random.default_rng(time + 10 * b)
    return {
        ("input", "x"): rng.normal(size=(time, b, 3)),
        ("state", "w"): rng.normal(0, 0.5, (3, 3)),
        ("state", "v"): rng.normal(0, 0.5, 3),
    }


PHASES = (Phase.explicit, Phase.reuse, Phase.generate)

names = st.sampled_from(sorted(STEPS))
CASES = st.tuples(names, names, names, st.booleans(), st.booleans())


@settings(max_examples=12, deadline=None, phases=PHASES)
@given(CASES, st.integers(1, 4), st.integers(1, 3))
def test_every_stage_computes_the_same(
    case: tuple[str, str, str, bool, bool], time: int, b: int
) -> None:
    graph, loss = made(*case)
    wrt = [X, W, V]
    outputs = [Output("gradient", str(k), g) for k, g in enumerate(gradients(loss, wrt))]
    graph = Graph("g", (*graph.outputs, *outputs))
    verify(graph, bounds=True)
    text = print_graph(graph)
    assert print_graph(parse_graph(text)) == text
    given_ = leaves(time, b)
    dims = {"time": time, "b": b}
    expected = evaluate(graph, given_, dims)
    plain = optimize(graph, GraphOptions(verify=True))
    close(evaluate(plain, given_, dims), expected)
    program = expand(lower("g", {"go": plain}, loop_layout(plain)))
    verify_loops(program)
    assert parse_program(print_program(program)) == program
    arrays = {b_.name: np.zeros(shape(b_, dims), b_.dtype.numpy) for b_ in loop_layout(plain)}
    for (space, name), value in given_.items():
        if f"{space}:{name}" in arrays:
            arrays[f"{space}:{name}"] = value
    found = native.check(program, arrays, (1, 3), **dims)
    close({k: found[":".join(k)] for k in expected}, expected)


def shape(buffer: Any, dims: dict[str, int]) -> tuple[int, ...]:
    from nnc.ir.index import evaluate as size

    return tuple(size(n, dims) for n in buffer.extents)


def close(found: dict[Any, Any], expected: dict[Any, Any]) -> None:
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, rtol=1e-9, atol=1e-11, err_msg=str(key))


@settings(max_examples=4, deadline=None, phases=PHASES)
@given(CASES)
def test_gradients_are_those_of_finite_differences(case: tuple[str, str, str, bool, bool]) -> None:
    _, loss = made(*case)
    finite_differences.check(loss, [X, W, V], leaves(3, 2))


@pytest.mark.parametrize("case", [("rnn", "gate", "scale", False, False),
                                  ("rnn", "rnn", "input", True, True)])  # fmt: skip
def test_second_derivatives_too(case: tuple[str, str, str, bool, bool]) -> None:
    _, loss = made(*case)
    finite_differences.check_twice(loss, [W, V], leaves(3, 2))


def test_products_with_a_weight_leave_the_loop() -> None:
    graph, loss = made("rnn", "keep", "input", False, False)
    found = [Output("gradient", str(k), g) for k, g in enumerate(gradients(loss, [X, W]))]
    order = optimize(Graph("g", (*graph.outputs, *found))).nodes()
    depends = dependence(order)
    inside = [n for n in order if isinstance(n.op, Form) and depends[n] and n.op.reduce == "sum"]
    assert len(inside) == 2  # h @ w forwards, and its cotangent backwards
    assert len({n.op.loop for n in order if isinstance(n.op, Scan)}) == 2


def test_what_is_in_no_loop_is_refused() -> None:
    stray = carry_leaf("nowhere", "h", TensorType(F, (3,)))
    with pytest.raises(VerifyError, match="a loop that it is not in"):
        verify(Graph("g", (Output("output", "y", stray),)))
    name = fresh_loop()
    h = carry_leaf(name, "h", TensorType(F, (3,)))
    grown = build.elementwise("add", h, V)
    results = Results(Loop(name, 3, ("h",)), [build.full((3,), 0, F)], [grown])
    other = Results(Loop(name, 3, ("h",)), [V], [grown])
    with pytest.raises(LoopError, match="differ in their loop"):
        regions([results.last("h"), other.last("h")])
    wrong = Results(Loop(name, 3, ("h",)), [build.full((4,), 0, F)], [grown])
    with pytest.raises(VerifyError, match="begins as"):
        verify(Graph("g", (Output("output", "y", wrong.last("h")),)))
