"""Programs made from the grammar itself: every rule of ``grammar/nnc.lark`` can be drawn."""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache
from typing import Any

from hypothesis import strategies as st

from nnc.frontend.tables import load_lark

NAMES = ["x", "y", "w", "n", "batch", "linear", "relu", "float", "i", "step", "loss", "layer"]
TERMINALS: dict[str, list[str]] = {
    "NAME": NAMES,
    "INT": ["0", "1", "64", "1_000"],
    "FLOAT": ["0.5", "1e-3", "2.0E5"],
    "SIZE": ["1GiB", "1.5MB"],
    "STRING": ['"a"', '""', r'"b \" # {"', '"../x.nn"'],
    "CMP": ["==", "!=", "<=", ">=", ">"],
    "MUL": ["*", "/", "//", "%", "@"],
    "_NL": ["\n", "\n\n", "  # a comment\n", "\n\n\n  # one\n# two\n\n", "\n\t"],
    "PLUS": ["+"], "MINUS": ["-"], "POWER": ["^"], "LT": ["<"], "PIPE": ["|>"], "ARROW": ["->"],
    "DOTS": [".."], "ELLIPSIS": ["..."], "EQUAL": ["="], "COMMA": [","], "COLON": [":"],
    "LPAR": ["("], "RPAR": [")"], "LSQB": ["["], "RSQB": ["]"], "LBRACE": ["{"], "RBRACE": ["}"],
    "DOT": ["."],
}  # fmt: skip
_TIGHT = frozenset("()[]{},:=+-*/^")
_BLANKS = ["", " ", "  ", "     "]
_BREAKS = ["\n", "\n        ", "  # why\n  ", "\n\n# a\n   # b\n "]


@lru_cache(maxsize=1)
def _rules() -> tuple[dict[str, list[list[str]]], dict[str, int]]:
    """Return the expansions of every rule, and the least height of a tree for each."""
    rules: dict[str, list[list[str]]] = defaultdict(list)
    for rule in load_lark().rules:
        symbols = [str(s.name) for s in rule.expansion]
        if "BROKEN" not in symbols:
            rules[str(rule.origin.name)].append(symbols)
    heights: dict[str, int] = {}
    changed = True
    while changed:
        changed = False
        for name, expansions in rules.items():
            known = [e for e in expansions if all(s in heights or s not in rules for s in e)]
            if known:
                height = 1 + min(max((heights.get(s, 0) for s in e), default=0) for e in known)
                changed |= heights.get(name) != height
                heights[name] = height
    return dict(rules), heights


def _height(expansion: list[str], heights: dict[str, int]) -> int:
    return max((heights.get(s, 0) for s in expansion), default=0)


@st.composite
def tokens(draw: Any, depth: int = 14, most: int = 150) -> list[tuple[str, str]]:
    """Draw a program as (terminal, text) pairs, from a derivation that ends in time."""
    rules, heights = _rules()
    work: list[tuple[str, int]] = [("start", depth)]
    found: list[tuple[str, str]] = []
    while work:
        symbol, left = work.pop()
        if symbol in rules:
            small = min(_height(e, heights) for e in rules[symbol])
            room = max(left, small) if len(found) + len(work) < most else small
            fitting = [e for e in rules[symbol] if _height(e, heights) <= room]
            work += [(s, left - 1) for s in reversed(draw(st.sampled_from(fitting)))]
        else:
            texts = TERMINALS.get(symbol) or [symbol.lower()]
            found.append((symbol, draw(st.sampled_from(texts))))
    return found


@st.composite
def programs(draw: Any) -> str:
    """Draw a program's text, with blanks, line breaks and comments where they may stand.

    A few are not programs after all: a newline that the language takes for part of a statement.
    """
    parts: list[str] = []
    brackets: list[str] = []
    for kind, text in draw(tokens()):
        if parts and kind != "_NL" and parts[-1][-1:] not in ("\n", ""):
            parts.append(_between(draw, parts[-1], text, brackets))
        parts.append(text)
        if kind in ("LPAR", "LSQB", "LBRACE"):
            brackets.append(kind)
        elif kind in ("RPAR", "RSQB", "RBRACE"):
            brackets.pop()
    return "".join(parts)


def _between(draw: Any, before: str, after: str, brackets: list[str]) -> str:
    if brackets and brackets[-1] != "LBRACE" and draw(st.integers(0, 9)) == 0:
        return str(draw(st.sampled_from(_BREAKS)))
    tight = before[-1] in _TIGHT or after[0] in _TIGHT
    return str(draw(st.sampled_from(_BLANKS[0 if tight else 1 :])))
