"""Which code this process runs, as a part of the keys of what it makes.

Modules are loaded when they are first needed, so a file that is edited while a process runs may be
loaded, or not. What is made is kept only if no file has changed since ``nnc`` was first imported.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from nnc import __began__

ROOT = Path(__file__).resolve().parent.parent
_COARSE = 10**9
"""Nanoseconds that a file system's clock may be behind."""


@cache
def running(*stages: str) -> str:
    """Return what changes whenever the files of these stages do: their names, sizes and times."""
    return _digest(stages)[0]


def unchanged(*stages: str) -> bool:
    """Whether the files are those that this process loaded, or will load, its modules from."""
    digest, newest = _digest(stages)
    return digest == running(*stages) and newest < __began__ - _COARSE


def _digest(stages: tuple[str, ...]) -> tuple[str, int]:
    """Return a digest over all files, and the time of the latest change."""
    states = sorted(state for stage in stages for state in _states(str(ROOT / stage)))
    text = "\n".join(f"{path} {sizes}" for path, *sizes in states)
    newest = max((max(times) for _, _, *times in states), default=0)
    return hashlib.sha256(f"{sys.version}\n{text}".encode()).hexdigest(), newest


def _states(folder: str) -> Iterator[tuple[str, int, int, int]]:
    with os.scandir(folder) as found:
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                yield from _states(entry.path)
            elif entry.name.endswith((".py", ".nn", ".lark")):
                state = entry.stat()
                yield entry.path, state.st_size, state.st_mtime_ns, state.st_ctime_ns
