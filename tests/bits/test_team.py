"""The thread team: the same bits on any number of threads, callers at once, forks, and idling."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from nnc.backends.llvm import team
from nnc.backends.llvm.abi import MOST_THREADS
from nnc.backends.llvm.calling import call
from nnc.backends.llvm.loader import Loaded
from nnc.backends.llvm.objects import compile_text
from nnc.backends.llvm.target import host
from nnc.backends.llvm.team import ticket
from nnc.backends.llvm.threads import cgroup_processors, default_threads
from nnc.ir.index import axis, ceildiv, dim
from nnc.ir.loops import (
    Barrier,
    Buffer,
    Cell,
    Entry,
    Fold,
    For,
    Kernel,
    Launch,
    Param,
    Program,
    Repeat,
    Store,
)
from tests.support.native import BACKEND, F32, check, compiled, const, less, load, op, run

g, k, v, n = axis("g"), axis("k"), axis("v"), dim("n")
BLOCK = 64
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX threads")


def training_like() -> Program:
    """Turns of: partial sums of blocks, their total (one task), an update that depends on it."""
    at = g * BLOCK + k * 16 + v
    inside = less(at, n)
    sums = For("v", 16, "vector", (
        Cell("a", F32, (), const(0.0), lanes=True),
        For("k", BLOCK // 16, "seq", (
            Store("a", (), op("mad", load("x", at, mask=inside), load("x", at, mask=inside),
                              load("a"))),
        )),
        Store("p", (g,), Fold("add", load("a"), F32)),
    ))  # fmt: skip
    total = For("k", ceildiv(n, BLOCK), "seq", (
        Store("s", (), op("add", load("s"), load("p", k))),
    ))  # fmt: skip
    rate = op("div", const(0.25), op("add", const(1.0), load("s")))
    update = For("k", BLOCK // 16, "seq", (
        For("v", 16, "vector", (
            Store("x", (at,), op("mad", load("x", at, mask=inside), op("neg", rate),
                                 load("x", at, mask=inside)), inside),
        )),
    ))  # fmt: skip
    blocks = ceildiv(n, BLOCK)
    x, p, s = (
        Param("x", F32, (n,), "r"),
        Param("p", F32, (blocks,), "w"),
        Param("s", F32, (), "rw"),
    )
    kernels = (
        Kernel("sums", (x, p), ("n",), ("g",), (sums,)),
        Kernel("total", (Param("p", F32, (blocks,), "r"), s), ("n",), (), (total,)),
        Kernel(
            "update",
            (Param("x", F32, (n,), "rw"), Param("s", F32, (), "r")),
            ("n",),
            ("g",),
            (update,),
        ),
    )
    steps = (
        Launch("sums", ("x", "p"), (blocks,)),
        Barrier(),
        Launch("total", ("p", "s"), ()),
        Barrier(),
        Launch("update", ("x", "s"), (blocks,)),
        Barrier(),
    )
    buffers = (
        Buffer("x", F32, (n,), "state"),
        Buffer("p", F32, (blocks,), "scratch"),
        Buffer("s", F32, (), "state"),
    )
    entry = Entry("go", ("n", "turns"), (Repeat("turn", dim("turns"), steps),))
    return Program("training", ("n", "turns"), buffers, (), kernels, (entry,))


MADE = training_like()


def start(size: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {"x": rng.standard_normal(size).astype("f4"), "s": np.zeros((), "f4")}


def bits(size: int, threads: int, turns: int = 30, seed: int = 0) -> bytes:
    arrays = start(size, seed)
    assert run(MADE, arrays, threads, n=size, turns=turns).code == 0
    return arrays["x"].tobytes() + arrays["s"].tobytes()


@pytest.mark.parametrize("size", [1, 129, 64 * 37 + 5])
def test_bits_do_not_depend_on_threads(size: int) -> None:
    expected = bits(size, 1)
    for threads in (2, 3, 5):
        assert bits(size, threads) == expected


def test_a_turn_is_the_interpreters() -> None:
    check(MADE, start(200), (1, 3), n=200, turns=1)


def test_bits_while_another_process_burns_a_core() -> None:
    expected = bits(5000, 1)
    burner = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        assert all(bits(5000, threads) == expected for threads in (2, 3, 5))
    finally:
        burner.kill()
        burner.wait()


@pytest.mark.parametrize("park", ["futex", "condition"])
def test_each_way_of_parking(park: str) -> None:
    if park == "futex" and not host().is_linux:
        pytest.skip("no futex here")
    expected = bits(3000, 1)
    for pause in (0.0, 0.01):
        for threads in (2, 4, 3):
            arrays = start(3000)
            time.sleep(pause)  # long enough for threads to park
            word = ticket(threads, park)
            call(compiled(MADE), MADE, "go", {"n": 3000, "turns": 30}, arrays, word)
            assert arrays["x"].tobytes() + arrays["s"].tobytes() == expected


def test_callers_at_once() -> None:
    expected = {seed: bits(1000, 1, seed=seed) for seed in range(4)}
    wrong: list[int] = []

    def caller(seed: int) -> None:
        for _ in range(40):
            if bits(1000, 2 + seed % 2, seed=seed) != expected[seed]:
                wrong.append(seed)

    callers = [threading.Thread(target=caller, args=(seed,)) for seed in expected]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join()
    assert not wrong


def in_child(action: object) -> int:
    child = os.fork()
    if child == 0:
        os._exit(0 if action() else 7)  # type: ignore[operator]
    return os.waitpid(child, 0)[1]


def test_forks() -> None:
    expected = bits(2000, 1)
    assert bits(2000, 3) == expected
    for _ in range(3):
        assert in_child(lambda: bits(2000, 3) == expected) == 0
        assert bits(2000, 3) == expected
    # A fork in a fork, which never used its team.
    assert in_child(lambda: in_child(lambda: bits(2000, 2) == expected) == 0) == 0


def test_a_fork_while_the_team_is_busy() -> None:
    expected = bits(2000, 1)
    stop = threading.Event()

    def caller() -> None:
        while not stop.is_set():
            bits(2000, 3)

    busy = threading.Thread(target=caller)
    busy.start()
    try:
        for _ in range(10):
            assert in_child(lambda: bits(2000, 3) == expected) == 0
    finally:
        stop.set()
        busy.join()


FLOAT_STATE = {
    "x86_64": (
        "declare void @llvm.x86.sse.ldmxcsr(ptr)\ndeclare void @llvm.x86.sse.stmxcsr(ptr)\n"
        "define void @set(ptr %p) {\n call void @llvm.x86.sse.ldmxcsr(ptr %p)\n ret void\n}\n"
        "define void @get(ptr %p) {\n call void @llvm.x86.sse.stmxcsr(ptr %p)\n ret void\n}\n",
        0x8040,  # flush to zero, denormals are zero
    ),
    "aarch64": (
        "declare i64 @llvm.aarch64.get.fpcr()\ndeclare void @llvm.aarch64.set.fpcr(i64)\n"
        "define void @set(ptr %p) {\n %v = load i64, ptr %p\n"
        " call void @llvm.aarch64.set.fpcr(i64 %v)\n ret void\n}\n"
        "define void @get(ptr %p) {\n %v = call i64 @llvm.aarch64.get.fpcr()\n"
        " store i64 %v, ptr %p\n ret void\n}\n",
        1 << 24,
    ),
}


@pytest.mark.parametrize("threads", [1, 3])
def test_a_caller_that_flushes_denormals(threads: int) -> None:
    if host().arch not in FLOAT_STATE:
        pytest.skip("how this machine flushes denormals is not known")
    text, flush = FLOAT_STATE[host().arch]
    code = Loaded(compile_text(text, host()))
    set_, get = (
        ctypes.CFUNCTYPE(None, ctypes.c_void_p)(code.address(name)) for name in ("set", "get")
    )
    size = 40
    made = Program(
        "tiny", ("n",), (Buffer("x", F32, (n,), "state"),), (),
        (Kernel("halve", (Param("x", F32, (n,), "rw"),), ("n",), ("g",),
                (Store("x", (g,), op("mul", load("x", g), const(0.5))),)),),
        (Entry("go", ("n",), (Launch("halve", ("x",), (n,)),)),),
    )  # fmt: skip
    loaded = BACKEND.load(BACKEND.compile(made, {"grain": "0"}), "tiny")
    x = np.full(size, 0x00123456, "u4").view("f4")  # a denormal, as is its half
    expected = x.view("u4") >> 1
    old, new = np.zeros(1, "i8"), np.zeros(1, "i8")
    word = ticket(threads)
    get(old.ctypes.data)
    wanted = old | flush
    set_(wanted.ctypes.data)
    try:
        call(loaded, made, "go", {"n": size}, {"x": x}, word)
        get(new.ctypes.data)
    finally:
        set_(old.ctypes.data)
    assert (new & flush == flush).all()
    assert (x.view("u4") == expected).all()


def script(text: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own, where this file is the module ``t``."""
    return subprocess.run(
        [sys.executable, "-c", text],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
        check=False,
    )


PRELUDE = """
import importlib.util, os, sys, time
sys.path.insert(0, os.getcwd())
spec = importlib.util.spec_from_file_location("team_tests", "tests/bits/test_team.py")
t = importlib.util.module_from_spec(spec)
sys.modules["team_tests"] = t
spec.loader.exec_module(t)
def threads():
    return len(os.listdir("/proc/self/task"))
"""
linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


@linux_only
def test_the_team_grows_and_blocks_signals() -> None:
    result = script(
        PRELUDE
        + """
one = t.bits(3000, 1)
before = threads()
assert t.bits(3000, 2) == one and threads() == before + 1
assert t.bits(3000, 5) == one and threads() == before + 4
assert t.bits(3000, 3) == one and threads() == before + 4
assert t.bits(10, 5, seed=3) == t.bits(10, 1, seed=3)
def blocked():
    count = 0
    for task in os.listdir("/proc/self/task"):
        status = open(f"/proc/self/task/{task}/status").read()
        mask = int(status.split("SigBlk:")[1].split()[0], 16)
        count += bool(mask & 1 << 1) and bool(mask & 1 << 14) and not mask & 1 << 10
    return count
deadline = time.monotonic() + 20  # jobs do not wait for threads to have begun
while blocked() != 4 and time.monotonic() < deadline:
    time.sleep(0.01)
assert blocked() == 4, blocked()
"""
    )
    assert result.returncode == 0, result.stderr


@linux_only
def test_no_thread_is_made_for_small_work_or_one_thread() -> None:
    result = script(
        PRELUDE
        + """
t.ticket(4)
before = threads()
t.bits(64, 4)
t.bits(5000, 1)
small = t.BACKEND.load(t.BACKEND.compile(t.MADE), t.MADE.name)
t.call(small, t.MADE, "go", {"n": 5000, "turns": 3}, t.start(5000), t.ticket(4))
assert threads() == before
t.call(small, t.MADE, "go", {"n": 500_000, "turns": 3}, t.start(500_000), t.ticket(4))
assert threads() == before + 3
"""
    )
    assert result.returncode == 0, result.stderr


@linux_only
def test_threads_that_cannot_be_made_are_done_without() -> None:
    result = script(
        PRELUDE
        + """
import resource
one = t.bits(3000, 1)
t.ticket(5)
size = int(open("/proc/self/statm").read().split()[0]) * os.sysconf("SC_PAGESIZE")
resource.setrlimit(resource.RLIMIT_AS, (size + (12 << 20), resource.RLIM_INFINITY))
before = threads()
assert t.bits(3000, 5) == one
assert threads() - before < 4
"""
    )
    assert result.returncode == 0, result.stderr


def test_the_process_may_end_at_any_time() -> None:
    for wait in ("", "time.sleep(0.01)"):
        result = script(PRELUDE + f"t.bits(3000, 3)\n{wait}\n")
        assert (result.returncode, result.stderr) == (0, "")


def test_an_idle_team_uses_no_processor() -> None:
    bits(3000, 3)
    time.sleep(0.05)
    begin = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - begin < 0.02


def test_tickets() -> None:
    assert team(1)() == 0
    assert ticket(2) == ticket(2) != ticket(3)
    assert ticket(10**6) == ticket(MOST_THREADS)
    with pytest.raises(ValueError, match="a team of 0 threads"):
        team(0)


def test_default_threads(tmp_path: Path) -> None:
    allowed = default_threads(tmp_path)
    assert 1 <= allowed <= (os.cpu_count() or 1)
    assert cgroup_processors(tmp_path) is None

    def write(name: str, text: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    write("proc/self/cgroup", "0::/outer/inner\n")
    write("sys/fs/cgroup/outer/inner/cpu.max", "max 100000\n")
    assert cgroup_processors(tmp_path) is None
    write("sys/fs/cgroup/outer/cpu.max", "50000 100000\n")
    assert cgroup_processors(tmp_path) == 0.5
    assert default_threads(tmp_path) == 1
    write("proc/self/cgroup", "3:cpu,cpuacct:/job\n")
    write("sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "-1\n")
    assert cgroup_processors(tmp_path) is None
    write("sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "250000\n")
    write("sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "100000\n")
    assert cgroup_processors(tmp_path) == 2.5
