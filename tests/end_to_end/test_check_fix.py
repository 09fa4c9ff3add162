"""``nnc check --fix``: what it mends, what it leaves alone, and how it writes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from nnc.cli import main
from nnc.frontend.edits import Edit, Fix, applied, together
from nnc.ir.span import Span
from nnc.runtime.errors import UserError
from nnc.runtime.mend import mend, write

WRONG = """\
model M {
    input x: float[batch, 3];
    target k: i32[batch] in 0..4
    logits = x |> linaer(4)
    loss cross_entropy(k, logits)
}
train M { optimizer = adam(), learning_rate = 0.1, epoch = 3 }
"""
MENDED = """\
model M {
    input x: float[batch, 3]
    target k: i32[batch] in 0..4
    logits = x |> linear(4)
    loss cross_entropy(logits, k)
}
train M { optimizer = adam(lr = 0.1), epochs = 3 }
"""


def check(*words: str) -> Result:
    return CliRunner().invoke(main, ["check", *words])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "m.nn"
    path.write_text(WRONG)
    return path


def test_what_can_be_mended_is_round_by_round(file: Path) -> None:
    done = check(str(file), "--fix")
    assert done.exit_code == 0, done.stderr
    assert "M: no errors" in done.stdout
    assert f"5 mended in {file}" in done.stderr
    assert file.read_text() == MENDED
    again = check(str(file), "--fix")
    assert (again.exit_code, again.stderr) == (0, "")


def test_a_difference_is_shown_and_nothing_written(file: Path) -> None:
    done = check(str(file), "--fix", "--diff")
    assert done.exit_code == 1
    changed = [line for line in done.stdout.splitlines() if line[:1] in "+-"]
    assert "-    logits = x |> linaer(4)" in changed
    assert "+    logits = x |> linear(4)" in changed
    assert file.read_text() == WRONG
    assert check(str(file), "--diff").exit_code == 2


def test_what_is_left_is_told(tmp_path: Path) -> None:
    path = tmp_path / "m.nn"
    path.write_text("model M {\n    input x: float[b, 3]\n    output y = rleu(x) + nothing\n}\n")
    done = check(str(path), "--fix")
    assert done.exit_code == 1
    assert "output y = relu(x) + nothing" in path.read_text()
    assert "unknown name nothing" in done.stderr


def test_json_tells_what_was_done(file: Path) -> None:
    done = check(str(file), "--fix", "--diff", "--json")
    data = json.loads(done.stdout)
    assert [f["code"] for f in data["fixed"]][:1] == ["E0102"]
    assert all(f["files"] == [str(file)] for f in data["fixed"])
    done = check(str(file), "--json")
    (error,) = json.loads(done.stdout)["errors"]
    (action,) = error["data"]["fixes"]
    assert action["kind"] == "quickfix"
    assert list(action["edit"]["changes"]) == [file.as_uri()]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_file_keeps_its_mark_its_line_ends_and_its_mode(
    file: Path, mark: bytes, end: bytes
) -> None:
    file.write_bytes(mark + WRONG.encode().replace(b"\n", end))
    file.chmod(0o640)
    assert check(str(file), "--fix").exit_code == 0
    assert file.read_bytes() == mark + MENDED.encode().replace(b"\n", end)
    assert file.stat().st_mode & 0o777 == 0o640
    assert os.listdir(file.parent) == ["m.nn"]


def test_an_imported_file_is_mended_where_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sub").mkdir()
    part, path = tmp_path / "sub" / "part.nn", tmp_path / "m.nn"
    part.write_text("fn f(x: float[..s]) -> float[..s] = rleu(x)\n")
    path.write_text('import "sub/part.nn"\nmodel M { input x: float[b]\n output y = f(x) }\n')
    monkeypatch.chdir("/")
    assert check(str(path), "--fix").exit_code == 0
    assert "= relu(x)" in part.read_text()


def test_a_link_stays_a_link(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.nn"
    link.symlink_to(file)
    assert check(str(link), "--fix").exit_code == 0
    assert link.is_symlink()
    assert file.read_text() == MENDED


def test_a_file_that_changed_meanwhile_is_left_alone(file: Path) -> None:
    found = mend(file, {})
    file.write_text(WRONG + "\n")
    with pytest.raises(UserError, match="has changed since") as caught:
        write(found)
    assert caught.value.code == "E0656"
    assert file.read_text() == WRONG + "\n"


def test_edits_that_overlap_are_not_made_together() -> None:
    def fix(start: int, end: int, text: str) -> Fix:
        return Fix("", (Edit(Span("f", start, end), text),))

    first, inside, beside, same = fix(0, 4, "a"), fix(2, 3, "b"), fix(4, 6, "c"), fix(0, 4, "a")
    assert together([first, inside, beside, same]) == [first, beside]
    assert applied("0123456789", (*first.edits, *beside.edits)) == "ac6789"
    with pytest.raises(ValueError, match="overlap"):
        applied("0123456789", (*first.edits, *inside.edits))


def test_a_program_given_as_text_has_fixes_too() -> None:
    import nnc

    with pytest.raises(nnc.SourceError) as caught:
        nnc.compile("model M { input x: float[b, 3]\n output y = rleu(x) }\n")
    assert caught.value.diagnostics[0].fix is not None
    assert "+  output y = relu(x) }" in str(caught.value)
