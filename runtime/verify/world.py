"""Sizes and arrays for a model that nobody gave any: small, random, and within what it declares."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnc.ir.graph import Form, Graph
from nnc.ir.index import dims_of, evaluate
from nnc.ir.interpret import IndexFault
from nnc.ir.interpret import evaluate as interpret
from nnc.ir.loops import Buffer
from nnc.ir.model import Model, Port
from nnc.ir.types import DType
from nnc.runtime.arrays import Array, settled
from nnc.runtime.assemble import Assembly
from nnc.runtime.compile import condition_of
from nnc.runtime.conditions import dims_in, holds
from nnc.runtime.errors import UserError, nearest
from nnc.runtime.names import ROWS

LARGEST = 12
TRIES = 20_000
NOISE = 0.05
FIRST_STEP = 3
"""The step of training that is looked at: an optimizer's first may be special."""

Arrays = dict[str, Array]
"""Arrays by the name of their buffer, ``space:name``."""


def choose_dims(model: Model, given: Mapping[str, int]) -> dict[str, int]:
    """Return small sizes for all symbolic dims that the model's requirements allow.

    Raises UserError E0670 for a dim that the model does not have, E0671 where none are found.
    """
    for name in given:
        if name not in model.dims:
            guess = nearest(name, list(model.dims))
            known = ", ".join(model.dims) or "none"
            raise UserError(
                "E0670",
                f"the model has no symbolic dim '{name}'",
                (f"it has: {known}",),
                f"did you mean '{guess}'?" if guess else None,
            )
    free = [name for name in model.dims if name not in given]
    for sizes in _candidates(len(free)):
        dims = {**dict(zip(free, sizes, strict=True)), **given}
        if _allowed(model, dims):
            return dims
    raise UserError(
        "E0671",
        f"no sizes were found for {', '.join(free) or 'the dims given'}",
        tuple(r.message for r in model.requirements),
        f"give them: --dims {(free or list(given) or ['batch'])[0]}=4",
    )


def _candidates(count: int) -> Iterator[tuple[int, ...]]:
    """Yield sizes: unlike one another and odd first, so that mixed-up dims show."""
    yield tuple(itertools.islice(itertools.cycle((3, 5, 7, 4, 6)), count))
    yield from itertools.islice(itertools.product(range(2, LARGEST + 1), repeat=count), TRIES // 4)
    draw = random.Random(0)
    for _ in range(TRIES):
        most = draw.choice((4, LARGEST, 4 * LARGEST, 32 * LARGEST))
        yield tuple(draw.randint(1, most) for _ in range(count))


def _allowed(model: Model, dims: Mapping[str, int]) -> bool:
    for requirement in model.requirements:
        condition = condition_of(requirement)
        if dims_in(condition) <= dims.keys() and not holds(condition, dims):
            return False
        if any(evaluate(f, dims) < 0 for f in requirement.facts):
            return False
    return all(evaluate(s, dims) >= 1 for p in model.ports for s in p.type.shape)


@dataclass
class World:
    """Arrays for every buffer that some entry reads, the same for all who run it."""

    assembly: Assembly
    dims: dict[str, int]
    seed: int

    def __post_init__(self) -> None:
        self._draw = np.random.default_rng(self.seed)
        rows = self.dims.get(self.assembly.model.batch or "", 1) + 2
        self.dims = {**self.dims, ROWS: rows}
        self._ports = {p.name: p for p in self.assembly.model.ports}
        self.arrays: Arrays = {}
        for name, buffer in self.assembly.layout.items():
            if buffer.inside is None:
                self.arrays[name] = self._first(name, buffer)
        self._parameters()
        self._slots()
        self._totals()

    def leaves(self, arrays: Mapping[str, Array] | None = None) -> dict[tuple[str, str], Array]:
        """Return what the interpreter of graphs is given."""
        have = self.arrays if arrays is None else arrays
        found = {}
        for name, buffer in self.assembly.layout.items():
            if self._root(buffer)[0] in have:
                space, _, short = name.partition(":")
                found[space, short] = self.look(name, have)
        return found

    def look(self, name: str, arrays: Mapping[str, Array]) -> Array:
        """Return the buffer ``name`` among ``arrays``, which may lie inside another."""
        buffer = self.assembly.layout[name]
        root, start = self._root(buffer)
        shape = tuple(evaluate(e, self.dims) for e in buffer.extents)
        count = int(np.prod(shape, dtype=np.int64))
        return arrays[root].reshape(-1)[start : start + count].reshape(shape)

    def copy(self) -> Arrays:
        """Return the arrays anew, for one run."""
        return {name: array.copy() for name, array in self.arrays.items()}

    def _root(self, buffer: Buffer) -> tuple[str, int]:
        start = 0
        while buffer.inside is not None:
            start += evaluate(buffer.offset, self.dims)
            buffer = self.assembly.layout[buffer.inside]
        return buffer.name, start

    # first values -----------------------------------------------------------------------------

    def _first(self, name: str, buffer: Buffer) -> Array:
        space, _, short = name.partition(":")
        shape = tuple(evaluate(e, self.dims) for e in buffer.extents)
        port = self._ports.get(short)
        if space == "data" and short == "*order":
            return self._draw.permutation(shape[0]).astype(np.int64)
        if space in ("input", "data") and port is not None:
            return port_array(port, shape, self.dims, self._draw)
        if space == "system":
            values = {"seed": self.seed, "step": FIRST_STEP, "weight": 0.25, "keep": 1.0}
            start = 0.5 if short.startswith("sum.") else 0
            return np.full(shape, values.get(short, start), buffer.dtype.numpy)
        if space in ("gradient", "loss") and buffer.dtype.is_float:
            return np.asarray(0.1 * self._draw.standard_normal(shape), buffer.dtype.numpy)
        return np.zeros(shape, buffer.dtype.numpy)

    def _parameters(self) -> None:
        """Draw parameters as the model does; move the trained ones off their kinks."""
        trained = {p.path for p in self.assembly.model.parameters if p.trainable}
        for (_, path), value in self._interpret("init").items():
            here = self.look(f"state:{path}", self.arrays)
            here[...] = value
            if path in trained:
                here += np.asarray(NOISE * self._draw.standard_normal(here.shape), here.dtype)

    def _slots(self) -> None:
        """Give optimizer slots the values that they have after a step."""
        for entry in ("reset", "update"):
            if entry in self.assembly.graphs:
                for (space, name), value in self._interpret(entry).items():
                    if space == "state" and (entry == "reset" or self._is_slot(name)):
                        self.look(f"state:{name}", self.arrays)[...] = value

    def _is_slot(self, name: str) -> bool:
        return any(name.startswith(s) for s in self.assembly.slots)

    def _totals(self) -> None:
        if "finish" in self.assembly.graphs:
            for (_, name), value in self._interpret("evaluate").items():
                if f"total:{name}" in self.arrays:
                    self.look(f"total:{name}", self.arrays)[...] = value

    def _interpret(self, entry: str) -> dict[tuple[str, str], Array]:
        return interpreted(self.assembly.graphs[entry], self)


def interpreted(graph: Graph, world: World) -> dict[tuple[str, str], Array]:
    """Return a graph's outputs by the interpreter.

    Raises UserError E0672 where the arrays made up for the model lead outside a tensor.
    """
    try:
        return interpret(graph, world.leaves(), world.dims)
    except IndexFault as fault:
        raise UserError(
            "E0672",
            "values made up for the model's inputs lead outside a tensor",
            (str(fault),),
            "declare what an input may be, as in `input ids: i32[batch] in 0..n`",
        ) from None


def port_array(
    port: Port, shape: tuple[int, ...], dims: Mapping[str, int], draw: np.random.Generator
) -> Array:
    """Return random values that a port allows."""
    port = settled(port, dims)
    dtype = port.type.dtype
    if dtype.is_float:
        return np.asarray(draw.standard_normal(shape), dtype.numpy)
    if dtype is DType.BOOL:
        return np.asarray(draw.random(shape) < 0.5)
    low = port.low if isinstance(port.low, int) else 0
    high = port.high if isinstance(port.high, int) else low + 2
    return np.asarray(draw.integers(low, max(high, low + 1), shape), dtype.numpy)


def work_of(graph: Graph, dims: Mapping[str, int]) -> int:
    """Return how many points the interpreter visits."""
    total = 0
    for node in graph.nodes():
        sizes: list[Any] = [e for _, e in node.op.axes] if isinstance(node.op, Form) else []
        known = all(dims_of(s) <= dims.keys() for s in sizes)
        total += int(np.prod([float(evaluate(s, dims)) for s in sizes])) if known else 0
    return total
