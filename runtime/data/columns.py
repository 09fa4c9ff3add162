"""Which columns of a table go to which input or target, and text labels as class numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from nnc.ir.model import Port
from nnc.runtime.arrays import Array, first_of
from nnc.runtime.data.source import PortsOf, is_cut
from nnc.runtime.errors import UserError, nearest

SHOWN = 12
"""Names that a message lists at most."""
MOST_CLASSES = 100_000


@dataclass(frozen=True)
class Bound:
    """One port and its columns: a single one, or several that make its second dim."""

    port: Port
    names: tuple[str, ...]
    several: bool

    @property
    def may_be_labels(self) -> bool:
        """Whether text in the column can stand for class numbers."""
        return not self.several and self.port.type.dtype.is_int and self.port.type.rank == 1


@dataclass
class Labels:
    """Text labels by port, in the order of their numbers; what training has, others share."""

    classes: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def settle(self, port: Port, texts: set[str], file: str) -> None:
        """Number the labels of a column by their sorted order, unless that was done before.

        Raises UserError where the port's range has fewer numbers than there are labels.
        """
        if port.name in self.classes:
            return
        names = tuple(sorted(texts))
        if isinstance(port.high, int) and len(names) > port.high:
            raise UserError(
                "E0606",
                f"'{port.name}' has {len(names)} classes in '{file}', outside "
                f"{port.low}..{port.high}",
                (f"the classes are {listed(names)}",),
            )
        self.classes[port.name] = names

    def numbers(self, port: Port, texts: Array, place: Any) -> Array:
        """Return the numbers of labels. ``place`` tells in words where row k is."""
        names = self.classes[port.name]
        known = np.array(names)
        at = np.minimum(np.searchsorted(known, texts), len(known) - 1)
        wrong = known[at] != texts
        if wrong.any():
            (row,) = first_of(wrong)
            guess = nearest(str(texts[row]), list(names))
            raise UserError(
                "E0628",
                f"'{port.name}' has no class '{texts[row]}', {place(row)}",
                (f"the classes, as training has them, are {listed(names)}",),
                f"did you mean '{guess}'?" if guess else None,
            )
        return at.astype(np.int64)


def listed(names: Sequence[str]) -> str:
    """Return names as one text, the first of them where there are many."""
    shown = ", ".join(str(n) for n in names[:SHOWN])
    return shown + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def bind_columns(
    model: PortsOf, columns: Mapping[str, Any], there: Sequence[str], file: str
) -> list[Bound]:
    """Find the columns of each port: those that ``columns`` names, or the one called like it.

    A name with ``*`` stands for all columns that fit, in the order of the file. Raises UserError
    for a column that is not there, and for a port that is not cut along the batch.
    """
    found: list[Bound] = []
    for port in model.ports:
        if not is_cut(port, model.batch):
            raise UserError(
                "E0617",
                f"'{port.name}' cannot come from the columns of '{file}'",
                (f"the model declares {port.name}: {port.type}, without one row a sample",),
                f"make {model.batch or 'batch'} its first dim, or give it with npz",
            )
        given = columns.get(port.name, port.name)
        several = isinstance(given, list | tuple) or "*" in str(given)
        names: list[str] = []
        for name in given if isinstance(given, list | tuple) else [given]:
            names += _fitting(port, str(name), there, file)
        width = port.type.shape[1] if port.type.rank == 2 else None
        if several and (port.type.rank != 2 or (isinstance(width, int) and width != len(names))):
            raise UserError(
                "E0617",
                f"'{port.name}' is given {len(names)} columns of '{file}'",
                (f"the model declares {port.name}: {port.type}", f"they are {listed(names)}"),
            )
        found.append(Bound(port, tuple(names), several))
    return found


def _fitting(port: Port, name: str, there: Sequence[str], file: str) -> list[str]:
    if name in there:
        if there.count(name) > 1:
            raise UserError("E0617", f"'{file}' has several columns called '{name}'")
        return [name]
    fitting = [n for n in there if fnmatchcase(n, name)] if "*" in name else []
    if not fitting:
        guess = nearest(name, list(there))
        raise UserError(
            "E0617",
            f"'{file}' has no column '{name}' for {port.kind} '{port.name}'",
            (f"its columns are {listed(there)}",),
            f"did you mean '{guess}'?"
            if guess
            else f'name it where the file is read: columns = {{ {port.name} = "..." }}',
        )
    return fitting


def shaped(port: Port, array: Array) -> Array:
    """Return rows of numbers in the port's shape where its sizes tell how to divide them.

    A column of lists of 784 numbers so fits ``u8[batch, 28, 28]``.
    """
    rest = port.type.shape[1:]
    if array.ndim != 2 or len(rest) < 2 or not all(isinstance(d, int) for d in rest):
        return array
    sizes = [int(d) for d in rest if isinstance(d, int)]
    return array.reshape(-1, *sizes) if array.shape[1] == np.prod(sizes) else array
