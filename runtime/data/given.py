"""Data that Python code hands over: arrays by name, a path, or batches."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nnc.ir.model import DataSource
from nnc.runtime.data.batches import Batches
from nnc.runtime.data.door import split_of
from nnc.runtime.data.source import PortsOf, Source
from nnc.runtime.data.splits import Splits, load
from nnc.runtime.data.stream import DEFAULT_MEMORY, divide, source_of
from nnc.runtime.errors import UserError

KINDS = {".npz": "npz", ".csv": "csv", ".parquet": "parquet"}
"""What a path's ending says of its content; a folder holds images."""
Given = Mapping[str, object] | str | os.PathLike[str] | Iterable[Mapping[str, object]]


def given_splits(
    model: PortsOf, data: Given, validation: Given | float | None, seed: int
) -> Splits:
    """Return what was handed over to ``fit``, checked or ready to be read."""
    share = _share(validation)
    if isinstance(data, str | os.PathLike):
        splits = _of_path(Path(data), model, share, seed)
    elif isinstance(data, Mapping) or not isinstance(data, Iterable):
        split = split_of(model, data)
        kept, held = divide(split, share, seed) if share is not None else (split, None)
        parts = [None if p is None else source_of(p, DEFAULT_MEMORY) for p in (kept, held)]
        assert parts[0] is not None
        splits = Splits(parts[0], parts[1], None)
    elif share is not None:
        raise UserError(
            "E0622",
            "no share of batches can be held out: nobody knows how many rows they have",
            (),
            "give the held-out batches themselves: validation = ...",
        )
    else:
        splits = Splits(Batches(data, model), None, None)
    if share is None and validation is not None:
        assert not isinstance(validation, float | int)
        held_out = given_source(model, validation, seed)
        splits = Splits(splits.train, held_out, None, splits.classes)
    return splits


def given_source(model: PortsOf, data: Given, seed: int = 0) -> Source:
    """Return rows that were handed over to be evaluated."""
    return given_splits(model, data, None, seed).train


def _share(validation: Given | float | None) -> float | None:
    return float(validation) if isinstance(validation, int | float) else None


def _of_path(path: Path, model: PortsOf, share: float | None, seed: int) -> Splits:
    kind = "images" if path.is_dir() else KINDS.get(path.suffix.lower())
    if kind is None:
        raise UserError(
            "E0623",
            f"the ending of '{path}' does not say how to read it",
            (f"known: {', '.join(KINDS)}, and folders of images",),
            "read it in a train block, or give arrays by name",
        )
    arguments: dict[str, Any] = {"files": path.name}
    if share is not None:
        arguments["validation"] = share
    return load(DataSource(kind, arguments), model, [path.resolve().parent], seed)
