"""Plain data kept between runs: parser tables and the library's syntax trees.

Entries lie in the user's own cache directory, written under a temporary name and renamed, and are
read back only if their checksum holds; anything odd is a miss. The format is ``marshal``, the one
that Python keeps its own compiled modules in: it holds data and never runs code.
"""

from __future__ import annotations

import hashlib
import marshal
import os
import sys
from pathlib import Path
from typing import Any

_DIGEST = 32
_KEPT = 128


def cache_directory() -> Path | None:
    """Return the directory for this program's caches, or None where there is no home."""
    base = os.environ.get("XDG_CACHE_HOME")
    if not base and sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
    if base and Path(base).is_absolute():
        return Path(base) / "nnc"
    try:
        return Path.home() / ".cache" / "nnc"
    except RuntimeError:
        return None


def key_of(*parts: str) -> str:
    """Return a key that changes with any of ``parts`` and with the version of Python."""
    digest = hashlib.sha256()
    for part in (*parts, sys.version):
        data = part.encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()[:32]


def load(kind: str, key: str) -> Any | None:
    """Return what ``store`` kept under ``key``, or None."""
    path = _path(kind, key)
    try:
        content = path.read_bytes() if path else b""
    except OSError:
        return None
    if len(content) <= _DIGEST or hashlib.sha256(content[_DIGEST:]).digest() != content[:_DIGEST]:
        return None
    return marshal.loads(content[_DIGEST:])


def store(kind: str, key: str, data: Any) -> None:
    """Keep ``data`` (numbers, texts, tuples, lists, dicts) for later runs, if that is possible.

    Of each kind the newest entries are kept. A directory that cannot be written costs time at the
    next start and nothing else.
    """
    import tempfile

    path = _path(kind, key)
    if path is None:
        return
    payload = marshal.dumps(data)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    except OSError:
        return
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(hashlib.sha256(payload).digest() + payload)
        os.replace(temporary, path)
        _prune(path.parent)
    except OSError:
        Path(temporary).unlink(missing_ok=True)


def _prune(folder: Path) -> None:
    entries = list(folder.iterdir())
    if len(entries) > 2 * _KEPT:  # now and then, not at each store
        entries.sort(key=lambda entry: entry.stat().st_mtime_ns)
        for entry in entries[:-_KEPT]:
            entry.unlink(missing_ok=True)


def _path(kind: str, key: str) -> Path | None:
    directory = cache_directory()
    return directory / kind / key if directory else None
