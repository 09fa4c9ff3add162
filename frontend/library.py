"""The standard library: the ``.nn`` files in ``frontend/stdlib/``."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources

from nnc.frontend import ast
from nnc.frontend.parser import parse
from nnc.frontend.source import Source

LIBRARY = "<library>/"
"""What the names of the library's files begin with in messages."""


@lru_cache(maxsize=1)
def library_sources() -> tuple[Source, ...]:
    """Return the library's files by name; messages call them ``<library>/layers.nn``."""
    folder = resources.files("nnc.frontend.stdlib")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".nn"))
    texts = [folder.joinpath(name).read_text(encoding="utf-8") for name in names]
    return tuple(Source(f"{LIBRARY}{n}", text) for n, text in zip(names, texts, strict=True))


@lru_cache(maxsize=1)
def library_files() -> tuple[ast.File, ...]:
    """Return the library's syntax trees, the same ones for the life of the process."""
    return tuple(parse(source) for source in library_sources())
