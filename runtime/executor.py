"""Calls of a program in the terms of training: steps over data, evaluation, inference."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from typing import Any

import numpy as np

from nnc.ir.model import Port
from nnc.runtime.arrays import Array, admit, bind, check_names, check_range, settled
from nnc.runtime.data.source import Order, Portion, Source, Split
from nnc.runtime.errors import UserError
from nnc.runtime.instance import Bound, Instance
from nnc.runtime.manifest import Manifest
from nnc.runtime.memory import address
from nnc.runtime.names import AVERAGE, ROWS, TRAINABLE, TURNS
from nnc.runtime.totals import Totals
from nnc.runtime.turns import turn_at

CONTIGUOUS_ALIGNED = 0x101
"""NumPy's flags C_CONTIGUOUS and ALIGNED."""


class Repeated:
    """A bound step, ready for further arrays of the same names, types and shapes.

    Small models are called so often that checking everything anew would cost more than the step.
    """

    def __init__(
        self,
        bound: Bound,
        arrays: Mapping[str, Array],
        ports: Mapping[str, Port],
        generation: int,
    ) -> None:
        self.generation = generation
        self._bound = bound
        dims = bind([ports[name] for name in arrays], arrays)
        self._expected = {
            name: (
                array.dtype,
                array.shape,
                bound.place[f"input:{name}"],
                settled(ports[name], dims),
            )
            for name, array in arrays.items()
        }

    def bound_to(self, arrays: Mapping[str, object]) -> Bound | None:
        """Point the step at ``arrays``; None where they need the full checks."""
        record = self._bound.record
        if len(arrays) != len(self._expected):
            return None
        for name, array in arrays.items():
            known = self._expected.get(name)
            if known is None or type(array) is not np.ndarray:
                return None
            dtype, shape, place, port = known
            if array.dtype != dtype or array.shape != shape:
                return None
            if array.flags.num & CONTIGUOUS_ALIGNED != CONTIGUOUS_ALIGNED:
                return None
            if port.low is not None or port.high is not None:
                check_range(port, array)
            record[place] = array.__array_interface__["data"][0]
        return self._bound


class Executor:
    """One program at work. Arrays that native code reads are kept alive while it may."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.manifest: Manifest = instance.manifest
        self.ports: dict[str, Port] = {p.name: p for p in self.manifest.ports}
        self.fitting = threading.RLock()
        self._split: Split | None = None
        self._order: Order | None = None
        self._dims: dict[str, int] = {}
        self._addresses: dict[str, int] = {}
        self._again: dict[str, Repeated] = {}
        self._staging: dict[int, dict[str, Array]] = {}
        self._staged: dict[str, Any] = {}

    # set-up ---------------------------------------------------------------------------------

    def initialise(self, seed: int) -> None:
        """Give every parameter, buffer and optimizer slot its first value; step 0."""
        with self.instance.lock:
            self.set_seed(seed)
            self._system("step", 0)
            self._system("row", 0)
            self.instance.run(self.instance.bind("init", {}))
            self.instance.reset()

    def set_seed(self, seed: int) -> None:
        """Set the seed that all randomness is keyed by."""
        self._system("seed", seed & (2**64 - 1))

    @contextmanager
    def _seeded(self, seed: int | None) -> Iterator[None]:
        """Draw as the first step would under ``seed``, and afterwards go on as before."""
        names = [n for n in ("system:seed", "system:step") if self.instance.has(n)]
        kept = {name: self.instance.tensor(name).copy() for name in names}
        self.set_seed(self.manifest.seed if seed is None else seed)
        self._system("step", 0)
        try:
            yield
        finally:
            for name, value in kept.items():
                self.instance.tensor(name)[...] = value

    def step_count(self) -> int:
        """Return how many steps this program's state has taken."""
        if not self.instance.has("system:step"):
            return 0
        return int(self.instance.tensor("system:step"))

    def _system(self, name: str, value: float) -> None:
        if self.instance.has(f"system:{name}"):
            self.instance.tensor(f"system:{name}")[...] = value

    # single calls ---------------------------------------------------------------------------

    def checked(self, arrays: Mapping[str, object], kinds: tuple[str, ...]) -> dict[str, Array]:
        """Check arrays against the ports of these kinds and return them contiguous."""
        used = [p for p in self.ports.values() if (p.trains if "target" in kinds else p.infers)]
        needed = [p.name for p in used if p.kind in kinds]
        check_names(arrays, self.ports, needed)
        return {name: admit(self.ports[name], arrays[name]) for name in arrays}

    def call(self, entry: str, arrays: Mapping[str, Array]) -> Bound:
        """Run an entry on checked arrays; the caller holds the lock."""
        dims = bind([self.ports[name] for name in arrays], arrays)
        bound = self.instance.bind(entry, dims)
        for name, array in arrays.items():
            bound.point(f"input:{name}", address(array))
        self.instance.run(bound)
        return bound

    def _run(self, entry: str, arrays: Mapping[str, object], kinds: tuple[str, ...]) -> Bound:
        """Check arrays, no more than they need after the call before, and run an entry on them."""
        again = self._again.get(entry)
        if again is not None and again.generation == self.instance.generation:
            bound = again.bound_to(arrays)
            if bound is not None:
                self.instance.run(bound)
                return bound
        good = self.checked(arrays, kinds)
        bound = self.call(entry, good)
        self._again[entry] = Repeated(bound, good, self.ports, self.instance.generation)
        return bound

    def infer(self, arrays: Mapping[str, object], seed: int | None = None) -> dict[str, Array]:
        """Return every output for these inputs, as new arrays.

        What is drawn depends on ``seed`` (the program's own where it is None), not on how far
        training has come.
        """
        if "infer" not in self.manifest.entries:
            raise UserError("E0641", "the model declares no output", (), "add `output name = ...`")
        drawn = "system:seed" in self.manifest.entries["infer"].uses
        with self.instance.lock, self._seeded(seed) if drawn else nullcontext():
            bound = self._run("infer", arrays, ("input",))
            return {n.partition(":")[2]: a.copy() for n, a in bound.outputs.items()}

    def step(self, arrays: Mapping[str, object]) -> dict[str, float]:
        """Take one training step on one batch; return its losses by name."""
        with self.instance.lock:
            self.need_training()
            turn, _ = turn_at(self.manifest.turns, self.step_count())
            bound = self._run(turn.entry("step"), arrays, ("input", "target"))
            return {name: float(bound.outputs[f"loss:{name}"]) for name in turn.losses}

    def need_training(self) -> None:
        """Raise UserError where the program was compiled without a recipe."""
        if not self.manifest.turns:
            raise UserError(
                "E0642",
                "this program cannot train",
                (),
                "the model needs a loss, and the file a train block",
            )

    # weights --------------------------------------------------------------------------------

    def has_average(self) -> bool:
        """Whether the recipe keeps a moving average of the weights."""
        return self.instance.has(AVERAGE)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Let the weights be their moving average, where the recipe keeps one, for a while."""
        if not self.has_average() or not self.step_count():
            yield
            return
        weights, average = self.instance.tensor(TRAINABLE), self.instance.tensor(AVERAGE)
        with self.instance.lock:
            kept = weights.copy()
            weights[...] = average
            try:
                yield
            finally:
                weights[...] = kept

    def copy_weights(self) -> dict[str, Array]:
        """Return copies of all parameters and buffers, by path, as they are evaluated."""
        with self.averaged():
            paths = [p.path for p in self.manifest.parameters]
            return {path: self.instance.tensor(f"state:{path}").copy() for path in paths}

    def put_weights(self, weights: Mapping[str, Array]) -> None:
        """Set parameters and buffers by path; they must have their shapes."""
        with self.instance.lock:
            for path, array in weights.items():
                self.instance.tensor(f"state:{path}")[...] = array
                if self.has_average() and self.instance.has_part(path):
                    self.instance.part(AVERAGE, path)[...] = array

    # evaluation -----------------------------------------------------------------------------

    def evaluate(self, source: Source, batch: int) -> dict[str, float]:
        """Return every loss and metric over all rows of a source."""
        if "evaluate" not in self.manifest.entries:
            return {}
        totals = Totals(self.manifest.summaries)
        dims: dict[str, int] = {}
        with closing(source.in_order(batch)) as portions:
            for portion in portions:
                # not held while rows are read: what reads them may use the program too
                with self.instance.lock:
                    dims = self._evaluate(portion, totals)
        with self.instance.lock:
            return self._finish(totals, dims)

    def _evaluate(self, portion: Portion, totals: Totals) -> dict[str, int]:
        """Take rows that come in their own order into ``totals``; return the last call's dims."""
        dims: dict[str, int] = {}
        for start in range(0, portion.rows, portion.batch):
            stop = min(start + portion.batch, portion.rows)
            arrays = portion.split.batch(start, stop)
            self._system("row", totals.rows)
            bound = self.call("evaluate", arrays)
            dims = bind([self.ports[name] for name in arrays], arrays)
            partials = {n.partition(":")[2]: a for n, a in bound.outputs.items()}
            totals.add(partials, stop - start)
        self._system("row", 0)
        return dims

    def _finish(self, totals: Totals, dims: dict[str, int]) -> dict[str, float]:
        found: dict[str, float] = {}
        values: dict[str, Array] = {}
        if "finish" in self.manifest.entries:
            if self.manifest.batch is not None:
                dims = {**dims, self.manifest.batch: totals.rows}
            bound = self.instance.bind("finish", dims, of_a_call=False)
            types = {b.name: b.dtype.numpy for b in self.manifest.buffers}
            for name, value in totals.values.items():
                if f"total:{name}" in types:
                    kept = np.ascontiguousarray(value.astype(types[f"total:{name}"]))
                    values[name] = kept
                    bound.point(f"total:{name}", address(kept))
            self.instance.run(bound)
            found = {n.partition(":")[2]: float(a) for n, a in bound.outputs.items()}
        for summary in self.manifest.summaries:
            if summary.by_rows:
                found[summary.name] = totals.average(summary)
        return {s.name: found[s.name] for s in self.manifest.summaries}

    # epochs ---------------------------------------------------------------------------------

    def begin_epoch(self) -> None:
        """Begin the sums of losses anew."""
        for name in self.manifest.losses:
            self._system(f"sum.{name}", 0.0)
            self._system(f"rows.{name}", 0.0)

    def draw_from(self, split: Split, order: Order) -> None:
        """Set the rows that the following steps draw from, and the order they are drawn in."""
        staged = {name: (a.shape[1:], a.dtype) for name, a in split.cut.items()}
        if staged != self._staged:
            self._staging.clear()
        self._split, self._order, self._staged = split, order, staged
        arrays = {**split.cut, **split.whole}
        self._dims = bind([self.ports[name] for name in arrays], arrays)
        self._addresses = {f"data:{name}": address(array) for name, array in split.cut.items()}
        if split.cut:
            self._addresses["data:*order"] = address(order)
        for name, array in split.whole.items():
            self._addresses[f"input:{name}"] = address(array)

    def end_epoch(self) -> None:
        """Let go of the rows that steps drew from."""
        self._split = self._order = None
        self._addresses = {}

    def losses(self) -> dict[str, float]:
        """Return the mean of each loss over the rows of this epoch so far that it was taken on."""
        found: dict[str, float] = {}
        for name in self.manifest.losses:
            rows = float(self.instance.tensor(f"system:rows.{name}"))
            if rows:
                found[name] = float(self.instance.tensor(f"system:sum.{name}")) / rows
        return found

    def steps(self, batch: int, count: int, start: int, accumulate: int) -> None:
        """Take ``count`` steps of ``accumulate`` batches each, from row ``start`` of the order."""
        with self.instance.lock:
            if accumulate == 1:
                self._system("start", start)
                self._take(batch, count)
                return
            group = batch * accumulate
            for first in range(start, start + count * group, group):
                self._accumulated([batch] * accumulate, first)

    def last_step(self, batch: int, rows: int, start: int) -> None:
        """Take one step on the ``rows`` left over, in batches no larger than ``batch``."""
        with self.instance.lock:
            if rows <= batch:
                self._system("start", start)
                self._take(rows, 1)
                return
            sizes = [batch] * (rows // batch) + ([rows % batch] if rows % batch else [])
            self._accumulated(sizes, start)

    def _take(self, batch: int, count: int) -> None:
        """Take steps from here on, whosever turn each is; whole rounds are one native call."""
        turns = self.manifest.turns
        rounds = sum(t.times for t in turns)
        while count > 0:
            turn, left = turn_at(self.manifest.turns, self.step_count())
            if len(turns) > 1 and turn is turns[0] and left == turn.times and count >= rounds:
                self._draw("cycle", batch, count // rounds)
                count %= rounds
            else:
                run = count if len(turns) == 1 else min(left, count)
                self._draw(turn.entry("steps"), batch, run)
                count -= run

    def _accumulated(self, sizes: list[int], start: int) -> None:
        turn, _ = turn_at(self.manifest.turns, self.step_count())
        total = sum(sizes)
        seen = 0
        for number, rows in enumerate(sizes):
            self._system("start", start + seen)
            self._system("row", seen)
            self._draw(turn.entry("micro"), rows, 1)
            self._system("weight", rows / total)
            self._system("keep", 0.0 if number == 0 else 1.0)
            last = number == len(sizes) - 1
            self.instance.run(self.instance.bind("merge" if last else "hold", {}))
            seen += rows
        self._system("row", 0)
        self.instance.run(self.instance.bind(turn.entry("update"), {}))
        if "average" in self.manifest.entries:
            self.instance.run(self.instance.bind("average", {}))

    def _draw(self, entry: str, batch: int, turns: int) -> None:
        split = self._split
        assert split is not None, "draw_from comes first"
        dims = {**self._dims, ROWS: split.rows, TURNS: 1}
        if self.manifest.batch is not None:
            dims[self.manifest.batch] = batch
        bound = self.instance.bind(entry, dims)
        bound.set_dim(TURNS, turns)
        staging = self._staging.get(batch)
        if staging is None:
            block = self.instance.block
            staging = {n: block((batch, *a.shape[1:]), a.dtype) for n, a in split.cut.items()}
            self._staging[batch] = staging
        for name, where in self._addresses.items():
            bound.point(name, where)
        for name, array in staging.items():
            bound.point(f"input:{name}", address(array))
        self.instance.run(bound)
