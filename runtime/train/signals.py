"""Signals that ask training to end: it ends after the steps that are being taken, and is saved."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from nnc.runtime.train.loop import Progress, Quiet, Training

ASKED = (signal.SIGINT, signal.SIGTERM)


@dataclass
class Signals(Quiet):
    """Hears SIGINT and SIGTERM; a second one ends the process at once."""

    number: int | None = None

    @contextmanager
    def heard(self) -> Iterator[Signals]:
        """Hear signals for a while. Only a process's main thread can; in others nothing is done."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before: dict[int, Any] = {s: signal.signal(s, self._hear) for s in ASKED}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.number = number

    def on_run(self, training: Training, progress: Progress) -> None:
        """End training where a signal has asked for it."""
        if self.number is not None:
            training.stop(signal.Signals(self.number).name)
