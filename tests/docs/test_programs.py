"""Every program printed in the documentation is one that the compiler accepts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nnc.frontend.recipe import open_program
from nnc.frontend.source import Source

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *ROOT.glob("docs/decisions/*.md")]
)
BLOCK = re.compile(r"^```nn\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def programs() -> list[pytest.param]:  # type: ignore[valid-type]
    found = []
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        for match in BLOCK.finditer(text):
            if match[1].startswith("# wrong"):
                continue  # what is said about it stands below it, and is tested there
            line = text.count("\n", 0, match.start()) + 1
            found.append(pytest.param(match[1], id=f"{path.name}:{line}"))
    return found


@pytest.mark.parametrize("text", programs())
def test_the_program_is_accepted(text: str) -> None:
    open_program(Source("program.nn", text))
