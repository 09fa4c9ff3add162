"""Rules for E03: index notation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from nnc.frontend import ast
from nnc.frontend.edits import Fix
from nnc.frontend.mend.ask import Ask, Rule, after, before, conjecture, put
from nnc.frontend.mend.shapes import cast, compared, required


def narrower(ask: Ask) -> Iterator[Fix]:
    """A range that is written one too long: the largest that keeps the read inside."""
    index, extent = ask.fact("index"), ask.fact("extent")
    if index is None or extent is None or ask.around(ast.IfExpr):
        return
    for define in ask.around(ast.Define)[:1]:
        for compare in ask.within(ast.Compare, define.span):
            first = compare.operands[0]
            if isinstance(first, ast.Name) and first.id == index and compare.ops == ("<",):
                text = f"{index} < {extent}"
                yield conjecture(f"write {text}", put(compare.operands[1], extent))


def guarded(ask: Ask) -> Iterator[Fix]:
    """A read that may fall outside: 0 where it does."""
    guard, whole = ask.fact("guard"), ask.fact("inside")
    if guard is None or whole is None:
        return
    for choice in ask.around(ast.IfExpr)[:1]:
        yield conjecture(f"read it where {whole}", put(choice.condition, whole))
    for read in ask.around(ast.Subscript)[:1]:
        alone = any(read in call.args for call in ask.around(ast.Call, read.span))
        left, right = ("", "") if alone else ("(", ")")
        yield conjecture(f"read 0 where it is outside: if {guard} then ...",
                         before(read, f"{left}if {guard} then "),
                         after(read, f" else 0{right}"))  # fmt: skip


def ranged(ask: Ask) -> Iterator[Fix]:
    """An index with two ranges: the smaller one, written where it is bound."""
    index, extents = ask.fact("index"), ask.fact("extents")
    if index is None or extents is None:
        return
    for define in ask.around(ast.Define)[:1]:
        lists = [define.subs, *(s.subs for s in ask.within(ast.Subscript, define.span)
                                if isinstance(s.base, ast.Name))]  # fmt: skip
        for sub in (s for subs in lists for s in subs):
            if isinstance(sub, ast.Name) and sub.id == index:
                for extent in extents.split(", "):
                    yield conjecture(f"write {index} < {extent}", after(sub, f" < {extent}"))
                break


def subscripted(ask: Ask) -> Iterator[Fix]:
    """A whole tensor where an element is needed: by an index on the left."""
    for define in ask.around(ast.Define)[:1]:
        indices = [s.id for s in define.subs if isinstance(s, ast.Name)]
        indices += [
            s.operands[0].id
            for s in define.subs
            if isinstance(s, ast.Compare) and isinstance(s.operands[0], ast.Name)
        ]
        bases = {s.base.span for s in ask.within(ast.Subscript, define.span)}
        for name in ask.within(ast.Name, define.value.span):
            if name.span not in bases and name.id not in indices:
                for index in reversed(indices):
                    text = f"{name.id}[{index}]"
                    yield conjecture(f"write {text}", after(name, f"[{index}]"))


RULES: Mapping[str, tuple[Rule, ...]] = {
    "E0202": (cast, compared, subscripted),
    "E0302": (ranged,),
    "E0306": (narrower, guarded, required),
}
