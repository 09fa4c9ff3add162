"""What to say where the parser is stuck: what was expected, what was found, and a likely cause."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nnc.frontend.diagnostics import Diagnostic, Fix, nearest
from nnc.ir.span import Span

RESERVED = frozenset({
    "if", "then", "else", "and", "or", "not", "true", "false", "return", "yield", "require",
    "assert", "scan", "repeat",
})  # fmt: skip
ITEM_WORDS = frozenset({"import", "model", "train", "fn", "layer", "optimizer", "schedule", "test"})
PORT_WORDS = frozenset(
    {"input", "target", "output", "loss", "metric", "param", "buffer", "state", "update"}
)
STATEMENT_WORDS = PORT_WORDS | {"if", "repeat", "scan", "return", "yield", "require", "assert"}
_FOREIGN = {
    **dict.fromkeys(("def", "func", "function", "proc"), "a function is declared with `fn`"),
    **dict.fromkeys(
        ("class", "struct", "module", "network", "net"),
        "a network is declared with `model`, a part of one with `layer`",
    ),
    **dict.fromkeys(("for", "while", "loop"), "repetition is `repeat i < n { ... }`"),
    **dict.fromkeys(("elif", "elseif", "elsif"), "write `else if`"),
    **dict.fromkeys(("let", "var", "val", "const", "auto"), "a binding is just `name = value`"),
    **dict.fromkeys(("from", "include", "use"), 'other files are read with `import "file.nn"`'),
}
_CHARACTERS = {
    "&": "write `and`",
    "|": "a pipe is written `|>`, and truth values are joined with `or`",
    "!": "write `not`, or `!=` for not equal",
    ";": "a statement ends with its line",
    "'": 'a text stands in double quotes, `"like this"`',
    "\u201c": 'a text stands in straight quotes, `"like this"`',
    "\u201d": 'a text stands in straight quotes, `"like this"`',
    "\u00a0": "this is a no-break space; write a plain one",
    ".": "a decimal has a digit on both sides of the point, as in `0.5` and `1.0`",
    "\\": "a line goes on after an operator, a comma or an open bracket; no sign is needed",
    "?": "a condition is written `if a then b else c`",
}
_EXPRESSION = frozenset({
    "NAME", "INT", "FLOAT", "SIZE", "STRING", "TRUE", "FALSE", "LPAR", "LSQB", "LBRACE", "MINUS",
    "NOT", "IF", "ELLIPSIS",
})  # fmt: skip
_OPERATORS = frozenset({
    "PLUS", "MINUS", "MUL", "POWER", "CMP", "LT", "PIPE", "AND", "OR", "DOT", "WHERE", "WITHIN",
})  # fmt: skip
_SPELLING = {
    "LPAR": "`(`", "RPAR": "`)`", "LSQB": "`[`", "RSQB": "`]`", "LBRACE": "`{`", "RBRACE": "`}`",
    "COMMA": "`,`", "COLON": "`:`", "EQUAL": "`=`", "DOT": "`.`", "PIPE": "`|>`", "ARROW": "`->`",
    "PLUS": "`+`", "MINUS": "`-`", "MUL": "`*`", "POWER": "`^`", "LT": "`<`", "CMP": "`==`",
    "_NL": "the end of the line", "$END": "the end of the file", "NAME": "a name",
    "INT": "a whole number", "FLOAT": "a decimal number", "STRING": "a text in quotes",
    "SIZE": "an amount of memory",
    "DOTS": "`..`", "ELLIPSIS": "`...`",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Stuck:
    """The state of a parse that cannot go on.

    ``found`` is the token's type, ``text`` what it says, ``span`` where; ``accepts`` are the token
    types that would do. ``line`` are the (type, text, span) of the statement's tokens before it;
    ``at_item`` tells that they began at the top level, not in a block.
    """

    found: str
    text: str
    span: Span
    accepts: frozenset[str]
    line: Sequence[tuple[str, str, Span]]
    at_item: bool


def bad_character(text: str, at: int, span: Span) -> Diagnostic:
    """Return the diagnostic for a character that no token begins with."""
    c = text[at]
    hint = _CHARACTERS.get(c)
    if hint is None and c.isalpha():
        hint = "names are made of the letters a to z, A to Z, digits and `_`"
    shown = f"`{c}`" if c.isprintable() else f"the character U+{ord(c):04X}"
    return Diagnostic(
        "E0102", f"{shown} means nothing here", span, "not part of the language", hint=hint
    )


def explain(stuck: Stuck) -> Diagnostic:
    """Return the diagnostic for a token that cannot stand where it does."""
    for rule in _RULES:
        diagnostic = rule(stuck)
        if diagnostic is not None:
            return diagnostic
    expected = _expected(stuck.accepts)
    found = _found(stuck)
    return Diagnostic(
        "E0101", f"expected {expected}, found {found}", stuck.span, f"expected {expected}"
    )


def _reserved(stuck: Stuck) -> Diagnostic | None:
    if "NAME" not in stuck.accepts or stuck.text not in RESERVED:
        return None
    if "INT" in stuck.accepts and stuck.text not in ("scan", "repeat"):
        return None  # an expression is missing; the word is not meant as a name
    return Diagnostic(
        "E0108",
        f"`{stuck.text}` is a word of the language and cannot be a name",
        stuck.span,
        "expected a name",
        hint=f"call it `{stuck.text}_`",
        fix=Fix(stuck.span, f"{stuck.text}_"),
    )


def _slip(stuck: Stuck) -> Diagnostic | None:
    """Return a diagnostic if the statement begins with a slip of one of the language's words."""
    words = ITEM_WORDS | {"language"} if stuck.at_item else STATEMENT_WORDS
    if stuck.at_item and not stuck.line:
        word, span = stuck.text, stuck.span
    elif len(stuck.line) == 1 and stuck.line[0][0] == "NAME":
        if stuck.found not in ("NAME", "STRING", "INT", "FLOAT", "LPAR", "MINUS", "LBRACE"):
            return None
        _, word, span = stuck.line[0]
        if stuck.found == "LPAR" and span.end == stuck.span.start:
            return None  # a call
    else:
        return None
    if word in _FOREIGN:
        return Diagnostic(
            "E0109", f"`{word}` is not a word of the language", span, "", hint=_FOREIGN[word]
        )
    likely = nearest(word, words)
    if likely is None or likely == word:
        return None
    return Diagnostic(
        "E0109",
        f"`{word}` is not a word of the language",
        span,
        f"perhaps `{likely}`",
        hint=f"write `{likely}`",
        fix=Fix(span, likely),
    )


def _misplaced(stuck: Stuck) -> Diagnostic | None:
    """Return a diagnostic if a declaration stands at the wrong level."""
    if stuck.line:
        return None
    if stuck.at_item and (stuck.text in STATEMENT_WORDS or stuck.found == "NAME"):
        return Diagnostic(
            "E0101",
            f"`{stuck.text}` cannot stand outside a declaration",
            stuck.span,
            "expected `model`, `train`, `layer`, `fn` or another declaration",
            hint="statements stand in the braces of a model, a layer or a function",
        )
    if not stuck.at_item and stuck.text in ITEM_WORDS and "RETURN" in stuck.accepts:
        return Diagnostic(
            "E0101",
            f"`{stuck.text}` declarations stand at the top level of a file",
            stuck.span,
            "expected a statement",
            hint="is a `}` missing before it?",
        )
    return None


def _assignment(stuck: Stuck) -> Diagnostic | None:
    if stuck.found != "EQUAL" or "CMP" not in stuck.accepts:
        return None
    before = stuck.line[-1] if stuck.line else None
    if before and before[0] in ("PLUS", "MINUS", "MUL"):
        return None
    return Diagnostic(
        "E0101",
        "`=` binds a name; it does not compare",
        stuck.span,
        "found here, inside an expression",
        hint="write `==` to compare",
        fix=Fix(stuck.span, "=="),
    )


def _doubled(stuck: Stuck) -> Diagnostic | None:
    """Return a diagnostic for operators of other languages that are two of ours."""
    if not stuck.line or stuck.line[-1][2].end != stuck.span.start:
        return None
    _, before, span = stuck.line[-1]
    both = before + stuck.text
    both_span = span.to(stuck.span)
    if both == "**":
        hint, fix = "a power is written `^`", Fix(both_span, "^")
    elif both in ("+=", "-=", "*=", "/=", "@="):
        hint, fix = f"write `x = x {before} ...`", None
    elif both == ":=":
        hint, fix = "write `=`", Fix(both_span, "=")
    elif both == "<-":
        hint, fix = "a binding is written `name = value`", None
    else:
        return None
    message = f"`{both}` is not an operator of the language"
    return Diagnostic("E0101", message, both_span, "", hint=hint, fix=fix)


def _pipe(stuck: Stuck) -> Diagnostic | None:
    if stuck.found != "PIPE" or not stuck.line:
        return None
    return Diagnostic(
        "E0119",
        "the left of `|>` is not clear",
        stuck.span,
        "this pipe follows an operator",
        hint="parentheses say what goes in: `(a + b) |> f` or `a + (b |> f)`",
    )


def _bare_expression(stuck: Stuck) -> Diagnostic | None:
    if len(stuck.line) != 1 or stuck.line[0][0] != "NAME" or "EQUAL" not in stuck.accepts:
        return None
    if stuck.at_item or "COLON" not in stuck.accepts:
        return None
    if stuck.found in ("LPAR", "PIPE", "DOT", "_NL", "RBRACE", "PLUS", "MINUS", "MUL"):
        return Diagnostic(
            "E0120",
            "this value is not given a name",
            stuck.line[0][2].to(stuck.span) if stuck.found == "LPAR" else stuck.line[0][2],
            "a statement on its own does nothing",
            hint="write `name = ...`, or `return ...` for the result",
        )
    return None


_RULES: tuple[Callable[[Stuck], Diagnostic | None], ...] = (
    _doubled,
    _reserved,
    _slip,
    _misplaced,
    _assignment,
    _pipe,
    _bare_expression,
)


def _found(stuck: Stuck) -> str:
    if stuck.found in ("_NL", "$END"):
        return _SPELLING[stuck.found]
    if stuck.text in RESERVED:
        return f"`{stuck.text}`"
    kind = {"NAME": "the name ", "INT": "the number ", "FLOAT": "the number "}
    return f"{kind.get(stuck.found, '')}`{stuck.text}`"


def _expected(accepts: frozenset[str]) -> str:
    left = set(accepts) - {"BROKEN"}
    said: list[str] = []
    if {"MODEL", "FN"} <= left:
        said.append("a declaration (`model`, `train`, `layer`, `fn`, ...)")
        left -= {w.upper() for w in ITEM_WORDS} | {"LANGUAGE"}
    if {"RETURN", "INPUT"} <= left:
        said.append("a statement")
        left -= {w.upper() for w in STATEMENT_WORDS} | {"NAME", "ELLIPSIS"}
    if {"NAME", "INT", "LPAR"} <= left:
        said.append("an expression")
        left -= _EXPRESSION | {"SCAN", "REPEAT"}
    elif {"NAME", "LPAR"} <= left and "CMP" not in left:
        said.append("a type")
        left -= {"NAME", "LPAR"}
    # after a whole expression, brackets and operators could always follow: no news
    if left & _OPERATORS >= {"PLUS", "MUL"} or len(left - _OPERATORS) > 1:
        after = left - _OPERATORS - ({"LPAR", "LSQB"} if "PLUS" in left else set())
        left = after or left
    if "_NL" in left:
        left.discard("$END")
    said += sorted(_spell(t) for t in left)
    said = said[:5]
    return " or ".join([", ".join(said[:-1]), said[-1]] if len(said) > 1 else said) or "nothing"


def _spell(token_type: str) -> str:
    return _SPELLING.get(token_type, f"`{token_type.lower()}`")
