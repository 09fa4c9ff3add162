"""What to say where the parser is stuck: what was expected, what was found, and a likely cause."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nnc.frontend.diagnostics import Diagnostic
from nnc.frontend.edits import replacing
from nnc.frontend.names import nearest
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


_DOUBLED = {
    "**": ("a power is written `^`", "^"),
    ":=": ("a binding is written `name = value`", "="),
    "<-": ("a binding is written `name = value`", None),
    "=>": ("a function's value follows `=`", None),
    "++": ("write `x = x + 1`", None),
    **{f"{op}=": (f"write `x = x {op} ...`", None) for op in "+-*/@%^"},
}
_OPEN_ENDED = frozenset("=,+-*/%@^<") | {"==", "!=", "<=", ">=", ">", "//", "|>", "->"}


@dataclass(frozen=True, slots=True)
class Stuck:
    """The state of a parse that cannot go on.

    ``found`` is the token's type, ``text`` what it says, ``span`` where; ``accepts`` are the token
    types that would do. ``line`` are the (type, text, span) of the statement's tokens before it;
    ``at_item`` tells that they began at the top level, not in a block. ``after`` is the character
    that follows the token.
    """

    found: str
    text: str
    span: Span
    accepts: frozenset[str]
    line: Sequence[tuple[str, str, Span]]
    at_item: bool
    after: str = ""


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
    label = f"expected {_expected(stuck.accepts)}"
    if not stuck.line or stuck.found in ("_NL", "$END"):
        return Diagnostic("E0101", f"unexpected {_found(stuck)}", stuck.span, label)
    _, before, span = stuck.line[-1]
    if before not in _OPEN_ENDED:
        return Diagnostic("E0101", f"unexpected {_found(stuck)}", stuck.span, label)
    return Diagnostic(
        "E0101",
        f"unexpected {_found(stuck)}",
        stuck.span,
        label,
        ((span, f"`{before}` needs something after it"),),
    )


def _reserved(stuck: Stuck) -> Diagnostic | None:
    if len(stuck.line) == 1 and stuck.line[0][1] in RESERVED and stuck.found == "EQUAL":
        return _not_a_name(*stuck.line[0][1:])
    if "NAME" not in stuck.accepts or stuck.text not in RESERVED:
        return None
    if "INT" in stuck.accepts and stuck.text not in ("scan", "repeat"):
        return None  # an expression is missing; the word is not meant as a name
    return _not_a_name(stuck.text, stuck.span)


def _not_a_name(word: str, span: Span) -> Diagnostic:
    return Diagnostic(
        "E0108",
        f"`{word}` is a word of the language and cannot be a name",
        span,
        "expected a name",
        hint=f"call it `{word}_`",
        fix=replacing(span, f"{word}_"),
    )


def _else_if(stuck: Stuck) -> Diagnostic | None:
    if stuck.text not in ("elif", "elseif", "elsif") or "ELSE" not in stuck.accepts:
        return None
    return Diagnostic(
        "E0109",
        f"`{stuck.text}` is not a word of the language",
        stuck.span,
        hint=_FOREIGN[stuck.text],
        fix=replacing(stuck.span, "else if"),
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
        fix=replacing(span, likely),
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
    return Diagnostic(
        "E0101",
        "`=` binds a name; it does not compare",
        stuck.span,
        "found here, inside an expression",
        hint="write `==` to compare",
        fix=replacing(stuck.span, "=="),
    )


def _doubled(stuck: Stuck) -> Diagnostic | None:
    """Return a diagnostic for operators of other languages that are two of ours."""
    both, span = (
        stuck.text + stuck.after,
        Span(stuck.span.file, stuck.span.start, stuck.span.end + 1),
    )
    if both not in _DOUBLED and stuck.line and stuck.line[-1][2].end == stuck.span.start:
        both, span = stuck.line[-1][1] + stuck.text, stuck.line[-1][2].to(stuck.span)
    if both not in _DOUBLED:
        return None
    hint, replacement = _DOUBLED[both]
    message = f"`{both}` is not an operator of the language"
    fix = replacing(span, replacement) if replacement else None
    return Diagnostic("E0101", message, span, hint=hint, fix=fix)


def _decimal_point(stuck: Stuck) -> Diagnostic | None:
    """Return a diagnostic for `.5` and `5.`."""
    bare = stuck.found == "DOT" and stuck.after.isdigit()
    before = stuck.line[-2:]
    trailing = [t for t, _, _ in before] == ["INT", "DOT"]
    if not (bare or trailing):
        return None
    span = before[0][2].to(before[1][2]) if trailing else stuck.span
    return Diagnostic(
        "E0101", "this decimal is not complete", span, "a digit is missing", hint=_CHARACTERS["."]
    )


def _one_list(stuck: Stuck) -> Diagnostic | None:
    """Return a diagnostic for a layer, optimizer or schedule with one parameter list."""
    if not stuck.line or stuck.line[0][1] not in ("layer", "optimizer", "schedule"):
        return None
    if stuck.line[-1][0] != "RPAR" or stuck.found not in ("ARROW", "LBRACE", "EQUAL", "_NL"):
        return None
    if "LPAR" not in stuck.accepts:
        return None
    word = stuck.line[0][1]
    return Diagnostic(
        "E0121",
        f"this {word} has one parameter list and needs two",
        stuck.line[0][2].to(stuck.line[-1][2]),
        "first its settings, then what it is applied to",
        hint=f"without settings, write `{word} {stuck.line[1][1]}()(...)`",
    )


def _brace_on_next_line(stuck: Stuck) -> Diagnostic | None:
    if stuck.found != "_NL" or "LBRACE" not in stuck.accepts or "PLUS" in stuck.accepts:
        return None
    return Diagnostic(
        "E0101",
        "the line ends before the body",
        stuck.span,
        f"expected {_expected(stuck.accepts)}",
        hint="the `{` stands at the end of the line that it belongs to",
    )


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


def _after_pipe(stuck: Stuck) -> Diagnostic | None:
    if stuck.found not in _OPERATORS - {"PIPE", "DOT"}:
        return None
    depth = 0
    for kind, _, _ in reversed(stuck.line):
        depth += (kind in ("RPAR", "RSQB")) - (kind in ("LPAR", "LSQB"))
        if depth < 0 or (depth == 0 and kind in ("COMMA", "EQUAL")):
            return None
        if depth == 0 and kind == "PIPE":
            return Diagnostic(
                "E0119",
                "the right of `|>` is not clear",
                stuck.span,
                "this operator follows a pipe",
                hint="parentheses say what belongs together: `(a |> f) + b`",
            )
    return None


def _bare_expression(stuck: Stuck) -> Diagnostic | None:
    if len(stuck.line) != 1 or stuck.line[0][0] != "NAME" or "EQUAL" not in stuck.accepts:
        return None
    if stuck.at_item or "COLON" not in stuck.accepts:
        return None
    if stuck.line[0][1] in PORT_WORDS and stuck.found in ("_NL", "RBRACE"):
        return Diagnostic(
            "E0101",
            f"`{stuck.line[0][1]}` declares nothing here",
            stuck.line[0][2],
            "expected what it declares after it",
        )
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
    _decimal_point,
    _reserved,
    _else_if,
    _slip,
    _misplaced,
    _assignment,
    _bare_expression,
    _pipe,
    _after_pipe,
    _one_list,
    _brace_on_next_line,
)


def _found(stuck: Stuck) -> str:
    if stuck.found in ("_NL", "$END"):
        return "end of the line" if stuck.found == "_NL" else "end of the file"
    if stuck.text in RESERVED:
        return f"`{stuck.text}`"
    kind = {"NAME": "name ", "INT": "number ", "FLOAT": "number "}
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
    if {"PLUS", "MUL"} <= left:  # after a whole expression anything may follow
        if "_NL" in left:
            said.append("an operator")
            left = {"_NL"}
        else:
            left = (left & {"RPAR", "RSQB", "COMMA", "THEN", "ELSE", "LBRACE"}) or left
    elif len(left - _OPERATORS) > 1:
        left -= _OPERATORS
    if "_NL" in left:
        left.discard("$END")
    said += sorted(_spell(t) for t in left)
    said = said[:5]
    return " or ".join([", ".join(said[:-1]), said[-1]] if len(said) > 1 else said) or "nothing"


def _spell(token_type: str) -> str:
    return _SPELLING.get(token_type, f"`{token_type.lower()}`")
