"""The pages of error codes, for ``nnc explain``."""

from __future__ import annotations

import re
from functools import lru_cache
from importlib import resources

_HEADING = re.compile(r"^## (E\d{4}): .*$", re.MULTILINE)


@lru_cache(maxsize=1)
def pages() -> dict[str, str]:
    """Return the text of every page by its code."""
    text = resources.files("nnc.frontend").joinpath("errors.md").read_text(encoding="utf-8")
    headings = list(_HEADING.finditer(text))
    ends = [h.start() for h in headings[1:]] + [len(text)]
    return {h[1]: text[h.start() : end].strip() for h, end in zip(headings, ends, strict=True)}


def page(code: str) -> str | None:
    """Return the page of an error code, None where there is no such code."""
    return pages().get(code)
