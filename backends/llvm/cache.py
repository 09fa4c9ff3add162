"""The compile cache: object code on disk, by what it was made from.

An entry is one file, named by its key: 8 bytes of magic, the SHA-256 of the payload, the payload.
It is written under a temporary name, synced, and renamed, so that readers and other writers never
see a part of it. Anything odd about an entry makes it a miss, and it is written again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MAGIC = b"NNCOBJ01"
_SUFFIX = ".obj"
DEFAULT_LIMIT = 512 << 20
"""Bytes that all entries may take together, where ``NNC_CACHE_BYTES`` does not say otherwise."""
_STALE_SECONDS = 3600

_compiled = 0
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Info:
    """What the cache holds: where, how many entries, their bytes and the most allowed."""

    directory: Path
    entries: int
    bytes: int
    limit: int


def directory() -> Path:
    """Return where entries lie: ``NNC_CACHE_DIR``, or ``nnc`` in the user's cache directory."""
    given = os.environ.get("NNC_CACHE_DIR")
    if given:
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    if base and os.path.isabs(base):
        return Path(base) / "nnc"
    home = Path(os.path.expanduser("~"))
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "nnc"
    return home / ".cache" / "nnc"


def limit() -> int:
    """Return the bytes that all entries may take; 0 keeps nothing."""
    given = os.environ.get("NNC_CACHE_BYTES", "")
    return int(given) if given.isdigit() else DEFAULT_LIMIT


def key(*parts: str) -> str:
    """Return the key of what is made from ``parts``; no two lists of parts share one."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def compilations() -> int:
    """Return how often this process has compiled, rather than found, something."""
    return _compiled


def fetch(name: str, make: Callable[[], bytes]) -> bytes:
    """Return the entry ``name`` (a key), or what ``make`` returns, and keep that.

    A cache that cannot be read or written costs time only.
    """
    global _compiled  # noqa: PLW0603 - a counter of the process
    found = load(name)
    if found is not None:
        return found
    made = make()
    with _lock:
        _compiled += 1
    store(name, made)
    return made


def load(name: str) -> bytes | None:
    """Return an entry's payload, or None where it is missing or damaged in any way."""
    path = _path(name)
    try:
        data = path.read_bytes()
    except OSError:
        return None
    start = len(MAGIC) + hashlib.sha256().digest_size
    payload = data[start:]
    if data[:start] != MAGIC + hashlib.sha256(payload).digest():
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # so that eviction sees what is in use
    return payload


def store(name: str, payload: bytes) -> None:
    """Keep an entry, whole or not at all, and evict the oldest beyond the limit."""
    data = MAGIC + hashlib.sha256(payload).digest() + payload
    if len(data) > limit():
        return
    path = _path(name)
    # Without a writable directory there is no cache, which is no error of the program's user.
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_whole(path, data)
        _evict(path)


def info() -> Info:
    """Say what the cache holds."""
    sizes = [size for _, size, _ in _entries()]
    return Info(directory(), len(sizes), sum(sizes), limit())


def clear() -> int:
    """Remove all entries; return how many."""
    removed = 0
    for _, _, path in _entries():
        with contextlib.suppress(OSError):
            path.unlink()
            removed += 1
    return removed


def _path(name: str) -> Path:
    return directory() / name[:2] / f"{name}{_SUFFIX}"


def _write_whole(path: Path, data: bytes) -> None:
    handle, temporary = tempfile.mkstemp(prefix=".new-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _entries() -> list[tuple[float, int, Path]]:
    """Return time of last use, size and path of every entry, oldest first."""
    found = []
    for path in directory().glob(f"??/*{_SUFFIX}"):
        with contextlib.suppress(OSError):
            status = path.stat()
            found.append((status.st_mtime, status.st_size, path))
    return sorted(found)


def _evict(newest: Path) -> None:
    for left in directory().glob("??/.new-*"):
        # What a writer that was killed left behind.
        if time.time() - left.stat().st_mtime > _STALE_SECONDS:
            left.unlink(missing_ok=True)
    entries = _entries()
    excess = sum(size for _, size, _ in entries) - limit()
    for _, size, path in entries:
        if excess <= 0:
            return
        if path != newest:
            with contextlib.suppress(OSError):
                path.unlink()
            excess -= size
