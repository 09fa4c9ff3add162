"""The team beside processes that burn cores: many small jobs, records that go, code that goes."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from nnc.backends import base
from nnc.backends.llvm.calling import Entry as Function
from nnc.backends.llvm.team import ticket
from nnc.ir.expr import Position
from nnc.ir.index import axis, dim
from nnc.ir.loops import (
    Barrier,
    Buffer,
    Entry,
    For,
    Kernel,
    Launch,
    Param,
    Program,
    Repeat,
    Step,
    Store,
)
from tests.support.native import BACKEND, F32, load, op

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX threads")
g, k, n, m = axis("g"), axis("k"), dim("n"), dim("m")
POISON = 0x5A5A_5A5A_5A5A_5A5A  # no address, and no size that anything could have


def chained() -> Program:
    """Turns of launches for all and for one, each of which needs all that the last one wrote."""
    low, high = g * 3, n - 1 - g
    forth = Store("b", (g,), op("add", load("a", high), Position(low, F32)))
    back = Store("a", (g,), op("sub", load("b", high), Position(g, F32)))
    ends = Store("a", (0,), op("add", load("a", 0), load("a", n - 1)))
    mix = For("k", m, "seq", (Store("a", (g,), op("mul", load("a", g), load("c", 0))),))
    a, b, c = (Param(name, F32, (n,), "r") for name in "abc")
    wa, wb = Param("a", F32, (n,), "rw"), Param("b", F32, (n,), "w")
    kernels = (
        Kernel("forth", (a, wb), ("n",), ("g",), (forth,)),
        Kernel("back", (wa, b), ("n",), ("g",), (back,)),
        Kernel("ends", (wa,), ("n",), (), (ends,)),
        Kernel("mix", (wa, c), ("n", "m"), ("g",), (mix,)),
    )
    steps: tuple[Step, ...] = (
        Launch("forth", ("a", "b"), (n,)),
        Barrier(),
        Launch("back", ("a", "b"), (n,)),
        Launch("forth", ("c", "d"), (n,)),  # no barrier: beside the launch before it
        Barrier(),
        Launch("ends", ("a",), ()),
        Launch("ends", ("d",), ()),
        Barrier(),
        Launch("ends", ("a",), ()),
        Barrier(),
        Launch("mix", ("a", "c"), (n,)),
        Barrier(),
    )
    buffers = tuple(Buffer(name, F32, (n,), "state") for name in "abcd")
    dims = ("n", "m", "turns")
    entry = Entry("go", dims, (Repeat("turn", dim("turns"), steps),))
    return Program("chained", dims, buffers, (), kernels, (entry,))


def arrays(size: int) -> list[np.ndarray]:
    rows = np.arange(size, dtype="f4")
    return [rows / 7, np.zeros(size, "f4"), np.full(size, 0.875, "f4"), np.zeros(size, "f4")]


def job(entry: Callable[[int], int], size: int, inner: int, turns: int, word: int) -> bytes:
    """Run one job. Its record and buffers are overwritten as soon as the entry has returned."""
    given = arrays(size)
    record = np.zeros(base.HEADER + 4 + 3, np.int64)
    record[base.VERSION], record[base.TEAM] = base.RECORD_VERSION, word
    record[base.HEADER :] = [*(x.ctypes.data for x in given), size, inner, turns]
    assert entry(record.ctypes.data) == 0
    found = b"".join(x.tobytes() for x in given)
    record[:] = POISON
    for x in given:
        x.fill(np.nan)
    assert (record == POISON).all()
    return found


@contextmanager
def burners(count: int) -> Iterator[None]:
    burn = [sys.executable, "-c", "while True: pass"]
    burning = [subprocess.Popen(burn) for _ in range(count)]
    try:
        yield
    finally:
        for process in burning:
            process.kill()
            process.wait()


def stress(seconds: float, seed: int, park: str | None) -> int:
    """Run random jobs for a while and return how many; each is compared with one thread's bits."""
    rng = random.Random(seed)
    made = chained()
    bits = BACKEND.compile(made, {"grain": "0"})
    expected: dict[tuple[int, int, int], bytes] = {}
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        code = BACKEND.load(bits, made.name)  # the last one is unloaded here
        entry = Function(code.entry("go"))
        for _ in range(rng.choice((1, 3, 50))):
            shape = rng.choice((1, 2, 7, 64, 999)), rng.choice((0, 1, 30)), rng.choice((1, 2, 25))
            if shape not in expected:
                expected[shape] = job(entry, *shape, 0)
            word = ticket(rng.randint(2, 5), park)
            assert job(entry, *shape, word) == expected[shape], (shape, seed)
            count += 1
            if rng.random() < 0.1:
                time.sleep(rng.choice((0.0, 0.0002, 0.003)))
    return count


@pytest.mark.parametrize(("burning", "park"), [(0, None), (1, None), (2, None), (1, "condition")])
def test_many_small_jobs(burning: int, park: str | None) -> None:
    with burners(burning):
        assert stress(0.5, burning, park) > 10
