"""Equal kernels are kept once."""

from __future__ import annotations

from nnc.ir import build
from nnc.ir import scalar as sc
from nnc.ir.graph import Graph, Node, Output
from nnc.ir.index import dim
from nnc.ir.loops import Buffer, Program
from nnc.ir.types import DType, TensorType
from nnc.passes.hazards import launches_in
from nnc.passes.lower import LowerOptions, lower

N = dim("n")


def leaf(name: str) -> Node:
    return build.leaf("input", name, TensorType(DType.F32, (N, 16)))


def program_of(*outputs: Node) -> Program:
    graph = Graph("main", tuple(Output("output", f"y{k}", n) for k, n in enumerate(outputs)))
    leaves = [n for n in graph.nodes() if not n.inputs]
    layout = [Buffer(f"input:{n.name}", n.type.dtype, n.type.shape, "input") for n in leaves]
    kinds = [(f"output:{o.name}", o.node.type) for o in graph.outputs]
    layout += [Buffer(name, kind.dtype, kind.shape, "output") for name, kind in kinds]
    return lower("test", {"main": graph}, layout, LowerOptions(fuse=False))


def test_the_same_work_on_other_tensors_is_one_kernel() -> None:
    made = [build.elementwise(sc.add, leaf(f"a{k}"), leaf(f"b{k}")) for k in range(3)]
    program = program_of(*made)
    assert len(program.kernels) == 1
    launched = list(launches_in(program.entries[0].steps))
    assert [s.kernel for s in launched] == [program.kernels[0].name] * 3
    assert len({s.views for s in launched}) == 3


def test_another_operation_is_another_kernel() -> None:
    a, b = leaf("a"), leaf("b")
    program = program_of(build.elementwise(sc.add, a, b), build.elementwise(sc.sub, a, b))
    assert len(program.kernels) == 2
