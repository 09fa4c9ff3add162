"""Native code gives what the interpreter of loop IR gives, on programs lowered from graphs."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings

from nnc.backends.llvm import LLVMBackend
from nnc.backends.llvm.calling import call
from nnc.backends.llvm.team import ticket
from nnc.ir.graph import Graph, Leaf, postorder
from nnc.ir.loops import Buffer
from nnc.ir.loops_interpret import Machine
from nnc.passes.lower import lower
from nnc.passes.math import expand
from tests.support.graphs import GraphCase, graph_cases

BACKEND = LLVMBackend()


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


@settings(max_examples=25)
@given(graph_cases())
def test_random_graphs(case: GraphCase) -> None:
    program = expand(lower("random", {"main": case.graph}, layout_of(case.graph)))
    known = {b.name for b in program.buffers}
    leaves = {f"{s}:{n}": a for (s, n), a in case.leaves().items()}
    expected = {k: v.copy().reshape(-1) for k, v in leaves.items() if k in known}
    machine = Machine(program, case.dims, expected)
    machine.run("main")
    code = BACKEND.load(BACKEND.compile(program, {"grain": "0"}), "random")
    results = []
    for team in (0, ticket(3)):
        arrays = {k: v.copy().reshape(-1) for k, v in leaves.items() if k in known}
        for buffer in program.buffers:
            if buffer.name not in arrays:
                arrays[buffer.name] = np.zeros_like(machine.array(buffer.name)).reshape(-1)
        assert call(code, program, "main", case.dims, arrays, team).code == 0
        results.append(arrays)
    for output in case.graph.outputs:
        name = f"{output.space}:{output.name}"
        want, have = machine.array(name).reshape(-1), results[0][name]
        tight = 1e-5 if want.dtype == np.float32 else 1e-10
        np.testing.assert_allclose(have, want, rtol=tight, atol=tight, err_msg=name)
        assert have.tobytes() == results[1][name].tobytes()
