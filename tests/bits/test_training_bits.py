"""A hundred steps leave the same bits, however many threads work and wherever code came from."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nnc
from tests.support.nets import every_launch_shared

BATCH, WIDTH, STEPS = 37, 129, 100
TEXT = f"""
model Net {{
    input  x: float[n, 50]
    target y: i32[n] in 0..10
    h = x |> linear({WIDTH}) |> gelu |> dropout(0.1) |> linear({WIDTH}) |> layer_norm() |> tanh
    logits = h |> linear(10)
    output probs = softmax(logits)
    loss   cross_entropy(logits, y)
    metric accuracy = mean(argmax(logits) == y)
}}
train Net {{
    optimizer = adam(lr = 1e-3)
    clip_norm = 1.0
    batch     = {BATCH}
    seed      = 3
}}
"""


def data() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "x": rng.normal(0, 1, (4 * BATCH, 50)).astype(np.float32),
        "y": rng.integers(0, 10, 4 * BATCH).astype(np.int32),
    }


def trained(program: nnc.Net, steps: int = STEPS) -> str:
    """Take the steps, half by ``step`` and half by ``fit``; return a digest of what there is."""
    rows = data()
    losses = []
    for k in range(steps // 2):
        cut = slice(k % 4 * BATCH, (k % 4 + 1) * BATCH)
        losses.append(program.step(x=rows["x"][cut], y=rows["y"][cut]))
    losses.append(program.fit(rows, steps=steps - steps // 2).last.loss)
    values = program.evaluate(rows, batch=50)
    found = hashlib.sha256(repr((losses, values)).encode())
    for path, array in program.params.items():
        assert np.isfinite(array).all(), path
        found.update(array.tobytes())
    found.update(program(x=rows["x"])["probs"].tobytes())
    return found.hexdigest()


@pytest.fixture(scope="module")
def expected() -> str:
    return trained(nnc.compile(TEXT, threads=1))


@pytest.fixture(scope="module", autouse=True)
def threads_for_the_least_work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with every_launch_shared(tmp_path_factory.mktemp("cache")):
        yield


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Let other processes burn processors for as long as the block lasts."""
    burn = [sys.executable, "-c", "while True: pass"]
    burning = [subprocess.Popen(burn) for _ in range(count)]
    try:
        yield
    finally:
        for process in burning:
            process.kill()
            process.wait()


@pytest.mark.parametrize("threads", [2, 3, 5])
def test_any_number_of_threads(threads: int, expected: str) -> None:
    assert trained(nnc.compile(TEXT, threads=threads)) == expected


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_beside_a_process_that_burns_a_core(threads: int, expected: str) -> None:
    with busy(1):
        assert trained(nnc.compile(TEXT, threads=threads)) == expected


X86_FLUSH = 0x8040
"""Flush to zero, denormals are zero."""


def float_state() -> tuple[Any, Any]:
    """Return functions that read and write MXCSR, through libm's fenv_t (31 bytes in, at 28)."""
    libm = ctypes.CDLL(None)
    environment = (ctypes.c_uint32 * 8)()

    def read() -> int:
        assert libm.fegetenv(environment) == 0
        return int(environment[7])

    def write(value: int) -> None:
        assert libm.fegetenv(environment) == 0
        environment[7] = value
        assert libm.fesetenv(environment) == 0

    return read, write


@pytest.mark.skipif(
    platform.machine() != "x86_64" or sys.platform != "linux", reason="knows x86-64 Linux only"
)
@pytest.mark.parametrize("threads", [1, 3])
def test_a_caller_that_flushes_denormals(threads: int, expected: str) -> None:
    """Its setting does not reach the program, and is as it was after each call."""
    read, write = float_state()
    before = read()
    program = nnc.compile(TEXT, threads=threads)
    write(before | X86_FLUSH)
    try:
        assert np.float32(1e-40) * np.float32(1) == 0
        found = trained(program)
        after = read()
    finally:
        write(before)
    assert after & X86_FLUSH == X86_FLUSH
    assert found == expected


def test_denormals_survive_in_training(expected: str) -> None:
    """What the test above rests on: flushing would be seen in such a program."""
    program = nnc.compile("model M {\ninput x: float[n]\noutput y = x * 0.5\n}\n", threads=1)
    tiny = np.full(100, 1e-40, np.float32)
    read, write = float_state()
    before = read()
    expected_bits = program(x=tiny)["y"].tobytes()
    assert np.frombuffer(expected_bits, np.uint32).all()
    write(before | X86_FLUSH)
    try:
        found = program(x=tiny)["y"].tobytes()
    finally:
        write(before)
    assert found == expected_bits


CHILD = """
import sys
sys.path[:0] = sys.argv[4:]
import test_training_bits as here
import nnc
from nnc.backends.llvm import compilations
how, path, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
if how == "built":
    net = nnc.load(path, threads=threads)
else:
    net = nnc.compile(here.TEXT, threads=threads)
if how == "build":
    net.build(path)
print(here.trained(net), compilations())
"""


def test_compiled_cached_and_built_programs(expected: str, tmp_path: Path) -> None:
    """Each in a process of its own: a cold cache, the same cache, no cache, and a built file."""
    built = tmp_path / "net.nnx"
    here = Path(__file__).parent

    def child(how: str, threads: int, cache: str) -> tuple[str, int]:
        done = subprocess.run(
            [sys.executable, "-c", CHILD, how, str(built), str(threads), str(here)],
            env={**os.environ, "NNC_CACHE_DIR": str(tmp_path / cache)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        digest, compilations = done.stdout.split()
        return digest, int(compilations)

    assert child("build", 2, "a") == (expected, 2)
    digest, compiled = child("compile", 1, "a")
    assert (digest, compiled) == (expected, 0)
    digest, compiled = child("built", 1, "a")
    assert (digest, compiled) == (expected, 0)


def test_weights_that_are_saved_and_loaded(expected: str, tmp_path: Path) -> None:
    first = nnc.compile(TEXT, threads=1)
    first.fit(data(), epochs=1)
    first.save(tmp_path / "w.safetensors")
    second = nnc.compile(TEXT, threads=2)
    second.load(tmp_path / "w.safetensors")
    x = data()["x"]
    assert second(x=x)["probs"].tobytes() == first(x=x)["probs"].tobytes()
    assert second.evaluate(data()) == first.evaluate(data())
