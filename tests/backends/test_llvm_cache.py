"""Compiled code goes through the cache, whatever is done to its entries meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.cache_worker import constant_program

from nnc.backends.llvm import LLVMBackend, compilations
from nnc.backends.llvm.calling import call

WORKER = Path(__file__).parents[1] / "support" / "cache_worker.py"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NNC_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def entry_files(place: Path) -> list[Path]:
    return sorted(p for p in place.rglob("*") if p.is_file())


def test_programs_are_compiled_once_and_rebuilt_when_damaged(place: Path) -> None:
    backend = LLVMBackend()
    program = constant_program(2.5)
    before = compilations()
    first = backend.compile(program, {})
    assert backend.compile(program, {}) == first
    assert compilations() == before + 1
    backend.compile(constant_program(3.5), {})
    backend.compile(program, {"cpu": "generic", "features": ""})
    assert compilations() == before + 3
    for path in entry_files(place):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(bytes(data))
    again = backend.compile(program, {})
    assert compilations() == before + 4
    y = np.zeros((), np.float32)
    call(backend.load(again, "constant"), program, "go", {}, {"y": y})
    assert y == 2.5


def test_every_damaged_byte_of_an_object_is_a_miss(place: Path) -> None:
    from nnc.ir import store

    LLVMBackend().compile(constant_program(4.5), {})
    (path,) = entry_files(place)
    good = path.read_bytes()
    damaged = [good[:n] for n in range(len(good))]
    damaged += [good[:n] + bytes([good[n] ^ 0x40]) + good[n + 1 :] for n in range(len(good))]
    for data in damaged:
        path.write_bytes(data)
        path.chmod(0o600)
        assert store.load("object", path.name) is None
    path.write_bytes(good)
    path.chmod(0o600)
    assert store.load("object", path.name) == good[40:]


def at_once(processes: int, kernels: int, chance: float, size: str) -> None:
    environment = {**os.environ, "NNC_CACHE_SIZE": size}
    workers = [
        subprocess.Popen(
            [sys.executable, str(WORKER), str(number), str(kernels), str(chance)],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for number in range(processes)
    ]  # fmt: skip
    for worker in workers:
        out, errors = worker.communicate()
        assert worker.returncode == 0, errors
        assert out == "0\n"


def test_processes_share_a_cache_that_is_damaged_meanwhile() -> None:
    at_once(3, 25, 0.5, "1GiB")


@pytest.mark.slow
@pytest.mark.parametrize("size", ["1GiB", "200KiB"])
def test_eight_processes_compile_five_hundred_kernels(size: str) -> None:
    at_once(8, 500, 0.2, size)
