"""Nothing is added to the language without a word on it: `nnc doc` knows every name."""

from __future__ import annotations

import re

from nnc.frontend import notes
from nnc.frontend.elaborate import builtins
from nnc.frontend.elaborate.expressions import CONSTANTS
from nnc.frontend.recipe.readers import KINDS
from nnc.frontend.recipe.table import KEYS, LATER
from nnc.frontend.reference import library_topics
from nnc.frontend.tables import grammar_text

HINT = "frontend/notes.py describes what no file declares"


def test_every_primitive_is_described() -> None:
    assert set(notes.PRIMITIVES) == set(builtins.NAMES), HINT


def test_what_is_said_of_a_primitive_names_its_parameters() -> None:
    for name, signature in builtins.TABLE.items():
        said = set(re.findall(r"\w+", notes.PRIMITIVES[name].usage))
        wanted = set(signature.names) - {"shape"} if "random" in name else set(signature.names)
        assert wanted <= said, name


def test_every_word_of_the_grammar_is_described() -> None:
    words = set(re.findall(r"^[A-Z]+(?:\.\d)?:\s+/(\w+)\(\?", grammar_text(), re.MULTILINE))
    assert len(words) > 30
    assert words <= set(notes.WORDS), HINT


def test_every_key_reader_and_value_is_described() -> None:
    assert set(notes.KEYS) == {*KEYS, *LATER}, HINT
    assert set(notes.READERS) == set(KINDS), HINT
    assert set(notes.VALUES) == set(CONSTANTS), HINT


def test_every_file_of_the_library_begins_with_a_comment() -> None:
    for topic in library_topics():
        assert topic.about, topic.title
        assert topic.entries, topic.title
