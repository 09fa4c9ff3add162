"""The compile cache: damage, eviction, writers at once; and that compiled code goes through it."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

from nnc.backends.llvm import LLVMBackend, cache
from nnc.backends.llvm.calling import call
from nnc.ir import loops
from nnc.ir.expr import Const
from nnc.ir.types import DType


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NNC_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("NNC_CACHE_BYTES", raising=False)


def files() -> list[Path]:
    return sorted(p for p in cache.directory().rglob("*") if p.is_file())


def test_an_entry_comes_back() -> None:
    name = cache.key("a", "b")
    assert cache.load(name) is None
    before = cache.compilations()
    assert cache.fetch(name, lambda: b"code") == b"code"
    assert cache.fetch(name, lambda: b"other") == b"code"
    assert cache.compilations() == before + 1
    assert cache.info().entries == 1
    assert cache.clear() == 1
    assert cache.load(name) is None


def test_keys_tell_lists_of_parts_apart() -> None:
    parts = [("ab", "c"), ("a", "bc"), ("abc",), ("ab", "c", "")]
    assert len({cache.key(*p) for p in parts}) == len(parts)


def test_every_damaged_byte_is_a_miss() -> None:
    name = cache.key("small")
    cache.store(name, b"the payload")
    (path,) = files()
    good = path.read_bytes()
    for at in range(len(good)):
        path.write_bytes(good[:at] + bytes([good[at] ^ 0x10]) + good[at + 1 :])
        assert cache.load(name) is None, at
    for length in range(len(good)):
        path.write_bytes(good[:length])
        assert cache.load(name) is None, length
    path.write_bytes(good + b"x")
    assert cache.load(name) is None
    assert cache.fetch(name, lambda: b"the payload") == b"the payload"
    assert path.read_bytes() == good


def test_an_entry_that_is_no_file_is_a_miss() -> None:
    name = cache.key("folder")
    cache.store(name, b"x")
    (path,) = files()
    path.unlink()
    path.mkdir()
    assert cache.fetch(name, lambda: b"made") == b"made"


def test_a_cache_that_cannot_be_written_costs_only_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("NNC_CACHE_DIR", str(tmp_path / "file"))
    assert cache.fetch(cache.key("x"), lambda: b"made") == b"made"
    assert cache.info().entries == 0


def test_the_oldest_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NNC_CACHE_BYTES", "4000")
    names = [cache.key(str(i)) for i in range(5)]
    for age, name in enumerate(names[:3]):
        cache.store(name, bytes(1000))
        os.utime(cache._path(name), (1000 + age, 1000 + age))
    assert cache.load(names[0]) is not None  # and is now the last used
    cache.store(names[3], bytes(1000))
    assert [cache.load(n) is not None for n in names] == [True, False, True, True, False]
    cache.store(names[4], bytes(5000))
    assert cache.load(names[4]) is None
    assert cache.info().bytes <= 4000


def test_what_a_killed_writer_left_is_removed() -> None:
    name = cache.key("y")
    cache.store(name, b"1")
    left = files()[0].with_name(".new-left")
    left.write_bytes(b"part")
    os.utime(left, (1000, 1000))
    cache.store(name, b"2")
    assert not left.exists()
    assert cache.load(name) == b"2"


def write_many(name: str, payload: bytes, turns: int) -> None:
    for _ in range(turns):
        cache.store(name, payload)


def test_writers_at_once_leave_a_whole_entry() -> None:
    name = cache.key("shared")
    payloads = [bytes([i]) * 100_000 for i in (1, 2)]
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write_many, args=(name, p, 15)) for p in payloads]
    for writer in writers:
        writer.start()
    seen = set()
    while any(w.is_alive() for w in writers):
        found = cache.load(name)
        if found is not None:
            seen.add(found)
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert seen <= set(payloads)
    assert cache.load(name) in payloads
    assert len(files()) == 1


def constant_program(value: float) -> loops.Program:
    store = loops.Store("y", (), Const(value, DType.F32))
    kernel = loops.Kernel("k", (loops.Param("y", DType.F32, (), "w"),), (), (), (store,))
    entry = loops.Entry("go", (), (loops.Launch("k", ("y",), ()),))
    buffer = loops.Buffer("y", DType.F32, (), "output")
    return loops.Program("constant", (), (buffer,), (), (kernel,), (entry,))


def test_programs_are_compiled_once_and_rebuilt_when_damaged() -> None:
    import numpy as np

    backend = LLVMBackend()
    program = constant_program(2.5)
    before = cache.compilations()
    first = backend.compile(program, {})
    assert backend.compile(program, {}) == first
    assert cache.compilations() == before + 1
    backend.compile(constant_program(3.5), {})
    backend.compile(program, {"cpu": "generic", "features": ""})
    assert cache.compilations() == before + 3
    for path in files():
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(bytes(data))
    again = backend.compile(program, {})
    assert cache.compilations() == before + 4
    y = np.zeros((), np.float32)
    call(backend.load(again, "constant"), program, "go", {}, {"y": y})
    assert y == 2.5
