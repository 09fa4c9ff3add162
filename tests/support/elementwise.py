"""Programs of one scalar operation over arrays, run by the interpreter or as native code."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import mpmath
import numpy as np

from nnc.backends.llvm import LLVMBackend
from nnc.backends.llvm.calling import call
from nnc.ir import loops
from nnc.ir.index import axis, dim
from nnc.ir.loops_interpret import Machine
from nnc.ir.types import DType
from nnc.passes.math import expand

LANES = 16
BASELINE = {"cpu": "x86-64", "features": ""}


@functools.cache
def program(op: str, types: tuple[DType, ...], result: DType) -> loops.Program:
    """``y = op(a0, a1, ...)`` over [rows, 16], with ``op`` expanded."""
    place = (axis("i"), axis("j"))
    extents = (dim("rows"), LANES)
    args = tuple(loops.Load(f"a{k}", place, t) for k, t in enumerate(types))
    store = loops.Store("y", place, loops.Op(op, args, result))
    return expand(of_kernel((store,), [*types, result], extents))


def of_kernel(
    body: tuple[loops.Stmt, ...], types: list[DType], extents: tuple[loops.Size, ...]
) -> loops.Program:
    """A program with one kernel of 16 lanes over operands ``a0``, ... and the result ``y``."""
    names = [*(f"a{k}" for k in range(len(types) - 1)), "y"]
    params = tuple(
        loops.Param(name, t, extents, "w" if name == "y" else "r")
        for name, t in zip(names, types, strict=True)
    )
    buffers = tuple(loops.Buffer(p.name, p.dtype, extents, "state") for p in params)
    loop = loops.For("j", LANES, "vector", body)
    kernel = loops.Kernel("k", params, ("rows",), ("i",), (loop,))
    entry = loops.Entry("main", ("rows",), (loops.Launch("k", tuple(names), (dim("rows"),)),))
    return loops.Program("p", ("rows",), buffers, (), (kernel,), (entry,))


def interpret(of: loops.Program, *args: np.ndarray, fused: bool = True) -> np.ndarray:
    """The result of a program of ``of_kernel`` on arrays of equal length."""
    buffers, count = _buffers(of, args)
    rows = len(buffers["y"])
    Machine(of, {"rows": rows}, buffers, races=False, fused=fused).run("main")
    return buffers["y"].reshape(-1)[:count]


@functools.cache
def _native(of: loops.Program, options: tuple[tuple[str, str], ...]):
    backend = LLVMBackend()
    return backend.load(backend.compile(of, dict(options)), of.name)


def native(
    of: loops.Program, *args: np.ndarray, options: Mapping[str, str] | None = None
) -> np.ndarray:
    """The same, by compiled code."""
    buffers, count = _buffers(of, args)
    code = _native(of, tuple((options or {}).items()))
    assert call(code, of, "main", {"rows": len(buffers["y"])}, buffers).code == 0
    return buffers["y"].reshape(-1)[:count]


def _buffers(of: loops.Program, args: tuple[np.ndarray, ...]) -> tuple[dict[str, np.ndarray], int]:
    count = args[0].size
    rows = -(-count // LANES)
    padded = [np.resize(a, (rows, LANES)) for a in args]
    buffers = {f"a{k}": a for k, a in enumerate(padded)}
    buffers["y"] = np.empty((rows, LANES), of.buffers[-1].dtype.numpy)
    return buffers, count


def errors(found: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Errors in units of the last place of the exact result, which has a wider type.

    A wrong infinity, NaN or sign of zero counts as infinitely wrong.
    """
    with np.errstate(all="ignore"):
        wanted = exact.astype(found.dtype)
        unit = np.spacing(np.abs(wanted)).astype(exact.dtype)
        finite = np.isfinite(wanted) & np.isfinite(found)
        same = (found == wanted) & (np.signbit(found) == np.signbit(wanted))
        same |= np.isnan(found) & np.isnan(wanted)
        wrong = ~same & (~finite | ((found == 0) & (wanted == 0)))
        distance = np.abs(found.astype(exact.dtype) - exact) / unit
    return np.where(wrong, np.inf, np.where(finite, distance, 0.0))


def errors_f64(
    found: np.ndarray, exact: Callable[..., mpmath.mpf], *args: np.ndarray, bits: int = 160
) -> np.ndarray:
    """Errors of f64 results in units of the last place, against mpmath."""
    result = np.empty(found.size)
    with mpmath.workprec(bits):
        for k, y in enumerate(found):
            want = exact(*(mpmath.mpf(float(a[k])) for a in args))
            near = float(want)
            if near == 0 or np.isinf(near):
                result[k] = 0 if y == near else np.inf
            else:
                unit = mpmath.mpf(float(np.spacing(abs(near))))
                result[k] = abs(mpmath.mpf(float(y)) - want) / unit if np.isfinite(y) else np.inf
    return result
