"""Rules for E01: the text itself; there is no tree yet."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from nnc.frontend.edits import Fix
from nnc.frontend.mend.ask import Ask, Rule, after, before, conjecture, put
from nnc.ir.span import Span

_CLOSING = {"(": ")", "[": "]", "{": "}"}
_FOR = re.compile(
    r"for[ \t]+(\w+)[ \t]+in[ \t]+(?:range\((?:0,[ \t]*)?([\w.]+)\)|0[ \t]*\.\.[ \t]*(\w+))[ \t]*:?"
)
_WORDS = {
    "def": "fn", "func": "fn", "function": "fn", "class": "model", "network": "model",
    "net": "model", "module": "layer", "elif": "else if",
}  # fmt: skip
_BINDING = ("let", "var", "val", "const", "auto")


def _line(ask: Ask, at: int) -> tuple[int, int]:
    start = ask.text.rfind("\n", 0, at) + 1
    end = ask.text.find("\n", at)
    return start, len(ask.text) if end < 0 else end


def _span(ask: Ask, start: int, end: int) -> Span:
    return Span(ask.source.name, start, end)


def character(ask: Ask) -> Iterator[Fix]:
    """Signs of other languages."""
    text, at = ask.text, ask.span.start
    c = text[at : at + 1]
    start, end = _line(ask, at)
    if c == ";":
        rest = text[at + 1 : end]
        if not rest.strip() or rest.strip().startswith("#"):
            yield conjecture("a statement ends with its line", put(ask.span, ""))
        else:
            head = text[start:at]
            indent = head[: len(head) - len(head.lstrip())]
            gap = len(rest) - len(rest.lstrip())
            yield conjecture("begin a new line", put(_span(ask, at, at + 1 + gap), f"\n{indent}"))
    elif c in "&|":
        double = text[at : at + 2] == c + c
        word = "and" if c == "&" else "or"
        yield conjecture(f"write `{word}`", put(_span(ask, at, at + 1 + double), word))
    elif c == "!":
        yield conjecture("write `not`", put(ask.span, "not "))
    elif c == "\\":
        yield conjecture("remove it", put(ask.span, ""))
    elif c == "\u00a0":
        line = text[start:end]
        edits = [put(_span(ask, start + k, start + k + 1), " ")
                 for k, x in enumerate(line) if x == c]  # fmt: skip
        yield conjecture("write plain spaces", *edits)
    elif c in "'\u201c\u201d\u2018\u2019":
        yield from _quotes(ask, start, end)


def _quotes(ask: Ask, start: int, end: int) -> Iterator[Fix]:
    marks = "'\u201c\u201d\u2018\u2019"
    places = [k for k in range(start, end) if ask.text[k] in marks]
    if len(places) % 2 == 0:
        edits = [put(_span(ask, k, k + 1), '"') for k in places]
        yield conjecture("write double quotes", *edits)


def decimal(ask: Ask) -> Iterator[Fix]:
    """``.5`` and ``1.``."""
    text = ask.source.excerpt(ask.span)
    if text.startswith("."):
        yield conjecture("write a 0 before the point", before(ask.span, "0"))
    elif text.endswith("."):
        yield conjecture("write a 0 after the point", after(ask.span, "0"))


def comma(ask: Ask) -> Iterator[Fix]:
    """Two things beside each other in brackets."""
    head = ask.text[: ask.span.start]
    end = len(head.rstrip())
    if end:
        yield conjecture("part them by a comma", put(_span(ask, end, end), ","))


def doubled(ask: Ask) -> Iterator[Fix]:
    """``x += 1``, ``x++``, ``x := 1``, ``x <- 1`` and ``=>``."""
    start, end = _line(ask, ask.span.start)
    found = re.compile(r"([ \t]*)(\w+)[ \t]*(\+\+|[-+*/@%^]=|:=|<-)[ \t]*(.*)").match(
        ask.text, start, end
    )
    if found is not None:
        indent, name, op, rest = found.groups()
        value = f"{name} + 1" if op == "++" else rest
        if len(op) == 2 and op[1] == "=" and op[0] != ":":
            value = f"{name} {op[0]} {rest}" if rest.isidentifier() or rest.isdigit() else (
                f"{name} {op[0]} ({rest})"
            )  # fmt: skip
        span = _span(ask, start, end)
        yield conjecture(f"write `{name} = {value}`", put(span, f"{indent}{name} = {value}"))
    if ask.source.excerpt(ask.span) == "=>":
        yield conjecture("write `=`", put(ask.span, "="))


def brace(ask: Ask) -> Iterator[Fix]:
    """A brace on the line after the one that it belongs to."""
    found = re.compile(r"[ \t]*\n\s*\{").match(ask.text, ask.span.start)
    if found is not None:
        yield conjecture("put the `{` there", put(_span(ask, *found.span()), " {"))


def foreign(ask: Ask) -> Iterator[Fix]:
    """Words of other languages at the head of a statement."""
    _, end = _line(ask, ask.span.start)
    word = ask.source.excerpt(ask.span)
    loop = _FOR.match(ask.text, ask.span.start, end)
    if loop is not None:
        count = loop[2] or loop[3]
        text = f"repeat {loop[1]} < {count}"
        yield conjecture(f"write `{text}`", put(_span(ask, *loop.span()), f"{text} "))
    if word in _BINDING:
        gap = len(ask.text[ask.span.end : end]) - len(ask.text[ask.span.end : end].lstrip())
        yield conjecture("leave the word out", put(_span(ask, ask.span.start, ask.span.end + gap),
                                                   ""))  # fmt: skip
    if word in _WORDS:
        yield conjecture(f"write `{_WORDS[word]}`", put(ask.span, _WORDS[word]))


def close(ask: Ask) -> Iterator[Fix]:
    """A bracket that is never closed: at the end of its line, or where it became certain."""
    sign = ask.source.excerpt(ask.span)
    closing = _CLOSING.get(sign)
    if closing is None:
        return
    start, end = _line(ask, ask.span.start)
    title = f"close it: `{closing}`"
    if closing == "}":
        indent = re.compile(r"[ \t]*").match(ask.text, start)
        blank = indent[0] if indent is not None else ""
        place = ask.diagnostic.related[0][0].start if ask.diagnostic.related else len(ask.text)
        line = ask.text.rfind("\n", 0, place) + 1
        for at in (line, len(ask.text)):
            before_line = "" if at == 0 or ask.text[at - 1] == "\n" else "\n"
            yield conjecture(title, put(_span(ask, at, at), f"{before_line}{blank}}}\n"))
        return
    line_text = ask.text[start:end]
    comment = line_text.find("#")
    stop = len((line_text if comment < 0 else line_text[:comment]).rstrip())
    if line_text[:stop].endswith("{"):  # the head of a block
        stop = len(line_text[: stop - 1].rstrip())
    yield conjecture(title, put(_span(ask, start + stop, start + stop), closing))


def grouped(ask: Ask) -> Iterator[Fix]:
    """``a + b |> f`` and ``a |> f + b``: brackets round what belongs together."""
    start, _ = _line(ask, ask.span.start)
    head = ask.text[start : ask.span.start]
    last = start + len(head.rstrip())
    for opened in re.finditer(r"(?:=|\(|,|return)[ \t]*(?=[^ \t])", head):
        if start + opened.end() < last:
            span = _span(ask, start + opened.end(), last)
            yield conjecture("put brackets round it", before(span, "("), after(span, ")"))


def two_lists(ask: Ask) -> Iterator[Fix]:
    """A layer with one list: without config it has an empty one."""
    text = ask.source.excerpt(ask.span)
    at = text.find("(")
    if at > 0:
        place = _span(ask, ask.span.start + at, ask.span.start + at)
        yield conjecture("give it an empty config", put(place, "()"))


def returned(ask: Ask) -> Iterator[Fix]:
    """A value on its own at the end of a function."""
    yield conjecture("return it", before(ask.span, "return "))


RULES: Mapping[str, tuple[Rule, ...]] = {
    "E0101": (decimal, doubled, brace, comma),
    "E0102": (character,),
    "E0103": (close,),
    "E0109": (foreign,),
    "E0119": (grouped,),
    "E0120": (returned,),
    "E0121": (two_lists,),
}
