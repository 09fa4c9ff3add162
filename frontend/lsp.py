"""Diagnostics as editors read them: the shapes of the Language Server Protocol, 3.17.

https://microsoft.github.io/language-server-protocol/specifications/lsp/3.17/specification/
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnc.frontend.diagnostics import Diagnostic
from nnc.frontend.edits import Fix, by_file
from nnc.frontend.source import Source
from nnc.ir.span import Span

_SEVERITY = {"error": 1, "warning": 2, "note": 3}


def to_json(d: Diagnostic, sources: Mapping[str, Source]) -> dict[str, Any]:
    """Return a diagnostic in the shape of the protocol's ``Diagnostic``.

    Places count from 0, columns in UTF-16 units. ``file`` and ``uri`` tell where it belongs;
    ``data`` adds label, notes, hint, and ``fixes``: code actions that can be applied as they are.
    """
    file = d.span.file if d.span else None
    return {
        "file": file,
        "uri": uri(file, sources) if file is not None else None,
        "range": _range(d.span, sources),
        "severity": _SEVERITY[d.severity],
        "code": d.code,
        "source": "nnc",
        "message": d.message,
        "relatedInformation": [
            {"location": {"uri": uri(s.file, sources), "range": _range(s, sources)}, "message": t}
            for s, t in d.related
        ],
        "data": {
            "label": d.label,
            "notes": list(d.notes),
            "hint": d.hint,
            "fixes": [code_action(d.fix, sources)] if d.fix is not None else [],
        },
    }


def code_action(fix: Fix, sources: Mapping[str, Source]) -> dict[str, Any]:
    """Return a fix as the protocol's ``CodeAction``: title, and text edits by document."""
    return {
        "title": fix.title,
        "kind": "quickfix",
        "isPreferred": True,
        "edit": {
            "changes": {
                uri(file, sources): [
                    {"range": _range(e.span, sources), "newText": e.text} for e in edits
                ]
                for file, edits in by_file(fix.edits).items()
            }
        },
    }


def uri(file: str, sources: Mapping[str, Source]) -> str:
    """Return the URI of a document; what is no file on the disk keeps its name."""
    source = sources.get(file)
    return source.path.absolute().as_uri() if source is not None and source.path else file


def _range(span: Span | None, sources: Mapping[str, Source]) -> dict[str, Any]:
    source = sources.get(span.file) if span else None
    if span is None or source is None:
        return {"start": {"line": 0, "character": 0}, "end": {"line": 0, "character": 0}}
    return {"start": _lsp(source, span.start), "end": _lsp(source, span.end)}


def _lsp(source: Source, offset: int) -> dict[str, int]:
    line, column = source.position(offset)
    before = source.line(line)[: column - 1]
    return {"line": line - 1, "character": len(before.encode("utf-16-le")) // 2}
