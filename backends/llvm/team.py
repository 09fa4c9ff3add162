"""The thread team of this process: one, shared by all programs, made when first asked for.

Its memory and code are never freed, since its threads may be in them until the process ends. In
a forked child the threads are gone; the first job there notices and makes new ones.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
import threading
from collections.abc import Callable

from nnc.backends.llvm import abi
from nnc.backends.llvm.target import host
from nnc.backends.llvm.threads import default_threads

_lock = threading.Lock()


def team(threads: int | None = None) -> Callable[[], int]:
    """Return what gives the TEAM word of call records, for calls that use up to ``threads``.

    None means as many as this process may use. The word is 0, no team, for one thread and where
    there are no POSIX threads. Raises ValueError for fewer than one thread.
    """
    count = default_threads() if threads is None else threads
    if count < 1:
        raise ValueError(f"a team of {count} threads")
    word = ticket(count)
    return lambda: word


def ticket(threads: int, park: str | None = None) -> int:
    """Return the address of a ticket for ``threads``, valid as long as the process lives.

    ``park`` chooses how threads sleep (``futex``, ``condition``); each way is a team of its own.
    """
    from nnc.backends.llvm.team_text import has_threads

    if threads <= 1 or not has_threads(host()):
        return 0
    with _lock:
        return _ticket(min(threads, abi.MOST_THREADS), park)


@functools.cache
def _ticket(threads: int, park: str | None) -> int:
    address = _forever(abi.TICKET_BYTES)
    words = (ctypes.c_int64 * 3).from_address(address)
    words[abi.TICKET_RUN // 8] = _team_code(park)[0]
    words[abi.TICKET_CORE // 8] = _core(park)
    words[abi.TICKET_THREADS // 8] = threads
    return address


def settle() -> None:
    """Wait until no thread of a team stands in the code of a job that has ended.

    To be called before a program's code is unloaded. Does not wait for jobs that run.
    """
    for core, park in tuple(_cores.items()):
        _team_code(park)[1](core)


@functools.cache
def _core(park: str | None) -> int:
    # All zero, process number too: the first job sets the rest up, as it does after a fork.
    address = _forever(abi.CORE_BYTES)
    _cores[address] = park
    return address


@functools.cache
def _team_code(park: str | None) -> tuple[int, Callable[[int], None]]:
    """Return where ``nnc.team.run`` is, and ``nnc.team.settle``."""
    from nnc.backends.llvm.loader import Loaded
    from nnc.backends.llvm.objects import compile_text
    from nnc.backends.llvm.team_text import team_text

    loaded = Loaded(compile_text(team_text(host(), park), host()))
    run, settles = (loaded.address(f"nnc.team.{name}") for name in ("run", "settle"))
    loaded.keep_forever()
    return run, ctypes.CFUNCTYPE(None, ctypes.c_void_p)(settles)


_cores: dict[int, str | None] = {}


def _forever(size: int) -> int:
    """Return the address of zeroed memory that is aligned to a page and never freed."""
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    held = (ctypes.c_char * size).from_buffer(memory)
    # A list of them would not do: Python clears modules while threads still stand at the memory.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(held))
    return ctypes.addressof(held)


def _after_fork() -> None:
    # The lock may have been another thread's. The teams would notice by themselves, except where
    # the child is in another process namespace and has its parent's number.
    global _lock  # noqa: PLW0603 - there is one
    _lock = threading.Lock()
    for core in _cores:
        ctypes.c_int32.from_address(core + abi.CORE_PROCESS).value = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
