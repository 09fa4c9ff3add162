"""Every error code has a page, and the example on it has that error."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nnc.frontend.diagnostics import SourceError
from nnc.frontend.pages import page, pages
from nnc.frontend.recipe import open_program

ROOT = Path(__file__).parents[2]
_EXAMPLE = re.compile(r"```nn\n(.*?)```", re.DOTALL)
EXAMPLES = {code: m[1] for code, text in pages().items() if (m := _EXAMPLE.search(text))}


def used_codes() -> set[str]:
    folders = ("frontend", "runtime", "passes", "backends", "ir", "nnc")
    files = [f for folder in folders for f in (ROOT / folder).rglob("*.py")]
    return {c for f in files for c in re.findall(r'"(E\d{4})"', f.read_text(encoding="utf-8"))}


def test_every_code_has_a_page_and_every_page_a_code() -> None:
    internal = {"E0200"}  # marks what only follows from an error already told
    assert used_codes() - internal == set(pages())


def test_every_page_is_headed_by_its_code() -> None:
    assert [c for c, text in pages().items() if not text.startswith(f"# {c}: ")] == []


def test_pages_are_found_by_code() -> None:
    found = page("E0203")
    assert found is not None
    assert found.startswith("# E0203: ")
    assert page("E9999") is None


@pytest.mark.parametrize("code", [c for c in sorted(EXAMPLES) if c < "E05"])
def test_the_example_has_the_error(code: str, tmp_path: Path) -> None:
    path = tmp_path / "example.nn"
    path.write_text(EXAMPLES[code])
    with pytest.raises(SourceError) as caught:
        open_program(path)
    assert code in {d.code for d in caught.value.diagnostics}


def test_most_pages_about_programs_have_an_example() -> None:
    without = {c for c in pages() if "E01" <= c < "E05" and c not in EXAMPLES}
    assert without == {"E0107", "E0130"}
