"""The training loop: epochs of native steps, the last partial batch exact, held-out metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import Any

from nnc.runtime.data.source import Draw, Portion, Source
from nnc.runtime.executor import Executor

REPORT_SECONDS = 0.1
"""How long a run of native steps lasts, roughly, between two reports of progress."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """One line of a history."""

    epoch: int
    steps: int
    loss: float
    losses: Mapping[str, float]
    metrics: Mapping[str, float]
    seconds: float


@dataclass
class History:
    """What training did, epoch by epoch. ``loss`` is the mean over the epoch's samples."""

    epochs: list[Epoch] = field(default_factory=list)

    @property
    def last(self) -> Epoch:
        """The last epoch. Raises IndexError where none was run."""
        return self.epochs[-1]

    def as_data(self) -> list[dict[str, Any]]:
        """Return the history as plain data."""
        return [asdict(epoch) for epoch in self.epochs]


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and in which portions to train."""

    batch: int
    epochs: int | None
    steps: int | None
    seed: int
    accumulate: int = 1

    def done(self, epoch: int, steps: int) -> bool:
        """Whether training is over."""
        if self.steps is not None:
            return steps >= self.steps
        return self.epochs is not None and epoch >= self.epochs


@dataclass(frozen=True, slots=True)
class Progress:
    """Where training stands, for reports while an epoch runs."""

    epoch: int
    epochs: int | None
    step: int
    steps_in_epoch: int | None
    loss: float


Report = Callable[[Progress], None]
EpochEnd = Callable[[Epoch], None]


def fit(
    executor: Executor,
    train: Source,
    validation: Source | None,
    plan: Plan,
    on_progress: Report | None = None,
    on_epoch: EpochEnd | None = None,
) -> History:
    """Train and return the history. The order of rows depends on seed and epoch only."""
    history, pace = History(), Pace()
    steps, epoch = 0, 0
    while not plan.done(epoch, steps):
        began = time.perf_counter()
        limit = None if plan.steps is None else plan.steps - steps
        taken, losses = _epoch(executor, train, plan, limit, epoch, pace, on_progress)
        steps += taken
        held = executor.evaluate(validation, plan.batch) if validation is not None else {}
        line = Epoch(
            epoch + 1, steps, sum(losses.values()), losses, held, time.perf_counter() - began
        )
        history.epochs.append(line)
        if on_epoch is not None:
            on_epoch(line)
        epoch += 1
    return history


def _epoch(
    executor: Executor,
    train: Source,
    plan: Plan,
    limit: int | None,
    epoch: int,
    pace: Pace,
    report: Report | None,
) -> tuple[int, dict[str, float]]:
    """Run one epoch, or up to ``limit`` steps of it; return steps and the mean of each loss."""
    draw = Draw(plan.seed, epoch, plan.batch, plan.accumulate)
    total = -(-train.rows // draw.group) if train.rows is not None else None
    count = min((n for n in (total, limit) if n is not None), default=None)
    executor.begin_epoch()
    done = 0
    try:
        with closing(train.epoch(draw)) as portions:
            for portion in portions:
                for steps in _portion(executor, portion, plan, limit, done, pace):
                    done += steps
                    if report is not None:
                        loss = sum(executor.losses().values())
                        report(Progress(epoch + 1, plan.epochs, done, count, loss))
                if done == limit:
                    break
        return done, executor.losses()
    finally:
        executor.end_epoch()


def _portion(
    executor: Executor, portion: Portion, plan: Plan, limit: int | None, done: int, pace: Pace
) -> Iterator[int]:
    """Take the steps of a portion, as long as ``limit`` allows; yield how many each run took."""
    group = portion.batch * plan.accumulate
    whole, rest = divmod(portion.rows, group)
    left = whole + 1 if limit is None else limit - done
    executor.draw_from(portion.split, portion.order)
    start = portion.start
    for run in pace.portions(min(whole, left)):
        executor.steps(portion.batch, run, start, plan.accumulate)
        start += run * group
        yield run
    if rest and whole < left:
        executor.last_step(portion.batch, rest, start)
        yield 1


@dataclass
class Pace:
    """How many steps one run of native code should take, to last about REPORT_SECONDS."""

    size: int = 1

    def portions(self, steps: int) -> Iterator[int]:
        """Cut ``steps`` into runs, each sized by what the ones before took."""
        while steps > 0:
            size = min(self.size, steps)
            began = time.perf_counter()
            yield size
            steps -= size
            per_step = max((time.perf_counter() - began) / size, 1e-7)
            self.size = max(1, min(int(REPORT_SECONDS / per_step), 4 * self.size))
