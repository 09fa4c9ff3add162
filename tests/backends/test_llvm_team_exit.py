"""The team's memory outlives everything that Python clears when it ends."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import ctypes, gc, importlib
team = importlib.import_module("nnc.backends.llvm.team")
core = team._forever(4096)
vars(team).clear()                              # what the end of the interpreter does to modules
gc.collect()
ctypes.c_int64.from_address(core).value = 7     # what a parked thread may still do
print(ctypes.c_int64.from_address(core).value)
"""


def test_memory_of_the_team_stays_when_modules_are_cleared() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "7\n"), done.stderr
