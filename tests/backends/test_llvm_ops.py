"""Every native operation on special values, on scalars and vectors, against its NumPy meaning.

Once for this machine, and once for the least x86-64, where f16, fma and rounding are written out.
"""

from __future__ import annotations

import itertools
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest

from nnc.backends.llvm import LLVMBackend
from nnc.backends.llvm.calling import call
from nnc.backends.llvm.operations import NATIVE
from nnc.ir import loops
from nnc.ir.index import axis
from nnc.ir.scalar import OPS, ScalarTypeError, numbers
from nnc.ir.types import DType

BASELINE = {"cpu": "x86-64", "features": ""}
WAYS = [pytest.param({}, 1, id="host-1"), pytest.param({}, 16, id="host-16")]
if platform.machine() in ("x86_64", "AMD64"):
    WAYS.append(pytest.param(BASELINE, 4, id="baseline-4"))

FLOATS = [
    0.0,
    -0.0,
    1.0,
    -1.5,
    0.5,
    2.5,
    3.5,
    -2.5,
    7.0,
    1e-45,
    -1e-40,
    6e-8,
    65504.0,
    65519.9,
    1e5,
]
FLOATS += [
    2147483647.0,
    -2147483648.0,
    4e9,
    1e19,
    -1e19,
    3.3e38,
    1e-310,
    1e300,
    1 + 2**-11 + 2**-30,
]
FLOATS += [8388607.5, 0.49999997, np.inf, -np.inf, np.nan]
WHOLE = [0, 1, -1, 2, 3, -3, 7, 31, 32, 63, 64, 100, 127, -128, 255, 2**31 - 1, -(2**31), 2**32 - 1]
WHOLE += [2**63 - 1, -(2**63), 2**53 + 1, 1_000_003, -77_777]


@dataclass(frozen=True)
class Case:
    op: str
    types: tuple[DType, ...]
    result: DType

    @property
    def name(self) -> str:
        return "_".join([self.op, *map(str, self.types), "to", str(self.result)])


def specials(dtype: DType) -> np.ndarray:
    """Special values as they lie in memory."""
    with np.errstate(all="ignore"):
        if dtype is DType.BOOL:
            return np.array([False, True])
        if dtype.is_float:
            values = np.array(FLOATS, np.float64).astype(numbers.computing(dtype))
            return np.unique(numbers.encode(values, dtype).view(f"u{dtype.bytes}")).view(
                dtype.numpy
            )
        mask = 2 ** (8 * dtype.bytes) - 1
        words = sorted({w & mask for w in WHOLE})
        return np.array(words, np.uint64).astype(f"u{dtype.bytes}").view(dtype.numpy)


def cases() -> Iterator[Case]:
    for name in sorted(NATIVE):
        rule = OPS[name]
        for dtype in DType:
            types = (dtype,) * rule.arity
            if name == "select":
                types = (DType.BOOL, dtype, dtype)
            for target in DType if name in ("cast", "bitcast") else (None,):
                try:
                    yield Case(name, types, rule.result(types, target))
                except ScalarTypeError:
                    continue


CASES = list(cases())


def operands(case: Case) -> list[np.ndarray]:
    """Every combination of special values, one array an operand."""
    each = [specials(t) for t in case.types]
    if len(each) == 3 and case.op == "mad":
        each[2] = each[2][::3]
    grids = np.meshgrid(*each, indexing="ij")
    return [g.reshape(-1) for g in grids]


def kernel(case: Case, count: int, lanes: int) -> loops.Kernel:
    """Apply the operation to ``count`` elements, ``lanes`` at once, the tail under a mask."""
    at = axis("g") * lanes + axis("l")
    mask = loops.Op("lt", (loops.Position(at), loops.Const(count, DType.I64)), DType.BOOL)
    loads = tuple(
        loops.Load(f"x{i}", (at,), t, mask, loops.Const(1, t)) for i, t in enumerate(case.types)
    )
    store = loops.Store("y", (at,), loops.Op(case.op, loads, case.result), mask)
    body = loops.For("l", lanes, "vector" if lanes > 1 else "unroll", (store,))
    params = [loops.Param(f"x{i}", t, (count,), "r") for i, t in enumerate(case.types)]
    params.append(loops.Param("y", case.result, (count,), "w"))
    return loops.Kernel(f"{case.name}_{lanes}", tuple(params), (), ("g",), (body,))


def program(chosen: list[Case], lanes: int) -> loops.Program:
    buffers, kernels, entries = [], [], []
    for case in chosen:
        count = len(operands(case)[0])
        views = tuple(f"{case.name}:{k}" for k in (*range(len(case.types)), "y"))
        for view, dtype in zip(views, (*case.types, case.result), strict=True):
            buffers.append(loops.Buffer(view, dtype, (count,), "input"))
        made = kernel(case, count, lanes)
        kernels.append(made)
        launch = loops.Launch(made.name, views, (-(-count // lanes),))
        entries.append(loops.Entry(case.name, (), (launch,)))
    return loops.Program("ops", (), tuple(buffers), (), tuple(kernels), tuple(entries))


def expected(case: Case, arrays: list[np.ndarray], fused: bool) -> np.ndarray:
    values = [numbers.decode(a, t) for a, t in zip(arrays, case.types, strict=True)]
    with np.errstate(all="ignore"):
        # In 16 bits mad is one rounding everywhere: f32 holds the product.
        if case.op == "mad" and case.result.is_float and (fused or case.result.bytes == 2):
            return numbers.encode(rounded_once(values), case.result)
        result = OPS[case.op].evaluate(values, (*case.types, case.result))
        return numbers.encode(numbers.rounded(result, case.result), case.result)


def rounded_once(values: list[np.ndarray]) -> np.ndarray:
    """a * b + c in exact arithmetic, rounded (to f64, then to the operands' type)."""
    wide = [v.astype("f8") for v in values]
    result = wide[0] * wide[1] + wide[2]
    for i in np.flatnonzero(np.isfinite(result) & (result != 0)):
        a, b, c = (Fraction(float(v[i])) for v in wide)
        result[i] = float(a * b + c)
    return result.astype(values[0].dtype)


def agree(case: Case, have: np.ndarray, want: np.ndarray) -> np.ndarray:
    """Where bits are equal, or both are NaN, or zeros whose sign max and min leave open."""
    same = have.view(f"u{have.itemsize}") == want.view(f"u{want.itemsize}")
    if case.result.is_float:
        a, b = numbers.decode(have, case.result), numbers.decode(want, case.result)
        same |= np.isnan(a) & np.isnan(b)
        if case.op in ("max", "min"):
            same |= (a == 0) & (b == 0)
        if case.op == "mad":
            # Rounding twice, as we do for the types below f64, may move the last place.
            same |= np.abs(have.view(f"i{have.itemsize}") - want.view(f"i{have.itemsize}")) <= 1
    return same


FAMILIES = {
    "casts": [c for c in CASES if c.op in ("cast", "bitcast")],
    "floats": [c for c in CASES if c.op not in ("cast", "bitcast") and c.types[-1].is_float],
    "whole": [c for c in CASES if c.op not in ("cast", "bitcast") and not c.types[-1].is_float],
}


@pytest.mark.parametrize(("options", "lanes"), WAYS)
@pytest.mark.parametrize("family", FAMILIES)
def test_native_operations(family: str, options: dict[str, str], lanes: int) -> None:
    chosen = FAMILIES[family]
    made = program(chosen, lanes)
    backend = LLVMBackend()
    code = backend.load(backend.compile(made, options), "ops")
    wrong = []
    for case in chosen:
        arrays = operands(case)
        result = np.zeros(len(arrays[0]), case.result.numpy)
        named = {f"{case.name}:{i}": a for i, a in enumerate(arrays)}
        call(code, made, case.name, {}, {**named, f"{case.name}:y": result})
        want = expected(case, arrays, fused=not options)
        for at in np.flatnonzero(~agree(case, result, want))[:3]:
            given = [numbers.decode(a, t)[at] for a, t in zip(arrays, case.types, strict=True)]
            wrong.append(f"{case.name}{given}: {result[at]} not {want[at]}")
    assert not wrong, "\n".join(wrong)


CROSS = {
    "aarch64": {"triple": "aarch64-unknown-linux-gnu", "cpu": "generic"},
    "x86-64": {"triple": "x86_64-unknown-linux-gnu", "cpu": "x86-64"},
    "x86-64-v3": {"triple": "x86_64-unknown-linux-gnu", "cpu": "x86-64-v3"},
}


@pytest.mark.parametrize("target", CROSS)
def test_no_operation_calls_a_library(target: str) -> None:
    """A symbol that cannot be found when code is loaded ends the process, with no exception."""
    hard = ("cast", "mad", "sqrt", "floor", "round", "mod", "mulhi")
    wide = (DType.F64, DType.F16, DType.I64, DType.U32)
    chosen = [c for c in CASES if c.op in hard and {*c.types, c.result} <= {*wide}]
    text = LLVMBackend().assembly(program(chosen, 2), CROSS[target])
    called = set(re.findall(r"^\s+(?:callq?|bl|b|jmp)\s+([A-Za-z_][\w.]*)(?:@PLT)?$", text, re.M))
    defined = set(re.findall(r"^([A-Za-z_][\w.]*):", text, re.M))
    assert called
    assert called <= defined


def test_all_native_operations_are_tried() -> None:
    assert {c.op for c in CASES} == NATIVE
    assert {name for name, rule in OPS.items() if rule.native} - {"with_gradient"} == NATIVE
    assert len(list(itertools.chain(*FAMILIES.values()))) == len(CASES)
