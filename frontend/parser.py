"""From text to syntax tree, by way of the cache."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from nnc.frontend import ast, cache
from nnc.frontend.diagnostics import Diagnostic, Diagnostics
from nnc.frontend.source import Source
from nnc.frontend.tables import grammar_text
from nnc.frontend.tree_data import SCHEMA, from_data, to_data

if TYPE_CHECKING:
    from lark import Token, Tree

MAX_WORDS = 50_000
"""Words of one file: names, numbers, texts and signs. A page of a program has about 300."""
_WORD = re.compile(r'"(?:[^"\\\n]|\\.)*"|#[^\n]*|\w+|[^\s\w]')


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
    _check_length(source, diagnostics)
    repaired = repair(source, diagnostics)
    tree = Reader(source, repaired, diagnostics).read() if repaired else None
    if repaired and tree is not None:
        file = Builder(source, repaired.original, diagnostics).build(tree)
        check_depth(file, diagnostics)
        diagnostics.check()
        return tree, file
    diagnostics.check()
    raise AssertionError("a parse that fails reports why")


def _check_length(source: Source, diagnostics: Diagnostics) -> None:
    """Refuse what takes seconds to read, at once. Raises SourceError."""
    words = 0
    for match in _WORD.finditer(source.text):
        words += not match.group().startswith("#")
        if words > MAX_WORDS:
            diagnostics.add(
                Diagnostic(
                    "E0130",
                    "this file is too long",
                    source.span(*match.span()),
                    f"at most {MAX_WORDS:,} words are read, and this is the next",
                    hint="move parts of it to files of their own and `import` them, and numbers to "
                    "a data file",
                )
            )
            diagnostics.check()
