"""The builder infers types and refuses shapes that do not fit."""

from __future__ import annotations

import numpy as np
import pytest

from nnc.ir import build
from nnc.ir import scalar as sc
from nnc.ir.expr import Const, Position, Read
from nnc.ir.graph import Form, Node, Reshape
from nnc.ir.index import axis, dim
from nnc.ir.interpret import evaluate_nodes
from nnc.ir.types import DType, TensorType

F32, F64, I32 = DType.F32, DType.F64, DType.I32
N = dim("n")


def tensor(name: str, *shape, dtype: DType = F32) -> Node:
    return build.leaf("input", name, TensorType(dtype, shape))


def test_types_are_inferred() -> None:
    x = tensor("x", N, 4)
    assert build.reduce(x, (1,), "argmax").type == TensorType(I32, (N,))
    assert build.reduce(x, (0,), "sum", keep=True).type == TensorType(F32, (1, 4))
    assert build.elementwise("lt", x, x).type == TensorType(DType.BOOL, (N, 4))
    assert build.cast(x, F64).type == TensorType(F64, (N, 4))
    assert build.cast(x, F32) is x
    assert build.transpose(x, (1, 0)).type == TensorType(F32, (4, N))
    assert build.contract("ij,kj->ik", x, x).type == TensorType(F32, (N, N))
    assert build.gather(x, tensor("k", 2, 3, dtype=I32)).type == TensorType(F32, (2, 3, 4))
    assert build.full((N,), 1, I32).type == TensorType(I32, (N,))
    assert isinstance(build.reshape(x, (4 * N,)).op, Reshape)
    assert build.reshape(x, (N, 4)) is x


def test_operands_are_joined_and_numbered_by_first_use() -> None:
    a, b, k = tensor("a", 4), tensor("b", 4), tensor("k", 4, dtype=I32)
    i = axis("i")
    node = build.form(
        [("i", 4)],
        (build.loaded(k, 3, i),),
        sc.add(
            Read(2, (i,), F32), sc.add(Read(1, (build.loaded(k, 0, i),), F32), Read(2, (i,), F32))
        ),
        (k, a, b, k),
        (4,),
        reduce="sum",
        where=sc.apply("lt", Read(1, (i,), F32), Const(0.5, F32)),
    )
    assert node.inputs == (k, a, b)
    same = build.form(
        [("i", 4)], (i,), sc.add(Read(0, (i,), F32), Read(1, (i,), F32)), (a, a), (4,)
    )
    assert same.inputs == (a,)
    assert isinstance(same.op, Form)
    assert same.op.body == sc.add(Read(0, (i,), F32), Read(0, (i,), F32))


def test_scalars_go_with_every_element() -> None:
    x, rate = tensor("x", 3), tensor("rate")
    node = build.elementwise("mul", rate, x)
    given = {
        ("input", "x"): np.arange(3, dtype=np.float32),
        ("input", "rate"): np.array(2, np.float32),
    }
    np.testing.assert_array_equal(evaluate_nodes([node], given)[0], [0, 2, 4])


def test_contract_without_a_summed_letter_stores_once() -> None:
    outer = build.contract("i,j->ji", tensor("x", 2), tensor("y", 3))
    assert isinstance(outer.op, Form)
    assert outer.op.reduce == "none"


@pytest.mark.parametrize(
    "make",
    [
        lambda x: build.elementwise("add", x, tensor("y", 4, N)),
        lambda x: build.elementwise("add", x, tensor("y", N, 4, dtype=F64)),
        lambda x: build.broadcast(x, (4,)),
        lambda x: build.broadcast(x, (N, 5)),
        lambda x: build.transpose(x, (0, 0)),
        lambda x: build.reshape(x, (N, 5)),
        lambda x: build.contract("ij,jk->ik", x, tensor("w", 5, 3)),
        lambda x: build.contract("ijk->ij", x),
        lambda x: build.read(x, 0, 1),
        lambda x: build.loaded(x, 0, 1, 1),
        lambda x: build.form([], (), Position(N), (), (), reduce="mean"),
    ],
)
def test_what_does_not_fit_is_refused(make) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - many functions, each with its own words
        make(tensor("x", N, 4))
