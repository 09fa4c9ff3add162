"""The pages of error codes (``docs/errors``), for ``nnc explain``."""

from __future__ import annotations

import re
from functools import lru_cache
from importlib import resources

_NAME = re.compile(r"(E\d{4})\.md")


@lru_cache(maxsize=1)
def pages() -> dict[str, str]:
    """Return the text of every page by its code, in the order of the codes."""
    folder = resources.files("nnc.frontend").joinpath("errors")
    found = {m[1]: file for file in folder.iterdir() if (m := _NAME.fullmatch(file.name))}
    return {code: found[code].read_text(encoding="utf-8").strip() for code in sorted(found)}


def page(code: str) -> str | None:
    """Return the page of an error code, None where there is no such code."""
    return pages().get(code)
