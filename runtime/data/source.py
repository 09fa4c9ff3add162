"""What training and evaluation draw rows from, and the order in which they are drawn.

A ``Source`` gives an epoch as ``Portion``s: rows that lie in memory, and the order to take them in.
The order depends on the seed and the epoch only, never on the batch, so that any place of any epoch
can be gone to at once. Arrays in memory are one portion; what is read while training goes on is
many, each of which holds whole steps but for the last.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from nnc.ir.index import Dim, Poly, dims_of
from nnc.ir.model import Port
from nnc.runtime.arrays import Array
from nnc.runtime.errors import UserError

Order = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class PortsOf:
    """What data must fit: a model's ports, and the dim along which it is cut."""

    ports: Sequence[Port]
    batch: str | None


@dataclass(frozen=True, slots=True)
class Draw:
    """Which rows an epoch is asked for: those of ``epoch``, from the place ``start`` of its order.

    A step takes ``batch`` rows, ``accumulate`` times; ``start`` is a multiple of that.
    """

    seed: int
    epoch: int
    batch: int
    accumulate: int = 1
    start: int = 0

    @property
    def group(self) -> int:
        """Rows of one step."""
        return self.batch * self.accumulate


@dataclass(frozen=True, slots=True)
class Portion:
    """Rows in memory, and the order to take them in, from its place ``start`` on.

    A step takes ``batch`` of them at a time, as often as the recipe accumulates; what is left at
    the end, if anything, is a last step of its own.
    """

    split: Split
    order: Order
    batch: int
    start: int = 0

    @property
    def rows(self) -> int:
        """How many rows are to be taken."""
        return len(self.order) - self.start


class Source(Protocol):
    """Rows to train on or to evaluate."""

    @property
    def rows(self) -> int | None:
        """How many rows an epoch has; None where only reading them tells."""

    def epoch(self, draw: Draw) -> Generator[Portion, None, None]:
        """Give the rows of an epoch. Close the iterator: it may hold a thread and files."""

    def in_order(self, batch: int) -> Generator[Portion, None, None]:
        """Give all rows in their own order, for calls of ``batch`` rows.

        The rows of each portion are the first of its split; each but the last holds whole batches.
        Close the iterator likewise.
        """


@dataclass(frozen=True)
class Split:
    """Checked arrays in memory. ``cut`` have one row a sample; ``whole`` go in as they are."""

    cut: Mapping[str, Array]
    whole: Mapping[str, Array]
    rows: int

    def take(self, rows: Array) -> Split:
        """Return the split that holds just these rows, in this order."""
        cut = {name: np.ascontiguousarray(array[rows]) for name, array in self.cut.items()}
        return Split(cut, self.whole, len(rows))

    def batch(self, start: int, stop: int) -> dict[str, Array]:
        """Return the arrays of one batch, without a copy."""
        rows = {name: array[start:stop] for name, array in self.cut.items()}
        return {**rows, **self.whole}

    def epoch(self, draw: Draw) -> Generator[Portion, None, None]:
        """Give the whole epoch at once (see ``Source``)."""
        order = order_of(self.rows, draw.group, draw.seed, draw.epoch)
        yield Portion(self, order, draw.batch, draw.start)

    def in_order(self, batch: int) -> Generator[Portion, None, None]:
        """Give all rows at once (see ``Source``)."""
        yield Portion(self, np.arange(self.rows), batch)


def order_of(rows: int, step: int, seed: int, epoch: int) -> Order:
    """Return the order of rows of an epoch.

    Rows that all go into one ``step`` stay as they are given: nothing would be gained by mixing
    them, and arrays that are given whole may name them by number, as the edges of a graph do.
    """
    return np.arange(rows) if rows <= step else shuffled(rows, seed, epoch)


def shuffled(rows: int, seed: int, epoch: int, part: int = 0) -> Order:
    """Return an order of rows (counter-based, so that any epoch's and any part's is known at once).

    ``part`` 0 orders the whole of an epoch; further parts have orders of their own.
    """
    key = np.array([seed & (2**64 - 1), epoch], np.uint64)
    counter = np.array([0, 0, 0, part], np.uint64)
    generator = np.random.Generator(np.random.Philox(key=key, counter=counter))
    return generator.permutation(rows).astype(np.int64)


def is_cut(port: Port, batch: str | None) -> bool:
    """Whether a port's first dim is the one along which data is cut into batches."""
    shape = port.type.shape
    return (
        batch is not None
        and bool(shape)
        and isinstance(shape[0], Poly)
        and shape[0] == Dim(batch).as_poly()
    )


def check_cut(model: PortsOf, rows: int | None, batch: int) -> None:
    """Raise UserError where data must be cut into batches and some array cannot be.

    Data without known ``rows`` comes in batches already.
    """
    if model.batch is None or rows is None or batch >= rows:
        return
    for port in model.ports:
        rest = port.type.shape[1:] if is_cut(port, model.batch) else port.type.shape
        if any(model.batch in dims_of(size) for size in rest):
            raise UserError(
                "E0625",
                f"'{port.name}' cannot be cut into batches along '{model.batch}'",
                (f"the model declares {port.name}: {port.type}",),
                f"give all {rows} rows in one batch, or make {model.batch} its first dim alone",
            )
