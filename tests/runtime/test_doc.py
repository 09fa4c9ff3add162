"""`nnc doc`: every name has a page; a user's names are found as the library's are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from nnc.cli import main
from nnc.frontend.reference import comment_above, language_topics, library_topics
from nnc.frontend.source import Source

PROGRAM = """# Sequences of notes.

import "parts/blocks.nn" as b
import "more.nn"

# Half of it.
#
# And a second paragraph.
fn half(x: float[..s],   # what is halved
        by: float = 0.5) -> float[..s] = by*x

model Notes(width: int = 4) {
    input x: float[batch, 3]
    y = x |> b.gate(width) |> half
    output y
    loss mean(twice(y)^2)
}
train Notes as slow { data = { x = [[1, 2, 3]] }, optimizer = drop(lr = 0.1), steps = 1 }
"""
BLOCKS = """# A gate.
layer gate(out: int)
          (x: float[..s, n]) -> float[..s, out] {
    param weight: float[n, out] = zeros()
    return x @ weight
}
"""
MORE = """fn twice(x: float[..s]) -> float[..s] = 2*x
# Plain descent.
optimizer drop(lr: schedule = 0.1)(w, g, t) = w - lr(t)*g
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "blocks.nn").write_text(BLOCKS)
    (tmp_path / "more.nn").write_text(MORE)
    path = tmp_path / "notes.nn"
    path.write_text(PROGRAM)
    return path


def doc(*arguments: str) -> str:
    done = CliRunner().invoke(main, ["doc", *arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def entries(*arguments: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(doc(*arguments, "--json"))["entries"]
    return found


def test_every_name_has_a_page() -> None:
    for topic in [*library_topics(), *language_topics()]:
        for entry in topic.entries:
            assert entry.signature in " ".join(doc(entry.name).split()), entry.name


def test_the_place_is_where_the_declaration_stands() -> None:
    for topic in library_topics():
        for entry in topic.entries:
            assert entry.path is not None
            assert entry.line is not None
            assert entry.source is not None
            text = Path(entry.path).read_text(encoding="utf-8")
            rest = text.split("\n", entry.line - 1)[entry.line - 1]
            assert rest.startswith(entry.source)


def test_one_name_of_two_kinds_shows_both() -> None:
    assert [e["kind"] for e in entries("linear")] == ["layer", "schedule"]


def test_config_has_its_types_and_defaults() -> None:
    (found,) = entries("layer_norm")
    assert found["config"] == [{"name": "eps", "type": "float", "default": "1e-5"}]
    assert found["holds"] == [
        "param scale: float[n] = ones()", "param shift: float[n] = zeros()"
    ]  # fmt: skip


def test_names_of_a_file(file: Path) -> None:
    (half,) = entries("half", "--file", str(file))
    assert half["about"] == "Half of it.\n\nAnd a second paragraph."
    assert half["signature"] == "fn half(x: float[..s], by: float = 0.5) -> float[..s]"
    assert half["line"] == 9
    (model,) = entries("Notes", "--file", str(file))
    assert model["holds"] == ["input x: float[batch, 3]", "output y", "loss mean(twice(y)^2)"]
    (train,) = entries("slow", "--file", str(file))
    assert train["holds"] == [
        "data = { x = [[1, 2, 3]] }", "optimizer = drop(lr = 0.1)", "steps = 1"
    ]  # fmt: skip


def test_names_of_imported_files(file: Path) -> None:
    (gate,) = entries("b.gate", "--file", str(file))
    assert gate["signature"] == "layer gate(out: int)(x: float[..s, n]) -> float[..s, out]"
    assert (gate["path"], gate["line"]) == ("parts/blocks.nn", 2)
    (drop,) = entries("drop", "--file", str(file))
    assert (drop["kind"], drop["about"]) == ("optimizer", "Plain descent.")
    (twice,) = entries("twice", "--file", str(file))
    assert twice["about"] == ""


def test_the_list_begins_with_the_names_of_the_file(file: Path) -> None:
    shown = doc("--file", str(file))
    assert shown.startswith("notes.nn\n  half Notes slow twice drop b.gate\n\nactivations\n")
    assert doc("--file", str(file), "--markdown").startswith("# Notes.nn\n\nSequences of notes.\n")


def test_the_source_is_as_written(file: Path) -> None:
    shown = doc("b.gate", "--file", str(file), "--source")
    assert shown == f"# parts/blocks.nn:2\n{BLOCKS}"


def test_a_code_is_explained() -> None:
    assert doc("e0203") == CliRunner().invoke(main, ["explain", "E0203"]).stdout


def test_a_file_with_faults_tells_them(tmp_path: Path) -> None:
    path = tmp_path / "wrong.nn"
    path.write_text('import "nowhere.nn"\nfn f(x: float) = x\n')
    done = CliRunner().invoke(main, ["doc", "f", "--file", str(path)])
    assert done.exit_code == 1
    assert "error[E0221]" in done.stderr
    missing = CliRunner().invoke(main, ["doc", "f", "--file", str(tmp_path / "no.nn")])
    assert missing.exit_code == 1
    assert "error[E0646]" in missing.stderr


@pytest.mark.parametrize(
    ("text", "about"),
    [
        ("# a\nfn f() = 1", "a"),
        ("# file\n\nfn f() = 1", ""),
        ("# file\n\n# a\n# b\nfn f() = 1", "a b"),
        ("x\nfn f() = 1", ""),
    ],
)
def test_the_comment_above(text: str, about: str) -> None:
    assert comment_above(Source("x.nn", text), text.index("fn")) == about
