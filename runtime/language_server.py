"""The language server, `nnc lsp`: what editors ask, answered from the index of a file.

A text is analysed a moment after it was last changed, as `nnc check` would check it. While it does
not parse, names are told as they were when it last did.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lsprotocol import types as lsp
from pygls import uris
from pygls.lsp.server import LanguageServer
from pygls.protocol import LanguageServerProtocol, lsp_method

from nnc import __version__
from nnc.frontend import ast, notes
from nnc.frontend.diagnostics import SourceError
from nnc.frontend.index import Analysis, Use, analyse, symbols
from nnc.frontend.layout import format_source
from nnc.frontend.library import LIBRARY
from nnc.frontend.lsp import to_json
from nnc.frontend.reference import Entry, library_topics, program_topic
from nnc.frontend.source import Source
from nnc.frontend.syntax_errors import ITEM_WORDS, RESERVED, STATEMENT_WORDS
from nnc.ir.span import Span

PAUSE = 0.2
"""Seconds without a change before a text is checked."""
_WORD = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")
_CALL = re.compile(r"([A-Za-z_][A-Za-z_0-9]*)[ \t]*\([^()]*$")
_KINDS = {
    "model": lsp.SymbolKind.Class,
    "layer": lsp.SymbolKind.Class,
    "fn": lsp.SymbolKind.Function,
    "optimizer": lsp.SymbolKind.Function,
    "schedule": lsp.SymbolKind.Function,
    "import": lsp.SymbolKind.Module,
}


@dataclass(slots=True)
class Document:
    """One open text: its newest analysis, and the newest of a text that parsed."""

    now: Analysis
    parsed: Analysis | None = None
    task: asyncio.Task[None] | None = field(default=None, repr=False)

    @property
    def known(self) -> Analysis:
        """The analysis that names are looked up in."""
        return self.parsed or self.now


class _Protocol(LanguageServerProtocol):
    """Counts columns in UTF-16 units, which every client must know, whatever else one offers."""

    @lsp_method(lsp.INITIALIZE)
    def lsp_initialize(self, params: lsp.InitializeParams) -> Generator[Any, Any, Any]:
        """Begin, as if the client had offered nothing else."""
        if params.capabilities.general is not None:
            params.capabilities.general.position_encodings = None
        return (yield from super().lsp_initialize(params))


class Server(LanguageServer):
    """The state of one connection."""

    def __init__(self) -> None:
        super().__init__("nnc", __version__, protocol_cls=_Protocol)
        self.documents: dict[str, Document] = {}

    def source(self, uri: str) -> Source:
        """Return the text of a document as the editor has it."""
        path = uris.to_fs_path(uri)
        text = self.workspace.get_text_document(uri).source
        return Source(path or uri, text, Path(path) if path else None)

    def document(self, uri: str) -> Document:
        """Return what is known of a document, checked now if it never was."""
        found = self.documents.get(uri)
        if found is None:
            found = self.documents[uri] = Document(analyse(self.source(uri)))
            self._settle(found)
        return found

    def check(self, uri: str) -> None:
        """Check a document and send its diagnostics."""
        analysis = analyse(self.source(uri))
        document = self.documents.setdefault(uri, Document(analysis))
        document.now = analysis
        self._settle(document)
        found = [self._diagnostic(d, uri) for d in analysis.diagnostics]
        version = self.workspace.get_text_document(uri).version
        self.text_document_publish_diagnostics(
            lsp.PublishDiagnosticsParams(uri, found, version=version)
        )

    def _settle(self, document: Document) -> None:
        if document.now.program is not None:
            document.parsed = document.now

    def _diagnostic(self, diagnostic: Any, uri: str) -> lsp.Diagnostic:
        sources = self.documents[uri].now.sources
        data = to_json(diagnostic, sources)
        here = self.documents[uri].now.source.name
        elsewhere = diagnostic.span is None or diagnostic.span.file != here
        message = data["message"]
        for part in (data["data"]["label"], *data["data"]["notes"], data["data"]["hint"]):
            message += f"\n{part}" if part else ""
        return lsp.Diagnostic(
            lsp.Range(lsp.Position(0, 0), lsp.Position(0, 0))
            if elsewhere
            else _as_range(data["range"]),
            message,
            severity=lsp.DiagnosticSeverity(data["severity"]),
            code=data["code"],
            source="nnc",
            related_information=[
                lsp.DiagnosticRelatedInformation(
                    lsp.Location(r["location"]["uri"], _as_range(r["location"]["range"])),
                    r["message"],
                )
                for r in data["relatedInformation"]
                if ":" in r["location"]["uri"]
            ],
            data=data["data"],
        )


def _as_range(data: Any) -> lsp.Range:
    start, end = data["start"], data["end"]
    return lsp.Range(lsp.Position(**start), lsp.Position(**end))


# places -------------------------------------------------------------------------------------------


def _position(source: Source, offset: int) -> lsp.Position:
    line, column = source.position(offset)
    before = source.line(line)[: column - 1]
    return lsp.Position(line - 1, len(before.encode("utf-16-le")) // 2)


def _range(source: Source, span: Span) -> lsp.Range:
    return lsp.Range(_position(source, span.start), _position(source, span.end))


def _offset(source: Source, at: lsp.Position) -> int:
    """Return the place of a position whose columns are UTF-16 units; outside counts as the end."""
    number = min(at.line + 1, max(source.lines, 1))
    line = source.line(number)
    before = line.encode("utf-16-le")[: 2 * at.character].decode("utf-16-le", errors="ignore")
    return source.start(number) + len(before)


def _word_at(source: Source, offset: int) -> tuple[str, int, int] | None:
    line_start = source.text.rfind("\n", 0, offset) + 1
    for match in _WORD.finditer(source.text, line_start):
        if match.start() > offset:
            break
        if offset <= match.end():
            return match.group(), match.start(), match.end()
    return None


# names --------------------------------------------------------------------------------------------


def _use(document: Document, offset: int) -> Use | None:
    """Return the use of a name at a place: there, or by its name where the text has changed."""
    analysis = document.known
    if analysis is document.now:
        return analysis.index.at(analysis.source.name, offset)
    word = _word_at(document.now.source, offset)
    if word is None:
        return None
    uses = [u for u in analysis.index.uses.values() if u.name == word[0]]
    own = [u for u in uses if u.span.file == analysis.source.name]
    return min(own, key=lambda u: abs(u.span.start - offset), default=None)


def _entries(analysis: Analysis) -> list[Entry]:
    own = program_topic(analysis.program, "").entries if analysis.program else ()
    return [*own, *(e for topic in library_topics() for e in topic.entries)]


def _note(name: str) -> notes.Note | None:
    for table in (notes.PRIMITIVES, notes.VALUES, notes.WORDS, notes.KEYS, notes.READERS):
        if name in table:
            return table[name]
    return None


def _told(document: Document, offset: int) -> str | None:
    """Return what hovering over a place shows, as Markdown."""
    use = _use(document, offset)
    word = _word_at(document.now.source, offset)
    name = use.name if use else word[0] if word else None
    if name is None:
        return None
    parts: list[str] = []
    if use is not None and use.values and use.called is None:
        lines = [f"{name}: {v}" for v in use.tensors or use.values]
        parts.append("```nn\n" + "\n".join(lines) + "\n```")
    called = use.called if use else None
    entry = next((e for e in _entries(document.known) if e.name.rpartition(".")[2] == called), None)
    if entry is not None:
        parts += [f"```nn\n{entry.signature}\n```", entry.about]
    elif not parts or (use is not None and use.definition is None):
        note = _note(name)
        if note is not None:
            parts = [f"```nn\n{note.usage}\n```", note.about]
    return "\n\n".join(p for p in parts if p) or None


def _location(analysis: Analysis, span: Span) -> lsp.Location | None:
    source = analysis.sources.get(span.file)
    if source is None:
        return None
    path = source.path
    if span.file.startswith(LIBRARY):
        from nnc.frontend import stdlib

        path = Path(stdlib.__path__[0]) / span.file.removeprefix(LIBRARY)
    if path is None:
        return None
    return lsp.Location(path.absolute().as_uri(), _range(source, span))


def _completions(document: Document, offset: int) -> list[lsp.CompletionItem]:
    """Return names in reach, the library, words of the language, and config inside a call."""
    text = document.now.source.text[:offset]
    entries = {e.name: e for e in reversed(_entries(document.known))}
    found: dict[str, lsp.CompletionItem] = {}

    def offer(name: str, kind: lsp.CompletionItemKind, detail: str = "", rank: str = "5") -> None:
        found.setdefault(name, lsp.CompletionItem(name, kind=kind, detail=detail or None,
                                                  sort_text=rank + name))  # fmt: skip

    call = _CALL.search(text[-2000:])
    if call is not None and call[1] in entries:
        for setting in entries[call[1]].config:
            default = f"= {setting.default}" if setting.default else ""
            told = f"{setting.type or ''} {default}".strip()
            offer(f"{setting.name} = ", lsp.CompletionItemKind.Property, told, "1")
    for names in document.known.index.bodies.values():
        for name, told in names.items():
            offer(name, lsp.CompletionItemKind.Variable, told, "2")
    for name, entry in entries.items():
        offer(name, lsp.CompletionItemKind.Function, entry.signature, "3")
    for name, note in notes.PRIMITIVES.items():
        offer(name, lsp.CompletionItemKind.Function, note.usage, "3")
    for name, note in notes.KEYS.items():
        offer(name, lsp.CompletionItemKind.Property, note.usage, "4")
    for name in sorted(RESERVED | ITEM_WORDS | STATEMENT_WORDS):
        offer(name, lsp.CompletionItemKind.Keyword)
    return list(found.values())


# the server ---------------------------------------------------------------------------------------


def make_server() -> Server:
    """Return a server with all that it can do."""
    server = Server()
    _add_documents(server)
    _add_names(server)
    _add_texts(server)
    return server


def _add_documents(server: Server) -> None:
    @server.feature(lsp.TEXT_DOCUMENT_DID_OPEN)
    def opened(params: lsp.DidOpenTextDocumentParams) -> None:
        server.check(params.text_document.uri)

    @server.feature(lsp.TEXT_DOCUMENT_DID_CHANGE)
    async def changed(params: lsp.DidChangeTextDocumentParams) -> None:
        uri = params.text_document.uri
        document = server.document(uri)
        if document.task is not None:
            document.task.cancel()

        async def later() -> None:
            await asyncio.sleep(PAUSE)
            server.check(uri)

        document.task = asyncio.create_task(later())

    @server.feature(lsp.TEXT_DOCUMENT_DID_SAVE)
    def saved(params: lsp.DidSaveTextDocumentParams) -> None:
        server.check(params.text_document.uri)

    @server.feature(lsp.TEXT_DOCUMENT_DID_CLOSE)
    def closed(params: lsp.DidCloseTextDocumentParams) -> None:
        uri = params.text_document.uri
        document = server.documents.pop(uri, None)
        if document is not None and document.task is not None:
            document.task.cancel()
        server.text_document_publish_diagnostics(lsp.PublishDiagnosticsParams(uri, []))


def _current(server: Server, uri: str) -> Document:
    """Return a document whose newest text is the editor's, checked or not."""
    document = server.document(uri)
    source = server.source(uri)
    if source.text != document.now.source.text:
        document.now = replace(document.now, source=source, program=None)
    return document


def _add_names(server: Server) -> None:
    @server.feature(lsp.TEXT_DOCUMENT_HOVER)
    def hover(params: lsp.HoverParams) -> lsp.Hover | None:
        document = _current(server, params.text_document.uri)
        told = _told(document, _offset(document.now.source, params.position))
        if told is None:
            return None
        return lsp.Hover(lsp.MarkupContent(lsp.MarkupKind.Markdown, told))

    @server.feature(lsp.TEXT_DOCUMENT_DEFINITION)
    def definition(params: lsp.DefinitionParams) -> lsp.Location | None:
        document = _current(server, params.text_document.uri)
        use = _use(document, _offset(document.now.source, params.position))
        if use is None or use.definition is None:
            return None
        return _location(document.known, use.definition)

    options = lsp.CompletionOptions(trigger_characters=["(", ",", "|", ">", " "])

    @server.feature(lsp.TEXT_DOCUMENT_COMPLETION, options)
    def completion(params: lsp.CompletionParams) -> list[lsp.CompletionItem]:
        document = _current(server, params.text_document.uri)
        return _completions(document, _offset(document.now.source, params.position))

    @server.feature(lsp.TEXT_DOCUMENT_INLAY_HINT)
    def hints(params: lsp.InlayHintParams) -> list[lsp.InlayHint]:
        document = _current(server, params.text_document.uri)
        if document.known is not document.now:
            return []
        source = document.now.source
        typed = _typed_names(document.known)
        return [
            lsp.InlayHint(
                _position(source, use.span.end), f": {use.tensors[0]}", kind=lsp.InlayHintKind.Type
            )
            for use in document.known.index.uses.values()
            if use.declares
            and len(use.tensors) == 1
            and use.span.file == source.name
            and use.span not in typed
            and params.range.start.line
            <= _position(source, use.span.end).line
            <= params.range.end.line
        ]


def _typed_names(analysis: Analysis) -> set[Span]:
    """Return where names stand that have their type written, or an index, behind them."""
    program = analysis.program
    found: set[Span] = set()
    for node in ast.walk(program.file) if program else ():
        match node:
            case ast.PortDecl(_, name) | ast.ParamDecl(name) | ast.BufferDecl(name):
                found.add(name.span)
            case ast.Define(name):
                found.add(name.span)
            case ast.Target(name, type_) | ast.StateDecl(name, type_) if type_ is not None:
                found.add(name.span)
            case _:
                pass
    return found


def _add_texts(server: Server) -> None:
    @server.feature(lsp.TEXT_DOCUMENT_FORMATTING)
    def formatting(params: lsp.DocumentFormattingParams) -> list[lsp.TextEdit] | None:
        source = server.source(params.text_document.uri)
        try:
            result = format_source(source.text, source.name)
        except SourceError:
            return None  # its errors are told as diagnostics
        if result == source.text:
            return []
        whole = lsp.Range(lsp.Position(0, 0), _position(source, len(source.text)))
        return [lsp.TextEdit(whole, result)]

    @server.feature(lsp.TEXT_DOCUMENT_DOCUMENT_SYMBOL)
    def document_symbols(params: lsp.DocumentSymbolParams) -> list[lsp.DocumentSymbol]:
        analysis = server.document(params.text_document.uri).known
        if analysis.program is None:
            return []
        source = analysis.source
        return [
            lsp.DocumentSymbol(
                source.excerpt(name.span).strip('"') or "?",
                _KINDS.get(kind, lsp.SymbolKind.Object),
                _range(source, item.span),
                _range(source, name.span),
                detail=kind,
            )
            for name, kind, item in symbols(analysis.program.file)
        ]

    options = lsp.CodeActionOptions(code_action_kinds=[lsp.CodeActionKind.QuickFix])

    @server.feature(lsp.TEXT_DOCUMENT_CODE_ACTION, options)
    def actions(params: lsp.CodeActionParams) -> list[lsp.CodeAction]:
        found = []
        for diagnostic in params.context.diagnostics:
            data: Any = diagnostic.data or {}
            for fix in data.get("fixes", ()) if isinstance(data, dict) else ():
                changes = {
                    uri: [lsp.TextEdit(_as_range(e["range"]), e["newText"]) for e in edits]
                    for uri, edits in fix["edit"]["changes"].items()
                }
                found.append(
                    lsp.CodeAction(
                        fix["title"],
                        kind=lsp.CodeActionKind.QuickFix,
                        diagnostics=[diagnostic],
                        is_preferred=True,
                        edit=lsp.WorkspaceEdit(changes=changes),
                    )
                )
        return found


def serve() -> None:
    """Answer an editor over standard input and output until it ends."""
    make_server().start_io()
