"""What is written as itself (numbers, texts), and where in the source anything was written."""
# ruff: noqa: D102 - the grammar says what each rule's method is about

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeAlias

from lark import Token

from nnc.frontend import ast
from nnc.frontend.diagnostics import Diagnostic, Diagnostics
from nnc.frontend.source import Source
from nnc.ir.span import Span

_UNITS = {"K": 1, "M": 2, "G": 3, "T": 4}
_ESCAPES = {"n": "\n", "t": "\t", '"': '"', "\\": "\\"}
_LARGEST = 2**63 - 1
Children: TypeAlias = list[Any]


class Literals:
    """The part of the builder for rules that are one token.

    ``original`` maps a place in the text that was parsed to its place in the source.
    """

    def __init__(
        self, source: Source, original: Callable[[int], int], diagnostics: Diagnostics
    ) -> None:
        self._source = source
        self._original = original
        self._diagnostics = diagnostics

    # places -----------------------------------------------------------------------------------

    def _extent(self, children: Children) -> Span:
        if not children:
            return self._source.span(0, 0)
        first, last = self._span(children[0]), self._span(children[-1])
        return self._source.span(first.start, max(first.end, last.end))

    def _span(self, child: Any) -> Span:
        if not isinstance(child, Token):
            span = child.span
            assert isinstance(span, Span)
            return span
        start, end = child.start_pos or 0, child.end_pos or 0
        return self._source.span(self._original(start), self._original(end))

    def _error(self, code: str, message: str, span: Span, label: str, **more: Any) -> None:
        self._diagnostics.add(Diagnostic(code, message, span, label, **more))

    # literals ---------------------------------------------------------------------------------

    def int_(self, children: Children, span: Span) -> ast.Int:
        digits = children[0].value.replace("_", "").lstrip("0") or "0"
        value = int(digits) if len(digits) < 20 else _LARGEST + 1
        if value > _LARGEST:
            self._error("E0110", "this number is too large", span, "whole numbers have 64 bits")
            value = _LARGEST
        return ast.Int(value, span=span)

    def float_(self, children: Children, span: Span) -> ast.Float:
        value = float(children[0].value)
        if value == float("inf"):
            self._error("E0110", "this number is too large", span, "the largest is about 1.8e308")
        return ast.Float(value, span=span)

    def size(self, children: Children, span: Span) -> ast.SizeLiteral:
        match = re.fullmatch(r"([0-9.]+)([KMGT])(i?)B", children[0].value)
        assert match is not None
        base = 1024 if match[3] else 1000
        return ast.SizeLiteral(round(float(match[1]) * base ** _UNITS[match[2]]), span=span)

    def bool_(self, children: Children, span: Span) -> ast.Bool:
        return ast.Bool(children[0].type == "TRUE", span=span)

    def string(self, children: Children, span: Span) -> ast.String:
        return self._text(children[0])

    def _text(self, token: Token) -> ast.String:
        span = self._span(token)

        def unescape(match: re.Match[str]) -> str:
            if match[1] not in _ESCAPES:
                self._error(
                    "E0111",
                    f"`\\{match[1]}` means nothing in a text",
                    span,
                    "in this text",
                    hint='write `\\\\` for a backslash; there are also `\\"`, `\\n` and `\\t`',
                )
            return _ESCAPES.get(match[1], match[1])

        return ast.String(re.sub(r"\\(.)", unescape, token.value[1:-1]), span=span)
