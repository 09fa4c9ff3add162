"""Columns: what the writer has lined up stays lined up, and is mended when a name changes.

Words of neighbouring lines that stand in one column, with more blanks before one of them than it
needs, are kept in one column. So are comments at the ends of lines. At four places of a statement
(after the declaring word, after ``name:``, at ``=``, and at the comment) lines whose column fits
none of their own join the column of the lines next to them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nnc.frontend.layout.lines import Line
from nnc.frontend.layout.spacing import natural
from nnc.frontend.layout.words import Text, Word

_DECLARING = frozenset(
    {"INPUT", "TARGET", "OUTPUT", "LOSS", "METRIC", "PARAM", "BUFFER", "STATE", "UPDATE"}
)
_TYPED = frozenset({"port", "param_decl", "buffer_decl", "state_decl", "target"})
_BOUND = frozenset({
    "binding", "output", "named_loss", "metric", "param_decl", "buffer_decl", "state_decl",
    "update", "setting", "record_entry",
})  # fmt: skip
_DECLARED, _TYPE, _EQUALS, _COMMENT = 1, 2, 3, 4
_NOT_A_WORD = -1


@dataclass(frozen=True, slots=True)
class _Place:
    """A word (or the comment) of a line, as one that a column may begin at.

    ``slot`` is one of the four places of a statement, or 0; ``section`` the last slot passed.
    ``needs`` is how many blanks must stand before it, ``has`` how many are written.
    """

    line: int
    word: int
    kind: str
    slot: int
    section: int
    column: int
    needs: int
    has: int

    @property
    def order(self) -> tuple[int, int, int]:
        """Sorts places so that those further left in any line come first."""
        return (self.section, int(not self.slot), 0 if self.slot else self.column)


def set_columns(text: Text, lines: Sequence[Line], loose: frozenset[int]) -> None:
    """Fill in the columns of every line, counted from its first word."""
    places = [_places(text, lines, n, loose) for n in range(len(lines))]
    links = _Links()
    for a, b, beside in _neighbours(lines):
        _link_plain(links, places[a], places[b], beside=beside)
    for run in _runs(lines):
        for slot in (_DECLARED, _TYPE, _EQUALS, _COMMENT):
            _link_slots(links, [_slot(places[n], slot) for n in run])
    _resolve(text, lines, loose, places, links)


def _places(text: Text, lines: Sequence[Line], n: int, loose: frozenset[int]) -> list[_Place]:
    line, section = lines[n], 0
    slots = _slots(text.words, line)
    found = []
    for k in range(line.first + 1, line.last):
        word = text.words[k]
        slot = slots.get(k, 0)
        section = slot or section
        needs = natural(text.words, k, loose)
        has = word.blanks if word.column > word.blanks else needs
        found.append(_Place(n, k, word.kind, slot, section, word.column, needs, has))
    if line.comment is not None:
        end = text.words[line.last - 1]
        has = line.comment_column - end.column - (end.end - end.start)
        at = line.comment_column
        found.append(_Place(n, _NOT_A_WORD, "#", _COMMENT, _COMMENT, at, 2, has))
    return found


def _slots(words: Sequence[Word], line: Line) -> dict[int, int]:
    head = words[line.first]
    found: dict[int, int] = {}
    if not head.heads:
        return found
    if head.kind in _DECLARING:
        found[line.first + 1] = _DECLARED
    for k in range(line.first + 1, line.last - 1):
        word = words[k]
        if word.kind == "LBRACE":
            break
        if word.kind == "COLON" and word.rule in _TYPED and _TYPE not in found.values():
            found[k + 1] = _TYPE
        entry = word.rule == "record_entry"
        if word.kind == "EQUAL" and word.rule in _BOUND and entry == (head.heads == "entry"):
            found[k] = _EQUALS
            break
    return found


def _neighbours(lines: Sequence[Line]) -> Iterable[tuple[int, int, bool]]:
    """Yield pairs of lines of one kind with nothing between; whether deeper lines lie between."""
    last: dict[tuple[int, bool], int] = {}
    for n, line in enumerate(lines):
        key = (line.frame, line.continues)
        if line.above:
            last.pop(key, None)
        if key in last:
            yield last[key], n, last[key] == n - 1
        last[key] = n


def _runs(lines: Sequence[Line]) -> Iterable[list[int]]:
    run_of: dict[int, list[int]] = {}
    for a, b, _ in _neighbours(lines):
        run = run_of.setdefault(a, [a])
        run.append(b)
        run_of[b] = run
    return {id(run): run for run in run_of.values()}.values()


def _slot(places: Sequence[_Place], slot: int) -> _Place | None:
    return next((p for p in places if p.slot == slot), None)


class _Links:
    """Sets of places that stand in one column (union-find)."""

    def __init__(self) -> None:
        self._above: dict[tuple[int, int], tuple[int, int]] = {}

    def root(self, place: _Place) -> tuple[int, int]:
        at = (place.line, place.word)
        while self._above.get(at, at) != at:
            at = self._above[at]
        return at

    def join(self, a: _Place, b: _Place) -> None:
        self._above[self.root(b)] = self.root(a)


def _link_plain(links: _Links, a: Sequence[_Place], b: Sequence[_Place], *, beside: bool) -> None:
    """Link the words outside the slots that stand in one column of adjacent lines."""
    if not beside:
        return
    by_column = {(p.section, p.column, p.kind): p for p in a if not p.slot}
    for place in b:
        other = by_column.get((place.section, place.column, place.kind))
        wide = other is not None and (place.has > place.needs or other.has > other.needs)
        if other is not None and not place.slot and wide:
            links.join(other, place)


def _link_slots(links: _Links, run: Sequence[_Place | None]) -> None:
    """Link one slot of the lines of a run: those in one column, and those that fit none."""
    sections: list[list[_Place]] = []
    open_ = False
    for place in run:
        if place is None:
            open_ = False
        elif open_ and sections[-1] and sections[-1][-1].column == place.column:
            sections[-1].append(place)
        else:
            if not open_:
                sections.append([])  # an empty section keeps its neighbours apart
            sections.append([place])
            open_ = True
    for k, section in enumerate(sections):
        for other in section[1:]:
            links.join(section[0], other)
        if section and all(p.has > p.needs for p in section):
            for near in (sections[k - 1], *sections[k + 1 : k + 2]):
                if near:
                    links.join(near[0], section[0])


def _resolve(
    text: Text,
    lines: Sequence[Line],
    loose: frozenset[int],
    places: Sequence[Sequence[_Place]],
    links: _Links,
) -> None:
    groups: dict[tuple[int, int], list[_Place]] = {}
    for place in (p for found in places for p in found):
        groups.setdefault(links.root(place), []).append(place)
    joined = [g for g in groups.values() if len(g) > 1]
    fixed: dict[tuple[int, int], int] = {}
    reached = [(line.first, 0) for line in lines]
    for group in sorted(joined, key=lambda g: g[0].order):
        column = 0
        for place in group:
            at = _advance(text, lines[place.line], loose, place.word, reached[place.line], fixed)
            column = max(column, at)
        for place in group:
            fixed[place.line, place.word] = column
            if place.word != _NOT_A_WORD:
                lines[place.line].columns[place.word] = column
                reached[place.line] = (place.word, column)
    for n, line in enumerate(lines):
        if line.last > line.first:
            _advance(text, line, loose, line.last - 1, reached[n], fixed)
        end = text.words[line.last - 1]
        width = line.columns[line.last - 1] + len(end.text)
        line.comment_at = fixed.get((n, _NOT_A_WORD), width + 2)


def _advance(
    text: Text,
    line: Line,
    loose: frozenset[int],
    word: int,
    reached: tuple[int, int],
    fixed: dict[tuple[int, int], int],
) -> int:
    """Set the columns of the words from ``reached`` to ``word``; return the column of ``word``."""
    k, at = reached
    line.columns[k] = at
    target = line.last - 1 if word == _NOT_A_WORD else word
    while k < target:
        at += len(text.words[k].text)
        k += 1
        at += natural(text.words, k, loose)
        line.columns[k] = at
    return at + len(text.words[k].text) + 2 if word == _NOT_A_WORD else at
