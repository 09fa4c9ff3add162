"""Objects of a user's that hear of training and may end it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nnc.runtime.errors import UserError
from nnc.runtime.train.history import Epoch
from nnc.runtime.train.loop import EpochEnd, Progress, Quiet, Report, Training

METHODS = ("on_step", "on_epoch", "on_checkpoint")


@dataclass
class Reports(Quiet):
    """Passes progress on to two functions."""

    progress: Report | None = None
    epoch: EpochEnd | None = None

    def on_run(self, training: Training, progress: Progress) -> None:
        """Pass progress on."""
        if self.progress is not None:
            self.progress(progress)

    def on_epoch(self, training: Training, epoch: Epoch) -> None:
        """Pass an epoch on."""
        if self.epoch is not None:
            self.epoch(epoch)


class Callbacks(Quiet):
    """Calls the methods that a user's objects have; a true answer ends training.

    With an ``on_step`` among them, native code takes one step at a time.
    """

    def __init__(self, given: Sequence[object]) -> None:
        for one in given:
            if not any(callable(getattr(one, name, None)) for name in METHODS):
                raise UserError(
                    "E0667",
                    f"{type(one).__name__} is no callback",
                    (f"it has none of the methods {', '.join(METHODS)}",),
                )
        self._given = given
        self._steps = any(callable(getattr(one, "on_step", None)) for one in given)

    def until(self, training: Training) -> int | None:
        """Ask for each step, if someone wants to hear of each."""
        return 1 if self._steps else None

    def on_run(self, training: Training, progress: Progress) -> None:
        """Tell of a step."""
        self.call(training, "on_step", progress)

    def on_epoch(self, training: Training, epoch: Epoch) -> None:
        """Tell of an epoch."""
        self.call(training, "on_epoch", epoch)

    def call(self, training: Training, method: str, about: object) -> None:
        """Call a method of all that have it."""
        for one in self._given:
            function = getattr(one, method, None)
            if callable(function) and function(about):
                training.stop("callback")
