"""The standard library: ``.nn`` files in ``frontend/stdlib/``, parsed once and then cached."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources

from nnc.frontend import ast, cache
from nnc.frontend.parser import parse
from nnc.frontend.source import Source
from nnc.frontend.tables import grammar_text
from nnc.frontend.tree_data import SCHEMA, from_data, to_data


@lru_cache(maxsize=1)
def library_sources() -> tuple[Source, ...]:
    """Return the library's files by name; messages call them ``<library>/layers.nn``."""
    folder = resources.files("nnc.frontend.stdlib")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".nn"))
    texts = [folder.joinpath(name).read_text(encoding="utf-8") for name in names]
    return tuple(Source(f"<library>/{n}", text) for n, text in zip(names, texts, strict=True))


@lru_cache(maxsize=1)
def library_files() -> tuple[ast.File, ...]:
    """Return the library's syntax trees, the same ones for the life of the process."""
    sources = library_sources()
    parts = [part for source in sources for part in (source.name, source.text)]
    key = cache.key_of(grammar_text(), SCHEMA, *parts)
    kept = cache.load("library", key)
    if kept is not None:
        return tuple(from_data(data) for data in kept)
    files = tuple(parse(source) for source in sources)
    cache.store("library", key, [to_data(file) for file in files])
    return files
