"""What a model file parses to."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnc.frontend import ast, cache, tables
from nnc.frontend.diagnostics import SourceError
from nnc.frontend.newlines import KeepNewlines
from nnc.frontend.parser import parse as cached_parse
from nnc.frontend.parser import parse_anew as parse
from nnc.frontend.source import Source
from nnc.frontend.tree_data import from_data, to_data

DATA = Path(__file__).parents[1] / "data"
PROGRAMS = [*sorted((DATA / "models").glob("*.nn")), DATA / "language.nn"]


def parsed(text: str) -> ast.File:
    return parse(Source("test.nn", text))


def expr(text: str) -> ast.Expr:
    (item,) = parsed(f"fn f(x) = {text}\n").items
    assert isinstance(item, ast.Fn)
    assert not isinstance(item.body, ast.Block)
    return item.body


def stmts(text: str) -> tuple[ast.Stmt, ...]:
    (item,) = parsed(f"model M {{\n{text}\n}}\n").items
    assert isinstance(item, ast.Model)
    return item.body.statements


def shown(e: ast.Node) -> str:
    """An expression with all its brackets."""
    match e:
        case ast.Name(name):
            return name
        case ast.Int(value) | ast.Float(value) | ast.Bool(value):
            return str(value)
        case ast.Unary(op, x):
            return f"({op} {shown(x)})"
        case ast.Binary(op, a, b):
            return f"({shown(a)} {op} {shown(b)})"
        case ast.Compare(operands, ops):
            parts = [shown(operands[0])]
            for op, x in zip(ops, operands[1:], strict=True):
                parts += [op, shown(x)]
            return f"({' '.join(parts)})"
        case ast.BoolOp(op, operands):
            return "(" + f" {op} ".join(map(shown, operands)) + ")"
        case ast.IfExpr(c, a, b):
            return f"(if {shown(c)} then {shown(a)} else {shown(b)})"
        case ast.Call(func, args, kwargs):
            named = [f"{k.name}={shown(k.value)}" for k in kwargs]
            return f"{shown(func)}({', '.join([*map(shown, args), *named])})"
        case ast.Subscript(base, subs, where):
            tail = f" where {shown(where)}" if where else ""
            return f"{shown(base)}[{', '.join(map(shown, subs))}{tail}]"
        case ast.Slice(a, b, c):
            return ":".join("" if s is None else shown(s) for s in (a, b, c))
        case ast.Rest(name):
            return f"..{name or ''}"
        case ast.Field(base, name):
            return f"{shown(base)}.{name}"
        case ast.Pipe(first, stages):
            return "(" + " |> ".join(map(shown, (first, *stages))) + ")"
        case ast.Tuple(items):
            return f"<{', '.join(map(shown, items))}>"
        case ast.List(items):
            return f"[{', '.join(map(shown, items))}]"
        case _:
            return type(e).__name__


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a + b * c - d", "((a + (b * c)) - d)"),
        ("a @ b @ c / d // e % f", "(((((a @ b) @ c) / d) // e) % f)"),
        ("-a^b^-c", "(- (a ^ (b ^ (- c))))"),
        ("2*x^2 + 1", "((2 * (x ^ 2)) + 1)"),
        ("-x * y", "((- x) * y)"),
        ("not a and b or c and not d", "(((not a) and b) or (c and (not d)))"),
        ("0 <= i + u - 1 < h", "(0 <= ((i + u) - 1) < h)"),
        ("a == b and c != d", "((a == b) and (c != d))"),
        (
            "if a then b else if c then d else e + 1",
            "(if a then b else (if c then d else (e + 1)))",
        ),
        ("x |> f |> g(1, k = 2) |> m.h", "(x |> f |> g(1, k=2) |> m.h)"),
        ("(a + b) |> f", "((a + b) |> f)"),
        ("sum[i, j where i < j](x[i, j])", "sum[i, j where (i < j)](x[i, j])"),
        ("max[u < 2](x[2*i + u])", "max[(u < 2)](x[((2 * i) + u)])"),
        ("x[:, a:b, ::2, -1, .., ..s]", "x[::, a:b:, ::2, (- 1), .., ..s]"),
        ("normal[batch, latent]()", "normal[batch, latent]()"),
        ("f(x)(y)[0].w", "f(x)(y)[0].w"),
        ("(a, b)", "<a, b>"),
        ("[[1.0, 2], [true, -3]]", "[[1.0, 2], [True, (- 3)]]"),
        ("1_000 + 1.5e-3 + 2e3", "((1000 + 0.0015) + 2000.0)"),
    ],
)
def test_expressions(text: str, expected: str) -> None:
    assert shown(expr(text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "a +\n b", "a\n + b", "a\n |> f", "a |>\n f", "f(\na\n,\nb\n)", "x[\n1\n]", "a\n and\n b",
        "if c\n then a\n else b", "if c then\n a else\n b", "a  # why\n  # and this\n + b",
        "a ==\n\n b", "(a\n |> f)",
    ],
)  # fmt: skip
def test_newlines_inside_a_statement(text: str) -> None:
    one_line = " ".join(line.split("#")[0] for line in text.split("\n"))
    assert ast.same(expr(text), expr(one_line))


def test_statements_end_with_their_line() -> None:
    a, b = stmts("a = 1\n\n  # between\n\nb = 2")
    assert isinstance(a, ast.Bind)
    assert isinstance(b, ast.Bind)


def test_carriage_returns_are_newlines() -> None:
    assert len(parsed("fn f(x) = x\r\nfn g(x) = x\rfn h(x) = x").items) == 3


def test_declaring_words_are_names_elsewhere() -> None:
    bind, define, loss = stmts("loss = input + step\nstate[i] = x[i]\nloss -mean(loss)")
    assert isinstance(bind, ast.Bind)
    assert isinstance(define, ast.Define)
    assert isinstance(loss, ast.Loss)
    assert loss.name is None
    assert shown(expr("model + layer*test - fn")) == "((model + (layer * test)) - fn)"


def test_statement_kinds() -> None:
    found = stmts(
        "input x: u8[batch, 3] in 0..n\n"
        "loss kl = 1\n"
        "a, b: float[n] = f(x)\n"
        "if a { b = 1 } else if c { b = 2 } else { b = 3 }\n"
        "ys = scan reverse t < n carry (h = 0, c: float[n] = z) until done { yield h }\n"
        'require a == b, "why"\n'
        "update m = ...\n"
        "return a, b"
    )
    port, loss, bind, branch, scan, require, update, result = found
    assert isinstance(port, ast.PortDecl)
    assert port.kind == "input"
    assert isinstance(port.low, ast.Int)
    assert isinstance(port.high, ast.Name)
    assert isinstance(loss, ast.Loss)
    assert str(loss.name) == "kl"
    assert isinstance(bind, ast.Bind)
    assert [t.type is None for t in bind.targets] == [True, False]
    assert isinstance(branch, ast.IfBlock)
    assert isinstance(branch.otherwise, ast.Block)
    assert isinstance(branch.otherwise.statements[0], ast.IfBlock)
    assert isinstance(scan, ast.Bind)
    assert isinstance(scan.value, ast.Scan)
    assert scan.value.reverse
    assert len(scan.value.carry) == 2
    assert scan.value.until is not None
    assert isinstance(require, ast.Require)
    assert require.message is not None
    assert require.message.value == "why"
    assert isinstance(update, ast.Update)
    assert isinstance(update.value, ast.Hole)
    assert isinstance(result, ast.Return)
    assert isinstance(result.value, ast.Tuple)


def test_train_block() -> None:
    (train,) = parsed(
        "train Net(hidden = 3) as big {\n"
        '  data = npz("a.npz"), batch = 64\n'
        '  optimizer = { "**.bias" = sgd(0.1)\n    w = adam() }\n'
        "  budget = { memory = 1.5GiB, disk = 2MB }\n"
        '  step critic { over = "a.**" }\n'
        "}\n"
    ).items
    assert isinstance(train, ast.Train)
    assert str(train.alias) == "big"
    assert [str(k.name) for k in train.kwargs] == ["hidden"]
    settings_ = {str(e.key): e.value for e in train.entries if isinstance(e, ast.Setting)}
    assert list(settings_) == ["data", "batch", "optimizer", "budget"]
    sizes = [n.bytes for n in ast.walk(train) if isinstance(n, ast.SizeLiteral)]
    assert sizes == [1536 * 2**20, 2_000_000]
    keys = [e.key for e in ast.children(settings_["optimizer"]) if isinstance(e, ast.RecordEntry)]
    assert isinstance(keys[0], ast.String)
    assert isinstance(keys[1], ast.Ident)
    assert isinstance(train.entries[-1], ast.StepBlock)


def test_version_imports_and_gradient() -> None:
    file = parsed(
        '# first\nlanguage 1\nimport "a.nn" as a\nimport "b.nn"\n'
        "fn f(x: float[..s]) -> float[..s] = x\n  with gradient(dy) { return dy }\n"
        'test "t" { assert f(1) == 1 within 1e-6 }\n'
    )
    first, second, fn, test = file.items
    assert file.version == 1
    assert isinstance(first, ast.Import)
    assert (first.path.value, str(first.alias)) == ("a.nn", "a")
    assert isinstance(second, ast.Import)
    assert second.alias is None
    assert isinstance(fn, ast.Fn)
    assert fn.gradient is not None
    assert isinstance(test, ast.Test)


def test_spans_cover_what_is_written() -> None:
    source = Source("s.nn", "fn f(x) = g((a + b) * c, k = [1, 2])\n")
    file = parse(source)
    texts = {type(n).__name__: source.excerpt(n.span) for n in ast.walk(file)}
    assert texts["Binary"] == "(a + b)"
    assert texts["Keyword"] == "k = [1, 2]"
    assert texts["Call"] == "g((a + b) * c, k = [1, 2])"
    assert texts["Parameter"] == "x"
    product = next(n for n in ast.walk(file) if isinstance(n, ast.Binary) and n.op == "*")
    assert source.excerpt(product.op_span) == "*"
    assert source.excerpt(product.span) == "(a + b) * c"


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda p: p.stem)
def test_programs_of_the_language_parse(path: Path) -> None:
    source = Source(path.name, path.read_text(encoding="utf-8"))
    file = parse(source)
    assert len(file.items) >= 4
    for node in ast.walk(file):
        for child in ast.children(node):
            assert node.span.start <= child.span.start <= child.span.end <= node.span.end
    kept = from_data(to_data(file), path.name)
    assert ast.same(kept, file)
    assert [n.span for n in ast.walk(kept)] == [n.span for n in ast.walk(file)]


def test_empty_files() -> None:
    for text in ("", "\n", "  \n\n", "# nothing", "# nothing\n\n"):
        assert parsed(text).items == ()


@pytest.mark.parametrize(
    "text",
    ["(" * 20_000 + "x" + ")" * 20_000, "-" * 20_000 + "x", "x + " * 20_000 + "x",
     "x ^ " * 20_000 + "x", "not " * 20_000 + "x", "x" + ".a" * 20_000],
)  # fmt: skip
def test_deep_nesting_is_an_error(text: str) -> None:
    with pytest.raises(SourceError) as caught:
        expr(text)
    assert [d.code for d in caught.value.diagnostics] == ["E0107"]


def test_moderate_nesting_is_fine() -> None:
    assert shown(expr("(" * 90 + "x" + ")" * 90)) == "x"
    assert len(list(ast.walk(expr("x + " * 150 + "x")))) == 301


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.lists(st.sampled_from([
    "model", "M", "{", "}", "(", ")", "[", "]", "\n", "x", "=", "==", "1", "0.5", '"s"', '"', ",",
    "if", "then", "else", "fn", "|>", "+", "-", "#", "..", "...", ":", "input", "float", "scan",
    "i", "<", "train", "yield", " ", "$", "where", "layer", ".",
]), max_size=40))  # fmt: skip
def test_any_text_parses_or_is_an_error(words: list[str]) -> None:
    text = " ".join(words)
    with contextlib.suppress(SourceError):
        assert isinstance(parsed(text), ast.File)
        return
    with pytest.raises(SourceError) as caught:
        parsed(text)
    found = caught.value.diagnostics
    assert found
    for d in found:
        assert d.span is not None
        assert 0 <= d.span.start <= d.span.end <= len(text)


# the tables ---------------------------------------------------------------------------------------


def test_grammar_has_no_conflicts(caplog: pytest.LogCaptureFixture) -> None:
    import lark

    with caplog.at_level(logging.DEBUG, logger="lark"):
        lark.Lark(tables.grammar_text(), postlex=KeepNewlines(), debug=True, **tables.options())
    assert [r for r in caplog.records if "conflict" in r.getMessage().lower()] == []


def test_grammar_is_strict() -> None:
    pytest.importorskip("interegular")
    import lark

    lark.Lark(tables.grammar_text(), postlex=KeepNewlines(), strict=True, **tables.options())


def entries(kind: str, cache_dir: Path) -> list[Path]:
    return [path for path in (cache_dir / kind).rglob("*") if path.is_file()]


def test_tables_are_cached_and_damage_is_a_miss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NNC_CACHE_DIR", str(tmp_path))
    tables.load_lark.cache_clear()
    first = tables.load_lark()
    (entry,) = entries("grammar", tmp_path)
    content = entry.read_bytes()
    tables.load_lark.cache_clear()
    again = tables.load_lark()
    text = "fn f(x) = x + 1\n"
    assert first is not again
    assert first.parse(text) == again.parse(text)
    for damaged in (content[:-1], b"", content[:40] + b"x" + content[41:]):
        entry.write_bytes(damaged)
        tables.load_lark.cache_clear()
        assert tables.load_lark().parse(text) == first.parse(text)
        assert entry.read_bytes() != damaged
    tables.load_lark.cache_clear()


def test_trees_are_cached_by_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NNC_CACHE_DIR", str(tmp_path))
    text = "fn f(x) = x + 1\n"
    made = cached_parse(Source("a.nn", text))
    (entry,) = entries("trees", tmp_path)
    read = cached_parse(Source("b.nn", text))
    assert read is not made
    assert read.name == "b.nn"
    assert {n.span.file for n in ast.walk(read)} == {"b.nn"}
    assert ast.same(read.but(name="a.nn"), made)
    entry.write_bytes(entry.read_bytes()[:-3])
    assert ast.same(cached_parse(Source("a.nn", text)), made)
    with pytest.raises(SourceError):
        cached_parse(Source("a.nn", "fn f(x = 1"))
    assert len(entries("trees", tmp_path)) == 1


def test_cache_without_a_place_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_text("not a folder")
    monkeypatch.setenv("NNC_CACHE_DIR", str(file))
    cache.save("kind", "key", [1])
    assert cache.load("kind", "key") is None
