"""Whole compiled programs, kept by what they were made from.

A program depends on the text of its file and of what that imports, on config and target, on this
machine, and on the compiler itself. Where none of these has changed, nothing is parsed, checked or
compiled again. An entry that is odd in any way is a miss.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from nnc.backends.llvm import cache as files
from nnc.ir.model import DataSource
from nnc.runtime.manifest import Compiled, Manifest, decode, encode

LENGTH = 8
"""Bytes before the header that say how long it is."""


@dataclass(frozen=True, slots=True)
class Made:
    """A compiled program, and where its own data comes from."""

    compiled: Compiled
    source: DataSource | None


def key_of(text: str, folder: Path | None, target: str, machine: str, choice: Any) -> str:
    """Return the key of a program; ``choice`` is the config and which model and recipe."""
    what = json.dumps(choice, sort_keys=True, default=repr)
    return files.key("program", text, str(folder), target, machine, what, compiler())


def find(key: str) -> Made | None:
    """Return the program kept under ``key`` if every file it imports is as it was."""
    payload = files.load(key)
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
        return None
    if not isinstance(manifest, Manifest):
        return None
    return Made(Compiled(manifest, payload[LENGTH + size :]), source)


def keep(key: str, made: Made, imports: Iterable[Path]) -> None:
    """Keep a program for the next time, if its data source can be written down."""
    source = made.source
    about = {
        "manifest": encode(made.compiled.manifest),
        "imports": {str(path): digest(path) for path in imports},
        "source": None
        if source is None
        else {"kind": source.kind, "arguments": _plain(source.arguments)},
    }
    header = json.dumps(about).encode()
    files.store(key, len(header).to_bytes(LENGTH, "little") + header + made.compiled.code)


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


@cache
def compiler() -> str:
    """Return what changes whenever this compiler does: its files' names, sizes and times."""
    root = Path(__file__).resolve().parent.parent
    parts = [sys.version]
    for stage in ("frontend", "grammar", "ir", "passes", "backends", "runtime"):
        parts += sorted(_states(root / stage))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _states(folder: Path) -> Iterable[str]:
    for base, _, names in os.walk(folder):
        for name in names:
            if name.endswith((".py", ".nn", ".lark")):
                state = os.stat(os.path.join(base, name))
                yield f"{base}/{name} {state.st_size} {state.st_mtime_ns}"
