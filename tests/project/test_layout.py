"""The rules of the house that a tool cannot check: who imports whom, lengths, targets."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STAGES = ("grammar", "frontend", "ir", "passes", "backends", "runtime")
MAY_IMPORT = {
    "grammar": {"grammar"},
    "frontend": {"frontend", "grammar", "ir"},
    "ir": {"ir"},
    "passes": {"passes", "ir"},
    "backends": {"backends", "ir"},
    "runtime": set(STAGES),
}
LONGEST_FILE = 500
LISTS = {"frontend/ast.py"}
"""Files that are one list of declarations without any logic, which it would not help to cut."""


def tracked() -> list[Path]:
    """Files that git knows, or would if told to; without git (an archive), what lies here."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    files = [ROOT / name for name in listed.stdout.splitlines()]
    return [f for f in files if f.is_file() and not f.is_symlink()]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def modules(stage: str) -> list[Path]:
    return sorted((ROOT / stage).rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """Yield the full names of what a module imports, wherever in it the import stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("stage", STAGES)
def test_imports_go_one_way(stage: str) -> None:
    for path in modules(stage):
        for name in imported(path):
            parts = name.split(".")
            if parts[0] == "nnc" and name not in ("nnc.__version__", "nnc.__began__"):
                assert parts[1] in MAY_IMPORT[stage], f"{path} imports {name}"


def test_stages_are_imported_by_their_full_names() -> None:
    for path in (f for f in tracked() if f.suffix == ".py"):
        wrong = [name for name in imported(path) if name.split(".")[0] in STAGES]
        assert not wrong, f"{path} imports {wrong}: a second copy of each module"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_found_by_its_folder_is_refused(stage: str) -> None:
    done = run(sys.executable, "-c", f"import {stage}")
    assert done.returncode != 0
    assert f"import nnc.{stage}, not {stage}" in done.stderr


def test_importing_nnc_loads_nothing_heavy() -> None:
    heavy = ("numpy", "llvmlite", "lark", "rich", "click", "safetensors")
    command = f"import sys, nnc; print([m for m in {heavy} if m in sys.modules])"
    done = run(sys.executable, "-c", command)
    assert done.stdout == "[]\n", done.stderr


def test_checking_a_file_loads_no_llvm() -> None:
    command = (
        "import sys; from nnc.cli import main\n"
        f"main(['check', {str(ROOT / 'examples' / 'logistic.nn')!r}], standalone_mode=False)\n"
        "print([m for m in ('llvmlite', 'pyopencl', 'lark') if m in sys.modules])"
    )
    done = run(sys.executable, "-c", command)
    assert done.returncode == 0, done.stderr
    assert "llvmlite" not in done.stdout.splitlines()[-1]


def test_no_backend_names_an_operation_of_networks() -> None:
    words = re.compile(r"contraction|conv(\d|olution)|softmax|attention|matmul", re.IGNORECASE)
    for path in modules("backends"):
        found = [line for line in path.read_text().splitlines() if words.search(line)]
        assert not found, f"{path}: {found}"


def test_no_module_is_too_long() -> None:
    for path in (f for f in tracked() if f.suffix in (".py", ".nn", ".lark")):
        length = len(path.read_text(encoding="utf-8").splitlines())
        allowed = str(path.relative_to(ROOT)) in LISTS
        assert allowed or length <= LONGEST_FILE, f"{path} has {length} lines"


def test_nothing_names_the_machine_it_was_written_on() -> None:
    places = {os.fsencode(f"{place}/") for place in (ROOT, Path.home()) if len(place.parts) > 1}
    for path in tracked():
        content = path.read_bytes()
        assert not [p for p in places if p in content], path


def test_what_is_left_to_be_done_is_done() -> None:
    marks = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    for stage in (*STAGES, "nnc"):
        for path in (ROOT / stage).rglob("*.py"):
            found = marks.search(path.read_text(encoding="utf-8"))
            assert found is None, f"{path}: {found}"


def test_each_stage_has_a_readme() -> None:
    for folder in (*STAGES, "tests"):
        assert (ROOT / folder / "README.md").is_file(), folder


# ------------------------------------------------------------------------------- packaging


def settings() -> dict[str, object]:
    read = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    found = read["tool"]["setuptools"]
    assert isinstance(found, dict)
    return found


def test_every_folder_of_modules_is_a_package_of_the_wheel() -> None:
    found = {"nnc"}
    for stage in STAGES:
        for init in (ROOT / stage).rglob("__init__.py"):
            found.add("nnc." + ".".join(init.parent.relative_to(ROOT).parts))
    assert set(settings()["packages"]) == found  # type: ignore[call-overload]


def test_every_other_file_is_package_data() -> None:
    data = settings()["package-data"]
    assert isinstance(data, dict)
    for stage in STAGES:
        for path in (ROOT / stage).rglob("*"):
            if path.suffix in (".py", ".pyc") or path.name == "README.md" or path.is_dir():
                continue
            package = "nnc." + ".".join(path.parent.relative_to(ROOT).parts)
            patterns = data.get(package, [])
            assert any(path.match(p) for p in patterns), f"{path} is in no wheel"


# ------------------------------------------------------------------------------- commands


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_make_tells_its_targets() -> None:
    done = run("make", "--no-print-directory", "help")
    assert done.returncode == 0, done.stderr
    told = {line.split()[0] for line in done.stdout.splitlines()}
    assert {"help", "demo", "test", "slow", "lint", "format", "bench", "docs", "clean"} == told


def test_make_targets_are_declared() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert phony is not None
    assert set(phony[1].split()) == set(re.findall(r"^([a-z]+):", text, re.MULTILINE))


def test_ci_runs_lint_and_tests() -> None:
    path = ROOT / ".ci" / "run"
    assert os.access(path, os.X_OK)
    text = path.read_text(encoding="utf-8")
    assert "make lint" in text
    assert "make test" in text
    if shutil.which("bash") is not None:
        subprocess.run(["bash", "-n", str(path)], check=True)
