"""Runs loop IR on NumPy: the meaning of every step, and the proof that a program is safe.

All tasks of a launch run together, statement by statement (``loops_execute``). Since tasks are
independent this is one of the orders in which they may run; that they are independent is checked
by recording who touches each element between barriers (``loops_memory``).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nnc.ir import loops
from nnc.ir.index import Axis, Dim, Poly, Size
from nnc.ir.loops_execute import Body, Fault, Names, Scope, cell_bytes, evaluate
from nnc.ir.loops_memory import CellStore, LoopError, Memory, View, poison
from nnc.ir.types import DType

__all__ = ["Fault", "LoopError", "Machine"]

_CHUNK_BYTES = 1 << 26
_MAX_TASKS = 1 << 14


class Machine:
    """A program, its dims, and its memory.

    ``buffers`` gives arrays for buffers by name (any shape, of the buffer's size and type,
    contiguous); they are read and written in place. The others are made here: scratch starts
    poisoned at every run, and whatever else is not given starts poisoned once. With ``races``
    off, what tasks touch is not recorded. ``fused`` says whether ``mad`` rounds once.

    ``counts`` maps (operation, type) to how many scalar operations have run, lanes that a mask
    later drops included; ``faults`` holds the failed checks.

    Raises:
        ValueError: an array does not fit its buffer, or there is no such buffer.
    """

    def __init__(
        self,
        program: loops.Program,
        dims: Mapping[str, int],
        buffers: Mapping[str, npt.NDArray[Any]],
        *,
        races: bool = True,
        fused: bool = True,
    ) -> None:
        self.program = program
        self.counts: Counter[tuple[str, DType]] = Counter()
        self.faults: list[Fault] = []
        self._races, self._fused = races, fused
        self._dims: Names = {Dim(name): value for name, value in dims.items()}
        self._kernels = {k.name: k for k in program.kernels}
        self._functions = {f.name: f for f in program.functions}
        self._views: dict[str, View] = {}
        self._moving: dict[str, loops.Buffer] = {}
        self._scratch: list[tuple[Memory, DType]] = []
        self._epoch = self._next_task = 0
        unknown = set(buffers) - {b.name for b in program.buffers}
        if unknown:
            raise ValueError(f"{program.name} has no buffer {min(unknown)}")
        for buffer in program.buffers:
            self._views[buffer.name] = self._lay(buffer, buffers.get(buffer.name))

    def array(self, name: str) -> npt.NDArray[Any]:
        """The contents of a buffer in its shape, as a view of its memory."""
        view = self._views[name]
        shape = tuple(int(e) for e in view.extents)
        start = int(view.offset)
        return view.memory.data[start : start + math.prod(shape)].reshape(shape)

    @property
    def multiply_adds(self) -> int:
        """How many floating-point ``mad`` operations have run."""
        return sum(n for (op, dtype), n in self.counts.items() if op == "mad" and dtype.is_float)

    def run(self, entry: str) -> None:
        """Run an entry.

        Raises:
            LoopError: an access out of bounds, a value never set, or a race between tasks.
            KeyError: there is no such entry.
        """
        found = {e.name: e for e in self.program.entries}[entry]
        for memory, dtype in self._scratch:
            memory.data[:] = poison(dtype, memory.data.size)
        self._barrier()
        with np.errstate(all="ignore"):
            self._steps(found.steps, self._dims)

    def _lay(self, buffer: loops.Buffer, given: npt.NDArray[Any] | None) -> View:
        shape = _shape(buffer.extents, self._dims)
        if buffer.inside is not None:
            outer = self._views[buffer.inside]
            if isinstance(buffer.offset, Poly):
                self._moving[buffer.name] = buffer
                return View(outer.memory, outer.offset, shape, buffer.dtype, "rw", buffer.name)
            start = int(outer.offset) + buffer.offset
            if start + math.prod(shape) > outer.memory.data.size:
                raise ValueError(f"{buffer.name} does not lie inside {buffer.inside}")
            return View(outer.memory, start, shape, buffer.dtype, "rw", buffer.name)
        if given is None:
            memory = Memory(buffer.name, poison(buffer.dtype, math.prod(shape)), self._races)
        else:
            memory = Memory(buffer.name, _flat(buffer, shape, given), self._races)
        if buffer.space == "scratch":
            self._scratch.append((memory, buffer.dtype))
        return View(memory, 0, shape, buffer.dtype, "rw", buffer.name)

    def _view(self, name: str, names: Names) -> View:
        """The buffer ``name`` where it lies in this turn of the loops around it."""
        view = self._views[name]
        buffer = self._moving.get(name)
        if buffer is None:
            return view
        assert buffer.inside is not None
        outer = self._view(buffer.inside, names)
        start = int(outer.offset) + int(evaluate(buffer.offset, names))
        size = math.prod(int(e) for e in view.extents)
        if start < 0 or start + size > outer.memory.data.size:
            raise LoopError(f"{name} does not lie inside {buffer.inside}")
        return View(view.memory, start, view.extents, view.dtype, "rw", name)

    def _barrier(self) -> None:
        self._epoch = self._next_task

    def _steps(self, steps: Sequence[loops.Step], names: Names) -> None:
        for step in steps:
            match step:
                case loops.Launch():
                    self._launch(step, names)
                case loops.Barrier():
                    self._barrier()
                case loops.Repeat(axis, extent, body):
                    for turn in range(int(evaluate(extent, names))):
                        self._steps(body, {**names, Dim(axis): turn, Axis(axis): turn})
                case loops.When(conditions, then, otherwise):
                    taken = all(int(evaluate(c, names)) >= 0 for c in conditions)
                    self._steps(then if taken else otherwise, names)

    def _launch(self, step: loops.Launch, outer: Names) -> None:
        kernel = self._kernels[step.kernel]
        names: Names = {Dim(d): outer[Dim(d)] for d in kernel.dims}
        tensors: dict[str, View | CellStore] = {}
        for param, name in zip(kernel.params, step.views, strict=True):
            tensors[param.name] = _bind(param, self._view(name, outer), names)
        grid = _shape(step.extents, outer)
        total = math.prod(grid)
        chunk = min(_MAX_TASKS, max(1, _CHUNK_BYTES // cell_bytes(kernel.body, self._functions)))
        body = Body(self._functions, self.counts, self.faults, self._races, self._fused)
        body.epoch = self._epoch
        for first in range(0, total, chunk):
            number = np.arange(first, min(first + chunk, total), dtype=np.int64)[:, None]
            scope = Scope(dict(names), {}, dict(tensors), len(number), number + self._next_task)
            for axis, extent in zip(reversed(kernel.grid), reversed(grid), strict=True):
                place = number % extent
                scope.names[Axis(axis)] = place if len(place) > 1 else int(place[0, 0])
                number = number // extent
            try:
                body.block(kernel.body, scope)
            except LoopError as e:
                raise LoopError(f"kernel {kernel.name}: {e}") from e
        self._next_task += total


def _shape(extents: Sequence[Size], names: Names) -> tuple[int, ...]:
    return tuple(int(evaluate(e, names)) for e in extents)


def _flat(buffer: loops.Buffer, shape: tuple[int, ...], given: npt.NDArray[Any]) -> Any:
    """The elements of ``given`` in one dim, without a copy."""
    if given.dtype != buffer.dtype.numpy or given.size != math.prod(shape):
        raise ValueError(
            f"{buffer.name} is {buffer.dtype}{list(shape)}, not {given.dtype}{list(given.shape)}"
        )
    if not given.flags.c_contiguous:
        raise ValueError(f"the array for {buffer.name} is not contiguous")
    return given.reshape(-1)


def _bind(param: loops.Param, view: View, names: Names) -> View:
    extents = _shape(param.extents, names)
    have = tuple(int(e) for e in view.extents)
    if param.dtype is not view.dtype or math.prod(extents) != math.prod(have):
        raise LoopError(
            f"parameter {param.name} is {param.dtype}{list(extents)}, but {view.name} is "
            f"{view.dtype}{list(have)}"
        )
    return View(view.memory, view.offset, extents, view.dtype, param.access, param.name)
