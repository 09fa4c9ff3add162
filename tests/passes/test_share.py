"""Kernels that differ in numbers alone call one function, and give the same bits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nnc.ir import build, random
from nnc.ir import scalar as sc
from nnc.ir.expr import Const, Read
from nnc.ir.graph import Form, Graph, Node, Output
from nnc.ir.index import Size, axis, dim
from nnc.ir.interpret import evaluate
from nnc.ir.loops import Buffer, Call, Program
from nnc.ir.loops_verify import verify
from nnc.ir.loops_walk import statements
from nnc.ir.types import DType, TensorType
from nnc.passes.lower import lower
from nnc.passes.math import expand
from tests.support.native import check

F32 = DType.F32
SEED = build.leaf("input", "seed", TensorType(DType.U64))
N = dim("n")


def drawn(size: Size, stream: int, scale: float) -> Node:
    """Uniform numbers of one stream."""
    index = sc.cast(sc.position(axis("i")), DType.U64)
    seed = Read(0, (), DType.U64)
    value = random.uniform(seed, Const(0, DType.U32), stream, index, F32)
    body = sc.mul(Const(scale, F32), value)
    form = Form((("i", size),), (axis("i"),), "none", body)
    return Node(form, (SEED,), TensorType(F32, (size,)), None, "")


def program_of(*nodes: Node) -> tuple[Graph, Program]:
    graph = Graph("main", tuple(Output("output", f"y{k}", n) for k, n in enumerate(nodes)))
    layout = [Buffer("input:seed", DType.U64, (), "input")]
    layout += [Buffer(f"output:{o.name}", F32, o.node.type.shape, "output") for o in graph.outputs]
    return graph, lower("test", {"main": graph}, layout)


def callers(program: Program) -> int:
    return sum(isinstance(s, Call) for k in program.kernels for s in statements(k.body))


@pytest.mark.parametrize("sizes", [(64, 64, 64), (40000, 32768, 50000), (N, N, N)])
def test_streams_share_one_function_with_equal_bits(sizes: tuple[Size, ...]) -> None:
    nodes = [drawn(n, 7 + 0xF0000000 * k, 0.1 * k - 0.1) for k, n in enumerate(sizes)]
    graph, program = program_of(*nodes)
    verify(program)
    assert len(program.functions) == 1
    assert callers(program) == 3
    dims = {"n": 100}
    seed = np.array(0x123456789ABCDEF, "u8")
    want = evaluate(graph, {("input", "seed"): seed}, dims)
    arrays = {f"output:{name}": np.zeros_like(a) for (_, name), a in want.items()}
    have = check(expand(program), {"input:seed": seed.reshape(1), **arrays}, entry="main", **dims)
    for (_, name), expected in want.items():
        np.testing.assert_array_equal(have[f"output:{name}"], expected)


def test_what_differs_in_more_than_numbers_keeps_its_code() -> None:
    one = drawn(64, 1, 1.0)
    other = drawn(64, 2, 1.0)
    assert isinstance(other.op, Form)
    other = replace(other, op=replace(other.op, body=sc.add(other.op.body, other.op.body)))
    assert not program_of(one, other)[1].functions
    assert not program_of(one)[1].functions
