"""What is installed from a wheel works by itself, away from the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ("nnc", "grammar", "frontend", "ir", "passes", "backends", "runtime", "docs")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a wheel from a copy, so that nothing is left in the checkout."""
    copy = tmp_path_factory.mktemp("source")
    for folder in SOURCES:
        ignored = shutil.ignore_patterns("__pycache__", "_build")
        shutil.copytree(ROOT / folder, copy / folder, symlinks=True, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    out = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", str(out), str(copy)], check=True)
    (made,) = out.glob("nnc-*.whl")
    return made


def test_the_wheel_holds_every_module_and_its_data(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    for folder in SOURCES[1:-1]:
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".nn", ".lark", ".md") and path.name != "README.md":
                assert f"nnc/{path.relative_to(ROOT).as_posix()}" in held
    for path in (ROOT / "docs" / "errors").glob("*.md"):  # through the link frontend/errors
        assert f"nnc/frontend/errors/{path.name}" in held
    assert "nnc/py.typed" in held


def test_the_installed_command_works(wheel: Path, tmp_path: Path) -> None:
    place = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
    environment = {**os.environ, "PYTHONPATH": str(place), "NNC_CACHE_DIR": str(tmp_path / "cache")}

    def run(*words: str) -> str:
        program = "import nnc, nnc.cli as c; print(nnc.__file__, flush=True); c.main()"
        done = subprocess.run(
            [sys.executable, "-c", program, *words],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(str(place))
        return done.stdout

    model = tmp_path / "logistic.nn"
    shutil.copy(ROOT / "examples" / "logistic.nn", model)
    assert "E0203: " in run("explain", "E0203")
    assert "no errors" in run("check", str(model))
    assert '"loss": 0.0538' in run("train", str(model), "--json")
