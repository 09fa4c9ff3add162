"""A checkpoint that is cut off anywhere leaves the old one or the new one, never a mix.

The save runs in a forked child that dies, or whose call of the system fails, at call number N of
those that change the disk, for every N; half of a write may have been done.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

from nnc.ir import files
from nnc.runtime.errors import UserError
from nnc.runtime.train.checkpoint import Checkpoint, Store, name_of

CALLS = ("write", "fsync", "replace", "rename", "mkdir", "open", "close", "unlink", "rmdir")
NAMES = (name_of(1, 0), name_of(2, 0))
FAILED, SAVED = 3, 4


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder in memory where there is one: this does not ask how fast a disk is."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


def made(number: int) -> Checkpoint:
    weights = {"w": np.full(100, number, np.float32)}
    return Checkpoint(weights, {"w:m": np.full(100, -number, np.float32)}, {}, {"n": number})


def number_of(store: Store) -> int:
    """Which checkpoint is found; all of its parts must be of one."""
    found = store.load()
    assert found is not None
    path, one, damaged = found
    number = int(one.training["n"])
    assert not damaged
    assert path.name == NAMES[number - 1]
    assert np.all(one.weights["w"] == number)
    assert np.all(one.state["w:m"] == -number)
    return number


class Injector:
    """Counts calls; at number ``at`` it does ``what`` before, within or after the call."""

    def __init__(self, at: int, what: str) -> None:
        self.at, self.what, self.count = at, what, 0

    def around(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.count += 1
            if self.count != self.at:
                return real(*args, **kwargs)
            if self.what in ("EIO", "ENOSPC"):
                if name == "write" and self.what == "ENOSPC":
                    real(args[0], args[1][: len(args[1]) // 2])
                raise OSError(getattr(errno, self.what), os.strerror(getattr(errno, self.what)))
            if self.what == "after":
                with contextlib.suppress(OSError):
                    real(*args, **kwargs)
            elif name == "write":
                real(args[0], args[1][: len(args[1]) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
            return None

        return call


def save_in_child(folder: Path, at: int, what: str) -> int:
    """Save checkpoint 2 in a forked child with a fault at call ``at``; return how it ended."""
    child = os.fork()
    if child:
        status = os.waitpid(child, 0)[1]
        return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    code = 1
    try:
        injector = Injector(at, what)
        for name in CALLS:
            setattr(os, name, injector.around(name, getattr(os, name)))
        Store(folder, keep=1).save(NAMES[1], made(2))
        code = SAVED if injector.count < at else 5
    except UserError as fault:
        code = FAILED if fault.code == "E0634" and "last good" in str(fault) else 1
    finally:
        os._exit(code)
    return code


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("what", ["before", "after", "EIO", "ENOSPC"])
def test_the_old_or_the_new_checkpoint_is_found(what: str, place: Path) -> None:
    ended: list[int] = []
    numbers: list[int] = []
    for at in range(1, 1000):
        folder = place / f"{what}{at}"
        Store(folder).save(NAMES[0], made(1))
        ended.append(save_in_child(folder, at, what))
        numbers.append(number_of(Store(folder)))
        assert ended[-1] != 1
        if ended[-1] == SAVED:
            break
        # and what was left behind is no hindrance to the next save
        Store(folder, keep=1).save(NAMES[1], made(2))
        assert number_of(Store(folder)) == 2
        assert sorted(p.name for p in (folder / "checkpoints").iterdir()) == [NAMES[1]]
    assert len(ended) > 30
    assert ended[-1] == SAVED
    assert set(numbers) == {1, 2}
    if what in ("before", "after"):
        assert numbers == sorted(numbers)


CHILD = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from tests.runtime.test_durable import NAMES, Store, UserError, made
try:
    Store(Path(sys.argv[1]), keep=1).save(NAMES[1], made(2))
except UserError:
    sys.exit(3)
"""


def traced() -> bool:
    command = ["strace", "-f", "-o", "/dev/null", "true"]
    return (
        shutil.which("strace") is not None and not subprocess.run(command, check=False).returncode
    )


@pytest.mark.slow
@pytest.mark.skipif(not traced(), reason="strace cannot trace here")
@pytest.mark.parametrize("fault", ["signal=SIGKILL", "error=EIO", "error=ENOSPC"])
@pytest.mark.parametrize("call", ["write", "fsync", "rename"])
def test_faults_of_the_system_itself(call: str, fault: str, place: Path) -> None:
    root = str(Path(__file__).parents[2])
    codes: list[int] = []
    for at in range(1, 100):
        folder = place / f"{at}"
        Store(folder).save(NAMES[0], made(1))
        inject = f"inject={call}:{fault}:when={at}"
        strace = ["strace", "-f", "-o", "/dev/null", "-e", f"trace={call}", "-e", inject]
        done = subprocess.run(
            [*strace, sys.executable, "-c", CHILD, str(folder), root],
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}, check=False, capture_output=True,
        )  # fmt: skip
        codes.append(done.returncode)
        number_of(Store(folder))
        if done.returncode == 0:
            break
    assert codes[-1] == 0
    assert len(codes) > 3


def test_rests_are_removed_when_they_are_old(tmp_path: Path) -> None:
    (tmp_path / ".new-file").write_bytes(b"half")
    (tmp_path / ".new-folder").mkdir()
    (tmp_path / "kept").write_bytes(b"whole")
    files.clear_rests(tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
    files.clear_rests(tmp_path, age=0)
    assert [p.name for p in tmp_path.iterdir()] == ["kept"]


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for number in (1, 2):
        store.save(NAMES[number - 1], made(number))
    for file in (store.place / NAMES[1]).iterdir():
        whole = file.read_bytes()
        file.write_bytes(whole[:-7])
        found = store.load()
        assert found is not None
        assert found[0].name == NAMES[0]
        assert [p.name for p in found[2]] == [NAMES[1]]
        file.write_bytes(whole)
    assert number_of(store) == 2
