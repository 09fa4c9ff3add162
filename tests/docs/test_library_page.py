"""docs/library.md is what `nnc doc --markdown` prints: `--update-snapshots` writes it anew."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from nnc.cli import main

PAGE = Path(__file__).parents[2] / "docs" / "library.md"


def test_the_page_is_current(request: pytest.FixtureRequest) -> None:
    done = CliRunner().invoke(main, ["doc", "--markdown"])
    assert done.exit_code == 0
    if request.config.getoption("--update-snapshots"):
        PAGE.write_text(done.stdout, encoding="utf-8")
    assert done.stdout == PAGE.read_text(encoding="utf-8"), "nnc doc --markdown > docs/library.md"
