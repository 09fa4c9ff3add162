"""How diagnostics are collected, rendered and handed to editors."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from nnc.frontend.diagnostics import Diagnostic, Diagnostics, SourceError
from nnc.frontend.edits import replacing
from nnc.frontend.lsp import to_json
from nnc.frontend.names import nearest
from nnc.frontend.rendering import render, render_all
from nnc.frontend.source import Source, sources_by_name

TEXT = """\
model Digits {
    input  image: float[batch, 64]
    w = weights(64, 10)

    h      = image |> linear(hidden) |> relu

    logits = h @ w
}
"""
SOURCE = Source("digits.nn", TEXT)
OTHER = Source("other.nn", "fn weights(a, b) = a\n")
SOURCES = sources_by_name([SOURCE, OTHER])


def at(text: str, within: str = "", source: Source = SOURCE):  # type: ignore[no-untyped-def]
    start = source.text.index(within or text)
    start = source.text.index(text, start)
    return source.span(start, start + len(text))


def shown(d: Diagnostic) -> str:
    return render(d, SOURCES)


def dedent(text: str) -> str:
    return textwrap.dedent(text).strip("\n")


def test_both_places_reason_and_hint() -> None:
    found = Diagnostic(
        "E0203",
        "these two shapes do not multiply",
        at("@", "h @ w"),
        "the inner dims must agree: 128 and 64",
        ((at("h @ w"), ""), (at("h     "[:1], "h      ="), "h: float[batch, 128]")),
        ("w: float[64, 10], declared at digits.nn:3:5",),
        "w has its dims the other way round",
    )
    assert shown(found) == dedent(
        """
        error[E0203]: these two shapes do not multiply
          --> digits.nn:7:16
           |
         5 |     h      = image |> linear(hidden) |> relu
           |     - h: float[batch, 128]
         6 |
         7 |     logits = h @ w
           |              --^-- the inner dims must agree: 128 and 64
           = w: float[64, 10], declared at digits.nn:3:5
        help: w has its dims the other way round
        """
    )


def test_far_lines_are_left_out_and_other_files_have_their_own_excerpt() -> None:
    found = Diagnostic(
        "E0209",
        "weights is wrong",
        at("logits"),
        "here",
        ((at("image", "input"), "from here"), (at("weights", source=OTHER), "declared here")),
    )
    assert shown(found) == dedent(
        """
        error[E0209]: weights is wrong
          --> digits.nn:7:5
           |
         2 |     input  image: float[batch, 64]
           |            ----- from here
           ...
         7 |     logits = h @ w
           |     ^^^^^^ here
          --> other.nn:1:4
           |
         1 | fn weights(a, b) = a
           |    ------- declared here
        """
    ).replace("   ...", "  ...")


def test_labels_and_notes_of_several_lines_hang() -> None:
    found = Diagnostic("E0001", "m", at("logits"), "one\ntwo", notes=("a\nb",), hint="c\nd")
    assert shown(found).splitlines()[4:] == [
        "   |     ^^^^^^ one",
        "   |            two",
        "   = a",
        "     b",
        "help: c",
        "      d",
    ]


def test_two_labels_on_one_line_have_a_row_each() -> None:
    found = Diagnostic("E0001", "m", at("w", "h @"), "right", ((at("h", "h @"), "left"),))
    assert shown(found).splitlines()[4:] == [
        "   |                  ^ right",
        "   |              - left",
    ]


@pytest.mark.parametrize(
    ("line", "word", "column"),
    [("\tx = y", "y", 8), ("日本 = y", "y", 7), ("e\u0301 = y", "y", 4), ("\x1b[1m y", "y", 5)],
)
def test_underlines_stand_under_what_is_seen(line: str, word: str, column: int) -> None:
    source = Source("s.nn", line)
    start = line.index(word)
    text = render(Diagnostic("E", "m", source.span(start, start + 1)), {"s.nn": source})
    shown_line, underline = text.splitlines()[3:5]
    assert underline.index("^") - underline.index("|") - 2 == column
    assert "\x1b" not in shown_line
    assert "\t" not in shown_line


def test_places_at_and_past_the_ends() -> None:
    source = Source("s.nn", "ab\ncd")
    for start, end, place in [(0, 0, "1:1"), (2, 9, "1:3"), (5, 5, "2:3"), (99, 120, "2:3")]:
        text = render(Diagnostic("E", "m", source.span(start, end)), {"s.nn": source})
        assert f"s.nn:{place}\n" in text
        assert "^" in text
    assert render(Diagnostic("E", "m", Source("gone", "x").span(0, 1)), {}).endswith("--> gone")
    assert render(Diagnostic("E", "m", None), {}) == "error[E]: m"


def test_collecting_sorts_and_drops_repeats() -> None:
    diagnostics = Diagnostics()
    late, early = Diagnostic("E2", "b", at("logits")), Diagnostic("E1", "a", at("model"))
    warning = Diagnostic("W1", "w", at("input"), severity="warning")
    diagnostics.add(warning)
    diagnostics.check()
    diagnostics.extend([late, early, late])
    assert list(diagnostics) == [early, warning, late]
    assert len(diagnostics) == 3
    with pytest.raises(SourceError) as caught:
        diagnostics.check()
    assert caught.value.diagnostics == (early, warning, late)
    assert render_all(caught.value.diagnostics, SOURCES).endswith("\n\n2 errors")


def test_editors_count_from_zero_and_in_utf16() -> None:
    source = Source("s.nn", 'x = "\U0001f600" $\n')
    start = source.text.index("$")
    span = source.span(start, start + 1)
    found = to_json(
        Diagnostic("E0102", "m", span, "l", ((span, "r"),), ("n",), "h", fix=replacing(span, "+")),
        {"s.nn": source},
    )
    place = {"start": {"line": 0, "character": 9}, "end": {"line": 0, "character": 10}}
    assert found["range"] == place
    assert found["severity"] == 1
    assert found["relatedInformation"][0]["location"] == {"uri": "s.nn", "range": place}
    assert found["data"] == {
        "notes": ["n"],
        "hint": "h",
        "label": "l",
        "fixes": [
            {
                "title": "write `+`",
                "kind": "quickfix",
                "isPreferred": True,
                "edit": {"changes": {"s.nn": [{"range": place, "newText": "+"}]}},
            }
        ],
    }


def test_nearest_word() -> None:
    assert nearest("optimiser", ["optimizer", "epochs", "batch"]) == "optimizer"
    assert nearest("zzz", ["optimizer", "epochs"]) is None


def test_reading_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.nn"
    path.write_bytes(b"\xef\xbb\xbffn f(x) = x\r\n")
    source = Source.read(path, "a.nn")
    assert source == Source("a.nn", "fn f(x) = x\n")
    path.write_bytes(b"\xff")
    with pytest.raises(UnicodeDecodeError):
        Source.read(path)
