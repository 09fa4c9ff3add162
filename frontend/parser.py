"""From text to syntax tree, by way of the cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnc.frontend import ast, cache
from nnc.frontend.diagnostics import Diagnostics
from nnc.frontend.source import Source
from nnc.frontend.tables import grammar_text
from nnc.frontend.tree_data import SCHEMA, from_data, to_data

if TYPE_CHECKING:
    from lark import Token, Tree


def parse(source: Source) -> ast.File:
    """Return the syntax tree of a source, from the cache where it has been parsed before.

    Raises SourceError with all syntax errors that could be told apart.
    """
    key = cache.key_of(grammar_text(), SCHEMA, source.text)
    kept = cache.load("trees", key)
    if kept is not None:
        return from_data(kept, source.name)
    file = parse_anew(source)
    cache.save("trees", key, to_data(file))
    return file


def parse_anew(source: Source) -> ast.File:
    """Return the syntax tree of a source. Raises SourceError as ``parse`` does."""
    return parse_tree(source)[1]


def parse_tree(source: Source) -> tuple[Tree[Token], ast.File]:
    """Return Lark's tree, which has every token, and ours. Raises SourceError as ``parse`` does."""
    from nnc.frontend.brackets import repair
    from nnc.frontend.builder import Builder
    from nnc.frontend.reader import Reader, check_depth

    diagnostics = Diagnostics()
    repaired = repair(source, diagnostics)
    tree = Reader(source, repaired, diagnostics).read() if repaired else None
    if repaired and tree is not None:
        file = Builder(source, repaired.original, diagnostics).build(tree)
        check_depth(file, diagnostics)
        diagnostics.check()
        return tree, file
    diagnostics.check()
    raise AssertionError("a parse that fails reports why")
