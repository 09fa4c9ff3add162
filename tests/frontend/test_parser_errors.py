"""Syntax errors: which are found, where they point, and what they say."""

from __future__ import annotations

import pytest

from nnc.frontend.diagnostics import Diagnostic, SourceError
from nnc.frontend.edits import applied
from nnc.frontend.parser import parse_anew as parse
from nnc.frontend.rendering import render
from nnc.frontend.source import Source


def errors(text: str) -> list[Diagnostic]:
    with pytest.raises(SourceError) as caught:
        parse(Source("m.nn", text))
    return list(caught.value.diagnostics)


def told(text: str) -> list[tuple[str, str]]:
    """The code of each error and the text it points at."""
    return [(d.code, text[d.span.start : d.span.end]) for d in errors(text) if d.span]


def body(text: str) -> str:
    return f"model M {{\n{text}\n}}\n"


@pytest.mark.parametrize(
    ("text", "code", "at", "says"),
    [
        ("x = 3 4", "E0101", "4", "expected an operator or the end of the line"),
        ("y = f(a b)", "E0101", "b", "expected `)` or `,`"),
        ("y = f(a, , b)", "E0101", ",", "expected an expression or `)`"),
        ("y = a +", "E0101", "}", "`+` needs something after it"),
        ("y = if a then b", "E0101", "\n", "expected `else`"),
        ("y = x[]", "E0101", "]", "expected an expression, `..` or `:`"),
        ("y = a ** 2", "E0101", "**", "a power is written `^`"),
        ("y += 1", "E0101", "+=", "write `x = x + ...`"),
        ("y := 1", "E0101", ":=", "name = value"),
        ("if x = 3 { y = 2 }", "E0101", "=", "write `==` to compare"),
        ("y = .5", "E0101", ".", "a digit on both sides"),
        ("y = 5.", "E0101", "5.", "a digit on both sides"),
        ("param w = 3", "E0101", "=", "expected `:`"),
        ("loss", "E0101", "loss", "declares nothing"),
        ("y = a $ b", "E0102", "$", "means nothing here"),
        ("y = a && b", "E0102", "&", "write `and`"),
        ("y = 'a'", "E0102", "'", "double quotes"),
        ("y = é", "E0102", "é", "names are made of"),
        ("then = 3", "E0108", "then", "call it `then_`"),
        ("y = f(a, else = 3)", "E0101", "else", "expected"),
        ("inptu x: float[batch]", "E0109", "inptu", "perhaps `input`"),
        ("metrc a = 3", "E0109", "metrc", "perhaps `metric`"),
        ("let y = 3", "E0109", "let", "a binding is just `name = value`"),
        ("y = 1e999", "E0110", "1e999", "too large"),
        ("y = 9_223_372_036_854_775_808", "E0110", "9_223_372_036_854_775_808", "64 bits"),
        ('y = "a\\q"', "E0111", '"a\\q"', "means nothing"),
        ("a[i], b = x", "E0112", "a[i]", "stands alone"),
        ("a[i where i < 3] = x", "E0113", "i < 3", "belongs to a reduction"),
        ("y = f(a = 1, a = 2)", "E0115", "a = 2", "given twice"),
        ("y = f(a = 1, 2)", "E0116", "2", "after one with a name"),
        ("y = h + h |> norm", "E0119", "|>", "parentheses"),
        ("f(x)", "E0120", "f(", "not given a name"),
        ("x |> f", "E0120", "x", "not given a name"),
    ],
)
def test_one_error_in_a_statement(text: str, code: str, at: str, says: str) -> None:
    whole = body(text)
    found = errors(whole)
    assert told(whole) == [(code, at)]
    assert says in render(found[0], {"m.nn": Source("m.nn", whole)})


@pytest.mark.parametrize(
    ("text", "code", "at", "says"),
    [
        ("x = 3\n", "E0101", "x", "outside a declaration"),
        ("input x: float[n]\n", "E0101", "input", "outside a declaration"),
        ("modle M { }\n", "E0109", "modle", "perhaps `model`"),
        ("def f(x):\n    return x\n", "E0109", "def", "`fn`"),
        ("class Net:\n    pass\n", "E0109", "class", "`model`"),
        ("fn f(x)\n{\n return x\n}\n", "E0101", "\n", "end of the line that it belongs to"),
        ("fn f(x, x) = x\n", "E0114", "x", "two parameters"),
        ("layer l(a)(a) { return a }\n", "E0114", "a", "two parameters"),
        ("language 2\nfn f(x) = x\n", "E0117", "language 2", "version 1"),
        ("train M { step a { step b { x = 1 } } }\n", "E0118", "step b { x = 1 }", "another"),
        ("layer l(x: float[n]) -> float[n] { return x }\n", "E0121",
         "layer l(x: float[n])", "needs two"),
        ("fn repeat(x) = x\n", "E0108", "repeat", "cannot be a name"),
        ("model M { fn f(x) = x\n}\n", "E0101", "f", "expected"),
    ],
)  # fmt: skip
def test_one_error_in_a_file(text: str, code: str, at: str, says: str) -> None:
    assert told(text) == [(code, at)]
    assert says in render(errors(text)[0], {"m.nn": Source("m.nn", text)})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model M {\n  x = (1 + 2\n}\n", [("E0103", "(")]),
        ("model M {\n  x = f(a, b\n  y = 3\n}\n\nfn f(x) = x\n", [("E0103", "(")]),
        ("model M {\n  x = [1, 2)\n}\n", [("E0104", ")")]),
        ("model M {\n  x = 1\n}\n}\n", [("E0105", "}")]),
        ("fn f(x = x\nfn g(x) = x\n", [("E0103", "(")]),
        ("model M {\n  x = 1\n\ntrain M {\n  batch = 3\n}\n", [("E0103", "{")]),
        ('train M {\n  data = npz("a.npz)\n  batch = 3\n}\n', [("E0106", '"a.npz')]),
        ("train M {\n  a = \"x\n}\n", [("E0106", '"x')]),
        (
            "model M {\n  if training {\n    x = 3\n  y = 2\n}\n\nfn f(x) = x\n",
            [("E0103", "{")],
        ),
    ],
)  # fmt: skip
def test_brackets(text: str, expected: list[tuple[str, str]]) -> None:
    assert told(text) == expected


def test_the_inner_brace_is_blamed() -> None:
    text = "layer l()(x) {\n  if training {\n    y = 3\n  return y\n}\n"
    (found,) = errors(text)
    assert found.span is not None
    assert text[: found.span.start].endswith("if training ")
    assert found.related[0][0].start == text.rindex("}")


def test_all_errors_of_a_file_are_told_in_order() -> None:
    text = (
        "modle A { }\n"
        "fn f(x = x\n"
        "model B {\n"
        "    inptu x: float[n]\n"
        "    y = 3 3\n"
        "    if y { z = = 1 }\n"
        "    w = 'a'\n"
        "    ok = 1\n"
        "}\n"
        "train B {\n"
        "    batch 3\n"
        "    seed = 7\n"
        "}\n"
        "fn g(x) = x x\n"
    )
    assert told(text) == [
        ("E0109", "modle"),
        ("E0103", "("),
        ("E0109", "inptu"),
        ("E0101", "3"),
        ("E0101", "="),
        ("E0102", "'"),
        ("E0101", "3"),
        ("E0101", "x"),
    ]


def test_an_unclosed_bracket_hides_no_error_elsewhere() -> None:
    text = "fn f(x) = g(x\n\nmodel M {\n  y = 3 3\n}\n"
    assert told(text) == [("E0103", "("), ("E0101", "3")]


def test_the_number_of_errors_is_bounded() -> None:
    assert 10 < len(errors(body("x = 3 3\n" * 5000))) <= 100
    assert len(errors("(" * 90)) <= 10


def test_fixes_mend_the_file() -> None:
    for text in (
        "modle M {\n  x = 1\n}\n",
        body("inptu x: float[n]"),
        body("x = a ** 2"),
        body("if x = 3 { y = 1 }"),
        body('x = "a'),
        body("x = [1, 2)"),
        "fn f(x) = x\n}\n",
        "fn scan(x) = x\n",
    ):
        (found,) = errors(text)
        fix = found.fix
        assert fix is not None
        parse(Source("m.nn", applied(text, fix.edits)))
