"""Lowered programs give what the graph interpreter gives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nnc.ir.graph import Graph, Leaf, postorder
from nnc.ir.index import evaluate as size_of
from nnc.ir.interpret import evaluate
from nnc.ir.loops import Buffer, Program
from nnc.ir.loops_interpret import Machine
from nnc.passes.lower import LowerOptions, lower
from tests.support.graphs import GraphCase, graph_cases


def slow_to_draw(examples: int) -> settings:
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )


def layout_of(graph: Graph) -> list[Buffer]:
    found: dict[str, Buffer] = {}
    for node in postorder(o.node for o in graph.outputs):
        if isinstance(node.op, Leaf):
            key = f"{node.op.space}:{node.op.name}"
            found[key] = Buffer(key, node.type.dtype, node.type.shape, "input")
    for o in graph.outputs:
        key = f"{o.space}:{o.name}"
        kind = o.node.type
        found[key] = Buffer(key, kind.dtype, kind.shape, "state" if key in found else "output")
    return list(found.values())


def run(program: Program, entry: str, case: GraphCase) -> tuple[Machine, dict[str, np.ndarray]]:
    leaves = case.leaves()
    buffers = {f"{s}:{n}": a.copy().reshape(-1) for (s, n), a in leaves.items()}
    known = {b.name for b in program.buffers}
    machine = Machine(program, case.dims, {k: v for k, v in buffers.items() if k in known})
    machine.run(entry)
    return machine, buffers


def check(case: GraphCase, options: LowerOptions | None = None) -> Program:
    program = lower("test", {"main": case.graph}, layout_of(case.graph), options)
    machine, _ = run(program, "main", case)
    assert not machine.faults
    expected = evaluate(case.graph, case.leaves(), case.dims)
    for (space, name), want in expected.items():
        have = machine.array(f"{space}:{name}")
        assert have.dtype == want.dtype
        assert have.shape == tuple(size_of(s, case.dims) for s in want.shape)
        tight = 1e-5 if want.dtype == np.float32 else 1e-9
        np.testing.assert_allclose(have, want, rtol=tight, atol=tight, err_msg=name)
    return program


@slow_to_draw(150)
@given(graph_cases())
def test_unfused_programs_agree_with_the_interpreter(case: GraphCase) -> None:
    check(case, LowerOptions(fuse=False))


@slow_to_draw(150)
@given(graph_cases(steps=9))
def test_fused_programs_agree_with_the_interpreter(case: GraphCase) -> None:
    check(case)


@slow_to_draw(60)
@given(graph_cases(steps=4), st.sampled_from([(37, 20), (16, 130), (70, 9)]))
def test_unfused_programs_agree_with_longer_dims(case: GraphCase, sizes: tuple[int, int]) -> None:
    grown = replace(case, dims=dict(zip(("n", "m"), sizes, strict=True)))
    if not any(size_of(n.type.size, grown.dims) > 50_000 for n in grown.graph.nodes()):
        check(grown, LowerOptions(fuse=False))


@slow_to_draw(60)
@given(graph_cases(steps=6), st.sampled_from([(37, 20), (16, 130), (70, 9)]))
def test_fused_programs_agree_with_longer_dims(case: GraphCase, sizes: tuple[int, int]) -> None:
    grown = replace(case, dims=dict(zip(("n", "m"), sizes, strict=True)))
    if not any(size_of(n.type.size, grown.dims) > 50_000 for n in grown.graph.nodes()):
        check(grown)
