"""What was compiled before is used again only where nothing that it was made from has changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import nnc
from nnc.backends.llvm import compilations

MAIN = """import "parts.nn"
model M(factor: int = 2) {
    input x: float[n]
    output y = scaled(x) * factor
}
"""
PARTS = "fn scaled(x: float[..s]) -> float[..s] = x * 10\n"


@pytest.fixture(autouse=True)
def fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NNC_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def y(path: Path, **config: object) -> float:
    return float(nnc.compile(path, threads=1, **config)(x=[1.0])["y"][0])


def place(folder: Path, main: str = MAIN, parts: str = PARTS) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "parts.nn").write_text(parts)
    (folder / "main.nn").write_text(main)
    return folder / "main.nn"


def test_a_changed_file_import_or_config_is_compiled_anew(tmp_path: Path) -> None:
    path = place(tmp_path / "a")
    assert y(path) == 20
    before = compilations()
    assert y(path) == 20
    assert compilations() == before
    place(tmp_path / "a", parts=PARTS.replace("10", "11"))
    assert y(path) == 22
    place(tmp_path / "a", MAIN.replace("= 2", "= 3"), PARTS.replace("10", "11"))
    assert y(path) == 33
    assert y(path, factor=5) == 55
    assert y(path) == 33
    place(tmp_path / "a")
    assert y(path) == 20


def test_equal_files_with_unequal_imports_are_two_programs(tmp_path: Path) -> None:
    one = place(tmp_path / "one")
    two = place(tmp_path / "two", parts=PARTS.replace("10", "7"))
    assert [y(one), y(two), y(one)] == [20, 14, 20]


def test_an_import_that_vanishes_is_missed(tmp_path: Path) -> None:
    path = place(tmp_path / "a")
    assert y(path) == 20
    (tmp_path / "a/parts.nn").unlink()
    with pytest.raises(nnc.SourceError):
        y(path)


def test_a_damaged_cache_is_only_slow(tmp_path: Path, fresh_cache: Path) -> None:
    path = place(tmp_path / "a")
    assert y(path) == 20
    for damage in (lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b[:-1] + b"\0"):
        files = [f for f in fresh_cache.rglob("*") if f.is_file()]
        assert files
        for file in files:
            file.write_bytes(damage(file.read_bytes()))
        assert y(path) == 20


def test_a_cache_that_cannot_be_written_is_only_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NNC_CACHE_DIR", str(tmp_path / "file"))
    path = place(tmp_path / "a")
    assert [y(path), y(path)] == [20, 20]


def test_data_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "m.nn"
    path.write_text(
        "model M {\n    input x: float[n]\n    param w: float = ones()\n    loss mean(w * x)\n}\n"
        'train M {\n    data = npz("d.npz")\n    optimizer = sgd(lr = 0.0)\n    epochs = 1\n}\n'
    )
    for value in (1.0, 2.0):
        np.savez(tmp_path / "d.npz", x=np.full(5, value))
        assert nnc.compile(path, threads=1).fit().last.loss == value


def test_one_of_several_models_and_train_blocks(tmp_path: Path) -> None:
    path = tmp_path / "m.nn"
    path.write_text(
        "model A {\n    input x: float[n]\n    param w: float = ones()\n    output y = w * x\n"
        "    loss mean(y)\n}\n"
        "model B {\n    input x: float[n]\n    output y = x + 1\n}\n"
        "train A as slow { optimizer = sgd(lr = 0.5) }\n"
        "train A as quick { optimizer = sgd(lr = 2.0) }\n"
    )
    assert float(nnc.compile(path, model="B")(x=[1.0])["y"][0]) == 2
    found = []
    for recipe in ("slow", "quick"):
        program = nnc.compile(path, recipe=recipe)
        program.step(x=[1.0])
        found.append(float(program.params["w"]))
    assert found == [0.5, -1]
    for choice in ({}, {"model": "A"}, {"recipe": "A"}, {"model": "B", "recipe": "slow"}):
        with pytest.raises(nnc.SourceError) as fault:
            nnc.compile(path, **choice)
        assert [d.code for d in fault.value.diagnostics] in (["E0412"], ["E0201"])
