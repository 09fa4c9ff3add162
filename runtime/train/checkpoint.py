"""Checkpoints: folders that appear whole, are checked when read, and go by names.

``FOLDER/checkpoints/step-0000000030-epoch-000001/`` holds ``weights.safetensors`` (what a
run's own file of that name holds), ``state.safetensors`` (slots, counters, sums), perhaps
``best.safetensors``, ``training.json`` (where training stands) and ``manifest.json`` (checksums).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nnc.ir import files
from nnc.runtime.arrays import Array
from nnc.runtime.errors import UserError
from nnc.runtime.train.history import as_json
from nnc.runtime.weights import make_folder, unwritten

FORMAT = 1
FOLDER = "checkpoints"
NAME = re.compile(r"step-(\d{10})-epoch-(\d{6})")
WEIGHTS, STATE, BEST = "weights.safetensors", "state.safetensors", "best.safetensors"
TRAINING, MANIFEST = "training.json", "manifest.json"
KEEP = 2
"""How many checkpoints are kept where nothing is said about it."""


@dataclass(frozen=True)
class Checkpoint:
    """All that training needs to go on: tensors by name, and where it stands as plain data."""

    weights: Mapping[str, Array]
    state: Mapping[str, Array]
    best: Mapping[str, Array]
    training: Mapping[str, Any]


@dataclass
class Store:
    """The checkpoints of one run, in a folder. Only one run may write there at a time."""

    folder: Path
    keep: int = KEEP
    last: Path | None = field(default=None, init=False)

    @property
    def place(self) -> Path:
        """Where the checkpoints lie."""
        return self.folder / FOLDER

    def names(self) -> list[str]:
        """Return the names of the checkpoints that there are, oldest first."""
        if not self.place.is_dir():
            return []
        return sorted(p.name for p in self.place.iterdir() if NAME.fullmatch(p.name))

    def newest(self) -> Path | None:
        """Return the newest checkpoint, if there is one."""
        names = self.names()
        return self.place / names[-1] if names else None

    def save(self, name: str, made: Checkpoint, keep: Sequence[str] = ()) -> Path:
        """Write a checkpoint; then remove the oldest beyond those to keep, but for ``keep``.

        Raises UserError where it cannot be written; those that were there still are.
        """
        path = self.place / name
        try:
            make_folder(self.place)
            files.clear_rests(self.place, age=0)
            if not path.exists():
                files.write_folder(path, _contents(made))
            self.last = path
            for old in self.names()[: -self.keep]:
                if old not in (*keep, name):
                    files.remove_folder(self.place / old)
        except OSError as fault:
            error = unwritten(path, fault)
            good = self.last or next((self.place / n for n in reversed(self.names())), None)
            note = f"the last good checkpoint is '{good}'" if good else "there is no checkpoint"
            raise UserError(error.code, error.message, (*error.notes, note)) from None
        return path

    def load(self) -> tuple[Path, Checkpoint, tuple[Path, ...]] | None:
        """Return the newest whole checkpoint, and newer ones that are damaged; None if none.

        Raises UserError where there are some and all are damaged.
        """
        damaged: list[Path] = []
        for name in reversed(self.names()):
            try:
                found = read(self.place / name)
            except UserError:
                damaged.append(self.place / name)
                continue
            self.last = self.place / name
            return self.last, found, tuple(damaged)
        if damaged:
            listed = tuple(f"'{p}'" for p in damaged)
            raise UserError("E0665", f"every checkpoint in '{self.place}' is damaged", listed)
        return None

    def clear(self) -> None:
        """Remove all checkpoints. Raises UserError where that cannot be."""
        try:
            for name in self.names():
                files.remove_folder(self.place / name)
        except OSError as fault:
            raise unwritten(self.place, fault) from None


def name_of(steps: int, epochs: int) -> str:
    """Return the name of the checkpoint after so many steps and whole epochs."""
    return f"step-{steps:010d}-epoch-{epochs:06d}"


def _contents(made: Checkpoint) -> dict[str, bytes]:
    from safetensors.numpy import save as serialise

    contents = {WEIGHTS: serialise(dict(made.weights)), STATE: serialise(dict(made.state))}
    if made.best:
        contents[BEST] = serialise(dict(made.best))
    contents[TRAINING] = as_json(made.training)
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    contents[MANIFEST] = as_json({"format": FORMAT, "files": sums})
    return contents


def read(path: Path) -> Checkpoint:
    """Read a checkpoint. Raises UserError for one that is damaged in any way."""
    from safetensors import SafetensorError
    from safetensors.numpy import load as deserialise

    try:
        about = json.loads((path / MANIFEST).read_bytes())
        if about["format"] != FORMAT:
            raise ValueError(f"it has format {about['format']}; this nnc reads {FORMAT}")
        contents: dict[str, bytes] = {}
        for name in (WEIGHTS, STATE, BEST, TRAINING):
            if name in about["files"]:
                contents[name] = (path / name).read_bytes()
                if hashlib.sha256(contents[name]).hexdigest() != about["files"][name]:
                    raise ValueError(f"the checksum of {name} does not fit")
        return Checkpoint(
            deserialise(contents[WEIGHTS]),
            deserialise(contents[STATE]),
            deserialise(contents[BEST]) if BEST in contents else {},
            dict(json.loads(contents[TRAINING])),
        )
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as fault:
        reason = getattr(fault, "strerror", None) or str(fault)
        raise UserError("E0665", f"the checkpoint '{path}' is damaged", (reason,)) from None
