"""The standard library parses, is cached faithfully, and says what each thing is."""

from __future__ import annotations

from pathlib import Path

import pytest

from nnc.frontend import ast
from nnc.frontend.library import library_files, library_sources
from nnc.frontend.parser import parse_anew as parse

EXPECTED = {
    ast.Fn: "relu leaky_relu elu gelu silu sigmoid softplus softmax log_softmax dropout mse mae "
    "huber binary_cross_entropy cross_entropy l1 l2 zeros ones constant uniform normal "
    "glorot_uniform glorot_normal he_uniform he_normal identity one_hot where clip",
    ast.Layer: "linear embedding layer_norm rms_norm batch_norm",
    ast.Optimizer: "sgd rmsprop adagrad adam adamw",
    ast.Schedule: "constant step exponential linear cosine",
}


def test_what_the_library_declares() -> None:
    declared = {
        kind: {str(i.name) for f in library_files() for i in f.items if type(i) is kind}
        for kind in EXPECTED
    }
    for kind, names in EXPECTED.items():
        assert set(names.split()) <= declared[kind]


@pytest.mark.parametrize("kinds", [(ast.Fn, ast.Layer), (ast.Schedule, ast.Optimizer)])
def test_no_name_is_declared_twice(kinds: tuple[type, ...]) -> None:
    names = [str(i.name) for f in library_files() for i in f.items if isinstance(i, kinds)]
    assert names
    assert len(names) == len(set(names))


def test_every_declaration_has_a_comment() -> None:
    plain = {"zeros", "ones", "constant", "glorot_normal", "he_normal", "l2"}
    for source, file in zip(library_sources(), library_files(), strict=True):
        assert source.text.startswith("# ")
        for item in file.items:
            line = source.position(item.span.start)[0]
            name = str(getattr(item, "name", ""))
            assert name in plain or source.line(line - 1).startswith("#"), name


def test_lines_are_short() -> None:
    for source in library_sources():
        assert [n for n in range(1, source.lines) if len(source.line(n)) > 100] == []


def test_cached_trees_equal_parsed_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for _ in range(2):  # made, then read back
        library_files.cache_clear()
        for source, file in zip(library_sources(), library_files(), strict=True):
            made = parse(source)
            assert ast.same(file, made)
            assert [n.span for n in ast.walk(file)] == [n.span for n in ast.walk(made)]
    library_files.cache_clear()
