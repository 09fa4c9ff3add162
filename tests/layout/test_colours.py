"""The Pygments lexer and the TextMate grammar colour every program, and alike."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from pygments.lexers import get_lexer_by_name, get_lexer_for_filename
from pygments.token import Error, Keyword, Text, Whitespace

from nnc.frontend.colours import SCOPES, textmate_grammar
from nnc.frontend.layout.words import Word, read_words
from nnc.frontend.parser import parse_tree
from nnc.frontend.pygments_lexer import TOKENS, NncLexer
from nnc.frontend.source import Source

ROOT = Path(__file__).parents[2]
FILES = sorted(
    p
    for folder in ("frontend/stdlib", "examples", "benchmarks", "tests")
    for p in (ROOT / folder).rglob("*.nn")
)
VSCODE = ROOT / "editors" / "vscode"
OF_SCOPE = {scope: TOKENS[name] for name, scope in SCOPES.items()}
KEYWORDS = frozenset({
    "IF", "THEN", "ELSE", "AND", "OR", "NOT", "RETURN", "YIELD", "REQUIRE", "ASSERT", "SCAN",
    "REPEAT", "LANGUAGE", "IMPORT", "AS", "MODEL", "TRAIN", "FN", "LAYER", "OPTIMIZER", "SCHEDULE",
    "TEST", "IN", "WHERE", "WITHIN", "WITH", "GRADIENT", "CARRY", "UNTIL", "INPUT", "TARGET",
    "OUTPUT", "METRIC", "PARAM", "BUFFER", "STATE", "UPDATE", "STEP", "REVERSE", "LOSS", "TRUE",
    "FALSE",
})  # fmt: skip


def by_character(text: str) -> list[object]:
    """The token of each character, as Pygments sees it."""
    return [kind for _, kind, part in NncLexer().get_tokens_unprocessed(text) for _ in part]


def textmate(text: str) -> list[object]:
    """The same by the TextMate grammar: line by line, the first pattern that fits furthest left."""
    grammar = json.loads((VSCODE / "syntaxes" / "nnc.tmLanguage.json").read_text())
    rules = [(re.compile(p["match"]), p) for p in grammar["patterns"]]
    found: list[object] = []
    for line in text.splitlines(keepends=True):
        kinds: list[object] = [Whitespace] * len(line)
        at = 0
        while at < len(line):
            hits = [(m.start(), k) for k, (r, _) in enumerate(rules) if (m := r.search(line, at))]
            if not hits:
                break
            _, rule = min(hits)
            match = rules[rule][0].search(line, at)
            assert match is not None
            named = rules[rule][1]
            scopes = named.get("captures") or {"0": {"name": named["name"]}}
            for group, scope in scopes.items():
                kind = OF_SCOPE[scope["name"].removesuffix(".nnc")]
                for k in range(*match.span(int(group))):
                    kinds[k] = kind
            at = match.end()
        found += kinds
    return found


def words(text: str) -> tuple[Word, ...]:
    source = Source("a.nn", text)
    return read_words(source, parse_tree(source)[0]).words


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_is_coloured_alike_and_whole(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    kinds = by_character(text)
    assert len(kinds) == len(text)
    assert not {Error, Text} & set(kinds)
    assert textmate(text) == kinds


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_keywords_are_those_of_the_grammar(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    kinds = by_character(text)
    for word in words(text):
        keyword = kinds[word.start] in Keyword and kinds[word.start] is not Keyword.Type
        at = text.count("\n", 0, word.start) + 1
        assert keyword == (word.kind in KEYWORDS), f"line {at}: {word.text}"


def test_a_character_that_means_nothing_stands_out_and_ends_nothing() -> None:
    text = 'x = "open\ny = $ é 3\n'
    kinds = by_character(text)
    assert kinds[text.index("$")] is Text
    assert kinds[text.index("3")] is TOKENS["number"]


def test_pygments_finds_the_lexer() -> None:
    assert isinstance(get_lexer_by_name("nn"), NncLexer)
    assert isinstance(get_lexer_for_filename("model.nn"), NncLexer)


def test_the_textmate_grammar_is_the_one_of_the_table() -> None:
    kept = json.loads((VSCODE / "syntaxes" / "nnc.tmLanguage.json").read_text())
    assert kept == textmate_grammar()
    assert not any("(?<" in p["match"] for p in kept["patterns"])  # what Oniguruma reads otherwise


def test_the_extension_names_files_that_are_there() -> None:
    package = json.loads((VSCODE / "package.json").read_text())["contributes"]
    (language,), (grammar,) = package["languages"], package["grammars"]
    assert language["extensions"] == [".nn"]
    json.loads((VSCODE / language["configuration"]).read_text())
    assert json.loads((VSCODE / grammar["path"]).read_text())["scopeName"] == grammar["scopeName"]
