"""The parser's tables: made from ``grammar/nnc.lark`` once, then kept in the user's cache."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnc import grammar
from nnc.frontend import cache

if TYPE_CHECKING:
    from lark import Lark


@lru_cache(maxsize=1)
def grammar_text() -> str:
    """Return the grammar's source."""
    return (Path(grammar.__path__[0]) / "nnc.lark").read_text(encoding="utf-8")


def options() -> dict[str, Any]:
    """Return the options that the tables depend on."""
    return {"parser": "lalr", "keep_all_tokens": True, "maybe_placeholders": False}


@lru_cache(maxsize=1)
def load_lark() -> Lark:
    """Return the parser, from the cache where its entry fits grammar, Lark and Python."""
    import lark

    from nnc.frontend.newlines import KeepNewlines

    text = grammar_text()
    key = cache.key_of(text, repr(options()), lark.__version__)
    kept = cache.load("grammar", key)
    if kept is not None:
        data, memo = kept
        loaded: Lark = lark.Lark._load_from_dict(  # type: ignore[no-untyped-call]
            data, memo, postlex=KeepNewlines()
        )
        return loaded
    made = lark.Lark(text, postlex=KeepNewlines(), **options())
    _store(key, made)
    return made


def _store(key: str, made: Lark) -> None:
    from lark.grammar import Rule
    from lark.lexer import TerminalDef

    data, memo = made.memo_serialize([TerminalDef, Rule])
    # what is not plain data is given anew at each load
    plain = (str, int, list, tuple, type(None))
    data["options"] = {k: v for k, v in data["options"].items() if isinstance(v, plain)}
    cache.save("grammar", key, _plain((data, memo)))


def _plain(value: Any) -> Any:
    """Return ``value`` with subclasses of text (Lark's tokens) brought to text itself."""
    match value:
        case dict():
            return {_plain(k): _plain(v) for k, v in value.items()}
        case list() | tuple() | set() | frozenset():
            return type(value)(_plain(v) for v in value)
        case str():
            return str.__str__(value)
        case _:
            return value
