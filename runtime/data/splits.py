"""Training, validation and test rows: read from files, checked, and divided."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nnc.ir.model import DataSource
from nnc.runtime.data.columns import Labels
from nnc.runtime.data.csv_table import CsvTable
from nnc.runtime.data.door import split_of
from nnc.runtime.data.images import Images
from nnc.runtime.data.mapped import Mapped, Tokens
from nnc.runtime.data.parquet_table import ParquetTable
from nnc.runtime.data.source import PortsOf, Source, Split
from nnc.runtime.data.stream import (
    DEFAULT_MEMORY,
    Data,
    Joined,
    divide,
    settle,
    source_of,
)
from nnc.runtime.errors import UserError, nearest
from nnc.runtime.files import locate, read_idx, read_npz


@dataclass(frozen=True)
class Splits:
    """The rows to train on, and those held out.

    ``classes``: the text labels of ports that had such, in the order of their numbers.
    """

    train: Source
    validation: Source | None
    test: Source | None
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def named(self, name: str) -> Source:
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


def load(source: DataSource, model: PortsOf, folders: Sequence[Path], seed: int) -> Splits:
    """Read the data that a train block names, or open it where it is larger than allowed."""
    return _Loading(source, model, list(folders), seed).splits()


@dataclass
class _Loading:
    """One data key at work."""

    source: DataSource
    model: PortsOf
    folders: list[Path]
    seed: int
    labels: Labels = field(default_factory=Labels)

    def splits(self) -> Splits:
        arguments = self.source.arguments
        held, tested = arguments.get("validation"), arguments.get("test")
        validation: Data | None = None
        if isinstance(held, float | int) and not isinstance(held, bool):
            train, validation = self._divided(arguments["files"], float(held))
        else:
            train = self._settled(arguments["files"])
            validation = self._settled(held) if held is not None else None
        test = self._settled(tested) if tested is not None else None
        parts = [None if p is None else source_of(p, self._memory) for p in (validation, test)]
        train_source = source_of(train, self._memory)
        return Splits(train_source, parts[0], parts[1], dict(self.labels.classes))

    @property
    def _options(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.source.arguments.get("options", {})
        return found

    @property
    def _memory(self) -> int:
        return int(self._options.get("memory", DEFAULT_MEMORY))

    def _settled(self, files: Any) -> Data:
        return settle(self._open(files), self._memory)

    def _divided(self, files: Any, share: float) -> tuple[Data, Data]:
        if self.source.kind == "tokens":
            # the end of the text: windows drawn from all over it would stand between training's
            path = locate(str(files), self.folders)
            parts = [
                Tokens(path, self.model, self._options, span)
                for span in ((0, 1 - share), (1 - share, 1))
            ]
            return settle(parts[0], self._memory), settle(parts[1], self._memory)
        kept, held = divide(self._settled(files), share, self.seed)
        return settle(kept, self._memory), settle(held, self._memory)

    def _open(self, files: Any) -> Data:
        options = self._options
        match self.source.kind:
            case "npz":
                return self._npz(locate(str(files), self.folders))
            case "idx":
                paths = {name: locate(str(path), self.folders) for name, path in files.items()}
                arrays = {name: read_idx(path) for name, path in paths.items()}
                return self._arrays(arrays, lambda name: f"of '{paths[name]}'")
            case "arrays":
                return split_of(self.model, {n: np.asarray(v) for n, v in files.items()})
            case "npy":
                paths = {name: locate(str(path), self.folders) for name, path in files.items()}
                return Mapped(paths, self.model, options)
            case "tokens":
                return Tokens(locate(str(files), self.folders), self.model, options)
            case "images":
                folder = locate(str(files), self.folders, folder=True)
                return Images(folder, self.folders, self.model, options, self.labels)
            case "csv" | "parquet":
                return self._tables([files] if isinstance(files, str) else list(files))
            case kind:
                raise UserError("E0623", f"no reader for data of kind '{kind}'")

    def _tables(self, files: Sequence[str]) -> Data:
        table = CsvTable if self.source.kind == "csv" else ParquetTable
        paths = [locate(name, self.folders) for name in files]
        parts = [table(path, self.model, self._options, self.labels) for path in paths]
        return parts[0] if len(parts) == 1 else Joined(parts)

    def _npz(self, path: Path) -> Split:
        columns = self._options.get("columns", {})
        arrays = read_npz(path)
        named: dict[str, Any] = {}
        for port in self.model.ports:
            name = str(columns.get(port.name, port.name))
            if name in arrays:
                named[port.name] = arrays[name]
            elif port.name in columns:
                raise UserError(
                    "E0615", f"'{path}' has no array '{name}'", (f"it has: {', '.join(arrays)}",)
                )
        if len(named) < len(self.model.ports) and not columns:
            named = {**arrays}
        return self._arrays(named, lambda name: f"of '{columns.get(name, name)}' in '{path}'")

    def _arrays(self, arrays: Mapping[str, Any], what: Callable[[str], str]) -> Split:
        def where(name: str, place: tuple[int, ...]) -> str:
            return f"at {list(place)} {what(name)}"

        finite = not self._options.get("allow_nan", False)
        return split_of(self.model, arrays, where, finite=finite)
