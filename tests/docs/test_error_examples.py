"""Each page about an error shows what has it and what does not: the compiler agrees."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nnc.cli import main
from nnc.frontend.diagnostics import SourceError
from nnc.frontend.pages import pages
from nnc.frontend.recipe import open_program
from nnc.frontend.source import Source
from nnc.runtime.errors import UserError

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(nn|python|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WITHOUT = {
    "E0003": "told in tests/end_to_end/test_command_faults.py",
    "E0107": "only generated programs are so deep",
    "E0130": "only generated programs are so long",
    "E0502": "told where autodiff is tested",
    "E0623": "no program that parses comes to it",
    "E0627": "needs that a package is missing",
    "E0653": "needs another machine",
}
UNUSED = "\nmodel Unused { output y = 1.0 }\n"

Examples = tuple[str, str, str]
"""Kind of the blocks, the wrong one, the mended one."""


def examples() -> dict[str, Examples]:
    found: dict[str, Examples] = {}
    for code, text in pages().items():
        blocks = BLOCK.findall(text)
        if len(blocks) >= 2 and blocks[0][0] == blocks[1][0]:
            found[code] = (blocks[0][0], blocks[0][1], blocks[1][1])
    return found


EXAMPLES = examples()


def check_program(text: str, _: dict[str, Any]) -> set[str]:
    """Compile a program as far as code is made from it; return the codes of its errors."""
    import nnc

    text = text if "model " in text else text + UNUSED
    try:
        if "metric" in text:
            nnc.compile(text)
        else:
            open_program(Source("example.nn", text))
    except SourceError as fault:
        return {d.code for d in fault.diagnostics}
    return set()


def run_python(text: str, names: dict[str, Any]) -> set[str]:
    try:
        exec(compile(text, "example.py", "exec"), names)
    except UserError as fault:
        return {fault.code}
    return set()


def run_command(text: str, _: dict[str, Any]) -> set[str]:
    """Run lines of a shell; return the codes of the errors that they print."""
    shown = io.StringIO()
    for line in text.splitlines():
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(shown),
            pytest.raises(SystemExit),
        ):
            main(shlex.split(line)[1:], prog_name="nnc")
    return set(re.findall(r"^error\[(E\d{4})\]", shown.getvalue(), re.MULTILINE))


RUN: dict[str, Callable[[str, dict[str, Any]], set[str]]] = {
    "nn": check_program,
    "python": run_python,
    "sh": run_command,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the examples, where code that was compiled once is kept."""
    folder = tmp_path_factory.mktemp("errors")
    (folder / "examples").symlink_to(ROOT / "examples")
    return folder


def names(kind: str) -> dict[str, Any]:
    """What the examples in Python may use."""
    if kind != "python":
        return {}
    import numpy as np

    import nnc

    data = np.load("examples/data/digits.npz")
    return {"nnc": nnc, "np": np, "data": data, "net": nnc.compile("examples/digits.nn")}


@pytest.mark.parametrize("code", sorted(EXAMPLES))
def test_the_wrong_example_has_the_error_and_the_mended_one_none(
    code: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("NNC_CACHE_DIR", str(place / "cache"))
    kind, wrong, mended = EXAMPLES[code]
    known = names(kind)
    assert code in RUN[kind](wrong, known)
    assert RUN[kind](mended, known) == set()


def test_every_page_has_a_wrong_and_a_mended_example() -> None:
    assert set(pages()) - set(EXAMPLES) == set(WITHOUT)
