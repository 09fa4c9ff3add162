"""Patterns of parameter paths: ``*`` within one part, ``**`` for any number of parts."""

from __future__ import annotations

import re
from functools import lru_cache


def fits(pattern: str, path: str) -> bool:
    """Whether ``pattern`` fits the whole of a dotted path.

    ``**`` fits everything, ``**.bias`` every path that ends in ``bias`` (and ``bias`` itself),
    ``net.block.*.linear.weight`` one of any block, ``linear*.weight`` of ``linear`` and
    ``linear_2``.
    """
    return _compiled(pattern).fullmatch(f"{path}.") is not None


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    parts = []
    for part in pattern.split("."):
        if part == "**":
            parts.append(r"(?:[^.]+\.)*")
        else:
            parts.append(re.escape(part).replace(r"\*", "[^.]*") + r"\.")
    return re.compile("".join(parts))
