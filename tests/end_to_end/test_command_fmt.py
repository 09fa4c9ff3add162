"""`nnc fmt`: what it writes, what it leaves alone, and how it ends."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from nnc.cli import main

UGLY = "fn f(x)=x\n"
TIDY = "fn f(x) = x\n"
WRONG = "fn f(x) = (x\n"


def fmt(*words: object, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(main, ["fmt", *map(str, words)], stdin, catch_exceptions=False)


def test_files_and_folders_are_laid_out_in_place(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b" / "deep.nn"
    deep.parent.mkdir(parents=True)
    for path in (tmp_path / "one.nn", deep, tmp_path / "other.txt"):
        path.write_text(UGLY)
    deep.chmod(0o640)
    done = fmt(tmp_path / "one.nn", tmp_path / "a")
    assert done.exit_code == 0
    assert (tmp_path / "one.nn").read_text() == deep.read_text() == TIDY
    assert deep.stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "other.txt").read_text() == UGLY
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "one.nn", "other.txt"]


def test_a_tidy_file_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "a.nn"
    path.write_text(TIDY)
    os.utime(path, (1, 1))
    assert fmt(path).exit_code == 0
    assert path.stat().st_mtime == 1


def test_check_names_what_would_change(tmp_path: Path) -> None:
    ugly, tidy = tmp_path / "ugly.nn", tmp_path / "tidy.nn"
    ugly.write_text(UGLY)
    tidy.write_text(TIDY)
    done = fmt("--check", ugly, tidy)
    assert done.exit_code == 1
    assert "ugly.nn" in done.stderr
    assert "tidy.nn" not in done.stderr
    assert ugly.read_text() == UGLY
    assert fmt("--check", tidy).exit_code == 0


@pytest.mark.parametrize("text", [b"fn f(x) = x\r\n", b"\xef\xbb\xbffn f(x) = x\n", b"fn f(x) = x"])
def test_line_ends_and_marks_are_brought_to_one(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "a.nn"
    path.write_bytes(text)
    assert fmt("--check", path).exit_code == 1
    assert fmt(path).exit_code == 0
    assert path.read_bytes() == TIDY.encode()
    assert fmt("--check", path).exit_code == 0


def test_diff_prints_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.nn"
    path.write_text(UGLY)
    done = fmt("--diff", path)
    assert done.exit_code == 0
    assert f"-{UGLY}+{TIDY}" in done.stdout
    assert path.read_text() == UGLY


def test_standard_input(tmp_path: Path) -> None:
    done = fmt("-", stdin=UGLY.encode())
    assert (done.exit_code, done.stdout) == (0, TIDY)
    assert fmt("-", stdin=WRONG.encode()).exit_code == 1


def test_a_file_with_errors_stays_and_the_others_are_done(tmp_path: Path) -> None:
    wrong, ugly, bytes_ = (tmp_path / n for n in ("a.nn", "b.nn", "c.nn"))
    wrong.write_text(WRONG)
    ugly.write_text(UGLY)
    bytes_.write_bytes(b"fn \xff")
    done = fmt(wrong, bytes_, tmp_path / "none.nn", ugly)
    assert done.exit_code == 1
    for code in ("E0103", "E0647", "E0646"):
        assert code in done.stderr
    assert wrong.read_text() == WRONG
    assert ugly.read_text() == TIDY


def test_a_link_is_followed(tmp_path: Path) -> None:
    real, link = tmp_path / "real.nn", tmp_path / "link.nn"
    real.write_text(UGLY)
    link.symlink_to(real)
    assert fmt(link).exit_code == 0
    assert link.is_symlink()
    assert real.read_text() == TIDY
