"""Files that are written whole or not at all. Everything that nnc writes goes through here.

A file is written under a temporary name, synced, renamed, and its folder synced: whatever happens
on the way, its name stands for the old content or the new.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

PREFIX = ".new-"
"""How temporary names begin. What bears one is the rest of a write that did not end."""
MOST_AT_ONCE = 1 << 30
"""Bytes of one call of the system, some of which take no more than 2 GiB."""
STALE_SECONDS = 3600
"""Age from which on such a rest cannot belong to a write that still goes on."""


def write_whole(path: Path, data: bytes) -> None:
    """Write a file. Raises OSError; what was there before is then still there."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=PREFIX)
    try:
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(handle, left[:MOST_AT_ONCE]) :]
            os.fsync(handle)
        finally:
            os.close(handle)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder of files that appears at once. ``path`` must not be there yet.

    Raises OSError; there is then no such folder.
    """
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=PREFIX))
    try:
        for name, data in files.items():
            write_whole(temporary / name, data)
        os.rename(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(path.parent)


def remove_folder(path: Path) -> None:
    """Remove a folder of files; it is gone at once for who looks by its name."""
    aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=PREFIX))
    os.rename(path, aside / "old")
    sync_folder(path.parent)
    shutil.rmtree(aside, ignore_errors=True)


def sync_folder(path: Path) -> None:
    """Bring the names in a folder to the disk."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def clear_rests(folder: Path, age: float = STALE_SECONDS) -> None:
    """Remove the rests in ``folder`` of writes that did not end, if they are older than ``age``."""
    for left in folder.glob(f"{PREFIX}*"):
        try:
            if time.time() - left.stat().st_mtime < age:
                continue
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)
        except OSError:
            continue  # it is someone else's, or already gone
