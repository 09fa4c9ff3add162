"""Sums over the batches of a split, of what each batch gives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from nnc.runtime.arrays import Array
from nnc.runtime.summary import Summary

COMBINE: Mapping[str, Callable[[Array, Array], Array]] = {
    "add": np.add,
    "max": np.maximum,
    "min": np.minimum,
    "mul": np.multiply,
    "or": np.logical_or,
    "and": np.logical_and,
}


@dataclass
class Totals:
    """Partials of all batches so far; sums are kept in f64, or i64 for whole numbers."""

    summaries: Iterable[Summary]
    values: dict[str, Array] = field(default_factory=dict)
    rows: int = 0

    def add(self, partials: Mapping[str, Array], rows: int) -> None:
        """Take in one batch: its partials by name, and its number of rows."""
        for summary in self.summaries:
            for number, how in enumerate(summary.combine):
                name = summary.partial(number)
                value = _widened(partials[name])
                if summary.by_rows:
                    value = value * rows
                before = self.values.get(name)
                self.values[name] = value if before is None else COMBINE[how](before, value)
        self.rows += rows

    def average(self, summary: Summary) -> float:
        """The value of a summary that is averaged by rows."""
        return float(self.values[summary.partial(0)] / self.rows)


def _widened(array: Array) -> Array:
    match array.dtype.kind:
        case "f":
            return array.astype(np.float64)
        case "i" | "u":
            return array.astype(np.int64)
        case _:
            return array.copy()
