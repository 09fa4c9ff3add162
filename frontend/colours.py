"""How editors colour model files: one table of patterns, for Pygments and for TextMate.

The patterns keep to what Python's ``re`` and Oniguruma read alike. They know no grammar: the words
that are keywords only in some places are told by what stands beside them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

_NAME = r"[A-Za-z_][A-Za-z_0-9]*"
_ITEMS = "model|fn|layer|optimizer|schedule"
_PORTS = "input|target|output|metric|param|buffer|state|update|step"
_RESERVED = "if|then|else|and|or|not|return|yield|require|assert|scan|repeat"
_TYPES = "float|f64|f32|f16|bf16|i64|i32|i8|u8|int|bool|any|text"


@dataclass(frozen=True, slots=True)
class Row:
    """A pattern, and the classes of its groups (or of the whole, where it has none)."""

    pattern: str
    classes: tuple[str, ...]


ROWS = (
    Row(r"#.*", ("comment",)),
    Row(r'"(?:[^"\\\n]|\\.)*"', ("string",)),
    Row(r"[ \t]+", ("blank",)),
    Row(rf"^({_ITEMS})([ \t]+)({_NAME})", ("declare", "blank", "entity")),
    Row(rf"^(train)([ \t]+)({_NAME})", ("declare", "blank", "name")),
    Row(r'^(import|test)(?=[ \t]+")', ("declare",)),
    Row(r"^(language)(?=[ \t]+[0-9])", ("declare",)),
    Row(rf"({_PORTS})(?=[ \t]+[A-Za-z_][A-Za-z_0-9]*[ \t]*(?:[:={{]|$|\#|\}}))", ("declare",)),
    Row(r"(loss)(?=[ \t]+(?:[A-Za-z_0-9(]|-[A-Za-z_0-9(]))", ("declare",)),
    Row(r"(scan)([ \t]+)(reverse)(?=[ \t]+[A-Za-z_])", ("keyword", "blank", "keyword")),
    Row(r"(with)([ \t]+)(gradient)(?![A-Za-z_0-9])", ("keyword", "blank", "keyword")),
    Row(r"(carry)(?=[ \t]*\()", ("keyword",)),
    Row(r"(in|where|within|until|as)(?=[ \t]+[A-Za-z_0-9(\-\.])", ("keyword",)),
    Row(rf"({_RESERVED})(?![A-Za-z_0-9])", ("keyword",)),
    Row(r"(true|false)(?![A-Za-z_0-9])", ("constant",)),
    Row(rf"({_TYPES})(?![A-Za-z_0-9])", ("type",)),
    Row(rf"{_NAME}(?=\()", ("function",)),
    Row(_NAME, ("name",)),
    Row(r"[0-9]+(?:\.[0-9]+)?[KMGT]i?B(?![A-Za-z_0-9])", ("number",)),
    Row(
        r"[0-9][0-9_]*\.[0-9][0-9_]*(?:[eE][+-]?[0-9]+)?|[0-9][0-9_]*[eE][+-]?[0-9]+|[0-9][0-9_]*",
        ("number",),
    ),
    Row(r"\|>|->|\.\.\.|\.\.|//|[=!<>]=|[-+*/%@^<>=]", ("operator",)),
    Row(r"[()\[\]{},:.]", ("punctuation",)),
)
SCOPES = {
    "comment": "comment.line.number-sign",
    "string": "string.quoted.double",
    "declare": "storage.type",
    "entity": "entity.name.function",
    "keyword": "keyword.control",
    "constant": "constant.language",
    "type": "support.type",
    "function": "support.function",
    "name": "variable.other",
    "number": "constant.numeric",
    "operator": "keyword.operator",
    "punctuation": "punctuation",
}
"""The TextMate scope of each class; blanks have none."""


def textmate_grammar() -> dict[str, Any]:
    """Return the TextMate grammar, as the JSON file of ``editors/vscode`` holds it."""
    patterns: list[dict[str, Any]] = []
    for row in ROWS:
        scopes = [f"{SCOPES[c]}.nnc" if c in SCOPES else "" for c in row.classes]
        if len(scopes) == 1:
            if scopes[0]:
                patterns.append({"match": row.pattern, "name": scopes[0]})
        else:
            captures = {str(k): {"name": s} for k, s in enumerate(scopes, 1) if s}
            patterns.append({"match": row.pattern, "captures": captures})
    return {
        "$schema": "https://raw.githubusercontent.com/martinring/tmlanguage/master/tmlanguage.json",
        "name": "nnc",
        "scopeName": "source.nnc",
        "fileTypes": ["nn"],
        "patterns": patterns,
    }


if __name__ == "__main__":
    print(json.dumps(textmate_grammar(), indent=2))
