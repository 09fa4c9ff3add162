"""Training, validation and test rows: read from files, checked, and divided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nnc.ir.model import DataSource
from nnc.runtime.arrays import Array, admit, bind, check_names
from nnc.runtime.data.source import PortsOf, Split, is_cut
from nnc.runtime.errors import UserError, nearest
from nnc.runtime.files import locate, read_idx, read_npz


@dataclass(frozen=True)
class Splits:
    """The rows to train on, and those held out."""

    train: Split
    validation: Split | None
    test: Split | None

    def named(self, name: str) -> Split:
        """Return a split by name; raises UserError for one that is not there."""
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        found = splits.get(name)
        if found is None:
            there = [known for known, split in splits.items() if split is not None]
            guess = nearest(name, there)
            raise UserError(
                "E0621",
                f"the data has no {name} split",
                (f"it has {', '.join(there)}",),
                f"did you mean '{guess}'?"
                if guess
                else "name one in the train block, as in npz(..., validation = 0.1)",
            )
        return found


def split_of(model: PortsOf, arrays: Mapping[str, object]) -> Split:
    """Check arrays against the model's inputs and targets and return them as one split.

    Raises UserError for missing names, wrong types, ranks, sizes or values.
    """
    if not isinstance(arrays, Mapping):
        raise UserError(
            "E0603",
            f"data is a {type(arrays).__name__}, not arrays by name",
            (f"the model has: {', '.join(port.name for port in model.ports)}",),
            "give a dict of arrays, or name a file in the train block: data = npz(...)",
        )
    ports = {port.name: port for port in model.ports}
    used = {name: value for name, value in arrays.items() if name in ports}
    check_names(used, ports, ports)
    good = {port.name: admit(port, used[port.name]) for port in model.ports}
    dims = bind(model.ports, good)
    rows = dims[model.batch] if model.batch is not None else 1
    cut = {p.name: good[p.name] for p in model.ports if is_cut(p, model.batch)}
    whole = {p.name: good[p.name] for p in model.ports if p.name not in cut}
    return Split(cut, whole, rows)


def divide(split: Split, fraction: float, seed: int) -> tuple[Split, Split]:
    """Hold out ``fraction`` of the rows, drawn by ``seed``; return (training, validation)."""
    held = round(split.rows * fraction)
    if not 0 < held < split.rows:
        raise UserError(
            "E0622",
            f"a validation share of {fraction} of {split.rows} rows leaves one side empty",
        )
    order = np.random.Generator(np.random.Philox(key=seed)).permutation(split.rows)
    return split.take(np.sort(order[held:])), split.take(np.sort(order[:held]))


def load(source: DataSource, model: PortsOf, folders: Sequence[Path], seed: int) -> Splits:
    """Read the data that a train block names."""
    places = list(folders)
    arguments = source.arguments
    train = split_of(model, _read(source.kind, arguments["files"], places))
    held = arguments.get("validation")
    validation: Split | None = None
    if isinstance(held, float | int) and not isinstance(held, bool):
        train, validation = divide(train, float(held), seed)
    elif held is not None:
        validation = split_of(model, _read(source.kind, held, places))
    tested = arguments.get("test")
    test = split_of(model, _read(source.kind, tested, places)) if tested is not None else None
    return Splits(train, validation, test)


def _read(kind: str, files: Any, folders: list[Path]) -> dict[str, Array]:
    match kind:
        case "npz":
            return read_npz(locate(str(files), folders))
        case "idx":
            return {name: read_idx(locate(str(path), folders)) for name, path in files.items()}
        case "arrays":
            return {name: np.asarray(value) for name, value in files.items()}
        case _:
            raise UserError("E0623", f"no reader for data of kind '{kind}'")
