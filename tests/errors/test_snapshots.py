"""What the command says about wrong programs, word for word.

Each ``.txt`` file here holds a program and, under a line ``==== COMMAND``, what ``nnc COMMAND``
prints about it. Lines ``---- NAME`` divide several files; the first is ``main.nn``. Under a line
``---- NAME made by`` stand lines of Python that make a file which is no text. After a change that
is meant, ``pytest tests/errors --update-snapshots`` writes what is printed now: read the
difference before you commit it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from click.testing import CliRunner

from nnc.cli import main
from nnc.frontend.diagnostics import Diagnostic, SourceError
from nnc.frontend.edits import applied, by_file
from nnc.runtime.errors import UserError
from nnc.runtime.open import open_file

CASES = sorted(Path(__file__).parent.glob("*.txt"))
MADE = " made by"
COMMAND = re.compile(r"^==== (.*)\n", re.MULTILINE)


def files_of(text: str) -> dict[str, str]:
    """Return the files that a case consists of, by name."""
    parts = re.split(r"^---- (.*)\n", text, flags=re.MULTILINE)
    return {"main.nn": parts[0]} | dict(zip(parts[1::2], parts[2::2], strict=True))


def place(text: str, folder: Path) -> None:
    """Write a case's files."""
    import numpy as np

    for title, content in files_of(text).items():
        name = title.removesuffix(MADE)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name == title:
            path.write_text(content, encoding="utf-8")
        else:  # no text: lines of Python make it at ``path``
            exec(content, {"np": np, "path": str(path), "folder": str(folder)})


def run(text: str, command: str, folder: Path) -> str:
    """Write a case's files, run the command there and return what it prints."""
    place(text, folder)
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


def faults(command: str, texts: dict[str, str]) -> SourceError | None:
    """Return what is wrong with a case's program, as its command opens it."""
    words = command.split()
    options = {"--set": [], "--model": [], "--recipe": []}  # type: dict[str, list[str]]
    for word, value in pairwise(words):
        if word in options:
            options[word].append(value)
    config = dict(pair.split("=", 1) for pair in options["--set"])
    model, recipe = ((options[o] or [None])[0] for o in ("--model", "--recipe"))
    try:
        open_file(Path("main.nn"), config, model=model, recipe=recipe, texts=texts)
    except SourceError as error:
        return error
    except UserError:
        pass
    return None


def told(found: Sequence[Diagnostic]) -> Counter[tuple[str, str]]:
    return Counter((d.code, d.message) for d in found)


HIDES = {
    "operator_after_a_pipe": "the program has a name that nothing binds",
    "missing_brace": "the model has no loss, and nothing to train",
}
"""Cases in which mending one fault brings another to light, and which that is."""


@pytest.mark.parametrize("case", CASES, ids=lambda p: p.stem)
def test_every_fix_mends_its_fault_and_makes_no_other(
    case: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text, command, _ = COMMAND.split(case.read_text(encoding="utf-8"), maxsplit=1)
    place(text, tmp_path)
    error = faults(command, {})
    for d in error.diagnostics if error is not None else ():
        if d.fix is None:
            continue
        assert error is not None
        texts = {
            name: applied(error.sources[name].text, edits)
            for name, edits in by_file(d.fix.edits).items()
        }
        left = faults(command, texts)
        now = told(left.diagnostics) if left is not None else Counter()
        assert now[(d.code, d.message)] < told(error.diagnostics)[(d.code, d.message)], d.fix
        if case.stem not in HIDES:
            assert now <= told(error.diagnostics) - Counter([(d.code, d.message)]), d.fix
