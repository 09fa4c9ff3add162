"""`nnc cache info` and `clear` tell of the cache as it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from nnc.cli import main
from nnc.ir import store


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NNC_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("NNC_CACHE_SIZE", raising=False)
    return tmp_path / "cache"


def cache(*arguments: str) -> str:
    done = CliRunner().invoke(main, ["cache", *arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_entries_are_counted_by_kind_and_cleared(place: Path) -> None:
    for k in range(3):
        store.store("object", store.key(str(k)), bytes(1000))
    store.store("trees", store.key("x"), b"")
    assert json.loads(cache("info", "--json")) == {
        "directory": str(place), "entries": 4, "bytes": 3160, "limit": 1 << 30,
        "kinds": {"object": {"entries": 3, "bytes": 3120}, "trees": {"entries": 1, "bytes": 40}},
        "unused": None, "ignored": None,
    }  # fmt: skip
    shown = cache("info")
    assert shown.startswith(f"{place}\n")
    assert "object        3  3,120" in shown
    assert json.loads(cache("clear", "--json")) == {"removed": 4}
    assert cache("clear") == "0 entries removed\n"


def test_why_it_is_not_used_is_told(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place.write_text("a file")
    monkeypatch.setenv("NNC_CACHE_SIZE", "lots")
    shown = cache("info")
    assert "not used: it is not a folder" in shown
    assert "ignored: NNC_CACHE_SIZE is 'lots'" in shown
