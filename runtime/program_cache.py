"""Whole compiled programs, kept by what they were made from.

A program depends on the text of its file and of what that imports, on config and target, on this
machine, and on the compiler itself. Where none of these has changed, nothing is parsed, checked or
compiled again. An entry that is odd in any way is a miss.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnc.ir import sources, store
from nnc.ir.model import DataSource
from nnc.runtime.manifest import Compiled, Manifest, decode, encode

KIND = "program"
STAGES = ("frontend", "grammar", "ir", "passes", "backends", "runtime")
"""What a program depends on beside its own text: the whole compiler."""
LENGTH = 8
"""Bytes before the header that say how long it is."""


@dataclass(frozen=True, slots=True)
class Made:
    """A compiled program, and where its own data comes from."""

    compiled: Compiled
    source: DataSource | None


def key_of(text: str, folder: Path | None, target: str, machine: str, choice: Any) -> str:
    """Return the key of a program; ``choice`` is the config and which model and recipe."""
    import llvmlite
    import numpy as np

    what = json.dumps(choice, sort_keys=True, default=repr)
    libraries = f"{llvmlite.__version__} {np.__version__}"
    return store.key(text, str(folder), target, machine, what, libraries, sources.running(*STAGES))


def find(key: str) -> Made | None:
    """Return the program kept under ``key`` if every file it imports is as it was."""
    payload = store.load(KIND, key)
    if payload is None:
        return None
    try:
        size = int.from_bytes(payload[:LENGTH], "little")
        about = json.loads(payload[LENGTH : LENGTH + size])
        if any(digest(Path(path)) != known for path, known in about["imports"].items()):
            return None
        manifest = decode(about["manifest"])
        found = about["source"]
        source = DataSource(found["kind"], found["arguments"]) if found is not None else None
    except (ValueError, KeyError, TypeError, AttributeError):
        store.discard(KIND, key)
        return None
    if not isinstance(manifest, Manifest):
        return None
    return Made(Compiled(manifest, payload[LENGTH + size :]), source)


def keep(key: str, made: Made, imports: Iterable[Path]) -> None:
    """Keep a program for the next time, if its data source can be written down."""
    if not sources.unchanged(*STAGES):
        return
    source = made.source
    about = {
        "manifest": encode(made.compiled.manifest),
        "imports": {str(path): digest(path) for path in imports},
        "source": None
        if source is None
        else {"kind": source.kind, "arguments": _plain(source.arguments)},
    }
    header = json.dumps(about).encode()
    store.store(KIND, key, len(header).to_bytes(LENGTH, "little") + header + made.compiled.code)


def _plain(value: Any) -> Any:
    match value:
        case Mapping():
            return {k: _plain(v) for k, v in value.items()}
        case list() | tuple():
            return [_plain(v) for v in value]
        case _:
            return value


def digest(path: Path) -> str | None:
    """Return the hash of a file's content; None where it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None
