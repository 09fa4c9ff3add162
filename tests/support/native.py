"""Small loop programs for tests of backends, and running them natively beside the interpreter."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import numpy as np

from nnc.backends.llvm import LLVMBackend, LLVMCode
from nnc.backends.llvm.calling import Result, call
from nnc.backends.llvm.team import ticket
from nnc.ir import loops
from nnc.ir.expr import Const, Position
from nnc.ir.index import Size
from nnc.ir.loops_interpret import Machine
from nnc.ir.types import DType

F32, I64, I32, BOOL = DType.F32, DType.I64, DType.I32, DType.BOOL
BACKEND = LLVMBackend()


def op(name: str, *args: loops.Expr, dtype: DType | None = None) -> loops.Op:
    """An operation of its first operand's type."""
    return loops.Op(name, args, dtype or args[0].dtype)


def less(a: Size, b: Size) -> loops.Op:
    """Whether one position lies before another."""
    return loops.Op("lt", (Position(a), Position(b)), BOOL)


def const(value: float, dtype: DType = F32) -> Const:
    return Const(value, dtype)


def load(
    source: str,
    *index: Size,
    dtype: DType = F32,
    mask: loops.Expr | None = None,
    other: loops.Expr | None = None,
) -> loops.Load:
    """A load; where there is a mask, what is outside it is 0 if nothing else is said."""
    if mask is not None and other is None:
        other = Const(0, dtype)
    return loops.Load(source, tuple(index), dtype, mask, other)


def program(
    params: Sequence[loops.Param],
    body: Sequence[loops.Stmt],
    grid: Mapping[str, Size] | None = None,
    dims: Sequence[str] = (),
    functions: Sequence[loops.Function] = (),
) -> loops.Program:
    """A program of one kernel, entry ``go``, whose buffers are called as its parameters are."""
    grid = grid or {}
    kernel = loops.Kernel("k", tuple(params), tuple(dims), tuple(grid), tuple(body))
    buffers = tuple(loops.Buffer(p.name, p.dtype, p.extents, "state") for p in params)
    launch = loops.Launch("k", tuple(p.name for p in params), tuple(grid.values()))
    entry = loops.Entry("go", tuple(dims), (launch,))
    return loops.Program("tried", tuple(dims), buffers, tuple(functions), (kernel,), (entry,))


@functools.lru_cache(maxsize=64)
def compiled(made: loops.Program, options: tuple[tuple[str, str], ...] = ()) -> LLVMCode:
    """Load a program; even the smallest launch is shared among threads."""
    return BACKEND.load(BACKEND.compile(made, {"grain": "0", **dict(options)}), made.name)


def run(
    made: loops.Program,
    arrays: Mapping[str, np.ndarray],
    threads: int = 1,
    entry: str = "go",
    **dims: int,
) -> Result:
    """Run natively, in place."""
    return call(compiled(made), made, entry, dims, arrays, ticket(threads))


def check(
    made: loops.Program,
    arrays: Mapping[str, np.ndarray],
    threads: Sequence[int] = (1, 3),
    entry: str = "go",
    **dims: int,
) -> dict[str, np.ndarray]:
    """Run natively and by the interpreter: all bits must be equal. Return the arrays after."""
    expected = {name: array.copy() for name, array in arrays.items()}
    machine = Machine(made, dims, {n: a.reshape(-1) for n, a in expected.items()})
    machine.run(entry)
    for count in threads:
        have = {name: array.copy() for name, array in arrays.items()}
        result = run(made, have, count, entry, **dims)
        assert result.faults == len(machine.faults)
        for name, want in expected.items():
            np.testing.assert_array_equal(have[name], want, err_msg=f"{name}, {count} threads")
            assert have[name].tobytes() == want.tobytes(), name
    return expected
