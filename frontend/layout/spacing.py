"""How many blanks stand between two words of one line."""

from __future__ import annotations

from nnc.frontend.layout.words import Word

_PRODUCTS = frozenset({"*", "/", "//", "%"})
_LISTS = frozenset({"args", "params", "gradient", "callable_type", "subscript", "element"}) | {
    "tensor_type"
}


def loose_products(words: tuple[Word, ...]) -> frozenset[int]:
    """Return the places of the multiplying operators that are written with blanks around them.

    How tightly factors stand is the writer's: ``share*a + (1 - share)*b``, but ``0.5 * x * y``.
    A blank on one side counts, so that both sides come out alike.
    """
    found = set()
    for k, word in enumerate(words):
        if word.kind == "MUL":
            ended = word.column > word.blanks or k == 0
            before = ended and word.blanks > 0
            after = words[k + 1].column > words[k + 1].blanks and words[k + 1].blanks > 0
            if word.text not in _PRODUCTS or before or after:
                found.add(k)
    return frozenset(found)


def natural(words: tuple[Word, ...], k: int, loose: frozenset[int]) -> int:
    """Return how many blanks stand before word ``k`` where it does not begin a line."""
    before, word = words[k - 1], words[k]
    if before.text.endswith(".") and word.text.startswith("."):
        return 1  # `.. ...` and the like would be read otherwise
    if _clings_left(before, word) or _clings_right(before):
        return 0
    if word.kind == "MUL":
        return int(k in loose)
    return int(k - 1 in loose) if before.kind == "MUL" else 1


def _clings_left(before: Word, word: Word) -> bool:
    """Whether ``word`` stands directly after the word before it."""
    match word.kind:
        case "COMMA" | "RPAR" | "RSQB" | "POWER" | "DOT" | "COLON":
            return word.kind != "COLON" or before.kind != "COMMA"
        case "RBRACE":
            return before.kind == "LBRACE"
        case "LPAR" | "LSQB":
            return word.rule in _LISTS and before.kind != "CARRY"
        case "DOTS":
            return word.rule == "bounds"
    return False


def _clings_right(before: Word) -> bool:
    """Whether the word after ``before`` stands directly after it."""
    match before.kind:
        case "LPAR" | "LSQB" | "POWER" | "DOT" | "DOTS":
            return True
        case "MINUS":
            return before.rule == "unary"
        case "COLON":
            return before.rule == "slice_"
    return False
