"""The training loop: epochs of native steps, the last partial batch exact, held-out metrics.

Between two runs of native steps everything that training depends on is known by name: the
program's state, and a ``Position`` in the data. So it can be saved there, and go on from there to
the same bits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Protocol

from nnc.runtime.arrays import Array
from nnc.runtime.data.source import Draw, Portion, Source
from nnc.runtime.executor import Executor
from nnc.runtime.train.early_stop import Best
from nnc.runtime.train.history import Epoch, History

REPORT_SECONDS = 0.1
"""How long a run of native steps lasts, roughly, between two reports of progress."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and in which portions to train."""

    batch: int
    epochs: int | None
    steps: int | None
    seed: int
    accumulate: int = 1
    patience: int | None = None

    def done(self, epoch: int, steps: int) -> bool:
        """Whether training is as long as it was to be."""
        if self.steps is not None:
            return steps >= self.steps
        return self.epochs is not None and epoch >= self.epochs


@dataclass
class Position:
    """Where training stands: whole epochs, steps in all, and what is done of this epoch."""

    epoch: int = 0
    steps: int = 0
    done: int = 0
    rows: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """Where training stands, for reports while an epoch runs."""

    epoch: int
    epochs: int | None
    step: int
    steps_in_epoch: int | None
    loss: float
    steps: int = 0
    """Steps in all."""


Report = Callable[[Progress], None]
EpochEnd = Callable[[Epoch], None]


class Observer(Protocol):
    """What is told of training, between runs of native steps. It may end training by ``stop``."""

    def until(self, training: Training) -> int | None:
        """Return after how many steps it wants to be told at the latest, None for any."""

    def on_run(self, training: Training, progress: Progress) -> None:
        """Hear that steps have been taken."""

    def on_epoch(self, training: Training, epoch: Epoch) -> None:
        """Hear that an epoch has ended and is in the history."""


class Keeper(Observer, Protocol):
    """An observer that saves training."""

    def save(self, training: Training) -> None:
        """Save training as it stands."""

    def on_end(self, training: Training) -> None:
        """Hear that training has ended; the state is still that of the last step."""


class Quiet:
    """An observer that does nothing."""

    def until(self, training: Training) -> int | None:
        """Leave the steps as they come."""
        return None

    def on_run(self, training: Training, progress: Progress) -> None:
        """Do nothing."""

    def on_epoch(self, training: Training, epoch: Epoch) -> None:
        """Do nothing."""


@dataclass
class Pace:
    """How many steps one run of native code should take, to last about REPORT_SECONDS."""

    size: int = 1

    def took(self, steps: int, seconds: float) -> None:
        """Size the next run by how long one took."""
        per_step = max(seconds / steps, 1e-7)
        self.size = max(1, min(int(REPORT_SECONDS / per_step), 4 * self.size))


@dataclass
class Training:
    """One training: the program, its data, the plan, and who is told of it."""

    executor: Executor
    train: Source
    validation: Source | None
    plan: Plan
    observers: Sequence[Observer] = ()
    saver: Keeper | None = None
    best: Best | None = None
    """The figure by which early stopping goes, if it does."""
    best_weights: dict[str, Array] = field(default_factory=dict)
    at: Position = field(default_factory=Position)
    history: History = field(default_factory=History)
    spent: float = 0.0
    """Seconds that the running epoch took before it was resumed."""
    _began: float = 0.0
    _pace: Pace = field(default_factory=Pace)

    def run(self) -> History:
        """Train and return the history. The order of rows depends on seed and epoch only."""
        try:
            if self.over() and self.at.done:
                self._end_epoch()
            while not self.over() and self.history.stopped is None:
                self._epoch()
            if self.saver is not None:
                self.saver.on_end(self)
        finally:
            self.executor.end_epoch()
        if self.best_weights:
            self.executor.put_weights(self.best_weights)
        return self.history

    def over(self) -> bool:
        """Whether there is nothing left to do."""
        return self.plan.done(self.at.epoch, self.at.steps) or self._patience_lost()

    def stop(self, why: str) -> None:
        """End training after the steps that are being taken."""
        self.history.stopped = self.history.stopped or why

    def seconds(self) -> float:
        """Return how long the running epoch has taken."""
        return self.spent + time.perf_counter() - self._began

    def _patience_lost(self) -> bool:
        if self.best is None or self.plan.patience is None:
            return False
        return self.at.epoch - self.best.epoch >= self.plan.patience

    # an epoch -----------------------------------------------------------------------------------

    def _limit(self) -> int | None:
        """Return how many steps are left of the plan."""
        return None if self.plan.steps is None else self.plan.steps - self.at.steps

    def _epoch(self) -> None:
        at, plan = self.at, self.plan
        self._began = time.perf_counter()
        draw = Draw(plan.seed, at.epoch, plan.batch, plan.accumulate, at.rows)
        limit = self._limit()
        total = -(-self.train.rows // draw.group) if self.train.rows is not None else None
        most = None if limit is None else at.done + limit
        count = min((n for n in (total, most) if n is not None), default=None)
        if not at.rows:
            self.executor.begin_epoch()
        with closing(self.train.epoch(draw)) as portions:
            for portion in portions:
                for steps, rows in self._portion(portion):
                    self._took(steps, rows, count)
                    if self.history.stopped is not None:
                        return
                if self._limit() == 0:
                    break
        self._end_epoch()

    def _took(self, steps: int, rows: int, count: int | None) -> None:
        """Count steps that were taken, and tell of them."""
        at = self.at
        at.steps, at.done, at.rows = at.steps + steps, at.done + steps, at.rows + rows
        loss = sum(self.executor.losses().values())
        progress = Progress(at.epoch + 1, self.plan.epochs, at.done, count, loss, at.steps)
        self._tell(lambda o: o.on_run(self, progress))
        if self.saver is not None:
            self.saver.on_run(self, progress)

    def _portion(self, portion: Portion) -> Iterator[tuple[int, int]]:
        """Take the steps of a portion, as far as the plan goes; yield (steps, rows) of each run."""
        group = portion.batch * self.plan.accumulate
        whole, rest = divmod(portion.rows, group)
        self.executor.draw_from(portion.split, portion.order)
        start = portion.start
        while whole and self._limit() != 0:
            run = min(whole, self._pace.size, *self._bounds())
            began = time.perf_counter()
            self.executor.steps(portion.batch, run, start, self.plan.accumulate)
            self._pace.took(run, time.perf_counter() - began)
            start, whole = start + run * group, whole - run
            yield run, run * group
        if rest and self._limit() != 0:
            self.executor.last_step(portion.batch, rest, start)
            yield 1, rest

    def _bounds(self) -> list[int]:
        """Return how many steps the plan and each observer allow at once."""
        asked = [o for o in (self.saver, *self.observers) if o is not None]
        found = (self._limit(), *(o.until(self) for o in asked))
        return [max(n, 1) for n in found if n is not None]

    def _end_epoch(self) -> None:
        """Measure held-out rows, write the epoch's line, and tell of it."""
        at, executor = self.at, self.executor
        losses = executor.losses()
        held: dict[str, float] = {}
        if self.validation is not None:
            with executor.averaged():
                held = executor.evaluate(self.validation, self.plan.batch)
        seconds = self.seconds()
        line = Epoch(at.epoch + 1, at.steps, sum(losses.values()), losses, held, seconds)
        self.history.epochs.append(line)
        at.epoch, at.done, at.rows, self.spent = at.epoch + 1, 0, 0, 0.0
        self._began = time.perf_counter()
        if self.best is not None and self.best.better(line):
            self.best_weights = executor.copy_weights()
        if self._patience_lost() and not self.plan.done(at.epoch, at.steps):
            self.stop("early_stop")
        self._tell(lambda o: o.on_epoch(self, line))
        if self.saver is not None:
            self.saver.on_epoch(self, line)

    def _tell(self, what: Callable[[Observer], None]) -> None:
        """Tell the observers; where one raises, training is saved as it stands."""
        try:
            for observer in self.observers:
                what(observer)
        except BaseException:
            if self.saver is not None:
                self.saver.save(self)
            raise

    def is_cut(self) -> bool:
        """Whether the plan ends within the epoch, which a longer plan would go on with."""
        rows = self.train.rows
        return self._limit() == 0 and (rows is None or self.at.rows < rows)
