"""Syntax trees as plain data and back, for the cache.

A node is a tuple of its class's name, its span's two ends and its fields; a span within it is
``("@", start, end)``, and a tuple of nodes a list. All spans of a file lie in that file.
"""

from __future__ import annotations

from typing import Any

from nnc.frontend import ast
from nnc.ir.span import Span

_FIELDS = {name: cls.fields for name, cls in ast.CLASSES.items()}
SCHEMA = repr(sorted(_FIELDS.items()))
"""Changes whenever the tree's classes do."""


def to_data(file: ast.File) -> Any:
    """Return a file's tree as tuples, lists, texts and numbers."""
    return _encode(file)


def from_data(data: Any, name: str) -> ast.File:
    """Return the tree that ``to_data`` made ``data`` from, as one of the file ``name``."""
    classes = ast.CLASSES

    def decode(data: Any) -> Any:  # thousands of times at each start: no more than is needed
        kind = type(data)
        if kind is tuple:
            head, start, end = data[:3]
            if head == "@":
                return Span(name, start, end)
            return classes[head](*map(decode, data[3:]), span=Span(name, start, end))
        return tuple(map(decode, data)) if kind is list else data

    file = decode(data)
    assert isinstance(file, ast.File)
    return file.but(name=name)


def _encode(value: Any) -> Any:
    match value:
        case ast.Node(span=span):
            kind = type(value).__name__
            parts = (_encode(getattr(value, name)) for name in _FIELDS[kind])
            return (kind, span.start, span.end, *parts)
        case Span(_, start, end):
            return ("@", start, end)
        case tuple():
            return [_encode(v) for v in value]
        case _:
            return value
