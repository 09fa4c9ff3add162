"""Programs that are too much: each ends soon, in one message, and prints little."""

from __future__ import annotations

import pytest

from nnc.frontend.diagnostics import SourceError
from nnc.frontend.elaborate.model import elaborate
from nnc.frontend.rendering import render_all
from nnc.frontend.source import Source

LONG = 20_000


def model(body: str, ports: str = "input x: float[b]") -> str:
    return f"model M {{\n{ports}\n{body}\noutput y\n}}\n"


PROGRAMS = {
    "brackets that close nothing": (")" * LONG, "E0105"),
    "brackets that never close": ("[" * LONG, "E0107"),
    "a line of junk": ("model M { " + "%x " * LONG + "}", "E0101"),
    "a text without an end": ('import "' + "a" * LONG, "E0106"),
    "a deep sum": (model("y = x" + " + x" * 5000), "E0107"),
    "a deep choice": (model("y = " + "if true then x else " * 3000 + "x"), "E0107"),
    "whole numbers that square": (
        model("n = 3\nrepeat i < 100 { n = n*n }\ny = x*float(n)"),
        "E0210",
    ),
    "sizes that square": (
        model("n = b + 1\nrepeat i < 100 { n = n*n }\ny = x*float(n)"),
        "E0210",
    ),
    "sizes halved too often": (
        model("n = b\nrepeat i < 2000 { n = (n + 1)//2 }\ny = x*float(n)"),
        "E0210",
    ),
    "too many dims": (
        model("y = x", f"input x: float[{', '.join(f'd{i}' for i in range(200))}]"),
        "E0211",
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_too_much_ends_in_a_short_message(name: str) -> None:
    text, code = PROGRAMS[name]
    with pytest.raises(SourceError) as caught:
        elaborate(Source("m.nn", text))
    found = caught.value.diagnostics
    assert {d.code for d in found} == {code}
    assert len(found) == 1 or code == "E0105"
    shown = render_all(found, {"m.nn": Source("m.nn", text)})
    assert max(map(len, shown.splitlines())) < 300
    assert len(shown) < 25_000


def test_after_a_hundred_errors_the_rest_is_not_read() -> None:
    text = model("\n".join(f"y{i} = missing{i}" for i in range(3000)) + "\ny = x")
    with pytest.raises(SourceError) as caught:
        elaborate(Source("m.nn", text))
    assert len(caught.value.diagnostics) == 100


def test_a_long_line_is_shown_around_its_mark() -> None:
    parts = " + ".join(["x"] * 60)
    text = model(f"y = ({parts}) * unknown * ({parts})")
    with pytest.raises(SourceError) as caught:
        elaborate(Source("m.nn", text))
    shown = render_all(caught.value.diagnostics, {"m.nn": Source("m.nn", text)}).splitlines()
    line = next(i for i, s in enumerate(shown) if "unknown *" in s)
    at = shown[line].index("unknown *")
    assert shown[line + 1][at : at + 7] == "^^^^^^^"
    assert shown[line].count("...") == 2
