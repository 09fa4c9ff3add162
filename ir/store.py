"""The compile cache: bytes on disk by what they were made from, for every stage.

An entry is one file, ``KIND/xx/KEY``: 8 bytes of magic, a SHA-256 of its kind, key and payload, the
payload. It is written under a temporary name, synced and renamed, so that readers and other writers
never see a part of it. Whatever is odd about an entry makes it a miss and removes it. Nothing here
raises: a folder that is missing, full, or not to be written to costs time only.

What is kept is run (machine code, syntax trees), so only what this user wrote is believed: the
folder and each entry must belong to the user of this process and be writable by nobody else.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nnc.ir.files import PREFIX, write_whole

MAGIC = b"NNCSTOR1"
_HEAD = len(MAGIC) + hashlib.sha256().digest_size
DEFAULT_LIMIT = 1 << 30
"""Bytes that all entries may take together, where ``NNC_CACHE_SIZE`` does not say otherwise."""
_STALE_SECONDS = 3600
_UNITS = {"": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40}
_AMOUNT = re.compile(r"(\d{1,18})\s*(|[kmgt]ib)", re.IGNORECASE)
_OTHERS_WRITE = 0o022


@dataclass(frozen=True, slots=True)
class Info:
    """What the cache holds: entries and bytes of each kind, the most allowed, where.

    ``unused`` says why the folder is not used, and ``ignored`` what of the settings is not heeded.
    """

    directory: Path | None
    kinds: dict[str, tuple[int, int]]
    limit: int
    unused: str | None
    ignored: str | None

    @property
    def entries(self) -> int:
        """How many entries there are."""
        return sum(count for count, _ in self.kinds.values())

    @property
    def bytes(self) -> int:
        """What all entries take together."""
        return sum(size for _, size in self.kinds.values())


def directory() -> Path | None:
    """Return where entries lie: ``NNC_CACHE_DIR``, or ``nnc`` in the user's cache directory.

    None where there is no home. A relative ``XDG_CACHE_HOME`` is ignored, as its standard says.
    """
    given = os.environ.get("NNC_CACHE_DIR")
    if given:
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    if not base and sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
    if base and os.path.isabs(base):
        return Path(base) / "nnc"
    try:
        home = Path.home()
    except RuntimeError:
        return None
    return (home / "Library" / "Caches" if sys.platform == "darwin" else home / ".cache") / "nnc"


def limit() -> int:
    """Return the bytes that all entries may take; 0 keeps nothing."""
    found = _amount(os.environ.get("NNC_CACHE_SIZE", ""))
    return DEFAULT_LIMIT if found is None else found


def _amount(text: str) -> int | None:
    """Return an amount of memory, ``512MiB`` or plain bytes; None for anything else."""
    found = _AMOUNT.fullmatch(text.strip())
    return int(found[1]) * _UNITS[found[2].lower()] if found else None


def key(*parts: str) -> str:
    """Return the key of what is made from ``parts``; no two lists of parts share one."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def fetch(kind: str, name: str, make: Callable[[], bytes]) -> bytes:
    """Return the entry ``name`` (a key), or what ``make`` returns, and keep that."""
    found = load(kind, name)
    if found is not None:
        return found
    made = make()
    store(kind, name, made)
    return made


def load(kind: str, name: str) -> bytes | None:
    """Return an entry's payload, or None where there is none that can be believed."""
    folder = _trusted()
    if folder is None:
        return None
    path = _path(folder, kind, name)
    data = _read(path)
    if data is None:
        return None
    payload = data[_HEAD:]
    if data[:_HEAD] != _head(kind, name, payload):
        discard(kind, name)
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # so that eviction sees what is in use
    return payload


def discard(kind: str, name: str) -> None:
    """Remove an entry, one whose payload makes no sense to who asked for it."""
    folder = _trusted()
    if folder is not None:
        with contextlib.suppress(OSError):
            _path(folder, kind, name).unlink()


def store(kind: str, name: str, payload: bytes) -> None:
    """Keep an entry, whole or not at all; those used least recently go beyond the limit."""
    data = _head(kind, name, payload) + payload
    most = limit()
    folder = _trusted(make=True) if len(data) <= most else None
    if folder is None:
        return
    path = _path(folder, kind, name)
    with contextlib.suppress(OSError):
        for part in (path.parent.parent, path.parent):
            part.mkdir(exist_ok=True, mode=0o700)
        write_whole(path, data)
        _BOUND.keep(folder, path, len(data), most)


def info() -> Info:
    """Say what the cache holds."""
    folder = directory()
    kinds: dict[str, tuple[int, int]] = {}
    for _, size, path in _entries(folder) if folder is not None else ():
        count, total = kinds.get(path.parts[-3], (0, 0))
        kinds[path.parts[-3]] = (count + 1, total + size)
    setting = os.environ.get("NNC_CACHE_SIZE", "")
    ignored = None
    if setting and _amount(setting) is None:
        ignored = f"NNC_CACHE_SIZE is '{setting}', which is no amount such as 512MiB"
    unused = "there is no home directory" if folder is None else _doubt(folder)
    return Info(folder, dict(sorted(kinds.items())), limit(), unused, ignored)


def clear() -> int:
    """Remove all entries, and what killed writers left; return how many entries there were."""
    folder = _trusted()
    removed = 0
    if folder is not None:
        _remove_left(folder, older_than=0)
        for _, _, path in _entries(folder):
            with contextlib.suppress(OSError):
                path.unlink()
                removed += 1
    return removed


# files --------------------------------------------------------------------------------------------


def _head(kind: str, name: str, payload: bytes) -> bytes:
    """Return what stands before a payload; an entry under another's name does not have it."""
    digest = hashlib.sha256(f"{kind}/{name}\n".encode())
    digest.update(payload)
    return MAGIC + digest.digest()


def _path(folder: Path, kind: str, name: str) -> Path:
    return folder / kind / name[:2] / name


def _trusted(make: bool = False) -> Path | None:
    """Return the cache's folder if it is this user's alone; with ``make``, make it."""
    folder = directory()
    if folder is None:
        return None
    if make:
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder if _doubt(folder) is None else None


def _doubt(folder: Path) -> str | None:
    """Return why a folder is not to be used; None for one that may be, or is not there yet."""
    try:
        state = os.stat(folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        return error.strerror or "it cannot be read"
    if not stat.S_ISDIR(state.st_mode):
        return "it is not a folder"
    return _foreign(state)


def _foreign(state: os.stat_result) -> str | None:
    """Return why what has this state may have been written by somebody else."""
    if sys.platform == "win32":
        return None  # permissions there are lists, which the folder inherits from the user's own
    if state.st_uid != os.geteuid():
        return "it belongs to another user"
    if state.st_mode & _OTHERS_WRITE:
        return "others may write to it: chmod go-w"
    return None


def _read(path: Path) -> bytes | None:
    """Return the content of a file of this user's own; None for a link or anything else."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    try:
        handle = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(handle, "rb") as file:
            state = os.fstat(handle)
            if not stat.S_ISREG(state.st_mode) or _foreign(state) is not None:
                return None
            return file.read() if state.st_size <= max(limit(), 0) + _HEAD else None
    except OSError:
        return None


def _files(folder: Path) -> Iterator[tuple[os.DirEntry[str], os.stat_result]]:
    """Yield the files two folders below ``folder``, as far as they can be looked at."""
    stack = [(str(folder), 0)]
    while stack:
        place, depth = stack.pop()
        with contextlib.suppress(OSError), os.scandir(place) as found:
            for entry in found:
                with contextlib.suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        if depth < 2:
                            stack.append((entry.path, depth + 1))
                    elif depth == 2:
                        yield entry, entry.stat(follow_symlinks=False)


def _entries(folder: Path) -> list[tuple[int, int, Path]]:
    """Return time of last use, size and path of every entry, the least recently used first."""
    return sorted(
        (state.st_mtime_ns, state.st_size, Path(entry.path))
        for entry, state in _files(folder)
        if not entry.name.startswith(PREFIX)
    )


def _remove_left(folder: Path, older_than: float) -> None:
    """Remove what writers that were killed left behind."""
    for entry, state in _files(folder):
        if entry.name.startswith(PREFIX) and time.time() - state.st_mtime >= older_than:
            with contextlib.suppress(OSError):
                os.unlink(entry.path)


# the bound ----------------------------------------------------------------------------------------


class _Bound:
    """Keeps the folder's size below the limit, without looking through it at every store.

    One process alone never exceeds it. Others may add to the folder unseen, but each looks again
    once it has itself written a share of the limit.
    """

    SHARE = 32

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: tuple[Path, int] | None = None
        self._room = 0

    def keep(self, folder: Path, newest: Path, size: int, most: int) -> None:
        """Account for an entry just written; evict others where it has filled the folder."""
        with self._lock:
            self._room -= size
            if self._known != (folder, most) or self._room < 0:
                self._known = (folder, most)
                self._room = self._evict(folder, newest, most)

    def _evict(self, folder: Path, newest: Path, most: int) -> int:
        """Remove the least recently used beyond the limit; return bytes until the next look."""
        _remove_left(folder, _STALE_SECONDS)
        entries = _entries(folder)
        total = sum(size for _, size, _ in entries)
        for _, size, path in entries:
            if total <= most:
                break
            if path != newest:
                with contextlib.suppress(OSError):
                    path.unlink()
                    total -= size
        return min(most - total, most // self.SHARE)


_BOUND = _Bound()
