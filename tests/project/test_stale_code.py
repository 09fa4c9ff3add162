"""A compiler that is edited while a process runs leaves nothing wrong in the cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nnc.ir import sources

ROOT = Path(__file__).parents[2]
MODEL = "model M { input x: float[n]\n output y = relu(x) }"
EDIT = """
import sys, time
from pathlib import Path
import nnc
from nnc.frontend.library import library_files
library_files()  # what this process will use
path = Path(sys.argv[1]) / "frontend/stdlib/activations.nn"
text = path.read_text()
path.write_text(text.replace("= max(x, 0)", "= max(x, 9)"))
"""
SHOW = "import nnc; print(float(nnc.compile({model!r})(x=[1.0])['y'][0]))\n"


def run(tree: Path, code: str) -> float:
    environment = {**os.environ, "PYTHONPATH": str(tree), "NNC_CACHE_DIR": str(tree / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tree)], env=environment, cwd=tree,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


def test_code_older_than_the_files_is_not_kept(tmp_path: Path) -> None:
    for name in ("nnc", "grammar", "frontend", "ir", "passes", "backends", "runtime"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=True, ignore=ignored)
    errors = tmp_path / "frontend" / "errors"
    if errors.is_symlink():
        errors.unlink()
    show = SHOW.format(model=MODEL)
    time.sleep(1.2)  # files as new as the process itself might be newer
    assert run(tmp_path, EDIT + show) == 1.0
    assert not list((tmp_path / "cache").glob("program/*/*"))
    assert run(tmp_path, show) == 9.0
    time.sleep(1.2)
    assert run(tmp_path, show) == 9.0
    assert len(list((tmp_path / "cache").glob("program/*/*"))) == 1


def test_any_change_since_the_start_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stage").mkdir()
    path = tmp_path / "stage" / "a.py"
    path.write_text("1")
    monkeypatch.setattr(sources, "ROOT", tmp_path)
    monkeypatch.setattr(sources, "__began__", time.time_ns() + 2 * 10**9)
    assert sources.unchanged("stage")
    first = sources.running("stage")
    state = path.stat()
    path.write_text("2")
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert sources.running("stage") == first
    assert not sources.unchanged("stage")
    monkeypatch.setattr(sources, "__began__", path.stat().st_ctime_ns)
    assert not sources.unchanged("stage")
    sources.running.cache_clear()
    assert not sources.unchanged("stage")
    assert sources.running("stage") != first
    sources.running.cache_clear()
