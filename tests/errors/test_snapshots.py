"""What the command says about wrong programs, word for word.

Each ``.txt`` file here holds a program and, under a line ``==== COMMAND``, what ``nnc COMMAND``
prints about it. Lines ``---- NAME`` divide several files; the first is ``main.nn``. After a change
that is meant, ``pytest tests/errors --update-snapshots`` writes what is printed now: read the
difference before you commit it.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from nnc.cli import main

CASES = sorted(Path(__file__).parent.glob("*.txt"))
COMMAND = re.compile(r"^==== (.*)\n", re.MULTILINE)


def files_of(text: str) -> dict[str, str]:
    """Return the files that a case consists of, by name."""
    parts = re.split(r"^---- (.*)\n", text, flags=re.MULTILINE)
    return {"main.nn": parts[0]} | dict(zip(parts[1::2], parts[2::2], strict=True))


def run(text: str, command: str, folder: Path) -> str:
    """Write a case's files, run the command there and return what it prints."""
    for name, content in files_of(text).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    result = CliRunner().invoke(main, command.split())
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    assert result.exit_code == 1
    assert result.stdout == ""
    return result.stderr.replace(str(folder), "FOLDER")


@pytest.mark.parametrize("case", CASES, ids=lambda p: p.stem)
def test_what_is_said(
    case: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.chdir(tmp_path)
    text, command, expected = COMMAND.split(case.read_text(encoding="utf-8"), maxsplit=1)
    found = run(text, command, tmp_path)
    if request.config.getoption("--update-snapshots"):
        case.write_text(f"{text}==== {command}\n{found}", encoding="utf-8")
        return
    assert found == expected


def test_there_are_cases_and_each_has_a_code() -> None:
    assert len(CASES) > 60
    for case in CASES:
        assert re.search(r"^error\[E\d{4}\]: ", case.read_text(encoding="utf-8"), re.MULTILINE)
