"""Reading ahead: a generator that runs in a thread of its own while its items are used."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from threading import Condition, Thread
from typing import Generic, TypeVar

T = TypeVar("T")


class _Reader(Generic[T]):
    """Runs ``items`` in a thread, at most ``depth`` of them ahead of what was taken.

    An item is begun only when there is room for it, so that no more than ``depth`` wait.
    """

    def __init__(self, items: Generator[T, None, None], depth: int) -> None:
        self._items = items
        self._depth = depth
        self._ready: deque[T] = deque()
        self._change = Condition()
        self._stopped = self._ended = False
        self._fault: BaseException | None = None
        self._thread = Thread(target=self._run, name="nnc data", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while self._room():
                item = next(self._items)
                with self._change:
                    self._ready.append(item)
                    self._change.notify_all()
                del item
        except StopIteration:
            pass
        except BaseException as fault:  # every fault is the caller's to see, at its place
            self._fault = fault
        finally:
            self._items.close()
            with self._change:
                self._ended = True
                self._change.notify_all()

    def _room(self) -> bool:
        with self._change:
            while len(self._ready) >= self._depth and not self._stopped:
                self._change.wait()
            return not self._stopped

    def take(self) -> tuple[T] | None:
        """Return the next item in a tuple, None at the end. Raises what ``items`` raised."""
        with self._change:
            while not self._ready and not self._ended:
                self._change.wait()
            if self._ready:
                item = self._ready.popleft()
                self._change.notify_all()
                return (item,)
        if self._fault is not None:
            raise self._fault
        return None

    def stop(self) -> None:
        """End the thread after the item that it is at, and wait for that."""
        with self._change:
            self._stopped = True
            self._ready.clear()
            self._change.notify_all()
        self._thread.join()


def ahead(items: Generator[T, None, None], depth: int = 1) -> Generator[T, None, None]:
    """Give what ``items`` gives, read by a thread up to ``depth`` items ahead.

    A fault of ``items`` is raised after the items before it. Closing ends the thread.
    """
    reader = _Reader(items, depth)
    try:
        while (found := reader.take()) is not None:
            yield found[0]
            del found
    finally:
        reader.stop()
