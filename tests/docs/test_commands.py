"""What the documentation tells a reader to type works, and prints what it says.

Each page is followed from its beginning in a folder of its own that holds the examples. A program
whose first line is ``# name.nn`` is saved under that name; a ``text`` block is what the block
before it prints, but for decimals, large numbers and what ``...`` stands for.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nnc.cli import main

ROOT = Path(__file__).parents[2]
PAGES = (
    "README.md",
    "docs/tutorial.md",
    "docs/python.md",
    "docs/cli.md",
    "docs/data.md",
    "docs/training.md",
    "docs/editors.md",
)
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SAVED = re.compile(r"# ([\w/]+\.nn)\b")
NOT_HERE = ("make ", "git ", "cd ", "source ", "python3 -m venv", "pip ")
"""Beginnings of lines about the checkout itself; ``make`` has tests of its own."""
VARYING = re.compile(r"\d+\.\d+(?:e[-+]?\d+)?|\d{1,3}(?:,\d{3})+")


def plain(text: str) -> str:
    """Return a text with its blanks joined and its varying numbers masked."""
    return re.sub(r"\s+", " ", VARYING.sub("#", text)).strip()


def told(expected: str, printed: str) -> bool:
    """Whether ``printed`` is what a page says; a line ``...`` stands for any lines."""
    parts = [re.escape(plain(p)) for p in re.split(r"^\.\.\.$", expected, flags=re.MULTILINE)]
    return re.fullmatch(".*?".join(f" ?{p} ?" for p in parts), plain(printed)) is not None


def blocks(page: str) -> Iterator[tuple[str, str]]:
    text = (ROOT / page).read_text(encoding="utf-8")
    yield from ((m[1], m[2]) for m in BLOCK.finditer(text))


def typed(commands: str, folder: Path) -> str:
    """Run the lines of a block as a shell would, and return what they print."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-c", commands],
        cwd=folder,
        env={**os.environ, "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def called(commands: str, folder: Path) -> str:
    """Do the same within this process, which takes a tenth of the time."""
    shown = io.StringIO()
    for line in commands.splitlines():
        words, _, target = (part.strip() for part in line.partition(" > "))
        name, *arguments = shlex.split(words)
        assert name == "nnc", line
        out = (folder / target).open("w") if target else contextlib.nullcontext(shown)
        with (
            out as stream,
            contextlib.redirect_stdout(stream),
            contextlib.redirect_stderr(shown),
            pytest.raises(SystemExit) as end,
        ):
            main(arguments, prog_name="nnc")
        assert end.value.code == 0 or "error[" in shown.getvalue(), shown.getvalue()
    return shown.getvalue()


def lines_of(block: str) -> str:
    """Leave out what is about the checkout, and join continued lines."""
    lines = block.replace("\\\n", " ").splitlines()
    kept = [line.partition("  #")[0] for line in lines if not line.startswith(NOT_HERE)]
    return "\n".join(kept)


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize("page", PAGES)
def test_the_page_can_be_followed(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.setenv("NNC_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    printed, expect_fault = "", False
    for kind, text in blocks(page):
        match kind:
            case "nn":
                if saved := SAVED.match(text):
                    Path(saved[1]).write_text(text, encoding="utf-8")
            case "sh":
                assert not expect_fault, printed
                run = typed if page == "README.md" else called
                printed = run(lines_of(text), tmp_path)
                expect_fault = "error[" in printed
            case "python":
                with contextlib.redirect_stdout(io.StringIO()) as out:
                    exec(compile(text, page, "exec"), names)
                printed = out.getvalue()
            case "text":
                assert told(text, printed), f"{page} says\n{text}\nand this is\n{printed}"
                expect_fault = False
            case "lua":
                pass  # the configuration of an editor
            case _:
                pytest.fail(f"{page} has a block of kind {kind}")
    assert not expect_fault, printed
