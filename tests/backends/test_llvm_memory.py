"""Native code touches no byte that the program did not say: pages around arrays are forbidden."""

from __future__ import annotations

import ctypes
import faulthandler
import mmap
import os
import sys

import numpy as np
import pytest

from nnc.ir import loops
from nnc.ir.index import axis, ceildiv, dim, mod
from nnc.ir.loops import For, Param, Store
from nnc.ir.types import DType
from tests.support.native import check, const, less, load, op, program, run

g, v, n = axis("g"), axis("v"), dim("n")
PAGE = mmap.PAGESIZE
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs mprotect")


class Guarded:
    """Arrays that end where a forbidden page begins, or begin where one ends."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._kept: list[tuple[int, mmap.mmap, object]] = []

    def array(self, values: np.ndarray, at_end: bool) -> np.ndarray:
        size = -(-values.nbytes // PAGE) * PAGE
        memory = mmap.mmap(-1, size + 2 * PAGE)
        start = PAGE + (size - values.nbytes if at_end else 0)
        made = np.frombuffer(memory, values.dtype, values.size, start).reshape(values.shape)
        made[...] = values
        base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        for page in (base, base + PAGE + size):
            assert self._libc.mprotect(ctypes.c_void_p(page), PAGE, 0) == 0
        self._kept.append((base, memory, made))
        return made


def touches(program_: loops.Program, arrays: dict[str, np.ndarray], **dims: int) -> None:
    """Run on guarded arrays in a child, which dies where a forbidden page is touched."""
    expected = check(program_, arrays, threads=(1,), **dims)
    for at_end in (True, False):
        child = os.fork()
        if child == 0:
            guarded = Guarded()
            made = {name: guarded.array(a, at_end) for name, a in arrays.items()}
            code = run(program_, made, **dims).code
            same = all(made[m].tobytes() == expected[m].tobytes() for m in made)
            os._exit(code if same else 9)
        assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("dtype", [DType.F32, DType.F64, DType.F16, DType.U8, DType.BOOL], ids=str)
@pytest.mark.parametrize("size", [1, 17, 1000])
def test_rows(dtype: DType, size: int) -> None:
    at = g * 16 + v
    mask = less(at, n)
    value = load("x", at, dtype=dtype, mask=mask)
    body = [For("v", 16, "vector", (Store("y", (at,), value, mask),))]
    params = [Param("x", dtype, (n,), "r"), Param("y", dtype, (n,), "w")]
    x = np.random.default_rng(0).integers(0, 2, size).astype(dtype.numpy)
    arrays = {"x": x, "y": np.zeros(size, dtype.numpy)}
    touches(program(params, body, {"g": ceildiv(n, 16)}, ["n"]), arrays, n=size)


def test_columns_scattered_and_single_elements() -> None:
    """Strided and indexed accesses under masks, and one element that is outside."""
    mask = less(g * 16 + v, n)
    column = load("x", g * 16 + v, 1, mask=mask)
    mixed = load("x", mod(7 * (g * 16 + v), 32), 0, mask=mask)
    before = load("x", g - 1, 0, mask=less(0, g), other=const(-1.0))
    body = [
        For("v", 16, "vector", (
            Store("y", (g * 16 + v, 1), op("add", column, mixed), mask),
            Store("y", (g * 16 + v, 0), before, mask),
        )),
    ]  # fmt: skip
    params = [
        Param("x", DType.F32, (n, 2), "r"),
        Param("y", DType.F32, (n, 2), "w"),
    ]
    x = np.random.default_rng(0).standard_normal((32, 2)).astype("f4")
    made = program(params, body, {"g": ceildiv(n, 16)}, ["n"])
    touches(made, {"x": x, "y": np.zeros((32, 2), "f4")}, n=32)


def test_a_guard_page_does_end_a_process() -> None:
    """The tests above could fail."""
    body = [For("v", 16, "vector", (Store("y", (v,), const(1.0)),))]
    made = program([Param("y", DType.F32, (n,), "w")], body, None, ["n"])
    run(made, {"y": np.zeros(16, "f4")}, n=16)
    child = os.fork()
    if child == 0:
        faulthandler.disable()
        run(made, {"y": Guarded().array(np.zeros(15, "f4"), True)}, n=15)
        os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])


def test_an_unaligned_array_is_read_and_written() -> None:
    at = g * 16 + v
    body = [For("v", 16, "vector", (Store("y", (at,), load("x", at)),))]
    made = program(
        [Param("x", DType.F32, (64,), "r"), Param("y", DType.F32, (64,), "w")], body, {"g": 4}
    )
    for shift in range(0, 16):
        x, y = np.arange(80, dtype="f4")[shift : shift + 64], np.zeros(80, "f4")[shift:][:64]
        assert run(made, {"x": x, "y": y}).code == 0
        np.testing.assert_array_equal(x, y)
