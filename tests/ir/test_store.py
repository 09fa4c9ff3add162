"""The compile cache: damage, eviction, foreign folders, full disks. No error ever comes of it."""

from __future__ import annotations

import errno
import multiprocessing
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nnc.ir import store

KIND = "object"
posix = pytest.mark.skipif(sys.platform == "win32", reason="permissions of POSIX")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NNC_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("NNC_CACHE_SIZE", raising=False)
    return tmp_path / "cache"


def files(place: Path) -> list[Path]:
    return sorted(p for p in place.rglob("*") if p.is_file())


def test_an_entry_comes_back(place: Path) -> None:
    name = store.key("a", "b")
    assert store.load(KIND, name) is None
    assert store.fetch(KIND, name, lambda: b"code") == b"code"
    assert store.fetch(KIND, name, lambda: b"other") == b"code"
    assert store.load("program", name) is None
    found = store.info()
    assert (found.directory, found.kinds, found.unused) == (place, {KIND: (1, 44)}, None)
    assert store.clear() == 1
    assert store.load(KIND, name) is None


def test_keys_tell_lists_of_parts_apart() -> None:
    parts = [("ab", "c"), ("a", "bc"), ("abc",), ("ab", "c", ""), ("\ud800",)]
    assert len({store.key(*p) for p in parts}) == len(parts)


def test_every_damaged_byte_and_every_cut_is_a_miss_and_removed(place: Path) -> None:
    name = store.key("small")
    store.store(KIND, name, b"the payload")
    (path,) = files(place)
    good = path.read_bytes()
    flipped = [
        good[:at] + bytes([good[at] ^ 1 << bit]) + good[at + 1 :]
        for at in range(len(good))
        for bit in range(8)
    ]
    for data in [*flipped, *(good[:n] for n in range(len(good))), good + b"x", good + good]:
        path.write_bytes(data)
        path.chmod(0o600)
        assert store.load(KIND, name) is None, data
        assert not path.exists()
    path.write_bytes(good)
    path.chmod(0o600)
    assert store.load(KIND, name) == b"the payload"


def test_an_entry_under_the_name_of_another_is_a_miss(place: Path) -> None:
    one, two = store.key("one"), store.key("two")
    store.store(KIND, one, b"1")
    store.store(KIND, two, b"2")
    first, second = (place / KIND / n[:2] / n for n in (one, two))
    second.write_bytes(first.read_bytes())
    assert store.load(KIND, two) is None
    assert store.load(KIND, one) == b"1"


def test_an_entry_that_is_no_file_is_a_miss(place: Path) -> None:
    name = store.key("folder")
    store.store(KIND, name, b"x")
    (path,) = files(place)
    path.unlink()
    path.mkdir()
    assert store.fetch(KIND, name, lambda: b"made") == b"made"


@posix
def test_links_and_pipes_are_misses(place: Path, tmp_path: Path) -> None:
    name = store.key("link")
    store.store(KIND, name, b"x")
    (path,) = files(place)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert store.load(KIND, name) is None
    path.unlink()
    os.mkfifo(path)
    assert store.load(KIND, name) is None


@posix
def test_what_others_may_have_written_is_not_believed(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = store.key("mine")
    store.store(KIND, name, b"mine")
    (path,) = files(place)
    assert path.stat().st_mode & 0o777 == 0o600
    assert {p.stat().st_mode & 0o777 for p in (place, *path.parents[:2])} == {0o700}
    path.chmod(0o622)
    assert store.load(KIND, name) is None
    path.chmod(0o600)
    assert store.load(KIND, name) == b"mine"
    place.chmod(0o770)
    assert store.load(KIND, name) is None
    store.store(KIND, store.key("other"), b"x")
    assert files(place) == [path]
    assert store.clear() == 0
    assert store.info().unused == "others may write to it: chmod go-w"
    place.chmod(0o700)
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    assert store.load(KIND, name) is None
    assert store.info().unused == "it belongs to another user"


def test_a_folder_that_is_a_file_costs_only_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    for where in ("file", "file/below"):
        monkeypatch.setenv("NNC_CACHE_DIR", str(tmp_path / where))
        assert store.fetch(KIND, store.key("x"), lambda: b"made") == b"made"
        assert store.info().entries == store.clear() == 0
        assert store.info().unused is not None


def test_without_a_home_there_is_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError

    for name in ("NNC_CACHE_DIR", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert store.fetch(KIND, store.key("x"), lambda: b"made") == b"made"
    assert store.info().unused == "there is no home directory"


def failing(code: int) -> Callable[..., object]:
    def fail(*_: object, **__: object) -> object:
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize("call", ["os.open", "os.fsync", "os.replace", "os.fdopen", "os.mkdir"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_disk_that_fails_costs_only_time(
    call: str, code: int, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = store.key("x")
    with monkeypatch.context() as patch:
        patch.setattr(call, failing(code))
        assert store.fetch(KIND, name, lambda: b"made") == b"made"
    assert store.load(KIND, name) in (None, b"made")
    assert [p.name for p in files(place) if p.name.startswith(".new-")] == []
    assert store.fetch(KIND, name, lambda: b"made") == b"made"


def test_the_least_recently_used_go_first(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NNC_CACHE_SIZE", "4000")
    names = [store.key(str(i)) for i in range(5)]
    for age, name in enumerate(names[:3]):
        store.store(KIND, name, bytes(1000))
        os.utime(place / KIND / name[:2] / name, (1000 + age, 1000 + age))
    assert store.load(KIND, names[0]) is not None  # and is now the last used
    store.store(KIND, names[3], bytes(1000))
    assert [store.load(KIND, n) is not None for n in names] == [True, False, True, True, False]
    store.store(KIND, names[4], bytes(5000))
    assert store.load(KIND, names[4]) is None
    assert store.info().bytes <= 4000


def test_the_bound_holds_whatever_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NNC_CACHE_SIZE", "20000")
    for k in range(200):
        store.store(("object", "tree")[k % 2], store.key(str(k)), bytes(37 * k % 3000))
        assert store.info().bytes <= 20000
    assert store.info().entries > 5


@pytest.mark.parametrize(
    ("setting", "limit"),
    [("0", 0), ("4000", 4000), ("2KiB", 2048), (" 3 mib ", 3 << 20), ("1GiB", 1 << 30)],
)
def test_the_limit_is_an_amount(setting: str, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NNC_CACHE_SIZE", setting)
    assert store.limit() == limit
    assert store.info().ignored is None
    name = store.key("x")
    store.store(KIND, name, b"x")
    assert store.load(KIND, name) == (b"x" if limit else None)


def test_a_limit_that_is_no_amount_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NNC_CACHE_SIZE", "much")
    assert store.limit() == store.DEFAULT_LIMIT
    assert "'much'" in (store.info().ignored or "")


def test_what_a_killed_writer_left_is_removed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_BOUND", store._Bound())
    name = store.key("y")
    left = place / KIND / name[:2] / ".new-left"
    left.parent.mkdir(parents=True, mode=0o700)
    place.chmod(0o700)
    left.write_bytes(b"part")
    os.utime(left, (1000, 1000))
    store.store(KIND, name, b"2")
    assert not left.exists()
    left.write_bytes(b"part")
    assert store.clear() == 1
    assert files(place) == []


def write_many(name: str, payload: bytes, turns: int) -> None:
    for _ in range(turns):
        store.store(KIND, name, payload)


def test_writers_at_once_leave_a_whole_entry(place: Path) -> None:
    name = store.key("shared")
    payloads = [bytes([i]) * 100_000 for i in (1, 2)]
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write_many, args=(name, p, 15)) for p in payloads]
    for writer in writers:
        writer.start()
    seen = set()
    while any(w.is_alive() for w in writers):
        found = store.load(KIND, name)
        if found is not None:
            seen.add(found)
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert seen <= set(payloads)
    assert store.load(KIND, name) in payloads
    assert len(files(place)) == 1
