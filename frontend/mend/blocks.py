"""Rules for E04: train blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from nnc.frontend import ast
from nnc.frontend.edits import Fix
from nnc.frontend.mend.ask import Ask, Rule, after, conjecture, put
from nnc.ir.span import Span


def _block(ask: Ask) -> ast.Train | None:
    found = ask.around(ast.Train)
    return found[0] if found else None


def into_optimizer(ask: Ask) -> Iterator[Fix]:
    """``lr = 0.1`` beside ``optimizer = adam()``: it is the optimizer's."""
    train = _block(ask)
    settings = [e for e in train.entries if isinstance(e, ast.Setting)] if train else []
    wrong = next((s for s in settings if s.key.span == ask.span), None)
    chosen = next((s.value for s in settings if s.key.text == "optimizer"), None)
    if wrong is None or not isinstance(chosen, ast.Call):
        return
    comma = ", " if chosen.args or chosen.kwargs else ""
    names = {"learning_rate": "lr", "rate": "lr"}
    name = names.get(wrong.key.text, wrong.key.text)
    inside = Span(chosen.span.file, chosen.span.end - 1, chosen.span.end - 1)
    added = put(inside, f"{comma}{name} = {ask.of(wrong.value)}")
    yield conjecture("give it to the optimizer", put(_entry(ask, wrong), ""), added)


def _entry(ask: Ask, setting: ast.Setting) -> Span:
    """The span of an entry with the comma or the line that parts it from another one."""
    start, end = setting.span.start, setting.span.end
    text = ask.text
    while start > 0 and text[start - 1] in " \t":
        start -= 1
    if start > 0 and text[start - 1] in ",\n":
        return Span(ask.source.name, start - 1, end)
    while end < len(text) and text[end] in " \t":
        end += 1
    if text[end : end + 1] == ",":
        end += 1
        while end < len(text) and text[end] in " \t":
            end += 1
    return Span(ask.source.name, setting.span.start, end)


def plain_number(ask: Ask) -> Iterator[Fix]:
    """A number in quotes, a whole one with a point, a name that is to be called."""
    text = ask.source.excerpt(ask.span)
    inner = text.strip('"')
    if inner != text and inner.replace(".", "", 1).isdigit():
        yield conjecture(f"write {inner}", put(ask.span, inner))
    elif inner != text and inner.isidentifier():
        yield conjecture(f"write {inner}()", put(ask.span, f"{inner}()"))
    elif text.isidentifier():
        yield conjecture(f"write {text}()", after(ask.span, "()"))
    if text.replace(".", "", 1).isdigit() and "." in text:
        yield conjecture(f"write {int(float(text))}", put(ask.span, str(int(float(text)))))


def an_optimizer(ask: Ask) -> Iterator[Fix]:
    """A train block without an optimizer."""
    train = _block(ask)
    if train is None or any(isinstance(e, ast.Setting) and e.key.text == "optimizer"
                            for e in train.entries):  # fmt: skip
        return
    line = "optimizer = adam(lr = 1e-3)"
    if train.entries:
        first = train.entries[0].span
        begin = ask.text.rfind("\n", 0, first.start) + 1
        head = ask.text[begin : first.start]
        sep = ", " if head.strip() else f"\n{head}"
        place = Span(first.file, first.start, first.start)
        yield conjecture(f"add {line}", put(place, f"{line}{sep}"))
        return
    brace = ask.text.find("{", train.model.span.end)
    if brace >= 0:
        place = Span(train.span.file, brace + 1, brace + 1)
        yield conjecture(f"add {line}", put(place, f" {line} "))


def other_parameters(ask: Ask) -> Iterator[Fix]:
    """Patterns that leave some parameters without an optimizer: the last one's for the rest."""
    for record in ask.around(ast.Record)[:1]:
        if record.entries:
            value = ask.of(record.entries[-1].value)
            yield conjecture("let the others have the last one's",
                             after(record.entries[-1], f', "**" = {value}'))  # fmt: skip


def percent(ask: Ask) -> Iterator[Fix]:
    """A share of 20: of a hundred."""
    text = ask.source.excerpt(ask.span)
    if text.isdigit() and 1 < int(text) < 100:
        share = f"{int(text) / 100:g}"
        yield conjecture(f"{text} of a hundred is {share}", put(ask.span, share))


RULES: Mapping[str, tuple[Rule, ...]] = {
    "E0401": (into_optimizer,),
    "E0403": (plain_number,),
    "E0405": (an_optimizer,),
    "E0407": (other_parameters,),
    "E0409": (percent, plain_number),
}
