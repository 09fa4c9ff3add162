"""The contraction template against the interpreter, as native code: layouts, edges, formulas."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnc.backends.llvm import LLVMBackend
from nnc.backends.llvm.calling import call
from nnc.ir import build, interpret, loops
from nnc.ir.expr import Read
from nnc.ir.graph import Form, Graph, Leaf, Node, Output, postorder
from nnc.ir.index import axis, dim, evaluate
from nnc.ir.scalar import make
from nnc.ir.types import DType, TensorType
from nnc.passes.lower import lower
from nnc.passes.math import expand
from nnc.passes.schedule.contraction import as_contraction
from nnc.passes.schedule.stage import stage_of


def leaf(name: str, *shape: object, dtype: DType = DType.F64) -> Node:
    return build.leaf("input", name, TensorType(dtype, tuple(shape)))  # type: ignore[arg-type]


def is_contraction(node: Node) -> bool:
    assert isinstance(node.op, Form)
    return as_contraction(stage_of(node, node.op, lambda n: n.name or "result")) is not None


def check(result: Node, dims: Mapping[str, int], rtol: float = 1e-12) -> None:
    leaves = {n.name: n for n in postorder([result]) if isinstance(n.op, Leaf)}
    rng = np.random.default_rng(0)
    arrays = {
        name: rng.standard_normal([evaluate(d, dims) for d in n.type.shape]).astype(
            n.type.dtype.numpy
        )
        for name, n in leaves.items()
    }
    graph = Graph("e", (Output("output", "r", result),))
    layout = [
        loops.Buffer(f"input:{name}", n.type.dtype, n.type.shape, "input")
        for name, n in leaves.items()
    ]
    layout.append(loops.Buffer("output:r", result.type.dtype, result.type.shape, "output"))
    program = expand(lower("p", {"e": graph}, layout))
    code = LLVMBackend().load(LLVMBackend().compile(program, {}), "p")
    found = np.zeros([evaluate(d, dims) for d in result.type.shape], result.type.dtype.numpy)
    given_arrays = {f"input:{k}": v for k, v in arrays.items()}
    call(code, program, "e", dims, {**given_arrays, "output:r": found})
    wanted = interpret.evaluate(graph, {("input", k): v for k, v in arrays.items()}, dims)
    np.testing.assert_allclose(found, wanted["output", "r"], rtol=rtol, atol=rtol * 30)


SIZES = st.integers(1, 40) | st.sampled_from([63, 64, 65, 127, 129])


@settings(max_examples=12)
@given(
    m=SIZES, n=SIZES, k=SIZES | st.sampled_from([255, 256, 257, 600]),
    spec=st.sampled_from(["mk,kn->mn", "km,kn->mn", "mk,nk->mn", "km,nk->mn", "mk,kn->nm"]),
    symbolic=st.sets(st.sampled_from("mnk")),
)  # fmt: skip
def test_layouts_and_sizes(m: int, n: int, k: int, spec: str, symbolic: set[str]) -> None:
    sizes = {"m": m, "n": n, "k": k}
    shape = {c: dim(c) if c in symbolic else size for c, size in sizes.items()}
    first, second = spec.partition("->")[0].split(",")
    a = leaf("a", *(shape[c] for c in first))
    b = leaf("b", *(shape[c] for c in second))
    check(build.contract(spec, a, b), sizes)


@pytest.mark.parametrize("batch", [1, 3])
def test_batched(batch: int) -> None:
    a, b = leaf("a", dim("z"), 33, 20), leaf("b", dim("z"), 20, 35)
    result = build.contract("zik,zkj->zij", a, b)
    assert is_contraction(result)
    check(result, {"z": batch})


@pytest.mark.parametrize("batch", [1, 5, 130])
def test_a_formula_on_the_way_in_and_on_the_way_out(batch: int) -> None:
    a, b, bias = leaf("a", dim("z"), 300), leaf("b", 300, 50), leaf("c", 50)
    inside = build.elementwise("tanh", build.elementwise("mul", a, a))
    product = build.contract("ik,kj->ij", inside, build.elementwise("exp", b))
    shifted = build.elementwise("add", product, build.broadcast(bias, product.type.shape))
    check(build.elementwise("max", shifted, build.full((), 0.0, DType.F64)), {"z": batch}, 1e-10)


@pytest.mark.parametrize(("stride", "pad"), [(1, 0), (1, 1), (2, 1)])
def test_convolution(stride: int, pad: int) -> None:
    size, kernel, channels, out = 11, 3, 5, 18
    to = (size + 2 * pad - kernel) // stride + 1
    x, w = leaf("x", dim("z"), size, size, channels), leaf("w", kernel, kernel, channels, out)
    i, j, u, v = axis("i"), axis("j"), axis("u"), axis("v")
    at = (axis("z"), i * stride + u - pad, j * stride + v - pad, axis("c"))
    body = make.mul(Read(0, at, DType.F64, 0.0), Read(1, (u, v, axis("c"), axis("o")), DType.F64))
    axes = [("z", dim("z")), ("i", to), ("j", to), ("o", out)]
    inner = [("u", kernel), ("v", kernel), ("c", channels)]
    out_map = (axis("z"), i, j, axis("o"))
    result = build.form([*axes, *inner], out_map, body, (x, w), [n for _, n in axes], reduce="sum")
    assert is_contraction(result)
    check(result, {"z": 3})


def test_f32_is_as_accurate_as_its_type() -> None:
    a, b = leaf("a", 60, 500, dtype=DType.F32), leaf("b", 500, 70, dtype=DType.F32)
    check(build.contract("ik,kj->ij", a, b), {}, 1e-5)
