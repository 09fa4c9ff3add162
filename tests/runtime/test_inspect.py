"""``nnc inspect`` prints every stage, and names the nearest thing where one is mistyped."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nnc.frontend.diagnostics import SourceError
from nnc.ir.loops_text import parse_program, print_program
from nnc.ir.text import parse_graph, print_graph
from nnc.runtime.errors import UserError
from nnc.runtime.inspect import PASSES, STAGES, inspect

MODEL = """
model Line {
    input  x: float[batch, 3]
    target y: float[batch]
    fit = linear(1)
    p   = fit(x)[:, 0]
    output p
    loss   mse(p, y)
}
train Line { optimizer = sgd(lr = 0.1), batch = 4, epochs = 1 }
"""


OPTIONS: dict[str, Any] = {
    "stage": "graph",
    "entry": None,
    "print_after": None,
    "time_passes": False,
    "config": {},
    "model": None,
    "recipe": None,
}
RUN = "from nnc.cli import main; main()"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "line.nn"
    path.write_text(MODEL, encoding="utf-8")
    return path


def shown(capsys: pytest.CaptureFixture[str], file: Path, **given: Any) -> str:
    inspect(file, **{**OPTIONS, **given})
    return capsys.readouterr().out


def test_each_stage_prints_what_it_is_about(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tells = {
        "ast": "Model name=Line",
        "graph": "graph infer",
        "fused": "group 0 over [",
        "loops": "kernel ",
        "llvm": "define i32 @",
        "asm": ".text",
    }
    assert set(tells) == set(STAGES)
    for stage, told in tells.items():
        assert told in shown(capsys, file, stage=stage)


def test_graphs_and_loops_print_so_that_they_parse_back(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = shown(capsys, file, entry="infer")
    assert print_graph(parse_graph(graph)) == graph
    program = shown(capsys, file, stage="loops", entry="infer")
    assert print_program(parse_program(program)) == program


def test_an_entry_is_shown_without_the_others(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shown(capsys, file, entry="infer").count("graph ") == 1
    step = shown(capsys, file, entry="step")
    assert [line.split()[1] for line in step.splitlines() if line.startswith("graph ")] == [
        "gradient",
        "update",
    ]
    loops = shown(capsys, file, stage="loops", entry="steps")
    assert "entry steps" in loops
    assert "entry infer" not in loops


@pytest.mark.parametrize("name", PASSES)
def test_prints_after_each_pass(name: str, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, file, print_after=name, entry="infer")
    assert ("kernel " if name in ("lower", "expand") else "graph infer") in text


def test_times_every_pass(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, file, time_passes=True)
    assert all(f" {name} " in text for name in (*PASSES, "check", "emit"))


@pytest.mark.parametrize(
    ("given", "code", "guess"),
    [
        ({"stage": "lvm"}, "E0648", "llvm"),
        ({"stage": "opencl"}, "E0648", None),
        ({"entry": "infr"}, "E0649", "infer"),
        ({"stage": "asm", "entry": "turn"}, "E0649", None),
        ({"print_after": "slove"}, "E0650", "solve"),
    ],
)
def test_what_there_is_not_is_refused(
    given: dict[str, Any], code: str, guess: str | None, file: Path
) -> None:
    with pytest.raises(UserError) as caught:
        inspect(file, **{**OPTIONS, **given})
    assert caught.value.code == code
    assert (guess is None) == (caught.value.hint is None)
    assert guess is None or f"'{guess}'" in str(caught.value.hint)


def test_a_syntax_error_shows_its_place(tmp_path: Path) -> None:
    path = tmp_path / "bad.nn"
    path.write_text("model M {\n    input x: float[batch\n}\n", encoding="utf-8")
    with pytest.raises(SourceError) as caught:
        inspect(path, **{**OPTIONS, "stage": "ast"})
    assert "bad.nn:2:" in str(caught.value)


def test_a_reader_that_stops_early_is_no_fault(file: Path) -> None:
    command = [sys.executable, "-c", RUN, "inspect", str(file), "--stage", "llvm"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.readline()
        running.stdout.close()
        assert "Traceback" not in running.stderr.read()
