"""The formatter: the same program and comments, and nothing left to do the second time."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import nnc
from nnc.frontend import ast
from nnc.frontend.diagnostics import SourceError
from nnc.frontend.layout import format_source
from nnc.frontend.parser import parse_anew
from nnc.frontend.source import Source
from tests.support.grammar_programs import programs

ROOT = Path(__file__).parents[2]
FILES = sorted(
    p
    for folder in ("frontend/stdlib", "examples", "benchmarks", "tests")
    for p in (ROOT / folder).rglob("*.nn")
)
PIECE = re.compile(r'"(?:[^"\\\n]|\\.)*"|#[^\n]*|\s+|.')


def pieces(text: str) -> list[str]:
    """Everything in a text but its blanks, character by character where it is no comment."""
    found = (m[0].rstrip() for m in PIECE.finditer(text.replace("\r", "\n")))
    return [p for p in found if p]


def parsed(text: str) -> ast.File:
    return parse_anew(Source("a.nn", text))


def hold(text: str) -> str:
    """What must be true of any program; return it laid out."""
    result = format_source(text)
    assert ast.same(parsed(text), parsed(result))
    assert pieces(result) == pieces(text)
    assert format_source(result) == result
    for line in result.split("\n"):
        assert line == line.rstrip()
    assert "\n\n\n" not in result
    assert not result.startswith("\n")
    assert not result.endswith("\n\n")
    return result


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_files_of_the_repository_are_laid_out(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert hold(text) == text


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(programs())
def test_any_program_keeps_its_meaning_and_comments(text: str) -> None:
    try:
        parsed(text)
    except SourceError:
        assume(False)
    hold(text)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data(), st.sampled_from(FILES))
def test_blanks_and_breaks_put_anywhere_change_nothing_else(
    data: st.DataObject, path: Path
) -> None:
    """Blanks around the signs of a real file are drawn anew."""
    text = path.read_text(encoding="utf-8")
    signs = [m.start() for m in re.finditer(r"[-=+*,()\[\]]", text)]
    at = sorted(data.draw(st.sets(st.sampled_from(signs), max_size=12)), reverse=True)
    for place in at:
        blanks = data.draw(st.sampled_from([" ", "   ", "\n", "  # note\n ", "\n\n\n"]))
        text = text[:place] + blanks + text[place:]
    try:
        parsed(text)
    except SourceError:
        assume(False)
    hold(text)


CASES = {  # what is written, and how it is laid out
    "blanks": ("fn f(x:float[..s,n],k :int=3)->float[..s]=x*k+ -x ^ 2\n",
               "fn f(x: float[..s, n], k: int = 3) -> float[..s] = x*k + -x^2\n"),
    "slices": ("fn f(x) = x[ : , a : b , : : 2 , - 1, .. ]\n",
               "fn f(x) = x[:, a:b, ::2, -1, ..]\n"),
    "products": ("fn f(a) = a *b + c*d / e\n", "fn f(a) = a * b + c*d / e\n"),
    "a block on one line": ("fn f(x){return x}\n", "fn f(x) { return x }\n"),
    "a block on several": ("fn f(x) { y = x\nreturn y }\n",
                           "fn f(x) {\n    y = x\n    return y\n}\n"),
    "blank lines": (
        "\n\nfn f(x) {\n\n\n  y = x\n\n\n\n  z = y\n\n}\nfn g(x) = x\nfn h(x) = x\n\n\n",
        "fn f(x) {\n    y = x\n\n    z = y\n}\n\nfn g(x) = x\nfn h(x) = x\n",
    ),
    "comments": (
        "fn f(x) {   # a\n# b\n\n   y = x# c\n # d\n}\n# e",
        "fn f(x) {  # a\n    # b\n\n    y = x  # c\n    # d\n}\n# e\n",
    ),
    "else": (
        "model M {\nif a {\nx = 1\n}\nelse if b {\nx = 2\n} # why\nelse {\nx = 3\n}\n}\n",
        "model M {\n    if a {\n        x = 1\n    } else if b {\n        x = 2\n    }  # why\n"
        "    else {\n        x = 3\n    }\n}\n",
    ),
    "columns": (
        "model M {\n  input  image: float[n]\n  target y:     i32[n]\n  a   = 1\n  bcd = 2\n}\n",
        "model M {\n    input  image: float[n]\n    target y:     i32[n]\n    a   = 1\n"
        "    bcd = 2\n}\n",
    ),
    "a column whose longest name has gone": (
        "train M {\n  data      = a\n  batch     = 2\n}\n",
        "train M {\n    data  = a\n    batch = 2\n}\n"
    ),
    "a column joins the next": (
        "train M {\n  data  = a\n  optimizer = b\n  batch = 2\n}\n",
        "train M {\n    data      = a\n    optimizer = b\n    batch = 2\n}\n",
    ),
    "a column whose only reason has been renamed": (
        "train M {\n  data  = a\n  minibatch = b\n  seed  = 2\n}\n",
        "train M {\n    data      = a\n    minibatch = b\n    seed      = 2\n}\n",
    ),
    "under the bracket": (
        "fn f(x) = g(x,\n  y)\n", "fn f(x) = g(x,\n    y)\n"
    ),
    "under the first argument": (
        "fn f(x) = g(x,\n               y)\n", "fn f(x) = g(x,\n            y)\n"
    ),
    "a bracket that ends its line": (
        "fn f(x) = g(\nx,\ny\n)\n", "fn f(x) = g(\n    x,\n    y\n)\n"
    ),
    "a scan": (
        "fn f(x) {\ny = scan t < n\ncarry (h = 0)\nuntil done {\nyield h\n}\nreturn y\n}\n",
        "fn f(x) {\n    y = scan t < n\n        carry (h = 0)\n        until done {\n"
        "        yield h\n    }\n    return y\n}\n",
    ),
    "two lists": (
        "layer f(a: int)\n(x: float[n])\n-> float[n] {\nreturn x\n}\n",
        "layer f(a: int)\n       (x: float[n])\n    -> float[n] {\n    return x\n}\n",
    ),
    "dots that must not touch": (
        "model M {\n  input x: i32[n] in 0 .. ...\n}\n",
        "model M {\n    input x: i32[n] in 0.. ...\n}\n",
    ),
    "carriage returns": ("fn f(x) = x\r\nfn g(x) = x\r", "fn f(x) = x\nfn g(x) = x\n"),
    "nothing": ("\n \n", ""),
    "only a comment": ("\n\n# a  \n\n\n#b", "# a\n\n#b\n"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_style(name: str) -> None:
    text, expected = CASES[name]
    assert hold(text) == expected


def test_from_python() -> None:
    assert nnc.format_source("fn f(x)=x") == "fn f(x) = x\n"
    with pytest.raises(nnc.SourceError) as caught:
        nnc.format_source("fn f(x) = (x", "bad.nn")
    assert caught.value.diagnostics[0].span is not None
    assert caught.value.diagnostics[0].span.file == "bad.nn"
