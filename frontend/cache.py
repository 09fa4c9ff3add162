"""Plain data kept between runs: parser tables and syntax trees.

The format is ``marshal``, the one that Python keeps its own compiled modules in. It is not made for
data from strangers, and gets none: ``ir/store.py`` returns what this user wrote, bit for bit.
"""

from __future__ import annotations

import marshal
import sys
from typing import Any

from nnc.ir import sources, store

STAGES = ("grammar", "frontend")
"""What is kept depends on the code of these."""


def key_of(*parts: str) -> str:
    """Return a key that changes with any of ``parts``, with Python and with the frontend's code."""
    return store.key(*parts, sys.version, sources.running(*STAGES))


def load(kind: str, key: str) -> Any | None:
    """Return what ``save`` kept under ``key``, or None."""
    payload = store.load(kind, key)
    if payload is None:
        return None
    try:
        return marshal.loads(payload)
    except (ValueError, EOFError, TypeError):
        store.discard(kind, key)
        return None


def save(kind: str, key: str, data: Any) -> None:
    """Keep ``data`` (numbers, texts, tuples, lists, dicts) for later runs, if that is possible."""
    if sources.unchanged(*STAGES):
        store.store(kind, key, marshal.dumps(data))
