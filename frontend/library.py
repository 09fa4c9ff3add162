"""The standard library: the ``.nn`` files in ``frontend/stdlib/``."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from nnc.frontend import ast, stdlib
from nnc.frontend.parser import parse
from nnc.frontend.source import Source

LIBRARY = "<library>/"
"""What the names of the library's files begin with in messages."""


@lru_cache(maxsize=1)
def library_sources() -> tuple[Source, ...]:
    """Return the library's files by name; messages call them ``<library>/layers.nn``."""
    paths = sorted(Path(stdlib.__path__[0]).glob("*.nn"))
    return tuple(Source(f"{LIBRARY}{p.name}", p.read_text(encoding="utf-8")) for p in paths)


@lru_cache(maxsize=1)
def library_files() -> tuple[ast.File, ...]:
    """Return the library's syntax trees, the same ones for the life of the process."""
    return tuple(parse(source) for source in library_sources())
