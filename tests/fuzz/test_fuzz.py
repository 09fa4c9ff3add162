"""Spoilt and generated programs end in diagnostics, and in nothing else."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from tests.fuzz.mutations import ROOT, Mutator, check
from tests.support.grammar_programs import programs


@pytest.mark.parametrize("seed", range(4))
def test_spoilt_programs(seed: int) -> None:
    mutator = Mutator(seed)
    accepted = [check(mutator.text()) for _ in range(60)]
    assert any(accepted)
    assert not all(accepted)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(programs())
def test_programs_of_the_grammar(text: str) -> None:
    check(text)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed")
def test_the_guided_target_runs(tmp_path: Path) -> None:
    for path in (ROOT / "examples").glob("*.nn"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.target", "-runs=300", "-max_len=1500", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Done 300 runs" in done.stderr
