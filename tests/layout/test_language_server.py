"""The language server, asked as an editor asks: over its standard input and output."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_lsp
from lsprotocol import types as lsp
from pytest_lsp import ClientServerConfig, LanguageClient, client_capabilities

from nnc.frontend import stdlib

BLOCKS = "# Twice the input.\nfn twice(x: float[..s]) -> float[..s] = x + x\n"
TEXT = """import "blocks.nn" as b

# 𝛼 stands outside the basic plane
model Net(hidden: int = 32) {
    input  image: float[batch, 64]
    target digit: i32[batch] in 0..10
    h = b.twice(image) |> linear(hidden) |> relu
    logits = h |> linear(10)
    label = "𝛼𝛼";
    output logits
    loss   cross_entropy(logits, digit)
}
"""
GOOD = TEXT.replace('    label = "𝛼𝛼";\n', "")


@pytest_lsp.fixture(config=ClientServerConfig(server_command=[sys.executable, "-m", "nnc", "lsp"]))
async def client(lsp_client: LanguageClient) -> AsyncIterator[None]:
    params = lsp.InitializeParams(capabilities=client_capabilities("visual-studio-code"))
    assert params.capabilities.general is not None
    kinds = lsp.PositionEncodingKind
    params.capabilities.general.position_encodings = [kinds.Utf8, kinds.Utf32, kinds.Utf16]
    answer = await lsp_client.initialize_session(params)
    assert answer.capabilities.position_encoding in (None, kinds.Utf16)
    yield
    await lsp_client.shutdown_session()


async def opened(client: LanguageClient, folder: Path, text: str) -> str:
    """Open a text beside its imports and wait for what is found in it."""
    (folder / "blocks.nn").write_text(BLOCKS, encoding="utf-8")
    path = folder / "net.nn"
    path.write_text(text, encoding="utf-8")
    document = lsp.TextDocumentItem(path.as_uri(), "nnc", 1, text)
    client.text_document_did_open(lsp.DidOpenTextDocumentParams(document))
    await client.wait_for_notification(lsp.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)
    return path.as_uri()


def place(text: str, part: str, nth: int = 0, into: int = 0) -> lsp.Position:
    at = -1
    for _ in range(nth + 1):
        at = text.index(part, at + 1)
    before = text[: at + into].split("\n")
    return lsp.Position(len(before) - 1, len(before[-1].encode("utf-16-le")) // 2)


async def hover(client: LanguageClient, uri: str, at: lsp.Position) -> str | None:
    params = lsp.HoverParams(lsp.TextDocumentIdentifier(uri), at)
    found = await client.text_document_hover_async(params)
    return found.contents.value if found else None  # type: ignore[union-attr]


@pytest.mark.asyncio
async def test_names_and_where_they_come_from(client: LanguageClient, tmp_path: Path) -> None:
    uri = await opened(client, tmp_path, GOOD)
    assert not client.diagnostics[uri]
    assert "h: float[batch, 32]" in (await hover(client, uri, place(GOOD, "h |> linear(10)")) or "")
    assert "x @ weight + bias" in (await hover(client, uri, place(GOOD, "linear")) or "")
    assert "Twice the input" in (await hover(client, uri, place(GOOD, "twice", into=2)) or "")
    assert "32" in (await hover(client, uri, place(GOOD, "hidden)")) or "")

    async def defined(at: lsp.Position) -> tuple[str, lsp.Position]:
        params = lsp.DefinitionParams(lsp.TextDocumentIdentifier(uri), at)
        found: Any = await client.text_document_definition_async(params)
        return found.uri, found.range.start

    assert await defined(place(GOOD, "h |> linear(10)")) == (uri, place(GOOD, "h = b"))
    library = Path(stdlib.__path__[0]) / "layers.nn"
    file, at = await defined(place(GOOD, "linear"))
    assert file == library.as_uri()
    assert library.read_text().splitlines()[at.line].startswith("layer linear(")
    file, at = await defined(place(GOOD, "twice", into=1))
    assert (file, at) == ((tmp_path / "blocks.nn").as_uri(), place(BLOCKS, "twice"))


@pytest.mark.asyncio
async def test_inlay_shapes_symbols_and_completion(client: LanguageClient, tmp_path: Path) -> None:
    uri = await opened(client, tmp_path, GOOD)
    document = lsp.TextDocumentIdentifier(uri)
    everywhere = lsp.Range(lsp.Position(0, 0), lsp.Position(99, 0))
    hints = await client.text_document_inlay_hint_async(lsp.InlayHintParams(document, everywhere))
    told = {(h.position.line, h.label) for h in hints or ()}
    assert (place(GOOD, "h = b").line, ": float[batch, 32]") in told
    assert (place(GOOD, "logits =").line, ": float[batch, 10]") in told
    assert not any(line == place(GOOD, "input").line for line, _ in told)
    names: Any = await client.text_document_document_symbol_async(
        lsp.DocumentSymbolParams(document)
    )
    assert [(s.name, s.detail) for s in names] == [("blocks.nn", "import"), ("Net", "model")]
    at = place(GOOD, "linear(hidden", into=len("linear("))
    offered: Any = await client.text_document_completion_async(lsp.CompletionParams(document, at))
    labels = {item.label: item for item in offered}
    assert {"with_bias = ", "out = ", "h", "logits", "relu", "argmax", "param"} <= set(labels)
    assert labels["with_bias = "].detail == "bool = true"
    assert labels["h"].detail == "float[batch, 32]"


@pytest.mark.asyncio
async def test_a_fault_is_told_as_it_is_typed_and_mended(
    client: LanguageClient, tmp_path: Path
) -> None:
    uri = await opened(client, tmp_path, GOOD)
    wrong = GOOD.replace("|> relu", "|> rellu  # 𝛼")
    change = lsp.TextDocumentContentChangeWholeDocument(wrong)
    versioned = lsp.VersionedTextDocumentIdentifier(2, uri)
    client.text_document_did_change(lsp.DidChangeTextDocumentParams(versioned, [change]))
    await client.wait_for_notification(lsp.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)
    (found,) = client.diagnostics[uri]
    assert found.code == "E0201"
    assert found.range.start == place(wrong, "rellu")
    assert found.range.end == place(wrong, "rellu", into=5)
    context = lsp.CodeActionContext([found])
    document = lsp.TextDocumentIdentifier(uri)
    params = lsp.CodeActionParams(document, found.range, context)
    (action,) = await client.text_document_code_action_async(params) or ()
    assert isinstance(action, lsp.CodeAction)
    assert action.edit is not None
    (edit,) = (action.edit.changes or {})[uri]
    assert (edit.new_text, edit.range) == ("relu", found.range)


@pytest.mark.asyncio
async def test_columns_are_counted_in_utf16(client: LanguageClient, tmp_path: Path) -> None:
    text = 'train M { data = npz("𝛼𝛼") $ }\nmodel M { output y = 1.0 }\n'
    uri = await opened(client, tmp_path, text)
    assert place(text, "$") in [d.range.start for d in client.diagnostics[uri]]


@pytest.mark.asyncio
async def test_formatting(client: LanguageClient, tmp_path: Path) -> None:
    uri = await opened(client, tmp_path, "fn f(x)=x")
    options = lsp.FormattingOptions(4, True)
    params = lsp.DocumentFormattingParams(lsp.TextDocumentIdentifier(uri), options)
    (edit,) = await client.text_document_formatting_async(params) or ()
    assert edit.new_text == "fn f(x) = x\n"
    assert edit.range.end == lsp.Position(0, 9)


@pytest.mark.asyncio
async def test_every_beginning_of_a_program_is_answered(
    client: LanguageClient, tmp_path: Path
) -> None:
    """A program typed from its first character to its last, with questions on the way."""
    uri = await opened(client, tmp_path, "")
    for end in range(1, len(TEXT), 17):
        text = TEXT[:end]
        change = lsp.TextDocumentContentChangeWholeDocument(text)
        versioned = lsp.VersionedTextDocumentIdentifier(end, uri)
        client.text_document_did_change(lsp.DidChangeTextDocumentParams(versioned, [change]))
        document = lsp.TextDocumentIdentifier(uri)
        at = place(text, text[-1], text.count(text[-1]) - 1)
        await hover(client, uri, at)
        found = await client.text_document_completion_async(lsp.CompletionParams(document, at))
        assert found
        await client.text_document_definition_async(lsp.DefinitionParams(document, at))
        await client.text_document_document_symbol_async(lsp.DocumentSymbolParams(document))
    await asyncio.sleep(0.5)
    assert await hover(client, uri, lsp.Position(999, 999)) is None
