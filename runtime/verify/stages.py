"""Each stage of compilation held against the one before it, on the same arrays.

The graph as it was assembled is computed by the interpreter; after each pass it must give the same
numbers. The loops, fused and not, and the native code must give those of the finished graph; the
native code must give the same bits on any number of threads, and twice.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from nnc.frontend.diagnostics import SourceError
from nnc.ir import loops
from nnc.ir.graph import Graph
from nnc.ir.loops_interpret import LoopError, Machine
from nnc.runtime.arrays import Array
from nnc.runtime.assemble import Assembly
from nnc.runtime.errors import UserError
from nnc.runtime.verify.report import FAILED, LEFT_OUT, OK, Check, Difference, first_difference
from nnc.runtime.verify.world import Arrays, World, interpreted, work_of

T = TypeVar("T")
THREADS = (2, 3, 5)
"""Counts of threads whose bits must be those of one."""
BITS = f"bits on {', '.join(map(str, THREADS))} threads, twice"
POINTS_A_SECOND = 5e6
"""What the interpreter of graphs does at the least."""
LOOPS_SLOWER = 30
"""How much slower the interpreter of loops is."""
RELATIVE = {4: 2e-4, 8: 1e-9, 2: 2e-2}
"""By an element's bytes: what rounding in another order may change, of a tensor's largest."""
ABSOLUTE = {4: 2e-6, 8: 1e-13, 2: 1e-3}
"""The same, of the largest of all tensors of an entry: what is left where numbers cancel."""

Results = Mapping[tuple[str, str], Array]


@dataclass
class Clock:
    """The time there is, and what was left out for lack of it."""

    seconds: float
    began: float = field(default_factory=time.perf_counter)

    def left(self) -> float:
        """Return the seconds that are left."""
        return self.seconds - (time.perf_counter() - self.began)


def compare(expected: Results, found: Results) -> Difference | None:
    """Return the first difference beyond rounding between two sets of tensors."""
    floats = [a for a in expected.values() if a.dtype.kind == "f" and a.size]
    finite = [np.abs(a[np.isfinite(a)]).max(initial=0.0) for a in floats]
    whole = max(map(float, finite), default=0.0)
    for key, want in expected.items():
        wrong = _wrong(want, found[key], whole)
        if wrong.any():
            return first_difference(":".join(key), want, found[key], wrong)
    return None


def _wrong(want: Array, have: Array, whole: float) -> Array:
    if want.dtype.kind != "f":
        return np.asarray(want != have)
    with np.errstate(all="ignore"):
        size = float(np.abs(want[np.isfinite(want)]).max(initial=0.0))
        allowed = RELATIVE[want.itemsize] * size + ABSOLUTE[want.itemsize] * whole
        near = np.abs(want.astype(np.float64) - have.astype(np.float64)) <= allowed
    same = (want == have) | (np.isnan(want) & np.isnan(have))
    return np.asarray(~(near | same))


@dataclass
class Stages:
    """Runs the stages of one assembled program and keeps what they found."""

    assembly: Assembly
    world: World
    clock: Clock
    checks: list[Check] = field(default_factory=list)
    graphs: dict[str, Graph] = field(default_factory=dict)
    expected: dict[str, Results] = field(default_factory=dict)

    def passes_and_native(self) -> None:
        """Run the stages that take little time: the passes over the graph, and native code."""
        for entry in self.assembly.graphs:
            self._passes(entry)
        self._native()

    def through_loops(self) -> None:
        """Run the loops, fused and not, by their own interpreter, which is slow."""
        for fuse in (False, True):
            self._loops(fuse)

    def add(self, stage: str, entry: str, began: float, problem: str | Difference | None) -> bool:
        """Keep how a check went; return whether it is well."""
        status = OK if problem is None else FAILED
        difference = problem if isinstance(problem, Difference) else None
        seconds = time.perf_counter() - began
        detail = "" if problem is None else str(problem)
        self.checks.append(Check(stage, entry, status, detail, difference, seconds))
        return problem is None

    def leave_out(self, stage: str, entry: str, why: str) -> None:
        """Keep that a check was not made."""
        self.checks.append(Check(stage, entry, LEFT_OUT, why))

    def attempt(self, stage: str, entry: str, make: Callable[[], T]) -> T | None:
        """Return what ``make`` returns; keep it as a failure where the compiler itself breaks."""
        began = time.perf_counter()
        try:
            return make()
        except (SourceError, UserError):
            raise
        except Exception as fault:  # whatever it is, it is what the report is for
            last = traceback.extract_tb(fault.__traceback__)[-1]
            where = f"{'/'.join(Path(last.filename).parts[-3:])}:{last.lineno}"
            self.add(stage, entry, began, f"{type(fault).__name__} at {where}: {fault}")
            return None

    def native(self) -> Native:
        """Return the native code of all entries."""
        return Native(self.program(True), self.world)

    # graphs -------------------------------------------------------------------------------------

    def _passes(self, entry: str) -> None:
        from nnc.ir.verify import VerifyError, verify
        from nnc.passes import pipeline

        graph = self.assembly.graphs[entry]
        if not self._time_for("interpreter", entry, graph, 1):
            made = self.attempt("passes", entry, partial(pipeline.optimize, graph))
            if made is not None:
                self.graphs[entry] = made
            return
        began = time.perf_counter()
        before = interpreted(graph, self.world)
        self.add("interpreter", entry, began, None)
        options, good = pipeline.GraphOptions(), True
        for step in pipeline.PIPELINE:
            began = time.perf_counter()
            made = self.attempt(f"pass {step.name}", entry, partial(step.run, graph, options))
            if made is None:
                return
            graph = made
            if not good or not self._time_for(f"pass {step.name}", entry, graph, 1):
                continue
            problem: str | Difference | None = None
            try:
                verify(graph)
                after = interpreted(graph, self.world)
                problem = compare(before, after)
            except VerifyError as fault:
                problem = f"the graph is malformed: {fault}"
            good = self.add(f"pass {step.name}", entry, began, problem)
        self.graphs[entry] = graph
        self.expected[entry] = before if good else interpreted(graph, self.world)

    def _time_for(self, stage: str, entry: str, graph: Graph, factor: float) -> bool:
        needed = factor * work_of(graph, self.world.dims) / POINTS_A_SECOND
        if needed <= self.clock.left():
            return True
        self.leave_out(stage, entry, f"would take some {needed:.0f} s; --seconds gives more")
        return False

    # loops --------------------------------------------------------------------------------------

    def program(self, fuse: bool) -> loops.Program:
        """Return the loops of all entries, with operations that every backend has."""
        from nnc.passes.lower import LowerOptions, lower
        from nnc.passes.math import expand

        layout = list(self.assembly.layout.values())
        name = self.assembly.model.name
        return expand(lower(name, self.graphs, layout, LowerOptions(fuse=fuse)))

    def _loops(self, fuse: bool) -> None:
        stage = "loops, fused" if fuse else "loops, not fused"
        program = self.attempt(stage, "", partial(self.program, fuse))
        for entry in self.expected if program is not None else ():
            assert program is not None
            if self._time_for(stage, entry, self.graphs[entry], LOOPS_SLOWER):
                began = time.perf_counter()
                problem, _ = self._outcome(entry, partial(self._interpreted, program, entry))
                self.add(stage, entry, began, problem)

    def _interpreted(self, program: loops.Program, entry: str, arrays: Arrays) -> str | None:
        dims = {d: self.world.dims.get(d, 1) for d in program.dims}
        try:
            machine = Machine(program, dims, arrays)
            machine.run(entry)
        except LoopError as fault:
            return str(fault)
        return f"{machine.faults[0]}" if machine.faults else None

    # native code --------------------------------------------------------------------------------

    def _native(self) -> None:
        native = self.attempt("native code", "", self.native)
        for entry in self.graphs if native is not None else ():
            assert native is not None
            began = time.perf_counter()
            problem, after = self._outcome(entry, partial(native.run, entry, 1))
            if entry in self.expected:
                self.add("native code", entry, began, problem)
            began = time.perf_counter()
            self.add(BITS, entry, began, self._bits(entry, after, native))

    def _bits(self, entry: str, one: Arrays, native: Native) -> str | Difference | None:
        for count in (1, *THREADS, *THREADS):
            _, other = self._outcome(entry, partial(native.run, entry, count))
            for name, want in one.items():
                have = other[name]
                if want.tobytes() != have.tobytes():
                    wrong = np.asarray(_bits_of(want) != _bits_of(have))
                    return first_difference(f"{name} on {count} threads", want, have, wrong)
        return None

    def _outcome(
        self, entry: str, run: Callable[[Arrays], str | None]
    ) -> tuple[str | Difference | None, Arrays]:
        """Run an entry on new copies of all arrays; return what is wrong, and the arrays after."""
        arrays = self.world.copy()
        problem: str | Difference | None = run(arrays)
        wanted = self.expected.get(entry)
        if problem is None and wanted is not None:
            found = {key: self.world.look(":".join(key), arrays) for key in wanted}
            problem = compare(wanted, found)
        return problem, arrays


def _bits_of(array: Array) -> Array:
    return np.ascontiguousarray(array).view(f"u{array.itemsize}").reshape(array.shape)


class Native:
    """Native code of a program, in which threads share even the smallest launch."""

    def __init__(self, program: loops.Program, world: World) -> None:
        from nnc.backends.llvm import LLVMBackend

        backend = LLVMBackend()
        self._program = program
        self._world = world
        self._code = backend.load(backend.compile(program, {"grain": "0"}), program.name)

    def run(self, entry: str, threads: int, arrays: Arrays) -> str | None:
        """Run an entry in place; return what went wrong, if anything did."""
        from nnc.backends.llvm.calling import call
        from nnc.backends.llvm.team import ticket

        dims = {d: self._world.dims.get(d, 1) for d in self._program.dims}
        result = call(self._code, self._program, entry, dims, arrays, ticket(threads))
        if result.faults:
            site = self._program.sites[result.site]
            return f"{site.what} is {result.value}, outside {site.tensor}"
        return None if result.code == 0 else f"the call ended with code {result.code}"
