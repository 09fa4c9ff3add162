"""Candidates for a fix are tried: the program that they make is checked, and must be better."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from nnc.frontend import ast
from nnc.frontend.diagnostics import Diagnostic, SourceError
from nnc.frontend.edits import Edit, Fix, applied, by_file
from nnc.frontend.mend import blocks, notation, shapes, syntax
from nnc.frontend.mend.ask import Ask, Rule
from nnc.frontend.source import Source
from nnc.ir.span import Span

Texts = Mapping[str, str]
"""Texts to read in place of files, by the names that messages have for them."""
Check = Callable[[Texts], Sequence[Diagnostic]]
"""Checks a program with some texts in the place of its own; returns what is wrong with it."""

MOST_FAULTS = 8
"""Of a program with more faults only the sure fixes are offered: they follow from the faults."""
MOST_CANDIDATES = 12
"""Candidates that are tried for one fault."""
LARGEST = 100_000
"""Characters of a program of which programs are made to try them."""
_SYNTAX = "E02"

RULES: Mapping[str, tuple[Rule, ...]] = {
    **syntax.RULES, **shapes.RULES, **notation.RULES, **blocks.RULES,
}  # fmt: skip


def mended(error: SourceError, check: Check) -> tuple[Diagnostic, ...]:
    """Return the diagnostics of ``error``, each with the fix that mends it, if one is found.

    The texts it points into must be known. Fixes never touch a file that is not the user's.
    """
    found = error.diagnostics
    own = {n: s for n, s in error.sources.items() if not n.startswith("<library>")}
    small = sum(len(s.text) for s in own.values()) <= LARGEST
    if len(found) > MOST_FAULTS or not small:
        return tuple(d if _is_sure(d.fix) else replace(d, fix=None) for d in found)
    trees = {name: tree for name, s in own.items() if (tree := _tree(s)) is not None}
    return tuple(replace(d, fix=_choose(d, found, own, trees, check)) for d in found)


def _is_sure(fix: Fix | None) -> bool:
    return fix is not None and fix.sure


def _tree(source: Source) -> ast.File | None:
    from nnc.frontend.parser import parse

    try:
        return parse(source)
    except SourceError:
        return None


def _choose(
    d: Diagnostic, found: Sequence[Diagnostic], own: Mapping[str, Source],
    trees: Mapping[str, ast.File], check: Check,
) -> Fix | None:  # fmt: skip
    """Return the first candidate that leaves nothing but the other faults.

    Where none does, the first sure one that ends this fault: what then comes to light was hidden.
    """
    kept: Fix | None = None
    for fix in islice(_candidates(d, own, trees), MOST_CANDIDATES):
        edits = by_file(fix.edits)
        if not edits.keys() <= own.keys():
            continue
        texts = {file: applied(own[file].text, part) for file, part in edits.items()}
        if all(texts[file] == own[file].text for file in texts):
            continue
        left = check(texts)
        if _better(d, found, left, fix.edits):
            return fix
        if fix.sure and kept is None and not _remains(d, left, fix.edits):
            kept = fix
    return kept


def _candidates(
    d: Diagnostic, own: Mapping[str, Source], trees: Mapping[str, ast.File]
) -> Iterator[Fix]:
    if d.fix is not None:
        yield d.fix
    if d.span is None or d.span.file not in own:
        return
    ask = Ask(d, d.span, own[d.span.file], trees.get(d.span.file), own, trees)
    for rule in RULES.get(d.code, ()):
        yield from rule(ask)


Key = tuple[str, str, str, int]


def _key(d: Diagnostic, edits: Sequence[Edit] = ()) -> Key:
    """What a diagnostic is known by; its place is where ``edits`` move it to."""
    span = d.span or Span("", 0, 0)
    moved = sum(
        len(e.text) - (e.span.end - e.span.start)
        for e in edits
        if e.span.file == span.file and e.span.end <= span.start and e.span.start < span.start
    )
    return (d.code, d.message, span.file, span.start + moved)


def _better(
    d: Diagnostic, before: Sequence[Diagnostic], after: Sequence[Diagnostic], edits: Sequence[Edit]
) -> bool:
    others = Counter(_key(o, edits) for o in before if o is not d and o.severity == "error")
    now = Counter(_key(o) for o in after if o.severity == "error" and _same_stage(before, o))
    return now <= others


def _same_stage(before: Sequence[Diagnostic], d: Diagnostic) -> bool:
    """Whether a fault counts: what a file's syntax hid is not caused by mending it."""
    return d.code < _SYNTAX or not any(o.code < _SYNTAX for o in before)


def _remains(d: Diagnostic, after: Sequence[Diagnostic], edits: Sequence[Edit]) -> bool:
    code, _, file, at = _key(d, edits)
    near = [o for o in after if o.span and o.code == code and o.span.file == file]
    return any(abs(o.span.start - at) <= 1 for o in near if o.span)
