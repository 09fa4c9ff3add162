"""The thread team of this process: one, shared by all programs, made when first asked for.

Its memory and code are never freed, since its threads may be in them until the process ends. In
a forked child the threads are gone; the first job there notices and makes new ones.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
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
    word = ticket(min(count, abi.MOST_THREADS))
    return lambda: word


def ticket(threads: int) -> int:
    """Return the address of a ticket for ``threads``, valid as long as the process lives."""
    from nnc.backends.llvm.team_text import has_threads

    if threads == 1 or not has_threads(host()):
        return 0
    with _lock:
        return _ticket(threads)


@functools.cache
def _ticket(threads: int) -> int:
    address = _forever(abi.TICKET_BYTES)
    words = (ctypes.c_int64 * 3).from_address(address)
    words[abi.TICKET_RUN // 8] = _run_address()
    words[abi.TICKET_CORE // 8] = _core()
    words[abi.TICKET_THREADS // 8] = threads
    return address


@functools.cache
def _core() -> int:
    # All zero, process number too: the first job sets the rest up, as it does after a fork.
    return _forever(abi.CORE_BYTES)


@functools.cache
def _run_address() -> int:
    from nnc.backends.llvm.loader import Loaded
    from nnc.backends.llvm.objects import compile_text
    from nnc.backends.llvm.team_text import team_text

    loaded = Loaded(compile_text(team_text(host()), host()))
    address = loaded.address("nnc.team.run")
    loaded.keep_forever()
    return address


_kept: list[tuple[mmap.mmap, ctypes.Array[ctypes.c_char]]] = []


def _forever(size: int) -> int:
    """Return the address of zeroed memory that is aligned to a page and never freed."""
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    held = (ctypes.c_char * size).from_buffer(memory)
    _kept.append((memory, held))
    return ctypes.addressof(held)
