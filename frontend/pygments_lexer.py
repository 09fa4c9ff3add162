"""The Pygments lexer of model files, found by Pygments under the name ``nn``."""

from __future__ import annotations

from typing import Any, ClassVar

from pygments.lexer import RegexLexer, bygroups
from pygments.token import (
    Comment,
    Keyword,
    Name,
    Number,
    Operator,
    Punctuation,
    String,
    Text,
    Whitespace,
)

from nnc.frontend.colours import ROWS, Row

TOKENS: dict[str, Any] = {
    "comment": Comment.Single,
    "string": String.Double,
    "blank": Whitespace,
    "declare": Keyword.Declaration,
    "entity": Name.Function,
    "keyword": Keyword,
    "constant": Keyword.Constant,
    "type": Keyword.Type,
    "function": Name.Builtin,
    "name": Name,
    "number": Number,
    "operator": Operator,
    "punctuation": Punctuation,
}
"""The Pygments token of each class of ``colours.ROWS``."""


def _rule(row: Row) -> tuple[str, Any]:
    tokens = [TOKENS[c] for c in row.classes]
    return row.pattern, tokens[0] if len(tokens) == 1 else bygroups(*tokens)


class NncLexer(RegexLexer):  # type: ignore[misc]
    """Model files of nnc."""

    name = "nnc"
    aliases: ClassVar[list[str]] = ["nn", "nnc"]
    filenames: ClassVar[list[str]] = ["*.nn"]
    tokens: ClassVar[dict[str, Any]] = {
        "root": [*map(_rule, ROWS), (r"\n", Whitespace), (r".", Text)]
    }
