"""What is said about programs that are wrong: code, place, and the other side of a conflict."""

from __future__ import annotations

from textwrap import dedent

import pytest
from support.programs import codes, faults

from nnc.frontend.diagnostics import Diagnostic

HEADER = """
fn pair(a: float[..s, n], b: float[n]) -> float[..s, n] = a + b
fn both(a: any[..s], b: any[..s]) -> any[..s] = a
fn whole(a: int[..s]) -> int[..s] = a
fn half(a: any) -> int[k] = [1, 2]
fn once(x: float[k, 2*k]) -> float[k] = sum(x, axis = 1)
layer scaled(by: float = 2.0)(x: float[..s, n]) -> float[..s, n] {
    param scale: float[n] = ones()
    return x * scale * by
}
model M(n: int = 3, on: bool = true) {
    input x: float[b, 4]
    input w: float[5, 6]
    input ids: i32[b]
    input wide: f64[b, 4]
"""


def wrong(body: str) -> list[Diagnostic]:
    return faults(HEADER + dedent(body) + "\n}\n")


def text_at(body: str, d: Diagnostic) -> str:
    source = HEADER + dedent(body) + "\n}\n"
    assert d.span is not None
    return dedent(source)[d.span.start : d.span.end]


@pytest.mark.parametrize(
    ("body", "code", "place"),
    [
        ("y = xs + 1", "E0201", "xs"),
        ("y = linaer(3)(x)", "E0201", "linaer"),
        ("y = x @ w", "E0203", "x @ w"),
        ("y = x @ 2", "E0203", "2"),
        ("y = x @ [1, 2, 3, 4]", "E0203", "x @ [1, 2, 3, 4]"),
        ("y = x + w", "E0204", "x + w"),
        ("y = x - mean(x, axis = 1)", "E0204", "x - mean(x, axis = 1)"),
        ("y = reshape(x, (b, 3))", "E0204", "reshape(x, (b, 3))"),
        ("y = concat(x, w, axis = 1)", "E0204", "concat(x, w, axis = 1)"),
        ("y = x + wide", "E0205", "x + wide"),
        ("y = x + ids", "E0205", "x + ids"),
        ("y = ids * 0.5", "E0205", "ids * 0.5"),
        ("y = relu(ids)", "E0205", "ids"),
        ("y = exp(ids)", "E0205", "ids"),
        ("y = var(ids)", "E0205", "ids"),
        ("y = both(x, ids[:])", "E0205", "both(x, ids[:])"),
        ("y = both(ids, 0.5)", "E0205", "0.5"),
        ("y = both(x > 0, 1)", "E0205", "1"),
        ("y = both(\"a\", 1)", "E0202", "\"a\""),
        ("y = whole(x)", "E0205", "x"),
        ("y = whole(x > 0)", "E0205", "x > 0"),
        ("y = whole(1.5)", "E0205", "1.5"),
        ("y = clip(ids, 0, 2.5)", "E0205", "2.5"),
        ("y = clip(x > 0, 0, 1)", "E0205", "0"),
        ("y = one_hot(x, 3)", "E0205", "x"),
        ("y = half(x)", "E0206", "x"),
        ("input bad: any[b]", "E0206", "any"),
        ("param bad: int[3] = zeros()", "E0206", "int"),
        ("y = std(x, axis = 2)", "E0229", "2"),
        ("y = var(x, sample = 1)", "E0202", "1"),
        ("y = mean(x, sample = true)", "E0209", "sample"),
        ("y = ids + 3000000000", "E0205", "3000000000"),
        ("y = relu + 1", "E0202", "relu"),
        ("y = x and true", "E0202", "x"),
        ("y = (x > 0) + 1", "E0202", "(x > 0) + 1"),
        ("y = ids / 2", "E0202", "ids / 2"),
        ("y = pair(x, x)", "E0206", "x"),
        ("y = pair(x, w[:, 0])", "E0206", "w[:, 0]"),
        ("y = once(w)", "E0206", "w"),
        ("y: float[b, 5] = x", "E0208", "x"),
        ("y = relu(x, 2)", "E0209", "2"),
        ("y = relu()", "E0209", "relu()"),
        ("y = scaled(bi = 1)(x)", "E0209", "bi"),
        ("y = sum(x, axs = 1)", "E0209", "axs"),
        ("y = n/2", "E0210", "n/2"),
        ("y = b/2", "E0210", "b/2"),
        ("y = split(x, 3)", "E0210", "3"),
        ("y = 3 // 0", "E0210", "0"),
        ('require n == 4, "four"', "E0212", "n == 4"),
        ("if b > 3 { y = x }", "E0213", "b > 3"),
        ("if mean(x) > 0 { y = x }", "E0213", "mean(x) > 0"),
        ("repeat i < b { y = x }", "E0213", "b"),
        ("param p: float[b] = ones()", "E0214", "float[b]"),
        ("param p: float = mean(x)", "E0214", "mean(x)"),
        ("u = linear(2)\nv = u(x)\nu = linear(3)\nz = u(x)", "E0215", "linear(3)"),
        ("n = 4", "E0216", "n"),
        ("b = 4", "E0216", "b"),
        ("return x", "E0217", "return x"),
        ("yield x", "E0217", "yield x"),
        ("state m = 0", "E0217", "state m = 0"),
        ("update x = x", "E0217", "x"),
        ("y = x |> linear", "E0218", "linear"),
        ("y = linear(x)", "E0218", "linear(x)"),
        ("y = x(3)", "E0218", "x"),
        ("y = x |> scaled", "E0218", "scaled"),
        ("y = grad(x, x)", "E0234", "x"),
        ("y = check_gradient(x)", "E0220", "check_gradient(x)"),
        ("y = copy(x)", "E0202", "x"),
        ("y = x[:, 4]", "E0223", "4"),
        ("y = x[:, -2]", "E0223", "-2"),
        ("y = x[7]", "E0223", "7"),
        ("y = x[0, 0, 0]", "E0223", "x[0, 0, 0]"),
        ("y = x[:, 3:6]", "E0223", "6"),
        ("fc = linear(2)\ny = fc(x)\nz = fc.wieght", "E0225", "wieght"),
        ("fc = linear(2)\nz = fc.weight", "E0225", "weight"),
        ("y = x.shape", "E0225", "shape"),
        ("a, c = x", "E0226", "x"),
        ("a, c = split(x, 4)", "E0226", "split(x, 4)"),
        ("loss x", "E0228", "x"),
        ("metric m = x", "E0228", "x"),
        ("y = sum(x, axis = 2)", "E0229", "2"),
        ("y = transpose(x, (0, 0))", "E0229", "(0, 0)"),
        ("y = ...", "E0230", "..."),
        ("y = normal()", "E0207", None),
        ("output y", "E0201", "y"),
        ("output x\noutput x = 2*x", "E0222", "x"),
        ("loss a = mean(x)\nloss a = mean(x)", "E0222", "a"),
        ("y = [1, [2]]", "E0204", "[1, [2]]"),
        ("y = [x, x]", "E0202", "x"),
        ("y = reshape(x, (b, 1.5))", "E0202", "(b, 1.5)"),
    ],
)  # fmt: skip
def test_each_mistake_has_its_code_and_place(body: str, code: str, place: str | None) -> None:
    found = wrong(body)
    assert [d.code for d in found] == [code], [d.message for d in found]
    if place is not None:
        assert text_at(body, found[0]).startswith(place) or place in text_at(body, found[0])


def test_shapes_that_do_not_multiply_show_both_sides() -> None:
    (found,) = wrong("h = x * 2\nv: float[3, 4] = ones()\ny = h @ v")
    assert found.message == "these two shapes do not multiply"
    assert [words for _, words in found.related] == ["h: float[b, 4]", "v: float[3, 4]"]
    assert found.hint is not None
    assert found.hint.startswith("v has its dims the other way round from what h needs")


def test_the_working_type_is_called_float() -> None:
    for precision, names in (("f32", "float and f64"), ("f64", "f32 and float")):
        source = "model M { input a: f32[b]\ninput c: f64[b]\noutput y = a + c }"
        (found,) = faults(source, precision=precision)
        assert names in found.message
    assert found.hint == "convert one of them: f32(c)"


def test_a_slip_of_the_pen_is_named_and_mended() -> None:
    (found,) = wrong("y = softmx(x)")
    assert found.hint == "did you mean softmax?"
    assert found.fix is not None
    assert [e.text for e in found.fix.edits] == ["softmax"]


def test_all_mistakes_are_told_and_none_twice() -> None:
    body = """
        h = x @ w
        g = h |> linear(3) |> relu
        k = ids * 0.5
        loss mean((g + k)^2)
        z = nothing
        output g
        output z
    """
    assert [d.code for d in wrong(body)] == ["E0203", "E0205", "E0201"]


def test_mistakes_inside_a_function_name_its_use() -> None:
    text = """
        fn f(x: float[a, c]) -> float[a, c] {
            return x @ x
        }
        model M() {
            input x: float[b, 4]
            output y = f(x)
        }
    """
    (found,) = faults(text)
    assert found.code == "E0203"
    assert [words for _, words in found.related][-1] == "in this use of f"


def test_mistakes_in_both_modes_are_told_once_and_those_of_one_too() -> None:
    body = "if training { y = x @ w } else { y = x @ w }\nz = x + w"
    assert [d.code for d in wrong(body)] == ["E0203", "E0203", "E0204"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("fn f(x) = x", "fn f(x) = 2*x"),
        ("fn f(x) = x", "layer f()(x) { return x }"),
        ("schedule f(a: float)(t) = a", "schedule f(b: float)(t) = b*t"),
        ("schedule f(a: float)(t) = a", "optimizer f()(w, g, t) { return w - g }"),
    ],
)
def test_declarations_that_clash(first: str, second: str) -> None:
    text = "model M() {\n input x: float[b, 4]\n output y = x\n}"
    assert codes(f"{first}\n{second}\n{text}") == ["E0222"]


def test_updates_stand_under_training() -> None:
    text = """
        model M() {
            input x: float[b, 4]
            buffer seen: float = 0
            update seen = mean(x)
            output y = x + seen
        }
    """
    (found,) = faults(text)
    assert found.code == "E0217"
    assert found.hint is not None
    assert "if training" in found.hint


def test_a_hostile_program_ends_in_a_message() -> None:
    deep = "(" * 90 + "x" + ")" * 90
    sums = "x" + " + x" * 90
    body = "\n".join(["y = " + deep, "z = " + sums, "u = 2^100000", "v = [1, 2][5]",
                      "repeat i < 10^9 { }", "fn_of = x |> linear(-1)"])  # fmt: skip
    found = [d.code for d in wrong(body)]
    assert set(found) <= {"E0210", "E0211", "E0219", "E0223", "E0101", "E0201"}
    assert {"E0210", "E0219"} <= set(found)


def test_work_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nnc.frontend.elaborate.elaborator.MOST_STEPS", 500)
    text = """
        fn tree(x: float[..s], depth: int) -> float[..s] {
            if depth == 0 { return x }
            return tree(x, depth - 1) + tree(x, depth - 1)
        }
        model M() {
            input x: float[b, 4]
            output y = tree(x, 60)
        }
    """
    assert codes(text) == ["E0219"]
